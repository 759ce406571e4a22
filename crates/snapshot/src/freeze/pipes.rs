//! Pipes, which go to the server or stay inside.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;

use super::descriptors::{Open, copy};
use super::error::{Doing, Result};
use super::sys;
use super::tracee::Tracee;
use crate::{External, Kind, Pipe, PipeEnd};

const ACCESS: u32 = 0o3;

pub struct Pipes<'a> {
    open: &'a [Open],
    externals: &'a [(External, u64)],
    numbers: HashMap<u64, u32>,
    pub list: Vec<Pipe>,
}

impl<'a> Pipes<'a> {
    pub fn new(open: &'a [Open], externals: &'a [(External, u64)]) -> Self {
        Self {
            open,
            externals,
            numbers: HashMap::new(),
            list: Vec::new(),
        }
    }

    pub fn kind(&mut self, tracee: &Tracee, open: &Open) -> Result<Kind> {
        let Some(inode) = open.inode() else {
            return open.refuse("is a pipe without a number");
        };
        let external = self.externals.iter().find(|(_, known)| *known == inode);
        if let Some((role, _)) = external {
            if end(open) != Some(PipeEnd::Write) {
                return open.refuse("reads what goes to the server");
            }
            return Ok(Kind::External(*role));
        }
        let Some(end) = end(open) else {
            return open.refuse("is both ends of a pipe");
        };
        let pipe = match self.numbers.get(&inode) {
            Some(pipe) => *pipe,
            None => self.add(tracee, inode)?,
        };
        Ok(Kind::Pipe { pipe, end })
    }

    fn add(&mut self, tracee: &Tracee, inode: u64) -> Result<u32> {
        let find = |wanted| {
            let is = |open: &&Open| {
                open.inode() == Some(inode)
                    && open.target.starts_with(b"pipe:")
                    && end(open) == Some(wanted)
            };
            self.open.iter().find(is)
        };
        let pipe = match (find(PipeEnd::Read), find(PipeEnd::Write)) {
            (Some(reader), writer) => {
                if flags(reader) & libc::O_DIRECT.cast_unsigned() != 0 {
                    return reader.refuse("is a pipe in packet mode");
                }
                let copy = copy(tracee, reader)?;
                if writer.is_none() && !is_alone(&copy)? {
                    return reader.refuse("is a pipe from another process");
                }
                content(&copy).doing(|| format!("read the pipe of descriptor {}", reader.fd))?
            }
            (None, Some(writer)) => {
                let copy = copy(tracee, writer)?;
                if !is_alone(&copy)? {
                    return writer.refuse("is a pipe to another process");
                }
                // Nobody can read what is in it.
                Pipe {
                    capacity: capacity(&copy).doing(|| "ask a pipe's capacity".into())?,
                    content: Vec::new(),
                }
            }
            (None, None) => return super::error::unsupported("a pipe has no end"),
        };
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(pipe);
        self.numbers.insert(inode, number);
        Ok(number)
    }
}

fn flags(open: &Open) -> u32 {
    let octal = |text| u32::from_str_radix(text, 8).ok();
    open.info.get("flags").and_then(octal).unwrap_or(0)
}

fn end(open: &Open) -> Option<PipeEnd> {
    match i32::try_from(flags(open) & ACCESS) {
        Ok(libc::O_RDONLY) => Some(PipeEnd::Read),
        Ok(libc::O_WRONLY) => Some(PipeEnd::Write),
        _ => None,
    }
}

/// Whether the other end of a pipe or a socket pair is closed.
pub fn is_alone(end: &OwnedFd) -> Result<bool> {
    let mut poll = [PollFd::new(end, PollFlags::empty())];
    let zero = rustix::event::Timespec::default();
    let polled = rustix::event::poll(&mut poll, Some(&zero));
    polled.doing(|| "ask a pipe".into())?;
    Ok(poll[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::ERR))
}

fn capacity(end: &OwnedFd) -> io::Result<u32> {
    let capacity = rustix::pipe::fcntl_getpipe_size(end)?;
    u32::try_from(capacity).map_err(io::Error::other)
}

/// What is in a pipe, which stays there.
fn content(reader: &OwnedFd) -> io::Result<Pipe> {
    let capacity = capacity(reader)?;
    let unread = sys::ioctl_int(reader.as_fd(), sys::IntRequest::Unread)?;
    let unread = usize::try_from(unread).map_err(io::Error::other)?;
    let mut content = vec![0; unread];
    if unread > 0 {
        let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // As many slots as the original, in each of which can be a single byte.
        rustix::pipe::fcntl_setpipe_size(&to, capacity as usize)?;
        let copied = sys::tee(reader.as_fd(), to.as_fd(), capacity as usize)?;
        drop(to);
        if copied != unread {
            return Err(io::Error::other(
                "the content of a pipe was not copied whole",
            ));
        }
        std::fs::File::from(from).read_exact(&mut content)?;
    }
    Ok(Pipe { capacity, content })
}

#[cfg(test)]
mod tests {
    use super::{content, is_alone};
    use rustix::pipe::PipeFlags;
    use std::io::{Read, Write};

    #[test]
    fn content_is_copied_and_stays() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert_eq!(content(&reader).unwrap().content, b"");
        let mut writer = std::fs::File::from(writer);
        for part in ["a", "bc", "def"] {
            writer.write_all(part.as_bytes()).unwrap();
        }
        let pipe = content(&reader).unwrap();
        assert_eq!((pipe.capacity, &*pipe.content), (65536, &b"abcdef"[..]));
        assert!(!is_alone(&reader).unwrap());
        drop(writer);
        assert!(is_alone(&reader).unwrap());
        let mut rest = String::new();
        std::fs::File::from(reader)
            .read_to_string(&mut rest)
            .unwrap();
        assert_eq!(rest, "abcdef");
    }
}
