//! Descriptors without a file: epoll, eventfd, timerfd, signalfd, inotify.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;

use super::descriptors::{Open, copy};
use super::error::{Doing, Result};
use super::root::{self, Root};
use super::sys;
use super::tracee::Tracee;
use crate::{Kind, Watch};

pub fn kind(
    tracee: &Tracee,
    open: &Open,
    all: &[Open],
    root: &Root,
    scratch: &[&str],
) -> Result<Kind> {
    let name = open.target.strip_prefix(b"anon_inode:").unwrap_or_default();
    let name = name.strip_prefix(b"[").unwrap_or(name);
    let name = name.strip_suffix(b"]").unwrap_or(name);
    match name {
        b"eventpoll" => epoll(tracee, open, all),
        b"eventfd" => Ok(event(open)),
        b"timerfd" => timer(open),
        b"signalfd" => Ok(Kind::Signal {
            mask: hex(open.info.get("sigmask")),
        }),
        b"inotify" => inotify(tracee, open, root, scratch),
        b"io_uring" => open.refuse("is an io_uring"),
        b"pidfd" => open.refuse("refers to a process (pidfd)"),
        other => open.refuse(&format!("is a {}", root::show(other))),
    }
}

fn hex(text: Option<&str>) -> u64 {
    let parse = |text: &str| u64::from_str_radix(text.trim(), 16).ok();
    text.and_then(parse).unwrap_or(0)
}

fn event(open: &Open) -> Kind {
    Kind::Event {
        count: hex(open.info.get("eventfd-count")),
        semaphore: open.info.get("eventfd-semaphore") == Some("1"),
    }
}

fn timer(open: &Open) -> Result<Kind> {
    let number = |key| {
        let value: Option<i64> = open.info.get(key).and_then(|text| text.parse().ok());
        value.unwrap_or(0)
    };
    // (seconds, nanoseconds)
    let time = |key| {
        let text = open.info.get(key).unwrap_or_default();
        let mut parts = text.trim_matches(['(', ')']).split(',');
        let mut part = || {
            parts
                .next()
                .and_then(|part| part.trim().parse::<u64>().ok())
        };
        let (seconds, nanoseconds) = (part().unwrap_or(0), part().unwrap_or(0));
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    };
    let Ok(clock) = i32::try_from(number("clockid")) else {
        return open.refuse("is a timer of an unknown clock");
    };
    Ok(Kind::Timer {
        clock,
        value_ns: time("it_value"),
        interval_ns: time("it_interval"),
        ticks: number("ticks").unsigned_abs(),
    })
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:3d sdev:9`
fn epoll(tracee: &Tracee, open: &Open, all: &[Open]) -> Result<Kind> {
    let mut watches: Vec<Watch> = Vec::new();
    for line in open.info.lines("tfd") {
        let Some(watch) = parse_watch(line) else {
            return open.refuse("watches something in an unknown way");
        };
        let nth = watches.iter().filter(|other| other.fd == watch.fd).count();
        let nth = u32::try_from(nth).unwrap_or(u32::MAX);
        // What was added as number 5 is watched for as long as it is open anywhere, whatever
        // number 5 is now.
        let same = all.iter().any(|open| open.fd == watch.fd)
            && sys::is_watched(tracee.pid, open.fd, watch.fd, nth)
                .doing(|| "compare a watched descriptor".into())?;
        if !same {
            let what = format!("watches what was descriptor {} and is no longer", watch.fd);
            return open.refuse(&what);
        }
        watches.push(watch);
    }
    Ok(Kind::Epoll { watches })
}

fn parse_watch(line: &str) -> Option<Watch> {
    let mut words = line.split_ascii_whitespace();
    let fd = words.next()?.parse().ok()?;
    // A value follows its key with or without a space.
    let rest: String = words.collect::<Vec<_>>().join(" ").replace(": ", ":");
    let value = |key: &str| {
        let word = rest.split(' ').find_map(|word| word.strip_prefix(key))?;
        u64::from_str_radix(word, 16).ok()
    };
    Some(Watch {
        fd,
        events: u32::try_from(value("events:")?).ok()?,
        data: value("data:")?,
    })
}

/// `inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8
/// fhandle-type:1 f_handle:7e9e0000640d1b6d`
fn inotify(tracee: &Tracee, open: &Open, root: &Root, scratch: &[&str]) -> Result<Kind> {
    let copy = copy(tracee, open)?;
    let unread = sys::ioctl_int(copy.as_fd(), sys::IntRequest::Unread);
    if unread.doing(|| "ask an inotify".into())? > 0 {
        return open.refuse("is an inotify with unread events");
    }
    let mut watches = Vec::new();
    for line in open.info.records("inotify ") {
        let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
        let wd = value("wd:").and_then(|text| i32::from_str_radix(text, 16).ok());
        let mask = u32::try_from(hex(value("mask:"))).ok();
        let inode = hex(value("ino:"));
        let path = handle(line).and_then(|handle| resolve(root, scratch, inode, &handle));
        let (Some(wd), Some(mask), Some(path)) = (wd, mask, path) else {
            return open.refuse("is an inotify that watches an unknown file");
        };
        watches.push((wd, path, mask));
    }
    watches.sort_by_key(|(wd, _, _)| *wd);
    Ok(Kind::Inotify { watches })
}

/// A `struct file_handle`: length, type, bytes.
fn handle(line: &str) -> Option<Vec<u8>> {
    let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
    let kind = u32::try_from(hex(value("fhandle-type:"))).ok()?;
    let text = value("f_handle:")?.as_bytes();
    let digits = text.chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = digits.collect::<Option<_>>()?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= 128)?;
    let mut handle = Vec::new();
    handle.extend(length.to_ne_bytes());
    handle.extend(kind.to_ne_bytes());
    handle.extend(bytes);
    Some(handle)
}

/// A watch knows only its inode. The kernel finds the path if it is asked on the right mount.
fn resolve(root: &Root, scratch: &[&str], inode: u64, handle: &[u8]) -> Option<Vec<u8>> {
    let mounts = scratch
        .iter()
        .copied()
        .chain(["/", "/var/task", "/opt", "/tmp"]);
    for mount in mounts {
        let Ok(directory) = root.open_path(mount.as_bytes(), OFlags::RDONLY) else {
            continue;
        };
        let Some(found) = open_handle(&directory, handle) else {
            continue;
        };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
        let path = link.ok()?.into_os_string().into_encoded_bytes();
        if root.stat(&path).is_ok_and(|stat| stat.st_ino == inode) {
            return Some(path);
        }
    }
    None
}

fn open_handle(mount: &OwnedFd, handle: &[u8]) -> Option<OwnedFd> {
    // The structure begins with two ints, and wants their alignment.
    let mut aligned = vec![0_u32; handle.len().div_ceil(4)];
    for (word, bytes) in aligned.iter_mut().zip(handle.chunks(4)) {
        let mut full = [0; 4];
        full[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(full);
    }
    // SAFETY: `aligned` holds the whole structure, whose first field says how long it is, which
    // `handle` made sure of; the kernel only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            aligned.as_mut_ptr(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel just created the descriptor for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::{handle, parse_watch};

    #[test]
    fn a_watch_is_understood() {
        let line = "5 events:       19 data:     7f0000000005  pos:0 ino:3d sdev:9";
        let watch = parse_watch(line).unwrap();
        assert_eq!(
            (watch.fd, watch.events, watch.data),
            (5, 0x19, 0x7f00_0000_0005)
        );
        let line = "11 events: 80000019 data: ffffffffffffffff  pos:0 ino:3d sdev:9";
        assert_eq!(parse_watch(line).unwrap().data, u64::MAX);
        assert_eq!(parse_watch("x"), None);
    }

    #[test]
    fn a_file_handle_is_taken_from_its_line() {
        let line = "wd:1 ino:9e7e fhandle-bytes:8 fhandle-type:1 f_handle:7e9e0000640d1b6d";
        let bytes = handle(line).unwrap();
        assert_eq!(bytes[..4], 8_u32.to_ne_bytes());
        assert_eq!(bytes[8..], [0x7e, 0x9e, 0, 0, 0x64, 0x0d, 0x1b, 0x6d]);
        assert_eq!(handle("wd:1 f_handle:zz"), None);
    }
}
