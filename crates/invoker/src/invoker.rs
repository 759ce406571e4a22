//! The invoker: what functions run in and how an invocation gets there.

mod resting;
mod snapshots;
mod starting;
mod waiting;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use chunks::Chunks;
use clock::Clock;
use sandbox::Sandboxes;

use crate::admission::{Admission, Permit, Place, Rate};
use crate::debugger::Debuggers;
use crate::environment::Environment;
use crate::flight::{Flight, Grounded, Landing, Ticketed};
use crate::janitor::Janitor;
use crate::placement::{Action, Grant, Placement};
use crate::runtime_api::Limits;
use crate::snapshots::Snapshots;
use crate::start::StartFailure;
use crate::status::Registry;
use crate::tasks::Tasks;
use crate::{
    Config, EnvironmentStatus, Function, FunctionKey, Hooks, Invocation, InvokeError, Measurement,
    Outcome, Runtimes, ThrottleReason,
};

pub(crate) type Line = Placement<Box<Environment>, StartFailure>;
pub(crate) type Granted = Grant<Box<Environment>, StartFailure>;

/// Runs functions: admits, places, starts, meters, logs, freezes and ends.
pub struct Invoker {
    /// Itself, for what it lends to tasks and environments.
    this: Weak<Self>,
    config: Config,
    sandboxes: Sandboxes,
    runtimes: Runtimes,
    clock: Clock,
    hooks: Hooks,
    admission: Admission,
    debuggers: Debuggers,
    placement: Mutex<Line>,
    snapshots: Option<Arc<Snapshots>>,
    janitor: Arc<Janitor>,
    registry: Registry,
    tasks: Tasks,
    closing: std::sync::atomic::AtomicBool,
}

/// A runtime that has answered is expected to ask for more within this time, which is about what
/// a cold start takes; who waits in line counts on it only that long.
pub(crate) const EXPECTED_BACK: Duration = Duration::from_millis(100);
/// An environment whose runtime died just before it got the event is replaced; not for ever.
const MAX_DEPARTURES: usize = 8;

impl Invoker {
    /// Must be called inside a tokio runtime, which runs everything that belongs to the invoker.
    pub fn new(
        config: Config,
        sandboxes: Sandboxes,
        runtimes: Runtimes,
        clock: Clock,
        hooks: Hooks,
    ) -> Arc<Self> {
        Self::build(config, sandboxes, runtimes, None, clock, hooks)
    }

    /// As [`Invoker::new`], with snapshots, which are kept in `images`.
    pub fn with_images(
        config: Config,
        sandboxes: Sandboxes,
        runtimes: Runtimes,
        images: Chunks,
        clock: Clock,
        hooks: Hooks,
    ) -> Arc<Self> {
        Self::build(config, sandboxes, runtimes, Some(images), clock, hooks)
    }

    fn build(
        config: Config,
        sandboxes: Sandboxes,
        runtimes: Runtimes,
        images: Option<Chunks>,
        clock: Clock,
        hooks: Hooks,
    ) -> Arc<Self> {
        let mut placement = Placement::new(
            config.effective_parallel_starts(),
            config.effective_memory_budget_mb(),
        );
        if config.environments_per_10_s > 0 {
            let environments = u64::from(config.environments_per_10_s);
            placement.limit_scaling(Rate::new(environments, Duration::from_secs(10)));
        }
        let registry = Registry::default();
        let invoker = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            admission: Admission::new(&config),
            debuggers: Debuggers::default(),
            snapshots: images
                .map(|images| Snapshots::new(config.snapstart.clone(), images, &sandboxes)),
            placement: Mutex::new(placement),
            janitor: Arc::new(Janitor::new(registry.clone())),
            registry,
            tasks: Tasks::new(),
            closing: false.into(),
            config,
            sandboxes,
            runtimes,
            clock,
            hooks,
        });
        tokio::spawn(resting::tend_idle_environments(
            Arc::clone(&invoker.janitor),
            Weak::clone(&invoker.this),
        ));
        if let Some(snapshots) = &invoker.snapshots {
            tokio::spawn(Snapshots::collect_regularly(Arc::downgrade(snapshots)));
        }
        invoker
    }

    /// Runs the function once. A caller that goes away does not stop an invocation that has begun.
    pub async fn invoke(
        self: &Arc<Self>,
        function: Arc<Function>,
        invocation: Invocation,
    ) -> Result<Outcome, InvokeError> {
        self.check_open()?;
        let (place, mut invocation) = (Place::from(&*function), invocation);
        let gate = self.admission.gate(place);
        let stand = gate.stand(&function);
        for _ in 0..MAX_DEPARTURES {
            let provisioned = match &stand {
                Some(stand) => self.take_provisioned(&gate, stand).await,
                None => None,
            };
            let Some((environment, permit)) = provisioned else {
                if let Some(stand) = &stand {
                    stand.spillovers.fetch_add(1, Ordering::Relaxed);
                }
                let permit = self.admission.admit(&gate)?;
                self.measure_admission(&function, &invocation, &permit, stand.is_some());
                return self.invoke_on_demand(function, invocation, permit).await;
            };
            self.measure_admission(&function, &invocation, &permit, false);
            let ticketed = Ticketed {
                invocation,
                permit,
                began: Instant::now(),
            };
            match self.depart(environment, ticketed) {
                Ok(flight) => return Ok(self.fly(flight).await),
                Err(unserved) => invocation = unserved.invocation,
            }
        }
        Err(InvokeError::NoCapacity)
    }

    /// Runs the function in an environment that invocations have started, or start.
    async fn invoke_on_demand(
        self: &Arc<Self>,
        function: Arc<Function>,
        invocation: Invocation,
        permit: Permit,
    ) -> Result<Outcome, InvokeError> {
        let key = function.key();
        let mut ticketed = Ticketed {
            invocation,
            permit,
            began: Instant::now(),
        };
        for _ in 0..MAX_DEPARTURES {
            let environment = match self.place(&key, &function).await? {
                Grant::Environment(environment) => environment,
                Grant::Throttled => {
                    let reason = ThrottleReason::FunctionInvocationRateLimitExceeded;
                    return Err(InvokeError::TooManyRequests { reason });
                }
                Grant::Failed(StartFailure::Unable(err)) => {
                    self.lost(&key, false);
                    return Err(err);
                }
                Grant::Failed(StartFailure::Init(failed)) => {
                    return self
                        .invoke_after_failed_init(key, function, failed, ticketed)
                        .await;
                }
            };
            // Only now does its time run: waiting for an environment is not the function's fault.
            ticketed.began = Instant::now();
            match self.depart(environment, ticketed) {
                Ok(flight) => return Ok(self.fly(flight).await),
                Err(unserved) => ticketed = *unserved,
            }
        }
        Err(InvokeError::NoCapacity)
    }

    /// Hands the event to an environment. One that turns out to be dead is ended.
    fn depart(
        self: &Arc<Self>,
        environment: Box<Environment>,
        ticketed: Ticketed,
    ) -> Result<Flight, Box<Ticketed>> {
        Flight::depart(self, environment, ticketed).map_err(|grounded| {
            let Grounded {
                environment,
                ticketed,
            } = *grounded;
            self.lost(&environment.key, false);
            self.tasks.spawn(environment.kill());
            Box::new(ticketed)
        })
    }

    /// Starts an environment ahead of the first invocation, unless there is one.
    pub fn prepare(self: &Arc<Self>, function: Arc<Function>) {
        if self.check_open().is_ok() {
            self.with_placement(|placement| placement.prepare(&function.key(), &function));
        }
    }

    /// Ends the environments of a revision that was replaced or deleted: idle ones now, busy ones
    /// when they are done.
    pub fn retire(&self, key: &FunctionKey) {
        let ended = self.with_placement(|placement| placement.retire(key));
        self.debuggers.forget(key);
        self.end_all(ended);
    }

    /// All environments and what they are doing.
    pub fn environments(&self) -> Vec<EnvironmentStatus> {
        self.registry.snapshot()
    }

    /// Takes no more invocations, lets running ones finish for as long as the configuration
    /// permits, and ends all environments.
    pub async fn shutdown(&self) {
        self.closing
            .store(true, std::sync::atomic::Ordering::Release);
        let ended = self.with_placement(Placement::close);
        self.end_all(ended);
        if let Some(snapshots) = &self.snapshots {
            snapshots.close(self);
        }
        let drain = Duration::from_secs(self.config.drain_s);
        let drained = async {
            self.registry.emptied().await;
            self.tasks.idle().await;
        };
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!("some invocations were still running when the server stopped");
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.this)
    }

    pub(crate) fn sandboxes(&self) -> &Sandboxes {
        &self.sandboxes
    }

    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Hands on what was measured, by the invoker or on its behalf.
    pub fn measure(&self, measurement: &Measurement<'_>) {
        (self.hooks.metrics)(measurement);
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.config.max_connections,
            response_bytes: self.config.max_response_bytes,
            streamed_bytes: self.config.max_streamed_response_bytes,
        }
    }

    /// An environment is gone, and with it the memory it was promised.
    pub(crate) fn freed(&self, memory_mb: u32, was_leaving: bool) {
        self.with_placement(|placement| placement.freed(memory_mb, was_leaving));
    }

    /// Promises memory to a parked environment, if nobody else needs it.
    pub(crate) fn promise_parked(&self, memory_mb: u32) -> bool {
        self.with_placement(|placement| placement.promise_parked(memory_mb))
    }

    pub(crate) fn freed_parked(&self, memory_mb: u32) {
        self.with_placement(|placement| placement.freed_parked(memory_mb));
    }

    /// Takes memory for an environment that no invocation waits for.
    pub(crate) fn charge(&self, memory_mb: u32) {
        self.with_placement(|placement| placement.charge(memory_mb));
    }

    /// Its answer is there: who waits in line may count on this environment.
    pub(crate) fn expect_back(&self, key: &FunctionKey) {
        self.with_placement(|placement| placement.returning(key));
    }

    fn check_open(&self) -> Result<(), InvokeError> {
        if self.closing.load(std::sync::atomic::Ordering::Acquire) {
            return Err(InvokeError::ShuttingDown);
        }
        Ok(())
    }

    /// Awaits the answer; when the caller goes away, a task awaits it instead.
    async fn fly(&self, flight: Flight) -> Outcome {
        let mut boarded = Boarded {
            tasks: &self.tasks,
            flight: Some(Box::new(flight)),
        };
        let landing = boarded.land().await;
        match boarded.flight.take() {
            Some(flight) => flight.complete(landing).await,
            // Not reached: `land` leaves the flight where it is.
            None => Outcome::server_stopped(),
        }
    }

    /// Changes the placement and does what follows from the change.
    pub(crate) fn with_placement<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        let mut placement = self.lock_placement();
        let result = change(&mut placement);
        let actions = placement.actions();
        drop(placement);
        for action in actions {
            self.perform(action);
        }
        result
    }

    fn perform(&self, action: Action<Box<Environment>>) {
        match action {
            Action::Start(key, function) => {
                // Absent only while the last reference is dropped, when nobody waits any more.
                let Some(invoker) = self.this.upgrade() else {
                    return;
                };
                self.tasks.spawn(invoker.start(key, function));
            }
            Action::Remind(at) => self.remind(at),
            Action::Yield(memory_mb) => {
                if let Some(snapshots) = &self.snapshots {
                    snapshots.yield_memory(self, memory_mb);
                }
            }
            Action::End(mut environment) => {
                environment.mark_leaving();
                self.tasks
                    .spawn(environment.end(self.config.shutdown_grace(), self.clock.clone()));
            }
        }
    }

    pub(crate) fn debuggers(&self) -> &Debuggers {
        &self.debuggers
    }

    fn lock_placement(&self) -> MutexGuard<'_, Line> {
        // Nothing panics under the lock, so the placement is whole.
        self.placement
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Invoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invoker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A flight that is continued by a task if whoever awaits it stops.
struct Boarded<'a> {
    tasks: &'a Tasks,
    flight: Option<Box<Flight>>,
}

impl Boarded<'_> {
    async fn land(&mut self) -> Landing {
        match &mut self.flight {
            Some(flight) => flight.land().await,
            None => Landing::TimedOut,
        }
    }
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        if let Some(mut flight) = self.flight.take() {
            self.tasks.spawn(async move {
                let landing = flight.land().await;
                flight.complete(landing).await;
            });
        }
    }
}
