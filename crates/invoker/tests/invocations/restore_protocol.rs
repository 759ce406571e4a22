//! The init phase of a snapshot and the restore phase, as a runtime sees them.

use std::sync::Arc;
use std::time::Duration;

use invoker::{
    Config, Function, InvokeError, SnapStart, SnapStartMode, SnapshotError, SnapshotOutcome,
};
use serde_json::Value;

use crate::harness::{Server, Verdict, masked, write_executable};

crate::tests![
    runtime_is_cut_in_restore_next_and_goes_on_there,
    runtime_without_restore_next_is_cut_in_the_next_after_priming,
    parked_runtime_of_either_kind_is_woken,
    failed_hook_before_the_snapshot_fails_its_init,
    failed_hook_after_the_restore_fails_the_invocation,
    slow_hook_after_the_restore_times_out,
    credentials_are_asked_for_anew_in_every_environment,
    idle_and_closed_connections_come_back_too,
];

/// A runtime in Python on bare sockets. `MODE` says what it does; it answers with what it has seen.
const RUNTIME: &str = r#"#!/usr/bin/python3
import json, os, socket, sys, time, uuid

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
BASE = "/2018-06-01/runtime"
MODE = os.environ.get("MODE", "restore")

class Connection:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)))
        self.file = self.socket.makefile("rb")
    def call(self, method, path, body=b"", **headers):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
        for name, value in headers.items():
            head += f"{name.replace('_', '-')}: {value}\r\n"
        if method != "GET":
            head += f"Content-Length: {len(body)}\r\n"
        self.socket.sendall(head.encode() + b"\r\n" + body)
        status = int(self.file.readline().split()[1])
        head = {}
        while line := self.file.readline().decode().strip():
            name, value = line.split(": ", 1)
            head[name.lower()] = value
        return status, head, self.file.read(int(head.get("content-length", 0)))

def fail(path, kind, code):
    api.call("POST", BASE + path, json.dumps({"errorType": kind, "errorMessage": "no"}).encode(),
             Lambda_Runtime_Function_Error_Type=kind)
    sys.exit(code)

def credentials():
    token = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    path = "/" + os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"].split("/", 3)[3]
    return json.loads(api.call("GET", path, Authorization=token)[2])["AccessKeyId"]

def answer(head, body):
    event = json.loads(body)
    if event == "credentials":
        result = credentials()
    elif event == "idle":
        # The connection that was idle at the snapshot, and a new one.
        result = [idle.call("GET", "/nothing")[0], Connection().call("GET", "/nothing")[0]]
    else:
        seen.append(event)
        result = {"seen": seen, "restored": restored, "born": BORN, "environment": dict(os.environ)}
    path = f"{BASE}/invocation/{head['lambda-runtime-aws-request-id']}/response"
    assert api.call("POST", path, json.dumps(result).encode())[0] == 202

BORN = uuid.uuid4().hex
seen, restored = [], 0
api = Connection()
idle = Connection()
assert idle.call("GET", "/nothing")[0] == 404
if MODE != "next":
    assert api.call("GET", BASE + "/firn/warm")[0] == 200
    assert api.call("POST", BASE + "/firn/warm", b"{}")[0] == 202
    while True:
        status, head, body = api.call("GET", BASE + "/firn/priming/next")
        if status != 200:
            assert status == 204, status
            break
        answer(head, body)
    if MODE == "before-fails":
        fail("/init/error", "Runtime.BeforeSnapshotError", 64)
    assert api.call("GET", BASE + "/restore/next")[0] == 200
    restored += 1
    print("after restore", flush=True)
    if MODE == "after-fails":
        fail("/restore/error", "Runtime.AfterRestoreError", 65)
    if MODE == "after-slow":
        time.sleep(30)
while True:
    _, head, body = api.call("GET", BASE + "/invocation/next")
    answer(head, body)
"#;

fn config(parked: usize) -> Config {
    Config {
        snapstart: SnapStart {
            mode: SnapStartMode::Aws,
            parked_per_function: parked,
            restore_timeout_ms: 3_000,
            ..SnapStart::default()
        },
        ..Config::default()
    }
}

/// A published version with snapshots.
fn version(server: &Server, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<Function> {
    let mut function = server.function(name, "provided.al2023")?;
    write_executable(&function.code_dir.join("bootstrap"), RUNTIME)?;
    function.version = "1".into();
    function.snap_start = true;
    function.environment = variables
        .iter()
        .map(|&(name, value)| (name.into(), value.into()))
        .collect();
    Ok(function)
}

async fn snapshot(server: &Server, function: &Arc<Function>) -> Verdict {
    match server.invoker.snapshot(Arc::clone(function)).await? {
        SnapshotOutcome::Ready { .. } => Ok(()),
        SnapshotOutcome::Unfit { reason } => anyhow::bail!("unfit: {reason}"),
    }
}

async fn runtime_is_cut_in_restore_next_and_goes_on_there() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let variables = [("FIRN_SNAPSTART_PRIMING", r#"[{"n": 1}, {"n": 2}]"#)];
    let function = Arc::new(version(&server, "restore", &variables)?);
    snapshot(&server, &function).await?;
    let of_snapshot = server.streams();
    assert_eq!(of_snapshot.len(), 1, "{:?}", server.log());
    let log: Vec<String> = server.log().iter().map(|line| masked(line)).collect();
    assert!(
        log[0].starts_with("INIT_START Runtime Version: provided:al2023\tRuntime Version ARN: "),
        "{log:?}"
    );
    assert_eq!(log[1..], ["INIT_REPORT Init Duration: # ms\tPhase: init\n"]);

    let answer = server.call(&function, "3").await?;
    let seen: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(seen["seen"], serde_json::json!([{"n": 1}, {"n": 2}, 3]));
    assert_eq!(seen["restored"], 1);
    let environment = &seen["environment"];
    assert_eq!(environment["AWS_LAMBDA_INITIALIZATION_TYPE"], "snap-start");
    for absent in ["AWS_ACCESS_KEY_ID", "AWS_LAMBDA_LOG_STREAM_NAME"] {
        assert_eq!(environment.get(absent), None, "{absent}");
    }
    assert!(answer.report.restore_duration.is_some());
    assert!(answer.report.billed_restore_duration.is_some());
    assert_eq!(answer.report.init_duration, None);
    let report = answer.tail.lines().last().unwrap_or_default();
    assert!(
        masked(report).ends_with(
            "Max Memory Used: # MB\tRestore Duration: # ms\tBilled Restore Duration: # ms\t"
        ),
        "{report:?}"
    );
    let streams = server.streams();
    assert_eq!(streams.len(), 2, "a stream of its own: {streams:?}");
    let restored = streams
        .iter()
        .find(|stream| !of_snapshot.contains(stream))
        .map(|stream| server.stream(stream))
        .unwrap_or_default();
    assert!(restored[0].starts_with("RESTORE_START Runtime Version: provided:al2023\t"));
    assert_eq!(restored[1], "after restore\n", "{restored:?}");
    assert_eq!(
        masked(&restored[2]),
        "RESTORE_REPORT Restore Duration: # ms\n"
    );
    assert!(restored[3].starts_with("START RequestId: "), "{restored:?}");

    let warm = server.call(&function, "4").await?;
    assert_eq!(warm.report.restore_duration, None);
    assert!(!warm.tail.contains("Restore Duration"), "{}", warm.tail);
    server.stop().await;
    Ok(())
}

async fn runtime_without_restore_next_is_cut_in_the_next_after_priming() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let variables = [("MODE", "next"), ("FIRN_SNAPSTART_PRIMING", "[1, 2]")];
    let function = Arc::new(version(&server, "next", &variables)?);
    snapshot(&server, &function).await?;
    let answer = server.call(&function, "3").await?;
    let seen: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(seen["seen"], serde_json::json!([1, 2, 3]));
    assert_eq!(seen["restored"], 0);
    assert_eq!(
        answer.report.billed_restore_duration,
        Some(Duration::ZERO),
        "no hooks"
    );
    server.stop().await;
    Ok(())
}

async fn parked_runtime_of_either_kind_is_woken() -> Verdict {
    let server = Server::with_images(config(1)).await?;
    for mode in ["restore", "next"] {
        let function = Arc::new(version(&server, mode, &[("MODE", mode)])?);
        snapshot(&server, &function).await?;
        let mut born = Vec::new();
        let mut parked = 0;
        for _ in 0..4 {
            let answer = server.call(&function, "1").await?;
            let seen: Value = serde_json::from_str(&answer.payload)?;
            assert_eq!(seen["seen"], serde_json::json!([1]), "a new environment");
            let hooks = if mode == "restore" { 1 } else { 0 };
            assert_eq!(seen["restored"], hooks);
            born.push(seen["born"].to_string());
            while server.invoker.end_idle_environments("") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Until the next one is parked.
            for _ in 0..500 {
                let statuses = server.invoker.snapshots();
                if statuses.iter().any(|status| status.parked > 0) {
                    parked += 1;
                    // Its hooks have run, and what they printed is in its log before any event.
                    let streams = server.streams();
                    let waits = streams.iter().any(|stream| {
                        let log = server.stream(stream);
                        log.iter().any(|line| line == "after restore\n")
                            && !log.iter().any(|line| line.starts_with("START "))
                    });
                    assert!(waits || mode == "next", "{:?}", server.log());
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        born.dedup();
        assert_eq!(born.len(), 1, "one init");
        assert!(parked > 0, "{:?}", server.invoker.snapshots());
        server.invoker.forget_snapshot(&function);
    }
    server.stop().await;
    Ok(())
}

async fn failed_hook_before_the_snapshot_fails_its_init() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let function = Arc::new(version(&server, "before", &[("MODE", "before-fails")])?);
    let made = server.invoker.snapshot(Arc::clone(&function)).await;
    let Err(SnapshotError::Init(failure)) = made else {
        anyhow::bail!("{made:?}")
    };
    assert_eq!(failure.error_type, "Runtime.BeforeSnapshotError");
    let log = server.log();
    let report = log.last().map(|line| masked(line)).unwrap_or_default();
    assert_eq!(
        report,
        "INIT_REPORT Init Duration: # ms\tPhase: init\tStatus: error\t\
         Error Type: Runtime.BeforeSnapshotError\n"
    );
    server.stop().await;
    Ok(())
}

async fn failed_hook_after_the_restore_fails_the_invocation() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let function = Arc::new(version(&server, "after", &[("MODE", "after-fails")])?);
    snapshot(&server, &function).await?;
    let Err(err) = server.call(&function, "1").await else {
        anyhow::bail!("it was answered")
    };
    assert!(
        matches!(
            err.downcast_ref(),
            Some(InvokeError::SnapStart { error_type, .. })
                if error_type == "Runtime.AfterRestoreError"
        ),
        "{err:?}"
    );
    let reported = "RESTORE_REPORT Restore Duration: # ms\tStatus: error\t\
                    Error Type: Runtime.AfterRestoreError\n";
    wait_for_line(&server, reported).await?;
    server.stop().await;
    Ok(())
}

async fn slow_hook_after_the_restore_times_out() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let function = Arc::new(version(&server, "slow", &[("MODE", "after-slow")])?);
    snapshot(&server, &function).await?;
    let Err(err) = server.call(&function, "1").await else {
        anyhow::bail!("it was answered")
    };
    assert!(
        matches!(err.downcast_ref(), Some(InvokeError::SnapStartTimeout)),
        "{err:?}"
    );
    let reported = "RESTORE_REPORT Restore Duration: # ms\tStatus: timeout\n";
    wait_for_line(&server, reported).await?;
    server.stop().await;
    Ok(())
}

/// Of an environment that ends, the last lines come a little later than its failure.
async fn wait_for_line(server: &Server, wanted: &str) -> Verdict {
    for _ in 0..500 {
        if server.log().iter().any(|line| masked(line) == wanted) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("{wanted:?} is not in {:?}", server.log())
}

async fn credentials_are_asked_for_anew_in_every_environment() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    let function = Arc::new(version(&server, "credentials", &[])?);
    snapshot(&server, &function).await?;
    let mut keys = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            keys.push(server.call(&function, "\"credentials\"").await?.payload);
        }
        while server.invoker.end_idle_environments("") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(keys.iter().all(|key| key.starts_with("\"KEY")), "{keys:?}");
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
    server.stop().await;
    Ok(())
}

async fn idle_and_closed_connections_come_back_too() -> Verdict {
    let server = Server::with_images(config(0)).await?;
    for mode in ["restore", "next"] {
        let function = Arc::new(version(&server, mode, &[("MODE", mode)])?);
        snapshot(&server, &function).await?;
        assert_eq!(
            server.call(&function, "\"idle\"").await?.payload,
            "[404, 404]"
        );
    }
    server.stop().await;
    Ok(())
}
