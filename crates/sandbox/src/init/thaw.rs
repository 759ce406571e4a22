//! Bringing a process back from an image.
//!
//! A stub ([`super::stub`]) takes its place in the cgroups, restores scratch files if there are any,
//! and becomes the image's process by an [order](snapshot::Order). Becoming the function's user, giving up
//! capabilities and installing the filter are steps of the tape, because what comes before them
//! needs the privileges.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::process::{Pid, Resource};

use snapshot::{Order, slot};

use super::stub::{FAILED, Stub};
use super::{Init, launch, scratch};
use crate::wire::{Doing, Failure, Thaw};

/// Where tape and page file are among the descriptors of a thaw.
const TAPE: usize = 3;
const PAGES: usize = 4;

/// Creates the process; it goes on by itself. Why it did not become the image's it writes to its
/// report.
pub fn thaw(
    init: &mut Init<'_>,
    order: Thaw,
    mut fds: Vec<OwnedFd>,
) -> Result<(Pid, OwnedFd), Failure> {
    if !init.entered {
        // The server did not wait for the answer before it asked for this.
        let err = io::Error::other("the environment was not entered");
        return Err(Failure::new("thaw a process", &err));
    }
    let list = fds.pop_if(|_| order.scratch);
    let slots = slots(order);
    if fds.len() != slots.len() || list.is_some() != order.scratch {
        return Err(Failure::new(
            "take descriptors",
            &io::ErrorKind::InvalidData.into(),
        ));
    }
    let told = told(init, order, &slots, &fds)?;
    let given: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if let Some(stub) = init.stub.take() {
        let fits = stub.pid.as_raw_nonzero().get() == order.pid;
        if list.is_none() && fits {
            // It may have found that it cannot wait.
            if let Ok(ordered) = stub.order(&told, &given) {
                return Ok(ordered);
            }
        } else {
            stub.dismiss().doing(|| "end the waiting process".into())?;
        }
    }
    let stub = Stub::make(init, Some(order.pid), || match list {
        Some(list) => scratch::restore(list, fds[PAGES].as_fd(), init.ids),
        None => Ok(()),
    });
    let stub = stub.doing(|| format!("create process {}", order.pid))?;
    stub.order(&told, &given)
        .doing(|| format!("instruct process {}", order.pid))
}

/// The finished order.
fn told(
    init: &Init<'_>,
    order: Thaw,
    slots: &[RawFd],
    fds: &[OwnedFd],
) -> Result<Vec<u8>, Failure> {
    let processes = launch::within_limit(Resource::Nproc, init.pids_max.into());
    let limits = [(libc::RLIMIT_NPROC, processes)];
    Order::to_thaw(fds[TAPE].as_fd(), order.pid, slots, &limits)
        .unwrap_or_else(|err| Order::to_end(&err.to_string(), FAILED))
        .finish()
        .map_err(io::Error::other)
        .doing(|| "write an order".into())
}

/// Where the descriptors of a thaw go.
fn slots(order: Thaw) -> Vec<RawFd> {
    let mut slots = vec![
        slot::REPORT,
        slot::OUTPUT,
        slot::ERROR,
        slot::TAPE,
        slot::PAGES,
    ];
    if order.log {
        slots.push(slot::LOG);
    }
    if order.userfault {
        slots.extend([slot::USERFAULT_DEVICE, slot::USERFAULT_SOCKET]);
    }
    slots
}
