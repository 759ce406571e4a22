//! Serves memory of a clone that is not loaded yet.
//!
//! A clone maps the image's memory file, a memfd of the server, privately. Where that file has a
//! hole, the clone's userfaultfd reports a *missing* fault; the server writes the pages into the
//! memfd, for this clone and all others, and wakes the thread. What the clone does with its
//! address space meanwhile is reported, too, and followed here.
//!
//! If a page cannot be had, the clone must be killed: a thread that is woken without it would be
//! handed a page of zeroes, and all other clones with it.

mod map;
mod recorder;
mod sys;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::map::{Found, Map};
pub use self::recorder::Recorder;
use self::sys::Message;
use crate::{Image, PAGE};

/// Rounds of reading for one call of [`Pager::events`].
const ROUNDS: usize = 64;

/// One address space that is served.
#[derive(Debug)]
pub struct Pager {
    uffd: OwnedFd,
    map: Map,
    /// Addresses of pages that become zeroes.
    zeroes: VecDeque<u64>,
}

/// What has happened in the clone.
#[derive(Debug)]
pub enum PagerEvent {
    Fault(Fault),
    /// The clone has forked; the child's address space needs to be served as well, and until then
    /// the child waits.
    Forked(Pager),
}

/// A thread waits for a page. It goes on when it is passed to [`Pager::wake`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The range of the page file that must be in the memfd.
    pub pages: Range<u64>,
    address: u64,
}

impl Pager {
    /// Takes over a userfaultfd that has just been created, before anything is registered with it.
    ///
    /// To learn of forks the caller needs `CAP_SYS_PTRACE` in the initial user namespace; without
    /// it, a clone cannot be served.
    pub fn new(uffd: OwnedFd, image: &Image) -> io::Result<Self> {
        Self::with_map(uffd, Map::new(image))
    }

    fn with_map(uffd: OwnedFd, map: Map) -> io::Result<Self> {
        // Otherwise polling reports an error instead of events.
        rustix::io::ioctl_fionbio(&uffd, true)?;
        // The tape may ask for both kinds; see `CompileOptions::page_by_page`.
        let all = sys::EVENTS_AND_MISSING | sys::PROTECTION;
        sys::handshake(uffd.as_fd(), all)
            .or_else(|_| sys::handshake(uffd.as_fd(), sys::EVENTS_AND_MISSING))?;
        Ok(Self::ready(uffd, map))
    }

    fn ready(uffd: OwnedFd, map: Map) -> Self {
        Self {
            uffd,
            map,
            zeroes: VecDeque::new(),
        }
    }

    /// Receives a userfaultfd from a clone that is being thawed, and lets it go on. Waits for it
    /// if the socket is a blocking one.
    pub fn receive(socket: BorrowedFd<'_>, image: &Image) -> io::Result<Self> {
        let pager = Self::new(sys::receive_descriptor(socket)?, image)?;
        rustix::io::write(socket, &[1])?;
        Ok(pager)
    }

    /// What has happened since the last call, without waiting. The descriptor of this pager is
    /// readable when there is something.
    pub fn events(&mut self) -> io::Result<Vec<PagerEvent>> {
        let mut events = Vec::new();
        for _ in 0..ROUNDS {
            let messages = sys::read(self.uffd.as_fd())?;
            let nothing = messages.is_empty();
            for message in messages {
                events.extend(self.take(message));
            }
            if nothing && self.fill_zeroes()? {
                break;
            }
        }
        Ok(events)
    }

    fn take(&mut self, message: Message) -> Option<PagerEvent> {
        match message {
            Message::Fault { address } => {
                let address = address / PAGE * PAGE;
                match self.map.find(address) {
                    Found::Pages(offset) => Some(PagerEvent::Fault(Fault {
                        pages: offset..offset + PAGE,
                        address,
                    })),
                    Found::Nothing => {
                        self.zeroes.push_back(address);
                        None
                    }
                }
            }
            Message::Fork { uffd } => {
                let child = Self::ready(uffd, self.map.clone());
                Some(PagerEvent::Forked(child))
            }
            Message::Remap { from, to, len } => {
                self.map.relocate(from, to, len);
                None
            }
            Message::Remove { start, end } => {
                self.map.forget_content(start, end);
                None
            }
            Message::Unmap { start, end } => {
                self.map.forget(start, end);
                None
            }
            Message::Other => None,
        }
    }

    /// False if the address space is changing, which has to be read first.
    fn fill_zeroes(&mut self) -> io::Result<bool> {
        while let Some(address) = self.zeroes.front() {
            match sys::zero_page(self.uffd.as_fd(), *address) {
                Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => return Ok(false),
                // Somebody was faster; the thread may wait nevertheless.
                Err(err) if err.raw_os_error() == Some(libc::EEXIST) => {
                    sys::wake(self.uffd.as_fd(), *address, PAGE)?;
                }
                // The memory, or the process, is gone.
                Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {}
                result => result?,
            }
            self.zeroes.pop_front();
        }
        Ok(true)
    }

    /// Lets the thread go on, now that its page is in the memfd.
    pub fn wake(&self, fault: &Fault) -> io::Result<()> {
        match sys::wake(self.uffd.as_fd(), fault.address, PAGE) {
            // The process is gone.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }
}

impl AsFd for Pager {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }
}

#[cfg(test)]
mod tests;
