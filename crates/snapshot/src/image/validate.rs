//! The stored form of an image, and everything that must hold before one is used.
//!
//! Whoever can write to the store must not gain more than the power to run code inside the
//! environment of the function whose image it is. A checked image makes a tape that maps and
//! writes inside the ranges of its own mappings only, uses descriptors below the thaw's, and
//! cannot make [`crate::compile`] panic or run without bounds.

use std::collections::BTreeSet;

use super::{
    Advice, Backing, Descriptor, FORMAT, Image, Kind, Layout, Mapping, PAGE, PosixTimer,
    ScratchContent, ScratchEntry, Segment, Socket, SocketState, Thread,
};
use crate::slot;
use crate::tape::ExtendedState;

const MAGIC: &[u8; 4] = b"FIRN";
const MAX_BYTES: usize = 128 << 20;
const MAX_THREADS: usize = 4096;
const MAX_MAPPINGS: usize = 65_536;
const MAX_SEGMENTS: usize = 262_144;
const MAX_PATH: usize = 4095;
const MAX_CONTENT: usize = 1 << 20;
const MAX_WATCHES: usize = 65_536;
const MAX_TIMERS: usize = 4096;
const MAX_OBJECTS: usize = 96;
const MAX_RESEED: usize = 64;
const MAX_SCRATCH: usize = 1 << 20;
/// The kernel's lowest address for user memory, in its usual configuration.
const LOWEST: u64 = 65_536;
const HIGHEST: u64 = 0x7fff_ffff_f000;
const REGISTERS: usize = 27;
const PID_MAX: i32 = 1 << 22;
const FILE_MAX: u64 = 1 << 46;
/// About 292 years.
const TIME_MAX: u64 = i64::MAX as u64;

/// Why bytes are not an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("not an image, or cut short")]
    Malformed,
    #[error("the image has format {0}; this program reads {FORMAT}")]
    Format(u32),
    #[error("the image has an invalid {0}")]
    Invalid(&'static str),
}

type Checked = Result<(), ImageError>;

fn ensure(condition: bool, what: &'static str) -> Checked {
    if condition {
        Ok(())
    } else {
        Err(ImageError::Invalid(what))
    }
}

impl Image {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        // Serialising plain data into memory does not fail; an empty body would not decode.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }

    /// Reads and checks the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() > MAX_BYTES {
            return Err(ImageError::Malformed);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(ImageError::Malformed)?;
        let (format, body) = body.split_first_chunk().ok_or(ImageError::Malformed)?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(ImageError::Format(format));
        }
        let (mut image, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|_| ImageError::Malformed)?;
        if !rest.is_empty() {
            return Err(ImageError::Malformed);
        }
        image.force_user_registers();
        image.validate()?;
        Ok(image)
    }

    /// Segments and flags are the program's to choose as little as on a return from a signal.
    fn force_user_registers(&mut self) {
        const EFLAGS: usize = 18;
        const SEGMENTS: [(usize, u64); 6] =
            [(17, 0x33), (20, 0x2b), (23, 0), (24, 0), (25, 0), (26, 0)];
        for thread in &mut self.threads {
            for (index, value) in SEGMENTS {
                if let Some(register) = thread.registers.get_mut(index) {
                    *register = value;
                }
            }
            if let Some(flags) = thread.registers.get_mut(EFLAGS) {
                *flags = *flags & 0x0004_0cd5 | 0x202;
            }
        }
    }

    /// Everything that [`Image::decode`] checks, for an image that was not stored.
    pub fn validate(&self) -> Checked {
        ensure(self.format == FORMAT, "format")?;
        ensure(
            self.host.machine.len() <= 64 && self.host.kernel.len() <= 256,
            "host",
        )?;
        ensure(
            self.pages_len <= FILE_MAX && aligned(self.pages_len),
            "page file length",
        )?;
        self.check_memory()?;
        self.check_threads()?;
        self.check_process()?;
        self.check_descriptors()?;
        self.check_timers()?;
        self.check_scratch()
    }

    fn check_memory(&self) -> Checked {
        ensure(self.mappings.len() <= MAX_MAPPINGS, "number of mappings")?;
        ensure(self.files.len() <= MAX_MAPPINGS, "number of files")?;
        for file in &self.files {
            path(&file.path, "path of a mapped file")?;
            ensure(!file.writable || is_scratch(&file.path), "writable file")?;
        }
        let mut segments = 0;
        let mut last = LOWEST;
        for mapping in &self.mappings {
            ensure(mapping.start >= last, "order of mappings")?;
            self.check_mapping(mapping)?;
            last = mapping.end;
            segments += mapping.segments.len();
        }
        ensure(segments <= MAX_SEGMENTS, "number of segments")?;
        self.check_special()?;
        self.check_objects()
    }

    fn check_mapping(&self, mapping: &Mapping) -> Checked {
        range(mapping.start, mapping.end, "range of a mapping")?;
        ensure(mapping.protection & !7 == 0, "protection of a mapping")?;
        let len = mapping.end - mapping.start;
        let file = |index: u32, offset: u64| {
            ensure(position(index, self.files.len()), "file of a mapping")?;
            ensure(aligned(offset) && offset <= FILE_MAX, "offset of a mapping")
        };
        const WRITE: u32 = 2;
        match mapping.backing {
            Backing::Anonymous => {}
            Backing::Private {
                file: index,
                offset,
            } => file(index, offset)?,
            Backing::Shared {
                file: index,
                offset,
            } => {
                file(index, offset)?;
                let writable = usize::try_from(index)
                    .ok()
                    .and_then(|at| self.files.get(at));
                let writable = writable.is_some_and(|file| file.writable);
                ensure(
                    writable || mapping.protection & WRITE == 0,
                    "shared mapping",
                )?;
            }
            Backing::Object { object, offset } => {
                ensure(position(object, self.objects.len()), "object of a mapping")?;
                ensure(aligned(offset) && offset <= FILE_MAX, "offset of a mapping")?;
            }
        }
        let private = matches!(
            mapping.backing,
            Backing::Anonymous | Backing::Private { .. }
        );
        ensure(
            private || mapping.segments.is_empty(),
            "segments of a shared mapping",
        )?;
        let Advice {
            grows_down,
            wipe_on_fork,
            ..
        } = mapping.advice;
        let anonymous = mapping.backing == Backing::Anonymous;
        ensure(anonymous || !(grows_down || wipe_on_fork), "advice")?;
        self.check_segments(&mapping.segments, mapping.start, len)
    }

    /// Ascending, inside `start..start + len`, and inside the page file.
    fn check_segments(&self, segments: &[Segment], start: u64, len: u64) -> Checked {
        let what = "segment";
        let end = start.checked_add(len).ok_or(ImageError::Invalid(what))?;
        let mut last = start;
        for segment in segments {
            let (from, len) = (segment.start, segment.len);
            ensure(
                len > 0 && aligned(len) && aligned(from) && from >= last,
                what,
            )?;
            last = from.checked_add(len).ok_or(ImageError::Invalid(what))?;
            ensure(last <= end, what)?;
            self.check_pages(segment.offset, len, what)?;
        }
        Ok(())
    }

    fn check_pages(&self, offset: u64, len: u64, what: &'static str) -> Checked {
        let end = offset.checked_add(len).ok_or(ImageError::Invalid(what))?;
        ensure(aligned(offset) && end <= self.pages_len, what)
    }

    fn check_special(&self) -> Checked {
        let what = "special mapping";
        ensure(!self.special.is_empty() && self.special.len() <= 8, what)?;
        let (mut last, mut vdso) = (None, 0);
        for special in &self.special {
            range(special.start, special.end, what)?;
            ensure(special.end - special.start <= 64 << 10, what)?;
            // Together, as the kernel makes them: the stub finds its own by their distance.
            ensure(last.is_none_or(|last| last == special.start), what)?;
            last = Some(special.end);
            vdso += usize::from(special.name == "[vdso]");
            let known = matches!(&*special.name, "[vdso]" | "[vvar]" | "[vvar_vclock]");
            ensure(known, what)?;
        }
        ensure(vdso == 1, what)?;
        let (first, end) = (self.special[0].start, last.unwrap_or_default());
        let after = self
            .mappings
            .partition_point(|mapping| mapping.end <= first);
        let free = self
            .mappings
            .get(after)
            .is_none_or(|next| next.start >= end);
        ensure(free, what)
    }

    fn check_objects(&self) -> Checked {
        ensure(self.objects.len() <= MAX_OBJECTS, "number of objects")?;
        let mut segments = 0;
        for object in &self.objects {
            no_nul(&object.name, "name of an object")?;
            ensure(object.len <= FILE_MAX, "length of an object")?;
            let len = object.len.next_multiple_of(PAGE);
            self.check_segments(&object.segments, 0, len)?;
            segments += object.segments.len();
        }
        ensure(segments <= MAX_SEGMENTS, "number of segments")
    }

    /// Whether the image has memory at all of `address..address + len`.
    fn has(&self, address: u64, len: u64) -> bool {
        let Some(end) = address.checked_add(len) else {
            return false;
        };
        let first = self
            .mappings
            .partition_point(|mapping| mapping.end <= address);
        let mut at = address;
        for mapping in &self.mappings[first..] {
            if at >= end {
                break;
            }
            if mapping.start > at {
                return false;
            }
            at = mapping.end;
        }
        at >= end
    }

    fn is_code(&self, address: u64) -> bool {
        const EXEC: u32 = 4;
        let first = self
            .mappings
            .partition_point(|mapping| mapping.end <= address);
        let mapping = self.mappings.get(first);
        mapping.is_some_and(|mapping| mapping.start <= address && mapping.protection & EXEC != 0)
    }

    fn check_threads(&self) -> Checked {
        let threads = &self.threads;
        ensure(
            (1..=MAX_THREADS).contains(&threads.len()),
            "number of threads",
        )?;
        ensure((2..=PID_MAX).contains(&self.pid), "process id")?;
        ensure(threads[0].tid == self.pid, "main thread")?;
        let ids: BTreeSet<i32> = threads.iter().map(|thread| thread.tid).collect();
        ensure(ids.len() == threads.len(), "thread ids")?;
        threads
            .iter()
            .try_for_each(|thread| self.check_thread(thread))
    }

    fn check_thread(&self, thread: &Thread) -> Checked {
        ensure((2..=PID_MAX).contains(&thread.tid), "thread id")?;
        ensure(thread.registers.len() == REGISTERS, "registers")?;
        // rip, rsp, and the bases of fs and gs.
        for index in [16, 19, 21, 22] {
            ensure(thread.registers[index] < HIGHEST, "registers")?;
        }
        check_extended(&thread.extended)?;
        let (area, len, _) = thread.rseq;
        let rseq = area == 0
            || (area % 32 == 0 && (32..=4096).contains(&len) && self.has(area, len.into()));
        ensure(rseq, "restartable sequence")?;
        let clear = thread.clear_tid;
        ensure(clear == 0 || self.has(clear, 4), "address to clear")?;
        let (head, len) = thread.robust_list;
        ensure(
            head == 0 || (len == 24 && self.has(head, 24)),
            "robust list",
        )?;
        let (stack, flags, len) = thread.alternate_stack;
        const DISABLED: u32 = 2;
        let stack =
            flags & DISABLED != 0 || stack.checked_add(len).is_some_and(|end| end < HIGHEST);
        ensure(stack, "alternate stack")?;
        ensure(thread.name.len() <= 64, "thread name")?;
        no_nul(&thread.name, "thread name")
    }

    fn check_process(&self) -> Checked {
        ensure(self.signals.len() == 64, "signal actions")?;
        let Layout {
            start_code,
            end_code,
            start_data,
            end_data,
            start_brk,
            brk,
            start_stack,
            arg_start,
            arg_end,
            env_start,
            env_end,
        } = self.layout;
        // Only of this pair the kernel asks that there be something between.
        ensure(start_code < end_code, "memory layout")?;
        let pairs = [
            (start_code, end_code),
            (start_data, end_data),
            (start_brk, brk),
            (arg_start, arg_end),
            (env_start, env_end),
            (start_stack, start_stack),
        ];
        for (start, end) in pairs {
            ensure(
                LOWEST <= start && start <= end && end < HIGHEST,
                "memory layout",
            )?;
        }
        ensure(
            self.auxv.len() <= 1024 && self.auxv.len().is_multiple_of(16),
            "auxiliary vector",
        )?;
        path(&self.exe, "path of the program")?;
        path(&self.cwd, "working directory")?;
        ensure(
            self.monotonic_ns <= TIME_MAX && self.boottime_ns <= TIME_MAX,
            "clock",
        )?;
        const REGISTRATIONS: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8;
        ensure(
            self.membarrier & !REGISTRATIONS == 0,
            "barrier registration",
        )?;
        ensure(self.reseed.len() <= MAX_RESEED, "function to call")?;
        let calls = self.reseed.iter().all(|address| self.is_code(*address));
        ensure(calls, "function to call")
    }

    fn check_descriptors(&self) -> Checked {
        let most = usize::try_from(slot::FIRST).unwrap_or(0);
        ensure(self.descriptors.len() <= most, "number of descriptors")?;
        ensure(self.descriptions.len() <= most, "number of descriptions")?;
        ensure(self.pipes.len() <= most, "number of pipes")?;
        let mut last = -1;
        for Descriptor {
            fd, description, ..
        } in &self.descriptors
        {
            ensure(*fd > last && *fd < slot::FIRST, "descriptor number")?;
            last = *fd;
            ensure(
                position(*description, self.descriptions.len()),
                "descriptor's description",
            )?;
        }
        for pipe in &self.pipes {
            const CAPACITY: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
            ensure(
                CAPACITY.contains(&pipe.capacity) && pipe.capacity.is_power_of_two(),
                "pipe capacity",
            )?;
            let fits = usize::try_from(pipe.capacity).is_ok_and(|most| pipe.content.len() <= most);
            ensure(fits, "pipe content")?;
        }
        let open: BTreeSet<i32> = self.descriptors.iter().map(|entry| entry.fd).collect();
        for description in &self.descriptions {
            const REFUSED: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;
            let flags = description.flags.cast_signed();
            ensure(flags & REFUSED == 0 && flags >= 0, "status flags")?;
            self.check_kind(&description.kind, &open)?;
        }
        Ok(())
    }

    fn check_kind(&self, kind: &Kind, open: &BTreeSet<i32>) -> Checked {
        match kind {
            Kind::Path { path: name, offset } => {
                path(name, "path of an open file")?;
                ensure(*offset <= TIME_MAX, "file offset")
            }
            Kind::Object { object, offset } => {
                ensure(position(*object, self.objects.len()), "open object")?;
                ensure(*offset <= FILE_MAX, "file offset")
            }
            Kind::External(_) | Kind::Signal { .. } => Ok(()),
            Kind::Pipe { pipe, .. } => ensure(position(*pipe, self.pipes.len()), "pipe"),
            Kind::Event { count, .. } => ensure(*count < u64::MAX, "event count"),
            Kind::Epoll { watches } => {
                ensure(watches.len() <= MAX_WATCHES, "number of watches")?;
                let known = watches.iter().all(|watch| open.contains(&watch.fd));
                ensure(known, "watched descriptor")
            }
            Kind::Timer {
                clock,
                value_ns,
                interval_ns,
                ..
            } => {
                // Realtime, monotonic, boottime, and both that wake the machine.
                ensure(matches!(clock, 0 | 1 | 7 | 8 | 9), "clock")?;
                ensure(*value_ns <= TIME_MAX && *interval_ns <= TIME_MAX, "timer")
            }
            Kind::Inotify { watches } => {
                ensure(watches.len() <= MAX_WATCHES, "number of watches")?;
                watches.iter().try_for_each(|(id, name, _)| {
                    ensure(*id > 0, "watch")?;
                    path(name, "watched path")
                })
            }
            Kind::SocketPair {
                end,
                socket_type,
                content,
                ..
            } => {
                let known = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
                ensure(*end < 2 && known.contains(socket_type), "socket pair")?;
                ensure(content.len() <= MAX_CONTENT, "socket content")
            }
            Kind::Socket(socket) => check_socket(socket),
        }
    }

    fn check_timers(&self) -> Checked {
        ensure(self.timers.len() <= MAX_TIMERS, "number of timers")?;
        ensure(self.interval_timers.len() <= 3, "number of timers")?;
        let tids: BTreeSet<i32> = self.threads.iter().map(|thread| thread.tid).collect();
        let ids: BTreeSet<i32> = self.timers.iter().map(|timer| timer.id).collect();
        ensure(ids.len() == self.timers.len(), "timer ids")?;
        for timer in &self.timers {
            let PosixTimer {
                id,
                clock,
                notify,
                signal,
                tid,
                value_ns,
                interval_ns,
                ..
            } = *timer;
            ensure(id >= 0 && matches!(clock, 0 | 1 | 2 | 7), "timer")?;
            // SIGEV_SIGNAL, SIGEV_NONE, SIGEV_SIGNAL | SIGEV_THREAD_ID.
            ensure(matches!(notify, 0 | 1 | 4), "timer's notification")?;
            ensure(notify != 4 || tids.contains(&tid), "timer's thread")?;
            ensure(notify == 1 || (1..=64).contains(&signal), "timer's signal")?;
            ensure(value_ns <= TIME_MAX && interval_ns <= TIME_MAX, "timer")?;
        }
        for timer in &self.interval_timers {
            ensure((0..3).contains(&timer.which), "interval timer")?;
            let times = timer.value_ns <= TIME_MAX && timer.interval_ns <= TIME_MAX;
            ensure(times, "interval timer")?;
        }
        Ok(())
    }

    fn check_scratch(&self) -> Checked {
        ensure(self.scratch.len() <= MAX_SCRATCH, "number of scratch files")?;
        self.scratch.iter().try_for_each(|entry| {
            let ScratchEntry {
                path: name,
                mode,
                content,
                ..
            } = entry;
            path(name, "path of a scratch file")?;
            ensure(is_scratch(name), "path of a scratch file")?;
            ensure(mode & !0o7777 == 0, "mode of a scratch file")?;
            match content {
                ScratchContent::Directory => Ok(()),
                ScratchContent::Link(target) => {
                    ensure((1..=MAX_PATH).contains(&target.len()), "link")?;
                    no_nul(target, "link")
                }
                ScratchContent::File { len, offset } => {
                    ensure(*len <= FILE_MAX, "length of a scratch file")?;
                    let padded = len.next_multiple_of(PAGE);
                    self.check_pages(*offset, padded, "content of a scratch file")
                }
            }
        })
    }
}

/// Loaded by the processor: what it does not know, or what is reserved, would end the thaw.
fn check_extended(state: &[u8]) -> Checked {
    let what = "extended state";
    const FEATURES: std::ops::Range<usize> = 512..520;
    const RESERVED: std::ops::Range<usize> = 520..576;
    let here = ExtendedState::here();
    ensure(state.len() >= 576 && state.len() <= 16 << 10, what)?;
    let features = state[FEATURES]
        .try_into()
        .map_or(u64::MAX, u64::from_le_bytes);
    ensure(features & !(here.features | 3) == 0, what)?;
    ensure(state[RESERVED].iter().all(|byte| *byte == 0), what)?;
    // Cutting off what the features need would load something else.
    let needed = (2..63)
        .filter(|feature| features >> feature & 1 != 0)
        .map(ExtendedState::end_of)
        .fold(576, usize::max);
    ensure(needed <= state.len(), what)?;
    const MXCSR: std::ops::Range<usize> = 24..28;
    let control = state[MXCSR].try_into().map_or(u32::MAX, u32::from_le_bytes);
    ensure(control & !0xffff == 0, what)
}

fn check_socket(socket: &Socket) -> Checked {
    let what = "socket";
    let internet = matches!(socket.domain, libc::AF_INET | libc::AF_INET6);
    let unix = socket.domain == libc::AF_UNIX;
    let netlink = socket.domain == libc::AF_NETLINK;
    ensure(internet || unix || netlink, what)?;
    let types = [
        libc::SOCK_STREAM,
        libc::SOCK_DGRAM,
        libc::SOCK_SEQPACKET,
        libc::SOCK_RAW,
    ];
    ensure(types.contains(&socket.socket_type), what)?;
    let stream = socket.socket_type == libc::SOCK_STREAM;
    let protocols = [
        libc::IPPROTO_IP,
        libc::IPPROTO_ICMP,
        libc::IPPROTO_TCP,
        libc::IPPROTO_UDP,
        libc::IPPROTO_ICMPV6,
        libc::IPPROTO_MPTCP,
    ];
    let protocol = if internet {
        protocols.contains(&socket.protocol)
    } else {
        // Of netlink, this is the one about routes.
        socket.protocol == 0
    };
    ensure(protocol, what)?;
    let address = |address: &[u8]| check_address(socket.domain, address);
    match &socket.state {
        SocketState::New => {}
        SocketState::Bound { local } => address(local)?,
        SocketState::Listening { local, backlog } => {
            ensure(*backlog >= 0 && !netlink, what)?;
            address(local)?;
        }
        SocketState::Reconnect { local, peer } => {
            ensure(internet && stream, what)?;
            address(local)?;
            address(peer)?;
        }
        SocketState::Reset { local, peer } => {
            ensure((internet && stream) || unix, what)?;
            // A socket that had been closed already has no addresses.
            for known in [local, peer].into_iter().filter(|known| !known.is_empty()) {
                address(known)?;
            }
        }
        SocketState::Datagram { local, peer } => {
            ensure(!stream, what)?;
            address(local)?;
            address(peer)?;
        }
    }
    ensure(socket.options.len() <= 128, "number of socket options")?;
    for (level, name, value) in &socket.options {
        ensure(is_option(*level, *name), "socket option")?;
        ensure(value.len() <= 64, "socket option's value")?;
    }
    Ok(())
}

/// The form of an address; where it leads, the network of the environment decides.
fn check_address(domain: i32, address: &[u8]) -> Checked {
    let what = "socket address";
    let lengths = match domain {
        libc::AF_INET => 16..=16,
        libc::AF_INET6 => 28..=28,
        libc::AF_NETLINK => 12..=12,
        // A family alone has no name, and asks the kernel to choose one.
        libc::AF_UNIX => 2..=110,
        _ => return Err(ImageError::Invalid(what)),
    };
    ensure(lengths.contains(&address.len()), what)?;
    let family = address
        .first_chunk()
        .map(|bytes| u16::from_le_bytes(*bytes));
    ensure(family.map(i32::from) == Some(domain), what)
}

/// Socket options that a thaw may set. What needs a privilege, names another socket or a device,
/// or attaches a program is not among them.
pub(crate) fn is_option(level: i32, name: i32) -> bool {
    const SOCKET: &[i32] = &[
        libc::SO_REUSEADDR,
        libc::SO_DONTROUTE,
        libc::SO_BROADCAST,
        libc::SO_SNDBUF,
        libc::SO_RCVBUF,
        libc::SO_KEEPALIVE,
        libc::SO_OOBINLINE,
        libc::SO_NO_CHECK,
        libc::SO_PRIORITY,
        libc::SO_LINGER,
        libc::SO_REUSEPORT,
        libc::SO_PASSCRED,
        libc::SO_RCVLOWAT,
        libc::SO_RCVTIMEO,
        libc::SO_SNDTIMEO,
        libc::SO_TIMESTAMP,
        libc::SO_TIMESTAMPNS,
    ];
    const TCP: &[i32] = &[
        libc::TCP_NODELAY,
        libc::TCP_CORK,
        libc::TCP_KEEPIDLE,
        libc::TCP_KEEPINTVL,
        libc::TCP_KEEPCNT,
        libc::TCP_SYNCNT,
        libc::TCP_LINGER2,
        libc::TCP_DEFER_ACCEPT,
        libc::TCP_WINDOW_CLAMP,
        libc::TCP_QUICKACK,
        libc::TCP_CONGESTION,
        libc::TCP_USER_TIMEOUT,
        libc::TCP_FASTOPEN,
        libc::TCP_FASTOPEN_CONNECT,
        libc::TCP_NOTSENT_LOWAT,
    ];
    const IP: &[i32] = &[
        libc::IP_TOS,
        libc::IP_TTL,
        libc::IP_PKTINFO,
        libc::IP_MTU_DISCOVER,
        libc::IP_RECVERR,
        libc::IP_RECVTTL,
        libc::IP_RECVTOS,
        libc::IP_FREEBIND,
        libc::IP_BIND_ADDRESS_NO_PORT,
        libc::IP_MULTICAST_TTL,
        libc::IP_MULTICAST_LOOP,
    ];
    const IP6: &[i32] = &[
        libc::IPV6_V6ONLY,
        libc::IPV6_UNICAST_HOPS,
        libc::IPV6_MULTICAST_HOPS,
        libc::IPV6_MULTICAST_LOOP,
        libc::IPV6_MTU_DISCOVER,
        libc::IPV6_RECVERR,
        libc::IPV6_RECVPKTINFO,
        libc::IPV6_RECVHOPLIMIT,
        libc::IPV6_RECVTCLASS,
        libc::IPV6_TCLASS,
    ];
    const NETLINK: &[i32] = &[
        libc::NETLINK_PKTINFO,
        libc::NETLINK_CAP_ACK,
        libc::NETLINK_EXT_ACK,
        libc::NETLINK_GET_STRICT_CHK,
    ];
    let names = match level {
        libc::SOL_SOCKET => SOCKET,
        libc::IPPROTO_TCP => TCP,
        libc::IPPROTO_IP => IP,
        libc::IPPROTO_IPV6 => IP6,
        libc::SOL_NETLINK => NETLINK,
        _ => return false,
    };
    names.contains(&name)
}

fn aligned(value: u64) -> bool {
    value.is_multiple_of(PAGE)
}

fn range(start: u64, end: u64, what: &'static str) -> Checked {
    ensure(
        aligned(start) && aligned(end) && LOWEST <= start && start < end && end <= HIGHEST,
        what,
    )
}

fn position(index: u32, len: usize) -> bool {
    usize::try_from(index).is_ok_and(|index| index < len)
}

/// Below one of the directories that belong to an image, by plain names.
fn is_scratch(path: &[u8]) -> bool {
    let below = |directory: &[u8]| path.strip_prefix(directory);
    let names = below(b"/tmp/").or_else(|| below(b"/dev/shm/"));
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    names.is_some_and(|names| names.split(|byte| *byte == b'/').all(plain))
}

fn no_nul(bytes: &[u8], what: &'static str) -> Checked {
    ensure(!bytes.contains(&0), what)
}

fn path(path: &[u8], what: &'static str) -> Checked {
    ensure(path.starts_with(b"/") && path.len() <= MAX_PATH, what)?;
    no_nul(path, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CompileOptions, Memory, compile, example};

    fn refuses(what: &str, change: impl FnOnce(&mut Image)) {
        let mut image = example::image();
        change(&mut image);
        let err = Image::decode(&image.encode()).expect_err(what);
        assert_eq!(err.to_string(), format!("the image has an invalid {what}"));
    }

    #[test]
    fn an_image_survives_storage() {
        let image = example::image();
        assert_eq!(Image::decode(&image.encode()).unwrap(), image);
    }

    #[test]
    fn other_bytes_are_no_image() {
        let bytes = example::image().encode();
        for len in 0..bytes.len() {
            assert!(Image::decode(&bytes[..len]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(Image::decode(&longer), Err(ImageError::Malformed)));
        let mut newer = bytes;
        newer[4] += 1;
        assert!(matches!(Image::decode(&newer), Err(ImageError::Format(_))));
    }

    #[test]
    fn memory_outside_of_the_address_space_is_refused() {
        refuses("range of a mapping", |image| {
            image.mappings[1].end = HIGHEST + PAGE
        });
        refuses("range of a mapping", |image| image.mappings[0].start += 1);
        refuses("order of mappings", |image| image.mappings[0].start = 0);
        refuses("order of mappings", |image| image.mappings.swap(0, 1));
        refuses("special mapping", |image| {
            image.mappings[2].end = image.special[0].end
        });
        refuses("special mapping", |image| {
            image.special[1].end += PAGE * 100
        });
        refuses("special mapping", |image| image.special.clear());
    }

    #[test]
    fn content_outside_of_its_mapping_or_file_is_refused() {
        refuses("segment", |image| {
            image.mappings[0].segments[0].start -= PAGE
        });
        refuses("segment", |image| image.mappings[0].segments[0].len += PAGE);
        refuses("segment", |image| {
            image.mappings[0].segments[0].len = u64::MAX - PAGE + 1
        });
        refuses("segment", |image| {
            image.mappings[0].segments[0].offset = image.pages_len
        });
        refuses("segment", |image| {
            image.objects[0].segments[0].start += PAGE
        });
        refuses("file of a mapping", |image| {
            image.mappings[0].backing = Backing::Private { file: 9, offset: 0 };
        });
    }

    #[test]
    fn the_threads_are_the_processs_own() {
        refuses("main thread", |image| image.threads[0].tid = 21);
        refuses("thread ids", |image| {
            image.threads.push(image.threads[0].clone())
        });
        refuses("registers", |image| {
            image.threads[0].registers[21] = u64::MAX
        });
        refuses("registers", |image| {
            image.threads[0].registers.pop();
        });
        refuses("extended state", |image| image.threads[0].extended[514] = 6);
        refuses("extended state", |image| image.threads[0].extended[530] = 1);
        refuses("restartable sequence", |image| {
            image.threads[0].rseq = (0x0200_0000, 32, 0);
        });
        refuses("address to clear", |image| {
            image.threads[0].clear_tid = 0x0200_0000
        });
        refuses("function to call", |image| {
            image.reseed = vec![image.mappings[1].start]
        });
    }

    #[test]
    fn descriptors_of_the_thaw_are_not_the_images() {
        refuses("descriptor number", |image| image.descriptors[0].fd = 900);
        refuses("descriptor number", |image| image.descriptors[0].fd = -1);
        refuses("descriptor's description", |image| {
            image.descriptors[0].description = 99;
        });
        refuses("status flags", |image| {
            image.descriptions[0].flags |= 0o1000
        });
        refuses("path of an open file", |image| {
            image.descriptions[0].kind = Kind::Path {
                path: b"relative".to_vec(),
                offset: 0,
            };
        });
        refuses("watched descriptor", |image| {
            image.descriptions[0].kind = Kind::Epoll {
                watches: vec![crate::Watch {
                    fd: 901,
                    events: 1,
                    data: 0,
                }],
            };
        });
    }

    #[test]
    fn sockets_are_of_few_kinds() {
        let socket = |change: &dyn Fn(&mut Socket)| {
            let mut socket = Socket {
                domain: libc::AF_INET,
                socket_type: libc::SOCK_STREAM,
                protocol: 0,
                state: SocketState::New,
                options: Vec::new(),
            };
            change(&mut socket);
            Kind::Socket(socket)
        };
        let put = |what: &str, change: &dyn Fn(&mut Socket)| {
            refuses(what, |image| image.descriptions[0].kind = socket(change));
        };
        put("socket", &|socket| socket.domain = libc::AF_PACKET);
        put("socket", &|socket| socket.protocol = 132);
        put("socket address", &|socket| {
            socket.state = SocketState::Bound { local: vec![2, 0] };
        });
        // A filter program, and a device.
        for name in [26, 25] {
            put("socket option", &|socket| {
                socket.options = vec![(libc::SOL_SOCKET, name, vec![0; 4])];
            });
        }
    }

    #[test]
    fn user_registers_cannot_be_chosen_freely() {
        let mut image = example::image();
        image.threads[0].registers[17] = 0x10;
        image.threads[0].registers[18] = u64::MAX;
        let image = Image::decode(&image.encode()).unwrap();
        assert_eq!(image.threads[0].registers[17], 0x33);
        assert_eq!(image.threads[0].registers[18], 0x0004_0ed7);
    }

    proptest::proptest! {
        /// Whatever decodes also compiles, or is refused with a reason.
        #[test]
        fn damaged_images_do_no_harm(changes in proptest::collection::vec((8_usize..4000, 0_u8..=255), 1..4)) {
            let mut bytes = example::image().encode();
            for (at, byte) in changes {
                let at = 8 + at % (bytes.len() - 8);
                bytes[at] = byte;
            }
            if let Ok(image) = Image::decode(&bytes) {
                for memory in [Memory::Shared, Memory::Exact] {
                    let options = CompileOptions { memory, userfault: true, ..CompileOptions::default() };
                    let _ = compile(&image, &options);
                }
            }
        }
    }
}
