use invoker::SnapStartMode;
use serde::{Deserialize, Serialize};

/// Settings of the Lambda service. Every default is documented at its field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server's root as clients reach it; links to code packages begin with it. Default
    /// `http://127.0.0.1:4566`.
    pub endpoint: String,
    /// Accept runtimes that AWS no longer accepts. Default false, as on AWS.
    pub allow_deprecated_runtimes: bool,
    /// How long a new function stays `Pending` and an update `InProgress` after the work is done.
    /// AWS takes seconds; a client that must see these states can ask for some. Default 0.
    pub settle_delay_ms: u64,
    /// A function that is not invoked for this time becomes `Inactive`: its next invocation is
    /// refused and brings it back. Default 0, which means never.
    pub inactive_after_s: u64,
    /// How long code stays after its last function is gone, for invocations that still run: the
    /// longest timeout and some. Default 960.
    pub code_grace_s: u64,
    /// The account's quota for code, as `GetAccountSettings` shows it and as it is enforced.
    /// Default 80,530,636,800 (75 GB), as on AWS.
    pub total_code_bytes: u64,
    /// The account's concurrency as `GetAccountSettings` shows it; the invoker enforces its own.
    /// Default 1000, as on AWS.
    pub concurrent_executions: u32,
    /// Which functions may have snapshots. It has its place in the server's `snapstart` section,
    /// not in this one.
    #[serde(skip)]
    pub snap_start: SnapStartMode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4566".to_owned(),
            allow_deprecated_runtimes: false,
            settle_delay_ms: 0,
            inactive_after_s: 0,
            code_grace_s: 960,
            total_code_bytes: 80_530_636_800,
            concurrent_executions: 1000,
            snap_start: SnapStartMode::default(),
        }
    }
}
