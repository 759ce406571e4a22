//! What a function is: `$LATEST`, the immutable versions published from it, aliases and tags.
//!
//! A [`Function`] is a value. Whoever changes one changes a copy, which [`crate::functions`] then
//! writes and puts in the old one's place; readers keep what they have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use clock::Timestamp;
use model::{AccountId, Region};
use serde::{Deserialize, Serialize};
use store::{Digest, Revision};

use crate::attached::Attached;
use crate::error::{Error, InvalidParameter};
use crate::name::{LATEST, Qualifier, function_arn};
use crate::settings::Settings;

/// The account and region that a function belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    pub account: AccountId,
    pub region: Region,
}

/// What tells one function from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionId {
    pub scope: Scope,
    pub name: String,
}

impl FunctionId {
    /// The ARN without a qualifier.
    pub fn arn(&self) -> String {
        function_arn(&self.scope.region, self.scope.account, &self.name)
    }

    pub fn qualified_arn(&self, qualifier: impl fmt::Display) -> String {
        format!("{}:{qualifier}", self.arn())
    }

    /// The answer to someone who asks for what is not there.
    pub fn not_found(&self, qualifier: Option<&Qualifier>) -> Error {
        let arn = match qualifier {
            Some(qualifier) => self.qualified_arn(qualifier),
            None => self.arn(),
        };
        Error::FunctionNotFound { arn }
    }
}

#[derive(Debug, Clone)]
pub struct Function {
    pub id: FunctionId,
    pub latest: Arc<Version>,
    pub versions: BTreeMap<u64, Arc<Version>>,
    /// Numbers are never reused, not even after the function was deleted and created anew.
    pub next_version: u64,
    /// Versions below belonged to an earlier function of the same name.
    pub first_version: u64,
    pub aliases: BTreeMap<String, Alias>,
    pub tags: BTreeMap<String, String>,
    pub attached: Attached,
    /// Of the stored record that this is; the condition of the next write.
    pub revision: Revision,
}

/// `$LATEST` or a published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// `None` for `$LATEST`.
    pub number: Option<u64>,
    pub settings: Settings,
    pub code: Code,
    /// What clients see, and compare. Changes with every change of state, too.
    pub revision_id: String,
    /// Names the combination of code and settings: environments started for the same build serve
    /// on, and publishing the same build twice publishes nothing.
    pub build: String,
    pub modified: Timestamp,
    pub state: State,
    #[serde(default)]
    pub snapshot: Snapshot,
    /// None until the first update of `$LATEST`, or its activation, has settled.
    pub last_update: Option<Update>,
    #[serde(skip)]
    pub running: Running,
}

/// What the running server knows about a version: neither stored nor compared.
#[derive(Debug, Default)]
pub struct Running {
    /// The form in which the invoker takes the version, built at the first invocation.
    pub function: OnceLock<Arc<invoker::Function>>,
    /// When it was last invoked, in milliseconds since the epoch.
    pub used_ms: AtomicI64,
}

impl Clone for Running {
    /// A copy is made to become something else, so what was built from the original goes.
    fn clone(&self) -> Self {
        let used_ms = AtomicI64::new(self.used_ms.load(Ordering::Relaxed));
        Self {
            function: OnceLock::new(),
            used_ms,
        }
    }
}

impl PartialEq for Running {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    #[serde(with = "digest_text")]
    pub digest: Digest,
    /// Size of the zip.
    pub size: u64,
}

/// <https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being created, or brought back from idleness.
    Pending {
        restoring: bool,
    },
    Active,
    Inactive,
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    InProgress,
    Successful,
    Failed(Failure),
}

/// Why a version does not work, as `StateReason` and `StateReasonCode` tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: String,
    #[serde(default = "internal_error")]
    pub code: String,
}

fn internal_error() -> String {
    "InternalError".to_owned()
}

/// What is known of a version's snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// Nobody has asked for one.
    #[default]
    None,
    /// A published version waits for it.
    Wanted,
    Taken,
    /// The function holds something that cannot be frozen, so it is cold-started.
    Unfit {
        reason: String,
    },
    /// The server could not make it. It tries again when it is started anew.
    Missing {
        reason: String,
    },
}

/// A named pointer to a version, or to two with a ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alias {
    pub description: String,
    pub target: Target,
    /// The share of invocations that goes elsewhere, by version.
    pub weights: BTreeMap<u64, f64>,
    pub revision_id: String,
}

/// What an alias may point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Latest,
    Version(u64),
}

impl Version {
    /// `$LATEST` or the number.
    pub fn name(&self) -> String {
        self.number
            .map_or_else(|| LATEST.to_owned(), |number| number.to_string())
    }

    /// What it needs unpacked: its code, and its layers.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        let layers = self.settings.layers.iter().map(|layer| layer.code.digest);
        std::iter::once(self.code.digest).chain(layers)
    }

    /// Gives the version a new revision id, since something about it has changed.
    pub fn touch(&mut self) {
        self.revision_id = new_id();
    }

    fn settle(&mut self, failure: Option<&Failure>) {
        if let State::Pending { .. } = self.state {
            self.state = match failure.cloned() {
                None => State::Active,
                Some(failure) => State::Failed(failure),
            };
        }
        self.last_update = Some(match failure.cloned() {
            None => Update::Successful,
            Some(failure) => Update::Failed(failure),
        });
        self.touch();
    }

    /// Ends the wait for a snapshot. One that nobody waited for changes nothing that clients
    /// compare.
    pub fn settle_snapshot(&mut self, snapshot: Snapshot, failure: Option<&Failure>) {
        let waited = self.waits_for_snapshot();
        self.snapshot = snapshot;
        if waited {
            self.settle(failure);
        }
    }

    pub fn is_settling(&self) -> bool {
        let pending = matches!(self.state, State::Pending { .. }) && !self.waits_for_snapshot();
        pending || matches!(self.last_update, Some(Update::InProgress))
    }

    /// Whether all is done but the snapshot.
    pub fn waits_for_snapshot(&self) -> bool {
        matches!(self.state, State::Pending { .. }) && self.snapshot == Snapshot::Wanted
    }

    /// Whether its configuration asks for a snapshot, and it can have one: only published versions
    /// can.
    pub fn asks_for_snapshot(&self) -> bool {
        self.settings.snap_start && self.number.is_some()
    }
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "Pending",
            Self::Active => "Active",
            Self::Inactive => "Inactive",
            Self::Failed(_) => "Failed",
        }
    }
}

impl Function {
    /// `$LATEST` and all published versions, in the order in which AWS lists them.
    pub fn all_versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        std::iter::once(&self.latest).chain(self.versions.values())
    }

    /// The version that a qualifier leads to; for an alias, the one that gets the larger share.
    pub fn version(&self, qualifier: Option<&Qualifier>) -> Result<&Arc<Version>, Error> {
        let found = match qualifier {
            None | Some(Qualifier::Latest) => Some(&self.latest),
            Some(Qualifier::Version(number)) => self.versions.get(number),
            Some(Qualifier::Alias(name)) => self
                .aliases
                .get(name)
                .and_then(|alias| self.target(alias.target)),
        };
        found.ok_or_else(|| self.id.not_found(qualifier))
    }

    pub fn target(&self, target: Target) -> Option<&Arc<Version>> {
        match target {
            Target::Latest => Some(&self.latest),
            Target::Version(number) => self.versions.get(&number),
        }
    }

    /// Changes one version in this copy.
    pub fn version_mut(&mut self, number: Option<u64>) -> Option<&mut Version> {
        match number {
            None => Some(Arc::make_mut(&mut self.latest)),
            Some(number) => self.versions.get_mut(&number).map(Arc::make_mut),
        }
    }

    /// Ends what is under way for every version: creations, restorations and updates. A version
    /// that waits for its snapshot goes on waiting, unless there is a failure.
    pub fn settle(&mut self, failure: Option<&str>) {
        let failure = failure.map(|reason| Failure {
            reason: reason.to_owned(),
            code: internal_error(),
        });
        let numbers: Vec<Option<u64>> = self
            .all_versions()
            .filter(|version| {
                version.is_settling() || failure.is_some() && version.waits_for_snapshot()
            })
            .map(|version| version.number)
            .collect();
        for number in numbers {
            if let Some(version) = self.version_mut(number) {
                version.settle(failure.as_ref());
            }
        }
    }

    pub fn alias_arn(&self, name: &str) -> String {
        self.id.qualified_arn(name)
    }

    /// Refuses a change of `$LATEST` while an earlier one has not settled.
    pub fn check_settled(&self) -> Result<(), Error> {
        if let State::Pending { .. } = self.latest.state {
            return Err(Error::NotReady {
                state: self.latest.state.name(),
            });
        }
        if let Some(Update::InProgress) = self.latest.last_update {
            return Err(Error::UpdateInProgress { arn: self.id.arn() });
        }
        Ok(())
    }

    /// Refuses a change that was meant for another revision of `$LATEST`.
    pub fn check_revision(&self, revision_id: Option<&str>) -> Result<(), Error> {
        match revision_id {
            Some(expected) if expected != self.latest.revision_id => Err(Error::RevisionMismatch),
            _ => Ok(()),
        }
    }

    /// Changes `$LATEST` in this copy.
    pub fn latest_mut(&mut self) -> &mut Version {
        Arc::make_mut(&mut self.latest)
    }

    /// Starts an update of `$LATEST` with new settings or code.
    pub fn update_latest(&mut self, settings: Settings, code: Code, now: Timestamp) {
        let latest = self.latest_mut();
        if latest.settings != settings || latest.code != code {
            latest.build = new_id();
            latest.snapshot = Snapshot::None;
        }
        latest.settings = settings;
        latest.code = code;
        latest.modified = now;
        latest.last_update = Some(Update::InProgress);
        latest.touch();
    }

    /// Publishes `$LATEST` as it is. Nothing happens if the last version has the same build.
    ///
    /// `description` replaces that of `$LATEST` in the new version.
    pub fn publish(&mut self, description: Option<String>, now: Timestamp) -> Arc<Version> {
        let last = self
            .next_version
            .checked_sub(1)
            .and_then(|last| self.versions.get(&last));
        if let Some(last) = last.filter(|last| last.build == self.latest.build) {
            return Arc::clone(last);
        }
        let number = self.next_version;
        self.next_version += 1;
        let mut version = Version::clone(&self.latest);
        version.number = Some(number);
        version.modified = now;
        if let Some(description) = description {
            version.settings.description = description;
        }
        version.touch();
        // A version is published with `$LATEST`'s state; an update still in progress there means
        // that the version is still being created here.
        if version.last_update == Some(Update::InProgress) {
            version.state = State::Pending { restoring: false };
            version.last_update = None;
        }
        version.snapshot = Snapshot::None;
        if version.asks_for_snapshot() {
            version.snapshot = Snapshot::Wanted;
            version.state = State::Pending { restoring: false };
            version.last_update = None;
        }
        let version = Arc::new(version);
        self.versions.insert(number, Arc::clone(&version));
        self.latest_mut().touch();
        version
    }

    /// Refuses a qualifier that an alias uses; removes it otherwise. Removing none is no error.
    pub fn remove_version(&mut self, number: u64) -> Result<Option<Arc<Version>>, Error> {
        let users: Vec<&str> = self
            .aliases
            .iter()
            .filter(|(_, alias)| {
                alias.target == Target::Version(number) || alias.weights.contains_key(&number)
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if users.is_empty() {
            let qualifier = number.to_string();
            self.attached.event_invoke.remove(&qualifier);
            self.attached.policies.drop_qualifier(&qualifier);
            self.attached.runtime_management.remove(&qualifier);
            return Ok(self.versions.remove(&number));
        }
        Err(Error::VersionInUse {
            aliases: users.join(", "),
        })
    }

    pub fn check_code_sha256(&self, given: Option<&str>) -> Result<(), Error> {
        let current = self.latest.code.sha256();
        match given {
            Some(given) if given != current => Err(InvalidParameter::CodeChanged {
                given: given.to_owned(),
                current,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

impl Code {
    /// As AWS writes it: base64.
    pub fn sha256(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.digest.as_bytes())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Version(number) => write!(f, "{number}"),
        }
    }
}

/// A fresh identifier in AWS's form.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

mod digest_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use store::Digest;

    pub fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An active function without versions.
    pub fn function(name: &str) -> Function {
        let latest = Version {
            number: None,
            settings: Settings::sample(),
            code: Code {
                digest: Digest::from_bytes([7; 32]),
                size: 100,
            },
            revision_id: new_id(),
            build: new_id(),
            modified: Timestamp::from_secs(1_700_000_000),
            state: State::Active,
            snapshot: Snapshot::None,
            last_update: Some(Update::Successful),
            running: Running::default(),
        };
        Function {
            id: FunctionId {
                scope: Scope {
                    account: "123456789012".parse().unwrap(),
                    region: "eu-west-1".parse().unwrap(),
                },
                name: name.to_owned(),
            },
            latest: Arc::new(latest),
            versions: BTreeMap::new(),
            next_version: 1,
            first_version: 1,
            aliases: BTreeMap::new(),
            tags: BTreeMap::new(),
            attached: Attached::default(),
            revision: Revision::default(),
        }
    }

    fn update(function: &mut Function, description: &str) {
        let mut settings = function.latest.settings.clone();
        settings.description = description.to_owned();
        let code = function.latest.code;
        function.update_latest(settings, code, Timestamp::default());
        function.latest_mut().last_update = Some(Update::Successful);
    }

    #[test]
    fn publishing_an_unchanged_function_publishes_nothing() {
        let mut function = function("f");
        let first = function.publish(Some("one".into()), Timestamp::default());
        assert_eq!(
            (first.number, first.settings.description.as_str()),
            (Some(1), "one")
        );
        let revision = function.latest.revision_id.clone();
        let again = function.publish(Some("two".into()), Timestamp::default());
        assert_eq!(again, first);
        assert_eq!(function.latest.revision_id, revision);

        // The same settings once more are no change either.
        update(&mut function, "");
        assert_eq!(function.publish(None, Timestamp::default()).number, Some(1));
        update(&mut function, "changed");
        assert_eq!(function.publish(None, Timestamp::default()).number, Some(2));
    }

    #[test]
    fn a_deleted_versions_number_is_not_given_again() {
        let mut function = function("f");
        function.publish(None, Timestamp::default());
        assert!(function.remove_version(1).unwrap().is_some());
        assert!(function.remove_version(1).unwrap().is_none());
        assert_eq!(function.publish(None, Timestamp::default()).number, Some(2));
    }

    #[test]
    fn a_version_that_an_alias_uses_cannot_be_removed() {
        let mut function = function("f");
        function.publish(None, Timestamp::default());
        update(&mut function, "changed");
        function.publish(None, Timestamp::default());
        let alias = Alias {
            description: String::new(),
            target: Target::Version(1),
            weights: BTreeMap::from([(2, 0.5)]),
            revision_id: new_id(),
        };
        function.aliases.insert("live".into(), alias);
        for number in [1, 2] {
            let error = function.remove_version(number).unwrap_err();
            assert_eq!(
                error.to_string(),
                "Unable to delete version because the following aliases reference it: [live]"
            );
        }
    }

    #[test]
    fn changes_wait_for_the_one_before() {
        let mut function = function("f");
        assert!(function.check_settled().is_ok());
        function.latest_mut().last_update = Some(Update::InProgress);
        assert_eq!(
            function.check_settled().unwrap_err().to_string(),
            "The operation cannot be performed at this time. An update is in progress for \
             resource: arn:aws:lambda:eu-west-1:123456789012:function:f"
        );
        function.latest_mut().state = State::Pending { restoring: false };
        assert!(matches!(
            function.check_settled(),
            Err(Error::NotReady { state: "Pending" })
        ));

        let revision = function.latest.revision_id.clone();
        function.settle(None);
        assert!(function.check_settled().is_ok());
        assert_eq!(function.latest.state, State::Active);
        assert_ne!(function.latest.revision_id, revision);
    }

    #[test]
    fn a_version_with_snap_start_waits_for_its_snapshot() {
        let mut function = function("f");
        function.latest_mut().settings.snap_start = true;
        let version = function.publish(None, Timestamp::default());
        assert_eq!(version.state, State::Pending { restoring: false });
        assert_eq!(version.last_update, None);
        assert_eq!(function.latest.snapshot, Snapshot::None);
        function.settle(None);
        assert!(function.versions[&1].waits_for_snapshot());

        let version = function.version_mut(Some(1)).unwrap();
        let revision = version.revision_id.clone();
        version.settle_snapshot(Snapshot::Taken, None);
        assert_eq!(version.state, State::Active);
        assert_eq!(version.last_update, Some(Update::Successful));
        assert_ne!(version.revision_id, revision);
    }

    #[test]
    fn a_version_whose_code_is_lost_does_not_wait_for_a_snapshot() {
        let mut function = function("f");
        function.latest_mut().settings.snap_start = true;
        function.publish(None, Timestamp::default());
        function.settle(Some("gone"));
        assert_eq!(function.versions[&1].state.name(), "Failed");
    }

    #[test]
    fn a_snapshot_of_latest_is_no_change_to_clients() {
        let mut function = function("f");
        let before = Version::clone(&function.latest);
        function.latest_mut().settle_snapshot(Snapshot::Taken, None);
        let latest = Version::clone(&function.latest);
        assert_eq!(
            (&latest.revision_id, &latest.state),
            (&before.revision_id, &before.state)
        );
        update(&mut function, "changed");
        assert_eq!(function.latest.snapshot, Snapshot::None);
    }

    #[test]
    fn unknown_qualifiers_are_named_in_the_answer() {
        let function = function("f");
        let missing = Qualifier::from("1221");
        assert_eq!(
            function.version(Some(&missing)).unwrap_err().to_string(),
            "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:f:1221"
        );
    }
}
