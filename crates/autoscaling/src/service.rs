//! The service: its targets, in memory and on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::Clock;
use protocol::RouterHandle;
use store::{Batch, Expect, Store, Table};
use tokio::task::JoinHandle;

use crate::activity::{Activity, MAX_ACTIVITIES};
use crate::record::{self, ACTIVITIES, TARGETS};
use crate::target::{Target, TargetId};
use crate::{Error, tick};

const PAGE: usize = 1_000;

/// Application Auto Scaling.
#[derive(Debug)]
pub struct Autoscaling {
    table: Table,
    clock: Clock,
    router: RouterHandle,
    state: Mutex<State>,
    /// Changes happen one after the other, each on what the one before has left.
    changing: tokio::sync::Mutex<()>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    targets: BTreeMap<TargetId, Arc<Target>>,
    /// By time.
    activities: BTreeMap<String, Arc<Activity>>,
}

impl Autoscaling {
    /// Opens the service on a store. `router` leads to Lambda and CloudWatch; nothing happens by
    /// itself before [`Autoscaling::start`].
    pub fn open(store: &Store, clock: Clock, router: RouterHandle) -> Result<Arc<Self>, Error> {
        let table = store.table("autoscaling")?;
        let mut state = State::default();
        for (_, value) in scan(&table, TARGETS)? {
            let target: Target = record::decode(&value)?;
            state.targets.insert(target.id.clone(), Arc::new(target));
        }
        for (_, value) in scan(&table, ACTIVITIES)? {
            let activity: Activity = record::decode(&value)?;
            state.activities.insert(activity.key(), Arc::new(activity));
        }
        Ok(Arc::new(Self {
            table,
            clock,
            router,
            state: Mutex::new(state),
            changing: tokio::sync::Mutex::default(),
            ticker: Mutex::default(),
        }))
    }

    /// Ticks once a minute from now on. Must be called within a Tokio runtime.
    pub fn start(self: &Arc<Self>) {
        let ticking = tokio::spawn(tick::run(Arc::downgrade(self), self.clock.clone()));
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = ticker.replace(ticking) {
            former.abort();
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn router(&self) -> &RouterHandle {
        &self.router
    }

    pub(crate) fn target(&self, id: &TargetId) -> Option<Arc<Target>> {
        self.state().targets.get(id).cloned()
    }

    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        self.state().targets.values().cloned().collect()
    }

    /// Newest first.
    pub(crate) fn activities(&self) -> Vec<Arc<Activity>> {
        self.state().activities.values().rev().cloned().collect()
    }

    /// Changes a target on disk, then in memory. `change` gives what it shall be, or `None` if it
    /// shall go.
    pub(crate) async fn change<T>(
        &self,
        id: &TargetId,
        change: impl FnOnce(Option<&Target>) -> Result<(Option<Target>, T), Error>,
    ) -> Result<T, Error> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.target(id);
        let (after, result) = change(before.as_deref())?;
        if after.as_ref() == before.as_deref() {
            return Ok(result);
        }
        let key = format!("{TARGETS}{id}");
        match &after {
            Some(target) => {
                let value = record::encode(target)?;
                self.table.put(key, value, Expect::Any).await?;
            }
            None => self.table.delete(key, Expect::Any).await?,
        }
        let mut state = self.state();
        match after {
            Some(target) => state.targets.insert(id.clone(), Arc::new(target)),
            None => state.targets.remove(id),
        };
        Ok(result)
    }

    /// Records what was done. The oldest activities go when there are too many, or too old ones.
    pub(crate) async fn record(&self, mut activity: Activity) -> Result<(), Error> {
        let batch = {
            let mut state = self.state();
            // Activities of one moment keep their order.
            if let Some((_, latest)) = state.activities.last_key_value()
                && latest.start >= activity.start
            {
                activity.start = latest.start + Duration::from_micros(1);
                activity.end = activity.end.max(activity.start);
            }
            let key = activity.key();
            let value = record::encode(&activity)?;
            let mut batch = Batch::new().put(format!("{ACTIVITIES}{key}"), value, Expect::Any);
            let oldest = activity.start - crate::activity::KEPT;
            state.activities.insert(key, Arc::new(activity));
            while let Some((first, old)) = state.activities.first_key_value()
                && (old.start < oldest || state.activities.len() > MAX_ACTIVITIES)
            {
                let first = first.clone();
                batch = batch.delete(format!("{ACTIVITIES}{first}"), Expect::Any);
                state.activities.remove(&first);
            }
            batch
        };
        self.table.write(batch).await?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Autoscaling {
    fn drop(&mut self) {
        let ticker = self
            .ticker
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(ticker) = ticker.take() {
            ticker.abort();
        }
    }
}

fn scan(table: &Table, prefix: &str) -> Result<Vec<(Vec<u8>, bytes::Bytes)>, Error> {
    let mut found: Vec<(Vec<u8>, bytes::Bytes)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.clone());
        let records = table.scan(prefix, after.as_deref(), PAGE)?;
        let done = records.len() < PAGE;
        found.extend(
            records
                .into_iter()
                .map(|stored| (stored.key.to_vec(), stored.value)),
        );
        if done {
            return Ok(found);
        }
    }
}
