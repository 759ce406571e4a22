//! Runs events: takes one after the other from a function's queue, invokes the function, and does
//! what follows from the outcome.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clock::Timestamp;
use invoker::{InvokeError, Measurement, Metric};
use store::{Batch, Expect};

use super::configuration::{self, EventInvoke};
use super::delivery::Service;
use super::outcome::Outcome;
use super::queue::{Claim, Item, Landing, Parcel};
use super::record::{self, Delivery, Event, Note, Purpose, Retry};
use super::verdict::{self, Condition, Response, Tried, Verdict};
use super::{Events, store_error};
use crate::Lambda;
use crate::error::Error;
use crate::function::{Function, FunctionId};
use crate::invoke::{Answer, Call};
use crate::name::Qualifier;
use crate::service::Address;

/// How long an event waits whose record could not be read.
const UNREADABLE_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// An event under way, and all that is known of it.
struct Errand<'a> {
    lambda: &'a Lambda,
    function: &'a Function,
    config: &'a EventInvoke,
    event: &'a Event,
    item: Item,
    now: Timestamp,
}

impl Events {
    /// Starts workers for all events of a function that may run now.
    pub(super) fn pump(self: &Arc<Self>, id: &FunctionId) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let now = self.clock.now();
        let age = configuration::DEFAULT_AGE;
        let mut claims = Vec::new();
        let timer_set = {
            let mut state = self.state();
            while let Some(claim) = state.queues.claim(id, now, now - age) {
                claims.push(claim);
            }
            state.queues.wake_later(id, now, age)
        };
        if timer_set {
            self.changed.notify_one();
        }
        for claim in claims {
            let (events, id) = (Arc::clone(self), id.clone());
            self.tasks
                .spawn(async move { events.work(&id, claim).await });
        }
    }

    /// Sees to a claimed event, and then to others of the same function while there are any.
    async fn work(self: Arc<Self>, id: &FunctionId, first: Claim) {
        let mut next = Some(first);
        while let Some(claim) = next {
            let Some(landing) = self.see_to(id, claim.item).await else {
                // The server is shutting down.
                return;
            };
            let now = self.clock.now();
            next = {
                let mut state = self.state();
                state.queues.release(id, claim, now, landing);
                state
                    .queues
                    .claim(id, now, now - configuration::DEFAULT_AGE)
            };
            self.pump(id);
        }
    }

    async fn see_to(self: &Arc<Self>, id: &FunctionId, item: Item) -> Option<Landing> {
        let lambda = self.lambda()?;
        let event = match self.read(id, item) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.state().queues.finish();
                return Some(Landing::Neither);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(function = id.arn(), error, "cannot read an event");
                self.retry(id, item, self.clock.now() + UNREADABLE_WAIT);
                return Some(Landing::Neither);
            }
        };
        let Ok(function) = lambda.functions.get(id, None) else {
            self.drop_orphan(id, item, &event).await;
            return Some(Landing::Neither);
        };
        let key = event
            .head
            .qualifier
            .as_deref()
            .unwrap_or(crate::name::LATEST);
        let config = match function.attached.event_invoke.get(key) {
            Some(config) => Cow::Borrowed(config),
            None => Cow::Owned(EventInvoke::default()),
        };
        let mut errand = Errand {
            lambda: &lambda,
            function: &function,
            config: &config,
            event: &event,
            item,
            now: self.clock.now(),
        };
        if let Some(verdict) = verdict::too_old(item, &config, errand.now) {
            self.execute(&errand, verdict, &event.head.trace_header)
                .await;
            return Some(Landing::Neither);
        }
        let (tried, trace_header) = errand.run().await?;
        let landing = match &tried {
            Tried::Answered(_) => Landing::Ran,
            Tried::Throttled(_) => Landing::Throttled,
            _ => Landing::Neither,
        };
        errand.now = self.clock.now();
        let verdict = verdict::after(tried, item, &config, errand.now);
        self.execute(&errand, verdict, &trace_header).await;
        Some(landing)
    }

    fn read(&self, id: &FunctionId, item: Item) -> Result<Option<Event>, Error> {
        let key = record::event_key(id, item.slot);
        let found = self.table.get(key).map_err(store_error("read an event"))?;
        found.map(|record| Event::decode(&record.value)).transpose()
    }

    async fn execute(self: &Arc<Self>, errand: &Errand<'_>, verdict: Verdict, trace: &str) {
        match verdict {
            Verdict::Retry { item, due } => {
                let id = &errand.function.id;
                // Refusals are not remembered: after a restart there may be room.
                if item.errors != errand.item.errors {
                    let errors = item.errors;
                    if let Ok(retry) = (Retry { errors, due }).encode() {
                        let key = record::retry_key(id, item.slot);
                        self.forget(|| Batch::new().put(&key, retry.clone(), Expect::Any))
                            .await;
                    }
                }
                self.retry(id, item, due);
            }
            Verdict::Over {
                condition,
                count,
                response,
            } => {
                let outcome = Outcome {
                    at: errand.now,
                    request_id: &errand.event.head.request_id,
                    function_arn: &errand.function_arn(),
                    condition,
                    count,
                    request: &errand.event.payload,
                    response: response.as_ref(),
                };
                self.conclude(errand, &outcome, trace).await;
            }
        }
    }

    fn retry(&self, id: &FunctionId, item: Item, due: Timestamp) {
        self.state().queues.retry(id, item, due);
        self.changed.notify_one();
    }

    /// Ends an event: removes its record, and puts those of its deliveries in its place.
    async fn conclude(self: &Arc<Self>, errand: &Errand<'_>, outcome: &Outcome<'_>, trace: &str) {
        if outcome.condition != Condition::Success {
            errand.report_drop(outcome);
        }
        let mut parcels = Vec::new();
        for (service, delivery) in errand.deliveries(outcome, trace) {
            match delivery.encode() {
                Ok(value) => parcels.push((service, self.slot(), value)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "cannot write a delivery");
                }
            }
        }
        let batch = || {
            let removed = removal(&errand.function.id, errand.item);
            parcels
                .iter()
                .fold(removed, |batch, (service, slot, value)| {
                    let key = record::delivery_key(*service, *slot);
                    batch.put(key, value.clone(), Expect::Any)
                })
        };
        if parcels.is_empty() {
            self.forget(batch).await;
        } else if let Err(error) = self.table.write(batch()).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "an event runs again at the next start");
            parcels.clear();
        }
        let mut state = self.state();
        state.queues.finish();
        for (service, slot, _) in &parcels {
            let (slot, failures) = (*slot, 0);
            state.parcels.push(*service, Parcel { slot, failures });
        }
        drop(state);
        for (service, ..) in &parcels {
            self.carry_due(*service);
        }
    }

    /// An event whose function was deleted has nowhere to go: its configuration is gone, too.
    async fn drop_orphan(&self, id: &FunctionId, item: Item, event: &Event) {
        let request_id = &event.head.request_id;
        tracing::warn!(
            function = id.arn(),
            request_id,
            "dropped an event of a deleted function"
        );
        let (account, region) = (id.scope.account.to_string(), id.scope.region.to_string());
        let values = [(Metric::AsyncEventsDropped, 1.0)];
        let at = self.clock.now();
        self.measure(&Measurement::of_function(
            &account, &region, &id.name, at, &values,
        ));
        self.forget(|| removal(id, item)).await;
        self.state().queues.finish();
    }
}

fn removal(id: &FunctionId, item: Item) -> Batch {
    let batch = Batch::new().delete(record::event_key(id, item.slot), Expect::Any);
    if item.errors == 0 {
        return batch;
    }
    batch.delete(record::retry_key(id, item.slot), Expect::Any)
}

impl Errand<'_> {
    /// One try. `None` if the server is shutting down; else what came of it, and the trace that a
    /// destination carries on.
    async fn run(&self) -> Option<(Tried, String)> {
        let Event { head, payload } = self.event;
        let waited = self.now.duration_since(self.item.slot.at);
        self.measure(Metric::AsyncEventAge, waited.as_secs_f64() * 1000.0);
        let address = Address {
            id: self.function.id.clone(),
            qualifier: head.qualifier.as_deref().map(Qualifier::from),
        };
        let call = Call {
            request_id: head.request_id.clone(),
            payload: payload.clone(),
            trace_header: Some(head.trace_header.clone()),
            ..Call::default()
        };
        match self.lambda.invoke(&address, call).await {
            Ok(answer) => {
                let trace_header = answer.trace_header.clone();
                Some((Tried::Answered(response_of(answer)), trace_header))
            }
            Err(Error::Invoke(InvokeError::ShuttingDown)) => None,
            Err(error) => Some((self.refusal(error), head.trace_header.clone())),
        }
    }

    fn refusal(&self, error: Error) -> Tried {
        match error {
            Error::Invoke(InvokeError::TooManyRequests { .. }) if self.has_no_concurrency() => {
                Tried::NoConcurrency
            }
            Error::Invoke(InvokeError::TooManyRequests { .. } | InvokeError::NoCapacity) => {
                Tried::Throttled("Rate Exceeded.".to_owned())
            }
            Error::RecursiveInvocation => Tried::Recursive(error.to_string()),
            Error::FunctionNotFound { .. } => Tried::NotFound(error.to_string()),
            error => {
                tracing::warn!(
                    function = self.function.id.arn(),
                    request_id = self.event.head.request_id,
                    error = &error as &dyn std::error::Error,
                    "an event is tried again later"
                );
                Tried::Unavailable
            }
        }
    }

    /// Whether the owner has reserved no concurrency at all, to keep the function from running.
    fn has_no_concurrency(&self) -> bool {
        self.function.attached.concurrency.reserved == Some(0)
    }

    /// With the qualifier of the event, or `$LATEST`.
    fn function_arn(&self) -> String {
        let qualifier = self.event.head.qualifier.as_deref();
        let qualifier = qualifier.unwrap_or(crate::name::LATEST);
        self.function.id.qualified_arn(qualifier)
    }

    /// What is to be told to whom about an event that is over.
    fn deliveries(&self, outcome: &Outcome<'_>, trace: &str) -> Vec<(Service, Delivery)> {
        let mut deliveries = Vec::new();
        let (target, purpose) = match outcome.condition {
            Condition::Success => (&self.config.on_success, Purpose::Success),
            _ => (&self.config.on_failure, Purpose::Failure),
        };
        if let Some(target) = target
            && let Some(service) = Service::of(target)
        {
            match outcome.record(service) {
                Ok(body) => {
                    let note = self.note(target, purpose, outcome, trace);
                    deliveries.push((service, Delivery { note, body }));
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "cannot write a record for a destination");
                }
            }
        }
        if outcome.condition != Condition::Success
            && let Some(target) = self.dead_letter_target()
            && let Some(service) = Service::of(&target)
        {
            let note = self.note(&target, outcome.dead_letter(), outcome, trace);
            let body = self.event.payload.clone();
            deliveries.push((service, Delivery { note, body }));
        }
        deliveries
    }

    /// The dead-letter queue of the version that was to run.
    fn dead_letter_target(&self) -> Option<String> {
        let qualifier = self.event.head.qualifier.as_deref().map(Qualifier::from);
        let version = self.function.version(qualifier.as_ref()).ok()?;
        version.settings.dead_letter_arn.clone()
    }

    fn note(&self, target: &str, purpose: Purpose, outcome: &Outcome<'_>, trace: &str) -> Note {
        let FunctionId { scope, name } = &self.function.id;
        Note {
            target: target.to_owned(),
            function: (
                scope.account.to_string(),
                scope.region.to_string(),
                name.clone(),
            ),
            function_arn: outcome.function_arn.to_owned(),
            request_id: outcome.request_id.to_owned(),
            trace_header: trace.to_owned(),
            purpose,
        }
    }

    fn report_drop(&self, outcome: &Outcome<'_>) {
        tracing::info!(
            function = outcome.function_arn,
            request_id = outcome.request_id,
            condition = outcome.condition.name(),
            "an event is given up"
        );
        self.measure(Metric::AsyncEventsDropped, 1.0);
    }

    fn measure(&self, metric: Metric, value: f64) {
        let FunctionId { scope, name } = &self.function.id;
        let (account, region) = (scope.account.to_string(), scope.region.to_string());
        let values = [(metric, value)];
        let resource = match &self.event.head.qualifier {
            Some(qualifier) => format!("{name}:{qualifier}"),
            None => name.clone(),
        };
        self.lambda.measure(&Measurement {
            resource: Some(&resource),
            ..Measurement::of_function(&account, &region, name, self.now, &values)
        });
    }
}

fn response_of(answer: Answer) -> Response {
    let outcome = answer.outcome;
    Response {
        status: 200,
        executed_version: Some(answer.executed_version),
        function_error: outcome
            .function_error
            .map(|error| error.as_str().to_owned()),
        payload: outcome.payload.into_buffered(),
        message: None,
    }
}
