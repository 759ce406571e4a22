//! Brings records to destinations and events to dead-letter queues.
//!
//! A delivery is on disk before the event that caused it is gone, and is tried for about a quarter
//! of an hour. Each service has workers of its own, so that one that does not answer holds up
//! nobody else. What cannot be delivered is logged and counted, and then given up, as on AWS.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use invoker::{Measurement, Metric};
use model::Arn;
use store::Batch;

use super::configuration::id_of;
use super::queue::Parcel;
use super::record::{self, Delivery, Event, Head, Purpose};
use super::{Events, store_error};
use crate::Lambda;
use crate::error::Error;
use crate::function::{FunctionId, Scope, new_id};
use crate::name::FunctionReference;

/// Deliveries under way to one service.
const MAX_CARRIERS: usize = 16;
/// Tries of one delivery; the waits between them add up to 1,023 seconds.
const MAX_TRIES: u8 = 11;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What can be a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Lambda,
    Sqs,
    Sns,
    Events,
    S3,
}

/// Why a delivery did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// Trying again will not help.
    #[error("refused: {0}")]
    Refused(String),
    /// It may arrive another time.
    #[error("not reached: {0}")]
    Unreachable(String),
}

pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send + 'a>>;

/// Where deliveries go: the functions of this server, or a service at an address.
pub trait Target: Send + Sync {
    /// Brings a message to the resource that it names. Once this answers, the message is the
    /// target's, durably.
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Delivering<'a>;
}

/// Deliveries that are due, by service.
#[derive(Debug, Default)]
pub struct Parcels([Line; Service::ALL.len()]);

#[derive(Debug, Default)]
struct Line {
    due: VecDeque<Parcel>,
    carriers: usize,
}

impl Service {
    pub const ALL: [Self; 5] = [Self::Lambda, Self::Sqs, Self::Sns, Self::Events, Self::S3];

    /// As ARNs name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lambda => "lambda",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Events => "events",
            Self::S3 => "s3",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// The service of a resource.
    pub fn of(arn: &str) -> Option<Self> {
        let arn: Arn = arn.parse().ok()?;
        Self::named(&arn.service)
    }
}

impl Parcels {
    pub fn push(&mut self, service: Service, parcel: Parcel) {
        self.0[service as usize].due.push_back(parcel);
    }

    /// Takes a parcel, if there is a carrier left for it.
    fn claim(&mut self, service: Service) -> Option<Parcel> {
        let line = &mut self.0[service as usize];
        if line.carriers >= MAX_CARRIERS {
            return None;
        }
        let parcel = line.due.pop_front()?;
        line.carriers += 1;
        Some(parcel)
    }

    fn release(&mut self, service: Service) {
        let line = &mut self.0[service as usize];
        line.carriers = line.carriers.saturating_sub(1);
    }
}

impl Events {
    /// Sends carriers out with what is due.
    pub(super) fn carry_due(self: &Arc<Self>, service: Service) {
        while let Some(parcel) = self.claim_parcel(service) {
            let events = Arc::clone(self);
            self.tasks.spawn(async move {
                let mut next = Some(parcel);
                while let Some(parcel) = next {
                    events.carry(service, parcel).await;
                    let mut state = events.state();
                    state.parcels.release(service);
                    next = state.parcels.claim(service);
                }
            });
        }
    }

    fn claim_parcel(&self, service: Service) -> Option<Parcel> {
        self.state().parcels.claim(service)
    }

    async fn carry(&self, service: Service, parcel: Parcel) {
        let key = record::delivery_key(service, parcel.slot);
        let delivery = match self.read_delivery(&key) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a delivery stays until the next start");
                return;
            }
        };
        let outcome = match (service, self.lambda()) {
            (Service::Lambda, Some(lambda)) => Functions(&lambda).deliver(&delivery).await,
            // The server is shutting down.
            (Service::Lambda, None) => return,
            _ => self.upstream.deliver(&delivery).await,
        };
        let failures = parcel.failures + 1;
        match outcome {
            Ok(()) => {}
            Err(Undelivered::Unreachable(reason)) if failures < MAX_TRIES => {
                let target = &delivery.note.target;
                tracing::warn!(target, reason, failures, "a delivery is tried again");
                let due = self.clock.now() + FIRST_WAIT * (1 << (failures - 1));
                let parcel = Parcel { failures, ..parcel };
                let mut state = self.state();
                state.queues.deliver_later(service, parcel, due);
                drop(state);
                self.changed.notify_one();
                return;
            }
            Err(error) => self.give_up(&delivery, &error),
        }
        self.forget(|| Batch::new().delete(&key, store::Expect::Any))
            .await;
    }

    fn read_delivery(&self, key: &[u8]) -> Result<Option<Delivery>, Error> {
        let found = self
            .table
            .get(key)
            .map_err(store_error("read a delivery"))?;
        found
            .map(|record| Delivery::decode(&record.value))
            .transpose()
    }

    fn give_up(&self, delivery: &Delivery, error: &Undelivered) {
        let note = &delivery.note;
        tracing::error!(
            target = note.target,
            function = note.function_arn,
            request_id = note.request_id,
            error = error as &dyn std::error::Error,
            "a delivery is given up"
        );
        let metric = match note.purpose {
            Purpose::DeadLetter { .. } => Metric::DeadLetterErrors,
            Purpose::Success | Purpose::Failure => Metric::DestinationDeliveryFailures,
        };
        let (account, region, name) = &note.function;
        let values = [(metric, 1.0)];
        let at = self.clock.now();
        self.measure(&Measurement::of_function(
            account, region, name, at, &values,
        ));
    }
}

/// The functions of this server as targets: each message is an event for one.
struct Functions<'l>(&'l Arc<Lambda>);

impl Target for Functions<'_> {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Delivering<'a> {
        Box::pin(async move {
            let note = &delivery.note;
            let refused = |error: &dyn std::fmt::Display| Undelivered::Refused(error.to_string());
            let reference: FunctionReference =
                note.target.parse().map_err(|error| refused(&error))?;
            let from = source(note).ok_or_else(|| refused(&"the record names no function"))?;
            let (id, qualifier) = id_of(reference, &from);
            if id.scope != from.scope {
                return Err(refused(&"the function is another account's or region's"));
            }
            let event = Event {
                head: Head {
                    request_id: new_id(),
                    qualifier: qualifier.map(|qualifier| qualifier.to_string()),
                    trace_header: note.trace_header.clone(),
                },
                payload: delivery.body.clone(),
            };
            let accepted = self.0.accept(&id, event).await;
            accepted.map_err(|error| match error {
                Error::FunctionNotFound { .. } | Error::PayloadTooLarge { .. } => refused(&error),
                _ => Undelivered::Unreachable(error.to_string()),
            })
        })
    }
}

fn source(note: &record::Note) -> Option<FunctionId> {
    let (account, region, name) = &note.function;
    let scope = Scope {
        account: account.parse().ok()?,
        region: region.parse().ok()?,
    };
    let name = name.clone();
    Some(FunctionId { scope, name })
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::*;
    use crate::events::record::Slot;

    #[test]
    fn each_service_has_carriers_of_its_own() {
        let mut parcels = Parcels::default();
        let parcel = |tie| Parcel {
            slot: Slot {
                at: Timestamp::default(),
                tie,
            },
            failures: 0,
        };
        for tie in 0..20 {
            parcels.push(Service::Sqs, parcel(tie));
        }
        let claimed = std::iter::from_fn(|| parcels.claim(Service::Sqs)).count();
        assert_eq!(claimed, MAX_CARRIERS);
        parcels.push(Service::Lambda, parcel(99));
        assert_eq!(parcels.claim(Service::Lambda), Some(parcel(99)));
        parcels.release(Service::Sqs);
        assert_eq!(parcels.claim(Service::Sqs), Some(parcel(16)));
    }

    #[test]
    fn services_are_found_by_their_arns() {
        assert_eq!(Service::of("arn:aws:s3:::bucket"), Some(Service::S3));
        assert_eq!(
            Service::of("arn:aws:events:us-east-1:000000000000:event-bus/b"),
            Some(Service::Events)
        );
        assert_eq!(Service::of("arn:aws:iam::000000000000:role/r"), None);
        assert_eq!(Service::of("queue"), None);
    }
}
