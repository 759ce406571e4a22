//! The service: its state, and what the invoker and the CLI call.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use clock::{Clock, Timestamp};
use protocol::Caller;
use store::Store;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::event::OVERHEAD_BYTES;
use crate::record::GroupRecord;
use crate::registry::{Listed, Registry, Tables, group_key};
use crate::tail::{TailBatch, TailEvent, Tails};
use crate::{Error, sweep};

/// AWS's limit for one event, with its overhead.
pub(crate) const MAX_EVENT_BYTES: usize = 1 << 20;
const MAX_APPEND_LEN: usize = 1000;
const MAX_APPEND_BYTES: usize = 4 << 20;

/// CloudWatch Logs.
#[derive(Debug)]
pub struct Logs {
    registry: Mutex<Registry>,
    tables: Tables,
    tails: Tails,
    clock: Clock,
    /// The sizes of groups when they were last added up, by key.
    sizes: Mutex<Arc<HashMap<String, u64>>>,
    dropped: AtomicU64,
    observer: OnceLock<Observer>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

type Observe = dyn Fn(&Caller, &[u8]) + Send + Sync;

/// Sees the lines that clients put.
struct Observer(Box<Observe>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Logs {
    /// Opens the service on a store. Must be called within a Tokio runtime, on which expired
    /// events are swept.
    pub fn open(store: Store, clock: Clock) -> Result<Arc<Self>, Error> {
        let tables = Tables::open(&store)?;
        let logs = Arc::new(Self {
            registry: Mutex::new(Registry::new(tables.clone(), clock.clone())),
            tables,
            tails: Tails::default(),
            clock: clock.clone(),
            sizes: Mutex::default(),
            dropped: AtomicU64::new(0),
            observer: OnceLock::new(),
            sweeper: Mutex::default(),
        });
        let sweeper = tokio::spawn(sweep::run(Arc::downgrade(&logs), clock));
        *logs.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweeper);
        Ok(logs)
    }

    /// Shows each line that a client puts to `observer`, once it is on disk. Only the first call
    /// counts.
    pub fn observe(&self, observer: impl Fn(&Caller, &[u8]) + Send + Sync + 'static) {
        // There is one assembly, which asks once.
        let _ = self.observer.set(Observer(Box::new(observer)));
    }

    pub(crate) fn observed(&self, caller: &Caller, events: &[(i64, Bytes)]) {
        if let Some(observer) = self.observer.get() {
            for (_, message) in events {
                (observer.0)(caller, message);
            }
        }
    }

    /// Takes events of a function: never waits, keeps their order within the stream, and brings
    /// group and stream into being. They are readable at once and on disk within a second. If the
    /// disk does not keep up, events are dropped and counted.
    pub fn ingest(
        &self,
        account: impl Display,
        region: impl Display,
        group: &str,
        stream: &str,
        events: Vec<(Timestamp, String)>,
    ) {
        let key = group_key(&format!("{account}/{region}"), group);
        let count = events.len() as u64;
        if let Err(err) = self.try_ingest(&key, stream, events) {
            let dropped = self.dropped.fetch_add(count, Ordering::Relaxed) + count;
            tracing::error!(group, stream, dropped, error = %err, "dropped log events");
        }
    }

    fn try_ingest(
        &self,
        key: &str,
        stream: &str,
        events: Vec<(Timestamp, String)>,
    ) -> Result<(), Error> {
        let limit = MAX_EVENT_BYTES - OVERHEAD_BYTES;
        let events: Vec<(i64, Bytes)> = events
            .into_iter()
            .flat_map(|(at, message)| {
                split(message, limit)
                    .into_iter()
                    .map(move |part| (at.as_millis(), part))
            })
            .collect();
        let mut registry = self.registry();
        registry.ensure_stream(key, stream)?;
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, message): &&(i64, Bytes)| {
                bytes += message.len() + OVERHEAD_BYTES;
                bytes <= MAX_APPEND_BYTES
            };
            let len = rest
                .iter()
                .take(MAX_APPEND_LEN)
                .take_while(fits)
                .count()
                .max(1);
            let (now, later) = rest.split_at(len);
            registry.append_relaxed(key, stream, now)?;
            rest = later;
        }
        self.publish(key, stream, &events);
        Ok(())
    }

    /// Delivers the events of a group from now on, as they arrive, whether or not it exists yet.
    /// A receiver that is too slow misses some, and is told so.
    pub fn subscribe(
        &self,
        account: impl Display,
        region: impl Display,
        group: &str,
    ) -> broadcast::Receiver<Arc<TailBatch>> {
        self.tails
            .subscribe(&group_key(&format!("{account}/{region}"), group))
    }

    /// How many events were dropped because the disk did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, key: &str, stream: &str, events: &[(i64, Bytes)]) {
        self.tails.publish(key, || TailBatch {
            stream: stream.to_owned(),
            events: events
                .iter()
                .map(|(at, message)| TailEvent {
                    timestamp: Timestamp::from_millis(*at),
                    message: String::from_utf8_lossy(message).into_owned(),
                })
                .collect(),
        });
    }

    /// The groups whose keys begin with `prefix`. Reads the disk without holding up others.
    pub(crate) fn groups(&self, prefix: &str) -> Result<BTreeMap<String, GroupRecord>, Error> {
        let found = self.tables.groups(prefix)?;
        Ok(self.registry().overlay_groups(prefix, found))
    }

    /// A group and its streams whose names begin with `prefix`. Reads the disk without holding up
    /// others.
    pub(crate) fn streams(
        &self,
        key: &str,
        prefix: &str,
    ) -> Result<(GroupRecord, BTreeMap<String, Listed>), Error> {
        let group = self
            .registry()
            .group(key)?
            .ok_or(Error::GroupNotFound)?
            .record
            .clone();
        let found = self.tables.streams(group.id, prefix)?;
        let streams = self.registry().overlay_streams(key, prefix, found);
        Ok((group, streams))
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn size(&self, key: &str) -> u64 {
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn set_sizes(&self, sizes: Arc<HashMap<String, u64>>) {
        *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let sweeper = self
            .sweeper
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sweeper) = sweeper.take() {
            sweeper.abort();
        }
    }
}

/// The part of a key that account and region make up.
pub(crate) fn scope(caller: &Caller) -> String {
    format!("{}/{}", caller.account, caller.region)
}

/// A message in parts of at most `limit` bytes; nothing of an empty one.
fn split(message: String, limit: usize) -> Vec<Bytes> {
    if message.len() <= limit {
        let message = Bytes::from(message);
        return if message.is_empty() {
            Vec::new()
        } else {
            vec![message]
        };
    }
    let mut parts = Vec::new();
    let mut rest = message.as_str();
    while !rest.is_empty() {
        let (part, later) = rest.split_at(rest.floor_char_boundary(limit));
        parts.push(Bytes::copy_from_slice(part.as_bytes()));
        rest = later;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_split_between_characters() {
        let parts = split("äöü".to_owned(), 3);
        assert_eq!(parts, ["ä", "ö", "ü"]);
        assert_eq!(split(String::new(), 3), Vec::<Bytes>::new());
        assert_eq!(split("abc".to_owned(), 3), ["abc"]);
    }
}
