//! An execution environment as a Linux process: namespaces, cgroup, root file system, seccomp,
//! network.
//!
//! # What it defends
//!
//! Function code is hostile: it runs whatever it likes as its user inside, and its author knows
//! this source. It must not read or change anything of the host or of another environment, not
//! learn of their existence where that can be helped, and not take more memory, processes, files
//! or tracked connections than it was given. One environment belongs to one function version;
//! processes *within* it (runtime and extensions) are not defended against each other.
//!
//! Not defended: bugs of the kernel (the system call filter makes fewer of them reachable),
//! channels through shared hardware and page cache, and code against its own environment.
//!
//! # Processes
//!
//! ```text
//! server ──────── control sockets ─────────────────────┐
//!   └── spawner (the same program, one thread)         │
//!         ├── init of an environment (pid 1 inside) <──┤
//!         │     ├── runtime                            │
//!         │     └── extension                          │
//!         └── init of another <────────────────────────┘
//! ```
//!
//! * The *server* ([`Sandboxes`]) is multi-threaded and async; it makes no process itself.
//! * The *spawner* holds the privileges and makes environments by `clone3`, without `exec`.
//! * An *init* sets its environment up and starts programs in it.
//!
//! When the server dies, by whatever cause, its sockets close: the spawner then kills every
//! environment and removes its groups and interfaces, and every init ends by itself. When the
//! spawner dies, the kernel kills every init; the server starts another spawner.
//!
//! # The life of an environment
//!
//! 1. *Prepared*, ahead of time: namespaces of users, processes, mounts, network, IPC and names,
//!    a root without any trace of the host's, listeners on loopback, an interface to the outside.
//! 2. *Entered* with a [`Spec`]: limits, code, `/tmp`. The root is read-only from here on.
//! 3. Programs are *spawned*: another user, its cgroups, no capability, the filter. Or a process is
//!    brought back from an image, by playing its tape (see [`snapshot`]), which ends in the same state.
//! 4. *Frozen* and *thawed* between invocations.
//! 5. *Destroyed*: pid 1 is killed, and the kernel with it everything inside.
//!
//! Users, groups and addresses of an environment are its own among all that live.
//!
//! # Choices
//!
//! * `/tmp` is a tmpfs. Its pages count against the function's memory, which on AWS they do not.
//!   An ext4 image on a loop device per environment would not, but setting one up took 40 ms and
//!   tearing it down 80 ms on a busy two-core machine, ten times all the rest together.
//! * The v2 freezer is preferred even where limits come from v1: what it has frozen can still be
//!   killed.
//! * Rootless, there is one user for everything. Environments are then separated by namespaces
//!   alone, and [`doctor`] says so.
//!
//! Linux 5.12 or later, x86-64 and arm64.

mod cgroup;
mod config;
mod connector;
mod doctor;
mod error;
mod init;
mod link;
mod mounts;
mod network;
mod process;
mod sandbox;
mod sandboxes;
mod seccomp;
mod service;
mod spawner;
mod spec;
mod sys;
mod thawing;
mod wire;

pub use config::{Config, Egress, Freezer, Relaxations};
pub use connector::Connector;
pub use doctor::{Check, Status, doctor};
pub use error::Error;
pub use process::Process;
pub use sandbox::{Prepared, Sandbox};
pub use sandboxes::Sandboxes;
pub use spawner::spawner_main;
pub use spec::{Command, Confinement, Exit, Mount, Spec, Thaw};
pub use sys::keep_descriptors;
