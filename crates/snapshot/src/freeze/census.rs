//! What must not be there: other processes, foreign namespaces, signals on their way.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::error::{FreezeError, Result, unsupported};
use super::proc::{self, Status};
use super::registers::RIP;
use super::tracee::Tracee;

/// What `/proc/PID/maps` calls a tape.
const TAPE_MAPPED: &str = "/memfd:firn-tape";

pub fn has_ended(pid: i32) -> bool {
    match Status::read(pid, "status") {
        Ok(status) => matches!(status.get("State").as_bytes().first(), Some(b'Z' | b'X')),
        Err(_) => true,
    }
}

/// Before anything is stopped.
pub fn refuse_before(pid: i32, beside: &[i32]) -> Result<()> {
    let status = Status::read(pid, "status")?;
    match status.get("State").as_bytes().first() {
        Some(b'Z' | b'X') => return Err(FreezeError::Gone),
        Some(b'T') => return unsupported("it has been stopped by a signal"),
        _ => {}
    }
    if status.get("TracerPid") != "0" {
        return unsupported(format!("process {} traces it", status.get("TracerPid")));
    }
    let main = i64::from(pid);
    if status.numbers("Tgid") != [main] {
        return unsupported(format!("{pid} is a thread, not a process"));
    }
    for key in ["Uid", "Gid"] {
        let ids = status.numbers(key);
        if ids.windows(2).any(|two| two[0] != two[1]) {
            return unsupported(format!("its real, effective and saved {key} differ"));
        }
    }
    refuse_personality(pid)?;
    refuse_others(pid, &status, beside)?;
    for tid in proc::threads(pid)? {
        refuse_thread(pid, tid)?;
    }
    Ok(())
}

fn refuse_personality(pid: i32) -> Result<()> {
    const ADDR_NO_RANDOMIZE: u64 = 0x0004_0000;
    let text = fs::read_to_string(format!("/proc/{pid}/personality")).unwrap_or_default();
    let personality = u64::from_str_radix(text.trim(), 16).unwrap_or(0);
    if personality & !ADDR_NO_RANDOMIZE != 0 {
        return unsupported(format!("it has the personality {personality:x}"));
    }
    Ok(())
}

fn refuse_thread(pid: i32, tid: i32) -> Result<()> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{tid}/{name}"));
    let name = read("comm").unwrap_or_default();
    if name.starts_with("iou-") {
        return unsupported("it uses io_uring");
    }
    refuse_frozen(pid, tid)?;
    for namespace in ["mnt", "net", "ipc", "uts", "user"] {
        let of = |who: i32| fs::read_link(format!("/proc/{pid}/task/{who}/ns/{namespace}")).ok();
        let (its, main) = (of(tid), of(pid));
        // A thread that is ending has none any more.
        if its.is_some() && main.is_some() && its != main {
            return unsupported(format!(
                "thread {} has its own {namespace} namespace",
                name.trim()
            ));
        }
    }
    Ok(())
}

/// Tracing a process that is in the freezer would wait for its thaw.
pub fn refuse_frozen(pid: i32, tid: i32) -> Result<()> {
    let wchan = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan"));
    if FREEZER.contains(&&*wchan.unwrap_or_default()) {
        return unsupported("its cgroup is frozen");
    }
    Ok(())
}

/// Where threads in the freezer wait: of cgroup v1, of v2, and of v2 after inlining. Threads that a
/// signal has stopped wait there as well, but have been refused before.
const FREEZER: [&str; 3] = ["__refrigerator", "do_freezer_trap", "get_signal"];

/// Other processes of the environment.
fn refuse_others(pid: i32, status: &Status, beside: &[i32]) -> Result<()> {
    for (namespace, for_children) in [("pid", "pid_for_children"), ("time", "time_for_children")] {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        let (own, children) = (link(namespace), link(for_children));
        if own.is_some() && children.is_some() && own != children {
            return unsupported(format!(
                "its children would get another {namespace} namespace"
            ));
        }
    }
    // From the namespace's init, if that is its parent, everything in the namespace can be found.
    let parent = status.get("PPid").parse().unwrap_or(0);
    let first = if is_init_of(parent, pid) { parent } else { pid };
    let mut to_visit = vec![first];
    while let Some(process) = to_visit.pop() {
        for child in children(process) {
            if child != pid && !beside.contains(&child) {
                return unsupported(describe(child));
            }
            to_visit.push(child);
        }
        // Only those beside may have children; their number is bounded by the namespace.
        if to_visit.len() > 100_000 {
            return unsupported("too many processes run beside the runtime");
        }
    }
    Ok(())
}

fn is_init_of(process: i32, pid: i32) -> bool {
    let namespace = |pid: i32| {
        fs::metadata(format!("/proc/{pid}/ns/pid"))
            .map(|ns| ns.ino())
            .ok()
    };
    let status = Status::read(process, "status");
    status.is_ok_and(|status| status.innermost() == 1)
        && namespace(process).is_some()
        && namespace(process) == namespace(pid)
}

fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    for tid in proc::threads(pid).unwrap_or_default() {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children"));
        let list = list.unwrap_or_default();
        children.extend(
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    children
}

fn describe(pid: i32) -> String {
    let Ok(status) = Status::read(pid, "status") else {
        return "another process runs beside the runtime".into();
    };
    let (inner, name) = (status.innermost(), status.get("Name"));
    if status.get("State").starts_with('Z') {
        format!("process {inner} ({name:?}) has ended but has not been waited for")
    } else {
        format!("process {inner} ({name:?}) runs beside the runtime")
    }
}

/// Signals that have arrived and not been acted on.
#[derive(Debug, PartialEq, Eq)]
pub enum Pending {
    None,
    /// They will be taken when the process runs for a moment.
    Deliverable,
    /// They wait until a thread unblocks them.
    Blocked(String),
}

/// Of a process that stands still, but for the signals of the mask `except`.
pub fn pending(tracee: &Tracee, except: u64) -> Result<Pending> {
    let threads = &tracee.threads;
    let mut found = Pending::None;
    let all_block = threads
        .iter()
        .fold(u64::MAX, |all, thread| all & thread.signal_mask);
    for thread in threads {
        let (tid, inner, mask) = (thread.tid, thread.inner, thread.signal_mask);
        let status = Status::read(tracee.pid, &format!("task/{tid}/status"))?;
        let (own, shared) = (
            status.hex("SigPnd") & !except,
            status.hex("ShdPnd") & !except,
        );
        if own & !mask != 0 || shared & !all_block != 0 {
            return Ok(Pending::Deliverable);
        }
        if own != 0 {
            let signal = own.trailing_zeros() + 1;
            found = Pending::Blocked(format!("thread {inner} has the signal {signal} pending"));
        } else if shared != 0 {
            let signal = shared.trailing_zeros() + 1;
            found = Pending::Blocked(format!("it has the signal {signal} pending"));
        }
    }
    Ok(found)
}

/// Whether a thread still plays the tape that the process was thawed by: it would end there, in
/// memory that no image contains.
pub fn being_thawed(tracee: &Tracee) -> Result<bool> {
    let maps = proc::read(tracee.pid, "maps")?;
    let tapes: Vec<Range<u64>> = maps.split(|byte| *byte == b'\n').filter_map(tape).collect();
    let at = tracee.threads.iter().map(|thread| thread.registers[RIP]);
    Ok(at
        .into_iter()
        .any(|at| tapes.iter().any(|tape| tape.contains(&at))))
}

/// The addresses of a line of `/proc/PID/maps`, if they show a tape.
fn tape(line: &[u8]) -> Option<Range<u64>> {
    let line = std::str::from_utf8(line).ok()?;
    line.contains(TAPE_MAPPED).then_some(())?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}
