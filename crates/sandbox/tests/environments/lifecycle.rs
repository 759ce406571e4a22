//! Creating, entering, running, freezing, destroying.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sandbox::{Command, Config, Error, Exit, Freezer, Sandboxes, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    Outcome, code, config, enter, eventually, mount, output, py, rootless, sh, shell, skip,
    wait_for_line,
};
use crate::tests;

tests![
    a_program_runs_and_its_output_and_exit_arrive,
    a_death_by_signal_is_told_from_an_exit,
    a_missing_program_is_the_callers_fault,
    the_first_program_has_the_id_of_the_process_that_waited,
    listeners_inside_are_served_from_outside,
    mounts_are_visible_and_read_only,
    several_mounts_at_one_target_are_merged,
    a_source_that_only_the_server_can_reach_can_be_mounted,
    names_and_hosts_are_those_of_lambda,
    tmp_is_private_writable_and_executable,
    several_programs_run_side_by_side,
    further_descriptors_arrive_under_their_numbers,
    python_node_and_java_run,
    a_frozen_environment_makes_no_progress,
    the_other_freezers_work_too,
    the_peak_of_memory_can_be_reset,
    a_destroyed_environment_leaves_nothing,
    an_environment_ends_with_its_handle,
    a_burst_beyond_the_pool_is_served,
    the_maximum_number_of_environments_holds,
];

async fn a_program_runs_and_its_output_and_exit_arrive() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let result = sh(&sandbox, "echo out; echo err >&2; exit 3").await?;
    assert_eq!(result.stdout, "out\n");
    assert_eq!(result.stderr, "err\n");
    assert_eq!(result.exit, Exit::Code(3));
    let result = output(&sandbox, shell("cat; echo $A; pwd").env("A", "b c")).await?;
    assert_eq!(result.stdout, "b c\n/\n");
    sandbox.destroy().await;
    sandboxes.shutdown().await;
    Ok(())
}

async fn a_death_by_signal_is_told_from_an_exit() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    assert_eq!(
        sh(&sandbox, "kill -SEGV $$").await?.exit,
        Exit::Signal(libc::SIGSEGV)
    );
    let mut process = sandbox
        .spawn(shell(
            "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done",
        ))
        .await?;
    assert_eq!(wait_for_line(&mut process).await?, "ready");
    process.signal(libc::SIGTERM)?;
    assert_eq!(process.wait().await, Exit::Code(9));
    assert_eq!(process.wait().await, Exit::Code(9), "asked again");
    process.signal(libc::SIGTERM)?;
    Ok(())
}

async fn a_missing_program_is_the_callers_fault() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let task = code(&[("text", "no program")])?;
    std::fs::set_permissions(
        task.path().join("text"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    let spec = Spec {
        mounts: vec![mount(task.path(), "/var/task")],
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    for (program, kind) in [
        ("/var/task/none", std::io::ErrorKind::NotFound),
        ("/var/task/text", std::io::ErrorKind::PermissionDenied),
    ] {
        match sandbox.spawn(Command::new(program)).await {
            Err(Error::Exec { source, .. }) => assert_eq!(source.kind(), kind),
            other => anyhow::bail!("{other:?}"),
        }
    }
    let mut command = shell("true");
    command.cwd = "/nowhere".into();
    assert!(matches!(
        sandbox.spawn(command).await,
        Err(Error::Exec { .. })
    ));
    let huge = shell("true").env("A", "x".repeat(300_000));
    assert!(sandbox.spawn(huge).await.is_err());
    assert_eq!(
        sh(&sandbox, "true").await?.exit,
        Exit::Code(0),
        "still usable"
    );
    Ok(())
}

/// The process that waits executes it, or, where that has no room for all of it, leaves it its id.
async fn the_first_program_has_the_id_of_the_process_that_waited() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    for length in [10, 100_000] {
        let sandbox = enter(&sandboxes, Spec::default()).await?;
        let script =
            "echo $$ ${#A} $(umask) $(ls /proc/self/fd | wc -l) $(readlink /proc/self/fd/0)";
        let command = shell(script).env("A", "x".repeat(length));
        let output = output(&sandbox, command).await?;
        // `ls` has one more open, the directory.
        assert_eq!(output.stdout.trim(), format!("2 {length} 0022 4 /dev/null"));
    }
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let mut command = shell("true");
    command.cwd = "/nowhere".into();
    match sandbox.spawn(command).await {
        Err(Error::Exec { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

async fn listeners_inside_are_served_from_outside() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let mut prepared = sandboxes.take().await?;
    let listener = tokio::net::TcpListener::from_std(prepared.listener(9001)?)?;
    assert!(prepared.listener(9001).is_err(), "can be taken once");
    assert!(prepared.listener(1).is_err());
    let sandbox = prepared.enter(Spec::default()).await?;
    let script = "import socket\ns = socket.create_connection(('127.0.0.1', 9001))\n\
                  s.sendall(b'ping'); print(s.recv(4).decode())";
    let client = py(&sandbox, script);
    let server = async {
        let (mut connection, _) = listener.accept().await?;
        let mut word = [0; 4];
        connection.read_exact(&mut word).await?;
        assert_eq!(&word, b"ping");
        connection.write_all(b"pong").await?;
        anyhow::Ok(())
    };
    let (answer, served) = tokio::join!(client, server);
    served?;
    assert_eq!(answer?, "pong");
    Ok(())
}

async fn mounts_are_visible_and_read_only() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let task = code(&[("handler.py", "x = 1\n")])?;
    let layer = code(&[("lib.py", "y = 2\n")])?;
    let file = task.path().join("handler.py");
    let mounts = vec![
        mount(task.path(), "/var/task"),
        mount(layer.path(), "/opt/python/deep"),
        mount(file, "/var/runtime/bootstrap"),
    ];
    let sandbox = enter(
        &sandboxes,
        Spec {
            mounts,
            ..Spec::default()
        },
    )
    .await?;
    let seen = sh(
        &sandbox,
        "cat /var/task/handler.py /opt/python/deep/lib.py /var/runtime/bootstrap",
    )
    .await?;
    assert_eq!(seen.stdout, "x = 1\ny = 2\nx = 1\n");
    let written = sh(
        &sandbox,
        "for f in /var/task/x /opt/x /usr/x /etc/x /x /dev/x /proc/x /sys/x /run/x /var/x; do \
         touch $f 2>/dev/null && echo $f; done; chmod 777 /var/task 2>/dev/null && echo chmod; \
         echo no > /var/task/handler.py",
    )
    .await?;
    assert_eq!(written.stdout, "");
    assert_eq!(
        std::fs::read_to_string(task.path().join("handler.py"))?,
        "x = 1\n"
    );
    Ok(())
}

async fn several_mounts_at_one_target_are_merged() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let first = code(&[("a", "1\n"), ("both", "1\n")])?;
    let second = code(&[("b", "2\n"), ("both", "2\n")])?;
    let mounts = vec![mount(first.path(), "/opt"), mount(second.path(), "/opt")];
    let sandbox = enter(
        &sandboxes,
        Spec {
            mounts,
            ..Spec::default()
        },
    )
    .await?;
    let seen = sh(
        &sandbox,
        "cat /opt/a /opt/b /opt/both; ls /run; touch /opt/x; ls /run/layers-opt/0",
    )
    .await?;
    assert!(
        seen.stdout.starts_with("1\n2\n2\n"),
        "{}{}",
        seen.stdout,
        seen.stderr
    );
    assert!(
        !seen.stdout.contains("both"),
        "the layers themselves cannot be seen"
    );
    Ok(())
}

async fn a_source_that_only_the_server_can_reach_can_be_mounted() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let private = tempfile::tempdir()?;
    let inner = private.path().join("code");
    std::fs::create_dir(&inner)?;
    std::fs::write(inner.join("f"), "reached\n")?;
    std::fs::set_permissions(
        private.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )?;
    let spec = Spec {
        mounts: vec![mount(&inner, "/var/task")],
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    assert_eq!(sh(&sandbox, "cat /var/task/f").await?.stdout, "reached\n");
    let missing = Spec {
        mounts: vec![mount("/no/such/dir", "/var/task")],
        ..Spec::default()
    };
    let Err(err) = enter(&sandboxes, missing).await else {
        anyhow::bail!("entered")
    };
    assert!(err.to_string().contains("/no/such/dir"), "{err}");
    Ok(())
}

async fn names_and_hosts_are_those_of_lambda() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let spec = Spec {
        hostname: "elsewhere".into(),
        hosts: vec![("10.1.2.3".parse()?, "db.internal".into())],
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    let script = "import socket, os, pwd\n\
                  print([socket.gethostbyname(n) for n in ('localhost', 'sandbox', \
                  'sandbox.localdomain', 'db.internal')], socket.gethostname(), os.getuid(), \
                  os.getgid(), pwd.getpwuid(os.getuid()).pw_name)";
    assert_eq!(
        py(&sandbox, script).await?,
        "['127.0.0.1', '127.0.0.1', '127.0.0.1', '10.1.2.3'] elsewhere 993 990 sbx_user1051"
    );
    Ok(())
}

async fn tmp_is_private_writable_and_executable() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let (one, two) = (
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default()),
    );
    let (one, two) = (one.await?, two.await?);
    let script =
        "echo '#!/bin/sh\necho ran' > /tmp/x; chmod +x /tmp/x; /tmp/x; df -k /tmp | tail -1";
    let result = sh(&one, script).await?;
    assert!(
        result.stdout.starts_with("ran\n"),
        "{}{}",
        result.stdout,
        result.stderr
    );
    assert_eq!(sh(&two, "ls /tmp").await?.stdout, "");
    Ok(())
}

async fn several_programs_run_side_by_side() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let mut pids = Vec::new();
    let mut running = Vec::new();
    for _ in 0..5 {
        let mut process = sandbox.spawn(shell("echo $$; exec sleep 60")).await?;
        assert_eq!(
            wait_for_line(&mut process).await?,
            process.pid().to_string()
        );
        pids.push(process.pid());
        running.push(process);
    }
    pids.dedup();
    assert_eq!(pids.len(), 5);
    running[2].signal(libc::SIGKILL)?;
    assert_eq!(running[2].wait().await, Exit::Signal(libc::SIGKILL));
    assert_eq!(sh(&sandbox, "pgrep -c sleep").await?.stdout, "4\n");
    Ok(())
}

async fn further_descriptors_arrive_under_their_numbers() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let (read, write) = std::io::pipe()?;
    let mut command = shell("echo hello >&7; ls /proc/self/fd | tr '\\n' ' '");
    command.fds = vec![(OwnedFd::from(write), 7)];
    let result = output(&sandbox, command).await?;
    // The listing's own descriptor is the 3.
    assert_eq!(result.stdout, "0 1 2 3 7 ");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut { read }, &mut text)?;
    assert_eq!(text, "hello\n");
    let mut command = shell("true");
    command.fds = vec![(std::fs::File::open("/dev/null")?.into(), 1)];
    assert!(sandbox.spawn(command).await.is_err());
    Ok(())
}

async fn python_node_and_java_run() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let spec = Spec {
        memory_bytes: 1 << 30,
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    let python = "import ssl, sqlite3, threading, subprocess, multiprocessing, asyncio, json\n\
                  t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
                  print(subprocess.check_output(['echo', 'child']).decode().strip())\n\
                  with multiprocessing.Pool(2) as p: print(p.map(abs, [-1, -2]))\n\
                  asyncio.run(asyncio.sleep(0))";
    assert_eq!(py(&sandbox, python).await?, "thread\nchild\n[1, 2]");
    for (program, args, expected) in [
        (
            "/usr/bin/node",
            &["-e", "require('zlib').gzip('x', () => console.log('ok'))"][..],
            "ok",
        ),
        ("/usr/bin/java", &["-XX:+UseSerialGC", "-version"], ""),
    ] {
        if !std::path::Path::new(program).exists() {
            skip(&format!("no {program}"))?;
            continue;
        }
        let mut command = Command::new(program).env("PATH", "/usr/bin:/bin");
        command.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let result = output(&sandbox, command).await?;
        assert_eq!(result.exit, Exit::Code(0), "{program}: {}", result.stderr);
        assert_eq!(result.stdout.trim(), expected);
    }
    Ok(())
}

const COUNTER: &str = "import time\nn = 0\nprint('go', flush=True)\nwhile True:\n  n += 1\n  \
                       open('/tmp/n', 'w').write(str(n))";

async fn a_frozen_environment_makes_no_progress() -> Outcome {
    check_freezing(config()).await
}

async fn the_other_freezers_work_too() -> Outcome {
    if !rootless() {
        check_freezing(Config {
            freezer: Some(Freezer::V1),
            ..config()
        })
        .await?;
    }
    check_freezing(Config {
        freezer: Some(Freezer::Signals),
        ..config()
    })
    .await
}

async fn check_freezing(config: Config) -> Outcome {
    let signals = rootless() || config.freezer == Some(Freezer::Signals);
    let sandboxes = Sandboxes::start(config)?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let mut busy = sandbox.spawn(crate::harness::python(COUNTER)).await?;
    wait_for_line(&mut busy).await?;
    let cpu = || {
        let fdinfo = format!(
            "/proc/self/fdinfo/{}",
            std::os::fd::AsRawFd::as_raw_fd(&busy.pidfd())
        );
        let info = std::fs::read_to_string(fdinfo).unwrap_or_default();
        let pid = info
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .unwrap_or("0")
            .trim();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        stat.split(' ')
            .next()
            .and_then(|time| time.parse::<u64>().ok())
            .unwrap_or(0)
    };
    for _ in 0..3 {
        sandbox.freeze()?;
        if signals {
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            eventually("frozen", || sandbox.is_frozen()).await?;
        }
        let before = cpu();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(cpu(), before, "it ran while frozen");
        assert!(
            sandbox.spawn(shell("true")).await.is_err(),
            "started in a frozen environment"
        );
        sandbox.thaw()?;
        eventually("progress", || cpu() > before).await?;
    }
    sandbox.freeze()?;
    let started = Instant::now();
    sandbox.destroy().await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "a frozen environment can be destroyed"
    );
    assert_eq!(busy.wait().await, Exit::Signal(libc::SIGKILL));
    sandboxes.shutdown().await;
    Ok(())
}

async fn the_peak_of_memory_can_be_reset() -> Outcome {
    if rootless() {
        return skip("no memory cgroup without root");
    }
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    py(&sandbox, "x = bytearray(60 << 20)").await?;
    let peak = sandbox.memory_peak_bytes();
    assert!((60 << 20..128 << 20).contains(&peak), "{peak}");
    sandbox.reset_memory_peak();
    assert!(
        sandbox.memory_peak_bytes() < 40 << 20,
        "{}",
        sandbox.memory_peak_bytes()
    );
    Ok(())
}

async fn a_destroyed_environment_leaves_nothing() -> Outcome {
    let sandboxes = Sandboxes::start(Config {
        pool_size: 0,
        ..config()
    })?;
    let before = groups_of_this_server();
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let mut process = sandbox
        .spawn(shell("setsid sleep 77777 & echo $!; exec sleep 77777"))
        .await?;
    wait_for_line(&mut process).await?;
    assert!(rootless() || groups_of_this_server() > before);
    sandbox.destroy().await;
    assert_eq!(groups_of_this_server(), before);
    assert_eq!(count_processes("77777"), 0);
    sandboxes.shutdown().await;
    assert!(groups_of_this_server() < before.max(1));
    Ok(())
}

pub fn count_processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line)
                .split('\0')
                .any(|arg| arg == mark)
        })
        .count()
}

pub fn groups_of_this_server() -> usize {
    groups_of(std::process::id())
}

/// Cgroup directories made by (the spawner of) a server.
pub fn groups_of(pid: u32) -> usize {
    let mark = format!("-{pid}");
    fn walk(dir: &std::path::Path, inside: bool, mark: &str) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs.map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = inside || (name.starts_with("firn-") && name.ends_with(mark));
            usize::from(ours) + walk(&entry.path(), ours, mark)
        })
        .sum()
    }
    walk(std::path::Path::new("/sys/fs/cgroup"), false, &mark)
}

async fn an_environment_ends_with_its_handle() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let process = sandbox
        .spawn(Command::new("/bin/sleep").arg("88888"))
        .await?;
    drop(sandbox);
    assert_eq!(process.wait().await, Exit::Signal(libc::SIGKILL));
    eventually("the process is gone", || count_processes("88888") == 0).await?;
    drop(sandboxes);
    eventually("its groups are gone", || groups_of_this_server() == 0).await
}

async fn a_burst_beyond_the_pool_is_served() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let sandboxes = sandboxes.clone();
        tasks.spawn(async move {
            let sandbox = enter(&sandboxes, Spec::default()).await?;
            let answer = sh(&sandbox, &format!("echo {number}")).await?.stdout;
            sandbox.destroy().await;
            anyhow::Ok((number, answer))
        });
    }
    while let Some(result) = tasks.join_next().await {
        let (number, answer) = result??;
        assert_eq!(answer, format!("{number}\n"));
    }
    Ok(())
}

async fn the_maximum_number_of_environments_holds() -> Outcome {
    let sandboxes = Sandboxes::start(Config {
        pool_size: 0,
        max_environments: 2,
        ..config()
    })?;
    let one = sandboxes.take().await?;
    let two = enter(&sandboxes, Spec::default()).await?;
    assert!(matches!(sandboxes.take().await, Err(Error::Exhausted(2))));
    two.destroy().await;
    sandboxes.take().await?;
    drop(one);
    Ok(())
}
