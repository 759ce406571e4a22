//! The metrics there are, and their latest aggregates: what is read and changed under one lock.
//!
//! An aggregate that changes is read from the disk at most once; while it is young it stays here, so
//! that readers see what is on its way to the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clock::Timestamp;
use store::{Batch, Expect, Table};
use uuid::Uuid;

use crate::metric::{Datum, MetricKey, Unit};
use crate::record::{self, METRICS, MetricRecord, Place, Tier};
use crate::{Aggregate, Error};

/// An aggregate that has not changed for this time is surely readable from the table.
const SETTLED: Duration = Duration::from_secs(60);
/// More aggregates than this are not held; writers are told to slow down.
const MAX_YOUNG: usize = 400_000;
/// How exactly it is known when a metric last had a value.
const ACTIVITY: Duration = Duration::from_secs(1_800);
const PAGE: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Book {
    table: Table,
    max_metrics: usize,
    /// By account and region.
    scopes: HashMap<Arc<str>, BTreeMap<MetricKey, Metric>>,
    young: BTreeMap<Place, Young>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) id: Uuid,
    /// When it last had a value, as the disk knows it.
    pub(crate) active: Timestamp,
}

#[derive(Debug)]
struct Young {
    /// Empty for one that was rolled up, and hides what may still be on disk.
    values: Aggregate,
    touched: Timestamp,
}

/// How many values could not be taken.
pub(crate) type Refused = usize;

impl Book {
    pub(crate) fn open(table: Table, max_metrics: usize) -> Result<Self, Error> {
        let mut scopes: HashMap<Arc<str>, BTreeMap<MetricKey, Metric>> = HashMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let records = table.scan(METRICS, after.as_deref(), PAGE)?;
            let Some(last) = records.last() else { break };
            after = Some(last.key.to_vec());
            for stored in records {
                let record = MetricRecord::decode(&stored.value)?;
                let metric = Metric {
                    id: record::metric_id(&stored.key)?,
                    active: Timestamp::from_millis(record.active_ms),
                };
                let scope = scopes.entry(record.scope.into()).or_default();
                scope.insert(record.metric, metric);
            }
        }
        Ok(Self {
            table,
            max_metrics,
            scopes,
            young: BTreeMap::new(),
        })
    }

    /// Adds values and gives the batch that makes them last. The batch must be given its place in
    /// the store before the lock is let go.
    pub(crate) fn add(
        &mut self,
        scope: &str,
        data: impl IntoIterator<Item = Datum>,
        now: Timestamp,
    ) -> Result<(Batch, Refused), Error> {
        let mut batch = Batch::new();
        let mut refused = 0;
        let mut changed = Vec::new();
        if self.young.len() > MAX_YOUNG {
            self.forget_settled(now);
            if self.young.len() > MAX_YOUNG {
                return Err(Error::Overloaded);
            }
        }
        for datum in data {
            let Some((id, record)) = self.metric(scope, datum.metric, now)? else {
                refused += 1;
                continue;
            };
            if let Some(record) = record {
                batch = batch.put(record::metric_key(id), record, Expect::Any);
            }
            let tier = if datum.high_resolution {
                Tier::Second
            } else {
                Tier::Minute
            };
            let place = Place {
                metric: id,
                tier,
                start: tier.start_of(datum.at.as_secs()),
                unit: datum.unit,
            };
            let young = self.young(place, now)?;
            young.values.merge(&datum.values);
            changed.push(place);
        }
        changed.sort_unstable();
        changed.dedup();
        for place in changed {
            let values = record::encode(&self.young[&place].values)?;
            batch = batch.put(place.key(), values, Expect::Any);
        }
        Ok((batch, refused))
    }

    /// The metric called so, and its record if that is new. `None` if there are too many already.
    fn metric(
        &mut self,
        scope: &str,
        key: MetricKey,
        now: Timestamp,
    ) -> Result<Option<(Uuid, Option<bytes::Bytes>)>, Error> {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.into(), BTreeMap::new());
        }
        let Some(metrics) = self.scopes.get_mut(scope) else {
            return Ok(None);
        };
        if let Some(metric) = metrics.get_mut(&key) {
            let stale = now.duration_since(metric.active) >= ACTIVITY;
            if !stale {
                return Ok(Some((metric.id, None)));
            }
            metric.active = now;
            let id = metric.id;
            let record = MetricRecord::new(scope, key, now.as_millis()).encode()?;
            return Ok(Some((id, Some(record))));
        }
        if metrics.len() >= self.max_metrics {
            return Ok(None);
        }
        let id = Uuid::new_v4();
        let record = MetricRecord::new(scope, key.clone(), now.as_millis()).encode()?;
        metrics.insert(key, Metric { id, active: now });
        Ok(Some((id, Some(record))))
    }

    /// Whether there is room for this many further metrics.
    pub(crate) fn has_room(&self, scope: &str, further: usize) -> bool {
        let known = self.scopes.get(scope).map_or(0, BTreeMap::len);
        known.saturating_add(further) <= self.max_metrics
    }

    fn young(&mut self, place: Place, now: Timestamp) -> Result<&mut Young, Error> {
        use std::collections::btree_map::Entry;
        let young = match self.young.entry(place) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                let values = match self.table.get(place.key())? {
                    Some(stored) => record::decode(&stored.value)?,
                    None => Aggregate::new(),
                };
                free.insert(Young {
                    values,
                    touched: now,
                })
            }
        };
        young.touched = now;
        Ok(young)
    }

    pub(crate) fn find(&self, scope: &str, key: &MetricKey) -> Option<Metric> {
        self.scopes.get(scope)?.get(key).copied()
    }

    /// The metrics of an account and region, by name.
    pub(crate) fn metrics(&self, scope: &str) -> Option<&BTreeMap<MetricKey, Metric>> {
        self.scopes.get(scope)
    }

    /// All metrics of everybody.
    pub(crate) fn ids(&self) -> Vec<(Arc<str>, MetricKey, Metric)> {
        let all = self.scopes.iter().flat_map(|(scope, metrics)| {
            let each = metrics.iter();
            each.map(move |(key, metric)| (Arc::clone(scope), key.clone(), *metric))
        });
        all.collect()
    }

    /// The aggregates of a metric whose periods begin in `from..until`, in seconds.
    pub(crate) fn read(
        &self,
        metric: Uuid,
        tier: Tier,
        (from, until): (i64, i64),
    ) -> Result<BTreeMap<(i64, Unit), Aggregate>, Error> {
        let mut found = BTreeMap::new();
        let prefix = Place::prefix(metric, tier);
        let mut after = Place::before(metric, tier, from);
        'pages: loop {
            let records = self.table.scan(&prefix, Some(&after), PAGE)?;
            let Some(last) = records.last() else { break };
            after = last.key.to_vec();
            for stored in &records {
                let place = Place::of_key(metric, tier, &stored.key)?;
                if place.start >= until {
                    break 'pages;
                }
                found.insert((place.start, place.unit), record::decode(&stored.value)?);
            }
            if records.len() < PAGE {
                break;
            }
        }
        let place = |start| Place {
            metric,
            tier,
            start,
            unit: Unit(0),
        };
        for (place, young) in self.young.range(place(from)..place(until.max(from))) {
            found.insert((place.start, place.unit), young.values.clone());
        }
        found.retain(|_, values| !values.is_empty());
        Ok(found)
    }

    /// Moves aggregates into those of a longer period, and gives the batch that does so on disk.
    /// With no longer period, they go.
    pub(crate) fn roll_up(
        &mut self,
        metric: Uuid,
        tier: Tier,
        into: Option<Tier>,
        until: i64,
        now: Timestamp,
    ) -> Result<Batch, Error> {
        let mut batch = Batch::new();
        let mut changed = Vec::new();
        // One batch has room for so many; the rest comes with the next sweep.
        let old: Vec<_> = self
            .read(metric, tier, (0, until))?
            .into_iter()
            .take(4_000)
            .collect();
        for ((start, unit), values) in old {
            let place = Place {
                metric,
                tier,
                start,
                unit,
            };
            if let Some(into) = into {
                let longer = Place {
                    tier: into,
                    start: into.start_of(start),
                    ..place
                };
                self.young(longer, now)?.values.merge(&values);
                changed.push(longer);
            }
            let gone = Young {
                values: Aggregate::new(),
                touched: now,
            };
            self.young.insert(place, gone);
            batch = batch.delete(place.key(), Expect::Any);
        }
        changed.dedup();
        for place in changed {
            let values = record::encode(&self.young[&place].values)?;
            batch = batch.put(place.key(), values, Expect::Any);
        }
        Ok(batch)
    }

    /// Forgets a metric without values, and gives the batch that does so on disk.
    pub(crate) fn forget(&mut self, scope: &str, key: &MetricKey) -> Batch {
        let forgotten = self
            .scopes
            .get_mut(scope)
            .and_then(|metrics| metrics.remove(key));
        match forgotten {
            Some(metric) => Batch::new().delete(record::metric_key(metric.id), Expect::Any),
            None => Batch::new(),
        }
    }

    /// Lets go of aggregates that are surely on disk.
    pub(crate) fn forget_settled(&mut self, now: Timestamp) {
        self.young
            .retain(|_, young| now.duration_since(young.touched) < SETTLED);
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}
