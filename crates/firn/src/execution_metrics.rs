//! From what Step Functions measures to the metrics of CloudWatch.
//!
//! Every execution is measured twice, so measuring only adds to numbers in memory, under the value
//! of its dimension. Once a second what has come together goes to CloudWatch.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::Timestamp;
use cloudwatch::{Aggregate, CloudWatch, Datum, MetricKey, Unit};
use states::observe::{Measured, Metric, Unit as Measure};
use tokio::task::JoinHandle;

const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Executions run in parallel; those of different machines seldom wait for each other.
const SHARDS: usize = 16;
/// Names kept between two flushes in a shard. Values of others are lost, and counted.
const MAX_NAMES: usize = 4_096;

/// Takes measurements of executions.
#[derive(Debug)]
pub struct ExecutionMetrics {
    shards: [Mutex<HashMap<u64, Vec<Entry>>>; SHARDS],
    hasher: RandomState,
    lost: AtomicU64,
    cloudwatch: Arc<CloudWatch>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

/// What was measured of one thing in one minute since the last flush.
#[derive(Debug)]
struct Entry {
    account: Box<str>,
    region: Box<str>,
    of: (&'static str, Arc<str>),
    under: Option<(&'static str, Arc<str>)>,
    /// When the minute begins, in seconds since the epoch.
    minute: i64,
    values: Vec<(Metric, Aggregate)>,
}

impl Entry {
    fn new(measured: &Measured<'_>, minute: i64) -> Self {
        let own = |(name, value): (&'static str, &str)| (name, Arc::from(value));
        Self {
            account: measured.account.into(),
            region: measured.region.into(),
            of: own(measured.of),
            under: measured.under.map(own),
            minute,
            values: Vec::with_capacity(measured.values.len()),
        }
    }

    fn is_of(&self, measured: &Measured<'_>, minute: i64) -> bool {
        let same = |own: &(&'static str, Arc<str>), other: (&'static str, &str)| {
            own.0 == other.0 && &*own.1 == other.1
        };
        self.minute == minute
            && same(&self.of, measured.of)
            && &*self.account == measured.account
            && &*self.region == measured.region
            && match (&self.under, measured.under) {
                (Some(own), Some(other)) => same(own, other),
                (None, None) => true,
                _ => false,
            }
    }

    fn add(&mut self, values: &[(Metric, f64)]) {
        for (metric, value) in values {
            match self.values.iter_mut().find(|(known, _)| known == metric) {
                Some((_, aggregate)) => aggregate.add(*value, 1.0),
                None => self.values.push((*metric, Aggregate::of(*value))),
            }
        }
    }

    /// The values under each combination of dimensions that AWS publishes.
    fn data(&self) -> Vec<Datum> {
        let part = |(name, value): &(&'static str, Arc<str>)| (Arc::from(*name), Arc::clone(value));
        let mut combinations = vec![vec![part(&self.of)]];
        if let Some(under) = &self.under {
            combinations.push(vec![part(&self.of), part(under)]);
        }
        let datum =
            |dimensions: &Vec<(Arc<str>, Arc<str>)>, metric: Metric, values: &Aggregate| Datum {
                metric: MetricKey::new(Metric::NAMESPACE, metric.name(), dimensions.clone()),
                unit: match metric.unit() {
                    Measure::Count => Unit::COUNT,
                    Measure::Milliseconds => Unit::MILLISECONDS,
                },
                at: Timestamp::from_secs(self.minute),
                high_resolution: false,
                values: values.clone(),
            };
        combinations
            .iter()
            .flat_map(|dimensions| {
                self.values
                    .iter()
                    .map(|(metric, values)| datum(dimensions, *metric, values))
            })
            .collect()
    }
}

impl ExecutionMetrics {
    /// Starts to collect. Must be called within a Tokio runtime.
    pub fn start(cloudwatch: Arc<CloudWatch>) -> Arc<Self> {
        let this = Arc::new(Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            lost: AtomicU64::new(0),
            cloudwatch,
            flusher: Mutex::default(),
        });
        let weak = Arc::downgrade(&this);
        let flushing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                let Some(this) = weak.upgrade() else { return };
                this.flush();
            }
        });
        *lock(&this.flusher) = Some(flushing);
        this
    }

    /// Adds what was measured.
    pub fn add(&self, measured: &Measured<'_>) {
        let hash = self
            .hasher
            .hash_one((measured.of.1, measured.under.map(|(_, value)| value)));
        let minute = measured.at.as_secs().div_euclid(60) * 60;
        let at = usize::try_from(hash).unwrap_or_default() % SHARDS;
        let mut shard = lock(&self.shards[at]);
        if shard.len() >= MAX_NAMES && !shard.contains_key(&hash) {
            drop(shard);
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "too many names: measurements of executions are lost");
            }
            return;
        }
        let entries = shard.entry(hash).or_default();
        let index = match entries
            .iter()
            .position(|entry| entry.is_of(measured, minute))
        {
            Some(index) => index,
            None => {
                entries.push(Entry::new(measured, minute));
                entries.len() - 1
            }
        };
        entries[index].add(measured.values);
    }

    /// Hands on what has come together.
    pub fn flush(&self) {
        for shard in &self.shards {
            let taken = std::mem::take(&mut *lock(shard));
            let mut data: HashMap<(Box<str>, Box<str>), Vec<Datum>> = HashMap::new();
            for entry in taken.into_values().flatten() {
                let found = entry.data();
                data.entry((entry.account, entry.region))
                    .or_default()
                    .extend(found);
            }
            for ((account, region), data) in data {
                self.cloudwatch.ingest(&account, &region, data);
            }
        }
    }
}

impl Drop for ExecutionMetrics {
    fn drop(&mut self) {
        if let Some(flusher) = lock(&self.flusher).take() {
            flusher.abort();
        }
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use clock::Clock;

    use super::*;

    fn metrics() -> (Arc<ExecutionMetrics>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_000_000));
        let store = store::Store::open(directory.path(), clock.clone()).unwrap();
        let config = cloudwatch::Config::default();
        let cloudwatch = CloudWatch::open(&config, &store, clock).unwrap();
        (ExecutionMetrics::start(cloudwatch), directory)
    }

    fn taken(metrics: &ExecutionMetrics) -> Vec<Datum> {
        let shards = metrics.shards.iter();
        let entries = shards.flat_map(|shard| std::mem::take(&mut *lock(shard)).into_values());
        entries.flatten().flat_map(|entry| entry.data()).collect()
    }

    fn measured<'a>(at: i64, values: &'a [(Metric, f64)]) -> Measured<'a> {
        Measured {
            account: "111111111111",
            region: "eu-west-1",
            of: (
                "StateMachineArn",
                "arn:aws:states:eu-west-1:111111111111:stateMachine:m",
            ),
            under: None,
            at: Timestamp::from_secs(at),
            values,
        }
    }

    #[tokio::test]
    async fn values_of_a_minute_come_together_and_those_of_an_alias_count_twice() {
        let (metrics, _directory) = metrics();
        let values = [(Metric::EXECUTION_TIME, 5.0)];
        metrics.add(&measured(960_001, &values));
        metrics.add(&measured(960_002, &values));
        metrics.add(&measured(960_061, &values));
        metrics.add(&Measured {
            under: Some(("Alias", "live")),
            ..measured(960_001, &values)
        });
        let mut shown: Vec<(usize, i64, f64)> = taken(&metrics)
            .iter()
            .map(|datum| {
                let dimensions = datum.metric.dimensions.len();
                (dimensions, datum.at.as_secs(), datum.values.count)
            })
            .collect();
        shown.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(
            shown,
            [
                (1, 960_000, 1.0),
                (1, 960_000, 2.0),
                (1, 960_060, 1.0),
                (2, 960_000, 1.0)
            ]
        );
        assert_eq!(taken(&metrics), []);
    }

    #[tokio::test]
    async fn names_have_a_bound() {
        let (metrics, _directory) = metrics();
        let values = [(Metric::EXECUTION_TIME, 5.0)];
        let count = SHARDS * MAX_NAMES * 2;
        for number in 0..count {
            let name = number.to_string();
            metrics.add(&Measured {
                of: ("StateMachineArn", &name),
                ..measured(960_001, &values)
            });
        }
        let kept = taken(&metrics).len();
        assert!(kept <= SHARDS * MAX_NAMES);
        let lost = usize::try_from(metrics.lost.load(Ordering::Relaxed)).unwrap();
        assert_eq!(kept + lost, count);
    }
}
