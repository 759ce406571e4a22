use std::time::Duration;

use serde::Deserialize;

/// How much memory the store may use, and how long relaxed appends may wait for the disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Cache of table blocks read from disk. Default 4 MiB.
    pub cache_bytes: u64,
    /// Recent writes held in memory, for records and for log entries each, before they become a
    /// sorted table. Default 4 MiB.
    pub memtable_bytes: u64,
    /// Relaxed appends that the disk has not taken yet; beyond this they are refused. Default 16 MiB.
    pub relaxed_bytes: usize,
    /// Durable writes queued for the committer; beyond this they are refused. Default 128 MiB.
    pub queue_bytes: usize,
    /// Longest time until a relaxed append is on disk, in milliseconds. Default 500.
    pub sync_interval_ms: u64,
    /// Sorted tables up to this size in total are verified when the store is opened; all others
    /// when they are read. Default 32 MiB.
    pub verify_at_open_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 4 << 20,
            memtable_bytes: 4 << 20,
            relaxed_bytes: 16 << 20,
            queue_bytes: 128 << 20,
            sync_interval_ms: 500,
            verify_at_open_bytes: 32 << 20,
        }
    }
}

impl Config {
    pub(crate) fn sync_interval(&self) -> Duration {
        Duration::from_millis(self.sync_interval_ms)
    }
}
