//! Extensions and telemetry, with extensions in shell and Python.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use invoker::{Config, EnvironmentState, Function, Invocation, LogFormat};
use serde_json::Value;

use crate::harness::{REQUEST_ID, SHELL, Server, Verdict, invocation, write_executable};

crate::tests![
    extension_is_told_of_the_invocation_and_of_the_end,
    caller_does_not_wait_for_extensions_but_the_report_does,
    extension_that_ends_breaks_the_invocation,
    extension_that_ends_during_init_fails_the_init,
    extension_that_reports_an_init_error_is_named,
    extension_that_never_registers_runs_into_the_init_limit,
    file_that_cannot_be_executed_is_a_launch_error,
    too_many_extensions_are_refused,
    timeout_reaches_extensions,
    end_of_an_idle_extension_ends_its_environment,
    internal_extension_has_a_shutdown_phase_of_half_a_second,
    function_without_extensions_is_killed_without_a_word,
    telemetry_reaches_an_http_listener_in_order,
    telemetry_reaches_a_tcp_listener_line_by_line,
    logs_api_has_its_own_events,
    foreign_destinations_are_refused,
    flood_of_telemetry_is_bounded_and_told,
];

/// An extension in shell. What it does after an event is `AFTER`.
const EXTENSION: &str = r#"#!/bin/sh
API="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
NAME=$(basename "$0")
curl -sS -D /tmp/head-$NAME -X POST -H "Lambda-Extension-Name: $NAME" \
  -d '{"events":["INVOKE","SHUTDOWN"]}' "$API/register" > /tmp/registered-$NAME || exit 7
ID=$(tr -d '\r' < /tmp/head-$NAME | sed -n 's/^lambda-extension-identifier: //Ip')
while true; do
  EVENT=$(curl -sS -H "Lambda-Extension-Identifier: $ID" "$API/event/next") || exit 8
  echo "$NAME: $EVENT"
  case "$EVENT" in *SHUTDOWN*) exit 0 ;; esac
  AFTER
done
"#;

/// An extension in Python that subscribes and prints what it is sent.
const SUBSCRIBER: &str = r#"#!/usr/bin/env python3
import http.server, json, os, socket, sys, threading, time, urllib.request

api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
done = threading.Event()


def call(method, path, headers, body=None):
    request = urllib.request.Request(
        api + path, method=method, headers=headers,
        data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def take(events):
    for event in events:
        if event["type"] == "extension":
            continue
        sys.stderr.write("GOT " + json.dumps(event) + "\n")
        if event["type"] == "platform.runtimeDone":
            done.set()
    sys.stderr.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def take(self):
        take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = take

    def log_message(self, *_):
        pass


def lines(listener):
    connection, _ = listener.accept()
    for line in connection.makefile():
        take([json.loads(line)])


name = os.path.basename(sys.argv[0])
_, headers, _ = call("POST", "/2020-01-01/extension/register",
                     {"Lambda-Extension-Name": name}, {"events": ["INVOKE", "SHUTDOWN"]})
me = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
if os.environ.get("PROTOCOL") == "TCP":
    listener = socket.create_server(("sandbox.localdomain", 0))
    destination = {"protocol": "TCP", "port": listener.getsockname()[1]}
    threading.Thread(target=lines, args=[listener], daemon=True).start()
else:
    listener = http.server.ThreadingHTTPServer(("sandbox", 0), Handler)
    destination = {"protocol": "HTTP",
                   "URI": f"http://sandbox.localdomain:{listener.server_port}/t"}
    threading.Thread(target=listener.serve_forever, daemon=True).start()
for uri in os.environ.get("FOREIGN", "").split():
    status, _, body = call("PUT", "/2022-07-01/telemetry", me, {
        "schemaVersion": "2022-12-13", "types": ["platform"],
        "destination": {"protocol": "HTTP", "URI": uri}})
    print("FOREIGN", uri, status, body)
path, version = os.environ.get("API", "/2022-07-01/telemetry 2022-12-13").split()
status, _, body = call("PUT", path, me, {
    "schemaVersion": version, "types": os.environ.get("TYPES", "platform,function").split(","),
    "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
    "destination": destination})
print("SUBSCRIBED", status, body)
sys.stdout.flush()
while True:
    _, _, body = call("GET", "/2020-01-01/extension/event/next", me)
    event = json.loads(body)
    if event["eventType"] == "SHUTDOWN":
        break
    done.wait(5)
    done.clear()
    time.sleep(float(os.environ.get("TAKES", 0)))
"#;

/// Gives a function a layer with these extensions.
fn extend(
    server: &Server,
    function: &mut Function,
    extensions: &[(&str, &str)],
) -> anyhow::Result<PathBuf> {
    let layer = server.dir().join(format!("layer-{}", function.name));
    let directory = layer.join("extensions");
    std::fs::create_dir_all(&directory)?;
    for (name, script) in extensions {
        write_executable(&directory.join(name), script)?;
    }
    function.layer_dirs.push(layer);
    Ok(directory)
}

fn shell(server: &Server, name: &str, after: &str) -> anyhow::Result<Function> {
    let mut function = server.custom(name, SHELL)?;
    extend(
        server,
        &mut function,
        &[("companion", &EXTENSION.replace("AFTER", after))],
    )?;
    Ok(function)
}

/// Waits until a line of the log contains this.
async fn logged(server: &Server, text: &str) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let log = server.log();
        if log.iter().any(|line| line.contains(text)) {
            return Ok(log);
        }
        anyhow::ensure!(Instant::now() < deadline, "no {text:?} in {log:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn without_tail(payload: &str) -> Invocation {
    Invocation {
        want_tail: false,
        ..invocation(payload)
    }
}

async fn extension_is_told_of_the_invocation_and_of_the_end() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(shell(&server, "told", ":")?);
    let answer = server.call(&function, "OUT=$(id -u)").await?;
    assert!(!answer.failed, "{answer:?}");
    assert!(answer.tail.contains("REPORT RequestId"), "{}", answer.tail);
    let log = server.log();
    let ready = "EXTENSION\tName: companion\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n";
    assert!(log.iter().any(|line| line == ready), "{log:#?}");
    let told = log.iter().find_map(|line| line.strip_prefix("companion: "));
    let told: Value = serde_json::from_str(told.unwrap())?;
    assert_eq!(told["eventType"], "INVOKE");
    assert_eq!(told["requestId"], REQUEST_ID);
    assert!(told["deadlineMs"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(told["tracing"]["type"], "X-Amzn-Trace-Id");
    // It runs as the same user, and sees what the runtime's own variables are not.
    let again = server
        .call(&function, "OUT=$(cat /tmp/registered-companion)")
        .await?;
    assert_eq!(
        again.payload,
        r#"{"functionName":"told","functionVersion":"$LATEST","handler":"app.handler"}"#
    );
    assert_eq!(again.report.init_duration, None, "the same environment");
    server.settle(&[EnvironmentState::Frozen]).await?;
    server.invoker.shutdown().await;
    let log = logged(&server, "SHUTDOWN\",").await?;
    let end = log
        .iter()
        .find(|line| line.contains("\"SHUTDOWN\""))
        .unwrap();
    assert!(end.contains("\"shutdownReason\":\"SPINDOWN\""), "{end}");
    server.stop().await;
    Ok(())
}

async fn caller_does_not_wait_for_extensions_but_the_report_does() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(shell(&server, "slow", "sleep 0.6")?);
    server.call(&function, "OUT=warm").await?;
    let began = Instant::now();
    let answer = server.call_as(&function, without_tail("OUT=1")).await?;
    assert_eq!(answer.payload, "1");
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    // While the extension is at work the environment is not free.
    let other = server.call_as(&function, without_tail("OUT=2")).await?;
    assert!(other.report.init_duration.is_some(), "another environment");
    let waited = server.call(&function, "OUT=3").await?;
    assert!(
        waited.report.duration >= Duration::from_millis(600),
        "{waited:?}"
    );
    assert!(waited.report.billed >= Duration::from_millis(600));
    server.stop().await;
    Ok(())
}

async fn extension_that_ends_breaks_the_invocation() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(shell(&server, "crash", "exit 3")?);
    let answer = server.call(&function, "sleep 5; OUT=1").await?;
    assert!(answer.failed);
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Extension.Crash");
    assert_eq!(
        error["errorMessage"],
        format!("RequestId: {REQUEST_ID} Error: exit status 3")
    );
    assert!(
        answer
            .tail
            .contains("Status: error\tError Type: Extension.Crash"),
        "{}",
        answer.tail
    );
    let next = server.call(&function, "sleep 5").await?;
    assert!(next.failed, "a new environment, which breaks as well");
    assert!(next.report.init_duration.is_some());
    server.stop().await;
    Ok(())
}

async fn extension_that_ends_during_init_fails_the_init() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("early", SHELL)?;
    extend(
        &server,
        &mut function,
        &[("bad", "#!/bin/sh\necho leaving\nexit 0\n")],
    )?;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Extension.Crash");
    assert_eq!(
        error["errorMessage"],
        format!("RequestId: {REQUEST_ID} Error: exit code 0")
    );
    let log = server.log();
    assert!(log.contains(&"leaving\n".to_owned()), "{log:#?}");
    let report = log
        .iter()
        .find(|line| line.starts_with("INIT_REPORT"))
        .unwrap();
    assert!(
        report.contains("Status: error\tError Type: Extension.Crash"),
        "{report}"
    );
    server.stop().await;
    Ok(())
}

async fn extension_that_reports_an_init_error_is_named() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("initerror", SHELL)?;
    let script = EXTENSION.replace(
        "while true; do",
        "curl -sS -X POST -H \"Lambda-Extension-Identifier: $ID\" \
         -H 'Lambda-Extension-Function-Error-Type: Extension.NoKey' \"$API/init/error\"; exit 4\n\
         while true; do",
    );
    extend(
        &server,
        &mut function,
        &[("bad", &script.replace("AFTER", ":"))],
    )?;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Extension.InitError");
    let log = server.log();
    let line = "EXTENSION\tName: bad\tState: InitError\tEvents: [INVOKE, SHUTDOWN]\t\
                Error Type: Extension.NoKey\n";
    assert!(log.iter().any(|logged| logged == line), "{log:#?}");
    server.stop().await;
    Ok(())
}

async fn extension_that_never_registers_runs_into_the_init_limit() -> Verdict {
    let server = Server::with(Config {
        init_timeout_ms: 400,
        ..Config::default()
    })
    .await?;
    let mut function = server.custom("silent", SHELL)?;
    function.timeout = Duration::from_secs(1);
    extend(
        &server,
        &mut function,
        &[("silent", "#!/bin/sh\nsleep 60\n")],
    )?;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    let log = server.log();
    let silent = "EXTENSION\tName: silent\tState: Started\tEvents: []\n";
    assert!(log.iter().any(|line| line == silent), "{log:#?}");
    assert!(
        log.iter()
            .any(|line| line.contains("INIT_REPORT") && line.contains("timeout"))
    );
    server.stop().await;
    Ok(())
}

async fn file_that_cannot_be_executed_is_a_launch_error() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("launch", SHELL)?;
    let directory = extend(&server, &mut function, &[])?;
    std::fs::write(directory.join("README.md"), "no program")?;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Extension.LaunchError");
    let log = server.log();
    let line = "EXTENSION\tName: README.md\tState: LaunchError\tEvents: []\t\
                Error Type: PermissionDenied\n";
    assert!(log.iter().any(|logged| logged == line), "{log:#?}");
    server.stop().await;
    Ok(())
}

async fn too_many_extensions_are_refused() -> Verdict {
    let server = Server::start().await?;
    let mut function = server.custom("many", SHELL)?;
    let names: Vec<String> = (0..11).map(|number| format!("e{number:02}")).collect();
    let script = EXTENSION.replace("AFTER", ":");
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), script.as_str()))
        .collect();
    extend(&server, &mut function, &files)?;
    let answer = server.call(&Arc::new(function), "OUT=1").await?;
    let error: Value = serde_json::from_str(&answer.payload)?;
    assert_eq!(error["errorType"], "Extension.LaunchError");
    let log = server.log();
    let line =
        "EXTENSION\tName: e10\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions\n";
    assert!(log.iter().any(|logged| logged == line), "{log:#?}");
    server.stop().await;
    Ok(())
}

async fn timeout_reaches_extensions() -> Verdict {
    let server = Server::start().await?;
    let mut function = shell(&server, "overtime", "sleep 60")?;
    function.timeout = Duration::from_secs(1);
    let function = Arc::new(function);
    let answer = server.call_as(&function, without_tail("OUT=1")).await?;
    assert_eq!(answer.payload, "1", "the runtime was in time");
    let log = logged(&server, "REPORT RequestId").await?;
    assert!(
        log.iter()
            .any(|line| line.contains("Task timed out after 1.00 seconds")),
        "{log:#?}"
    );
    let report = log.iter().find(|line| line.starts_with("REPORT")).unwrap();
    assert!(report.contains("Status: timeout"), "{report}");
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn end_of_an_idle_extension_ends_its_environment() -> Verdict {
    let server = Server::with(Config {
        freeze_grace_ms: 60_000,
        ..Config::default()
    })
    .await?;
    let function = Arc::new(shell(&server, "idle", "(sleep 0.3; kill -9 $$) &")?);
    let answer = server.call(&function, "OUT=1").await?;
    assert!(!answer.failed, "{answer:?}");
    server.settle(&[]).await?;
    server.stop().await;
    Ok(())
}

async fn internal_extension_has_a_shutdown_phase_of_half_a_second() -> Verdict {
    let server = Server::start().await?;
    let inside = r#"
EXT="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
curl -sS -D /tmp/inside -o /tmp/registered -X POST -H "Lambda-Extension-Name: inside" \
  -d '{"events":["INVOKE"]}' "$EXT/register"
INSIDE=$(tr -d '\r' < /tmp/inside | sed -n 's/^lambda-extension-identifier: //Ip')
(while curl -sS -o /tmp/event -H "Lambda-Extension-Identifier: $INSIDE" "$EXT/event/next"; do
   echo "inside $(cat /tmp/event)"; done) &
trap 'echo asked to end; exit 0' TERM
while true; do"#;
    let script = SHELL.replacen("\nwhile true; do", inside, 1).replace(
        "EVENT=$(curl -sS -D /tmp/head \"$API/invocation/next\") || exit 9",
        // So that the signal is not held up by a foreground process.
        "curl -sS -D /tmp/head -o /tmp/body \"$API/invocation/next\" & wait $! || exit 9; EVENT=$(cat /tmp/body)",
    );
    let function = Arc::new(server.custom("internal", &script)?);
    let answer = server.call(&function, "OUT=$(cat /tmp/registered)").await?;
    assert!(
        answer.payload.contains("\"functionName\":\"internal\""),
        "{answer:?}"
    );
    let log = logged(&server, "inside {\"eventType\":\"INVOKE\"").await?;
    let ready = "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]\n";
    assert!(log.iter().any(|line| line == ready), "{log:#?}");
    server.settle(&[EnvironmentState::Frozen]).await?;
    server.invoker.shutdown().await;
    logged(&server, "asked to end").await?;
    server.stop().await;
    Ok(())
}

async fn function_without_extensions_is_killed_without_a_word() -> Verdict {
    let server = Server::start().await?;
    let script = SHELL.replacen(
        "\nwhile true",
        "\ntrap 'echo asked to end' TERM\nwhile true",
        1,
    );
    let function = Arc::new(server.custom("plain", &script)?);
    server.call(&function, "OUT=1").await?;
    let began = Instant::now();
    server.invoker.shutdown().await;
    assert!(
        began.elapsed() < Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.contains("asked to end"))
    );
    server.stop().await;
    Ok(())
}

fn subscriber(server: &Server, name: &str, env: &[(&str, &str)]) -> anyhow::Result<Function> {
    let mut function = server.custom(name, SHELL)?;
    function.memory_mb = 256;
    for (key, value) in env {
        function.environment.insert((*key).into(), (*value).into());
    }
    extend(server, &mut function, &[("subscriber", SUBSCRIBER)])?;
    Ok(function)
}

/// What the extension was sent so far.
fn received(log: &[String]) -> Vec<Value> {
    let sent = log.iter().filter_map(|line| line.strip_prefix("GOT "));
    sent.map(|event| serde_json::from_str(event).unwrap())
        .collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

async fn telemetry_reaches_an_http_listener_in_order() -> Verdict {
    let server = Server::start().await?;
    let function = Arc::new(subscriber(&server, "http", &[("TAKES", "0.03")])?);
    let began = Instant::now();
    let answer = server.call(&function, "echo hello; OUT=1").await?;
    assert!(!answer.failed, "{answer:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it waited for runtimeDone in vain"
    );
    // As on AWS, what comes after the freeze is delivered after the thaw.
    server.call(&function, "OUT=2").await?;
    let log = logged(&server, "\"platform.report\"").await?;
    assert!(
        log.iter().any(|line| line == "SUBSCRIBED 200 \"OK\"\n"),
        "{log:#?}"
    );
    assert!(log.iter().any(|line| line
        == "TELEMETRY\tName: subscriber\tState: Subscribed\tTypes: [Platform, Function]\n"));
    // The runtime starts as soon as the extension has registered, so this one has no fixed place.
    let (subscriptions, events): (Vec<_>, Vec<_>) = received(&log)
        .into_iter()
        .partition(|event| event["type"] == "platform.telemetrySubscription");
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(
        kinds(&events)[..9],
        [
            "platform.initStart",
            "function",
            "platform.initRuntimeDone",
            "platform.extension",
            "platform.initReport",
            "platform.start",
            "function",
            "platform.runtimeDone",
            "platform.report",
        ]
    );
    assert_eq!(events[0]["record"]["functionName"], "http");
    assert_eq!(events[1]["record"], "init done\n");
    assert_eq!(events[3]["record"]["name"], "subscriber");
    assert_eq!(events[6]["record"], "hello\n");
    let done = &events[7]["record"];
    assert_eq!(done["status"], "success");
    assert_eq!(done["requestId"], REQUEST_ID);
    assert_eq!(done["metrics"]["producedBytes"], 1);
    let spans: Vec<_> = done["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["name"])
        .collect();
    assert_eq!(
        spans,
        ["responseLatency", "responseDuration", "runtimeOverhead"]
    );
    let report = &events[8]["record"];
    assert_eq!(report["spans"][0]["name"], "extensionOverhead");
    assert!(
        report["spans"][0]["durationMs"].as_f64().unwrap() > 30.0,
        "the extension takes so long after it has heard that the runtime is done"
    );
    assert!(report["metrics"]["durationMs"].as_f64() >= done["metrics"]["durationMs"].as_f64());
    server.stop().await;
    Ok(())
}

async fn telemetry_reaches_a_tcp_listener_line_by_line() -> Verdict {
    let server = Server::start().await?;
    let mut function = subscriber(
        &server,
        "tcp",
        &[("PROTOCOL", "TCP"), ("TYPES", "function")],
    )?;
    function.log_format = LogFormat::Json;
    let function = Arc::new(function);
    let payload = r#"echo '{"level":"ERROR","n":1}'; echo '{"level":"DEBUG","n":2}'; OUT=1"#;
    server.call(&function, payload).await?;
    let log = logged(&server, "GOT {\"time\"").await?;
    let events = received(&logged(&server, "\"n\": 2").await?);
    assert_eq!(events[1]["record"]["n"], 1, "JSON as an object: {events:?}");
    // The level filters what goes into the log, not telemetry.
    assert!(
        log.iter()
            .any(|line| line.starts_with("{\"level\":\"ERROR\"")),
        "{log:#?}"
    );
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.starts_with("{\"level\":\"DEBUG\""))
    );
    server.stop().await;
    Ok(())
}

async fn logs_api_has_its_own_events() -> Verdict {
    let server = Server::start().await?;
    let env = [
        ("API", "/2020-08-15/logs 2021-03-18"),
        ("TYPES", "platform"),
    ];
    let function = Arc::new(subscriber(&server, "logs", &env)?);
    server.call(&function, "OUT=1").await?;
    server.call(&function, "OUT=2").await?;
    let log = logged(&server, "\"platform.report\"").await?;
    let events = received(&log);
    let (subscriptions, kinds): (Vec<_>, Vec<_>) = kinds(&events)
        .into_iter()
        .partition(|kind| *kind == "platform.logsSubscription");
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(
        kinds[..5],
        [
            "platform.extension",
            "platform.start",
            "platform.runtimeDone",
            "platform.end",
            "platform.report",
        ]
    );
    assert!(
        log.iter()
            .any(|line| line.starts_with("LOGS\tName: subscriber\t"))
    );
    server.stop().await;
    Ok(())
}

async fn foreign_destinations_are_refused() -> Verdict {
    let server = Server::start().await?;
    let foreign = "http://169.254.169.254:80/ http://127.0.0.1:8080/ http://10.0.0.1:80/ \
                   http://sandbox:9001/2018-06-01/runtime/init/error";
    let function = Arc::new(subscriber(&server, "foreign", &[("FOREIGN", foreign)])?);
    let answer = server.call(&function, "OUT=1").await?;
    assert!(!answer.failed);
    let log = server.log();
    let refused: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("FOREIGN"))
        .collect();
    assert_eq!(refused.len(), 4, "{log:#?}");
    assert!(
        refused
            .iter()
            .all(|line| line.contains(" 400 ") && line.contains("ValidationError"))
    );
    server.stop().await;
    Ok(())
}

async fn flood_of_telemetry_is_bounded_and_told() -> Verdict {
    let server = Server::start().await?;
    // A listener that never answers, and one that reads.
    let script = SUBSCRIBER
        .replace("def take(self):", "def take(self):\n        if not hasattr(http, 'held'):\n            http.held = True; import time; time.sleep(1.5)")
        .replace("if event[\"type\"] == \"extension\":", "if event[\"type\"] in (\"extension\", \"function\"):");
    let mut function = subscriber(&server, "flood", &[])?;
    extend(&server, &mut function, &[("subscriber", &script)])?;
    function.layer_dirs.truncate(1);
    let flood = "i=0; while [ $i -lt 40 ]; do head -c 40000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; OUT=1";
    let answer = server
        .call_as(&Arc::new(function), without_tail(flood))
        .await?;
    assert_eq!(answer.payload, "1");
    let log = logged(&server, "platform.logsDropped").await?;
    let events = received(&log);
    let dropped = events
        .iter()
        .find(|event| event["type"] == "platform.logsDropped")
        .unwrap();
    assert!(
        dropped["record"]["droppedRecords"].as_u64().unwrap() > 0,
        "{dropped}"
    );
    assert!(
        dropped["record"]["droppedBytes"].as_u64().unwrap() > 40_000,
        "{dropped}"
    );
    server.stop().await;
    Ok(())
}
