//! One state machine, with its versions and aliases.

use std::collections::BTreeMap;

use clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::Kind;

/// A state machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub arn: String,
    pub name: String,
    pub kind: Kind,
    pub created: Timestamp,
    /// The id of the revision that is current.
    pub revision: String,
    /// The highest number a version has had. Numbers are never given again.
    pub last_version: u64,
    pub versions: BTreeMap<u64, Version>,
    pub aliases: BTreeMap<String, Alias>,
    /// In the order in which they came.
    pub tags: Tags,
    /// How the request that made it asked for a version: part of what makes a second one the same.
    pub creation: Creation,
    /// A client has said that the service's own key is to be used.
    pub own_key: bool,
    /// It goes with its last execution.
    pub deleting: bool,
}

/// Tags in the order in which they came.
pub type Tags = Vec<(String, String)>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub publish: bool,
    pub description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub revision: String,
    pub description: Option<String>,
    pub created: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    pub description: Option<String>,
    /// One version or two; the weights add up to 100.
    pub routes: Vec<Route>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

/// How many of a hundred executions run a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub version: u64,
    pub weight: u8,
}

impl Machine {
    /// What is made of a revision that has just been created.
    pub fn new(arn: String, name: String, kind: Kind, revision: String, now: Timestamp) -> Self {
        Self {
            arn,
            name,
            kind,
            created: now,
            revision,
            last_version: 0,
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            tags: Tags::new(),
            creation: Creation::default(),
            own_key: false,
            deleting: false,
        }
    }

    /// Makes a version of the current revision. There is at most one of each: if there is one, it
    /// stays as it is.
    pub fn publish(&mut self, description: Option<String>, now: Timestamp) -> u64 {
        if let Some(number) = self.version_of(&self.revision) {
            return number;
        }
        self.last_version += 1;
        let version = Version {
            revision: self.revision.clone(),
            description,
            created: now,
        };
        self.versions.insert(self.last_version, version);
        self.last_version
    }

    pub fn version_of(&self, revision: &str) -> Option<u64> {
        let mut versions = self.versions.iter();
        let found = versions.find(|(_, version)| version.revision == revision);
        found.map(|(number, _)| *number)
    }

    /// The ARN of a version or an alias.
    pub fn qualified(&self, qualifier: impl std::fmt::Display) -> String {
        format!("{}:{qualifier}", self.arn)
    }

    /// The aliases that lead to a version, by name.
    pub fn aliases_of(&self, version: u64) -> Vec<&str> {
        let leads = |alias: &Alias| alias.routes.iter().any(|route| route.version == version);
        self.aliases
            .iter()
            .filter(|(_, alias)| leads(alias))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

impl Alias {
    /// The version for one execution. `percentile` is between 0 and 99.
    pub fn version(&self, percentile: u8) -> Option<u64> {
        let mut passed = 0;
        let chosen = self.routes.iter().find(|route| {
            passed += route.weight;
            percentile < passed
        });
        chosen.map(|route| route.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let arn = "arn:aws:states:eu-west-1:123456789012:stateMachine:m".to_owned();
        Machine::new(
            arn,
            "m".to_owned(),
            Kind::Standard,
            "r1".to_owned(),
            Timestamp::from_secs(0),
        )
    }

    #[test]
    fn a_revision_has_one_version_and_numbers_are_never_given_again() {
        let now = Timestamp::from_secs(1);
        let mut machine = machine();
        assert_eq!(machine.publish(Some("a".to_owned()), now), 1);
        assert_eq!(machine.publish(Some("b".to_owned()), now), 1);
        assert_eq!(machine.versions[&1].description.as_deref(), Some("a"));
        machine.versions.remove(&1);
        assert_eq!(machine.publish(None, now), 2);
        "r2".clone_into(&mut machine.revision);
        assert_eq!(machine.publish(None, now), 3);
    }

    #[test]
    fn weights_share_out_a_hundred_executions() {
        let route = |version, weight| Route { version, weight };
        let alias = |routes| Alias {
            description: None,
            routes,
            created: Timestamp::from_secs(0),
            updated: Timestamp::from_secs(0),
        };
        let split = alias(vec![route(1, 30), route(2, 70)]);
        let ones = (0..100).filter(|p| split.version(*p) == Some(1)).count();
        let twos = (0..100).filter(|p| split.version(*p) == Some(2)).count();
        assert_eq!((ones, twos), (30, 70));
        let none = alias(vec![route(1, 0), route(2, 100)]);
        assert!((0..100).all(|p| none.version(p) == Some(2)));
    }
}
