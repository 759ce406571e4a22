//! Placement, warm pool and admission of execution environments, and the HTTP face a runtime sees.
//!
//! [`Invoker::invoke`] runs a function once: it takes an idle environment or has one started, hands
//! the event to the runtime through the environment's Runtime API, and meters and logs what comes
//! back. An environment serves one invocation at a time, is frozen between invocations, and ends
//! when it breaks, times out, idles too long or its function changes.
//!
//! The crate knows no AWS service and stores nothing: what it needs from others it is lent through
//! [`Hooks`]. Nothing on the way of a warm invocation waits for a lock or the disk.
#![forbid(unsafe_code)]

mod admission;
mod config;
mod debugger;
mod environment;
mod exit;
mod extensions;
mod flight;
mod function;
mod hooks;
mod invocation;
mod invoker;
mod janitor;
mod measurement;
pub mod output;
mod placement;
mod provisioned;
mod response_stream;
mod runtime_api;
pub mod runtimes;
mod snapshots;
mod start;
mod status;
mod tasks;
mod telemetry;
#[cfg(test)]
mod testing;
mod trace;
mod variables;

pub use config::Config;
pub use debugger::{Development, PATIENCE};
pub use function::{Function, FunctionKey, LogFormat};
pub use hooks::{Credentials, EndpointGuard, EndpointIdentity, Hooks, LogBatch};
pub use invocation::{
    FunctionError, Invocation, InvokeError, Mode, Outcome, Payload, Report, ThrottleReason,
};
pub use invoker::Invoker;
pub use measurement::{Measurement, Metric, MetricsHook, Unit};
pub use output::platform::runtime_version_arn;
pub use provisioned::{FunctionCapacity, ProvisionedStatus, Share};
pub use response_stream::{ResponseStream, StreamEnd, StreamItem};
pub use runtimes::{Resolved, RuntimeError, Runtimes, RuntimesConfig};
pub use snapshots::{
    Counter, InitFailure, PhaseMetrics, PhaseStatus, SnapStart, SnapStartMode, SnapshotError,
    SnapshotOutcome, SnapshotState, SnapshotStatus, SnapshotTier,
};
pub use status::{EnvironmentState, EnvironmentStatus};
pub use telemetry::check_subscription;
pub use trace::trace_header;
