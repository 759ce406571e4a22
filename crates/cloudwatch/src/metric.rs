//! What metrics are called, and one value of one of them.

use std::sync::Arc;

use clock::Timestamp;
use model::cloudwatch::StandardUnit;
use serde::{Deserialize, Serialize};

use crate::Aggregate;

/// A metric of one account and region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetricKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Names and values, sorted: their order makes no other metric.
    pub dimensions: Vec<(Arc<str>, Arc<str>)>,
}

impl MetricKey {
    pub fn new(
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        mut dimensions: Vec<(Arc<str>, Arc<str>)>,
    ) -> Self {
        dimensions.sort();
        Self {
            namespace: namespace.into(),
            name: name.into(),
            dimensions,
        }
    }
}

/// A unit, by its place in [`Unit::NAMES`], which is what records hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unit(pub(crate) u8);

impl Unit {
    pub const COUNT: Self = Self(0);
    pub const MILLISECONDS: Self = Self(1);
    pub const NONE: Self = Self(2);

    /// All units. Records refer to them by place: new ones go to the end.
    const NAMES: &'static [&'static str] = &[
        "Count",
        "Milliseconds",
        "None",
        "Seconds",
        "Microseconds",
        "Bytes",
        "Kilobytes",
        "Megabytes",
        "Gigabytes",
        "Terabytes",
        "Bits",
        "Kilobits",
        "Megabits",
        "Gigabits",
        "Terabits",
        "Percent",
        "Bytes/Second",
        "Kilobytes/Second",
        "Megabytes/Second",
        "Gigabytes/Second",
        "Terabytes/Second",
        "Bits/Second",
        "Kilobits/Second",
        "Megabits/Second",
        "Gigabits/Second",
        "Terabits/Second",
        "Count/Second",
    ];

    /// The unit that AWS calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// AWS's name.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .get(usize::from(self.0))
            .copied()
            .unwrap_or("None")
    }
}

impl From<Unit> for StandardUnit {
    fn from(unit: Unit) -> Self {
        unit.name().into()
    }
}

/// Values of a metric at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    pub metric: MetricKey,
    pub unit: Unit,
    pub at: Timestamp,
    /// Kept by the second instead of by the minute.
    pub high_resolution: bool,
    pub values: Aggregate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_the_interface_is_known() {
        for name in StandardUnit::VALUES {
            assert_eq!(Unit::named(name).map(Unit::name), Some(*name));
        }
        assert_eq!(Unit::NAMES.len(), StandardUnit::VALUES.len());
        assert_eq!(Unit::COUNT.name(), "Count");
        assert_eq!(Unit::MILLISECONDS.name(), "Milliseconds");
        assert_eq!(Unit::NONE.name(), "None");
    }
}
