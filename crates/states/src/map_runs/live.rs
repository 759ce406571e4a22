//! A map run in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use asl::failure::Failure;
use tokio::sync::Notify;
use uuid::Uuid;

use super::record::{Outcome, Run};
use super::tally::Counts;
use crate::Error;
use crate::lock::lock;

/// A run that has not ended.
#[derive(Debug)]
pub struct Live {
    pub id: Uuid,
    run: Mutex<Run>,
    counts: Mutex<Counts>,
    /// The children that run.
    running: Mutex<HashMap<u64, Running>>,
    /// Outcomes that are not on their way to the disk yet.
    fresh: Mutex<Vec<Outcome>>,
    /// The next record of outcomes.
    pub next_outcomes: AtomicU64,
    /// More has been read, or the limits are others.
    pub changed: Notify,
}

/// A child that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub items: u32,
    /// The attempt in which it began, which is in its name.
    pub named: u32,
}

/// Why a run does not go on.
#[derive(Debug)]
pub enum Halt {
    /// It has failed.
    Failure(Failure),
    /// The server cannot go on with it. It does after a restart.
    Error(Error),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<store::Error> for Halt {
    fn from(error: store::Error) -> Self {
        Self::Error(error.into())
    }
}

impl Live {
    pub fn new(id: Uuid, run: Run, counts: Counts, next_outcomes: u64) -> Self {
        Self {
            id,
            run: Mutex::new(run),
            counts: Mutex::new(counts),
            running: Mutex::default(),
            fresh: Mutex::default(),
            next_outcomes: AtomicU64::new(next_outcomes),
            changed: Notify::new(),
        }
    }

    pub fn run(&self) -> MutexGuard<'_, Run> {
        lock(&self.run)
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }

    pub fn running(&self) -> MutexGuard<'_, HashMap<u64, Running>> {
        lock(&self.running)
    }

    pub fn fresh(&self) -> MutexGuard<'_, Vec<Outcome>> {
        lock(&self.fresh)
    }

    /// A child that was running has ended.
    pub fn ended(&self, outcome: Outcome) {
        self.running().remove(&outcome.child);
        self.count(|counts| counts.ended(&outcome));
        self.fresh().push(outcome);
    }

    pub fn take_number(&self) -> u64 {
        self.next_outcomes.fetch_add(1, Ordering::Relaxed)
    }

    pub fn start_ms(&self) -> i64 {
        self.run().start.div_euclid(1_000)
    }

    /// What chance is to an item: always the same, so that it is selected in the same way again.
    pub fn seed(&self, index: u64) -> u64 {
        let (high, low) = self.id.as_u64_pair();
        (high ^ low.rotate_left(32)).wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
