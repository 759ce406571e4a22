//! From what the invoker and Lambda measure to the metrics of CloudWatch and of Prometheus.
//!
//! Measuring is on the way of every invocation, so it only adds to numbers in memory: under the name
//! that a measurement has, all in one go. Once a second what has come together goes to CloudWatch,
//! in each of the combinations of dimensions that AWS publishes.

mod totals;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::{Clock, Timestamp};
use cloudwatch::{Aggregate, CloudWatch, Datum, MetricKey, Unit};
use invoker::{Measurement, Metric};
use tokio::task::JoinHandle;

pub use totals::{DURATION_BOUNDS_MS, FunctionName, FunctionTotals, Snapshot, Totals};

const NAMESPACE: &str = "AWS/Lambda";
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Invocations run in parallel; those of different functions seldom wait for each other.
const SHARDS: usize = 16;
/// A name that was not measured for this time is forgotten; its values are with CloudWatch.
const IDLE: Duration = Duration::from_secs(600);
/// Names kept at once in a shard. Values of others are lost to CloudWatch, and counted.
const MAX_NAMES: usize = 4_096;

/// Takes measurements.
#[derive(Debug)]
pub struct Measurements {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    totals: Totals,
    cloudwatch: Arc<CloudWatch>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

/// What was measured since the last flush, by the hash of its name.
#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Vec<Entry>>,
    names: usize,
    /// Of minutes that ended between two flushes.
    closed: Vec<(Arc<Name>, Minute, Values)>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<Name>,
    totals: Option<Arc<FunctionTotals>>,
    minute: Minute,
    values: Values,
    used: Timestamp,
}

type Values = Vec<(Metric, Aggregate)>;

/// When a minute begins, in seconds since the epoch.
type Minute = i64;

#[derive(Debug, PartialEq, Eq)]
struct Name {
    account: Box<str>,
    region: Box<str>,
    function: Option<Arc<str>>,
    resource: Option<Arc<str>>,
    executed_version: Option<Arc<str>>,
}

impl Name {
    fn of(measured: &Measurement<'_>) -> Self {
        Self {
            account: measured.account.into(),
            region: measured.region.into(),
            function: measured.function.map(Into::into),
            resource: measured.resource.map(Into::into),
            executed_version: measured.executed_version.map(Into::into),
        }
    }

    fn is_of(&self, measured: &Measurement<'_>) -> bool {
        &*self.account == measured.account
            && &*self.region == measured.region
            && self.function.as_deref() == measured.function
            && self.resource.as_deref() == measured.resource
            && self.executed_version.as_deref() == measured.executed_version
    }
}

impl Measurements {
    /// Starts to collect. Must be called within a Tokio runtime.
    pub fn start(cloudwatch: Arc<CloudWatch>, clock: &Clock) -> Arc<Self> {
        let this = Arc::new(Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            totals: Totals::default(),
            cloudwatch,
            flusher: Mutex::default(),
        });
        let (weak, clock) = (Arc::downgrade(&this), clock.clone());
        let flushing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                let Some(this) = weak.upgrade() else { return };
                this.flush(clock.now());
            }
        });
        *this.flusher.lock().unwrap_or_else(PoisonError::into_inner) = Some(flushing);
        this
    }

    /// Adds what was measured.
    pub fn add(&self, measured: &Measurement<'_>) {
        let hash = self.hasher.hash_one((
            measured.account,
            measured.region,
            measured.function,
            measured.resource,
            measured.executed_version,
        ));
        let at = usize::try_from(hash).unwrap_or_default() % SHARDS;
        let mut shard = lock(&self.shards[at]);
        shard.add(hash, measured, &self.totals);
    }

    /// The numbers of functions since the server started.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Hands on what has come together.
    pub fn flush(&self, now: Timestamp) {
        for shard in &self.shards {
            let flushed = lock(shard).take(now);
            let mut data: HashMap<(&str, &str), Vec<Datum>> = HashMap::new();
            for (name, minute, values) in &flushed {
                let of_scope = data.entry((&name.account, &name.region)).or_default();
                spread(name, *minute, values, of_scope);
            }
            for ((account, region), data) in data {
                self.cloudwatch.ingest(account, region, data);
            }
        }
    }
}

impl Drop for Measurements {
    fn drop(&mut self) {
        let flusher = self
            .flusher
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(flusher) = flusher.take() {
            flusher.abort();
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn add(&mut self, hash: u64, measured: &Measurement<'_>, totals: &Totals) {
        let minute = measured.at.as_secs().div_euclid(60) * 60;
        let entries = self.entries.entry(hash).or_default();
        let found = entries.iter().position(|entry| entry.name.is_of(measured));
        let index = match found {
            Some(index) => index,
            None if self.names >= MAX_NAMES => {
                totals
                    .of(measured)
                    .inspect(|totals| totals.add(measured.values));
                totals.lose(measured.values.len());
                return;
            }
            None => {
                self.names += 1;
                entries.push(Entry {
                    name: Arc::new(Name::of(measured)),
                    totals: totals.of(measured),
                    minute,
                    values: Vec::with_capacity(measured.values.len()),
                    used: measured.at,
                });
                entries.len() - 1
            }
        };
        let entry = &mut entries[index];
        if let Some(totals) = &entry.totals {
            totals.add(measured.values);
        }
        entry.used = measured.at;
        if entry.minute != minute && !entry.values.is_empty() {
            let values = std::mem::take(&mut entry.values);
            self.closed
                .push((Arc::clone(&entry.name), entry.minute, values));
        }
        entry.minute = minute;
        for (metric, value) in measured.values {
            if !metric.is_published() {
                continue;
            }
            match entry.values.iter_mut().find(|(known, _)| known == metric) {
                Some((_, aggregate)) => aggregate.add(*value, 1.0),
                None => entry.values.push((*metric, Aggregate::of(*value))),
            }
        }
    }

    fn take(&mut self, now: Timestamp) -> Vec<(Arc<Name>, Minute, Values)> {
        let mut taken = std::mem::take(&mut self.closed);
        let mut names = 0;
        self.entries.retain(|_, entries| {
            entries.retain_mut(|entry| {
                if !entry.values.is_empty() {
                    let values = std::mem::take(&mut entry.values);
                    taken.push((Arc::clone(&entry.name), entry.minute, values));
                }
                now.duration_since(entry.used) < IDLE
            });
            names += entries.len();
            !entries.is_empty()
        });
        self.names = names;
        taken
    }
}

/// Whether a number stands for a state of what it was measured of. All others add up: those of a
/// version to those of its function, and these to those of the account.
const fn is_state(metric: Metric) -> bool {
    matches!(
        metric,
        Metric::ConcurrentExecutions
            | Metric::UnreservedConcurrentExecutions
            | Metric::ClaimedAccountConcurrency
            | Metric::ProvisionedConcurrentExecutions
            | Metric::ProvisionedConcurrencyUtilization
    )
}

/// The combinations of dimensions that AWS publishes, the most exact one first.
fn spread(name: &Name, minute: Minute, values: &Values, data: &mut Vec<Datum>) {
    let part = |key: &str, value: &Option<Arc<str>>| {
        let value = Arc::clone(value.as_ref()?);
        Some((Arc::<str>::from(key), value))
    };
    let all: Vec<(Arc<str>, Arc<str>)> = [
        part("FunctionName", &name.function),
        part("Resource", &name.resource),
        part("ExecutedVersion", &name.executed_version),
    ]
    .into_iter()
    .map_while(|part| part)
    .collect();
    for (metric, values) in values {
        let unit = match metric.unit() {
            invoker::Unit::Count => Unit::COUNT,
            invoker::Unit::Milliseconds => Unit::MILLISECONDS,
            invoker::Unit::None => Unit::NONE,
        };
        let fewest = if is_state(*metric) {
            all.len().min(2)
        } else {
            0
        };
        for len in (fewest..=all.len()).rev() {
            data.push(Datum {
                metric: MetricKey::new(NAMESPACE, metric.name(), all[..len].to_vec()),
                unit,
                at: Timestamp::from_secs(minute),
                high_resolution: false,
                values: values.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn measurements() -> (Arc<Measurements>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_000_000));
        let store = store::Store::open(directory.path(), clock.clone()).unwrap();
        let config = cloudwatch::Config::default();
        let cloudwatch = CloudWatch::open(&config, &store, clock.clone()).unwrap();
        (Measurements::start(cloudwatch, &clock), directory)
    }

    fn measurement<'a>(at: i64, values: &'a [(Metric, f64)]) -> Measurement<'a> {
        Measurement {
            resource: Some("hello:live"),
            executed_version: Some("7"),
            ..Measurement::of_function(
                "123456789012",
                "us-east-1",
                "hello",
                Timestamp::from_secs(at),
                values,
            )
        }
    }

    fn taken(measurements: &Measurements) -> Vec<(Arc<Name>, Minute, Values)> {
        let now = Timestamp::from_secs(1_000_000);
        measurements
            .shards
            .iter()
            .flat_map(|shard| lock(shard).take(now))
            .collect()
    }

    #[tokio::test]
    async fn an_invocation_counts_in_four_combinations_of_dimensions() {
        let (measurements, _directory) = measurements();
        let values = [
            (Metric::Invocations, 1.0),
            (Metric::ConcurrentExecutions, 3.0),
        ];
        for _ in 0..5 {
            measurements.add(&measurement(960_030, &values));
        }
        let taken = taken(&measurements);
        assert_eq!(taken.len(), 1);
        let mut data = Vec::new();
        spread(&taken[0].0, taken[0].1, &taken[0].2, &mut data);
        let names: Vec<(String, usize, f64)> = data
            .iter()
            .map(|d| {
                (
                    d.metric.name.to_string(),
                    d.metric.dimensions.len(),
                    d.values.sum,
                )
            })
            .collect();
        let invocations = |dimensions| ("Invocations".to_owned(), dimensions, 5.0);
        assert_eq!(
            names,
            [
                invocations(3),
                invocations(2),
                invocations(1),
                invocations(0),
                ("ConcurrentExecutions".to_owned(), 3, 15.0),
                ("ConcurrentExecutions".to_owned(), 2, 15.0)
            ]
        );
        assert_eq!(data[0].at, Timestamp::from_secs(960_000));
    }

    #[tokio::test]
    async fn minutes_are_kept_apart_and_idle_names_go() {
        let (measurements, _directory) = measurements();
        let values = [(Metric::Duration, 2.0), (Metric::InitDuration, 9.0)];
        measurements.add(&measurement(999_950, &values));
        measurements.add(&measurement(999_990, &values));
        let mut minutes: Vec<Minute> = taken(&measurements).iter().map(|(_, at, _)| *at).collect();
        minutes.sort_unstable();
        assert_eq!(minutes, [999_900, 999_960]);
        assert_eq!(taken(&measurements), []);
        let later = Timestamp::from_secs(1_001_000);
        for shard in &measurements.shards {
            lock(shard).take(later);
            assert_eq!(lock(shard).names, 0);
        }
        let shown = measurements.totals().snapshot();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].1.cold_starts, 2);
    }

    /// Not a benchmark: a bound that only a lock or an allocation gone wrong would break.
    #[tokio::test]
    async fn measuring_is_cheap() {
        let (measurements, _directory) = measurements();
        let count = 20_000;
        let began = Instant::now();
        for index in 0..count {
            let values = [
                (Metric::Invocations, 1.0),
                (Metric::Errors, 0.0),
                (Metric::Throttles, 0.0),
                (Metric::Duration, f64::from(index % 997) * 1.37),
            ];
            measurements.add(&measurement(960_030, &values));
        }
        let each = began.elapsed() / count;
        assert!(each < Duration::from_micros(100), "{each:?}");
    }
}
