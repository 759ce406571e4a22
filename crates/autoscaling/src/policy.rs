//! Target tracking: which capacity keeps a metric at its target.
//!
//! As on AWS, capacity goes out after three minutes above the target, and comes in after fifteen
//! minutes below nine tenths of it. Minutes without values decide nothing.

use std::collections::BTreeMap;

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::target::{Limits, Target};

/// Minutes in a row above the target before capacity is added.
const HIGH_MINUTES: i64 = 3;
/// Minutes in a row below the target before capacity is taken away.
pub(crate) const LOW_MINUTES: i64 = 15;
/// How far below.
const LOW_SHARE: f64 = 0.9;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) uuid: Uuid,
    pub(crate) created: Timestamp,
    pub(crate) tracking: Tracking,
    /// Part of the alarms' names.
    pub(crate) alarms: [Uuid; 2],
    /// It wanted more or less than the limits permit, and that was recorded.
    #[serde(default)]
    pub(crate) at_limit: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tracking {
    pub(crate) target: f64,
    pub(crate) metric: Metric,
    /// As the client gave them; none is zero seconds for functions.
    pub(crate) scale_out_cooldown: Option<u32>,
    pub(crate) scale_in_cooldown: Option<u32>,
    pub(crate) disable_scale_in: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Metric {
    /// `LambdaProvisionedConcurrencyUtilization`.
    Utilization { label: Option<String> },
    Custom {
        namespace: String,
        name: String,
        dimensions: Vec<(String, String)>,
        statistic: String,
        unit: Option<String>,
    },
    /// Metrics and expressions, of which one returns data.
    Math(Vec<Query>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) id: String,
    pub(crate) expression: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) stat: Option<Stat>,
    pub(crate) return_data: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) dimensions: Option<Vec<(String, String)>>,
    pub(crate) stat: String,
    pub(crate) unit: Option<String>,
}

/// What a policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Out(u32),
    In(u32),
    Stay,
}

impl Tracking {
    /// What the last complete minutes ask for. `values` are by minute, in seconds since the epoch,
    /// and `now` is in the minute after the last complete one.
    pub(crate) fn wish(&self, values: &BTreeMap<i64, f64>, now: Timestamp, current: u32) -> Wish {
        let minute = now.as_secs().div_euclid(60) * 60;
        let last = |minutes: i64| -> Option<Vec<f64>> {
            (1..=minutes)
                .map(|back| values.get(&(minute - 60 * back)).copied())
                .collect()
        };
        if let Some(high) = last(HIGH_MINUTES)
            && high.iter().all(|value| *value > self.target)
        {
            return Wish::Out(
                self.fitting(high[0], current)
                    .max(current.saturating_add(1)),
            );
        }
        if self.disable_scale_in != Some(true)
            && let Some(low) = last(LOW_MINUTES)
            && low.iter().all(|value| *value < self.target * LOW_SHARE)
        {
            // The highest of them, so that what was needed a while ago still fits.
            let highest = low.iter().copied().fold(f64::MIN, f64::max);
            let fitting = self.fitting(highest, current);
            if fitting < current {
                return Wish::In(fitting);
            }
        }
        Wish::Stay
    }

    /// The capacity at which the metric, which is in proportion to it, is at the target.
    fn fitting(&self, value: f64, current: u32) -> u32 {
        // What is a whole number but for rounding must not become the next one.
        let fitting = (f64::from(current) * value / self.target - 1e-9).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and the limits bound what comes out"
        )]
        let fitting = fitting as u32;
        fitting
    }
}

/// What all policies of a target together ask for: the most that one wants more, or what is left if
/// all want less.
pub(crate) fn agreed(wishes: &[Wish]) -> Wish {
    let out = wishes.iter().filter_map(|wish| match wish {
        Wish::Out(capacity) => Some(*capacity),
        Wish::In(_) | Wish::Stay => None,
    });
    if let Some(most) = out.max() {
        return Wish::Out(most);
    }
    let less: Option<Vec<u32>> = wishes
        .iter()
        .map(|wish| match wish {
            Wish::In(capacity) => Some(*capacity),
            Wish::Out(_) | Wish::Stay => None,
        })
        .collect();
    match less.and_then(|less| less.into_iter().max()) {
        Some(capacity) => Wish::In(capacity),
        None => Wish::Stay,
    }
}

/// Whether enough time has passed since the last change for one like this.
pub(crate) fn cooled_down(target: &Target, wish: Wish, now: Timestamp) -> bool {
    let longest = |of: fn(&Tracking) -> Option<u32>| {
        let seconds = target
            .policies
            .values()
            .filter_map(|policy| of(&policy.tracking))
            .max();
        std::time::Duration::from_secs(u64::from(seconds.unwrap_or(0)))
    };
    let passed = |since: Option<Timestamp>, cooldown| {
        since.is_none_or(|since| now.duration_since(since) >= cooldown)
    };
    match wish {
        Wish::Out(_) => passed(
            target.scaled_out,
            longest(|policy| policy.scale_out_cooldown),
        ),
        Wish::In(_) => {
            let cooldown = longest(|policy| policy.scale_in_cooldown);
            passed(target.scaled_in, cooldown) && passed(target.scaled_out, cooldown)
        }
        Wish::Stay => true,
    }
}

/// The capacity that a wish leads to.
pub(crate) fn granted(wish: Wish, limits: Limits, current: u32) -> u32 {
    match wish {
        Wish::Out(capacity) | Wish::In(capacity) => limits.clamp(capacity),
        Wish::Stay => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracking() -> Tracking {
        Tracking {
            target: 0.7,
            metric: Metric::Utilization { label: None },
            scale_out_cooldown: None,
            scale_in_cooldown: None,
            disable_scale_in: None,
        }
    }

    fn wish(values: &[f64], current: u32) -> Wish {
        let now = 100_000 * 60;
        let by_minute = values
            .iter()
            .rev()
            .zip(1..)
            .map(|(value, back)| (now - 60 * back, *value));
        tracking().wish(
            &by_minute.collect(),
            Timestamp::from_secs(now + 30),
            current,
        )
    }

    #[test]
    fn three_minutes_above_the_target_add_in_proportion() {
        assert_eq!(wish(&[0.8, 0.9], 10), Wish::Stay);
        assert_eq!(wish(&[0.8, 0.7, 0.9], 10), Wish::Stay);
        assert_eq!(wish(&[0.8, 0.8, 0.9], 10), Wish::Out(13));
        assert_eq!(wish(&[0.71, 0.71, 0.71], 10), Wish::Out(11));
        assert_eq!(wish(&[1.0, 1.0, 1.0], 7), Wish::Out(10));
    }

    #[test]
    fn fifteen_minutes_below_take_away_what_is_not_needed() {
        assert_eq!(wish(&[0.1; 14], 10), Wish::Stay);
        assert_eq!(wish(&[0.1; 15], 10), Wish::In(2));
        let mut values = [0.1; 15];
        values[3] = 0.62;
        assert_eq!(wish(&values, 10), Wish::In(9));
        values[3] = 0.65;
        assert_eq!(wish(&values, 10), Wish::Stay);
        assert_eq!(wish(&[0.0; 15], 10), Wish::In(0));
    }

    #[test]
    fn minutes_without_values_decide_nothing() {
        let now = Timestamp::from_secs(100_000 * 60);
        let minute = |back: i64| now.as_secs() - 60 * back;
        let values = BTreeMap::from([(minute(1), 0.9), (minute(2), 0.9), (minute(4), 0.9)]);
        assert_eq!(tracking().wish(&values, now, 10), Wish::Stay);
    }

    #[test]
    fn one_policy_may_add_and_all_must_agree_to_take_away() {
        use Wish::{In, Out, Stay};
        assert_eq!(agreed(&[In(3), Out(12), Out(11)]), Out(12));
        assert_eq!(agreed(&[In(3), In(5)]), In(5));
        assert_eq!(agreed(&[In(3), Stay]), Stay);
        assert_eq!(agreed(&[]), Stay);
    }
}
