use std::sync::Arc;

use clock::Timestamp;
use serde::Serialize;

/// What came of making a snapshot. The version works in both cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    Ready {
        /// The image's name in the store.
        id: String,
        /// Size of its memory and files.
        bytes: u64,
        /// What it takes in the store, compressed and without what was there already. 0 when it
        /// was there.
        stored_bytes: u64,
        /// It was in the store already: no init has run.
        adopted: bool,
    },
    /// The function holds something that cannot be frozen; it is cold-started.
    Unfit {
        /// Names it exactly.
        reason: String,
    },
}

/// Why there is no snapshot. Cheap to clone: everybody who waited for it is told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The function's init failed.
    #[error("{}: {}", .0.error_type, .0.message)]
    Init(InitFailure),
    /// The host has no interpreter for the function's runtime.
    #[error("cannot run this runtime")]
    Runtime(#[source] Arc<crate::RuntimeError>),
    #[error("cannot start an execution environment")]
    Environment(#[source] Arc<sandbox::Error>),
    /// The frozen process could not be written down.
    #[error("cannot freeze the environment")]
    Freeze(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error("cannot store the snapshot")]
    Store(#[source] chunks::Error),
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The invoker was made without an image store.
    #[error("snapshots are not configured")]
    Disabled,
    /// The function was deleted or changed meanwhile.
    #[error("the function revision is gone")]
    Forgotten,
}

/// A failed init, as an invocation that meets one shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitFailure {
    /// `Runtime.ImportModuleError`, `Runtime.ExitError`, `Sandbox.Timedout` and so on.
    pub error_type: String,
    pub message: String,
    /// What AWS puts into a version's `StateReasonCode`.
    pub state_reason_code: &'static str,
}

/// One snapshot, for status displays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotStatus {
    pub function_arn: String,
    pub version: String,
    pub runtime: String,
    /// The image's name in the store; `None` until it is known.
    pub id: Option<String>,
    pub state: SnapshotState,
    /// Why it is `unfit` or `failed`.
    pub reason: Option<String>,
    pub created: Option<Timestamp>,
    pub age_s: Option<u64>,
    /// Size of its memory and files.
    pub bytes: Option<u64>,
    /// What it takes in the store, compressed.
    pub stored_bytes: Option<u64>,
    /// The nearest place that has it whole.
    pub tier: Option<SnapshotTier>,
    pub restores: u64,
    /// Starts that wanted it and had to be cold.
    pub cold_fallbacks: u64,
    /// Share of the starts of this function that were restores or wake-ups since the server
    /// started.
    pub hit_rate: Option<f64>,
    pub parked_hits: u64,
    pub parked: usize,
    /// Of restores on the way of a request, hooks included.
    pub restore_p50_ms: Option<f64>,
    pub restore_p99_ms: Option<f64>,
    /// Pages written and touched up to the first answer are known.
    pub working_set_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// Nobody has asked for it since the server started.
    Unknown,
    Creating,
    Ready,
    /// The function holds something that cannot be frozen.
    Unfit,
    /// The last try to make it failed.
    Failed,
}

/// Where an image can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SnapshotTier {
    #[serde(rename = "memory")]
    Memory,
    #[serde(rename = "disk")]
    Disk,
    #[serde(rename = "object store")]
    ObjectStore,
}
