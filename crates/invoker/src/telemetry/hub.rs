use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use clock::{Clock, Timestamp};
use sandbox::Connector;
use serde::Serialize;

use super::deliver::Delivery;
use super::event::Event;
use super::queue::Queue;
use super::subscription::{Api, Subscription};
use super::{Audience, Category};
use crate::LogFormat;
use crate::environment::Aborted;

/// Passes on what happens in one environment to those of its extensions that have subscribed.
pub(crate) struct Telemetry {
    /// Somebody has subscribed, or still may.
    on: AtomicBool,
    format: LogFormat,
    clock: Clock,
    connector: OnceLock<Connector>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Subscribing is possible.
    open: bool,
    /// What happened since the environment was started, for who subscribes later.
    backlog: Vec<Event>,
    backlog_bytes: usize,
    subscribers: Vec<Subscriber>,
    notices: Vec<Notice>,
}

struct Subscriber {
    extension: String,
    subscription: Subscription,
    queue: Arc<Queue>,
    _delivery: Aborted,
}

/// A subscription, as the log tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub time: Timestamp,
    pub extension: String,
    pub api: Api,
    pub categories: Vec<Category>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsubscribed {
    /// The init phase is over.
    Closed,
    /// The extension has subscribed by the other API.
    OtherApi,
    Invalid(String),
}

/// Of the init phase; more of it is not told to late subscribers.
const MAX_BACKLOG_BYTES: usize = 256 * 1024;

impl Telemetry {
    /// Of an environment that is about to start.
    pub fn new(format: LogFormat, clock: Clock) -> Self {
        let state = State {
            open: true,
            ..State::default()
        };
        Self {
            on: AtomicBool::new(true),
            format,
            clock,
            connector: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// For which nobody can subscribe.
    pub fn off(clock: Clock) -> Self {
        let telemetry = Self::new(LogFormat::Text, clock);
        telemetry.close();
        telemetry
    }

    /// How destinations are reached. Until it is known, subscriptions are refused.
    pub fn connect_by(&self, connector: Connector) {
        let _ = self.connector.set(connector);
    }

    /// Whether anybody may want to hear of anything.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Nobody subscribes any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state.backlog = Vec::new();
        state.backlog_bytes = 0;
        self.on
            .store(!state.subscribers.is_empty(), Ordering::Release);
    }

    /// A line that the runtime or an extension printed.
    pub fn line(&self, category: Category, time: Timestamp, text: &str) {
        if self.is_on() {
            let as_json = self.format == LogFormat::Json;
            self.publish(&Event::line(category, time, text, as_json));
        }
    }

    /// An event of the platform. Its record is made only if somebody may want it.
    pub fn platform<R: Serialize>(
        &self,
        audience: Audience,
        time: Timestamp,
        kind: &str,
        record: impl FnOnce() -> R,
    ) {
        if self.is_on() {
            let event = Event::new(Category::Platform, audience, time, (kind, record()));
            self.publish(&event);
        }
    }

    /// What is waiting goes out without waiting for more.
    pub fn hurry(&self) {
        for subscriber in &self.lock().subscribers {
            subscriber.queue.hurry();
        }
    }

    /// Subscriptions that were made since the last call.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.lock().notices)
    }

    /// `PUT .../telemetry` and `.../logs`. Must be called inside a tokio runtime.
    pub(super) fn subscribe(
        &self,
        extension: &str,
        api: Api,
        body: &[u8],
    ) -> Result<(), Unsubscribed> {
        let mut state = self.lock();
        let connector = self.connector.get().filter(|_| state.open);
        let connector = connector.ok_or(Unsubscribed::Closed)?.clone();
        let subscription = Subscription::parse(api, body).map_err(Unsubscribed::Invalid)?;
        let other = |known: &Subscriber| known.extension == extension;
        if let Some(at) = state.subscribers.iter().position(other) {
            if state.subscribers[at].subscription.api != api {
                return Err(Unsubscribed::OtherApi);
            }
            if state.subscribers[at].subscription == subscription {
                return Ok(());
            }
            // What was not delivered yet is told again to the new destination.
            state.subscribers.remove(at);
        }
        let queue = Arc::new(Queue::new(subscription.buffering));
        for event in &state.backlog {
            if subscription.wants(event.category, event.audience) {
                queue.push(event.json.clone());
            }
        }
        let delivery = Delivery {
            connector,
            subscription: subscription.clone(),
            queue: Arc::clone(&queue),
            clock: self.clock.clone(),
        };
        let task = tokio::spawn(delivery.run());
        let notice = Notice {
            time: self.clock.now(),
            extension: extension.to_owned(),
            api,
            categories: subscription.categories.clone(),
        };
        state.notices.push(notice.clone());
        state.subscribers.push(Subscriber {
            extension: extension.to_owned(),
            subscription,
            queue,
            _delivery: Aborted(task.abort_handle()),
        });
        drop(state);
        self.platform(api.audience(), notice.time, api.event(), || notice.record());
        Ok(())
    }

    fn publish(&self, event: &Event) {
        let mut state = self.lock();
        for subscriber in &state.subscribers {
            if subscriber
                .subscription
                .wants(event.category, event.audience)
            {
                subscriber.queue.push(event.json.clone());
            }
        }
        let bytes = state.backlog_bytes + event.json.len();
        if state.open && bytes <= MAX_BACKLOG_BYTES {
            state.backlog_bytes = bytes;
            state.backlog.push(event.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock, so the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("on", &self.is_on())
            .finish_non_exhaustive()
    }
}

impl Notice {
    pub fn record(&self) -> serde_json::Value {
        let types: Vec<_> = self.categories.iter().map(|kind| kind.as_str()).collect();
        serde_json::json!({"name": self.extension, "state": "Subscribed", "types": types})
    }
}

impl Api {
    pub const fn event(self) -> &'static str {
        match self {
            Self::Telemetry => "platform.telemetrySubscription",
            Self::Logs => "platform.logsSubscription",
        }
    }

    /// As it begins a log line.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Telemetry => "TELEMETRY",
            Self::Logs => "LOGS",
        }
    }

    const fn audience(self) -> Audience {
        match self {
            Self::Telemetry => Audience::Telemetry,
            Self::Logs => Audience::Logs,
        }
    }
}
