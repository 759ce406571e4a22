//! Functions that take all they can get.

use std::time::Duration;

use sandbox::{Exit, Sandboxes, Spec};

use crate::harness::{
    Outcome, config, enter, output, py, python, rootless, sh, shell, skip, wait_for_line,
};
use crate::tests;

tests![
    memory_is_limited_and_its_exhaustion_reported,
    memory_exhausted_by_a_grandchild_is_reported,
    a_fork_bomb_hits_its_limit_and_dies_with_its_environment,
    tmp_has_the_size_it_was_given,
    shared_memory_is_bounded,
    open_files_are_limited_as_on_lambda,
    cpu_is_limited,
];

async fn memory_is_limited_and_its_exhaustion_reported() -> Outcome {
    if rootless() {
        return skip("no memory cgroup without root");
    }
    let sandboxes = Sandboxes::start(config())?;
    let (greedy, modest) = (
        enter(&sandboxes, Spec::default()),
        enter(&sandboxes, Spec::default()),
    );
    let (greedy, modest) = (greedy.await?, modest.await?);
    assert_eq!(greedy.oom_kills(), 0);
    let eat = python("x = []\nwhile True: x.append(bytearray(1 << 20))");
    let (result, ()) = tokio::join!(output(&greedy, eat), greedy.on_oom());
    assert_eq!(result?.exit, Exit::Signal(libc::SIGKILL));
    assert!(greedy.oom_kills() > 0);
    let peak = greedy.memory_peak_bytes();
    assert!((120 << 20..=128 << 20).contains(&peak), "{peak}");
    greedy.on_oom().await;
    assert_eq!(modest.oom_kills(), 0);
    assert_eq!(
        py(&modest, "print(1)").await?,
        "1",
        "the neighbour is not disturbed"
    );
    Ok(())
}

async fn memory_exhausted_by_a_grandchild_is_reported() -> Outcome {
    if rootless() {
        return skip("no memory cgroup without root");
    }
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script =
        "/usr/bin/python3 -c 'x = []\nwhile 1: x.append(bytearray(1 << 20))' & exec sleep 60";
    let parent = sandbox.spawn(shell(script)).await?;
    sandbox.on_oom().await;
    assert!(sandbox.oom_kills() > 0);
    parent.signal(libc::SIGKILL)?;
    Ok(())
}

async fn a_fork_bomb_hits_its_limit_and_dies_with_its_environment() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let bombed = enter(
        &sandboxes,
        Spec {
            pids_max: 100,
            ..Spec::default()
        },
    )
    .await?;
    let other = enter(&sandboxes, Spec::default()).await?;
    let script = "import os, sys, time\nn = 0\ntry:\n  while n < 5000:\n    if os.fork() == 0: \
                  time.sleep(600)\n    n += 1\nexcept OSError as e:\n  print(n, e.errno)\nsys.stdout.flush()
time.sleep(600)";
    let mut process = bombed.spawn(python(script)).await?;
    let text = wait_for_line(&mut process).await?;
    bombed.destroy().await;
    let words: Vec<i32> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(matches!(words[..], [80..=100, libc::EAGAIN]), "{text}");
    assert_eq!(py(&other, "print(1)").await?, "1");
    Ok(())
}

async fn tmp_has_the_size_it_was_given() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let spec = Spec {
        tmp_bytes: 16 << 20,
        ..Spec::default()
    };
    let sandbox = enter(&sandboxes, spec).await?;
    let script = "import os\nn = 0\nf = open('/tmp/f', 'wb')\ntry:\n  while True: n += \
                  f.write(b'x' * 65536); f.flush()\nexcept OSError as e: print(n >> 20, e.errno)";
    let (mib, errno) = {
        let text = py(&sandbox, script).await?;
        let (mib, errno) = text.split_once(' ').unwrap_or_default();
        (mib.parse::<u64>()?, errno.parse::<i32>()?)
    };
    assert!((13..=16).contains(&mib), "{mib}");
    assert_eq!(errno, libc::ENOSPC);
    let files = py(
        &sandbox,
        "import os\nos.unlink('/tmp/f')\nn = 0\ntry:\n  while n < 10**6: open(f'/tmp/{n}', \
         'w').close(); n += 1\nexcept OSError as e: print(n)",
    );
    assert!(
        files.await?.parse::<u64>()? < 100_000,
        "the number of files is bounded, too"
    );
    Ok(())
}

async fn shared_memory_is_bounded() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    let script = "n = 0\nf = open('/dev/shm/f', 'wb')\ntry:\n  while n < 1 << 30: n += \
                  f.write(bytes(1 << 20)); f.flush()\nexcept OSError as e: print(n >> 20)";
    assert_eq!(py(&sandbox, script).await?, "64");
    Ok(())
}

async fn open_files_are_limited_as_on_lambda() -> Outcome {
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(&sandboxes, Spec::default()).await?;
    assert_eq!(
        sh(&sandbox, "ulimit -n; ulimit -Hn").await?.stdout,
        "1024\n1024\n"
    );
    let core = "import resource as r\nfor limit in ((0, 0), (1 << 30, 1 << 30)):\n  try: \
                r.setrlimit(r.RLIMIT_CORE, limit)\n  except ValueError: pass\nprint(r.getrlimit(r.RLIMIT_CORE))";
    assert_eq!(
        py(&sandbox, core).await?,
        "(1, 1)",
        "no program on the host is given core dumps"
    );
    let script = "import os, resource\nfds = []\ntry:\n  while True: fds.append(os.open('/dev/null', \
                  0))\nexcept OSError as e: print(len(fds) > 1000, e.errno)\ntry: \
                  resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nexcept ValueError: \
                  print('no')";
    assert_eq!(
        py(&sandbox, script).await?,
        format!("True {}\nno", libc::EMFILE)
    );
    Ok(())
}

async fn cpu_is_limited() -> Outcome {
    if rootless() {
        return skip("no cpu cgroup without root");
    }
    let sandboxes = Sandboxes::start(config())?;
    let sandbox = enter(
        &sandboxes,
        Spec {
            cpu: Some(0.1),
            ..Spec::default()
        },
    )
    .await?;
    let script = "import time\nend = time.monotonic() + 0.6\nc = time.process_time()\n\
                  while time.monotonic() < end: pass\nprint(time.process_time() - c)";
    let used: f64 = tokio::time::timeout(Duration::from_secs(20), py(&sandbox, script))
        .await??
        .parse()?;
    assert!(used < 0.2, "{used} s of CPU in 0.6 s");
    Ok(())
}
