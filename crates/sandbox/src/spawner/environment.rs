//! Making, killing and removing one environment, as the spawner does it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, Signal};

use super::{Shared, reap};
use crate::init::{self, Birth, Ids};
use crate::sys::{self, Fork};
use crate::wire::{Doing, Failure};
use crate::{Config, cgroup, wire};

/// The user and group that function code has inside; AWS's numbers.
pub const FUNCTION_UID: u32 = 993;
pub const FUNCTION_GID: u32 = 990;

/// One environment: its init, and the groups of its processes.
#[derive(Debug)]
pub struct Environment {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub slot: u32,
    /// To init, until it is set up; only where it will ask for something.
    pub setup: Option<OwnedFd>,
    pub cell: cgroup::Cell,
}

impl Environment {
    /// Creates the groups and the init, which then sets the rest up by itself and reports to the
    /// server on `control`.
    pub fn create(shared: &Shared, id: u64, slot: u32, control: OwnedFd) -> Result<Self, Failure> {
        shared.host.layout.refresh_resolver();
        let ids = ids(shared, slot)?;
        let owner = ids.host.filter(|_| !shared.host.single_user);
        let mut cell = shared
            .tree
            .make(id, owner)
            .doing(|| "create cgroups".into())?;
        match start(shared, &cell, ids, control) {
            Ok((pid, pidfd, setup)) => {
                cell.release();
                let setup = shared.abilities.egress.then_some(setup);
                Ok(Self {
                    pid,
                    pidfd,
                    slot,
                    setup,
                    cell,
                })
            }
            Err(failure) => {
                cell.remove();
                Err(failure)
            }
        }
    }

    /// Kills everything inside: the kernel does that when a pid namespace loses its init.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.cell.thaw();
    }

    /// Removes what is left of an environment whose end is certain. Once init is reaped nothing
    /// is left inside, so that its groups can be removed.
    pub fn bury(mut self) {
        self.cell.thaw();
        reap(&self.pidfd);
        self.cell.remove();
    }
}

/// Where the range of users begins: as configured, or, in a container that does not have so high
/// numbers, at the end of what it has.
pub fn available_users(config: &Config) -> Result<u32, Failure> {
    let map = fs::read_to_string("/proc/self/uid_map").doing(|| "read the users".into())?;
    let single = !rustix::process::geteuid().is_root();
    if single {
        return Ok(config.uid_base);
    }
    choose_users(&map, config.uid_base, config.max_environments).ok_or_else(|| {
        let text = "this user namespace has too few users for max_environments";
        Failure::new(
            "choose users",
            &io::Error::new(io::ErrorKind::InvalidInput, text),
        )
    })
}

fn choose_users(map: &str, wanted: u32, environments: u32) -> Option<u32> {
    let count = u64::from(environments) * 2;
    let extents: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let first: u64 = fields.next()?.parse().ok()?;
            Some((first, first + fields.nth(1)?.parse::<u64>().ok()?))
        })
        .collect();
    let wanted_end = u64::from(wanted) + count;
    if extents
        .iter()
        .any(|(first, end)| *first <= u64::from(wanted) && wanted_end <= *end)
    {
        return Some(wanted);
    }
    // Below 1000 are the system's own users, at 65534 is nobody.
    extents.iter().rev().find_map(|(first, end)| {
        let end = if (65_534..=65_536).contains(end) {
            65_534
        } else {
            *end
        };
        let base = end.checked_sub(count)?;
        (base >= (*first).max(1000))
            .then(|| u32::try_from(base).ok())
            .flatten()
    })
}

fn ids(shared: &Shared, slot: u32) -> Result<Ids, Failure> {
    let function = Ids {
        init: 0,
        uid: FUNCTION_UID,
        gid: FUNCTION_GID,
        host: None,
        single_user: shared.host.single_user,
        userns: shared.abilities.userns,
    };
    if shared.host.single_user {
        return Ok(Ids {
            init: FUNCTION_UID,
            host: Some(0),
            ..function
        });
    }
    // Two host users per environment: its init and its function, different from those of every
    // other living environment, so that not even a file or process that both could name is shared.
    let host = slot
        .checked_mul(2)
        .and_then(|offset| offset.checked_add(shared.config.uid_base));
    let host = host.filter(|host| *host < u32::MAX - 1);
    let host =
        host.ok_or_else(|| Failure::new("choose a user", &io::ErrorKind::InvalidInput.into()))?;
    if !shared.abilities.userns {
        return Ok(Ids {
            uid: host + 1,
            gid: host + 1,
            ..function
        });
    }
    Ok(Ids {
        host: Some(host),
        ..function
    })
}

fn start(
    shared: &Shared,
    cell: &cgroup::Cell,
    ids: Ids,
    control: OwnedFd,
) -> Result<(Pid, OwnedFd, OwnedFd), Failure> {
    let (ours, theirs) = wire::pair().doing(|| "create a socket pair".into())?;
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if ids.userns {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let group = cell.init.as_ref().map(AsFd::as_fd);
    let forked = shared.host.in_template(|| {
        // SAFETY: the spawner has one thread, see `spawner_main`.
        match unsafe { sys::fork(namespaces, group, None) } {
            Ok(Fork::Child) => init::run(Birth {
                shared,
                cell,
                ids,
                control,
                spawner: theirs,
            }),
            other => other,
        }
    });
    let Fork::Parent { pid, pidfd } = forked.doing(|| "create a process".into())? else {
        unreachable!("the child never returns from init::run");
    };
    let ready = if ids.userns {
        map_users(pid, ids)
    } else {
        Ok(())
    };
    let ready = ready.and_then(|()| {
        wire::send_packet(&ours, b"go", &[]).doing(|| "start the new process".into())
    });
    if ready.is_err() {
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        reap(&pidfd);
    }
    ready.map(|()| (pid, pidfd, ours))
}

/// Says who the users inside are on the host.
fn map_users(pid: Pid, ids: Ids) -> Result<(), Failure> {
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/{}/{file}", pid.as_raw_nonzero()), text)
            .doing(|| format!("write {file}"))
    };
    let host = ids.host.unwrap_or_default();
    if ids.single_user {
        write("setgroups", "deny".into())?;
        write("uid_map", format!("{} {host} 1", ids.uid))?;
        return write("gid_map", format!("{} {host} 1", ids.gid));
    }
    write("uid_map", format!("0 {host} 1\n{} {} 1", ids.uid, host + 1))?;
    write("gid_map", format!("0 {host} 1\n{} {} 1", ids.gid, host + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_from_the_configured_range_where_it_exists() {
        assert_eq!(
            choose_users("0 0 4294967295", 1_900_000_000, 4096),
            Some(1_900_000_000)
        );
    }

    #[test]
    fn a_container_gives_the_end_of_its_range() {
        let container = "         0     100000      65536\n";
        assert_eq!(
            choose_users(container, 1_900_000_000, 4096),
            Some(65_534 - 8192)
        );
        assert_eq!(choose_users("0 1000 1", 1_900_000_000, 4096), None);
        assert_eq!(choose_users("nonsense", 1_900_000_000, 4096), None);
    }
}
