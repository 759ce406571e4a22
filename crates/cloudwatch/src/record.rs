//! What metrics and their values look like on disk: one table, in which the first byte of a key
//! tells metrics from values.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::metric::{MetricKey, Unit};
use crate::{Aggregate, Error};

/// The version of a metric's record. A later one reads this one too.
const METRIC_VERSION: u8 = 1;
/// The version of an aggregate's record, its first byte.
const VALUES_VERSION: u8 = 1;

const METRIC: u8 = b'm';
const VALUES: u8 = b'v';

/// A metric. Its values are found by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MetricRecord {
    version: u8,
    /// Account and region, with a slash between.
    pub(crate) scope: String,
    #[serde(flatten)]
    pub(crate) metric: MetricKey,
    /// About when it last had a value.
    pub(crate) active_ms: i64,
}

/// How long the periods of an aggregate are, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tier {
    Second,
    Minute,
    FiveMinutes,
    Hour,
}

/// Names an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) metric: Uuid,
    pub(crate) tier: Tier,
    /// When its period begins, in seconds since the epoch.
    pub(crate) start: i64,
    pub(crate) unit: Unit,
}

impl Tier {
    pub(crate) const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::FiveMinutes, Self::Hour];

    pub(crate) const fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::Hour => 3_600,
        }
    }

    /// The start of the period that holds a moment.
    pub(crate) const fn start_of(self, second: i64) -> i64 {
        second - second.rem_euclid(self.seconds())
    }
}

impl MetricRecord {
    pub(crate) fn new(scope: &str, metric: MetricKey, active_ms: i64) -> Self {
        Self {
            version: METRIC_VERSION,
            scope: scope.to_owned(),
            metric,
            active_ms,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        serde_json::to_vec(self)
            .map(Bytes::from)
            .map_err(|_| Error::Record { what: "metric" })
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(value).map_err(|_| Error::Record { what: "metric" })
    }
}

pub(crate) fn metric_key(id: Uuid) -> Vec<u8> {
    [&[METRIC], id.as_bytes().as_slice()].concat()
}

/// Begins the keys of all metrics.
pub(crate) const METRICS: [u8; 1] = [METRIC];

pub(crate) fn metric_id(key: &[u8]) -> Result<Uuid, Error> {
    Uuid::from_slice(key.get(1..).unwrap_or_default()).map_err(|_| Error::Record { what: "metric" })
}

impl Place {
    /// Begins the keys of all aggregates of one tier of a metric.
    pub(crate) fn prefix(metric: Uuid, tier: Tier) -> Vec<u8> {
        [&[VALUES], metric.as_bytes().as_slice(), &[tier as u8]].concat()
    }

    /// Keys are ordered by time: periods before 1970 do not occur.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Self::prefix(self.metric, self.tier);
        key.extend_from_slice(&self.start.max(0).to_be_bytes());
        key.push(self.unit.0);
        key
    }

    /// What comes right before all keys of periods that begin at `start` or later.
    pub(crate) fn before(metric: Uuid, tier: Tier, start: i64) -> Vec<u8> {
        let mut key = Self::prefix(metric, tier);
        key.extend_from_slice(&start.max(0).to_be_bytes());
        key
    }

    pub(crate) fn of_key(metric: Uuid, tier: Tier, key: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Record { what: "key" };
        let rest = key.get(18..).ok_or_else(damaged)?;
        let (start, unit) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        Ok(Self {
            metric,
            tier,
            start: i64::from_be_bytes(*start),
            unit: Unit(*unit.first().ok_or_else(damaged)?),
        })
    }
}

pub(crate) fn encode(aggregate: &Aggregate) -> Result<Bytes, Error> {
    postcard::to_extend(aggregate, vec![VALUES_VERSION])
        .map(Bytes::from)
        .map_err(|_| Error::Record { what: "values" })
}

pub(crate) fn decode(value: &[u8]) -> Result<Aggregate, Error> {
    let damaged = |()| Error::Record { what: "values" };
    match value.split_first() {
        Some((&VALUES_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| damaged(())),
        _ => Err(damaged(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_by_time_and_read_back() {
        let place = |start, unit| Place {
            metric: Uuid::from_u128(7),
            tier: Tier::Minute,
            start,
            unit: Unit(unit),
        };
        let keys: Vec<Vec<u8>> = [place(60, 3), place(60, 9), place(120, 0), place(1 << 33, 0)]
            .iter()
            .map(Place::key)
            .collect();
        assert!(keys.is_sorted());
        let metric = Uuid::from_u128(7);
        assert!(Place::before(metric, Tier::Minute, 120) > keys[1]);
        assert!(Place::before(metric, Tier::Minute, 120) < keys[2]);
        let read = Place::of_key(metric, Tier::Minute, &keys[3]).unwrap();
        assert_eq!(read, place(1 << 33, 0));
        assert!(Place::of_key(metric, Tier::Minute, b"v").is_err());
    }

    #[test]
    fn aggregates_of_another_format_are_refused() {
        let aggregate = Aggregate::of(2.5);
        let mut bytes = encode(&aggregate).unwrap().to_vec();
        assert_eq!(decode(&bytes).unwrap(), aggregate);
        bytes[0] = 9;
        assert!(decode(&bytes).is_err());
        assert!(decode(b"").is_err());
    }
}
