//! Files as the process names them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use super::error::{Doing, Result};

/// The root directory of a process.
pub struct Root(OwnedFd);

impl Root {
    pub fn open(pid: i32) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty());
        root.map(Self).doing(|| "open the root directory".into())
    }

    /// Opens an absolute path, which the kernel has told and which hence holds no links. It cannot
    /// lead out of the root, whatever the process has put there.
    pub fn open_path(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let inside =
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat2(
            &self.0,
            path,
            flags,
            Mode::empty(),
            inside,
        )?)
    }

    pub fn stat(&self, path: &[u8]) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open_path(path, OFlags::PATH)?)?)
    }

    /// Opens a regular file for reading. `None` if there is something else.
    pub fn read_file(&self, path: &[u8]) -> io::Result<Option<File>> {
        // Not blocking, should it be a fifo.
        let file = self.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let regular = is_regular(&rustix::fs::fstat(&file)?);
        Ok(regular.then(|| file.into()))
    }
}

pub fn is_regular(stat: &Stat) -> bool {
    file_type(stat) == FileType::RegularFile
}

pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Device and inode as `/proc/PID/maps` has them.
pub fn identity(stat: &Stat) -> ((u32, u32), u64) {
    let device = stat.st_dev;
    let parts = (rustix::fs::major(device), rustix::fs::minor(device));
    (parts, stat.st_ino)
}

pub fn modified_ns(stat: &Stat) -> i64 {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    stat.st_mtime
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

pub fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether a path lies below one of the directories.
pub fn is_below(path: &[u8], directories: &[&str]) -> bool {
    directories.iter().any(|directory| {
        let rest = path.strip_prefix(directory.trim_end_matches('/').as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    })
}

/// For messages.
pub fn show(path: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(path)
}

/// The name of a file that is no longer there, as the kernel writes it.
pub fn deleted(name: &[u8]) -> Option<&[u8]> {
    name.strip_suffix(b" (deleted)")
}
