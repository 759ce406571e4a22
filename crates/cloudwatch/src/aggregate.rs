//! What is kept of the values of one period.

use serde::{Deserialize, Serialize};

/// Values that fell into one period, with all statistics that AWS has of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    pub count: f64,
    pub sum: f64,
    pub minimum: f64,
    pub maximum: f64,
    /// `None` once a statistic set was added, of which nobody knows how its values are distributed.
    pub distribution: Option<Distribution>,
}

/// Different values and how often each occurred, by value. Exact up to a number of values; beyond
/// it, values close to each other are one: within a few percent, unless they span many magnitudes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution(Vec<(f64, f64)>);

impl Default for Aggregate {
    fn default() -> Self {
        Self::new()
    }
}

impl Aggregate {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            count: 0.0,
            sum: 0.0,
            minimum: 0.0,
            maximum: 0.0,
            distribution: Some(Distribution(Vec::new())),
        }
    }

    /// One value.
    pub fn of(value: f64) -> Self {
        let mut aggregate = Self::new();
        aggregate.add(value, 1.0);
        aggregate
    }

    /// What a client knows of values that it does not tell.
    pub fn of_statistics(count: f64, sum: f64, minimum: f64, maximum: f64) -> Self {
        // All values are equal, or there is one: then their distribution is known.
        let known = count == 1.0 || minimum == maximum;
        Self {
            count,
            sum,
            minimum,
            maximum,
            distribution: known.then(|| Distribution(vec![(minimum, count)])),
        }
    }

    /// True if it holds no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0.0
    }

    /// Adds a value that occurred `count` times.
    pub fn add(&mut self, value: f64, count: f64) {
        self.widen(value, value);
        self.count += count;
        self.sum += value * count;
        if let Some(distribution) = &mut self.distribution {
            distribution.add(value, count);
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.widen(other.minimum, other.maximum);
        self.count += other.count;
        self.sum += other.sum;
        match (&mut self.distribution, &other.distribution) {
            (Some(distribution), Some(other)) => {
                for (value, count) in &other.0 {
                    distribution.add(*value, *count);
                }
            }
            (distribution, _) => *distribution = None,
        }
    }

    fn widen(&mut self, minimum: f64, maximum: f64) {
        if self.is_empty() {
            (self.minimum, self.maximum) = (minimum, maximum);
        } else {
            self.minimum = self.minimum.min(minimum);
            self.maximum = self.maximum.max(maximum);
        }
    }

    /// The mean of all values.
    pub fn average(&self) -> f64 {
        self.sum / self.count
    }

    /// The smallest value that `percent` of all values do not exceed.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let value = self
            .distribution
            .as_ref()?
            .percentile(percent, self.count)?;
        // A value that stands for several may lie outside of them.
        Some(value.clamp(self.minimum, self.maximum))
    }
}

impl Distribution {
    /// More different values than this are made fewer.
    const MAX_VALUES: usize = 160;
    /// What is aimed at then.
    const FEW_VALUES: usize = 120;

    fn add(&mut self, value: f64, count: f64) {
        match self
            .0
            .binary_search_by(|(found, _)| found.total_cmp(&value))
        {
            Ok(at) => self.0[at].1 += count,
            Err(at) => {
                self.0.insert(at, (value, count));
                if self.0.len() > Self::MAX_VALUES {
                    self.make_fewer();
                }
            }
        }
    }

    /// Joins values that are close to each other; more and more, until few are left.
    #[cold]
    fn make_fewer(&mut self) {
        let mut width = 0.01_f64;
        while self.0.len() > Self::FEW_VALUES {
            let joined = self
                .0
                .chunk_by(|(a, _), (b, _)| bucket(*a, width) == bucket(*b, width));
            let joined: Vec<(f64, f64)> = joined.map(joint).collect();
            self.0 = joined;
            width *= 2.0;
        }
    }

    fn percentile(&self, percent: f64, count: f64) -> Option<f64> {
        let rank = percent / 100.0 * count;
        let mut seen = 0.0;
        for (value, count) in &self.0 {
            seen += count;
            // Counts may be fractions, whose sums are not exact.
            if seen >= rank - 1e-9 * count.max(1.0) {
                return Some(*value);
            }
        }
        self.0.last().map(|(value, _)| *value)
    }
}

/// Values of one bucket differ by at most `width`, as a share of themselves.
fn bucket(value: f64, width: f64) -> (i8, i64) {
    let size = value.abs();
    if size < 1e-9 {
        return (0, 0);
    }
    let sign = if value < 0.0 { -1 } else { 1 };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the logarithm of an f64 is below 1,100, so that this is below 10^6"
    )]
    let index = (size.ln() / width.ln_1p()).floor() as i64;
    (sign, index)
}

/// The value that stands for some, by weight, and how often they occurred together.
fn joint(values: &[(f64, f64)]) -> (f64, f64) {
    if let [only] = values {
        return *only;
    }
    let count: f64 = values.iter().map(|(_, count)| count).sum();
    let sum: f64 = values.iter().map(|(value, count)| value * count).sum();
    (sum / count, count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Aggregate {
        let mut aggregate = Aggregate::new();
        for value in values {
            aggregate.add(*value, 1.0);
        }
        aggregate
    }

    #[test]
    fn few_values_are_exact() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let aggregate = of(&values);
        assert_eq!(aggregate.percentile(50.0), Some(50.0));
        assert_eq!(aggregate.percentile(99.0), Some(99.0));
        assert_eq!(aggregate.percentile(100.0), Some(100.0));
        assert_eq!(aggregate.percentile(0.0), Some(1.0));
        assert_eq!(aggregate.average(), 50.5);
        assert_eq!((aggregate.minimum, aggregate.maximum), (1.0, 100.0));
    }

    #[test]
    fn a_statistic_set_has_no_percentiles() {
        let mut aggregate = of(&[1.0, 2.0]);
        aggregate.merge(&Aggregate::of_statistics(3.0, 12.0, 1.0, 7.0));
        assert_eq!(aggregate.percentile(50.0), None);
        assert_eq!((aggregate.count, aggregate.sum), (5.0, 15.0));
        let equal = Aggregate::of_statistics(3.0, 6.0, 2.0, 2.0);
        assert_eq!(equal.percentile(90.0), Some(2.0));
    }

    proptest! {
        #[test]
        fn many_values_are_close(values in prop::collection::vec(0.01_f64..100_000.0, 200..3_000)) {
            let aggregate = of(&values);
            let kept = aggregate.distribution.as_ref().unwrap().0.len();
            prop_assert!(kept <= Distribution::MAX_VALUES);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for percent in [1_usize, 50, 90, 99] {
                let rank = (percent * sorted.len()).div_ceil(100);
                let exact = sorted[rank.max(1) - 1];
                let found = aggregate.percentile(percent as f64).unwrap();
                prop_assert!((found / exact - 1.0).abs() < 0.35, "p{percent}: {found} for {exact}");
            }
            let sum: f64 = values.iter().sum();
            prop_assert!((aggregate.sum / sum - 1.0).abs() < 1e-9);
        }

        #[test]
        fn merging_is_adding(a in prop::collection::vec(-50_i32..50, 1..60), b in prop::collection::vec(-50_i32..50, 1..60)) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
