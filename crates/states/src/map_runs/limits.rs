//! What a map run may do: how many children at once, and how many failures.

use serde::{Deserialize, Serialize};

/// AWS's limit of children at once; also what `MaxConcurrency` 0 means.
pub const MAX_AT_ONCE: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// As it was given; 0 is as many as there can be.
    pub max_concurrency: u64,
    pub tolerated_count: u64,
    pub tolerated_percentage: f64,
}

impl Limits {
    pub fn at_once(&self) -> u64 {
        match self.max_concurrency {
            0 => MAX_AT_ONCE,
            number => number.min(MAX_AT_ONCE),
        }
    }

    /// Whether too many items have failed. `total` is `None` as long as it is not known.
    ///
    /// Measured on AWS: 0 is as good as no limit; where neither is given, no failure is tolerated.
    pub fn exceeded(&self, failed: u64, total: Option<u64>) -> bool {
        if self.tolerated_count == 0 && self.tolerated_percentage <= 0.0 {
            return failed > 0;
        }
        if self.tolerated_count > 0 && failed > self.tolerated_count {
            return true;
        }
        match total {
            Some(total) if self.tolerated_percentage > 0.0 && total > 0 => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a percentage is no exact number"
                )]
                let percentage = failed as f64 * 100.0 / total as f64;
                percentage > self.tolerated_percentage
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tolerated_as_measured_on_aws() {
        let measured = [
            (1, 3, 0, 0.0, true),
            (1, 3, 1, 100.0, false),
            (3, 3, 1, 100.0, true),
            (3, 3, 3, 100.0, false),
            (1, 3, 0, 100.0, false),
            (1, 3, 100_000, 34.0, false),
            (1, 3, 100_000, 33.0, true),
            (1, 4, 100_000, 25.0, false),
            (1, 4, 100_000, 24.0, true),
            (3, 3, 0, 50.0, true),
            (3, 3, 5, 0.0, false),
            (2, 3, 1, 90.0, true),
            (2, 3, 5, 50.0, true),
            (2, 5, 100_000, 39.0, true),
            (2, 5, 100_000, 40.0, false),
        ];
        for (failed, total, tolerated_count, tolerated_percentage, exceeded) in measured {
            let limits = Limits {
                max_concurrency: 0,
                tolerated_count,
                tolerated_percentage,
            };
            assert_eq!(
                limits.exceeded(failed, Some(total)),
                exceeded,
                "{failed}/{total} {limits:?}"
            );
        }
    }

    #[test]
    fn percentage_waits_until_the_whole_is_known() {
        let limits = Limits {
            max_concurrency: 0,
            tolerated_count: 0,
            tolerated_percentage: 10.0,
        };
        assert!(!limits.exceeded(5, None));
        assert!(limits.exceeded(5, Some(5)));
        assert!(!limits.exceeded(0, Some(0)));
    }

    #[test]
    fn never_more_than_ten_thousand_run_at_once() {
        let at_once = |max_concurrency| {
            let limits = Limits {
                max_concurrency,
                tolerated_count: 0,
                tolerated_percentage: 0.0,
            };
            limits.at_once()
        };
        assert_eq!(at_once(0), 10_000);
        assert_eq!(at_once(7), 7);
        assert_eq!(at_once(40_000), 10_000);
    }
}
