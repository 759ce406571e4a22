//! What a frozen process consists of.
//!
//! An image is two things: this description, and a *page file*, to which descriptions of memory,
//! of shared objects and of files refer by offset. Offsets into the page file and lengths of what
//! lies there are multiples of [`PAGE`].
//!
//! Images come back from storage, so that everything in one is hostile until
//! [`Image::decode`] has checked it.

mod validate;

use serde::{Deserialize, Serialize};

pub use validate::ImageError;

/// Changes whenever an older program could misread an image.
pub const FORMAT: u32 = 1;
/// Bytes of a page; images are only made on machines that have this size.
pub const PAGE: u64 = 4096;

/// A process at rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// [`FORMAT`].
    pub format: u32,
    /// The machine it can run on.
    pub host: Host,
    /// Process id inside its pid namespace.
    pub pid: i32,
    /// The main thread is the first; its `tid` is `pid`.
    pub threads: Vec<Thread>,
    /// Ascending, without overlap; without the kernel's own ([`Image::special`]).
    pub mappings: Vec<Mapping>,
    /// The kernel's own mappings (`[vvar]`, `[vvar_vclock]`, `[vdso]`), ascending.
    pub special: Vec<Special>,
    /// Files that mappings refer to by index.
    pub files: Vec<MappedFile>,
    /// Shared memory that has no file any more: memfds, deleted files, `MAP_SHARED|MAP_ANONYMOUS`.
    pub objects: Vec<Object>,
    /// Open file descriptions, which descriptors refer to by index.
    pub descriptions: Vec<Description>,
    /// Ascending by number.
    pub descriptors: Vec<Descriptor>,
    /// Pipes, which descriptions refer to by index.
    pub pipes: Vec<Pipe>,
    /// Actions of the signals 1 to 64, in order.
    pub signals: Vec<SignalAction>,
    /// Where code, data, heap and stack begin and end, for `PR_SET_MM_MAP`.
    pub layout: Layout,
    /// As in `/proc/PID/auxv`.
    pub auxv: Vec<u8>,
    /// Path of the program.
    pub exe: Vec<u8>,
    pub cwd: Vec<u8>,
    pub umask: u32,
    /// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` as the process saw them, nanoseconds.
    pub monotonic_ns: u64,
    pub boottime_ns: u64,
    /// What the process has registered with `membarrier`, as `MEMBARRIER_CMD_GET_REGISTRATIONS`
    /// answers.
    pub membarrier: u32,
    /// POSIX timers (`timer_create`), and interval timers (`setitimer`).
    pub timers: Vec<PosixTimer>,
    pub interval_timers: Vec<IntervalTimer>,
    /// Functions without arguments to call on the main thread's stack before it continues; they
    /// reseed random number generators (`RAND_poll` of each OpenSSL).
    pub reseed: Vec<u64>,
    /// What is in `/tmp` and `/dev/shm`, parents before children. Restored before the thaw.
    pub scratch: Vec<ScratchEntry>,
    /// Length of the page file.
    pub pages_len: u64,
}

/// Where an image can run: the code in it was chosen for this processor and this kernel's vDSO.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Host {
    /// `uname -m`.
    pub machine: String,
    /// `uname -r`.
    pub kernel: String,
    /// Hash of the vDSO's bytes.
    pub vdso: u64,
    /// Hash of what the processor says that it can do: CPUID leaves and XCR0.
    pub cpu: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Inside its pid namespace.
    pub tid: i32,
    /// The kernel's `user_regs_struct`: 27 words on x86-64. An interrupted system call has been
    /// wound back already, so that the thread makes it again.
    pub registers: Vec<u64>,
    /// Extended state in the standard, non-compacted XSAVE form, without the features that
    /// `rt_sigreturn` refuses.
    pub extended: Vec<u8>,
    pub signal_mask: u64,
    /// `sigaltstack`: address, flags, size.
    pub alternate_stack: (u64, u32, u64),
    /// Address that is cleared when the thread ends (`set_tid_address`), 0 for none.
    pub clear_tid: u64,
    /// Head of the robust futex list and its length, 0 for none.
    pub robust_list: (u64, u64),
    /// Restartable sequences: address, length, signature; address 0 for none.
    pub rseq: (u64, u32, u32),
    /// Thread name.
    pub name: Vec<u8>,
}

/// One contiguous mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// `PROT_*`.
    pub protection: u32,
    pub backing: Backing,
    /// Memory whose content differs from the backing (or from zero), ascending, inside the
    /// mapping. Always empty for shared mappings.
    pub segments: Vec<Segment>,
    /// Properties from `VmFlags`.
    pub advice: Advice,
}

/// What a mapping shows where no segment covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Zeroes, private.
    Anonymous,
    /// The file [`Image::files`]`[file]` from `offset`, private.
    Private { file: u32, offset: u64 },
    /// The same, shared; never writable unless the file says so.
    Shared { file: u32, offset: u64 },
    /// The object [`Image::objects`]`[object]` from `offset`, shared.
    Object { object: u32, offset: u64 },
}

/// Memory that comes from the page file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub start: u64,
    pub len: u64,
    /// Offset in the page file.
    pub offset: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// `gd`: a stack that grows.
    pub grows_down: bool,
    /// `nr`
    pub no_reserve: bool,
    /// `hg` and `nh`
    pub huge_pages: Option<bool>,
    /// `dc`: not inherited by fork.
    pub dont_fork: bool,
    /// `dd`
    pub dont_dump: bool,
    /// `wf`: zeroes after a fork. Their content is left out on purpose: random number generators
    /// and the like find themselves reset, as after a fork.
    pub wipe_on_fork: bool,
    /// `lo`
    pub locked: bool,
    /// `mg`
    pub mergeable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    /// `[vdso]` and so on.
    pub name: String,
    pub start: u64,
    pub end: u64,
}

/// A file of the environment's root that memory shows. It must be the same at the thaw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedFile {
    pub path: Vec<u8>,
    /// It is mapped shared and may be written through the mapping. Such a file is among the scratch
    /// files, and its size and time are not compared.
    pub writable: bool,
    pub size: u64,
    /// Nanoseconds since the epoch. Not compared under `/var/task` and `/opt`, whose content the
    /// identity of the snapshot covers and whose times differ between machines.
    pub modified_ns: i64,
}

/// Shared memory without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Shows in `/proc/PID/maps` of a clone.
    pub name: Vec<u8>,
    pub len: u64,
    /// What is not zero, `start` counting from the beginning of the object.
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub fd: i32,
    pub close_on_exec: bool,
    /// Index into [`Image::descriptions`]. Several descriptors share one after a `dup`.
    pub description: u32,
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Status flags and access mode as of `F_GETFL`.
    pub flags: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// A file, directory or device that has a path.
    Path {
        path: Vec<u8>,
        offset: u64,
    },
    /// A memfd or a deleted file: an index into [`Image::objects`].
    Object {
        object: u32,
        offset: u64,
    },
    /// One end of a pipe that goes to the server; the thaw brings a new one. See [`External`].
    External(External),
    /// One end of a pipe that stays inside the process: an index into [`Image::pipes`].
    Pipe {
        pipe: u32,
        end: PipeEnd,
    },
    Event {
        count: u64,
        semaphore: bool,
    },
    Epoll {
        watches: Vec<Watch>,
    },
    /// `timerfd`: the clock, its setting (relative to now), and expirations not yet read.
    Timer {
        clock: i32,
        value_ns: u64,
        interval_ns: u64,
        ticks: u64,
    },
    /// `signalfd`
    Signal {
        mask: u64,
    },
    Inotify {
        watches: Vec<(i32, Vec<u8>, u32)>,
    },
    /// A connected pair of unix sockets; the other end has the same `pair`, or is closed.
    SocketPair {
        pair: u32,
        end: u8,
        socket_type: i32,
        content: Vec<u8>,
    },
    Socket(Socket),
}

/// What a thaw replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum External {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// Log frames (`_LAMBDA_TELEMETRY_LOG_FD`).
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PipeEnd {
    Read,
    Write,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    pub capacity: u32,
    /// Written and not yet read.
    pub content: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The number under which it was added; that descriptor is still open and the same.
    pub fd: i32,
    pub events: u32,
    pub data: u64,
}

/// A socket other than a unix pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    pub domain: i32,
    pub socket_type: i32,
    pub protocol: i32,
    pub state: SocketState,
    /// (level, name, value) of each option that differs from a new socket's.
    pub options: Vec<(i32, i32, Vec<u8>)>,
}

/// Addresses are raw `sockaddr` bytes: a Java socket to an IPv4 address is an IPv6 one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketState {
    /// Not bound, not connected.
    New,
    Bound {
        local: Vec<u8>,
    },
    Listening {
        local: Vec<u8>,
        backlog: i32,
    },
    /// Connected to a listener on the environment's own loopback that the server provides; the
    /// thaw connects again from the same local address.
    Reconnect {
        local: Vec<u8>,
        peer: Vec<u8>,
    },
    /// Connected to somewhere that does not remember: the clone finds its connection reset.
    Reset {
        local: Vec<u8>,
        peer: Vec<u8>,
    },
    /// A connected datagram socket.
    Datagram {
        local: Vec<u8>,
        peer: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalAction {
    /// The kernel's `struct sigaction`: handler, flags, restorer, mask.
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosixTimer {
    pub id: i32,
    pub clock: i32,
    /// `sigev_notify`, the signal, its value, and the thread for `SIGEV_THREAD_ID`.
    pub notify: i32,
    pub signal: i32,
    pub value: u64,
    pub tid: i32,
    pub value_ns: u64,
    pub interval_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalTimer {
    /// `ITIMER_*`
    pub which: i32,
    pub value_ns: u64,
    pub interval_ns: u64,
}

/// One entry of `/tmp` or `/dev/shm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchEntry {
    /// Absolute, plain components only.
    pub path: Vec<u8>,
    pub mode: u32,
    pub modified_ns: i64,
    pub content: ScratchContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScratchContent {
    Directory,
    Link(Vec<u8>),
    /// Its bytes lie in the page file from `offset`, padded to whole pages.
    File {
        len: u64,
        offset: u64,
    },
}

/// Pages that a clone touches up to its first answer: what a later thaw should have ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingSet {
    /// Address ranges (start, length) that it writes.
    pub written: Vec<(u64, u64)>,
    /// Ranges of the page file (offset, length) that it reads or writes.
    pub touched: Vec<(u64, u64)>,
    /// Address ranges (start, length) where it sees other files.
    #[serde(default)]
    pub files: Vec<(u64, u64)>,
    /// How often [`Self::add`] has added to it.
    #[serde(default)]
    pub additions: u32,
}
