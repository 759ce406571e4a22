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

use super::stub::{Order, Task};
use super::{Init, launch, scratch};
use crate::sys::{self, Fork};
use crate::wire::{Doing, Failure, Thaw};

/// The list of scratch files, while the others are placed; above all of those.
const PARKING: RawFd = 920;
/// Standard error is the report until the tape replaces it.
const REPORT: RawFd = 2;
/// Exit status of a process whose thaw failed before its tape began.
pub const FAILED: i32 = 98;

/// Creates the process; it goes on by itself.
pub fn thaw(
    init: &mut Init<'_>,
    order: Thaw,
    fds: Vec<OwnedFd>,
) -> Result<(Pid, OwnedFd), Failure> {
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
    let waiting = init.stub.take();
    if let Some(stub) = waiting.filter(|stub| stub.pid.as_raw_nonzero().get() == order.pid) {
        let order = Order {
            pids_max: init.pids_max,
            task: Task::Thaw(order),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if let Ok(ordered) = stub.order(&order, &fds) {
            return Ok(ordered);
        }
    }
    let group = init.cell.function.as_ref().map(AsFd::as_fd);
    // SAFETY: init has one thread, being a copy of the spawner.
    let forked = unsafe { sys::fork(0, group, Some(order.pid)) };
    match forked.doing(|| format!("create process {}", order.pid))? {
        Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Fork::Child => match take_post(init).doing(|| "take its post".into()) {
            Ok(()) => become_clone(init, order, fds),
            Err(failure) => give_up(&failure),
        },
    }
}

/// What a process that was made for this has ahead of it, one that waited has behind it.
fn take_post(init: &Init<'_>) -> io::Result<()> {
    launch::take_post(init)?;
    launch::limit_processes(init.pids_max)?;
    match &init.shared.filters {
        Some(filters) => sys::seccomp(&filters.early),
        None => Ok(()),
    }
}

/// Becomes the process of the image, or ends with a word about why not.
pub fn become_clone(init: &Init<'_>, order: Thaw, fds: Vec<OwnedFd>) -> ! {
    match become_image(init, order, fds) {
        Ok(never) => match never {},
        Err(failure) => give_up(&failure),
    }
}

fn give_up(failure: &Failure) -> ! {
    // SAFETY: standard error is open all through the life of this process: at first init's,
    // then the report.
    let report = unsafe { BorrowedFd::borrow_raw(REPORT) };
    let text = format!("{}: {}", failure.action, failure.cause);
    let _ = rustix::io::write(report, text.as_bytes());
    sys::exit_now(FAILED)
}

enum Never {}

fn become_image(init: &Init<'_>, order: Thaw, fds: Vec<OwnedFd>) -> Result<Never, Failure> {
    let list = place(order, fds).doing(|| "place descriptors".into())?;
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

/// Lays out what the tape expects, and returns the list of scratch files. What else is open the tape
/// closes.
pub fn place(order: Thaw, mut fds: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
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
    // Nothing of what came may lie where another one goes.
    let taken = |fd: &OwnedFd| fd.as_raw_fd() == REPORT || fd.as_raw_fd() >= slot::FIRST;
    if fds.len() != targets.len() || fds.iter().any(taken) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    for (fd, target) in fds.iter().zip(&targets) {
        // SAFETY: of what it owns this process uses only the list from here on.
        unsafe { sys::place(fd.as_fd(), *target) }?;
    }
    // The tape closes them; what is a copy need not be closed here.
    std::mem::forget(fds);
    Ok(scratch)
}

/// Undoes a placement but for standard error.
pub fn clear() {
    let first = slot::FIRST.cast_unsigned();
    // SAFETY: nobody uses what a rehearsal has placed there.
    let _ = unsafe { sys::close_range(first, first + 10) };
}
