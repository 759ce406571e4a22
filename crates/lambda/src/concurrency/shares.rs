//! What follows for each version from what is configured for versions and aliases.

use std::collections::BTreeMap;

use super::{Moving, Provisioned};
use crate::function::{Function, Target};
use crate::name::Qualifier;

/// Environments of one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub wanted: u32,
    /// They take from the concurrency of the function or the account. An alias that moves has
    /// environments twice, and only those that it leads to count.
    pub counted: bool,
}

/// The environments of all versions that are to have some.
pub fn shares(function: &Function) -> BTreeMap<u64, Share> {
    let mut shares = BTreeMap::<u64, Share>::new();
    for (qualifier, provisioned) in &function.attached.concurrency.provisioned {
        for (number, share) in shares_of(function, qualifier, provisioned) {
            let sum = shares.entry(number).or_default();
            sum.wanted = sum.wanted.saturating_add(share.wanted);
            sum.counted |= share.counted;
        }
    }
    shares.retain(|number, share| share.wanted > 0 && function.versions.contains_key(number));
    shares
}

fn shares_of(function: &Function, qualifier: &str, provisioned: &Provisioned) -> Vec<(u64, Share)> {
    let share = |wanted, counted| Share { wanted, counted };
    let all = provisioned.requested;
    match (leads_to(function, qualifier, all), provisioned.moving) {
        (to, None) => to
            .into_iter()
            .map(|(number, wanted)| (number, share(wanted, true)))
            .collect(),
        (to, Some(Moving { from, arrived })) => to
            .into_iter()
            .map(|(number, wanted)| (number, share(wanted, arrived)))
            .chain([(from, share(all, !arrived))])
            .collect(),
    }
}

/// The versions to which a qualifier leads, or will when it has moved, and how many of `all` each
/// gets. An alias with weights gives each version its part, rounded up.
pub fn leads_to(function: &Function, qualifier: &str, all: u32) -> Vec<(u64, u32)> {
    let name = match Qualifier::from(qualifier) {
        Qualifier::Version(number) => return vec![(number, all)],
        Qualifier::Alias(name) => name,
        Qualifier::Latest => return Vec::new(),
    };
    let Some(alias) = function.aliases.get(&name) else {
        return Vec::new();
    };
    let Target::Version(main) = alias.target else {
        return Vec::new();
    };
    if super::in_transit(function, &name).is_some() {
        return vec![(main, all)];
    }
    let mut left = 1.0;
    let mut parts = Vec::new();
    for (number, weight) in &alias.weights {
        parts.push((*number, part(all, *weight)));
        left -= weight;
    }
    parts.push((main, part(all, left)));
    parts.retain(|(_, wanted)| *wanted > 0);
    parts
}

fn part(all: u32, weight: f64) -> u32 {
    // A product that should be whole may be a little more.
    let exact = (f64::from(all) * weight - 1e-6).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the two numbers it lies between"
    )]
    let part = exact.clamp(0.0, f64::from(all)) as u32;
    part
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::*;
    use crate::function::Alias;
    use crate::function::tests::function;

    fn with_alias(weights: &[(u64, f64)], moving: Option<Moving>) -> Function {
        let mut function = function("f");
        function.publish(None, Timestamp::default());
        function.latest_mut().build = "other".into();
        function.publish(None, Timestamp::default());
        let alias = Alias {
            description: String::new(),
            target: Target::Version(2),
            weights: weights.iter().copied().collect(),
            revision_id: String::new(),
        };
        function.aliases.insert("live".into(), alias);
        let provisioned = Provisioned {
            requested: 10,
            modified: Timestamp::default(),
            moving,
        };
        let concurrency = &mut function.attached.concurrency;
        concurrency.provisioned.insert("live".into(), provisioned);
        function
    }

    fn listed(function: &Function) -> Vec<(u64, u32, bool)> {
        shares(function)
            .into_iter()
            .map(|(number, share)| (number, share.wanted, share.counted))
            .collect()
    }

    #[test]
    fn alias_gives_all_to_its_version() {
        assert_eq!(listed(&with_alias(&[], None)), [(2, 10, true)]);
    }

    #[test]
    fn weights_divide_the_environments() {
        assert_eq!(
            listed(&with_alias(&[(1, 0.3)], None)),
            [(1, 3, true), (2, 7, true)]
        );
        assert_eq!(
            listed(&with_alias(&[(1, 0.01)], None)),
            [(1, 1, true), (2, 10, true)]
        );
        assert_eq!(listed(&with_alias(&[(1, 1.0)], None)), [(1, 10, true)]);
    }

    #[test]
    fn both_versions_have_all_environments_while_an_alias_moves() {
        let moving = |arrived| Some(Moving { from: 1, arrived });
        assert_eq!(
            listed(&with_alias(&[(1, 1.0)], moving(false))),
            [(1, 10, true), (2, 10, false)]
        );
        assert_eq!(
            listed(&with_alias(&[], moving(true))),
            [(1, 10, false), (2, 10, true)]
        );
    }

    #[test]
    fn deleted_versions_get_none() {
        let mut function = with_alias(
            &[],
            Some(Moving {
                from: 1,
                arrived: true,
            }),
        );
        function.versions.remove(&1);
        assert_eq!(listed(&function), [(2, 10, true)]);
    }
}
