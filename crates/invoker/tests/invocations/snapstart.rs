//! Snapshots: making them, restoring from them, losing them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use invoker::{
    Config, Function, InvokeError, SnapStart, SnapStartMode, SnapshotError, SnapshotOutcome,
    SnapshotState,
};

use crate::harness::{Answer, Server, Verdict, invocation};

crate::tests![
    snapshot_of_a_python_function_is_restored_many_times,
    hooks_run_around_the_snapshot_in_order,
    failing_hook_after_the_restore_fails_the_invocation,
    failed_init_is_told_to_whoever_wants_the_snapshot,
    what_cannot_be_frozen_is_named_and_works_by_cold_starts,
    parked_environment_serves_the_next_start,
    parked_environment_has_all_its_pages,
    memory_of_parked_environments_is_given_to_others,
    image_that_is_only_in_the_store_is_loaded,
    damaged_image_means_a_cold_start_and_is_made_anew,
    page_that_cannot_be_read_ends_the_environment,
    auto_mode_makes_snapshots_after_the_first_cold_start,
    changed_function_gets_another_snapshot_and_the_old_one_goes,
    same_content_under_a_new_revision_keeps_its_image,
    orphans_are_deleted_at_the_start,
    connections_of_the_init_are_reset_or_renewed,
    fifty_restores_at_once,
    restores_leave_nothing_behind,
    shutdown_ends_what_is_being_made,
];

const COUNTER: &str = r#"
import os, uuid
BORN = uuid.uuid4().hex
calls = 0
def handler(event, context):
    global calls
    calls += 1
    return [BORN, calls, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
"#;

fn config(snapstart: SnapStart) -> Config {
    Config {
        snapstart,
        ..Config::default()
    }
}

/// Every function has a snapshot, and nothing is parked.
fn plain() -> Config {
    config(SnapStart {
        mode: SnapStartMode::Eager,
        parked_per_function: 0,
        ..SnapStart::default()
    })
}

/// Makes the snapshot, and fails unless there is one.
async fn snapshot(server: &Server, function: &Arc<Function>) -> anyhow::Result<String> {
    match server.invoker.snapshot(Arc::clone(function)).await {
        Ok(SnapshotOutcome::Ready { id, .. }) => Ok(id),
        Ok(SnapshotOutcome::Unfit { reason }) => anyhow::bail!("unfit: {reason}"),
        Err(err) => anyhow::bail!("{:#}\n{}", anyhow::Error::from(err), server.log().join("")),
    }
}

/// Ends what is idle, so that the next call needs a new environment.
async fn end_idle(server: &Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.invoker.end_idle_environments("") == 0 {
        anyhow::ensure!(Instant::now() < deadline, "nothing became idle");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn snapshot_of_a_python_function_is_restored_many_times() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("counter", COUNTER)?);
    snapshot(&server, &function).await?;
    let mut born = HashSet::new();
    for _ in 0..20 {
        let answer = server.call(&function, "{}").await?;
        assert!(answer.report.restore_duration.is_some(), "{answer:?}");
        let (id, calls, kind): (String, u32, String) = serde_json::from_str(&answer.payload)?;
        assert_eq!((calls, kind.as_str()), (1, "snap-start"));
        born.insert(id);
        end_idle(&server).await?;
    }
    assert_eq!(born.len(), 1, "one init");
    println!("    {}", phases(&server));
    server.stop().await;
    Ok(())
}

/// What each phase took, in one line.
fn phases(server: &Server) -> String {
    let metrics = server.invoker.phase_metrics();
    metrics
        .phases
        .iter()
        .map(|phase| format!("{} {:.2}", phase.phase, phase.p50_ms))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = seen() {
            return Ok(seen);
        }
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn count(server: &Server, name: &str) -> u64 {
    let counters = server.invoker.phase_metrics().counters;
    let same = counters.iter().filter(|counter| counter.name == name);
    same.map(|counter| counter.value).sum()
}

fn state(server: &Server) -> Vec<SnapshotState> {
    let all = server.invoker.snapshots();
    all.into_iter().map(|snapshot| snapshot.state).collect()
}

fn kind(answer: &Answer) -> anyhow::Result<String> {
    let (_, _, kind): (String, u32, String) = serde_json::from_str(&answer.payload)?;
    Ok(kind)
}

async fn stored(server: &Server) -> anyhow::Result<usize> {
    let images = server.images.as_ref().expect("a server with images");
    Ok(images.list().await?.images.len())
}

const HOOKS: &str = r#"
from snapshot_restore_py import register_before_snapshot, register_after_restore
@register_before_snapshot
def first(): print("before 1")
@register_before_snapshot
def second(): print("before 2")
@register_after_restore
def third(): print("after 1")
@register_after_restore
def fourth(): print("after 2")
def handler(event, context):
    print("handled")
"#;

async fn hooks_run_around_the_snapshot_in_order() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("hooks", HOOKS)?);
    snapshot(&server, &function).await?;
    let made = server.log();
    let words = |log: &[String]| -> Vec<String> {
        log.iter()
            .map(|line| line.split([' ', '\t']).take(1).collect::<String>())
            .map(|word| word.trim_end().to_owned())
            .collect()
    };
    assert_eq!(
        words(&made),
        ["INIT_START", "before", "before", "INIT_REPORT"]
    );
    assert_eq!(made[1..3], ["before 2\n", "before 1\n"]);
    for _ in 0..2 {
        let before = server.log().len();
        let answer = server.call(&function, "{}").await?;
        let log = server.log().split_off(before);
        assert_eq!(
            words(&log),
            [
                "RESTORE_START",
                "after",
                "after",
                "RESTORE_REPORT",
                "START",
                "handled",
                "END",
                "REPORT",
            ],
            "{log:?}"
        );
        assert!(
            answer.tail.contains("\tRestore Duration: "),
            "{}",
            answer.tail
        );
        end_idle(&server).await?;
    }
    server.stop().await;
    Ok(())
}

async fn failing_hook_after_the_restore_fails_the_invocation() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let code = r#"
from snapshot_restore_py import register_after_restore
def fail(): raise ValueError("no luck")
register_after_restore(fail)
def handler(event, context): pass
"#;
    let function = Arc::new(server.python("unlucky", code)?);
    snapshot(&server, &function).await?;
    let refused = server.invoker.invoke(function, invocation("{}")).await;
    let Err(InvokeError::SnapStart { message, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(message, "no luck");
    until("the report", || {
        let log = server.log();
        log.iter()
            .find(|line| line.starts_with("RESTORE_REPORT") && line.contains("Status: error"))
            .cloned()
    })
    .await?;
    server.stop().await;
    Ok(())
}

async fn failed_init_is_told_to_whoever_wants_the_snapshot() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("broken", "import nothing_of_the_kind")?);
    let both = tokio::join!(
        server.invoker.snapshot(Arc::clone(&function)),
        server.invoker.snapshot(Arc::clone(&function)),
    );
    for failed in [both.0, both.1] {
        let Err(SnapshotError::Init(failure)) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(failure.error_type, "Runtime.ImportModuleError");
        assert!(failure.message.contains("nothing_of_the_kind"));
    }
    let inits = server.log();
    let inits = inits.iter().filter(|line| line.starts_with("INIT_START"));
    assert_eq!(inits.count(), 1, "one init for both");
    assert_eq!(state(&server), [SnapshotState::Failed]);
    server.stop().await;
    Ok(())
}

async fn what_cannot_be_frozen_is_named_and_works_by_cold_starts() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let code = format!("import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n{COUNTER}");
    let function = Arc::new(server.python("parent", &code)?);
    let outcome = server.invoker.snapshot(Arc::clone(&function)).await?;
    let SnapshotOutcome::Unfit { reason } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("process"), "{reason}");
    let answer = server.call(&function, "{}").await?;
    assert_eq!(kind(&answer)?, "on-demand");
    assert!(answer.report.restore_duration.is_none());
    let status = &server.invoker.snapshots()[0];
    assert_eq!(status.state, SnapshotState::Unfit);
    assert_eq!(status.reason.as_ref(), Some(&reason));
    server.stop().await;
    Ok(())
}

async fn parked_environment_serves_the_next_start() -> Verdict {
    let server = Server::with_images(config(SnapStart {
        mode: SnapStartMode::Eager,
        parked_per_function: 1,
        ..SnapStart::default()
    }))
    .await?;
    let function = Arc::new(server.python("parked", COUNTER)?);
    snapshot(&server, &function).await?;
    for round in 0..10 {
        let began = Instant::now();
        let answer = server.call(&function, "{}").await?;
        let (_, calls, _): (String, u32, String) = serde_json::from_str(&answer.payload)?;
        assert_eq!(calls, 1);
        println!("    {round}: {:?}", began.elapsed());
        until("parking", || {
            let snapshots = server.invoker.snapshots();
            (snapshots[0].parked == 1).then_some(())
        })
        .await?;
        end_idle(&server).await?;
    }
    assert_eq!(count(&server, "parked_hits"), 9);
    assert_eq!(server.invoker.drop_live_images(), 1);
    server.settle(&[]).await?;
    println!("    {}", phases(&server));
    server.stop().await;
    Ok(())
}

async fn parked_environment_has_all_its_pages() -> Verdict {
    // Its first answer writes half of 64 MB. To prepare these pages, one by one, takes longer than the thaw as such.
    const BALLAST: &str = r#"
data = bytearray(b"x") * (64 << 20)
def handler(event, context):
    for i in range(0, len(data), 8192):
        data[i] = 0
    return [1]
"#;
    let server = Server::with_images(config(SnapStart {
        mode: SnapStartMode::Eager,
        parked_per_function: 1,
        ..SnapStart::default()
    }))
    .await?;
    let function = Arc::new(server.python("parked-with-ballast", BALLAST)?);
    snapshot(&server, &function).await?;
    for round in 0..4 {
        server.call(&function, "{}").await?;
        end_idle(&server).await?;
        let own_kb = until("parking", || {
            let is_parked = server.invoker.snapshots()[0].parked == 1;
            let all = private_kb("parked-with-ballast");
            // Those that have ended may still be there.
            (is_parked && all.len() == 1).then_some(all)
        })
        .await?;
        // The first answers say which pages that are.
        assert!(
            round < 2 || own_kb[0] >= 32 << 10,
            "{own_kb:?} kB are prepared"
        );
    }
    server.stop().await;
    Ok(())
}

/// Memory that the processes of a function's environments have for themselves.
fn private_kb(function: &str) -> Vec<u64> {
    let name = format!("AWS_LAMBDA_FUNCTION_NAME={function}\0");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let environment = std::fs::read(process.path().join("environ")).ok()?;
            let mut parts = environment.windows(name.len());
            if !parts.any(|part| part == name.as_bytes()) {
                return None;
            }
            let memory = std::fs::read_to_string(process.path().join("smaps_rollup")).ok()?;
            let mut lines = memory.lines();
            let dirty = lines.find_map(|line| line.strip_prefix("Private_Dirty:"))?;
            dirty.trim().strip_suffix(" kB")?.parse().ok()
        })
        .collect()
}

async fn memory_of_parked_environments_is_given_to_others() -> Verdict {
    let server = Server::with_images(Config {
        memory_budget_mb: 250,
        ..config(SnapStart {
            mode: SnapStartMode::Eager,
            parked_per_function: 2,
            ..SnapStart::default()
        })
    })
    .await?;
    let function = Arc::new(server.python("first", COUNTER)?);
    let other = Arc::new(server.python("second", COUNTER)?);
    snapshot(&server, &function).await?;
    server.call(&function, "{}").await?;
    until("parking", || {
        let snapshots = server.invoker.snapshots();
        (snapshots[0].parked == 1).then_some(())
    })
    .await?;
    end_idle(&server).await?;
    // Two of 128 MB are more than the budget: the parked one has to go.
    let both = tokio::join!(server.call(&other, "{}"), server.call(&other, "{}"));
    assert_eq!((both.0?.failed, both.1?.failed), (false, false));
    server.stop().await;
    Ok(())
}

async fn image_that_is_only_in_the_store_is_loaded() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("stored", COUNTER)?);
    let id = snapshot(&server, &function).await?;
    for _ in 0..5 {
        assert_eq!(server.invoker.drop_live_images(), 1);
        let answer = server.call(&function, "{}").await?;
        assert_eq!(
            kind(&answer)?,
            "snap-start",
            "{:?}",
            server.invoker.phase_metrics()
        );
        end_idle(&server).await?;
    }
    assert_eq!(server.invoker.snapshots()[0].id.as_ref(), Some(&id));
    println!("    {}", phases(&server));
    server.stop().await;
    Ok(())
}

/// Damages stored chunks: all, or every other.
fn damage(server: &Server, every: usize) -> anyhow::Result<()> {
    let mut files = Vec::new();
    let mut folders = vec![server.dir().join("images")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.components().any(|part| part.as_os_str() == "chunks") {
                files.push(path);
            }
        }
    }
    anyhow::ensure!(files.len() > 2, "too few chunks: {files:?}");
    files.sort();
    for path in files.iter().step_by(every) {
        let mut bytes = std::fs::read(path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

async fn damaged_image_means_a_cold_start_and_is_made_anew() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("damaged", COUNTER)?);
    snapshot(&server, &function).await?;
    server.call(&function, "{}").await?;
    end_idle(&server).await?;
    assert_eq!(server.invoker.drop_live_images(), 1);
    damage(&server, 1)?;
    let answer = server.call(&function, "{}").await?;
    assert_eq!(kind(&answer)?, "on-demand");
    until("a new snapshot", || {
        (count(&server, "snapshots_created") == 2).then_some(())
    })
    .await?;
    end_idle(&server).await?;
    let answer = server.call(&function, "{}").await?;
    assert_eq!(kind(&answer)?, "snap-start");
    server.stop().await;
    Ok(())
}

async fn page_that_cannot_be_read_ends_the_environment() -> Verdict {
    let server = Server::with_images(plain()).await?;
    // Memory that a first answer does not touch, and that a later one reads.
    let code = format!(
        "import random\ndata = random.Random(1).randbytes(32 << 20)\n{COUNTER}\n\
         inner = handler\n\
         def handler(event, context):\n    \
             return sum(data[::4096]) if event == 'all' else inner(event, context)\n"
    );
    let mut function = server.python("paged", &code)?;
    function.memory_mb = 512;
    let function = Arc::new(function);
    snapshot(&server, &function).await?;
    // What the first answer reads is kept together, apart from the rest.
    server.call(&function, "{}").await?;
    let expected = server.call(&function, "\"all\"").await?.payload;
    end_idle(&server).await?;
    for round in 0..6 {
        server.invoker.drop_live_images();
        let answer = server.call(&function, "\"all\"").await?;
        assert_eq!(answer.payload, expected, "round {round}: {answer:?}");
        end_idle(&server).await?;
    }
    server.invoker.drop_live_images();
    damage(&server, 2)?;
    let answer = server.call(&function, "\"all\"").await?;
    assert!(answer.failed, "{answer:?}");
    assert!(answer.payload.contains("lost memory"), "{answer:?}");
    // Nobody is thawed from that image again.
    let answer = server.call(&function, "\"all\"").await?;
    assert_eq!(answer.payload, expected, "{answer:?}");
    assert!(answer.report.restore_duration.is_none(), "{answer:?}");
    until("a new snapshot", || {
        (count(&server, "snapshots_created") == 2).then_some(())
    })
    .await?;
    server.stop().await;
    Ok(())
}

async fn auto_mode_makes_snapshots_after_the_first_cold_start() -> Verdict {
    let server = Server::with_images(config(SnapStart {
        mode: SnapStartMode::Auto,
        parked_per_function: 0,
        ..SnapStart::default()
    }))
    .await?;
    let function = Arc::new(server.python("auto", COUNTER)?);
    let answer = server.call(&function, "{}").await?;
    assert_eq!(kind(&answer)?, "on-demand");
    until("a snapshot", || {
        (state(&server) == [SnapshotState::Ready]).then_some(())
    })
    .await?;
    end_idle(&server).await?;
    let answer = server.call(&function, "{}").await?;
    assert_eq!(kind(&answer)?, "snap-start");
    server.stop().await;
    Ok(())
}

async fn changed_function_gets_another_snapshot_and_the_old_one_goes() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let old = Arc::new(server.python("changing", COUNTER)?);
    let first = snapshot(&server, &old).await?;
    let mut new = server.python("changing", COUNTER)?;
    new.revision_id = "r2".into();
    new.environment.insert("NEW".into(), "1".into());
    let new = Arc::new(new);
    server.invoker.retire(&old.key());
    server.invoker.forget_snapshot(&old);
    let second = snapshot(&server, &new).await?;
    assert_ne!(first, second);
    let answer = server.call(&new, "{}").await?;
    assert_eq!(kind(&answer)?, "snap-start");
    until("deletion", || {
        (count(&server, "images_dropped") == 1).then_some(())
    })
    .await?;
    assert_eq!(stored(&server).await?, 1);
    assert_eq!(server.invoker.snapshots().len(), 1);
    server.stop().await;
    Ok(())
}

async fn same_content_under_a_new_revision_keeps_its_image() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let mut old = server.python("same", COUNTER)?;
    old.code_sha256 = "same".into();
    let first = snapshot(&server, &Arc::new(old.clone())).await?;
    let new = Arc::new(Function {
        revision_id: "r2".into(),
        ..old.clone()
    });
    server.invoker.forget_snapshot(&old);
    assert_eq!(snapshot(&server, &new).await?, first);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(stored(&server).await?, 1);
    assert_eq!(count(&server, "snapshots_adopted"), 1);
    server.stop().await;
    Ok(())
}

async fn orphans_are_deleted_at_the_start() -> Verdict {
    let config = config(SnapStart {
        mode: SnapStartMode::Eager,
        orphan_age_s: 0,
        parked_per_function: 0,
        ..SnapStart::default()
    });
    let server = Server::with_images(config.clone()).await?;
    let kept = Arc::new(server.python("kept", COUNTER)?);
    let orphan = Arc::new(server.python("orphan", COUNTER)?);
    snapshot(&server, &kept).await?;
    snapshot(&server, &orphan).await?;
    assert_eq!(stored(&server).await?, 2);
    let next = server.successor(config).await?;
    next.invoker.retain_snapshots(&[Arc::clone(&kept)]);
    until("deletion", || {
        (count(&next, "images_dropped") == 1).then_some(())
    })
    .await?;
    assert_eq!(state(&next), [SnapshotState::Ready]);
    let outcome = next.invoker.snapshot(Arc::clone(&kept)).await?;
    assert!(
        matches!(outcome, SnapshotOutcome::Ready { adopted: true, .. }),
        "{outcome:?}"
    );
    let answer = next.call(&kept, "{}").await?;
    assert_eq!(kind(&answer)?, "snap-start");
    next.stop().await;
    Ok(())
}

async fn connections_of_the_init_are_reset_or_renewed() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let code = r#"
import socket, threading
listener = socket.create_server(("127.0.0.1", 7777))
ours = socket.create_connection(("127.0.0.1", 7777))
theirs, _ = listener.accept()
ours.sendall(b"x"); theirs.recv(1)
def handler(event, context):
    try:
        ours.sendall(b"y")
        answer = ours.recv(1)
        seen = "closed" if not answer else "open"
    except OSError as err:
        seen = type(err).__name__
    again = socket.create_connection(("127.0.0.1", 7777))
    return [seen, again.getpeername()[1]]
"#;
    let function = Arc::new(server.python("connected", code)?);
    snapshot(&server, &function).await?;
    let answer = server.call(&function, "{}").await?;
    assert!(answer.report.restore_duration.is_some());
    let (seen, own): (String, u16) = serde_json::from_str(&answer.payload)?;
    assert!(
        ["ConnectionResetError", "BrokenPipeError", "closed"].contains(&seen.as_str()),
        "{seen}"
    );
    assert_eq!(own, 7777, "the listener is there");
    server.stop().await;
    Ok(())
}

async fn fifty_restores_at_once() -> Verdict {
    let server = Server::with_images(Config {
        parallel_starts: 50,
        ..plain()
    })
    .await?;
    let code =
        format!("import time\n{COUNTER}").replace("calls += 1", "calls += 1\n    time.sleep(5)");
    let function = Arc::new(server.python("crowd", &code)?);
    snapshot(&server, &function).await?;
    let began = Instant::now();
    let calls = (0..50).map(|_| server.call(&function, "{}"));
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer?;
        let (_, calls, kind): (String, u32, String) = serde_json::from_str(&answer.payload)?;
        assert_eq!((calls, kind.as_str()), (1, "snap-start"));
    }
    println!("    50 at once: {:?}; {}", began.elapsed(), phases(&server));
    assert_eq!(count(&server, "restores"), 50);
    server.stop().await;
    Ok(())
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// How many files are open once their number stays what it is: prepared environments come later.
async fn open_files_at_rest() -> usize {
    let (mut files, mut since) = (open_files(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = open_files();
        if now != files {
            (files, since) = (now, Instant::now());
        }
    }
    files
}

async fn restores_leave_nothing_behind() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("leaky", COUNTER)?);
    snapshot(&server, &function).await?;
    let mut before = 0;
    let mut took = Vec::new();
    for round in 0..300 {
        if round == 10 {
            server.settle(&[]).await?;
            before = open_files_at_rest().await;
        }
        let began = Instant::now();
        let answer = server.call(&function, "{}").await?;
        took.push(began.elapsed());
        assert!(answer.report.restore_duration.is_some());
        end_idle(&server).await?;
    }
    took.sort();
    println!(
        "    p1 {:?}, p10 {:?}, p50 {:?}, p99 {:?}",
        took[3], took[30], took[150], took[297]
    );
    server.settle(&[]).await?;
    let files = open_files_at_rest().await;
    assert!(files <= before + 12, "{before} files grew to {files}");
    println!("    {before} files became {files}; {}", phases(&server));
    server.stop().await;
    Ok(())
}

async fn shutdown_ends_what_is_being_made() -> Verdict {
    let server = Server::with_images(plain()).await?;
    let function = Arc::new(server.python("slow", "import time\ntime.sleep(60)")?);
    let making = server.invoker.snapshot(Arc::clone(&function));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        server.invoker.shutdown().await;
        began.elapsed()
    };
    let (made, took) = tokio::join!(making, stop);
    assert!(matches!(made, Err(SnapshotError::ShuttingDown)), "{made:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    server.stop().await;
    Ok(())
}
