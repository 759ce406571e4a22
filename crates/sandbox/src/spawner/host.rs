//! The spawner's two mount namespaces.
//!
//! *Host view*: a copy of the host's mounts that follows the host's changes. The spawner lives in
//! it; cgroups, device nodes and the sources of mounts are reached through it.
//!
//! *Template*: a few mounts that environments start from. A new environment copies this one
//! instead of the host's: that is faster on hosts with many mounts, and the host's file system is
//! never in an environment's namespace, not even while it is being set up.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags};
use rustix::thread::LinkNameSpaceType;

use super::template::{self, Layout};
use crate::wire::{Doing, Failure};
use crate::{Config, sys};

/// See the module's description.
pub struct Host {
    host: File,
    template: File,
    /// What is in the template.
    pub layout: Layout,
    /// The server's own user is the only one available: no second one to tell init and function
    /// apart, nor one environment from another.
    pub single_user: bool,
    /// Whether user namespaces can be made.
    pub userns: Result<(), Failure>,
}

impl Host {
    /// Splits the namespaces off. The caller ends up in the host view.
    pub fn enter(config: &Config) -> Result<Self, Failure> {
        let single_user = !rustix::process::geteuid().is_root();
        if single_user {
            become_root_of_own_namespace()?;
        }
        new_mount_namespace(MountPropagationFlags::DOWNSTREAM)?;
        let host = current_namespace()?;
        new_mount_namespace(MountPropagationFlags::PRIVATE)?;
        let layout = template::build(config)?;
        let template = current_namespace()?;
        let mut this = Self {
            host,
            template,
            layout,
            single_user,
            userns: Ok(()),
        };
        this.userns = this.in_template(try_user_namespace);
        this.go(&this.host)
            .doing(|| "return to the host's mounts".into())?;
        Ok(this)
    }

    /// Does something as seen from the template.
    pub fn in_template<T>(&self, action: impl FnOnce() -> T) -> T {
        // Working on in the wrong namespace would be worse than ending here.
        if self.go(&self.template).is_err() {
            sys::exit_now(70);
        }
        let result = action();
        if self.go(&self.host).is_err() {
            sys::exit_now(70);
        }
        result
    }

    fn go(&self, namespace: &File) -> rustix::io::Result<()> {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
    }
}

/// Opens a path of the host as a detached mount that nothing can be written through, no matter
/// who could reach the path itself.
pub fn open_source(source: &str) -> Result<OwnedFd, Failure> {
    open_read_only(source, false).doing(|| format!("open {source}"))
}

/// As [`open_source`], with what is mounted below when `recursive`.
pub fn open_read_only(source: &str, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = rustix::mount::open_tree(CWD, source, flags)?;
    let protection = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::mount_setattr(mount.as_fd(), recursive, protection)?;
    Ok(mount)
}

/// Without privileges: a user namespace in which this user is root, and so may mount.
fn become_root_of_own_namespace() -> Result<(), Failure> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    // SAFETY: the spawner has one thread, see `spawner_main`.
    unsafe { sys::unshare(libc::CLONE_NEWUSER) }.doing(|| "create a user namespace".into())?;
    for (file, text) in [
        // Required before a group may be mapped without privileges.
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).doing(|| format!("write {file}"))?;
    }
    Ok(())
}

fn new_mount_namespace(propagation: MountPropagationFlags) -> Result<(), Failure> {
    // SAFETY: the spawner has one thread, see `spawner_main`.
    unsafe { sys::unshare(libc::CLONE_NEWNS) }.doing(|| "create a mount namespace".into())?;
    rustix::mount::mount_change("/", propagation | MountPropagationFlags::REC)
        .doing(|| "separate its mounts from the host's".into())
}

fn current_namespace() -> Result<File, Failure> {
    File::open("/proc/self/ns/mnt").doing(|| "open the mount namespace".into())
}

fn try_user_namespace() -> Result<(), Failure> {
    // SAFETY: the spawner has one thread, see `spawner_main`.
    match unsafe { sys::fork(libc::CLONE_NEWUSER, None, None) } {
        Ok(sys::Fork::Child) => sys::exit_now(0),
        Ok(sys::Fork::Parent { pidfd, .. }) => {
            super::reap(&pidfd);
            Ok(())
        }
        Err(err) => Err(Failure::new("create a user namespace", &err)),
    }
}
