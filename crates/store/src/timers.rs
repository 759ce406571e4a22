//! Timers that survive a restart.
//!
//! The records on disk are the truth; the index in memory only says which one to look at next.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clock::{Clock, Timestamp};
use tokio::sync::Notify;

use crate::record::{Record, Revision};
use crate::table::{Batch, Expect, Table};
use crate::{Error, Result};

/// A named set of timers, each with an id. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Timers(Arc<TimersInner>);

/// A timer whose moment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub id: Bytes,
    pub at: Timestamp,
    pub payload: Bytes,
    revision: Revision,
}

#[derive(Debug)]
pub(crate) struct TimersInner {
    table: Table,
    clock: Clock,
    index: Mutex<Index>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Index {
    by_time: BTreeSet<(Timestamp, Bytes)>,
    by_id: HashMap<Bytes, (Timestamp, Revision)>,
}

impl From<Arc<TimersInner>> for Timers {
    fn from(inner: Arc<TimersInner>) -> Self {
        Self(inner)
    }
}

impl Timers {
    /// Sets the timer `id`, in place of an earlier one; resolves once it is on disk.
    pub async fn set(
        &self,
        id: impl AsRef<[u8]>,
        at: Timestamp,
        payload: impl AsRef<[u8]>,
    ) -> Result<()> {
        let id = Bytes::copy_from_slice(id.as_ref());
        let value = [&at.as_micros().to_be_bytes(), payload.as_ref()].concat();
        let inner = self.0.clone();
        // In a task of its own: a caller that gives up waiting must not leave a timer on disk that
        // the index does not know.
        let setting = tokio::spawn(async move {
            let revision = inner.table.put(&id, value, Expect::Any).await?;
            inner.index().insert(id, at, revision);
            inner.changed.notify_one();
            Ok(())
        });
        setting.await.unwrap_or(Err(Error::Closed))
    }

    /// Cancels the timer `id`, if it is set; resolves once that is on disk.
    pub async fn cancel(&self, id: impl AsRef<[u8]>) -> Result<()> {
        let id = id.as_ref();
        let revision = self
            .0
            .table
            .write(Batch::new().delete(id, Expect::Any))
            .await?;
        self.0.index().remove(id, revision);
        Ok(())
    }

    /// Waits for the next timer whose moment has come, earliest first.
    ///
    /// A timer is delivered once per run of the process, and again after a restart until
    /// [`Timers::done`] is called with it. Safe to cancel; several may wait at once.
    pub async fn due(&self) -> Result<Due> {
        loop {
            let changed = self.0.changed.notified();
            let next = self.0.index().by_time.first().map(|(at, _)| *at);
            match next {
                Some(at) if at <= self.0.clock.now() => {
                    if let Some(due) = self.0.take()? {
                        // There may be more for others who wait.
                        self.0.changed.notify_one();
                        return Ok(due);
                    }
                }
                Some(at) => tokio::select! {
                    () = self.0.clock.sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Forgets a timer that was delivered, unless it has been set anew since.
    pub async fn done(&self, due: &Due) -> Result<()> {
        match self
            .0
            .table
            .delete(&due.id, Expect::Revision(due.revision))
            .await
        {
            Err(Error::Conflict { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// How many timers are set and not delivered yet.
    pub fn len(&self) -> usize {
        self.0.index().by_time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TimersInner {
    pub(crate) fn open(table: Table, clock: Clock) -> Result<Self> {
        let mut index = Index::default();
        let mut after: Option<Bytes> = None;
        loop {
            let page = table.scan(b"", after.as_deref(), 1000)?;
            for record in &page {
                if let Some((at, _)) = decode(record) {
                    index.insert(record.key.clone(), at, record.revision);
                }
            }
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
        }
        Ok(Self {
            table,
            clock,
            index: Mutex::new(index),
            changed: Notify::new(),
        })
    }

    /// Takes the earliest timer from the index, if its record agrees that it is due.
    fn take(&self) -> Result<Option<Due>> {
        let mut index = self.index();
        let now = self.clock.now();
        let Some((at, id)) = index.by_time.first().cloned() else {
            return Ok(None);
        };
        if at > now {
            return Ok(None);
        }
        let record = self.table.get(&id)?;
        index.by_time.remove(&(at, id.clone()));
        index.by_id.remove(&id);
        let Some(record) = record else {
            return Ok(None);
        };
        match decode(&record) {
            Some((at, payload)) if at <= now => Ok(Some(Due {
                id,
                at,
                payload,
                revision: record.revision,
            })),
            // It has been set anew, and whoever did is about to update the index.
            Some((at, _)) => {
                index.insert(id, at, record.revision);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, id: Bytes, at: Timestamp, revision: Revision) {
        if let Some((old, known)) = self.by_id.get(&id) {
            if *known > revision {
                return;
            }
            self.by_time.remove(&(*old, id.clone()));
        }
        self.by_id.insert(id.clone(), (at, revision));
        self.by_time.insert((at, id));
    }

    fn remove(&mut self, id: &[u8], revision: Revision) {
        if let Some((at, known)) = self.by_id.get(id).copied()
            && known < revision
        {
            self.by_id.remove(id);
            self.by_time.remove(&(at, Bytes::copy_from_slice(id)));
        }
    }
}

fn decode(record: &Record) -> Option<(Timestamp, Bytes)> {
    let (at, _) = record.value.split_first_chunk()?;
    Some((
        Timestamp::from_micros(i64::from_be_bytes(*at)),
        record.value.slice(8..),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Store;

    fn open(dir: &std::path::Path, clock: &Clock) -> Timers {
        Store::open(dir, clock.clone())
            .unwrap()
            .timers("test")
            .unwrap()
    }

    #[tokio::test]
    async fn timers_fire_in_order_when_the_clock_reaches_them() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(100));
        let timers = open(dir.path(), &clock);
        timers
            .set("late", Timestamp::from_secs(300), "c")
            .await
            .unwrap();
        timers
            .set("early", Timestamp::from_secs(200), "a")
            .await
            .unwrap();
        timers
            .set("moved", Timestamp::from_secs(150), "x")
            .await
            .unwrap();
        timers
            .set("moved", Timestamp::from_secs(250), "b")
            .await
            .unwrap();
        timers
            .set("cancelled", Timestamp::from_secs(120), "x")
            .await
            .unwrap();
        timers.cancel("cancelled").await.unwrap();
        let collector = tokio::spawn({
            let timers = timers.clone();
            async move {
                let mut order = Vec::new();
                for _ in 0..3 {
                    let due = timers.due().await.unwrap();
                    timers.done(&due).await.unwrap();
                    order.push((due.at, due.payload));
                }
                order
            }
        });
        for _ in 0..20 {
            clock.advance(Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        let order = collector.await.unwrap();
        let expected = [(200, "a"), (250, "b"), (300, "c")]
            .map(|(at, payload)| (Timestamp::from_secs(at), Bytes::from(payload)));
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn a_timer_that_was_not_done_fires_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(100));
        {
            let timers = open(dir.path(), &clock);
            timers
                .set("a", Timestamp::from_secs(10), "payload")
                .await
                .unwrap();
            timers
                .set("b", Timestamp::from_secs(20), "payload")
                .await
                .unwrap();
            let due = timers.due().await.unwrap();
            timers.done(&due).await.unwrap();
            assert_eq!(timers.due().await.unwrap().id, "b");
        }
        let timers = open(dir.path(), &clock);
        assert_eq!(timers.due().await.unwrap().id, "b");
        assert!(timers.is_empty());
    }
}
