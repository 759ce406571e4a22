//! Restoring what a frozen process had in `/tmp` and `/dev/shm`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use snapshot::{ScratchContent, ScratchEntry};

use super::Ids;
use crate::sys;
use crate::wire::{Doing, Failure};

/// Where scratch files can be.
const ROOTS: [&str; 2] = ["/tmp", "/dev/shm"];
const COPIED_AT_ONCE: usize = 1 << 20;

/// Makes the files, as the function's user. Links that are among them lead nowhere while this
/// runs: no step follows one.
pub fn restore(list: OwnedFd, pages: BorrowedFd<'_>, ids: Ids) -> Result<(), Failure> {
    let bytes = read_whole(&File::from(list)).doing(|| "read the list of scratch files".into())?;
    let entries = snapshot::decode_scratch(&bytes);
    let entries = entries
        .ok_or_else(invalid)
        .doing(|| "read the list of scratch files".into())?;
    let pages = pages
        .try_clone_to_owned()
        .map(File::from)
        .doing(|| "open the page file".into())?;
    sys::set_file_user(ids.uid, ids.gid);
    let made = entries.iter().try_for_each(|entry| {
        make(entry, &pages).doing(|| format!("restore {}", String::from_utf8_lossy(&entry.path)))
    });
    // Directories last: making what is in them needs the right to, and changes their times.
    let timed = entries
        .iter()
        .rev()
        .try_for_each(|entry| finish(entry).doing(|| "set a file's mode and time".into()));
    sys::set_file_user(ids.init, super::group_of_init(ids));
    made.and(timed)
}

/// Without using the descriptor's position, which all environments of one image share.
fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| invalid())?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// The open directory that is to hold the entry, and its name there.
fn parent(entry: &ScratchEntry) -> io::Result<(OwnedFd, &OsStr)> {
    let path = Path::new(OsStr::from_bytes(&entry.path));
    let root = ROOTS.iter().find(|root| path.starts_with(root));
    let root = *root.ok_or_else(invalid)?;
    let name = path.file_name().ok_or_else(invalid)?;
    let parent = path
        .parent()
        .and_then(|parent| parent.strip_prefix(root).ok())
        .ok_or_else(invalid)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags | OFlags::NOFOLLOW, Mode::empty())?;
    if parent.as_os_str().is_empty() {
        return Ok((root, name));
    }
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = rustix::fs::openat2(&root, parent, flags, Mode::empty(), within)?;
    Ok((parent, name))
}

fn make(entry: &ScratchEntry, pages: &File) -> io::Result<()> {
    let (parent, name) = parent(entry)?;
    match &entry.content {
        ScratchContent::Directory => rustix::fs::mkdirat(&parent, name, Mode::RWXU)?,
        ScratchContent::Link(target) => {
            rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name)?;
        }
        ScratchContent::File { len, offset } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy(pages, *offset, &File::from(file), *len)?;
        }
    }
    Ok(())
}

fn copy(pages: &File, offset: u64, to: &File, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let mut done = 0;
    while done < len {
        let step = usize::try_from(len - done).unwrap_or(usize::MAX);
        let buffer = &mut buffer[..step.min(COPIED_AT_ONCE)];
        pages.read_exact_at(buffer, offset + done)?;
        to.write_all_at(buffer, done)?;
        done += buffer.len() as u64;
    }
    Ok(())
}

fn finish(entry: &ScratchEntry) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let (parent, name) = parent(entry)?;
    if !matches!(entry.content, ScratchContent::Link(_)) {
        // No set-user-id bit comes out of an image.
        let mode = Mode::from_raw_mode(entry.mode & 0o1777);
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
    }
    let time = Timespec {
        tv_sec: entry.modified_ns.div_euclid(SECOND),
        tv_nsec: entry.modified_ns.rem_euclid(SECOND),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(parent.as_fd(), name, &times, flags)?)
}
