//! Learns of changes below a folder, from the kernel (inotify).
//!
//! An event is in the kernel's queue before the write that caused it returns, so that whoever reads
//! the queue knows of all that was saved until then. Where the kernel has no watch left to give,
//! the answer is always "perhaps".

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::is_of_packages;
use crate::package::ignore::Rules;

/// How often to look where the kernel gives no watch.
const LOOK: Duration = Duration::from_millis(500);
const MAX_DEPTH: usize = 64;
const EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

#[derive(Debug)]
pub struct Watch {
    queue: AsyncFd<OwnedFd>,
    root: PathBuf,
    /// Built code, whose changes count for nothing.
    output: Option<PathBuf>,
    watched: HashMap<i32, PathBuf>,
    /// Whether some folder could not be watched.
    blind: bool,
    changed: bool,
    /// Whether all that changed was written by a package manager.
    only_packages: bool,
}

impl Watch {
    pub fn new(root: &Path, output: Option<&Path>) -> Result<Self> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).context("cannot watch files")?;
        let absolute = |path: &Path| {
            std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))
        };
        let root = absolute(root)?;
        let output = output.map(absolute).transpose()?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types whose descriptor can change; an \
                      OwnedFd's cannot"
        )]
        let queue = AsyncFd::new(queue).context("cannot watch files")?;
        Ok(Self {
            queue,
            output: output.filter(|output| *output != root),
            root,
            watched: HashMap::new(),
            blind: false,
            changed: false,
            only_packages: true,
        })
    }

    /// Watches all folders that there are now. To be called before they are read, so that what comes
    /// later is a change.
    pub fn follow(&mut self) -> Result<()> {
        let ignored = std::fs::read_to_string(self.root.join(".firnignore")).unwrap_or_default();
        let rules = Rules::new(&ignored);
        let mut folders = vec![(self.root.clone(), String::new(), 0)];
        self.blind = false;
        while let Some((folder, prefix, depth)) = folders.pop() {
            match inotify::add_watch(self.queue.as_fd(), &folder, EVENTS) {
                Ok(number) => drop(self.watched.insert(number, folder.clone())),
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::MFILE) => self.blind = true,
                // Removed since it was listed.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
                Err(err) => {
                    return Err(err).with_context(|| format!("cannot watch {}", folder.display()));
                }
            }
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let (path, name) = (entry.path(), format!("{prefix}{name}"));
                let is_folder = std::fs::metadata(&path).is_ok_and(|found| found.is_dir());
                let own_output = self.output.as_deref() == Some(&path);
                if is_folder && !own_output && depth < MAX_DEPTH && !rules.excludes(&name, true) {
                    folders.push((path, format!("{name}/"), depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Resolves when something has changed.
    pub async fn changed(&mut self) -> Result<()> {
        if self.read()? {
            return Ok(());
        }
        loop {
            if self.blind {
                tokio::time::sleep(LOOK).await;
                self.changed = true;
                self.only_packages = false;
                return Ok(());
            }
            let mut ready = self.queue.readable().await?;
            ready.clear_ready();
            drop(ready);
            if self.read()? {
                return Ok(());
            }
        }
    }

    /// Whether something has changed, without waiting.
    pub fn has_changed(&mut self) -> Result<bool> {
        Ok(self.read()? || self.changed || self.blind)
    }

    pub const fn only_packages_changed(&self) -> bool {
        self.only_packages
    }

    /// What has changed so far is being looked at.
    pub const fn settle(&mut self) {
        self.changed = false;
        self.only_packages = true;
    }

    /// Drops what has happened so far.
    pub fn forget(&mut self) -> Result<()> {
        self.read()?;
        self.settle();
        Ok(())
    }

    /// Empties the queue; true if it told of a change.
    fn read(&mut self) -> Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(self.queue.get_ref().as_fd(), &mut buffer);
        let mut any = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(err) => return Err(io::Error::from(err)).context("cannot read of changes"),
            };
            if event.events().contains(ReadFlags::IGNORED) {
                self.watched.remove(&event.wd());
                continue;
            }
            let folder = self.watched.get(&event.wd());
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            let path = folder.map(|folder| match name {
                Some(name) => folder.join(name),
                None => folder.clone(),
            });
            if path.is_some() && path == self.output {
                continue;
            }
            any = true;
            // The queue has overflowed when there is no folder: anything may have happened.
            self.only_packages &= path.is_some_and(|path| is_of_packages(&path));
        }
        self.changed |= any;
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn watching(root: &Path, output: Option<&Path>) -> Watch {
        let mut watch = Watch::new(root, output).unwrap();
        watch.follow().unwrap();
        watch
    }

    #[tokio::test]
    async fn what_was_saved_is_known_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("lib");
        fs::create_dir(&inner).unwrap();
        let mut watch = watching(directory.path(), None);
        assert!(!watch.has_changed().unwrap());
        fs::write(inner.join("a.py"), "x").unwrap();
        assert!(watch.has_changed().unwrap());
        assert!(!watch.only_packages_changed());
        watch.settle();
        assert!(!watch.has_changed().unwrap());
        fs::rename(inner.join("a.py"), inner.join("b.py")).unwrap();
        watch.changed().await.unwrap();
    }

    #[tokio::test]
    async fn folders_that_come_later_are_watched_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = watching(directory.path(), None);
        let packages = directory.path().join("node_modules");
        fs::create_dir(&packages).unwrap();
        assert!(watch.has_changed().unwrap());
        watch.settle();
        watch.follow().unwrap();
        fs::write(packages.join("index.js"), "x").unwrap();
        assert!(watch.has_changed().unwrap() && watch.only_packages_changed());
    }

    #[tokio::test]
    async fn version_control_and_built_code_are_not_watched() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".git", "dist"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let output = directory.path().join("dist");
        let mut watch = watching(directory.path(), Some(&output));
        fs::write(directory.path().join(".git/index"), "x").unwrap();
        fs::write(output.join("index.js"), "x").unwrap();
        assert!(!watch.has_changed().unwrap());
    }
}
