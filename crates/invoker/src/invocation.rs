use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ResponseStream;

/// One call of a function. The payload reaches the runtime byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    pub request_id: String,
    pub payload: Bytes,
    /// The client context as JSON text (already base64-decoded).
    pub client_context: Option<String>,
    /// The `X-Amzn-Trace-Id` that the caller brought.
    pub trace_header: Option<String>,
    /// The ARN as invoked: with the qualifier, if the caller named one.
    pub invoked_arn: String,
    /// The Cognito identity as JSON text.
    pub cognito_identity: Option<String>,
    /// Collect the last 4 KB of this invocation's log into the outcome.
    pub want_tail: bool,
    pub mode: Mode,
}

/// Whether the caller takes the response at once or chunk by chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    #[default]
    Buffered,
    Streaming,
}

/// What an invocation came to. A function that fails is an outcome, not an [`InvokeError`].
#[derive(Debug)]
pub struct Outcome {
    pub payload: Payload,
    /// The `Content-Type` the runtime gave its response.
    pub content_type: Option<String>,
    pub function_error: Option<FunctionError>,
    /// The last 4 KB of the log, if asked for; a stream carries it in its end instead.
    pub log_tail: Option<Bytes>,
    /// A stream carries the final report in its end; here it is then what was known so far.
    pub report: Report,
}

/// The answer's bytes.
#[derive(Debug)]
pub enum Payload {
    Buffered(Bytes),
    Stream(ResponseStream),
}

impl Payload {
    /// The bytes of a buffered payload; `None` for a stream.
    pub fn into_buffered(self) -> Option<Bytes> {
        match self {
            Self::Buffered(bytes) => Some(bytes),
            Self::Stream(_) => None,
        }
    }
}

/// The value of `X-Amz-Function-Error`.
///
/// AWS documents `Handled` too, but no current runtime produces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionError {
    Unhandled,
}

impl FunctionError {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unhandled => "Unhandled",
        }
    }
}

/// The numbers of a REPORT line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub duration: Duration,
    /// Rounded up to the millisecond; includes the init phase, as AWS bills it since August 2025,
    /// or what is billed of the restore phase.
    pub billed: Duration,
    /// Known when the log was completed before the answer, that is when the tail was asked for.
    pub max_memory_mb: Option<u32>,
    /// Set on the first invocation of an environment.
    pub init_duration: Option<Duration>,
    /// Set on the first invocation of an environment that was restored from a snapshot.
    pub restore_duration: Option<Duration>,
    /// The part of it that ran the function's code: what its hooks took. Rounded up to the
    /// millisecond.
    pub billed_restore_duration: Option<Duration>,
}

/// Why a function was not run.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    #[error("Rate Exceeded.")]
    TooManyRequests { reason: ThrottleReason },
    /// The host has no interpreter for the function's runtime.
    #[error("cannot run this runtime")]
    Runtime(#[source] crate::runtimes::RuntimeError),
    #[error("no capacity for another execution environment became free in time")]
    NoCapacity,
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A hook of the function failed after its environment was restored. AWS's
    /// `SnapStartException`.
    #[error(
        "The afterRestore() runtime hook encountered an error. For more information, check the \
         Amazon CloudWatch logs."
    )]
    SnapStart { error_type: String, message: String },
    /// AWS's `SnapStartTimeoutException`.
    #[error("Lambda couldn't restore the snapshot within the timeout limit.")]
    SnapStartTimeout,
    #[error("cannot start an execution environment")]
    Environment(#[source] std::sync::Arc<sandbox::Error>),
}

/// The `Reason` of a TooManyRequestsException.
#[expect(clippy::enum_variant_names, reason = "the names are AWS's")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleReason {
    /// As many invocations run as may, without those that have places reserved.
    ConcurrentInvocationLimitExceeded,
    /// As many invocations of the function run as were reserved for it.
    ReservedFunctionConcurrentInvocationLimitExceeded,
    /// Too many requests per second, or more new environments than a function may be given.
    FunctionInvocationRateLimitExceeded,
    /// Too many requests per second for what was reserved.
    ReservedFunctionInvocationRateLimitExceeded,
}

impl ThrottleReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
            Self::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            Self::FunctionInvocationRateLimitExceeded => "FunctionInvocationRateLimitExceeded",
            Self::ReservedFunctionInvocationRateLimitExceeded => {
                "ReservedFunctionInvocationRateLimitExceeded"
            }
        }
    }

    /// When it makes sense to ask again: buckets have filled up a little by then, and most
    /// invocations are done.
    pub const fn retry_after(self) -> Duration {
        Duration::from_secs(1)
    }
}
