//! Numbers of functions since the server started, for Prometheus: a bounded number of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use invoker::{Measurement, Metric};

/// Functions with numbers of their own; those of all others are added up under [`OTHERS`].
const MAX_FUNCTIONS: usize = 1_000;
/// No function can be called so.
const OTHERS: &str = "(others)";

/// Upper bounds of the histogram of durations, in milliseconds.
pub const DURATION_BOUNDS_MS: [f64; 14] = [
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 10_000.0, 60_000.0,
    900_000.0,
];

/// The numbers of all functions.
#[derive(Debug, Default)]
pub struct Totals {
    functions: Mutex<HashMap<FunctionName, Arc<FunctionTotals>>>,
    lost: AtomicU64,
}

/// A function of an account and region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionName {
    pub account: String,
    pub region: String,
    pub function: String,
}

/// The numbers of one function.
#[derive(Debug, Default)]
pub struct FunctionTotals {
    invocations: AtomicU64,
    errors: AtomicU64,
    throttles: AtomicU64,
    cold_starts: AtomicU64,
    restores: AtomicU64,
    duration_us: AtomicU64,
    /// How many durations were at most each bound, and above the one before.
    durations: [AtomicU64; DURATION_BOUNDS_MS.len()],
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub invocations: u64,
    pub errors: u64,
    pub throttles: u64,
    pub cold_starts: u64,
    pub restores: u64,
    pub duration_us: u64,
    pub durations: [u64; DURATION_BOUNDS_MS.len()],
}

impl Totals {
    /// The numbers of the function that was measured.
    pub fn of(&self, measured: &Measurement<'_>) -> Option<Arc<FunctionTotals>> {
        let function = measured.function?;
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut name = FunctionName {
            account: measured.account.to_owned(),
            region: measured.region.to_owned(),
            function: function.to_owned(),
        };
        if !functions.contains_key(&name) && functions.len() >= MAX_FUNCTIONS {
            name = FunctionName {
                account: OTHERS.to_owned(),
                region: OTHERS.to_owned(),
                function: OTHERS.to_owned(),
            };
        }
        Some(Arc::clone(functions.entry(name).or_default()))
    }

    /// Counts values that CloudWatch did not get.
    pub fn lose(&self, values: usize) {
        self.lost.fetch_add(values as u64, Ordering::Relaxed);
    }

    /// How many values CloudWatch did not get, because there were too many names.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// All numbers, by name.
    pub fn snapshot(&self) -> Vec<(FunctionName, Snapshot)> {
        let functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = functions
            .iter()
            .map(|(name, totals)| (name.clone(), totals.snapshot()))
            .collect();
        drop(functions);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl FunctionTotals {
    pub fn add(&self, values: &[(Metric, f64)]) {
        for (metric, value) in values {
            let counter = match metric {
                Metric::Invocations => &self.invocations,
                Metric::Errors => &self.errors,
                Metric::Throttles => &self.throttles,
                Metric::InitDuration => {
                    self.cold_starts.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Metric::RestoreDuration => {
                    self.restores.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Metric::Duration => {
                    self.add_duration(*value);
                    continue;
                }
                _ => continue,
            };
            counter.fetch_add(whole(*value), Ordering::Relaxed);
        }
    }

    fn add_duration(&self, ms: f64) {
        self.duration_us
            .fetch_add(whole(ms * 1_000.0), Ordering::Relaxed);
        if let Some(at) = DURATION_BOUNDS_MS.iter().position(|bound| ms <= *bound) {
            self.durations[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            invocations: read(&self.invocations),
            errors: read(&self.errors),
            throttles: read(&self.throttles),
            cold_starts: read(&self.cold_starts),
            restores: read(&self.restores),
            duration_us: read(&self.duration_us),
            durations: std::array::from_fn(|at| read(&self.durations[at])),
        }
    }
}

/// Counts are whole and durations are short: nothing is lost.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates"
    )]
    let whole = value as u64;
    whole
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::*;

    #[test]
    fn functions_beyond_the_bound_share_their_numbers() {
        let totals = Totals::default();
        for index in 0..MAX_FUNCTIONS + 50 {
            let function = format!("f{index}");
            let values = [(Metric::Invocations, 1.0)];
            let at = Timestamp::default();
            let measured = Measurement::of_function("1", "r", &function, at, &values);
            totals.of(&measured).unwrap().add(&values);
        }
        let all = totals.snapshot();
        assert_eq!(all.len(), MAX_FUNCTIONS + 1);
        let others = all
            .iter()
            .find(|(name, _)| name.function == OTHERS)
            .unwrap();
        assert_eq!(others.1.invocations, 50);
    }

    #[test]
    fn durations_fall_into_one_bucket_each() {
        let totals = FunctionTotals::default();
        for ms in [0.4, 1.0, 1.1, 90.0, 1_000_000.0] {
            totals.add(&[(Metric::Duration, ms), (Metric::Invocations, 1.0)]);
        }
        let shown = totals.snapshot();
        assert_eq!(shown.durations[..3], [2, 1, 0]);
        assert_eq!(shown.durations.iter().sum::<u64>(), 4);
        assert_eq!(shown.invocations, 5);
        assert_eq!(shown.duration_us, 1_000_092_500);
    }
}
