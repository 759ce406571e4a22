//! The server's end, however it comes, and the spawner's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use sandbox::{Command, Error, Exit, Relaxations, Sandboxes, Spec};

use crate::harness::{Outcome, STATE_DIR, config, enter, eventually, rootless, sh};
use crate::lifecycle::{count_processes, groups_of};
use crate::tests;

tests![
    a_killed_server_leaves_no_process_and_the_next_one_cleans_up,
    a_killed_spawner_is_replaced,
    a_shutdown_ends_everything,
    what_is_missing_must_be_accepted_explicitly,
    the_doctor_examines_the_host,
];

const ROLE: &str = "FIRN_TEST_SERVER_MARK";

/// In a child of a test: a server with two environments, one of them frozen, that never ends.
pub fn serve_if_asked() {
    let Ok(mark) = std::env::var(ROLE) else {
        return;
    };
    let run = async {
        let sandboxes = Sandboxes::start(config())?;
        let mut held = Vec::new();
        for _ in 0..2 {
            let sandbox = enter(&sandboxes, Spec::default()).await?;
            sandbox.spawn(Command::new("/bin/sleep").arg(&mark)).await?;
            held.push(sandbox);
        }
        held[0].freeze()?;
        println!("ready");
        std::future::pending::<()>().await;
        drop(held);
        anyhow::Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run));
    println!("{result:?}");
    std::process::exit(1);
}

fn server(mark: &str) -> anyhow::Result<Child> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .env(ROLE, mark)
        .env(STATE_DIR, config().state_dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(
        child
            .stdout
            .take()
            .ok_or_else(|| anyhow::anyhow!("no stdout"))?,
    )
    .read_line(&mut line)?;
    anyhow::ensure!(line == "ready\n", "the server said {line}");
    Ok(child)
}

async fn a_killed_server_leaves_no_process_and_the_next_one_cleans_up() -> Outcome {
    let mark = format!("7{}", std::process::id());
    let mut child = tokio::task::block_in_place(|| server(&mark))?;
    let spawner = children(child.id());
    assert_eq!(count_processes(&mark), 2);
    assert!(rootless() || groups_of(child.id()) > 0);
    child.kill()?;
    child.wait()?;
    eventually("no process is left", || count_processes(&mark) == 0).await?;
    eventually("no spawner is left", || {
        spawner
            .iter()
            .all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    })
    .await?;
    // The spawner removes the groups on its way out; whatever it could not is the next start's.
    let next = Sandboxes::start(config())?;
    assert_eq!(groups_of(child.id()), 0);
    next.shutdown().await;
    Ok(())
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(candidate) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(pid) {
            found.push(candidate);
        }
    }
    found
}

async fn a_killed_spawner_is_replaced() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let process = sandbox.spawn(Command::new("/bin/sleep").arg("60")).await?;
    let spawners = children(std::process::id());
    let spawner = spawners.into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "firn-spawner")
    });
    let spawner = spawner.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    let spawner = spawner.ok_or_else(|| anyhow::anyhow!("no spawner"))?;
    rustix::process::kill_process(spawner, rustix::process::Signal::KILL)?;
    assert_eq!(process.wait().await, Exit::Signal(libc::SIGKILL));
    sandbox.ended().await;
    assert!(matches!(
        sandbox.spawn(Command::new("/bin/true")).await,
        Err(Error::Ended(_))
    ));
    // The service notices on its own time; what matters is that it works again.
    let mut replaced = enter(&sandboxes, Spec::default()).await;
    for _ in 0..100 {
        if replaced.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        replaced = enter(&sandboxes, Spec::default()).await;
    }
    assert_eq!(sh(&replaced?, "echo again").await?.stdout, "again\n");
    sandboxes.shutdown().await;
    Ok(())
}

async fn a_shutdown_ends_everything() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let mark = format!("8{}", std::process::id());
    let process = sandbox.spawn(Command::new("/bin/sleep").arg(&mark)).await?;
    sandboxes.shutdown().await;
    assert_eq!(count_processes(&mark), 0);
    assert_eq!(process.wait().await, Exit::Signal(libc::SIGKILL));
    assert!(sandboxes.take().await.is_err());
    assert_eq!(groups_of(std::process::id()), 0);
    Ok(())
}

async fn what_is_missing_must_be_accepted_explicitly() -> Outcome {
    if !rootless() {
        return Ok(());
    }
    let strict = sandbox::Config {
        allow: Relaxations::default(),
        ..config()
    };
    match Sandboxes::start(strict) {
        Err(Error::Missing { flag, .. }) => assert_eq!(flag, "no_cgroup"),
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

async fn the_doctor_examines_the_host() -> Outcome {
    let checks = tokio::task::block_in_place(sandbox::doctor);
    assert!(checks.len() >= 4, "{checks:?}");
    for check in checks {
        let fine = check.status == sandbox::Status::Ok;
        assert_eq!(check.remedy.is_empty(), fine, "{check:?}");
        println!("    {:?} {}: {}", check.status, check.name, check.detail);
    }
    Ok(())
}
