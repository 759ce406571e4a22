use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which functions have snapshots, and what is kept ready of them. Every default is documented at
/// its field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapStart {
    /// Default `aws`.
    pub mode: SnapStartMode,
    /// Most environments that are kept parked for one function that is in use: thawed up to their
    /// last step, frozen, woken in about a millisecond. 0 parks none. Default 2.
    pub parked_per_function: usize,
    /// A parked environment that was not needed for this long is ended. Default 300.
    pub parked_idle_s: u64,
    /// What a parked environment counts against `memory_budget_mb`: the pages it has of its own.
    /// Default 24.
    pub parked_memory_mb: u32,
    /// Images whose pages are kept in this server's memory, together; the least recently used go
    /// first. 0 means an eighth of the host's memory. Default 0.
    pub memory_cache_mb: u64,
    /// Snapshots being made at once. Default 2.
    pub parallel_snapshots: usize,
    /// Length of the restore phase, after-restore hooks included. Default 10,000, as on AWS.
    pub restore_timeout_ms: u64,
    /// Least length of the init phase of a snapshot; a function's timeout applies where it is
    /// longer. Default 130,000, as on AWS.
    pub init_timeout_ms: u64,
    /// Time between two collections of unused chunks. Default 3,600.
    pub collect_interval_s: u64,
    /// An image in the store that belongs to no function of this server is deleted after this
    /// time without a use: another server that shares the store may own it. Default 604,800 (a
    /// week).
    pub orphan_age_s: u64,
}

/// Which functions have snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapStartMode {
    /// Published versions whose configuration asks for it, as on AWS.
    #[default]
    Aws,
    /// Every version and `$LATEST`, made when a function is created or changed.
    Eager,
    /// Every version and `$LATEST`, made after the first cold start.
    Auto,
}

impl Default for SnapStart {
    fn default() -> Self {
        Self {
            mode: SnapStartMode::default(),
            parked_per_function: 2,
            parked_idle_s: 300,
            parked_memory_mb: 24,
            memory_cache_mb: 0,
            parallel_snapshots: 2,
            restore_timeout_ms: 10_000,
            init_timeout_ms: 130_000,
            collect_interval_s: 3600,
            orphan_age_s: 604_800,
        }
    }
}

impl SnapStart {
    pub(crate) fn parked_idle(&self) -> Duration {
        Duration::from_secs(self.parked_idle_s)
    }

    pub(crate) fn restore_timeout(&self) -> Duration {
        Duration::from_millis(self.restore_timeout_ms)
    }

    pub(crate) fn init_timeout(&self, function_timeout: Duration) -> Duration {
        Duration::from_millis(self.init_timeout_ms).max(function_timeout)
    }

    pub(crate) fn collect_interval(&self) -> Duration {
        Duration::from_secs(self.collect_interval_s.max(1))
    }

    pub(crate) fn memory_cache_bytes(&self, host_memory_mb: u64) -> u64 {
        let mb = match self.memory_cache_mb {
            0 => host_memory_mb / 8,
            mb => mb,
        };
        mb.saturating_mul(1024 * 1024)
    }
}
