use invoker::SnapStartMode;
use serde::{Deserialize, Serialize};

use crate::events;

/// Settings of the Lambda service. Every default is documented at its field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server's root as clients reach it; links to code packages begin with it. Default
    /// `http://127.0.0.1:4566`.
    pub endpoint: String,
    /// How function URLs are written: a URL with `{id}` and `{region}` in it. Default empty: then
    /// it is `http://{id}.lambda-url.{region}.localhost:PORT/`, with the domain, scheme and port of
    /// `endpoint` if that has a name.
    pub function_url: String,
    /// Ask callers of function URLs for `lambda:InvokeFunction` beside `lambda:InvokeFunctionUrl`,
    /// as AWS does for URLs made since October 2025. Default false: templates and tools from before
    /// grant only the latter.
    pub url_needs_invoke_function: bool,
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
    /// The account's concurrency. It has its place in the server's `invoker` section, as
    /// `account_concurrency`, not in this one.
    #[serde(skip)]
    pub concurrent_executions: u32,
    /// How much of the account's concurrency cannot be reserved for functions or provisioned.
    /// Default 100, as on AWS.
    pub minimum_unreserved_concurrency: u32,
    /// Which functions may have snapshots. It has its place in the server's `snapstart` section,
    /// not in this one.
    #[serde(skip)]
    pub snap_start: SnapStartMode,
    /// Asynchronous invocation.
    pub events: events::Config,
    /// Where destinations are that firn does not serve itself. It has its place in the server's
    /// `upstream` section, not in this one.
    #[serde(skip)]
    pub upstream: upstream::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:4566".to_owned(),
            function_url: String::new(),
            url_needs_invoke_function: false,
            allow_deprecated_runtimes: false,
            settle_delay_ms: 0,
            inactive_after_s: 0,
            code_grace_s: 960,
            total_code_bytes: 80_530_636_800,
            concurrent_executions: 1000,
            minimum_unreserved_concurrency: 100,
            snap_start: SnapStartMode::default(),
            events: events::Config::default(),
            upstream: upstream::Config::default(),
        }
    }
}
