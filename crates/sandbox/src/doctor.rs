//! Which protections this host can give, and what the absent ones cost.

use std::os::fd::{AsFd, OwnedFd};

use crate::wire::{Abilities, Failure, FromInit, FromSpawner, ToSpawner};
use crate::{Config, Relaxations, cgroup, sandboxes, wire};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The feature, in a few words.
    pub name: &'static str,
    /// Whether it works here.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What its absence costs; empty when it works.
    pub cost: &'static str,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: &'static str,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Works.
    Ok,
    /// A weaker or slower substitute is used.
    Degraded,
    /// Does not work; the server starts only with the flag that the remedy names.
    Missing,
}

/// Examines the host by starting a spawner that accepts everything missing. Creates and removes a
/// few processes, mounts and cgroups; takes some milliseconds.
pub fn doctor() -> Vec<Check> {
    let config = Config {
        allow: Relaxations::ALL,
        pool_size: 0,
        ..Config::default()
    };
    match sandboxes::launch(&config) {
        Ok((mut child, control, abilities)) => {
            let tried = trial(&control);
            drop(control);
            let _ = child.wait();
            let mut checks = checks(&abilities);
            checks.insert(0, tried);
            checks
        }
        Err(err) => vec![Check {
            name: "spawner",
            status: Status::Missing,
            detail: err.to_string(),
            cost: "no function can run",
            remedy: "run as root, or allow unprivileged user namespaces \
                     (sysctl kernel.unprivileged_userns_clone=1, \
                     kernel.apparmor_restrict_unprivileged_userns=0)",
        }],
    }
}

/// Makes one environment.
fn trial(control: &OwnedFd) -> Check {
    let name = "environments";
    let attempt = || -> std::io::Result<Result<(), Failure>> {
        let (ours, theirs) = wire::pair()?;
        wire::send(
            control,
            &ToSpawner::Create { id: 1, slot: 0 },
            &[theirs.as_fd()],
        )?;
        drop(theirs);
        let mut buffer = vec![0; wire::MAX_REPLY];
        if let Some((FromSpawner::NotCreated { failure, .. }, _)) =
            wire::receive(control, &mut buffer)?
        {
            return Ok(Err(failure));
        }
        match wire::receive(&ours, &mut buffer)? {
            Some((FromInit::Ready, _)) => Ok(Ok(())),
            Some((FromInit::NotReady(failure), _)) => Ok(Err(failure)),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    };
    let detail = match attempt() {
        Ok(Ok(())) => return ok(name, "one was made and ended"),
        Ok(Err(failure)) => format!("{}: {}", failure.action, failure.cause),
        Err(err) => err.to_string(),
    };
    Check {
        name,
        status: Status::Missing,
        detail,
        cost: "no function can run",
        remedy: "in a container, /proc must not be masked and mounting must be allowed \
                 (docker: `--security-opt systempaths=unconfined --cap-add SYS_ADMIN`, and a \
                 seccomp profile that permits it)",
    }
}

/// Says what a spawner found.
pub(crate) fn checks(abilities: &Abilities) -> Vec<Check> {
    vec![
        users(abilities),
        limits(abilities),
        freezer(abilities),
        filter(abilities),
        egress(abilities),
        scratch(),
    ]
}

fn ok(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        name,
        status: Status::Ok,
        detail: detail.into(),
        cost: "",
        remedy: "",
    }
}

fn users(abilities: &Abilities) -> Check {
    let name = "user namespaces";
    if !abilities.userns {
        return Check {
            name,
            status: Status::Missing,
            detail: "cannot be created".into(),
            cost: "environments are separated by user ids only; their init is the host's root",
            remedy: "sysctl user.max_user_namespaces=65536, or accept it with `no_userns`",
        };
    }
    if abilities.single_user {
        return Check {
            name,
            status: Status::Degraded,
            detail: "work, with the server's own user as the only one".into(),
            cost: "all environments run as one host user; namespaces alone separate them",
            remedy: "start the server as root, which then runs nothing foreign as root",
        };
    }
    ok(name, "work, every environment has host users of its own")
}

fn limits(abilities: &Abilities) -> Check {
    let name = "memory and process limits";
    match abilities.cgroup {
        cgroup::Kind::V2 => ok(name, "cgroup v2"),
        cgroup::Kind::V1 => ok(name, "cgroup v1"),
        cgroup::Kind::None => Check {
            name,
            status: Status::Missing,
            detail: match abilities.notes.as_slice() {
                [] => "no cgroup is mounted".into(),
                notes => notes.join("; "),
            },
            cost: "MemorySize is not enforced; a function can exhaust the host's memory",
            remedy: "start as root, or under systemd with `Delegate=yes`, or accept it with \
                     `no_cgroup`",
        },
    }
}

fn freezer(abilities: &Abilities) -> Check {
    let name = "freezing between invocations";
    match abilities.freezer {
        cgroup::Freezer::V2 => ok(name, "cgroup v2"),
        cgroup::Freezer::V1 => ok(name, "cgroup v1"),
        cgroup::Freezer::Signals => Check {
            name,
            status: Status::Missing,
            detail: "SIGSTOP stands in".into(),
            cost: "functions can notice that they were stopped, and parents of their processes too",
            remedy: "start as root, or under systemd with `Delegate=yes`, or accept it with \
                     `no_freezer`",
        },
    }
}

fn filter(abilities: &Abilities) -> Check {
    let name = "system call filter";
    if abilities.seccomp {
        return ok(name, "seccomp, allow-list");
    }
    Check {
        name,
        status: Status::Missing,
        detail: "the kernel was built without it".into(),
        cost: "functions reach the whole interface of the kernel",
        remedy: "use a kernel with CONFIG_SECCOMP_FILTER, or accept it with `no_seccomp`",
    }
}

fn egress(abilities: &Abilities) -> Check {
    let name = "network access of functions";
    if abilities.egress {
        let mut check = ok(name, "IPv4, translated by the host");
        check
            .detail
            .push_str("; another packet filter on the host may still stop it");
        return check;
    }
    Check {
        name,
        status: Status::Degraded,
        detail: abilities.egress_detail.clone(),
        cost: "functions reach this server only, not the network",
        remedy: "start as root on a kernel with veth and nf_tables, with `egress` not `deny`",
    }
}

fn scratch() -> Check {
    Check {
        name: "/tmp of functions",
        status: Status::Degraded,
        detail: "in memory (tmpfs), of exactly the configured size".into(),
        cost: "what a function keeps in /tmp counts against its MemorySize",
        remedy: "give functions that write large files more memory",
    }
}
