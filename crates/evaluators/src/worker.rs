//! What a process does that evaluates expressions.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use asl::jsonata::elsewhere::Evaluators;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::wire;

/// The name that a process of this kind is executed with.
pub const NAME: &str = "firn-evaluator";
/// The memory of one: some thousand times of what a state may put out.
pub const MAX_MEMORY_BYTES: u64 = 512 << 20;
const MAX_OPEN_FILES: u64 = 16;
/// A process that keeps more than this after an answer is of no more use: memory in small pieces
/// does not go back to the system.
const MAX_KEPT_KIB: u64 = 64 << 10;
/// Nothing fills that much memory in less.
const QUICK: Duration = Duration::from_millis(2);

/// The first byte of a frame: whether another request may follow.
pub const MORE: u8 = 0;
pub const LAST: u8 = 1;

/// Evaluates expressions, if this process was started for that, and does not return then. To be
/// called before there are threads.
pub fn worker_main() {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return;
    }
    let status = match serve() {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(status)
}

fn serve() -> io::Result<()> {
    // The thread that starts processes lives as long as the server.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Private memory only: how large the program is makes no difference.
    limit(Resource::Data, MAX_MEMORY_BYTES)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, MAX_OPEN_FILES)?;
    // Where memory is short, this goes before anything else. Not having it is no reason to stop.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut evaluators = Evaluators::new();
    while let Some(request) = wire::read(&mut socket, wire::MAX_REQUEST_BYTES)? {
        let began = Instant::now();
        let mut answer = evaluators.answer(&request);
        drop(request);
        let is_last = began.elapsed() > QUICK && kept_kib().is_none_or(|kept| kept > MAX_KEPT_KIB);
        answer.insert(0, if is_last { LAST } else { MORE });
        wire::write(&mut socket, &answer)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let both = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, both)?)
}

/// The memory of its own that this process has at the moment, without pages of files.
fn kept_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}
