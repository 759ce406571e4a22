//! What belongs to the process as a whole.

use std::collections::HashMap;

use rustix::time::ClockId;

use super::error::{Result, unsupported};
use super::proc::{self, Status};
use super::root;
use super::tracee::Tracee;
use crate::{IntervalTimer, Layout, PosixTimer, SignalAction};

const SIGNALS: i32 = 64;

pub struct Process {
    pub signals: Vec<SignalAction>,
    pub layout: Layout,
    pub auxv: Vec<u8>,
    pub exe: Vec<u8>,
    pub cwd: Vec<u8>,
    pub umask: u32,
    pub monotonic_ns: u64,
    pub boottime_ns: u64,
    pub membarrier: u32,
    pub timers: Vec<PosixTimer>,
    pub interval_timers: Vec<IntervalTimer>,
}

pub fn collect(tracee: &Tracee) -> Result<Process> {
    let pid = tracee.pid;
    let status = Status::read(pid, "status")?;
    let umask = u32::from_str_radix(status.get("Umask"), 8);
    let (monotonic_ns, boottime_ns) = clocks(pid)?;
    Ok(Process {
        signals: signals(tracee)?,
        layout: layout(tracee)?,
        auxv: proc::read(pid, "auxv")?,
        exe: path(pid, "exe", "its program")?,
        cwd: path(pid, "cwd", "its working directory")?,
        umask: umask.unwrap_or(0o022),
        monotonic_ns,
        boottime_ns,
        membarrier: membarrier(tracee)?,
        timers: timers(tracee)?,
        interval_timers: interval_timers(tracee)?,
    })
}

impl Process {
    /// Signals, as a mask, that timers send again and again.
    pub fn repeating(&self) -> u64 {
        let bit = |signal: i32| {
            1_u64
                .checked_shl(signal.cast_unsigned().wrapping_sub(1))
                .unwrap_or(0)
        };
        let interval_timers = self
            .interval_timers
            .iter()
            .filter(|timer| timer.interval_ns > 0);
        let interval_timers = interval_timers.map(|timer| match timer.which {
            libc::ITIMER_REAL => libc::SIGALRM,
            libc::ITIMER_VIRTUAL => libc::SIGVTALRM,
            _ => libc::SIGPROF,
        });
        let timers = self.timers.iter().filter(|timer| timer.interval_ns > 0);
        let signals = timers.map(|timer| timer.signal).chain(interval_timers);
        signals.map(bit).fold(0, |all, bit| all | bit)
    }
}

fn path(pid: i32, name: &str, what: &str) -> Result<Vec<u8>> {
    let path = proc::link(pid, name)?;
    if !path.starts_with(b"/") || root::deleted(&path).is_some() {
        return unsupported(format!("{what}, {}, is no longer there", root::show(&path)));
    }
    Ok(path)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at * 8..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn signals(tracee: &Tracee) -> Result<Vec<SignalAction>> {
    let action = |signal: i32| {
        let unchangeable = signal == libc::SIGKILL || signal == libc::SIGSTOP;
        let bytes = if unchangeable {
            Vec::new()
        } else {
            let number = u64::from(signal.cast_unsigned());
            tracee.ask(0, libc::SYS_rt_sigaction, |to| [number, 0, to, 8])?
        };
        Ok(SignalAction {
            handler: word(&bytes, 0),
            flags: word(&bytes, 1),
            restorer: word(&bytes, 2),
            mask: word(&bytes, 3),
        })
    };
    (1..=SIGNALS).map(action).collect()
}

fn layout(tracee: &Tracee) -> Result<Layout> {
    let stat = proc::stat(tracee.pid)?;
    // Numbered as in proc(5); the first is field 4.
    let field = |number: usize| stat.get(number - 4).copied().unwrap_or(0);
    let (brk, _) = tracee.inject(0, libc::SYS_brk, |_| [0; 4])?;
    Ok(Layout {
        start_code: field(26),
        end_code: field(27),
        start_stack: field(28),
        start_data: field(45),
        end_data: field(46),
        start_brk: field(47),
        brk: brk.cast_unsigned(),
        arg_start: field(48),
        arg_end: field(49),
        env_start: field(50),
        env_end: field(51),
    })
}

/// Registrations for `membarrier`, which JIT compilers use.
fn membarrier(tracee: &Tracee) -> Result<u32> {
    const GET_REGISTRATIONS: u64 = 1 << 9;
    const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
    let ask = [GET_REGISTRATIONS, 0, 0, 0];
    let (registered, _) = tracee.inject(0, libc::SYS_membarrier, |_| ask)?;
    // Kernels before 6.3 cannot tell; a registration too many does no harm.
    Ok(u32::try_from(registered).unwrap_or(REGISTER_PRIVATE_EXPEDITED))
}

/// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` in the process's time namespace.
fn clocks(pid: i32) -> Result<(u64, u64)> {
    let own = offsets("/proc/self/timens_offsets");
    let its = offsets(&format!("/proc/{pid}/timens_offsets"));
    let read = |clock, at: usize| {
        let now = rustix::time::clock_gettime(clock);
        let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        u64::try_from(now - own[at] + its[at]).unwrap_or(0)
    };
    Ok((read(ClockId::Monotonic, 0), read(ClockId::Boottime, 1)))
}

/// Nanoseconds by which a time namespace's clocks are ahead of the machine's.
fn offsets(file: &str) -> [i128; 2] {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    ["monotonic", "boottime"].map(|clock| {
        let mut words = text
            .lines()
            .map(str::split_ascii_whitespace)
            .find_map(|mut words| (words.next() == Some(clock)).then_some(words));
        let mut number = || words.as_mut()?.next()?.parse::<i128>().ok();
        let (seconds, nanoseconds) = (number().unwrap_or(0), number().unwrap_or(0));
        seconds * 1_000_000_000 + nanoseconds
    })
}

/// Two `timespec`s or `timeval`s: interval, then value.
fn setting(bytes: &[u8], unit: u64) -> (u64, u64) {
    let time = |at| word(bytes, at).saturating_mul(1_000_000_000) + word(bytes, at + 1) * unit;
    (time(0), time(2))
}

fn interval_timers(tracee: &Tracee) -> Result<Vec<IntervalTimer>> {
    let mut timers = Vec::new();
    for which in 0_u8..3 {
        let number = u64::from(which);
        let bytes = tracee.ask(0, libc::SYS_getitimer, |to| [number, to, 0, 0])?;
        let (interval_ns, value_ns) = setting(&bytes, 1000);
        if value_ns != 0 || interval_ns != 0 {
            timers.push(IntervalTimer {
                which: i32::from(which),
                // At rest with an interval, it has fired just now; the signal is lost.
                value_ns: value_ns.max(1000),
                interval_ns,
            });
        }
    }
    Ok(timers)
}

fn timers(tracee: &Tracee) -> Result<Vec<PosixTimer>> {
    let Ok(text) = std::fs::read(format!("/proc/{}/timers", tracee.pid)) else {
        // Kernels without CONFIG_CHECKPOINT_RESTORE cannot tell; they cannot thaw, either.
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&text);
    let mut timers = parse_timers(&text, &tracee.inner_ids());
    for timer in &mut timers {
        let id = u64::from(timer.id.cast_unsigned());
        let bytes = tracee.ask(0, libc::SYS_timer_gettime, |to| [id, to, 0, 0])?;
        (timer.interval_ns, timer.value_ns) = setting(&bytes, 1);
    }
    Ok(timers)
}

fn parse_timers(text: &str, inner: &HashMap<i32, i32>) -> Vec<PosixTimer> {
    let mut timers: Vec<PosixTimer> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if key == "ID" {
            timers.push(PosixTimer {
                id: value.parse().unwrap_or(0),
                clock: 0,
                notify: 0,
                signal: 0,
                value: 0,
                tid: 0,
                value_ns: 0,
                interval_ns: 0,
            });
        }
        let Some(timer) = timers.last_mut() else {
            continue;
        };
        match key {
            "signal" => {
                let (signal, data) = value.split_once('/').unwrap_or((value, "0"));
                timer.signal = signal.parse().unwrap_or(0);
                timer.value = u64::from_str_radix(data, 16).unwrap_or(0);
            }
            "notify" => {
                let (how, whom) = value.split_once('/').unwrap_or((value, ""));
                timer.notify = match how {
                    "none" => libc::SIGEV_NONE,
                    "thread" => libc::SIGEV_THREAD,
                    _ => libc::SIGEV_SIGNAL,
                };
                if let Some(tid) = whom.strip_prefix("tid.") {
                    timer.notify |= libc::SIGEV_THREAD_ID;
                    let tid = tid.parse().unwrap_or(0);
                    timer.tid = inner.get(&tid).copied().unwrap_or(tid);
                }
            }
            "ClockID" => timer.clock = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    timers
}

#[cfg(test)]
mod tests {
    use super::{offsets, parse_timers, setting};

    #[test]
    fn timers_are_understood() {
        let text = "ID: 3\nsignal: 34/00007fff86e452a8\nnotify: signal/tid.2634\nClockID: 1\n\
                    ID: 4\nsignal: 14/0000000000000004\nnotify: none/pid.2634\nClockID: -6\n";
        let timers = parse_timers(text, &[(2634, 7)].into());
        assert_eq!(timers.len(), 2);
        assert_eq!((timers[0].id, timers[0].signal, timers[0].tid), (3, 34, 7));
        assert_eq!(timers[0].notify, libc::SIGEV_THREAD_ID);
        assert_eq!(timers[0].value, 0x7fff_86e4_52a8);
        assert_eq!((timers[1].notify, timers[1].clock), (libc::SIGEV_NONE, -6));
    }

    #[test]
    fn settings_are_interval_and_value() {
        let words: Vec<u8> = [1_u64, 2, 3, 4]
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        assert_eq!(setting(&words, 1000), (1_000_002_000, 3_000_004_000));
    }

    #[test]
    fn a_file_that_is_not_there_is_no_offset() {
        assert_eq!(offsets("/proc/self/nothing"), [0, 0]);
    }
}
