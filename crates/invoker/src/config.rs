use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::SnapStart;

/// Limits and times of the invoker. Every default is documented at its field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Invocations running at once per account; more are throttled. Default 1000, as on AWS.
    pub account_concurrency: u32,
    /// New environments that one function may be given in ten seconds, apart from provisioned ones;
    /// who needs another is throttled. 0 means any number. Default 1000, as on AWS.
    pub environments_per_10_s: u32,
    /// Requests per second for each unit of concurrency, of the account or of what is reserved for
    /// the function; more are throttled. 0 means any number; AWS has 10. Default 0.
    pub requests_per_second_per_concurrency: u32,
    /// Length of the init phase. Default 10,000, as on AWS.
    pub init_timeout_ms: u64,
    /// How long an environment stays thawed after its runtime asked for the next event, so that a
    /// hot loop pays for neither freeze nor thaw. Default 10.
    pub freeze_grace_ms: u64,
    /// An environment idle for longer is ended. Default 600.
    pub idle_timeout_s: u64,
    /// Cold starts under way at once; 0 means twice the number of cores. Default 0.
    pub parallel_starts: usize,
    /// A cold start gives its turn to the next after this time even when its init still runs, so
    /// that functions with a slow init do not hold up others. Default 1,000.
    pub start_turn_ms: u64,
    /// Sum of `MemorySize` over all environments; 0 means 80 % of the host's memory. Default 0.
    pub memory_budget_mb: u64,
    /// An invocation that no environment could be found for in this time fails. Default 300.
    pub queue_wait_s: u64,
    /// Limit of a buffered response. Default 6,291,556, as on AWS.
    pub max_response_bytes: usize,
    /// Limit of a streamed response. Default 200 MiB, as on AWS.
    pub max_streamed_response_bytes: usize,
    /// Connections that the processes of one environment may hold to its Runtime API. Default 32.
    pub max_connections: usize,
    /// Limit a function's CPU time to `MemorySize`/1769 of a core, as AWS does. Default off.
    pub limit_cpu: bool,
    /// Processes and threads per environment. Default 1024, as on AWS.
    pub max_processes: u32,
    /// Time between SIGTERM and SIGKILL when an idle environment without extensions ends. Default 0,
    /// as on AWS: it is killed at once. With extensions AWS's times apply.
    pub shutdown_grace_ms: u64,
    /// How long a stopping server waits for running invocations. Default 20.
    pub drain_s: u64,
    /// Snapshots. They also need an image store; see
    /// [`Invoker::with_images`](crate::Invoker::with_images).
    pub snapstart: SnapStart,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account_concurrency: 1000,
            environments_per_10_s: 1000,
            requests_per_second_per_concurrency: 0,
            init_timeout_ms: 10_000,
            freeze_grace_ms: 10,
            idle_timeout_s: 600,
            parallel_starts: 0,
            start_turn_ms: 1_000,
            memory_budget_mb: 0,
            queue_wait_s: 300,
            max_response_bytes: 6_291_556,
            max_streamed_response_bytes: 200 * 1024 * 1024,
            max_connections: 32,
            limit_cpu: false,
            max_processes: 1024,
            shutdown_grace_ms: 0,
            drain_s: 20,
            snapstart: SnapStart::default(),
        }
    }
}

impl Config {
    pub(crate) fn init_timeout(&self) -> Duration {
        Duration::from_millis(self.init_timeout_ms)
    }

    pub(crate) fn freeze_grace(&self) -> Duration {
        Duration::from_millis(self.freeze_grace_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    pub(crate) fn start_turn(&self) -> Duration {
        Duration::from_millis(self.start_turn_ms)
    }

    pub(crate) fn queue_wait(&self) -> Duration {
        Duration::from_secs(self.queue_wait_s)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    pub(crate) fn effective_parallel_starts(&self) -> usize {
        match self.parallel_starts {
            0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    pub(crate) fn effective_memory_budget_mb(&self) -> u64 {
        match self.memory_budget_mb {
            0 => host_memory_mb() * 8 / 10,
            mb => mb,
        }
    }
}

/// The host's memory, or a cautious 2 GB when the kernel does not say.
pub(crate) fn host_memory_mb() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_kb(&meminfo).map_or(2048, |kb| kb / 1024)
}

fn total_kb(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_memory_is_read_from_meminfo() {
        assert_eq!(
            total_kb("MemTotal:       24676520 kB\nMemFree: 1 kB\n"),
            Some(24_676_520)
        );
        assert_eq!(total_kb("nonsense"), None);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"freeze_grace_ms": 3}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"freeze_grace": 3}"#).is_err());
    }
}
