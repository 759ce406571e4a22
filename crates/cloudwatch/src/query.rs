//! Statistics of a metric over periods.

use std::collections::BTreeMap;

use clock::Timestamp;
use model::cloudwatch::Statistic;
use uuid::Uuid;

use crate::book::Book;
use crate::metric::Unit;
use crate::record::Tier;
use crate::{Aggregate, Error};

const DAY: i64 = 86_400;

/// A range of time in periods; all in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) period: i64,
}

impl Window {
    /// The start is rounded down, as AWS documents it; periods begin there.
    pub(crate) fn new(
        start: Timestamp,
        end: Timestamp,
        period: i32,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if start >= end {
            return Err(Error::InvalidValue(
                "The parameter StartTime must be less than the parameter EndTime.".to_owned(),
            ));
        }
        let short = matches!(period, 1 | 5 | 10 | 20 | 30);
        if period < 1 || !(short || period % 60 == 0) {
            return Err(Error::InvalidValue(
                "The parameter Period must be a value in the set [ 1, 5, 10, 20, 30 ] or a \
                 multiple of 60."
                    .to_owned(),
            ));
        }
        let period = i64::from(period);
        let age = now.as_secs().saturating_sub(start.as_secs());
        let grain = if short {
            period
        } else if age < 15 * DAY {
            60
        } else if age < 63 * DAY {
            300
        } else {
            3_600
        };
        let start = start.as_secs().max(0);
        let (seconds, fraction) = (end.as_secs(), end.as_micros().rem_euclid(1_000_000));
        Ok(Self {
            start: start - start.rem_euclid(grain),
            end: seconds + i64::from(fraction > 0),
            period,
        })
    }

    /// How many periods it has at most.
    pub(crate) const fn len(&self) -> i64 {
        (self.end - self.start + self.period - 1) / self.period
    }

    fn period_of(&self, second: i64) -> i64 {
        self.start + (second - self.start).div_euclid(self.period) * self.period
    }
}

/// The values of a metric by period and unit.
pub(crate) fn periods(
    book: &Book,
    metric: Uuid,
    window: Window,
) -> Result<BTreeMap<(i64, Unit), Aggregate>, Error> {
    let mut found: BTreeMap<(i64, Unit), Aggregate> = BTreeMap::new();
    for tier in Tier::ALL {
        // What was rolled up further cannot be told apart within a shorter period.
        if tier.seconds() > window.period.max(60) {
            continue;
        }
        for ((start, unit), values) in book.read(metric, tier, (window.start, window.end))? {
            found
                .entry((window.period_of(start), unit))
                .or_default()
                .merge(&values);
        }
    }
    Ok(found)
}

/// A number that stands for many values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stat {
    Plain(Plain),
    Percentile(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    SampleCount,
    Average,
    Sum,
    Minimum,
    Maximum,
}

impl Stat {
    /// Reads a statistic as GetMetricData takes it: a name, or `p99.9`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(plain) = Plain::named(text) {
            return Ok(Self::Plain(plain));
        }
        if let Some(percent) = text.strip_prefix('p') {
            return Self::percentile(percent).ok_or_else(|| invalid(text));
        }
        // `tm90`, `TM(10%:90%)` and their kin.
        let family = ["tm", "wm", "tc", "ts", "pr(", "iqm"];
        let lower = text.to_ascii_lowercase();
        if family.iter().any(|name| lower.starts_with(name)) {
            return Err(Error::NotSupported(format!(
                "firn does not compute the statistic {text} yet"
            )));
        }
        Err(invalid(text))
    }

    /// Reads the number of a percentile: up to two digits with up to ten decimals, or 100.
    fn percentile(text: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        if !digits(whole) || !digits(decimals) || decimals.len() > 10 {
            return None;
        }
        let percent: f64 = text.parse().ok()?;
        (percent <= 100.0).then_some(Self::Percentile(percent))
    }

    /// The number; `None` for percentiles of values that nobody knows.
    pub(crate) fn of(self, values: &Aggregate) -> Option<f64> {
        match self {
            Self::Plain(plain) => Some(plain.of(values)),
            Self::Percentile(percent) => values.percentile(percent),
        }
    }
}

fn invalid(text: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::InvalidValue(format!(
        "The value {shown} for parameter Stat is not supported."
    ))
}

impl Plain {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match Statistic::from(name) {
            Statistic::SampleCount => Self::SampleCount,
            Statistic::Average => Self::Average,
            Statistic::Sum => Self::Sum,
            Statistic::Minimum => Self::Minimum,
            Statistic::Maximum => Self::Maximum,
            Statistic::Unknown(_) => return None,
        })
    }

    pub(crate) fn of(self, values: &Aggregate) -> f64 {
        match self {
            Self::SampleCount => values.count,
            Self::Average => values.average(),
            Self::Sum => values.sum,
            Self::Minimum => values.minimum,
            Self::Maximum => values.maximum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    #[test]
    fn start_is_rounded_by_age_and_period() {
        let now = at(100 * DAY);
        let start = |age: i64, period| {
            let start = now.as_secs() - age;
            let window = Window::new(at(start), now, period, now).unwrap();
            start - window.start
        };
        assert_eq!(start(60 - 37, 60), 37);
        assert_eq!(start(60 - 37, 10), 7);
        assert_eq!(start(20 * DAY - 200, 300), 200);
        assert_eq!(start(70 * DAY - 3_000, 3_600), 3_000);
    }

    #[test]
    fn odd_periods_are_refused() {
        let now = at(DAY);
        for period in [0, -60, 2, 15, 59, 61, 90] {
            assert!(Window::new(at(0), now, period, now).is_err(), "{period}");
        }
        assert!(Window::new(now, now, 60, now).is_err());
    }

    #[test]
    fn statistics_are_read_as_aws_writes_them() {
        assert_eq!(Stat::parse("Sum").unwrap(), Stat::Plain(Plain::Sum));
        assert_eq!(Stat::parse("p99.95").unwrap(), Stat::Percentile(99.95));
        assert_eq!(Stat::parse("p100").unwrap(), Stat::Percentile(100.0));
        for wrong in ["p101", "p", "p-1", "pinf", "p1e1", "sum", ""] {
            assert!(
                matches!(Stat::parse(wrong), Err(Error::InvalidValue(_))),
                "{wrong}"
            );
        }
        assert!(matches!(Stat::parse("tm90"), Err(Error::NotSupported(_))));
    }
}
