//! Control groups: limits, measurement and freezing of the function processes of an environment.
//!
//! Both versions are served, also mixed: a host may have its controllers in v1 hierarchies and an
//! empty unified one. The freezer is chosen by itself and v2 is preferred, because processes
//! frozen by v2 can still be killed and traced; under v1 they have to be thawed first.
//!
//! Only function processes are inside. The environment's init stays out of it: it must work while
//! they are frozen, must not be the victim when memory runs out, and its own memory is not theirs.

mod files;
mod hierarchy;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use files::{Group, Limits, OomSource};
pub use hierarchy::{Cell, Tree};

/// Where limits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// No limits.
    #[default]
    None,
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// How processes are stopped between invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Freezer {
    /// SIGSTOP to every process.
    #[default]
    Signals,
    /// `freezer.state`.
    V1,
    /// `cgroup.freeze`.
    V2,
}

/// The directories of one environment's function processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// v1 hierarchies.
    pub memory: Option<PathBuf>,
    /// As above.
    pub pids: Option<PathBuf>,
    /// As above.
    pub cpu: Option<PathBuf>,
    /// As above; only when the v1 freezer is used.
    pub freezer: Option<PathBuf>,
    /// The unified hierarchy, for freezing at least.
    pub unified: Option<PathBuf>,
    /// Whether the unified hierarchy also carries the limits.
    pub unified_limits: bool,
}
