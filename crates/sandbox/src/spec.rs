//! What one environment is given, and what runs in it.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use crate::Egress;

/// The shape of one environment, fixed when it is entered.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Memory of all function processes together; swap is not available to them.
    pub memory_bytes: u64,
    /// Share of CPUs, 1.0 being one. `None` leaves it unlimited.
    pub cpu: Option<f64>,
    /// Processes and threads together.
    pub pids_max: u32,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// Read-only directories or files. Several with the same target are merged, the last one wins.
    pub mounts: Vec<Mount>,
    /// Name of the machine as functions see it.
    pub hostname: String,
    /// Further lines of `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
    /// Narrows the server's setting for this environment; it never widens it.
    pub egress: Option<Egress>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu: None,
            pids_max: 1024,
            tmp_bytes: 512 << 20,
            mounts: Vec::new(),
            hostname: "sandbox".into(),
            hosts: Vec::new(),
            egress: None,
        }
    }
}

/// A host directory or file shown read-only inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host. Nobody but the server needs to be able to reach it.
    pub source: PathBuf,
    /// Absolute path inside, created when absent.
    pub target: PathBuf,
}

/// A program to run inside. Its standard input is empty, its output goes to pipes.
#[derive(Debug)]
pub struct Command {
    /// Absolute path inside.
    pub program: PathBuf,
    /// Arguments after the program's own name.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Further descriptors and the numbers under which the program finds them (3 and above).
    pub fds: Vec<(OwnedFd, RawFd)>,
}

impl Command {
    /// A command without arguments, environment or further descriptors, run in `/`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            fds: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A process to be brought back from an image. See [`snapshot::compile`] for what a tape is.
#[derive(Debug, Clone, Copy)]
pub struct Thaw<'a> {
    /// The process id that it had, and gets again, inside.
    pub pid: i32,
    /// The tape, compiled for this server's [`Confinement`](crate::Confinement).
    pub tape: BorrowedFd<'a>,
    /// The page file, opened for reading only.
    pub pages: BorrowedFd<'a>,
    /// The write end of the pipe for log frames, if the image has one.
    pub log: Option<BorrowedFd<'a>>,
    /// The device `/dev/userfaultfd` and the socket over which the server gets the descriptor for
    /// the clone's page faults; for tapes that want it.
    pub userfault: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// A file with the image's scratch entries, encoded by [`snapshot::encode_scratch`], if there
    /// are any.
    pub scratch: Option<BorrowedFd<'a>>,
}

/// What function processes are made to be, which a tape has to do by itself.
#[derive(Debug, Clone)]
pub struct Confinement {
    pub uid: u32,
    pub gid: u32,
    /// Whether supplementary groups must (and can) be dropped.
    pub drop_groups: bool,
    /// The system call filter; empty where the kernel has none and the operator accepted that.
    pub filter: Vec<libc::sock_filter>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// It was killed by this signal. Also the answer (with SIGKILL) for a process whose whole
    /// environment went away.
    Signal(i32),
}
