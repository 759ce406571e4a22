//! Open files, sockets and the like.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;

use super::error::{Doing, Result, unsupported};
use super::events;
use super::objects::Objects;
use super::pipes::Pipes;
use super::root::{self, Root};
use super::sockets::{self, Sockets};
use super::tracee::Tracee;
use super::{FreezeOptions, proc, sys};
use crate::{Description, Descriptor, Kind, Pipe};

/// Numbers from here on belong to the thaw.
const FIRST_RESERVED: i32 = 900;

pub struct Descriptors {
    pub descriptors: Vec<Descriptor>,
    pub descriptions: Vec<Description>,
    pub pipes: Vec<Pipe>,
}

/// What is known about one descriptor without touching it.
pub struct Open {
    pub fd: i32,
    /// Where `/proc/PID/fd/N` leads.
    pub target: Vec<u8>,
    pub info: Info,
}

impl Open {
    /// A refusal: `descriptor 7 is ...`.
    pub fn refuse<T>(&self, what: &str) -> Result<T> {
        unsupported(format!("descriptor {} {what}", self.fd))
    }

    /// The number in `pipe:[123]`.
    pub fn inode(&self) -> Option<u64> {
        let text = std::str::from_utf8(&self.target).ok()?;
        text.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
    }
}

/// `/proc/PID/fdinfo/N`.
pub struct Info(String);

impl Info {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines(key).next()
    }

    /// The values of all lines with this key.
    pub fn lines(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim())
        })
    }

    /// Lines that begin with a word instead of a key.
    pub fn records(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0
            .lines()
            .filter_map(move |line| line.strip_prefix(word))
    }

    fn flags(&self) -> u32 {
        let octal = |text| u32::from_str_radix(text, 8).ok();
        self.get("flags").and_then(octal).unwrap_or(0)
    }

    fn position(&self) -> u64 {
        self.get("pos")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }
}

const CLOEXEC: u32 = libc::O_CLOEXEC.cast_unsigned();
/// Also set in what `F_GETFL` gives, without a meaning.
const LARGEFILE: u32 = 0o100_000;

pub fn collect(
    tracee: &Tracee,
    root: &Root,
    options: &FreezeOptions<'_>,
    objects: &mut Objects,
) -> Result<Descriptors> {
    let open = list(tracee.pid)?;
    let (descriptors, first) = group(tracee.pid, &open)?;
    let sockets = Sockets::collect(tracee, &open)?;
    let mut pipes = Pipes::new(&open, options.externals);
    let mut descriptions = Vec::new();
    for at in first {
        let open_file = &open[at];
        let kind = match &*open_file.target {
            target if target.starts_with(b"/") => path(tracee, root, open_file, options, objects)?,
            target if target.starts_with(b"pipe:") => pipes.kind(tracee, open_file)?,
            target if target.starts_with(b"socket:") => {
                sockets::kind(tracee, open_file, &sockets, options.local_listeners)?
            }
            target if target.starts_with(b"anon_inode:") => {
                events::kind(tracee, open_file, &open, root, options.scratch)?
            }
            target => {
                let what = format!("is {}, which is not supported", root::show(target));
                return open_file.refuse(&what);
            }
        };
        descriptions.push(Description {
            flags: open_file.info.flags() & !(CLOEXEC | LARGEFILE),
            kind,
        });
    }
    Ok(Descriptors {
        descriptors,
        descriptions,
        pipes: pipes.list,
    })
}

/// All descriptors, ascending.
fn list(pid: i32) -> Result<Vec<Open>> {
    let path = format!("/proc/{pid}/fd");
    let entries = std::fs::read_dir(&path).doing(|| format!("list {path}"))?;
    let mut numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let open = |fd: i32| {
        let info = proc::read(pid, &format!("fdinfo/{fd}"))?;
        let open = Open {
            fd,
            target: proc::link(pid, &format!("fd/{fd}"))?,
            info: Info(String::from_utf8_lossy(&info).into_owned()),
        };
        if fd >= FIRST_RESERVED {
            return open.refuse(&format!("has a number over {}", FIRST_RESERVED - 1));
        }
        if open.info.get("lock").is_some() {
            return open.refuse(&format!("holds a lock on {}", root::show(&open.target)));
        }
        if open.info.flags() & libc::O_ASYNC.cast_unsigned() != 0 {
            return open.refuse("sends signals when it is ready");
        }
        Ok(open)
    };
    numbers.into_iter().map(open).collect()
}

/// Finds out which descriptors are one open file description. Returns the descriptors, and for
/// each description the place of its first descriptor.
fn group(pid: i32, open: &[Open]) -> Result<(Vec<Descriptor>, Vec<usize>)> {
    let mut first: Vec<usize> = Vec::new();
    let mut alike: HashMap<(&[u8], u32), Vec<u32>> = HashMap::new();
    let mut descriptors = Vec::new();
    for (at, it) in open.iter().enumerate() {
        let flags = it.info.flags();
        let candidates = alike.entry((&it.target, flags & !CLOEXEC)).or_default();
        let mut same = None;
        for candidate in candidates.iter() {
            let other = open[first[*candidate as usize]].fd;
            let compared = sys::same_description(pid, other, it.fd);
            if compared.doing(|| "compare descriptors".into())? {
                same = Some(*candidate);
                break;
            }
        }
        let description = same.unwrap_or_else(|| {
            first.push(at);
            let number = u32::try_from(first.len() - 1).unwrap_or(u32::MAX);
            candidates.push(number);
            number
        });
        descriptors.push(Descriptor {
            fd: it.fd,
            close_on_exec: flags & CLOEXEC != 0,
            description,
        });
    }
    Ok((descriptors, first))
}

/// A copy of one of the process's descriptors.
pub fn copy(tracee: &Tracee, open: &Open) -> Result<OwnedFd> {
    let copy = sys::pidfd_getfd(tracee.pidfd.as_fd(), open.fd);
    copy.doing(|| format!("copy descriptor {}", open.fd))
}

fn path(
    tracee: &Tracee,
    root: &Root,
    open: &Open,
    options: &FreezeOptions<'_>,
    objects: &mut Objects,
) -> Result<Kind> {
    let link = format!("/proc/{}/fd/{}", tracee.pid, open.fd);
    let stat = rustix::fs::stat(Path::new(&link)).doing(|| format!("look at {link}"))?;
    let name = root::show(&open.target);
    let offset = open.info.position();
    let gone = root::deleted(&open.target).is_some() && stat.st_nlink == 0;
    match root::file_type(&stat) {
        FileType::RegularFile if gone => {
            let copy = copy(tracee, open)?;
            refuse_seals(open, &copy)?;
            let object = objects.add_descriptor(&copy, &open.target);
            let object = object.doing(|| format!("open {name}"))?;
            return Ok(Kind::Object { object, offset });
        }
        FileType::RegularFile | FileType::Directory if gone => {
            return open.refuse(&format!("is {name}, which has been deleted"));
        }
        FileType::RegularFile => {
            let writes = open.info.flags() & 0o3 != libc::O_RDONLY.cast_unsigned();
            let path_only = open.info.flags() & libc::O_PATH.cast_unsigned() != 0;
            let kept =
                root::is_below(&open.target, options.scratch) || open.target.starts_with(b"/proc/");
            if writes && !path_only && !kept {
                return open.refuse(&format!("writes to {name}"));
            }
        }
        FileType::Directory | FileType::Symlink => {}
        FileType::CharacterDevice if is_plain_device(stat.st_rdev) => {}
        FileType::CharacterDevice | FileType::BlockDevice => {
            return open.refuse(&format!("is the device {name}"));
        }
        FileType::Fifo => return open.refuse(&format!("is the named pipe {name}")),
        _ => return open.refuse(&format!("is {name}, which is not supported")),
    }
    let there = root.stat(&open.target);
    if !there.is_ok_and(|there| there.st_ino == stat.st_ino) {
        return open.refuse(&format!("is {name}, which is no longer at its place"));
    }
    Ok(Kind::Path {
        path: open.target.clone(),
        offset,
    })
}

/// Devices that are the same in every environment and keep nothing.
fn is_plain_device(device: u64) -> bool {
    const MEMORY_DEVICES: u32 = 1;
    let minors = [3, 5, 7, 8, 9]; // null, zero, full, random, urandom
    rustix::fs::major(device) == MEMORY_DEVICES && minors.contains(&rustix::fs::minor(device))
}

fn refuse_seals(open: &Open, copy: &OwnedFd) -> Result<()> {
    use rustix::fs::SealFlags;
    // Files of other kinds have none. Being sealed against sealing is what memfds begin with.
    let seals = rustix::fs::fcntl_get_seals(copy).unwrap_or(SealFlags::empty());
    let content = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::FUTURE_WRITE;
    if seals.intersects(content) {
        return open.refuse("is a sealed memfd");
    }
    Ok(())
}
