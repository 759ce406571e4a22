//! What others learn of executions: log lines, events about their status, metrics.
//!
//! Nothing here waits, and nothing here is lost on purpose: lines and events go into queues that
//! have a bound, and what finds a queue full is dropped and counted, as AWS promises no more than
//! its best for either. An execution never runs slower for who watches it. What nobody asked for is
//! not made.
//!
//! Log lines: <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html>. Events:
//! <https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html>. Metrics:
//! <https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html>.

mod bus;
mod lines;
mod metrics;
mod queue;
mod streams;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use asl::history::HistoryEvent;
use clock::{Clock, Timestamp};
use protocol::BoxFuture;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::executions::{About, Status};
use crate::lock::lock;
use crate::machines::{Kind, LogLevel};

pub use bus::{StatusChange, Untold};
pub use metrics::{Measured, Metric, Unit};
pub use queue::Dropped;

/// Lines wait here until the logs take them: this many batches, and this many bytes of them.
const MAX_LOG_BATCHES: usize = 16_384;
const MAX_LOG_BYTES: usize = 64 << 20;
/// Events that wait for the bus.
const MAX_EVENTS: usize = 16_384;
const MAX_EVENT_BYTES: usize = 64 << 20;
/// Events that a slow subscriber can be behind before it misses some, and is told so.
const MAX_BEHIND: usize = 4_096;
/// How long the server's end waits for a bus that does not answer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Lines for one stream of a log group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    pub account: String,
    pub region: String,
    pub group: String,
    pub stream: String,
    pub lines: Vec<(Timestamp, String)>,
}

pub type LogHook = Arc<dyn Fn(LogBatch) + Send + Sync>;
pub type MetricHook = Arc<dyn Fn(&Measured<'_>) + Send + Sync>;
/// Takes events that go to the bus.
pub type EventHook =
    Arc<dyn Fn(Vec<Arc<StatusChange>>) -> BoxFuture<'static, Result<(), Untold>> + Send + Sync>;

/// Who is told.
#[derive(Clone, Default)]
pub struct Hooks {
    pub logs: Option<LogHook>,
    pub metrics: Option<MetricHook>,
    pub events: Option<EventHook>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("logs", &self.logs.is_some())
            .field("metrics", &self.metrics.is_some())
            .field("events", &self.events.is_some())
            .finish()
    }
}

/// Tells others what happens with executions.
#[derive(Debug)]
pub struct Observer {
    connected: OnceLock<Connected>,
    changes: broadcast::Sender<Arc<StatusChange>>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            connected: OnceLock::new(),
            changes: broadcast::Sender::new(MAX_BEHIND),
        }
    }
}

struct Connected {
    metrics: Option<MetricHook>,
    logs: Option<queue::Sender<lines::Lines>>,
    events: Option<queue::Sender<Arc<StatusChange>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("logs", &self.logs)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// Begins to tell others. Only the first call counts; until then nothing is told but to
    /// subscribers. Must be called within a Tokio runtime.
    pub fn connect(&self, hooks: Hooks, clock: &Clock) {
        self.connected.get_or_init(|| {
            let mut workers = Vec::new();
            let logs = hooks.logs.map(|hook| {
                let (sender, receiver) =
                    queue::bounded(MAX_LOG_BATCHES, MAX_LOG_BYTES, "log lines");
                workers.push(tokio::spawn(streams::run(receiver, hook, clock.clone())));
                sender
            });
            let events = hooks.events.map(|hook| {
                let (sender, receiver) = queue::bounded(MAX_EVENTS, MAX_EVENT_BYTES, "events");
                workers.push(tokio::spawn(bus::run(receiver, hook)));
                sender
            });
            Connected {
                metrics: hooks.metrics,
                logs,
                events,
                workers: Mutex::new(workers),
            }
        });
    }

    /// Events that are on disk now; those of an express execution have happened only.
    pub fn recorded(&self, about: &About, events: &[HistoryEvent]) {
        let Some(connected) = self.connected.get() else {
            return;
        };
        if let Some(hook) = &connected.metrics {
            metrics::of_tasks(about, events, hook);
        }
        if let (Some(queue), Some(logging)) = (&connected.logs, &about.revision.logging)
            && logging.level != LogLevel::Off
            && let Some(lines) = lines::Lines::of(about, logging, events)
        {
            queue.offer(lines);
        }
    }

    /// An execution has begun or ended.
    pub fn status_changed(&self, about: &About, status: &Status) {
        let connected = self.connected.get();
        if let Some(hook) = connected.and_then(|connected| connected.metrics.as_ref()) {
            metrics::of_execution(about, status, hook);
        }
        // Express executions have no events on AWS either.
        if about.revision.kind == Kind::Express {
            return;
        }
        let queue = connected.and_then(|connected| connected.events.as_ref());
        if queue.is_none() && self.changes.receiver_count() == 0 {
            return;
        }
        let change = Arc::new(StatusChange::of(about, status));
        if let Some(queue) = queue {
            queue.offer(Arc::clone(&change));
        }
        // Nobody may listen.
        let _ = self.changes.send(change);
    }

    /// The changes of status from now on. A receiver that is too slow misses some, and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StatusChange>> {
        self.changes.subscribe()
    }

    /// What was dropped because a queue was full.
    pub fn dropped(&self) -> Dropped {
        let connected = self.connected.get();
        let of = |count: Option<u64>| count.unwrap_or_default();
        Dropped {
            log_batches: of(connected.and_then(|c| c.logs.as_ref().map(queue::Sender::dropped))),
            events: of(connected.and_then(|c| c.events.as_ref().map(queue::Sender::dropped))),
        }
    }

    /// Hands on what waits, and ends. What cannot be handed on within two seconds is lost, and what
    /// happens afterwards is told to nobody.
    pub async fn shutdown(&self) {
        let Some(connected) = self.connected.get() else {
            return;
        };
        if let Some(queue) = &connected.logs {
            queue.close();
        }
        if let Some(queue) = &connected.events {
            queue.close();
        }
        let workers = std::mem::take(&mut *lock(&connected.workers));
        let until = tokio::time::Instant::now() + LAST_WORDS;
        for mut worker in workers {
            match tokio::time::timeout_at(until, &mut worker).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "what was to be told of executions is lost");
                }
                Err(_) => {
                    worker.abort();
                    tracing::warn!("events about executions are lost: the bus does not take them");
                }
            }
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let workers = self
            .workers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for worker in workers {
            worker.abort();
        }
    }
}

#[cfg(test)]
mod tests;
