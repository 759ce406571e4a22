use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use clock::Timestamp;
use tokio::task::{AbortHandle, JoinHandle};

use crate::{Function, MetricsHook};

/// What the assembly lends the invoker, so that it needs to know neither the logs service, nor the
/// credentials, nor the gateway.
#[derive(Clone)]
pub struct Hooks {
    /// Takes log events. Called on the reader's task and must not block.
    pub logs: Arc<dyn Fn(LogBatch) + Send + Sync>,
    /// Takes what was measured. Called on the way of an invocation.
    pub metrics: MetricsHook,
    /// Credentials of the function's role, asked for once per environment.
    pub credentials: Arc<dyn Fn(&Function) -> Credentials + Send + Sync>,
    /// Serves the AWS endpoint that the environment sees at `127.0.0.1:4566`. The listener lives in
    /// the environment's network namespace and keeps it alive, so the server must stop when the
    /// returned guard is dropped.
    pub endpoint: Arc<dyn Fn(TcpListener, EndpointIdentity) -> EndpointGuard + Send + Sync>,
}

impl Hooks {
    /// Drops logs and measurements, gives empty credentials and serves no endpoint. For tests and
    /// tools.
    pub fn none() -> Self {
        Self {
            logs: Arc::new(|_| {}),
            metrics: Arc::new(|_| {}),
            credentials: Arc::new(|_| Credentials::default()),
            endpoint: Arc::new(|_, _| EndpointGuard::none()),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Log events of one stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    pub account: Arc<str>,
    pub region: Arc<str>,
    pub group: Arc<str>,
    pub stream: Arc<str>,
    pub events: Vec<(Timestamp, String)>,
}

/// Temporary credentials as the environment variables carry them.
#[derive(Clone, Default)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    /// When they end; unknown if absent.
    pub expiration: Option<Timestamp>,
}

impl fmt::Debug for Credentials {
    // The secret and the token must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish()
    }
}

/// On whose behalf calls arrive at an environment's endpoint listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointIdentity {
    pub account: String,
    pub region: String,
    pub role: String,
    pub function_arn: String,
}

/// Stops an endpoint server when dropped.
#[derive(Debug)]
pub struct EndpointGuard(Option<AbortHandle>);

impl EndpointGuard {
    /// Nothing to stop.
    pub const fn none() -> Self {
        Self(None)
    }
}

impl From<JoinHandle<()>> for EndpointGuard {
    fn from(task: JoinHandle<()>) -> Self {
        Self(Some(task.abort_handle()))
    }
}

impl Drop for EndpointGuard {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
