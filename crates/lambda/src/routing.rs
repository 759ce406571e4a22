//! Which version an alias leads to: rules for its weights, and the draw.

use std::collections::BTreeMap;

use crate::error::{Error, InvalidParameter};
use crate::function::{Alias, Function, State, Target};
use crate::name::Qualifier;

/// Checks the weights of an alias that points to `target`. Form and range of keys and values have
/// been checked with the interface's constraints.
pub fn check(
    function: &Function,
    target: Target,
    weights: &BTreeMap<String, f64>,
) -> Result<BTreeMap<u64, f64>, Error> {
    if weights.len() > 1 {
        return Err(InvalidParameter::TooManyWeights.into());
    }
    let mut checked = BTreeMap::new();
    for (version, weight) in weights {
        let qualifier = Qualifier::from(version.as_str());
        if *version == target.to_string() {
            let version = version.clone();
            return Err(InvalidParameter::WeightForOwnVersion { version }.into());
        }
        if target == Target::Latest {
            return Err(InvalidParameter::WeightedLatest.into());
        }
        match qualifier {
            Qualifier::Version(number) if function.versions.contains_key(&number) => {
                checked.insert(number, *weight);
            }
            _ => return Err(function.id.not_found(Some(&qualifier))),
        }
    }
    Ok(checked)
}

/// What an alias may point to: a version that exists, or `$LATEST`.
pub fn target(function: &Function, version: &str) -> Result<Target, Error> {
    match Qualifier::from(version) {
        Qualifier::Latest => Ok(Target::Latest),
        Qualifier::Version(number) => match function.versions.get(&number).map(|v| &v.state) {
            // A version that can never run is refused; one that will be ready in a moment is not.
            Some(State::Failed(failure)) => Err(Error::FailedTarget {
                code: failure.code.clone(),
            }),
            Some(_) => Ok(Target::Version(number)),
            None => Err(function.id.not_found(Some(&Qualifier::Version(number)))),
        },
        other => Err(function.id.not_found(Some(&other))),
    }
}

/// The version for one invocation. `draw` is uniformly distributed in [0, 1).
pub fn choose(alias: &Alias, draw: f64) -> Target {
    let mut upper = 0.0;
    for (number, weight) in &alias.weights {
        upper += weight;
        if draw < upper {
            return Target::Version(*number);
        }
    }
    alias.target
}

/// A uniformly distributed number in [0, 1).
pub fn draw() -> Result<f64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    // A double holds 53 bits; more would round up to 1.
    let bits = u64::from_le_bytes(bytes) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    Ok(bits as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    fn alias(weight: f64) -> Alias {
        Alias {
            description: String::new(),
            target: Target::Version(1),
            weights: BTreeMap::from([(2, weight)]),
            revision_id: String::new(),
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let alias = alias(0.3);
        assert_eq!(choose(&alias, 0.0), Target::Version(2));
        assert_eq!(choose(&alias, 0.299), Target::Version(2));
        assert_eq!(choose(&alias, 0.3), Target::Version(1));
        let rounds = 20_000_u32;
        let hits = (0..rounds)
            .filter(|_| choose(&alias, draw().unwrap()) == Target::Version(2))
            .count();
        let share = f64::from(u32::try_from(hits).unwrap()) / f64::from(rounds);
        // Five standard deviations: fails once in a few million runs.
        assert!((share - 0.3).abs() < 0.0162, "{share}");
    }

    #[test]
    fn weights_are_refused_with_aws_reasons() {
        let mut function = function("f");
        function.publish(None, clock::Timestamp::default());
        let check = |target, weights: &[(&str, f64)]| {
            let weights = weights
                .iter()
                .map(|(key, value)| ((*key).to_owned(), *value))
                .collect();
            check(&function, target, &weights).map_err(|error| error.to_string())
        };
        let one = Target::Version(1);
        assert_eq!(check(one, &[]), Ok(BTreeMap::new()));
        assert!(
            check(one, &[("2", 0.5), ("3", 0.5)])
                .unwrap_err()
                .contains("greater than 1")
        );
        assert!(
            check(one, &[("1", 0.5)])
                .unwrap_err()
                .contains("is already included")
        );
        assert!(
            check(Target::Latest, &[("1", 0.5)])
                .unwrap_err()
                .starts_with("$LATEST is not")
        );
        assert!(
            check(one, &[("2", 0.5)])
                .unwrap_err()
                .ends_with(":function:f:2")
        );
    }
}
