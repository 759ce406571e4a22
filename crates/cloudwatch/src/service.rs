//! The service: its state, and what the server itself calls.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Clock;
use protocol::Caller;
use store::Store;
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::config::Config;
use crate::metric::Datum;
use crate::{Error, sweep};

/// Data that go into one write; the store bounds its batches.
const MAX_WRITE: usize = 2_000;

/// CloudWatch's metrics.
#[derive(Debug)]
pub struct CloudWatch {
    book: Mutex<Book>,
    clock: Clock,
    dropped: AtomicU64,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

impl CloudWatch {
    /// Opens the service on a store. Must be called within a Tokio runtime, on which old values are
    /// rolled up.
    pub fn open(config: &Config, store: &Store, clock: Clock) -> Result<Arc<Self>, Error> {
        let table = store.table("cloudwatch")?;
        let this = Arc::new(Self {
            book: Mutex::new(Book::open(table, config.max_metrics)?),
            clock: clock.clone(),
            dropped: AtomicU64::new(0),
            sweeper: Mutex::default(),
        });
        let sweeper = tokio::spawn(sweep::run(Arc::downgrade(&this), clock));
        *this.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweeper);
        Ok(this)
    }

    /// Takes what the server measured or found in logs: it never waits for the disk. The values can
    /// be asked for at once and are on disk within about a second. What does not fit is dropped and
    /// counted.
    pub fn ingest(&self, account: impl Display, region: impl Display, data: Vec<Datum>) {
        let scope = format!("{account}/{region}");
        let mut rest = data;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(MAX_WRITE));
            let count = rest.len() as u64;
            let refused = match self.try_ingest(&scope, rest) {
                Ok(refused) => refused as u64,
                Err(err) => {
                    tracing::error!(scope, error = %err, "metrics are not kept");
                    count
                }
            };
            if refused > 0 {
                let dropped = self.dropped.fetch_add(refused, Ordering::Relaxed) + refused;
                tracing::warn!(scope, dropped, "dropped values of metrics");
            }
            rest = later;
        }
    }

    fn try_ingest(&self, scope: &str, data: Vec<Datum>) -> Result<usize, Error> {
        let now = self.clock.now();
        let mut book = self.book();
        let (batch, refused) = book.add(scope, data, now)?;
        if !batch.is_empty() {
            book.table().write_relaxed(batch)?;
        }
        Ok(refused)
    }

    /// Takes values of a client: all or none, and on disk when this returns.
    pub(crate) async fn put(&self, scope: &str, data: Vec<Datum>) -> Result<(), Error> {
        let now = self.clock.now();
        let writing = {
            let mut book = self.book();
            // A data point may be of a known metric; only a scope that is full is looked at closely.
            if !book.has_room(scope, data.len()) {
                let mut new: Vec<_> = data
                    .iter()
                    .map(|datum| &datum.metric)
                    .filter(|metric| book.find(scope, metric).is_none())
                    .collect();
                new.sort_unstable();
                new.dedup();
                if !book.has_room(scope, new.len()) {
                    return Err(Error::TooManyMetrics);
                }
            }
            let (batch, _) = book.add(scope, data, now)?;
            if batch.is_empty() {
                return Ok(());
            }
            book.table().begin_write(batch)?
        };
        writing.finish().await?;
        Ok(())
    }

    /// How many values were dropped because there are too many metrics or the disk did not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Drop for CloudWatch {
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

/// The part of a record that account and region make up.
pub(crate) fn scope(caller: &Caller) -> String {
    format!("{}/{}", caller.account, caller.region)
}
