//! Bringing a process back from an image.
//!
//! A copy of init takes its place in the cgroups, lays the descriptors out as the tape expects
//! them, restores scratch files, and hands itself over to the tape ([`snapshot::enter`]). Becoming
//! the function's user, giving up capabilities and installing the filter are steps of the tape,
//! because what comes before them needs the privileges.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::Pid;

use snapshot::slot;

use super::launch::{join_cgroups, limit_resources};
use super::{Init, scratch};
use crate::sys::{self, Fork};
use crate::wire::{Doing, Failure, Thaw};

/// Descriptors are moved up here before each gets its final number; above all of those.
const PARKING: RawFd = 920;
/// Standard error is the report until the tape replaces it.
const REPORT: RawFd = 2;
/// Exit status of a process whose thaw failed before its tape began.
const FAILED: i32 = 98;

/// Creates the process; it goes on by itself.
pub fn thaw(init: &Init<'_>, order: Thaw, fds: Vec<OwnedFd>) -> Result<(Pid, OwnedFd), Failure> {
    if !init.entered {
        // The server did not wait for the answer before it asked for this.
        let err = io::Error::other("the environment was not entered");
        return Err(Failure::new("thaw a process", &err));
    }
    let count =
        5 + usize::from(order.log) + 2 * usize::from(order.userfault) + usize::from(order.scratch);
    if fds.len() != count {
        return Err(Failure::new(
            "take descriptors",
            &io::ErrorKind::InvalidData.into(),
        ));
    }
    let group = init.cell.function.as_ref().map(AsFd::as_fd);
    // SAFETY: init has one thread, being a copy of the spawner.
    let forked = unsafe { sys::fork(0, group, Some(order.pid)) };
    match forked.doing(|| format!("create process {}", order.pid))? {
        Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Fork::Child => {
            let failure = match become_image(init, order, fds) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            // SAFETY: standard error is open all through the life of this process: at first init's,
            // then the report.
            let report = unsafe { BorrowedFd::borrow_raw(REPORT) };
            let text = format!("{}: {}", failure.action, failure.cause);
            let _ = rustix::io::write(report, text.as_bytes());
            sys::exit_now(FAILED)
        }
    }
}

enum Never {}

fn become_image(init: &Init<'_>, order: Thaw, fds: Vec<OwnedFd>) -> Result<Never, Failure> {
    join_cgroups(init).doing(|| "join the cgroups".into())?;
    let list = place(order, fds).doing(|| "place descriptors".into())?;
    rustix::process::setsid().doing(|| "start a session".into())?;
    limit_resources(init.pids_max).doing(|| "set resource limits".into())?;
    if let Some(list) = list {
        // SAFETY: `place` has just put the page file there, and nothing closes it.
        let pages = unsafe { BorrowedFd::borrow_raw(slot::PAGES) };
        scratch::restore(list, pages, init.ids)?;
    }
    // SAFETY: this process has one thread, owns nothing that it will use again, and its
    // descriptors lie where `snapshot` wants them.
    let err = unsafe { snapshot::enter() };
    Err(Failure::new("thaw", &io::Error::other(err)))
}

/// Lays out what the tape expects, and closes everything else but the list of scratch files.
fn place(order: Thaw, mut fds: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    let scratch = fds.pop_if(|_| order.scratch);
    let scratch = scratch.map(|list| sys::duplicate_above(list.as_fd(), PARKING));
    let scratch = scratch.transpose()?;
    let mut targets = vec![slot::OUTPUT, slot::ERROR, REPORT, slot::TAPE, slot::PAGES];
    if order.log {
        targets.push(slot::LOG);
    }
    if order.userfault {
        targets.extend([slot::USERFAULT_DEVICE, slot::USERFAULT_SOCKET]);
    }
    let parked = fds
        .iter()
        .map(|fd| sys::duplicate_above(fd.as_fd(), PARKING))
        .collect::<io::Result<Vec<_>>>()?;
    for (fd, target) in parked.iter().zip(&targets) {
        // SAFETY: everything this process still uses is parked above all targets.
        unsafe { sys::place(fd.as_fd(), *target) }?;
    }
    let mut keep = targets;
    keep.extend(scratch.as_ref().map(AsRawFd::as_raw_fd));
    // SAFETY: of what it owns this process uses only the list from here on. The owners of the rest
    // are leaked, not dropped.
    std::mem::forget((fds, parked));
    // SAFETY: as above.
    unsafe { sys::close_all_except(&keep) }?;
    Ok(scratch)
}
