//! What a thread consists of.

use super::error::{Doing, Result, unsupported};
use super::proc::Status;
use super::registers::{CS, RIP, Snapshot};
use super::sys::{self, NT_X86_SHSTK, NT_X86_XSTATE};
use super::tracee::Tracee;
use crate::{Thread, host};

/// Code segment of 64-bit user code.
const USER_CODE: u64 = 0x33;
/// Extended state: where the header lies, and features that need a permission that a new thread
/// does not have (AMX).
const XSTATE_HEADER: usize = 512;
const LEGACY_AREA: usize = 576;
const AMX: u64 = 0b11 << 17;
/// Largest known extended state is 11 KB.
const XSTATE_MAX: usize = 64 << 10;

/// All threads, the main one first.
pub fn collect(tracee: &Tracee) -> Result<Vec<Thread>> {
    (0..tracee.threads.len())
        .map(|at| collect_one(tracee, at))
        .collect()
}

fn collect_one(tracee: &Tracee, at: usize) -> Result<Thread> {
    let thread = &tracee.threads[at];
    let (tid, inner) = (thread.tid, thread.inner);
    let mut registers = Snapshot(thread.registers).wound_back();
    if registers[CS] != USER_CODE {
        return unsupported(format!("thread {inner} runs 32-bit code"));
    }
    refuse_shadow_stack(tid, inner)?;
    let rseq = sys::rseq(tid).or_else(unknown_request);
    let rseq = rseq.doing(|| "read restartable sequences".into())?;
    if rseq.0 != 0 {
        registers[RIP] = leave_sequence(tracee, rseq.0, registers[RIP])?;
    }
    let robust_list = sys::robust_list(tid).doing(|| "read the robust list".into())?;
    let name = std::fs::read(format!("/proc/{}/task/{tid}/comm", tracee.pid));
    let mut name = name.doing(|| "read a thread's name".into())?;
    name.pop_if(|last| *last == b'\n');
    Ok(Thread {
        tid: inner,
        registers: registers.to_vec(),
        extended: extended(tid, inner)?,
        signal_mask: thread.signal_mask,
        alternate_stack: alternate_stack(tracee, at)?,
        clear_tid: clear_tid(tracee, at)?,
        robust_list: if robust_list.0 == 0 {
            (0, 0)
        } else {
            robust_list
        },
        rseq,
        name,
    })
}

/// Kernels before 5.13 cannot tell; neither could glibc of that time use it.
fn unknown_request(err: std::io::Error) -> std::io::Result<(u64, u32, u32)> {
    match err.raw_os_error() {
        Some(libc::EIO | libc::EINVAL) => Ok((0, 0, 0)),
        _ => Err(err),
    }
}

fn refuse_shadow_stack(tid: i32, inner: i32) -> Result<()> {
    let status = Status::read(tid, "status")?;
    let active = sys::register_set(tid, NT_X86_SHSTK, &mut [0; 8]).is_ok()
        || status.get("x86_Thread_features").contains("shstk");
    if active {
        return unsupported(format!("thread {inner} has a shadow stack"));
    }
    Ok(())
}

/// A thread inside a restartable sequence goes on at its abort handler, as after any preemption.
fn leave_sequence(tracee: &Tracee, rseq: u64, ip: u64) -> Result<u64> {
    const SEQUENCE_FIELD: u64 = 8;
    let read = |address| tracee.read_u64(address);
    let sequence = read(rseq.wrapping_add(SEQUENCE_FIELD));
    let sequence = sequence.doing(|| "read restartable sequences".into())?;
    if sequence == 0 {
        return Ok(ip);
    }
    // struct rseq_cs: version and flags, start, length, abort.
    let words = || -> std::io::Result<(u64, u64, u64)> {
        let field = |offset| read(sequence.wrapping_add(offset));
        Ok((field(8)?, field(16)?, field(24)?))
    };
    let (start, length, abort) = words().doing(|| "read a restartable sequence".into())?;
    let inside = ip.wrapping_sub(start) < length;
    Ok(if inside { abort } else { ip })
}

/// The extended state as `rt_sigreturn` takes it.
fn extended(tid: i32, inner: i32) -> Result<Vec<u8>> {
    let mut state = vec![0; XSTATE_MAX];
    let len = sys::register_set(tid, NT_X86_XSTATE, &mut state);
    let len = len.doing(|| "read the extended state".into())?;
    state.truncate(len);
    trim(state).map_or_else(
        || unsupported(format!("thread {inner} has AMX state in use")),
        Ok,
    )
}

/// The kernel reports room for every feature that the processor has; it takes back only what a
/// thread is permitted to use. Without AMX, that is all of the others.
fn trim(mut state: Vec<u8>) -> Option<Vec<u8>> {
    if state.len() < LEGACY_AREA {
        return Some(state);
    }
    let header = u64::from_ne_bytes(*state[XSTATE_HEADER..].first_chunk()?);
    if header & AMX != 0 {
        return None;
    }
    let end = host::extended_state_end(!AMX);
    state.truncate(end.max(LEGACY_AREA));
    Some(state)
}

fn alternate_stack(tracee: &Tracee, at: usize) -> Result<(u64, u32, u64)> {
    let bytes = tracee.ask(at, libc::SYS_sigaltstack, |to| [0, to, 0, 0])?;
    let word = |at: usize| -> u64 {
        bytes[at..]
            .first_chunk()
            .map_or(0, |b| u64::from_ne_bytes(*b))
    };
    let flags = u32::try_from(word(8) & 0xffff_ffff).unwrap_or(0);
    Ok((word(0), flags, word(16)))
}

fn clear_tid(tracee: &Tracee, at: usize) -> Result<u64> {
    const PR_GET_TID_ADDRESS: u64 = 40;
    let bytes = tracee.ask(at, libc::SYS_prctl, |to| [PR_GET_TID_ADDRESS, to, 0, 0])?;
    Ok(bytes.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b)))
}

#[cfg(test)]
mod tests {
    use super::{XSTATE_HEADER, trim};

    #[test]
    fn state_of_absent_features_is_cut_off() {
        let trimmed = trim(vec![0; 11_008]).unwrap();
        assert!(
            trimmed.len() >= 576 && trimmed.len() <= 4096,
            "{}",
            trimmed.len()
        );
        assert_eq!(trim(vec![0; 100]).unwrap().len(), 100);
    }

    #[test]
    fn matrix_registers_in_use_are_refused() {
        let mut state = vec![0; 11_008];
        state[XSTATE_HEADER + 2] = 1 << 2;
        assert_eq!(trim(state), None);
    }
}
