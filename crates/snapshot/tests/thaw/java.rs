//! Java, under both collectors that fit small machines.

use anyhow::{Context, Result, ensure};
use snapshot::Memory;

use crate::programs::Program;

pub fn works_on() -> Result<()> {
    if !std::path::Path::new("/usr/bin/java").exists() {
        eprintln!("SKIPPED: no /usr/bin/java");
        return Ok(());
    }
    let classes = tempfile::Builder::new()
        .prefix("thaw")
        // The cage has a /tmp of its own.
        .tempdir_in("/var/tmp")?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/thaw/Server.java");
    let compiled = std::process::Command::new("javac")
        .args(["-d".as_ref(), classes.path().as_os_str(), source.as_ref()])
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no javac");
        return Ok(());
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(classes.path(), std::fs::Permissions::from_mode(0o755))?;
    let classes = classes.path().to_str().context("path")?;
    for collector in ["-XX:+UseG1GC", "-XX:+UseSerialGC"] {
        let args = [
            "/usr/bin/java",
            collector,
            "-Xmx128m",
            "-XX:-UsePerfData",
            "-cp",
            classes,
            "Server",
        ];
        run(&Program::freeze(&args).context(collector)?).context(collector)?;
    }
    // With its file of counters, which is mapped shared from /tmp.
    let args = ["/usr/bin/java", "-Xmx64m", "-cp", classes, "Server"];
    run(&Program::freeze(&args).context("counters")?).context("counters")
}

fn run(program: &Program) -> Result<()> {
    let tape = program.tape(Memory::Shared, None)?;
    for _ in 0..4 {
        let (mut cage, mut peer) = program.thaw(&tape)?;
        for (question, answer) in [
            ("add", "3"),
            ("gc", "collected"),
            ("threads", "8"),
            ("npe", "NullPointerException"),
            ("overflow", "StackOverflowError"),
            ("scheduled", "true"),
            ("random", "true"),
            ("process", "42"),
            ("allocate", "true"),
            ("load", "true"),
            ("clock", "true"),
        ] {
            let is = peer.ask(question)?;
            ensure!(is == answer, "{question}: {is}, not {answer}");
        }
        threads_that_compile_give_way(cage.host_pid)?;
        // SIGQUIT makes it print all stacks; SIGTERM ends it by its hooks.
        let host_pid = cage.host_pid;
        let signal = |signal| {
            // SAFETY: a process of this test, which has not been waited for.
            unsafe { libc::kill(host_pid, signal) };
        };
        signal(libc::SIGQUIT);
        ensure!(peer.ask("add")? == "3");
        signal(libc::SIGTERM);
        let status = cage.wait()?;
        ensure!(status == 143, "status {status}");
        let mut output = String::new();
        std::io::Read::read_to_string(&mut cage.output.take().context("output")?, &mut output)?;
        ensure!(output.contains("Full thread dump"), "{output}");
    }
    Ok(())
}

/// They are batch threads, while all that the program made itself are ordinary ones. Some may end meanwhile.
fn threads_that_compile_give_way(pid: i32) -> Result<()> {
    let mut seen = [0; 2];
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let id: i32 = task.file_name().to_str().context("id")?.parse()?;
        // SAFETY: the call takes a number only.
        let policy = unsafe { libc::sched_getscheduler(id) };
        let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else {
            continue;
        };
        if policy < 0 {
            continue;
        }
        let gives_way = name.starts_with("C1 Compiler") || name.starts_with("VM Periodic");
        if gives_way {
            ensure!(policy == libc::SCHED_BATCH, "{name}: {policy}");
        } else if name.starts_with("java") {
            ensure!(policy == libc::SCHED_OTHER, "{name}: {policy}");
        }
        seen[usize::from(gives_way)] += 1;
    }
    ensure!(seen[0] > 2 && seen[1] > 1, "{seen:?}");
    Ok(())
}
