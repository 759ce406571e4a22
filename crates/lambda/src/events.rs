//! Asynchronous invocation: events are taken down durably, answered, and run later.
//!
//! An event is one record in the store, written before it is acknowledged ([`record`]). In memory
//! are only the moments of arrival, by function, and the timers ([`queue`]). Workers take events
//! through [`Lambda::invoke`] like everybody else ([`dispatch`]); what follows from a try is decided
//! in [`verdict`]. An event that is over leaves the store in the same write that puts its record for
//! a destination there ([`outcome`], [`delivery`]), so that neither can get lost.
//!
//! A crash may repeat what was under way, never lose it: delivery is at least once, as on AWS.

mod configuration;
mod delivery;
mod dispatch;
mod outcome;
mod queue;
mod record;
mod upstream;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use clock::Clock;
use invoker::{Measurement, Metric};
use serde::{Deserialize, Serialize};
use store::{Batch, Expect, Table};
use tokio::sync::Notify;

pub use configuration::{EventInvoke, EventInvokes, check_qualifier, function_of, key};

use self::delivery::{Parcels, Service};
use self::queue::{Item, Parcel, Queues, Timer};
use self::record::{Event, Head, Retry, Slot};
use self::upstream::Upstream;
use crate::Lambda;
use crate::error::Error;
use crate::function::FunctionId;
use crate::service::Address;
use crate::tasks::Tasks;

/// Limit of an asynchronous payload; AWS raised it from 256 KB in October 2025.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// Keys read at a time when the server starts.
const PAGE: usize = 5_000;

/// Settings of asynchronous invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events of one function that run at a time. Each may take an environment of its own; the
    /// concurrency of account and function limits them besides. Default 100.
    pub max_running_per_function: usize,
    /// Events that may wait, of all functions together; more are throttled. One that waits takes
    /// about 50 bytes of memory, and its payload on disk. Default 10,000,000.
    pub max_waiting: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running_per_function: 100,
            max_waiting: 10_000_000,
        }
    }
}

/// An event as a caller brings it.
#[derive(Debug)]
pub struct EventCall {
    pub request_id: String,
    /// Must be JSON; see [`crate::payload::check`].
    pub payload: Bytes,
    /// The `X-Amzn-Trace-Id` that the caller brought.
    pub trace_header: Option<String>,
}

/// The queue of events, and all that sees to it.
pub struct Events {
    table: Table,
    clock: Clock,
    config: Config,
    state: Mutex<State>,
    /// A timer was set that may be the first.
    changed: Notify,
    /// Tells the records of this run of the server from those of earlier ones.
    run: u64,
    next_tie: AtomicU64,
    stopping: AtomicBool,
    tasks: Tasks,
    upstream: Upstream,
    lambda: OnceLock<Weak<Lambda>>,
}

#[derive(Debug)]
struct State {
    queues: Queues,
    parcels: Parcels,
}

impl Events {
    pub fn new(
        config: Config,
        upstream: ::upstream::Config,
        table: Table,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let mut run = [0; 4];
        getrandom::fill(&mut run).map_err(Error::Random)?;
        let state = State {
            queues: Queues::new(config.max_running_per_function),
            parcels: Parcels::default(),
        };
        Ok(Arc::new(Self {
            table,
            upstream: Upstream::new(upstream, clock.clone()),
            clock,
            config,
            state: Mutex::new(state),
            changed: Notify::new(),
            run: u64::from(u32::from_be_bytes(run)),
            next_tie: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            tasks: Tasks::default(),
            lambda: OnceLock::new(),
        }))
    }

    /// Takes up what an earlier run has left, and sees to events from now on.
    pub fn start(self: &Arc<Self>, lambda: &Arc<Lambda>) {
        if self.lambda.set(Arc::downgrade(lambda)).is_err() {
            return;
        }
        let events = Arc::clone(self);
        self.tasks.spawn(async move { events.keep_time().await });
        let events = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = events.load().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "events of an earlier run wait until the next start");
            }
        });
    }

    /// Ends all work; what is not done stays in the store.
    pub async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
    }

    /// Refuses a destination that nothing here could deliver to.
    pub(crate) fn check_reachable(&self, service: Service) -> Result<(), Error> {
        if service == Service::Lambda || self.upstream.is_configured(service) {
            return Ok(());
        }
        Err(Error::NotSupported {
            what: match service {
                Service::Sqs => "queues as targets",
                Service::Sns => "topics as targets",
                Service::Events => "event buses as targets",
                Service::S3 | Service::Lambda => "buckets as targets",
            },
            advice: " of its own; name the endpoint of another server in its configuration, \
                     section [upstream]",
        })
    }

    /// How many events wait or run, for status displays and tests.
    pub fn waiting(&self) -> usize {
        self.state().queues.waiting()
    }

    /// Writes an event; once this answers, it is on disk and will be run.
    async fn accept(self: &Arc<Self>, id: &FunctionId, event: &Event) -> Result<(), Error> {
        if self.waiting() >= self.config.max_waiting {
            return Err(Error::TooManyEvents);
        }
        let slot = self.slot();
        let batch = Batch::new().put(record::event_key(id, slot), event.encode()?, Expect::Any);
        let writing = self.table.begin_write(batch).map_err(refused_write)?;
        let (events, id) = (Arc::clone(self), id.clone());
        // In a task of its own: a caller that goes away must not leave an event on disk that the
        // queue does not know.
        let accepting = tokio::spawn(async move {
            writing.finish().await.map_err(refused_write)?;
            let item = Item {
                slot,
                errors: 0,
                refusals: 0,
            };
            events.state().queues.push(&id, item);
            events.pump(&id);
            Ok(())
        });
        accepting.await.map_err(Error::Task)?
    }

    fn slot(&self) -> Slot {
        let number = self.next_tie.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX);
        Slot {
            at: self.clock.now(),
            tie: self.run << 32 | number,
        }
    }

    /// Whether a record was written by this run of the server.
    fn is_own(&self, slot: Slot) -> bool {
        slot.tie >> 32 == self.run
    }

    /// Wakes whoever is due.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let now = self.clock.now();
            let (mut functions, mut services) = (HashSet::new(), HashSet::new());
            let next = {
                let mut state = self.state();
                while let Some(timer) = state.queues.due(now) {
                    match timer {
                        Timer::Event(function, _) | Timer::Function(function) => {
                            functions.insert(function);
                        }
                        Timer::Delivery(service, parcel) => {
                            state.parcels.push(service, parcel);
                            services.insert(service);
                        }
                    }
                }
                state.queues.next_timer()
            };
            for function in &functions {
                self.pump(function);
            }
            for service in services {
                self.carry_due(service);
            }
            match next {
                // Pumping may have set an earlier timer, which shows as a change.
                Some(at) => tokio::select! {
                    () = self.clock.sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Reads the keys of all that waits on disk.
    async fn load(self: &Arc<Self>) -> Result<(), Error> {
        let mut retries = self.load_retries().await?;
        let mut after = None;
        loop {
            let page = self.page(record::EVENTS, after).await?;
            let Some(last) = page.last().cloned() else {
                break;
            };
            let mut functions = HashSet::new();
            for (id, slot) in page
                .iter()
                .filter_map(|key| record::parse_key(record::EVENTS, key))
            {
                if self.is_own(slot) {
                    continue;
                }
                let retry = retries.remove(&(id.clone(), slot));
                let item = Item {
                    slot,
                    errors: retry.map_or(0, |retry| retry.errors),
                    refusals: 0,
                };
                let mut state = self.state();
                match retry {
                    Some(retry) => state.queues.push_later(&id, item, retry.due),
                    None => state.queues.push(&id, item),
                }
                drop(state);
                functions.insert(id);
            }
            self.changed.notify_one();
            for function in &functions {
                self.pump(function);
            }
            after = Some(last);
        }
        self.load_deliveries().await
    }

    async fn load_retries(&self) -> Result<HashMap<(FunctionId, Slot), Retry>, Error> {
        let mut retries = HashMap::new();
        let mut after: Option<Bytes> = None;
        loop {
            let table = self.table.clone();
            let from = after.clone();
            let page = tokio::task::spawn_blocking(move || {
                table.scan(record::RETRIES, from.as_deref(), PAGE)
            });
            let page = page
                .await
                .map_err(Error::Task)?
                .map_err(store_error("read the retries of events"))?;
            for record in &page {
                if let Some(of) = record::parse_key(record::RETRIES, &record.key) {
                    retries.insert(of, Retry::decode(&record.value)?);
                }
            }
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(retries),
            }
        }
    }

    async fn load_deliveries(self: &Arc<Self>) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.page(record::DELIVERIES, after).await?;
            let Some(last) = page.last().cloned() else {
                break;
            };
            let parcels = page
                .iter()
                .filter_map(|key| record::parse_delivery_key(key));
            for (service, slot) in parcels.filter(|(_, slot)| !self.is_own(*slot)) {
                let parcel = Parcel { slot, failures: 0 };
                self.state().parcels.push(service, parcel);
            }
            after = Some(last);
        }
        for service in Service::ALL {
            self.carry_due(service);
        }
        Ok(())
    }

    async fn page(&self, prefix: &'static [u8], after: Option<Bytes>) -> Result<Vec<Bytes>, Error> {
        let table = self.table.clone();
        let page =
            tokio::task::spawn_blocking(move || table.keys(prefix, after.as_deref(), PAGE)).await;
        page.map_err(Error::Task)?
            .map_err(store_error("read what waits"))
    }

    /// Writes what may be done again after a crash: without waiting for the disk, where the store
    /// has room for that.
    async fn forget(&self, batch: impl Fn() -> Batch) {
        let written = match self.table.write_relaxed(batch()) {
            Err(store::Error::Overloaded { .. }) => self.table.write(batch()).await.map(drop),
            outcome => outcome,
        };
        if let Err(error) = written {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "an event may run again after the next start");
        }
    }

    fn lambda(&self) -> Option<Arc<Lambda>> {
        self.lambda.get().and_then(Weak::upgrade)
    }

    fn measure(&self, measurement: &Measurement<'_>) {
        if let Some(lambda) = self.lambda() {
            lambda.measure(measurement);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock, so the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Lambda {
    /// The queue of events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Takes an event for a function, to be run later; answers once it is on disk. Gives the trace
    /// that the event belongs to.
    pub async fn invoke_later(&self, address: &Address, call: EventCall) -> Result<String, Error> {
        let now = self.clock.now();
        let tracing_active = self.check_invocable(address)?;
        let incoming = call.trace_header.as_deref();
        let trace_header = invoker::trace_header(incoming, tracing_active, now);
        let head = Head {
            request_id: call.request_id,
            qualifier: address.qualifier.as_ref().map(ToString::to_string),
            trace_header,
        };
        let event = Event {
            head,
            payload: call.payload,
        };
        self.take(&address.id, &event).await?;
        Ok(event.head.trace_header)
    }

    /// Takes an event from another one's destination.
    pub(crate) async fn accept(&self, id: &FunctionId, event: Event) -> Result<(), Error> {
        let qualifier = event.head.qualifier.as_deref().map(Into::into);
        let id = id.clone();
        let address = Address { id, qualifier };
        self.check_invocable(&address)?;
        self.take(&address.id, &event).await
    }

    async fn take(&self, id: &FunctionId, event: &Event) -> Result<(), Error> {
        let size = event.payload.len();
        if size > MAX_EVENT_BYTES {
            return Err(Error::PayloadTooLarge {
                size,
                invocation_type: "Event",
                limit: MAX_EVENT_BYTES,
            });
        }
        self.events.accept(id, event).await?;
        let (account, region) = (id.scope.account.to_string(), id.scope.region.to_string());
        let values = [(Metric::AsyncEventsReceived, 1.0)];
        let at = self.clock.now();
        self.measure(&Measurement::of_function(
            &account, &region, &id.name, at, &values,
        ));
        Ok(())
    }
}

fn store_error(action: &'static str) -> impl Fn(store::Error) -> Error {
    move |cause| Error::Store { action, cause }
}

/// A store that cannot keep up is a matter of time, which clients know how to deal with.
fn refused_write(cause: store::Error) -> Error {
    match cause {
        store::Error::Overloaded { .. } => Error::TooManyEvents,
        cause => store_error("store an event")(cause),
    }
}
