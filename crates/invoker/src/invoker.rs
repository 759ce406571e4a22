use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use chunks::Chunks;
use clock::Clock;
use sandbox::Sandboxes;
use tokio::sync::oneshot;

use crate::admission::{Admission, Permit, Place, Rate};
use crate::debugger::{Debuggers, PATIENCE};
use crate::environment::{Environment, MemoryLease};
use crate::extensions::Reason;
use crate::flight::{Flight, Grounded, Landing, Ticketed, without_environment};
use crate::janitor::Janitor;
use crate::output::platform::Phase;
use crate::placement::{Action, Grant, Placed, Placement, Ticket};
use crate::provisioned::{self, INIT_FAILURE};
use crate::runtime_api::{Back, Limits};
use crate::snapshots::{Restoration, Snapshots};
use crate::start::{self, FailedInit, Start, StartFailure};
use crate::status::{EnvironmentState, Registry};
use crate::tasks::Tasks;
use crate::{
    Config, EnvironmentStatus, Function, FunctionKey, Hooks, Invocation, InvokeError, Measurement,
    Outcome, PhaseMetrics, Runtimes, SnapshotError, SnapshotOutcome, SnapshotStatus,
    ThrottleReason,
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
        tokio::spawn(tend_idle_environments(
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

    /// Whether invocations of this function are meant to be served from a snapshot, by the mode and
    /// the function's configuration.
    pub fn wants_snapshot(&self, function: &Function) -> bool {
        self.snapshots
            .as_ref()
            .is_some_and(|snapshots| snapshots.wants(function))
    }

    /// Makes the snapshot of a function revision, or adopts the one that the store has. Everybody
    /// who asks for the same one gets the same answer.
    pub async fn snapshot(
        self: &Arc<Self>,
        function: Arc<Function>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        match &self.snapshots {
            Some(snapshots) if self.check_open().is_ok() => snapshots.make(self, &function).await,
            Some(_) => Err(SnapshotError::ShuttingDown),
            None => Err(SnapshotError::Disabled),
        }
    }

    /// Deletes the snapshot of a function revision that was replaced or deleted, in the
    /// background, and ends its parked environments.
    pub fn forget_snapshot(self: &Arc<Self>, function: &Function) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.forget(self, function);
        }
    }

    /// Tells at the start of the server which function revisions there are. Images of others that
    /// have not been used for long are deleted in the background.
    pub fn retain_snapshots(self: &Arc<Self>, functions: &[Arc<Function>]) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.retain(self, functions.to_vec());
        }
    }

    /// The snapshots of all function revisions that were asked for, and their numbers.
    pub fn snapshots(&self) -> Vec<SnapshotStatus> {
        self.snapshots
            .as_ref()
            .map(|snapshots| snapshots.statuses(self.clock.now()))
            .unwrap_or_default()
    }

    /// How long the phases of making snapshots and restoring from them took.
    pub fn phase_metrics(&self) -> PhaseMetrics {
        self.snapshots
            .as_ref()
            .map(|snapshots| snapshots.metrics().snapshot())
            .unwrap_or_default()
    }

    /// Ends the idle environments of functions whose ARN contains `name`, and says how many. Parked
    /// ones stay.
    pub fn end_idle_environments(&self, name: &str) -> usize {
        let ended = self.with_placement(|placement| placement.take_all_idle(name));
        let count = ended.len();
        self.end_all(ended);
        count
    }

    /// Forgets the images in memory, so that the next restore of each reads from the store, and
    /// ends parked environments. Says how many images were dropped.
    pub fn drop_live_images(&self) -> usize {
        self.snapshots
            .as_ref()
            .map_or(0, |snapshots| snapshots.drop_live_images(self))
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

    /// A runtime's process ended. If its environment is idle nobody else would notice.
    pub(crate) fn runtime_ended(&self, key: &FunctionKey, id: u64) {
        let kept = key.provisioned();
        let idle = self.with_placement(|placement| {
            // A restored one does not know in which of the two pools it is.
            [key, &kept].into_iter().find_map(|key| {
                let taken = placement.take_idle(key, id)?;
                placement.lost(key, true);
                Some(taken)
            })
        });
        if let Some((environment, _)) = idle {
            let clock = self.clock.clone();
            self.tasks
                .spawn(async move { environment.shut_down(Reason::Failure, &clock).await });
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.parked_ended(self, key, id);
        }
    }

    /// Its answer is there: who waits in line may count on this environment.
    pub(crate) fn expect_back(&self, key: &FunctionKey) {
        self.with_placement(|placement| placement.returning(key));
    }

    /// After its answer, brings an environment back to the pool, or ends it.
    pub(crate) async fn settle(self: Arc<Self>, environment: Box<Environment>, keep: bool) {
        let key = environment.key.clone();
        if !keep {
            self.lost(&key, false);
            environment.kill().await;
            return;
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.answered(&environment).await;
        }
        let mut back = environment.exchange.back();
        let mut returning = true;
        let expected = match key.is_provisioned() {
            true => provisioned::EXPECTED_BACK,
            false => EXPECTED_BACK,
        };
        let mut came = tokio::time::timeout(expected, &mut back).await;
        if came.is_err() {
            returning = false;
            self.late(&key);
            // AWS lets the time after the answer count as the invocation's own.
            came = tokio::time::timeout(environment.function.timeout, back).await;
        }
        if matches!(came, Ok(Ok(Back::Ready))) {
            self.release(environment, returning);
        } else {
            self.lost(&key, returning);
            environment.kill().await;
        }
    }

    /// It was expected back and is not yet.
    pub(crate) fn late(&self, key: &FunctionKey) {
        self.with_placement(|placement| placement.late(key));
    }

    fn check_open(&self) -> Result<(), InvokeError> {
        if self.closing.load(std::sync::atomic::Ordering::Acquire) {
            return Err(InvokeError::ShuttingDown);
        }
        Ok(())
    }

    async fn place(
        self: &Arc<Self>,
        key: &FunctionKey,
        function: &Arc<Function>,
    ) -> Result<Granted, InvokeError> {
        match self.with_placement(|placement| placement.request(key, function)) {
            Placed::Environment(environment) => Ok(Grant::Environment(environment)),
            Placed::Waiting(ticket, receiver) => {
                let mut place = PlaceInLine {
                    invoker: self,
                    key,
                    ticket,
                    receiver,
                };
                place.wait(self.config.queue_wait()).await
            }
        }
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

    /// AWS repeats a failed init once, within the invocation and its timeout.
    async fn invoke_after_failed_init(
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

    /// Waits for an environment that is about to come back. `None` if it does not.
    pub(crate) async fn await_turn(
        self: &Arc<Self>,
        key: &FunctionKey,
        ticket: Ticket,
        receiver: oneshot::Receiver<Granted>,
    ) -> Option<Granted> {
        let mut place = PlaceInLine {
            invoker: self,
            key,
            ticket,
            receiver,
        };
        place.wait(provisioned::EXPECTED_BACK).await.ok()
    }

    pub(crate) fn release(&self, environment: Box<Environment>, returning: bool) {
        let (key, id, now) = (environment.key.clone(), environment.id(), Instant::now());
        environment.entry.set(EnvironmentState::Idle);
        let unwanted = self.with_placement(|placement| {
            if returning {
                placement.returned(&key, id, environment, now)
            } else {
                placement.release(&key, id, environment, now)
            }
        });
        match unwanted {
            Some(environment) => self.end_all([environment]),
            None => self
                .janitor
                .list(now + self.config.freeze_grace(), id, &key),
        }
    }

    pub(crate) fn lost(&self, key: &FunctionKey, was_returning: bool) {
        self.with_placement(|placement| placement.lost(key, was_returning));
    }

    pub(crate) fn end_all(&self, environments: impl IntoIterator<Item = Box<Environment>>) {
        for environment in environments {
            self.tasks
                .spawn(environment.end(self.config.shutdown_grace(), self.clock.clone()));
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

    /// One start, from its turn to the environment in the pool.
    async fn start(self: Arc<Self>, key: FunctionKey, function: Arc<Function>) {
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

    /// Freezes an environment that stayed idle, and ends one that stayed idle for long.
    fn tend(&self, key: &FunctionKey, id: u64) {
        let Some(since) = self.lock_placement().idle_since(key, id) else {
            return;
        };
        // A debugger talks to its environment at any time, so that one rests as it is.
        let frozen =
            self.registry.state(id) == Some(EnvironmentState::Frozen) || self.debuggers.holds(key);
        let due = since
            + if frozen {
                self.config.idle_timeout()
            } else {
                self.config.freeze_grace()
            };
        if Instant::now() < due {
            self.janitor.list(due, id, key);
            return;
        }
        if frozen && key.is_provisioned() {
            // It stays as it is, however long that is.
            return;
        }
        let taken = self.with_placement(|placement| placement.take_idle(key, id));
        let Some((mut environment, since)) = taken else {
            return;
        };
        if frozen {
            self.lost(key, true);
            self.end_all([environment]);
            return;
        }
        environment.forget_oom_kills();
        environment.freeze();
        let unwanted =
            self.with_placement(|placement| placement.returned(key, id, environment, since));
        match unwanted {
            Some(environment) => self.end_all([environment]),
            None => self
                .janitor
                .list(since + self.config.idle_timeout(), id, key),
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

async fn tend_idle_environments(janitor: Arc<Janitor>, invoker: Weak<Invoker>) {
    loop {
        let (key, id) = janitor.next().await;
        let Some(invoker) = invoker.upgrade() else {
            return;
        };
        invoker.tend(&key, id);
    }
}

/// A place in line, given up when dropped.
struct PlaceInLine<'a> {
    invoker: &'a Arc<Invoker>,
    key: &'a FunctionKey,
    ticket: Ticket,
    receiver: oneshot::Receiver<Granted>,
}

impl PlaceInLine<'_> {
    async fn wait(&mut self, limit: Duration) -> Result<Granted, InvokeError> {
        match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(Ok(granted)) => Ok(granted),
            Ok(Err(_)) => Err(InvokeError::ShuttingDown),
            Err(_) => Err(InvokeError::NoCapacity),
        }
    }
}

impl Drop for PlaceInLine<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            // Granted in the very moment the caller went away: it goes to the next.
            Ok(Grant::Environment(environment)) => self.invoker.release(environment, false),
            Ok(Grant::Failed(_)) => self.invoker.lost(self.key, false),
            Ok(Grant::Throttled) => {}
            Err(_) => self
                .invoker
                .with_placement(|placement| placement.leave(self.key, self.ticket)),
        }
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
