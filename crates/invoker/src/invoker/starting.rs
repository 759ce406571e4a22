//! How environments come to be: a start from its turn to the pool, and an init that is repeated.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Invoker;
use crate::debugger::PATIENCE;
use crate::environment::{Environment, MemoryLease};
use crate::flight::{Flight, Ticketed, without_environment};
use crate::output::platform::Phase;
use crate::placement::Placement;
use crate::provisioned::{self, INIT_FAILURE};
use crate::snapshots::Restoration;
use crate::start::{self, FailedInit, Start, StartFailure};
use crate::status::EnvironmentState;
use crate::{Function, FunctionKey, InvokeError, Outcome};

impl Invoker {
    /// AWS repeats a failed init once, within the invocation and its timeout.
    pub(super) async fn invoke_after_failed_init(
        self: &Arc<Self>,
        key: FunctionKey,
        function: Arc<Function>,
        failed: FailedInit,
        ticketed: Ticketed,
    ) -> Result<Outcome, InvokeError> {
        let (sender, receiver) = oneshot::channel();
        let invoker = Arc::clone(self);
        // In a task of its own, so that it goes on when the caller goes away.
        self.tasks.spawn(async move {
            let outcome = invoker.retry_init(key, function, failed, ticketed).await;
            let _ = sender.send(outcome);
        });
        receiver.await.unwrap_or(Err(InvokeError::ShuttingDown))
    }

    async fn retry_init(
        self: Arc<Self>,
        key: FunctionKey,
        function: Arc<Function>,
        failed: FailedInit,
        mut ticketed: Ticketed,
    ) -> Result<Outcome, InvokeError> {
        ticketed.began = Instant::now();
        let start = Start {
            invoker: Arc::clone(&self),
            key: key.clone(),
            function: Arc::clone(&function),
            lease: failed.lease,
            stream: Some(failed.stream),
            phase: Phase::Invoke,
            limit: function.timeout,
        };
        let failure = match start::cold(start).await {
            Ok(environment) => match Flight::depart(&self, environment, ticketed) {
                Ok(mut flight) => {
                    let landing = flight.land().await;
                    return Ok(Box::pin(flight.complete(landing)).await);
                }
                Err(grounded) => {
                    self.lost(&key, false);
                    grounded.environment.kill().await;
                    return Err(InvokeError::NoCapacity);
                }
            },
            Err(failure) => failure,
        };
        self.lost(&key, false);
        match failure {
            StartFailure::Unable(err) => Err(err),
            StartFailure::Init(failed) => {
                Ok(without_environment(&self, &function, &failed, ticketed))
            }
        }
    }

    /// One start, from its turn to the environment in the pool.
    pub(super) async fn start(self: Arc<Self>, key: FunctionKey, function: Arc<Function>) {
        let (phase, limit) = match key.is_provisioned() {
            true => (Phase::Provisioned, provisioned::init_limit(&function)),
            false if function.is_debugged() => (Phase::Init, PATIENCE),
            false => (Phase::Init, self.config.init_timeout()),
        };
        let start = Start {
            invoker: Arc::clone(&self),
            lease: MemoryLease::new(&self, function.memory_mb),
            key: key.clone(),
            function,
            stream: None,
            phase,
            limit,
        };
        let mut starting = Box::pin(Arc::clone(&self).bring_up(start));
        let turn = tokio::time::timeout(self.config.start_turn(), &mut starting).await;
        self.with_placement(Placement::turn_over);
        let started = match turn {
            Ok(started) => started,
            Err(_) => starting.await,
        };
        match started {
            Ok(environment) => self.add(&key, environment),
            Err(failure) if key.is_provisioned() => self.kept_start_failed(&key, failure),
            Err(failure) => {
                let unreported =
                    self.with_placement(|placement| placement.start_failed(&key, failure));
                if let Some(failure) = unreported {
                    tracing::debug!(function = %key, ?failure, "a start that nobody waited for failed");
                }
            }
        }
    }

    /// The environment is made again later; until then the status tells why it is missing.
    fn kept_start_failed(&self, key: &FunctionKey, failure: StartFailure) {
        let reason = match &failure {
            StartFailure::Init(_) => INIT_FAILURE.to_owned(),
            StartFailure::Unable(err) => {
                tracing::warn!(
                    function = %key,
                    error = err as &dyn std::error::Error,
                    "a provisioned environment could not be started",
                );
                match err {
                    // Says what to install.
                    InvokeError::Runtime(cause) => cause.to_string(),
                    other => other.to_string(),
                }
            }
        };
        // Before the next start: it holds the memory of the one that failed.
        drop(failure);
        let again = self.with_placement(|placement| placement.kept_start_failed(key, &reason));
        if let Some(again) = again {
            self.remind(again);
        }
    }

    /// An environment from the function's snapshot, if it has one, else by a cold start.
    async fn bring_up(self: Arc<Self>, start: Start) -> Result<Box<Environment>, StartFailure> {
        let Some(snapshots) = self
            .snapshots
            .as_ref()
            .filter(|snapshots| snapshots.wants(&start.function))
            .filter(|_| start.function.development.is_none())
        else {
            return start::cold(start).await;
        };
        let start = match snapshots.restore(start).await {
            Restoration::Environment(environment) => return Ok(environment),
            Restoration::Failed(failure) => return Err(failure),
            Restoration::Cold(start) => *start,
        };
        let function = Arc::clone(&start.function);
        let started = start::cold(start).await;
        if started.is_ok() {
            snapshots.after_cold_start(&self, &function);
        }
        started
    }

    fn add(&self, key: &FunctionKey, mut environment: Box<Environment>) {
        let (id, now) = (environment.id(), Instant::now());
        if key.is_provisioned() {
            // It was restored ahead of all invocations, and is on none's bill.
            environment.restored = None;
        }
        environment.entry.set(EnvironmentState::Idle);
        let unwanted = self.with_placement(|placement| placement.started(key, id, environment));
        match unwanted {
            Some(environment) => self.end_all([environment]),
            None => self.janitor.list(now + self.config.freeze_grace(), id, key),
        }
    }
}
