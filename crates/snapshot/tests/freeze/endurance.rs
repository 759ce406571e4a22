//! Processes that do not hold still, and processes in namespaces of their own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snapshot::{FreezeError, FreezeOptions};

use crate::program::Program;

#[test]
fn threads_that_come_and_go_are_all_caught() {
    let (mut program, _) = Program::python(
        "
def churn():
    while True:
        threads = [threading.Thread(target=lambda: time.sleep(0.001)) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
for _ in range(3): threading.Thread(target=churn).start()
",
    );
    for _ in 0..20 {
        let (frozen, pages) = program.freeze_with(|options| options.keep = true);
        let image = frozen.unwrap().image;
        assert!(image.threads.len() >= 4);
        crate::program::check(&image, &pages);
        program.runs_on();
    }
}

#[test]
fn a_storm_of_signals_does_no_harm() {
    let (mut program, _) = Program::python(
        "
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
",
    );
    let mut images = 0;
    for _ in 0..20 {
        match program.freeze_with(|options| options.keep = true).0 {
            Ok(frozen) => {
                images += 1;
                assert_eq!(frozen.image.interval_timers.len(), 1);
            }
            Err(FreezeError::Unsupported { what }) => assert_eq!(what, "signals keep arriving"),
            Err(err) => panic!("{err}"),
        }
        program.runs_on();
    }
    assert!(images > 0);
}

#[test]
fn a_process_that_dies_in_the_middle_is_reported() {
    let mut gone = 0;
    for round in 0..15 {
        let (program, _) = Program::python(
            "
x = bytearray(os.urandom(1 << 16)) * 200
for _ in range(3): threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
",
        );
        let pidfd = program.pidfd();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(1500 * round));
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        });
        let begun = Instant::now();
        let (frozen, _) = program.freeze_with(|_| ());
        assert!(begun.elapsed() < Duration::from_secs(20));
        killer.join().unwrap();
        match frozen {
            Ok(_) => {}
            Err(FreezeError::Gone) => gone += 1,
            Err(err) => panic!("{err}"),
        }
    }
    assert!(gone > 0);
    let nobody = snapshot::freeze(
        i32::MAX,
        &FreezeOptions::default(),
        &tempfile::tempfile().unwrap(),
    );
    assert!(
        matches!(nobody, Err(FreezeError::Gone)),
        "{:?}",
        nobody.map(|_| ())
    );
}

/// A program in its own user, pid and mount namespaces. Its init runs `init`.
fn in_namespaces(init: &str) -> Option<(std::process::Child, i32)> {
    let program =
        "import os, time; os.closerange(3, 1024); os.setsid()\nwhile True: time.sleep(0.05)";
    let script = format!("python3 -c '{program}' & {init}");
    let mut child = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ])
        .args(["sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if let Some(pid) = find_python(child.id().cast_signed()) {
            let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            // Until it has closed what it inherited.
            while open() != 3 {
                assert!(begun.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(20));
            }
            return Some((child, pid));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    eprintln!("SKIPPED: no namespaces here");
    None
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default()
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

fn find_python(unshare: i32) -> Option<i32> {
    let init = *children(unshare).first()?;
    let mut python = children(init).into_iter();
    python.find(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("python3")
    })
}

#[test]
fn ids_are_those_inside() {
    let Some((mut child, pid)) = in_namespaces("wait") else {
        return;
    };
    let pages = tempfile::tempfile().unwrap();
    let options = FreezeOptions {
        scratch: &[],
        ..FreezeOptions::default()
    };
    let frozen = snapshot::freeze(pid, &options, &pages);
    child.kill().unwrap();
    child.wait().unwrap();
    let image = frozen.unwrap().image;
    assert_eq!((image.pid, image.threads[0].tid), (2, 2));
    crate::program::check(&image, &pages);
}

#[test]
fn a_neighbour_is_named_unless_it_may_be_there() {
    let Some((mut child, pid)) = in_namespaces("sleep 1000 & wait") else {
        return;
    };
    let init = children(child.id().cast_signed())[0];
    let sleep = children(init)
        .into_iter()
        .find(|other| *other != pid)
        .unwrap();
    let pages = tempfile::tempfile().unwrap();
    let mut options = FreezeOptions {
        scratch: &[],
        ..FreezeOptions::default()
    };
    let refused = snapshot::freeze(pid, &options, &pages);
    let beside = [sleep];
    options.beside = &beside;
    let frozen = snapshot::freeze(pid, &options, &pages);
    child.kill().unwrap();
    child.wait().unwrap();
    let Err(FreezeError::Unsupported { what }) = refused else {
        panic!("{:?}", refused.map(|_| ()));
    };
    assert_eq!(what, "process 3 (\"sleep\") runs beside the runtime");
    assert!(frozen.is_ok(), "{:?}", frozen.map(|_| ()));
}
