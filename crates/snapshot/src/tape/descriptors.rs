//! Open files, under their old numbers.
//!
//! Descriptions are made in the order of their lowest number, so that most get it at once. Those
//! that do not are moved; where two come into being together (pipes), they may have to be moved
//! out of each other's way first.

use std::collections::BTreeMap;

use super::objects::number;
use super::writer::Expect;
use super::{Compiler, TapeError};
use crate::{Description, Descriptor, External, Image, Kind, PipeEnd, Watch, slot};

/// Where two descriptors that were made together wait for their places.
const PARKING: [i32; 2] = [1010, 1011];

/// Flags that `F_SETFL` can set.
const SETTABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// The descriptors of one description.
type Places = Vec<Descriptor>;

/// What has two ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pair {
    Pipe(u32),
    Sockets(u32),
}

impl Compiler<'_> {
    pub(super) fn open_descriptors(&mut self) -> Result<(), TapeError> {
        let image = self.image;
        let mut places: BTreeMap<u32, Places> = BTreeMap::new();
        for descriptor in &image.descriptors {
            places
                .entry(descriptor.description)
                .or_default()
                .push(*descriptor);
        }
        let mut order: Vec<(i32, u32)> = places
            .iter()
            .filter_map(|(index, places)| Some((places.first()?.fd, *index)))
            .collect();
        order.sort_unstable();
        let ends = ends(image, &order)?;
        let mut made: Vec<Pair> = Vec::new();
        for (fd, index) in &order {
            let description = description(image, *index)?;
            self.tape.about(&format!("open descriptor {fd}"));
            let (pair, _) = match pair_of(description) {
                Some(pair) => pair,
                None => {
                    self.open(description, &places[index])?;
                    continue;
                }
            };
            if made.contains(&pair) {
                continue;
            }
            made.push(pair);
            let sides = ends.get(&pair).cloned().unwrap_or_default();
            let first = |side: usize| {
                let index = sides[side].first()?;
                Some((description_or_none(image, *index)?, places.get(index)?))
            };
            self.open_pair(pair, [first(0), first(1)])?;
            // The same end opened once more, with a position or flags of its own.
            for index in sides.iter().flat_map(|side| side.iter().skip(1)) {
                let description = description_or_none(image, *index);
                let side = description.and_then(pair_of).map_or(0, |(_, side)| side);
                let original = first(side).and_then(|(_, places)| places.first());
                let (Some(description), Some(original)) = (description, original) else {
                    continue;
                };
                let path = format!("/proc/self/fd/{}", original.fd);
                self.reopen(&path, description, 0, &places[index])?;
            }
        }
        self.close_objects();
        self.add_watches(&places)
    }

    /// Moves a fresh description to its numbers.
    pub(super) fn settle(&mut self, fresh: i32, places: &[Descriptor]) {
        for place in places.iter().filter(|place| place.fd != fresh) {
            self.duplicate(fresh, *place);
        }
        if places.iter().all(|place| place.fd != fresh) {
            self.close(fresh);
        }
    }

    fn duplicate(&mut self, from: i32, to: Descriptor) {
        let flags = cloexec(to.close_on_exec);
        let args = [number(from), number(to.fd), flags];
        self.tape
            .call(libc::SYS_dup3, &args, Expect::Is(number(to.fd)));
        self.table.place(to.fd);
    }

    /// Moves a descriptor to a number that the table does not know, or one that is free.
    pub(super) fn move_descriptor(&mut self, from: i32, to: i32, close_on_exec: bool) {
        let to = Descriptor {
            fd: to,
            close_on_exec,
            description: 0,
        };
        self.duplicate(from, to);
        self.close(from);
    }

    pub(super) fn close(&mut self, fd: i32) {
        self.tape
            .call(libc::SYS_close, &[number(fd)], Expect::Is(0));
        self.table.close(fd);
    }

    /// Makes a call that answers with a new descriptor. `flags` is the index of the argument that
    /// `O_CLOEXEC` goes into.
    pub(super) fn create(
        &mut self,
        call: i64,
        args: &[u64],
        flags: usize,
        places: &[Descriptor],
    ) -> Result<i32, TapeError> {
        let fresh = self.table.open()?;
        let mut args = args.to_vec();
        let here = places.iter().find(|place| place.fd == fresh);
        if let Some(argument) = args.get_mut(flags) {
            *argument |= cloexec(here.is_some_and(|place| place.close_on_exec));
        }
        self.tape.call(call, &args, Expect::Is(number(fresh)));
        Ok(fresh)
    }

    fn open(&mut self, description: &Description, places: &Places) -> Result<(), TapeError> {
        let status = description.flags.cast_signed();
        let nonblocking = bits(status & libc::O_NONBLOCK);
        match &description.kind {
            Kind::Path { path, offset } => {
                let path = self.tape.text(path);
                let here = i64::from(libc::AT_FDCWD).cast_unsigned();
                let flags = bits(status | libc::O_NOCTTY);
                let args = [here, path, flags, 0];
                let fresh = self.create(libc::SYS_openat, &args, 2, places)?;
                self.seek(fresh, *offset);
                self.settle(fresh, places);
            }
            Kind::Object { object, offset } => {
                let path = format!("/proc/self/fd/{}", self.object(*object)?);
                self.reopen(&path, description, *offset, places)?;
            }
            Kind::External(role) => self.replace(*role, status, places),
            Kind::Event { count, semaphore } => {
                let flags = nonblocking | bits(i32::from(*semaphore) * libc::EFD_SEMAPHORE);
                let now = (*count).min(u64::from(u32::MAX));
                let fresh = self.create(libc::SYS_eventfd2, &[now, flags], 1, places)?;
                if *count > now {
                    let rest = self.tape.words(&[*count - now]);
                    self.write(fresh, rest, 8);
                }
                self.settle(fresh, places);
            }
            Kind::Epoll { .. } => {
                let fresh = self.create(libc::SYS_epoll_create1, &[0], 0, places)?;
                self.settle(fresh, places);
            }
            Kind::Timer {
                clock,
                value_ns,
                interval_ns,
                ticks,
            } => {
                let clock = bits(*clock);
                let args = [clock, nonblocking];
                let fresh = self.create(libc::SYS_timerfd_create, &args, 1, places)?;
                let setting = self.interval(*interval_ns, *value_ns);
                let args = [number(fresh), 0, setting, 0];
                self.tape
                    .call(libc::SYS_timerfd_settime, &args, Expect::Is(0));
                if *ticks > 0 {
                    const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
                    let ticks = self.tape.words(&[*ticks]);
                    let args = [number(fresh), TFD_IOC_SET_TICKS, ticks];
                    self.tape.call(libc::SYS_ioctl, &args, Expect::Is(0));
                }
                self.settle(fresh, places);
            }
            Kind::Signal { mask } => {
                let mask = self.tape.words(&[*mask]);
                let args = [u64::MAX, mask, 8, nonblocking];
                let fresh = self.create(libc::SYS_signalfd4, &args, 3, places)?;
                self.settle(fresh, places);
            }
            Kind::Inotify { watches } => {
                const INOTIFY_IOC_SETNEXTWD: u64 = 0x4004_4900;
                let fresh = self.create(libc::SYS_inotify_init1, &[nonblocking], 0, places)?;
                for (id, path, mask) in watches {
                    let args = [number(fresh), INOTIFY_IOC_SETNEXTWD, number(*id)];
                    self.tape.call(libc::SYS_ioctl, &args, Expect::Is(0));
                    let path = self.tape.text(path);
                    let args = [number(fresh), path, u64::from(*mask)];
                    self.tape
                        .call(libc::SYS_inotify_add_watch, &args, Expect::Is(number(*id)));
                }
                self.settle(fresh, places);
            }
            Kind::Socket(socket) => self.open_socket(socket, nonblocking, places)?,
            // Made with its other end.
            Kind::Pipe { .. } | Kind::SocketPair { .. } => {}
        }
        Ok(())
    }

    fn seek(&mut self, fd: i32, offset: u64) {
        if offset != 0 {
            let args = [number(fd), offset, 0];
            self.tape.call(libc::SYS_lseek, &args, Expect::Is(offset));
        }
    }

    fn write(&mut self, fd: i32, address: u64, len: u64) {
        let args = [number(fd), address, len];
        self.tape.call(libc::SYS_write, &args, Expect::Is(len));
    }

    /// Opens what another descriptor refers to once more.
    fn reopen(
        &mut self,
        path: &str,
        description: &Description,
        offset: u64,
        places: &[Descriptor],
    ) -> Result<(), TapeError> {
        let path = self.tape.text(path.as_bytes());
        let here = i64::from(libc::AT_FDCWD).cast_unsigned();
        // It may not be followed through the link in /proc otherwise.
        let flags = description.flags.cast_signed() & !libc::O_NOFOLLOW;
        let args = [here, path, bits(flags), 0];
        let fresh = self.create(libc::SYS_openat, &args, 2, places)?;
        self.seek(fresh, offset);
        self.settle(fresh, places);
        Ok(())
    }

    fn replace(&mut self, role: External, status: i32, places: &[Descriptor]) {
        let new = match role {
            External::Output => slot::OUTPUT,
            External::Error => slot::ERROR,
            External::Log => slot::LOG,
        };
        for place in places {
            self.duplicate(new, *place);
        }
        self.set_status(new, status & SETTABLE, 0);
    }

    /// Sets the status flags of a description that has `now`.
    pub(super) fn set_status(&mut self, fd: i32, wanted: i32, now: i32) {
        if wanted != now {
            let set = u64::from(libc::F_SETFL.cast_unsigned());
            let args = [number(fd), set, bits(wanted)];
            self.tape.call(libc::SYS_fcntl, &args, Expect::Is(0));
        }
    }

    /// An `itimerspec`.
    pub(super) fn interval(&mut self, interval_ns: u64, value_ns: u64) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        self.tape.words(&[
            interval_ns / SECOND,
            interval_ns % SECOND,
            value_ns / SECOND,
            value_ns % SECOND,
        ])
    }

    /// A pipe or a pair of sockets, with what waits in it. An end that nobody has is closed.
    fn open_pair(
        &mut self,
        pair: Pair,
        ends: [Option<(&Description, &Places)>; 2],
    ) -> Result<(), TapeError> {
        let fresh = [self.table.open()?, self.table.open()?];
        let none = Vec::new();
        let places = ends.map(|end| end.map_or(&none, |(_, places)| places));
        let status = ends.map(|end| end.map_or(0, |(description, _)| description.flags));
        let status = status.map(|flags| flags.cast_signed() & SETTABLE);
        // Both where they belong: nothing to be moved, and the flag may be set at once.
        let flag = [0, 1].map(|end: usize| {
            let here = places[end].iter().find(|place| place.fd == fresh[end]);
            here.map(|place| place.close_on_exec)
        });
        let at_home = flag[0].is_some() && flag[0] == flag[1];
        let flags = cloexec(at_home && flag[0] == Some(true));
        let result = self.tape.word(0)?;
        let kind = |end: usize| ends[end].map(|(description, _)| &description.kind);
        match pair {
            Pair::Pipe(pipe) => {
                let args = [result, flags];
                self.tape.call(libc::SYS_pipe2, &args, Expect::Is(0));
                self.fill_pipe(pipe, fresh[1])?;
            }
            Pair::Sockets(_) => {
                let kinds = [kind(0), kind(1)];
                let socket_type = kinds.iter().flatten().find_map(|kind| match kind {
                    Kind::SocketPair { socket_type, .. } => Some(*socket_type),
                    _ => None,
                });
                let socket_type = bits(socket_type.unwrap_or(libc::SOCK_STREAM)) | flags;
                let unix = bits(libc::AF_UNIX);
                let args = [unix, socket_type, 0, result];
                self.tape.call(libc::SYS_socketpair, &args, Expect::Is(0));
                for (end, kind) in kinds.into_iter().enumerate() {
                    let Some(Kind::SocketPair { content, .. }) = kind else {
                        continue;
                    };
                    // What an end has not read yet was written by the other.
                    self.send(fresh[1 - end], content);
                }
            }
        }
        for end in 0..2 {
            if ends[end].is_some() {
                self.set_status(fresh[end], status[end], 0);
            }
        }
        if at_home {
            self.settle(fresh[0], places[0]);
            self.settle(fresh[1], places[1]);
            return Ok(());
        }
        for end in 0..2 {
            self.move_descriptor(fresh[end], PARKING[end], true);
        }
        for end in 0..2 {
            self.settle(PARKING[end], places[end]);
        }
        Ok(())
    }

    fn fill_pipe(&mut self, pipe: u32, write_end: i32) -> Result<(), TapeError> {
        let found = usize::try_from(pipe)
            .ok()
            .and_then(|pipe| self.image.pipes.get(pipe));
        let pipe = found.ok_or(TapeError::Image("pipe index"))?;
        const USUAL: u32 = 65536;
        if pipe.capacity != USUAL {
            let set = u64::from(libc::F_SETPIPE_SZ.cast_unsigned());
            let args = [number(write_end), set, pipe.capacity.into()];
            self.tape
                .call(libc::SYS_fcntl, &args, Expect::Is(pipe.capacity.into()));
        }
        if !pipe.content.is_empty() {
            let content = self.tape.constant(&pipe.content, 1);
            self.write(write_end, content, pipe.content.len() as u64);
        }
        Ok(())
    }

    pub(super) fn send(&mut self, fd: i32, content: &[u8]) {
        if content.is_empty() {
            return;
        }
        let address = self.tape.constant(content, 1);
        let len = content.len() as u64;
        let flags = bits(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let args = [number(fd), address, len, flags, 0, 0];
        self.tape.call(libc::SYS_sendto, &args, Expect::Is(len));
    }

    /// After everything that can be watched is open.
    fn add_watches(&mut self, places: &BTreeMap<u32, Places>) -> Result<(), TapeError> {
        for (index, places) in places {
            let Kind::Epoll { watches } = &description(self.image, *index)?.kind else {
                continue;
            };
            let Some(place) = places.first() else {
                continue;
            };
            self.tape
                .about(&format!("watch with descriptor {}", place.fd));
            for Watch { fd, events, data } in watches {
                let mut event = events.to_le_bytes().to_vec();
                event.extend(data.to_le_bytes());
                let event = self.tape.constant(&event, 4);
                let add = u64::from(libc::EPOLL_CTL_ADD.cast_unsigned());
                let args = [number(place.fd), add, number(*fd), event];
                self.tape.call(libc::SYS_epoll_ctl, &args, Expect::Is(0));
            }
        }
        Ok(())
    }
}

/// As an argument.
pub fn bits(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn cloexec(set: bool) -> u64 {
    if set { bits(libc::O_CLOEXEC) } else { 0 }
}

fn description_or_none(image: &Image, index: u32) -> Option<&Description> {
    image.descriptions.get(usize::try_from(index).ok()?)
}

fn description(image: &Image, index: u32) -> Result<&Description, TapeError> {
    description_or_none(image, index).ok_or(TapeError::Image("description index"))
}

fn pair_of(description: &Description) -> Option<(Pair, usize)> {
    match description.kind {
        Kind::Pipe { pipe, end } => {
            let side = match end {
                PipeEnd::Read => 0,
                PipeEnd::Write => 1,
            };
            Some((Pair::Pipe(pipe), side))
        }
        Kind::SocketPair { pair, end, .. } => Some((Pair::Sockets(pair), usize::from(end & 1))),
        _ => None,
    }
}

/// The descriptions of both ends of each pair.
fn ends(image: &Image, order: &[(i32, u32)]) -> Result<BTreeMap<Pair, [Vec<u32>; 2]>, TapeError> {
    let mut ends: BTreeMap<Pair, [Vec<u32>; 2]> = BTreeMap::new();
    for (_, index) in order {
        if let Some((pair, side)) = pair_of(description(image, *index)?) {
            ends.entry(pair).or_default()[side].push(*index);
        }
    }
    Ok(ends)
}
