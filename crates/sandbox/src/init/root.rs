//! The root file system of one environment.
//!
//! A small tmpfs that only init ever writes, with the template's mounts in it. It is read-only when
//! function code sees it. What can be done before anybody waits is done before: `/tmp` is there
//! with the usual size, and so are the usual mount points.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Component, Path};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::Ids;
use crate::spawner::{Layout, NEW_ROOT, hosts};
use crate::sys;
use crate::wire::{Doing, Enter, Failure};

const DIRECTORIES: &[&str] = &["opt", "proc", "tmp", "var/task", "var/runtime", "run"];
const TMPFS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const SHM_BYTES: u64 = 64 << 20;
/// What Lambda gives a function that asks for nothing else.
const TMP_BYTES: u64 = 512 << 20;

/// Files of `/proc` that tell about, or act on, the machine rather than the environment.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "cmdline",
    "driver",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "pressure",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "sysvipc",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];
/// Parts of `/proc` that programs read and nobody may write.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "mtrr", "sys", "tty"];

/// Builds the root and makes it this process's only one.
pub fn build(layout: &Layout, ids: Ids) -> Result<(), Failure> {
    // What is made here is meant to be seen by the function's user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let options = c"mode=755,size=1m,nr_inodes=1k";
    rustix::mount::mount("tmpfs", NEW_ROOT, "tmpfs", TMPFS, Some(options))
        .doing(|| "mount the root".into())?;
    std::env::set_current_dir(NEW_ROOT).doing(|| "enter the root".into())?;
    for directory in DIRECTORIES {
        fs::create_dir_all(directory).doing(|| format!("create /{directory}"))?;
    }
    for path in &layout.directories {
        attach_copy(path)?;
    }
    for (path, target) in &layout.links {
        let path = path.trim_start_matches('/');
        if let Some(parent) = Path::new(path).parent() {
            fs::create_dir_all(parent).doing(|| format!("create the directory of /{path}"))?;
        }
        symlink(target, path).doing(|| format!("link /{path}"))?;
    }
    // Programs see only what their own user runs: not this init, and through it nothing.
    let flags = TMPFS | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "proc", "proc", flags, Some(c"hidepid=2"))
        .doing(|| "mount /proc".into())?;
    mount_tmpfs("dev/shm", SHM_BYTES, ids)?;
    mount_tmpfs("tmp", TMP_BYTES, ids)?;
    rustix::process::pivot_root(".", ".").doing(|| "make it the root".into())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "leave the template".into())?;
    std::env::set_current_dir("/").doing(|| "enter the root".into())
}

/// A copy of one of the template's trees at the same place in the new root.
fn attach_copy(path: &str) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags).doing(|| format!("copy {path}"))?;
    let mut protection = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID;
    if matches!(path, "/dev" | "/etc" | "/sys") {
        protection |= libc::MOUNT_ATTR_NOEXEC;
    }
    if path != "/dev" {
        protection |= libc::MOUNT_ATTR_NODEV;
    }
    sys::mount_setattr(tree.as_fd(), true, protection).doing(|| format!("protect {path}"))?;
    let relative = path.trim_start_matches('/');
    fs::create_dir_all(relative).doing(|| format!("create {path}"))?;
    attach(&tree, relative)
}

fn attach(mount: &OwnedFd, target: &str) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, target, flags).doing(|| format!("mount {target}"))
}

/// Inodes cost kernel memory that the size does not count; one per 16 KiB is ext4's ratio.
fn capacity(bytes: u64) -> String {
    format!("size={bytes},nr_inodes={}", (bytes >> 14).max(1024))
}

fn resize_tmpfs(target: &str, bytes: u64) -> Result<(), Failure> {
    let options = std::ffi::CString::new(capacity(bytes)).map_err(io::Error::from);
    let options = options.doing(|| "describe a tmpfs".into())?;
    rustix::mount::mount_remount(target, TMPFS, options.as_c_str())
        .doing(|| format!("resize {target}"))
}

fn mount_tmpfs(target: &str, bytes: u64, ids: Ids) -> Result<(), Failure> {
    let options = format!(
        "mode=1777,{},uid={},gid={}",
        capacity(bytes),
        ids.uid,
        ids.gid
    );
    let options = std::ffi::CString::new(options).map_err(io::Error::from);
    let options = options.doing(|| "describe a tmpfs".into())?;
    rustix::mount::mount("tmpfs", target, "tmpfs", TMPFS, Some(options.as_c_str()))
        .doing(|| format!("mount {target}"))
}

/// Hides or write-protects what concerns the whole machine.
pub fn protect_proc() -> Result<(), Failure> {
    fs::DirBuilder::new()
        .mode(0o555)
        .create("/run/empty")
        .doing(|| "create a directory".into())?;
    for name in MASKED {
        let path = format!("/proc/{name}");
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        // Function code is never the owner, and each mount costs time.
        if found.mode() & 0o007 == 0 {
            continue;
        }
        let cover = if found.is_dir() {
            "/run/empty"
        } else {
            "/dev/null"
        };
        cover_with(cover, &path, found.is_dir())?;
    }
    for name in READ_ONLY {
        let path = format!("/proc/{name}");
        if fs::symlink_metadata(&path).is_ok() {
            cover_with(&path, &path, true)?;
        }
    }
    Ok(())
}

fn cover_with(cover: &str, path: &str, read_only: bool) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, cover, flags).doing(|| format!("cover {path}"))?;
    if read_only {
        sys::mount_setattr(tree.as_fd(), false, libc::MOUNT_ATTR_RDONLY)
            .doing(|| format!("protect {path}"))?;
    }
    attach(&tree, path)
}

/// Closes the root for writing.
pub fn seal() -> Result<(), Failure> {
    let root = File::open("/").doing(|| "open the root".into())?;
    sys::mount_setattr(root.as_fd(), false, libc::MOUNT_ATTR_RDONLY)
        .doing(|| "make the root read-only".into())
}

fn unseal() -> Result<(), Failure> {
    let root = File::open("/").doing(|| "open the root".into())?;
    sys::mount_clearattr(root.as_fd(), libc::MOUNT_ATTR_RDONLY)
        .doing(|| "make the root writable".into())
}

/// Gives the environment what distinguishes it from the others.
pub fn enter(enter: &Enter, mounts: Vec<OwnedFd>) -> Result<(), Failure> {
    if mounts.len() != enter.targets.len() {
        return Err(Failure::new(
            "match mounts with targets",
            &io::ErrorKind::InvalidData.into(),
        ));
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (target, mount) in enter.targets.iter().zip(mounts) {
        match groups.iter_mut().find(|(known, _)| known == target) {
            Some((_, layers)) => layers.push(mount),
            None => groups.push((target, vec![mount])),
        }
    }
    let writes = !enter.hosts.is_empty() || !groups.iter().all(|group| has_place(group, &groups));
    if writes {
        unseal()?;
    }
    for (target, layers) in &groups {
        check_target(target)?;
        match layers.as_slice() {
            [single] => attach_at(single, target)?,
            _ => attach_merged(layers, target)?,
        }
    }
    if enter.tmp_bytes != TMP_BYTES {
        resize_tmpfs("/tmp", enter.tmp_bytes)?;
    }
    if enter.hostname != "sandbox" {
        rustix::system::sethostname(enter.hostname.as_bytes())
            .doing(|| "set the host name".into())?;
    }
    if !enter.hosts.is_empty() {
        write_hosts(&enter.hosts)?;
    }
    if writes { seal() } else { Ok(()) }
}

type Group<'a> = (&'a str, Vec<OwnedFd>);

/// Whether mounting needs nothing made in the root: the mount point is a usual one, or lies in
/// another mount.
fn has_place((target, layers): &Group<'_>, groups: &[Group<'_>]) -> bool {
    let target = Path::new(target);
    let usual = |path: &&str| target == Path::new("/").join(path);
    let within = |(other, _): &Group<'_>| target != Path::new(other) && target.starts_with(other);
    layers.len() == 1 && (DIRECTORIES.iter().any(usual) || groups.iter().any(within))
}

/// Targets come from the server, but a mistake there should not mount over `/proc`.
fn check_target(target: &str) -> Result<(), Failure> {
    let plain = Path::new(target)
        .components()
        .skip(1)
        .all(|c| matches!(c, Component::Normal(_)));
    let first = target
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    // These separate the parts of an overlay's description.
    let plain = plain && !target.contains([':', ',', '\\']);
    let reserved = matches!(first, "" | "proc" | "dev" | "sys" | "tmp" | "etc" | "run");
    if plain && target.starts_with('/') && !reserved {
        return Ok(());
    }
    let err = io::Error::new(io::ErrorKind::InvalidInput, "not a place for mounts");
    Err(Failure::new(format!("mount at {target}"), &err))
}

fn attach_at(mount: &OwnedFd, target: &str) -> Result<(), Failure> {
    let found = rustix::fs::fstat(mount).doing(|| format!("examine the source of {target}"))?;
    if rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
        fs::create_dir_all(target).doing(|| format!("create {target}"))?;
    } else if !Path::new(target).exists() {
        if let Some(parent) = Path::new(target).parent() {
            fs::create_dir_all(parent).doing(|| format!("create the directory of {target}"))?;
        }
        File::create(target).doing(|| format!("create {target}"))?;
    }
    attach(mount, target)
}

/// Several directories as one; of files with one name the last mount's is seen.
fn attach_merged(layers: &[OwnedFd], target: &str) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("/run/layers{}/{number}", target.replace('/', "-"));
        attach_at(layer, &path)?;
        paths.push(path);
    }
    // The overlay's own order is the topmost first.
    paths.reverse();
    let options = std::ffi::CString::new(format!("lowerdir={},userxattr", paths.join(":")));
    let options = options
        .map_err(io::Error::from)
        .doing(|| format!("describe {target}"))?;
    fs::create_dir_all(target).doing(|| format!("create {target}"))?;
    let flags = TMPFS | MountFlags::RDONLY;
    rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        flags,
        Some(options.as_c_str()),
    )
    .doing(|| format!("merge the layers of {target}"))?;
    // The overlay holds on to them; nobody needs the names any more.
    for path in paths {
        let _ = rustix::mount::unmount(&*path, UnmountFlags::DETACH);
    }
    Ok(())
}

fn write_hosts(further: &[(std::net::IpAddr, String)]) -> Result<(), Failure> {
    fs::write("/run/hosts", hosts(further)).doing(|| "write the hosts file".into())?;
    cover_with("/run/hosts", "/etc/hosts", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_go_only_where_they_cannot_do_harm() {
        for good in ["/var/task", "/opt", "/var/lang/lib", "/usr/lib/x"] {
            assert!(check_target(good).is_ok(), "{good}");
        }
        for bad in [
            "/",
            "",
            "opt",
            "/proc/self",
            "/tmp",
            "/etc/passwd",
            "/opt/../etc",
            "/dev/shm",
            "/o:p",
        ] {
            assert!(check_target(bad).is_err(), "{bad}");
        }
    }
}
