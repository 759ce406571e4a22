//! The process that becomes the environment's first one, made before anybody asks for it.
//!
//! It is a copy of init, with the first process id after init's. While nobody waits it takes its
//! place in the cgroups, gives up what its program will not have, and then all its memory: what
//! is left ([`snapshot::wait`]) waits for one order, to become the process of an image or to execute a
//! program.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitOptions};

use super::{Init, launch};
use crate::sys::{self, Fork};
use crate::wire::{self, Failure};

/// Exit status of a process whose thaw failed before its tape began.
pub const FAILED: i32 = 98;

/// The waiting process, as init sees it. It ends when this is dropped.
pub struct Stub {
    pub pid: Pid,
    pidfd: OwnedFd,
    orders: OwnedFd,
}

impl Stub {
    /// Makes it: ahead of time, or with an id, for an order that is known. It runs an errand before
    /// it waits.
    pub fn make(
        init: &Init<'_>,
        pid: Option<i32>,
        errand: impl FnOnce() -> Result<(), Failure>,
    ) -> io::Result<Self> {
        let (ours, theirs) = wire::pair()?;
        let group = init.cell.function.as_ref().map(AsFd::as_fd);
        // SAFETY: init has one thread, being a copy of the spawner.
        match unsafe { sys::fork(0, group, pid) }? {
            Fork::Parent { pid, pidfd } => Ok(Self {
                pid,
                pidfd,
                orders: ours,
            }),
            Fork::Child => {
                // Else it would not learn that init has let go of it.
                drop(ours);
                let failure = match prepare(init, errand) {
                    // SAFETY: this copy of init has one thread and is for nothing else.
                    Ok(()) => unsafe { snapshot::wait(theirs.as_raw_fd()) }.to_string(),
                    Err(failure) => format!("{}: {}", failure.action, failure.cause),
                };
                if pid.is_some() {
                    explain(&theirs, &failure);
                }
                // One made ahead is only missed: what it was for is done without it.
                sys::exit_now(FAILED)
            }
        }
    }

    /// Tells it what to become, by a finished [`Order`](snapshot::Order). An error means that it has
    /// ended and that nothing has happened.
    pub fn order(self, order: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<(Pid, OwnedFd)> {
        wire::send_packet(&self.orders, order, fds)?;
        Ok((self.pid, self.pidfd))
    }

    /// Ends it; returns when its id is free.
    pub fn dismiss(self) -> io::Result<Pid> {
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL)?;
        loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
                Ok(_) => return Ok(self.pid),
            }
        }
    }
}

fn prepare(init: &Init<'_>, errand: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    use wire::Doing;
    launch::take_post(init).doing(|| "take its post".into())?;
    sys::reset_signals();
    errand()?;
    match &init.shared.filters {
        Some(filters) => sys::seccomp(&filters.early).doing(|| "install the filter".into()),
        None => Ok(()),
    }
}

/// Waits for the order all the same: with it comes the report in which to say why.
fn explain(orders: &OwnedFd, why: &str) {
    let received = wire::receive_packet(orders, &mut vec![0; wire::MAX_MESSAGE]);
    if let Ok(Some((_, fds))) = received
        && let Some(report) = fds.first()
    {
        let _ = rustix::io::write(report, why.as_bytes());
    }
}
