//! What snapshots need of the kernel.

use std::fs::OpenOptions;
use std::path::Path;

use sandbox::{Check, Status};

/// `MADV_POPULATE_WRITE`, time namespaces and chosen process ids.
const KERNEL: (u32, u32) = (5, 14);
const CAP_SYS_ADMIN: u32 = 21;
const CAP_CHECKPOINT_RESTORE: u32 = 40;
const USERFAULT_DEVICE: &str = "/dev/userfaultfd";

pub fn checks() -> Vec<Check> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(USERFAULT_DEVICE);
    vec![
        kernel(&release),
        time_namespaces(Path::new("/proc/self/ns/time").exists()),
        checkpoint_restore(effective_capabilities(&status)),
        userfault(opened.map(drop)),
    ]
}

fn kernel(release: &str) -> Check {
    let recent = version(release).is_some_and(|version| version >= KERNEL);
    check(
        "snapshots: kernel",
        recent,
        release.to_owned(),
        "functions are cold-started; snapshots of versions that ask for one are refused with a reason",
        "use Linux 5.14 or later",
    )
}

fn time_namespaces(there: bool) -> Check {
    check(
        "snapshots: time namespaces",
        there,
        if there { "there" } else { "not there" }.to_owned(),
        "monotonic clocks of restored functions jump",
        "use a kernel with CONFIG_TIME_NS",
    )
}

/// Not checked further: in a user namespace of its own an environment has it anyway.
fn checkpoint_restore(capabilities: u64) -> Check {
    let held = |bit: u32| capabilities & (1 << bit) != 0;
    let enough = held(CAP_CHECKPOINT_RESTORE) || held(CAP_SYS_ADMIN);
    check(
        "snapshots: CAP_CHECKPOINT_RESTORE",
        enough,
        if enough { "held" } else { "not held" }.to_owned(),
        "some functions cannot be frozen and are cold-started",
        "run firn as root, or give it CAP_CHECKPOINT_RESTORE",
    )
}

fn userfault(opened: std::io::Result<()>) -> Check {
    check(
        "snapshots: userfaultfd",
        opened.is_ok(),
        match opened {
            Ok(()) => format!("{USERFAULT_DEVICE} opens"),
            Err(err) => format!("{USERFAULT_DEVICE}: {err}"),
        },
        "a restore from disk or from a distant store waits until all of the snapshot is in memory",
        "use Linux 6.1 or later with CONFIG_USERFAULTFD, and let firn open the device",
    )
}

fn check(
    name: &'static str,
    works: bool,
    detail: String,
    cost: &'static str,
    remedy: &'static str,
) -> Check {
    Check {
        name,
        status: if works { Status::Ok } else { Status::Degraded },
        detail,
        cost: if works { "" } else { cost },
        remedy: if works { "" } else { remedy },
    }
}

/// Major and minor number of a release such as `6.12.8-cloud`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.12.8-cloud"), Some((6, 12)));
        assert_eq!(version("strange"), None);
        assert_eq!(kernel("5.9.0").status, Status::Degraded);
        assert_eq!(kernel("5.14.0-rc1").status, Status::Ok);
        assert_eq!(kernel("10.2").status, Status::Ok);
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        let held = effective_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n");
        assert_eq!(checkpoint_restore(held).status, Status::Ok);
        assert_eq!(
            checkpoint_restore(effective_capabilities("")).status,
            Status::Degraded
        );
    }

    #[test]
    fn what_works_costs_nothing() {
        assert_eq!(userfault(Ok(())).cost, "");
        let missing = userfault(Err(std::io::ErrorKind::NotFound.into()));
        assert!(!missing.cost.is_empty() && !missing.remedy.is_empty());
    }
}
