//! Environments that were thawed ahead of any invocation and stand frozen at their last step.
//!
//! A function that is started has one or more of them made ready, in the background, as many as
//! were started of late and as the configuration permits. They take little memory and are the first
//! to go when memory is short.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Snapshots;
use super::revision::Revision;
use crate::FunctionKey;
use crate::environment::{Aborted, MemoryLease};
use crate::invoker::Invoker;
use crate::start::{Raised, Source, ThawError};

/// All parked environments.
#[derive(Debug, Default)]
pub(super) struct Parking {
    lots: Mutex<HashMap<FunctionKey, Lot>>,
}

/// Those of one function revision.
#[derive(Debug, Default)]
struct Lot {
    parked: Vec<Parked>,
    /// When it was started, of late.
    starts: VecDeque<Instant>,
    filling: bool,
}

#[derive(Debug)]
struct Parked {
    raised: Box<Raised>,
    since: Instant,
    /// Held for their drop.
    _lease: MemoryLease,
    _expiry: Aborted,
}

/// Starts within this time say how many environments may be wanted at once.
const OF_LATE: Duration = Duration::from_secs(10);
/// A start has the processors for itself for this long before others are made ready.
const AFTER_A_START: Duration = Duration::from_millis(25);
/// A thawed runtime gets this long to reach its last step.
const ARRIVAL: Duration = Duration::from_secs(10);
/// From having been accepted there to waiting in the kernel for the answer.
const SETTLES: Duration = Duration::from_millis(5);

impl Parking {
    pub fn take(&self, key: &FunctionKey) -> Option<Box<Raised>> {
        let mut lots = self.lock();
        let parked = lots.get_mut(key)?.parked.pop()?;
        drop(lots);
        Some(parked.raised)
    }

    fn take_one(&self, key: &FunctionKey, id: u64) -> Option<Box<Raised>> {
        let mut lots = self.lock();
        let lot = lots.get_mut(key)?;
        let at = lot.parked.iter().position(|one| one.raised.id() == id)?;
        let parked = lot.parked.remove(at);
        drop(lots);
        Some(parked.raised)
    }

    fn take_oldest(&self) -> Option<Box<Raised>> {
        let mut lots = self.lock();
        let oldest = lots
            .values_mut()
            .filter(|lot| !lot.parked.is_empty())
            .min_by_key(|lot| lot.parked.first().map(|parked| parked.since))?;
        let parked = oldest.parked.remove(0);
        drop(lots);
        Some(parked.raised)
    }

    fn take_lot(&self, key: &FunctionKey) -> Vec<Parked> {
        let lot = self.lock().remove(key);
        lot.map(|lot| lot.parked).unwrap_or_default()
    }

    /// Ends all of them.
    pub fn end_all(&self, invoker: &Invoker) -> usize {
        let lots: Vec<_> = self
            .lock()
            .values_mut()
            .flat_map(|lot| std::mem::take(&mut lot.parked))
            .collect();
        let count = lots.len();
        for parked in lots {
            parked.end(invoker);
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Lot>> {
        // Nothing panics under the lock.
        self.lots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parked {
    fn end(self, invoker: &Invoker) {
        self.raised
            .revision()
            .parked
            .fetch_sub(1, Ordering::Relaxed);
        self.raised.end(invoker, false);
    }
}

impl Snapshots {
    /// After a start: makes environments ready for the next ones.
    pub(super) fn replenish(self: &Arc<Self>, invoker: &Arc<Invoker>, revision: &Arc<Revision>) {
        if self.config.parked_per_function == 0 || self.is_closing() || revision.is_forgotten() {
            return;
        }
        let now = Instant::now();
        let mut lots = self.parking.lock();
        let lot = lots.entry(revision.key.clone()).or_default();
        lot.starts.push_back(now);
        lot.forget_starts(now, self.config.parked_per_function);
        let begin = !std::mem::replace(&mut lot.filling, true);
        drop(lots);
        if !begin {
            return;
        }
        let (snapshots, invoker) = (Arc::clone(self), Arc::clone(invoker));
        let revision = Arc::clone(revision);
        // Not counted among the tasks that a shutdown waits for: it ends by itself then.
        tokio::spawn(async move {
            tokio::select! {
                () = snapshots.fill_lot(&invoker, &revision) => {}
                () = snapshots.closed() => {}
            }
            if let Some(lot) = snapshots.parking.lock().get_mut(&revision.key) {
                lot.filling = false;
            }
        });
    }

    async fn fill_lot(self: &Arc<Self>, invoker: &Arc<Invoker>, revision: &Arc<Revision>) {
        loop {
            tokio::time::sleep(AFTER_A_START).await;
            if !self.lot_has_room(revision) {
                return;
            }
            let Some(lease) = MemoryLease::parked(invoker, self.config.parked_memory_mb) else {
                return;
            };
            match self.park_one(invoker, revision).await {
                Ok(Some(raised)) => self.put(invoker, revision, raised, lease),
                Ok(None) => return,
                Err(error) => {
                    self.metrics.count_because("lost_parked", error.reason());
                    tracing::warn!(
                        function = %revision.key,
                        error = &error as &dyn std::error::Error,
                        "cannot make an environment ready",
                    );
                    return;
                }
            }
        }
    }

    fn lot_has_room(&self, revision: &Revision) -> bool {
        let mut lots = self.parking.lock();
        let Some(lot) = lots.get_mut(&revision.key) else {
            return false;
        };
        lot.forget_starts(Instant::now(), self.config.parked_per_function);
        let wanted = lot.starts.len().clamp(1, self.config.parked_per_function);
        !revision.is_forgotten() && lot.parked.len() < wanted
    }

    /// Thaws one up to its last step. An image that is still being loaded is left alone: what it
    /// loads belongs to those who wait.
    async fn park_one(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
    ) -> Result<Option<Box<Raised>>, ThawError> {
        let (Some(plan), Some(live)) = (revision.plan(), revision.live()) else {
            return Ok(None);
        };
        if !live.is_complete() {
            return Ok(None);
        }
        let source = Source {
            snapshots: Arc::clone(self),
            revision: Arc::clone(revision),
            plan,
            live,
        };
        let mut raised = Box::new(Raised::raise(invoker, source, false).await?);
        match self.ready_to_wake(invoker, &mut raised).await {
            Ok(()) => Ok(Some(raised)),
            Err(error) => {
                raised.end(invoker, error.is_the_functions());
                Err(error)
            }
        }
    }

    async fn ready_to_wake(&self, invoker: &Invoker, raised: &mut Raised) -> Result<(), ThawError> {
        raised.arrived(ARRIVAL).await?;
        raised.run_hooks(invoker, self).await?;
        tokio::time::sleep(SETTLES).await;
        raised.park()
    }

    fn put(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
        raised: Box<Raised>,
        lease: MemoryLease,
    ) {
        let (key, id) = (revision.key.clone(), raised.id());
        let expiry = {
            let (snapshots, invoker) = (Arc::downgrade(self), Arc::downgrade(invoker));
            let (key, idle) = (key.clone(), self.config.parked_idle());
            tokio::spawn(async move {
                tokio::time::sleep(idle).await;
                if let (Some(snapshots), Some(invoker)) = (snapshots.upgrade(), invoker.upgrade()) {
                    snapshots.parked_ended(&invoker, &key, id);
                }
            })
        };
        let parked = Parked {
            raised,
            since: Instant::now(),
            _lease: lease,
            _expiry: Aborted(expiry.abort_handle()),
        };
        self.metrics.count("parked_made");
        revision.parked.fetch_add(1, Ordering::Relaxed);
        let mut lots = self.parking.lock();
        // Its image may have been dropped meanwhile. Who drops one ends what is parked afterwards.
        let live = revision.live();
        let is_current = live.is_some_and(|live| Arc::ptr_eq(&live, parked.raised.live()));
        let unwanted = match lots.get_mut(&key) {
            Some(lot) if is_current && !self.is_closing() && !revision.is_forgotten() => {
                lot.parked.push(parked);
                None
            }
            _ => Some(parked),
        };
        drop(lots);
        if let Some(parked) = unwanted {
            parked.end(invoker);
        } else if self
            .known(&key)
            .is_some_and(|revision| revision.is_forgotten())
        {
            self.end_parked(invoker, &key);
        }
    }

    /// A parked environment is too old, or its runtime has ended. Nothing happens if it is none.
    pub fn parked_ended(&self, invoker: &Invoker, key: &FunctionKey, id: u64) {
        if let Some(raised) = self.parking.take_one(key, id) {
            raised.revision().parked.fetch_sub(1, Ordering::Relaxed);
            raised.end(invoker, false);
        }
    }

    /// Ends those of one function revision.
    pub fn end_parked(&self, invoker: &Invoker, key: &FunctionKey) {
        for parked in self.parking.take_lot(key) {
            parked.end(invoker);
        }
    }

    /// Ends the oldest ones to free this much memory.
    pub fn yield_memory(&self, invoker: &Invoker, memory_mb: u64) {
        let each = u64::from(self.config.parked_memory_mb.max(1));
        for _ in 0..memory_mb.div_ceil(each) {
            let Some(raised) = self.parking.take_oldest() else {
                return;
            };
            raised.revision().parked.fetch_sub(1, Ordering::Relaxed);
            raised.end(invoker, false);
        }
    }
}

impl Lot {
    /// Keeps no more of the starts than say something.
    fn forget_starts(&mut self, now: Instant, most: usize) {
        while self
            .starts
            .front()
            .is_some_and(|start| self.starts.len() > most || *start + OF_LATE < now)
        {
            self.starts.pop_front();
        }
    }
}
