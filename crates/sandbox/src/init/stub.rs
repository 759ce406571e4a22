//! The process that becomes the environment's first one, made before anybody asks for it.
//!
//! It is a copy of init, with the first process id after init's. While nobody waits it takes its
//! place in the cgroups, gives up what its program will not have, and rehearses, so that the code
//! and the memory of what it is going to do are there. Then it waits for one order: to execute a
//! program, or to become the process of an image.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{Init, launch, thaw};
use crate::sys::{self, Fork};
use crate::wire::{self, Spawn, Thaw};

/// What the waiting process is to become.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order<'a> {
    pub pids_max: u32,
    pub task: Task<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Task<'a> {
    /// Comes with the descriptors that [`Thaw`] describes.
    Thaw(Thaw),
    /// Comes with the pipe for the report, then with what [`wire::ToInit::Spawn`] comes with.
    Spawn(Cow<'a, Spawn>),
}

/// The waiting process, as init sees it. It ends when this is dropped.
pub struct Stub {
    pub pid: Pid,
    pidfd: OwnedFd,
    orders: OwnedFd,
}

impl Stub {
    /// Makes it. Without one, processes are made when they are asked for.
    pub fn make(init: &Init<'_>) -> Option<Self> {
        let (ours, theirs) = wire::pair().ok()?;
        let group = init.cell.function.as_ref().map(AsFd::as_fd);
        // SAFETY: init has one thread, being a copy of the spawner.
        match unsafe { sys::fork(0, group, None) }.ok()? {
            Fork::Parent { pid, pidfd } => Some(Self {
                pid,
                pidfd,
                orders: ours,
            }),
            Fork::Child => {
                let _ = wait(init, theirs);
                sys::exit_now(thaw::FAILED)
            }
        }
    }

    /// Tells it what to become. An error means that it has ended and that nothing has happened.
    pub fn order(self, order: &Order<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<(Pid, OwnedFd)> {
        wire::send(&self.orders, order, fds)?;
        Ok((self.pid, self.pidfd))
    }
}

enum Never {}

fn wait(init: &Init<'_>, orders: OwnedFd) -> io::Result<Never> {
    launch::take_post(init)?;
    // SAFETY: this process never returns to init's code, and of what init has it uses no
    // descriptor from here on.
    unsafe { sys::close_all_except(&[orders.as_raw_fd(), 2]) }?;
    if let Some(filters) = &init.shared.filters {
        sys::seccomp(&filters.early)?;
    }
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    rehearse(&mut buffer)?;
    let received = wire::receive::<Order<'static>>(&orders, &mut buffer)?;
    let Some((order, fds)) = received else {
        // The environment has no use for it.
        sys::exit_now(0)
    };
    launch::limit_processes(order.pids_max)?;
    match order.task {
        Task::Thaw(order) => thaw::become_clone(init, order, fds),
        Task::Spawn(spawn) => launch::become_program(init, &spawn, fds),
    }
}

/// Goes through the motions of a thaw. Memory that a copy of init writes for the first time, and
/// code that it runs for the first time, cost it a page fault each.
fn rehearse(buffer: &mut [u8]) -> io::Result<()> {
    let (ours, theirs) = wire::pair()?;
    let thaw = Thaw {
        sequence: 0,
        pid: 2,
        log: true,
        userfault: false,
        scratch: false,
    };
    let order = Order {
        pids_max: 1024,
        task: Task::Thaw(thaw),
    };
    // SAFETY: standard error is open all through the life of this process.
    let any = unsafe { BorrowedFd::borrow_raw(2) };
    wire::send(&ours, &order, &[any; 6])?;
    if let Some((_, fds)) = wire::receive::<Order<'static>>(&theirs, buffer)? {
        thaw::place(thaw, fds)?;
        thaw::clear();
    }
    snapshot::rehearse();
    Ok(())
}
