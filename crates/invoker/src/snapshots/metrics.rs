//! How long each phase took and how often what happened, since the server started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A part of making a snapshot or of restoring from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Init,
    Freeze,
    Store,
    Trial,
    Open,
    FillFirst,
    Compile,
    TakeSandbox,
    Enter,
    ThawEngine,
    RestoreHooks,
    Restore,
    Wake,
    FirstAnswer,
    WorkingSet,
    Demand,
}

const PHASES: [(Phase, &str); 16] = [
    (Phase::Init, "init"),
    (Phase::Freeze, "freeze"),
    (Phase::Store, "store"),
    (Phase::Trial, "trial"),
    (Phase::Open, "open"),
    (Phase::FillFirst, "fill_first"),
    (Phase::Compile, "compile"),
    (Phase::TakeSandbox, "take_sandbox"),
    (Phase::Enter, "enter"),
    (Phase::ThawEngine, "thaw_engine"),
    (Phase::RestoreHooks, "restore_hooks"),
    (Phase::Restore, "restore"),
    (Phase::Wake, "wake"),
    (Phase::FirstAnswer, "first_answer"),
    (Phase::WorkingSet, "working_set"),
    (Phase::Demand, "demand"),
];

/// What all phases took, and how often what happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhaseMetrics {
    /// Phases that occurred, in the order in which they follow each other.
    pub phases: Vec<PhaseStatus>,
    pub counters: Vec<Counter>,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseStatus {
    /// Making a snapshot: `init`, `freeze`, `trial` (a restore up to its last step), `store`.
    /// Having its image in memory: `open`, `fill_first`, `compile`. A restore on the way of a
    /// request: `take_sandbox`, `enter` (until the process is created), `thaw_engine` (until the
    /// runtime is told to go on), `restore_hooks` (until it asks for an event), `restore` (all of
    /// it). Also `wake` (of a parked environment), `first_answer` (from the event to the answer,
    /// first invocation after a restore), `working_set`, `demand` (one page fault served).
    pub phase: &'static str,
    pub count: u64,
    pub sum_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// One counter: `snapshots_created`, `snapshots_adopted`, `snapshots_unfit`, `restores`,
/// `parked_hits`, `parked_made`, `cold_fallbacks` by reason, `images_dropped` by reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    pub name: &'static str,
    pub reason: Option<&'static str>,
    pub value: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    phases: [Histogram; PHASES.len()],
    counters: Mutex<BTreeMap<(&'static str, Option<&'static str>), u64>>,
}

impl Metrics {
    pub fn record(&self, phase: Phase, took: Duration) {
        self.phases[phase as usize].record(took);
    }

    /// Records the time since `began`, and returns now for the next phase.
    pub fn lap(&self, phase: Phase, began: Instant) -> Instant {
        let now = Instant::now();
        self.record(phase, now - began);
        now
    }

    pub fn count(&self, name: &'static str) {
        *self.counters().entry((name, None)).or_default() += 1;
    }

    pub fn count_because(&self, name: &'static str, reason: &'static str) {
        *self.counters().entry((name, Some(reason))).or_default() += 1;
    }

    pub fn snapshot(&self) -> PhaseMetrics {
        let phases = PHASES
            .iter()
            .map(|(phase, name)| self.phases[*phase as usize].status(name))
            .filter(|status| status.count > 0)
            .collect();
        let counters = self.counters();
        let counters = counters
            .iter()
            .map(|(&(name, reason), &value)| Counter {
                name,
                reason,
                value,
            })
            .collect();
        PhaseMetrics { phases, counters }
    }

    fn counters(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Option<&'static str>), u64>> {
        // Nothing panics under the lock.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steps per doubling: a quantile is off by 6 % at most.
const STEPS: usize = 16;
/// From a microsecond to about 19 hours.
const DOUBLINGS: usize = 36;

/// Durations by size. Recording takes no lock.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..STEPS * DOUBLINGS).map(|_| AtomicU64::new(0)).collect(),
            sum_us: AtomicU64::new(0),
            max_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(index(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// The duration in milliseconds that this share of the recorded ones do not exceed.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among far fewer than 2^52 samples"
        )]
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= rank {
                let max = self.max_us.load(Ordering::Relaxed);
                return Some(ms(upper_bound(index).min(max)));
            }
        }
        None
    }

    fn status(&self, phase: &'static str) -> PhaseStatus {
        PhaseStatus {
            phase,
            count: self.count(),
            sum_ms: ms(self.sum_us.load(Ordering::Relaxed)),
            p50_ms: self.quantile_ms(0.5).unwrap_or_default(),
            p99_ms: self.quantile_ms(0.99).unwrap_or_default(),
            max_ms: ms(self.max_us.load(Ordering::Relaxed)),
        }
    }
}

/// Linear up to [`STEPS`] microseconds, then [`STEPS`] buckets per doubling.
fn index(us: u64) -> usize {
    let steps = STEPS as u64;
    if us < steps {
        return usize::try_from(us).unwrap_or(0);
    }
    let doubling = us.ilog2() - steps.ilog2();
    let step = (us >> doubling) - steps;
    let index = u64::from(doubling + 1) * steps + step;
    usize::try_from(index)
        .unwrap_or(usize::MAX)
        .min(STEPS * DOUBLINGS - 1)
}

/// The largest value of a bucket, in microseconds.
fn upper_bound(index: usize) -> u64 {
    let (doubling, step) = ((index / STEPS) as u64, (index % STEPS) as u64);
    match doubling.checked_sub(1) {
        None => step,
        Some(shift) => ((STEPS as u64 + step + 1) << shift) - 1,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of a running server fit into 52 bits"
)]
fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_whose_bound_is_near() {
        for us in (0..5000).chain([1 << 20, (1 << 20) + 1, 12_345_678, u64::MAX >> 30]) {
            let bound = upper_bound(index(us));
            assert!(bound >= us, "{us} {bound}");
            assert!(bound <= us + us / 16 + 1, "{us} {bound}");
        }
        assert_eq!(index(u64::MAX), STEPS * DOUBLINGS - 1);
    }

    #[test]
    fn quantiles_follow_the_samples() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), None);
        for ms in 1..=100 {
            histogram.record(Duration::from_millis(ms));
        }
        let near = |share: f64, expected: f64| {
            let found = histogram.quantile_ms(share).unwrap();
            assert!((found - expected).abs() / expected < 0.07, "{found}");
        };
        near(0.5, 50.0);
        near(0.99, 99.0);
        near(1.0, 100.0);
    }

    #[test]
    fn phases_stand_at_their_own_place() {
        for (index, (phase, _)) in PHASES.iter().enumerate() {
            assert_eq!(*phase as usize, index);
        }
        let metrics = Metrics::default();
        metrics.record(Phase::Demand, Duration::from_millis(3));
        metrics.count_because("cold_fallbacks", "corrupt");
        let seen = metrics.snapshot();
        assert_eq!(seen.phases.len(), 1);
        assert_eq!((seen.phases[0].phase, seen.phases[0].count), ("demand", 1));
        assert_eq!(seen.counters[0].reason, Some("corrupt"));
    }
}
