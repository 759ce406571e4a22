//! What an update of an alias means for the environments that are provisioned for it.

use std::collections::BTreeMap;

use super::Moving;
use super::rules::{self, Refusal};
use crate::function::{Alias, Function, Target};

/// The version that an alias still leads to, while the one it is to lead to gets its environments.
/// The alias has a weight for it, which is not the client's.
pub fn in_transit(function: &Function, alias: &str) -> Option<u64> {
    let provisioned = function.attached.concurrency.provisioned.get(alias)?;
    provisioned
        .moving
        .filter(|moving| !moving.arrived)
        .map(|moving| moving.from)
}

/// Completes the update of an alias, which has been `before` and is to become `alias`, with the
/// weights that the client asked for (`None` if it named none). Where environments are provisioned
/// for it, it begins to move to its new version. True if it is on the way.
pub fn settle_alias(
    function: &mut Function,
    name: &str,
    before: Target,
    alias: &mut Alias,
    names_weights: bool,
) -> Result<bool, Refusal> {
    let transit = in_transit(function, name);
    let Some(provisioned) = function.attached.concurrency.provisioned.get(name) else {
        return Ok(false);
    };
    let mut moving = provisioned.moving;
    if alias.target == before {
        match transit {
            // The client's own weights, or their absence, put an end to ours.
            Some(_) if names_weights => moving = None,
            Some(from) => alias.weights = BTreeMap::from([(from, 1.0)]),
            None => {}
        }
    } else {
        let Target::Version(to) = alias.target else {
            return Err(Refusal::Unpublished);
        };
        if !alias.weights.is_empty() {
            return Err(Refusal::WeightsWithNewVersion);
        }
        rules::check_free_for_alias(function, name, to)?;
        let from = match (transit, before) {
            (Some(from), _) | (None, Target::Version(from)) => Some(from),
            (None, Target::Latest) => None,
        };
        moving = from.filter(|from| *from != to).map(|from| Moving {
            from,
            arrived: false,
        });
        if let Some(moving) = moving {
            alias.weights = BTreeMap::from([(moving.from, 1.0)]);
        }
    }
    if let Some(provisioned) = function.attached.concurrency.provisioned.get_mut(name) {
        provisioned.moving = moving;
    }
    Ok(moving.is_some_and(|moving| !moving.arrived))
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::super::Provisioned;
    use super::*;
    use crate::function::tests::function;

    fn provisioned(target: u64) -> Function {
        let mut function = function("f");
        for build in ["a", "b", "c"] {
            function.latest_mut().build = build.into();
            function.publish(None, Timestamp::default());
        }
        let alias = Alias {
            description: String::new(),
            target: Target::Version(target),
            weights: BTreeMap::new(),
            revision_id: String::new(),
        };
        function.aliases.insert("live".into(), alias);
        let one = Provisioned {
            requested: 1,
            modified: Timestamp::default(),
            moving: None,
        };
        let concurrency = &mut function.attached.concurrency;
        concurrency.provisioned.insert("live".into(), one);
        function
    }

    /// As `UpdateAlias` does it.
    fn update(function: &mut Function, target: Target, weights: Option<&[(u64, f64)]>) -> bool {
        let before = function.aliases["live"].clone();
        let mut alias = before.clone();
        if in_transit(function, "live").is_some() {
            alias.weights.clear();
        }
        alias.target = target;
        if let Some(weights) = weights {
            alias.weights = weights.iter().copied().collect();
        }
        let names = weights.is_some();
        let moves = settle_alias(function, "live", before.target, &mut alias, names).unwrap();
        function.aliases.insert("live".into(), alias);
        moves
    }

    fn weights(function: &Function) -> Vec<(u64, f64)> {
        let weights = &function.aliases["live"].weights;
        weights
            .iter()
            .map(|(number, weight)| (*number, *weight))
            .collect()
    }

    #[test]
    fn old_version_keeps_all_invocations_until_the_new_one_is_ready() {
        let mut function = provisioned(1);
        assert!(update(&mut function, Target::Version(2), None));
        assert_eq!(weights(&function), [(1, 1.0)]);
        // A change of something else does not disturb it, nor does another new version.
        assert!(update(&mut function, Target::Version(2), None));
        assert_eq!(weights(&function), [(1, 1.0)]);
        assert!(update(&mut function, Target::Version(3), None));
        assert_eq!(weights(&function), [(1, 1.0)]);
    }

    #[test]
    fn way_back_is_short() {
        let mut function = provisioned(1);
        update(&mut function, Target::Version(2), None);
        assert!(!update(&mut function, Target::Version(1), None));
        assert_eq!(weights(&function), []);
        assert_eq!(in_transit(&function, "live"), None);
    }

    #[test]
    fn weights_of_the_client_end_the_move() {
        let mut function = provisioned(1);
        update(&mut function, Target::Version(2), None);
        assert!(!update(&mut function, Target::Version(2), Some(&[])));
        assert_eq!(weights(&function), []);
        assert!(!update(
            &mut function,
            Target::Version(2),
            Some(&[(3, 0.5)])
        ));
        assert_eq!(weights(&function), [(3, 0.5)]);
    }

    #[test]
    fn alias_does_not_move_to_where_it_cannot_have_environments() {
        let mut function = provisioned(1);
        let mut settle = |target, weights: &[(u64, f64)]| {
            let mut alias = function.aliases["live"].clone();
            alias.target = target;
            alias.weights = weights.iter().copied().collect();
            settle_alias(&mut function, "live", Target::Version(1), &mut alias, false)
        };
        assert_eq!(settle(Target::Latest, &[]), Err(Refusal::Unpublished));
        assert_eq!(
            settle(Target::Version(2), &[(3, 0.5)]),
            Err(Refusal::WeightsWithNewVersion)
        );
    }
}
