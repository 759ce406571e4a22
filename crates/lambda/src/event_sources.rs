//! Event source mappings: which queue or stream is to be read on behalf of which function.
//!
//! The mappings are complete: validated, stored, listed, tagged, with AWS's states. What they stand
//! for is not there yet: nothing polls a source, and so no event reaches a function through one. The
//! log says so whenever a mapping is created or enabled. Whether a source exists is not looked up.
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html>

mod answer;
mod error;
mod filter;
mod settings;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clock::Timestamp;
use model::AccountId;
use protocol::Caller;
use serde::{Deserialize, Serialize};

pub use answer::of;
pub use error::EventSourceError;
pub use filter::is_pattern;
pub use settings::{Changes, Origin, Settings};
pub use source::{Kind, Source};

use crate::error::Error;
use crate::function::{FunctionId, Scope};
use crate::service::Lambda;

const PREFIX: &str = "event-source-mapping:";

/// One mapping. Its id, a UUID, is its key in the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    pub function_name: String,
    /// With the qualifier, if the mapping was created with one.
    pub function_arn: String,
    pub source: Source,
    pub settings: Settings,
    pub enabled: bool,
    pub modified: Timestamp,
    /// What is under way, or was until `settled`.
    pub transition: Transition,
    pub settled: Timestamp,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    Creating,
    Enabling,
    Disabling,
    Updating,
    Deleting,
}

impl Transition {
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Enabling => "Enabling",
            Self::Disabling => "Disabling",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
        }
    }
}

impl Mapping {
    /// The state as clients see it.
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.in_transition(now) {
            return self.transition.name();
        }
        if self.enabled { "Enabled" } else { "Disabled" }
    }

    /// Refuses a change while another is under way.
    pub fn check_settled(&self, now: Timestamp, doing: &'static str) -> Result<(), Error> {
        if self.in_transition(now) {
            return Err(EventSourceError::InUse { doing }.into());
        }
        Ok(())
    }

    fn in_transition(&self, now: Timestamp) -> bool {
        self.transition == Transition::Deleting || now < self.settled
    }

    /// The answer to somebody who wants to add `other` beside this mapping.
    pub fn conflict(&self, id: &str, other: &Self) -> Option<Error> {
        if self.function_arn != other.function_arn {
            return None;
        }
        let (id, topics) = (id.to_owned(), other.settings.topics.join(","));
        let function = other.function_name.clone();
        let error = match (&self.source, &other.source) {
            (Source::Arn(arn), Source::Arn(same)) if arn == same => {
                let arn = arn.clone();
                match other.source.kind() {
                    Some(Kind::Queue { .. }) => EventSourceError::QueueTaken { arn, function, id },
                    _ => EventSourceError::SourceTaken { arn, function, id },
                }
            }
            (Source::Kafka(brokers), Source::Kafka(others)) => {
                let shared = |one: &String| others.contains(one);
                let topic = |one: &String| other.settings.topics.contains(one);
                if !brokers.iter().any(shared) || !self.settings.topics.iter().any(topic) {
                    return None;
                }
                EventSourceError::TopicTaken {
                    brokers: others.join(","),
                    function: other.function_arn.clone(),
                    topics,
                    id,
                }
            }
            _ => return None,
        };
        Some(error.into())
    }
}

impl Lambda {
    /// The scope of a caller's own mappings, and the mapping with an id there.
    pub(crate) fn mapping(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<(Scope, Arc<Mapping>), Error> {
        let scope = Scope {
            account: caller.account,
            region: caller.region.clone(),
        };
        let mapping = self.mappings.get(&scope, id);
        mapping
            .map(|mapping| (scope, mapping))
            .ok_or(Error::ResourceNotFound)
    }

    /// The function that a mapping is for, and its ARN as the mapping shows it.
    pub(crate) fn mapped_function(
        &self,
        caller: &Caller,
        action: &'static str,
        name: &str,
    ) -> Result<(FunctionId, String), Error> {
        let address = self.resolve(caller, action, name, None)?;
        let qualifier = address.qualifier.as_ref();
        let missing = |_| EventSourceError::NoFunction;
        let function = self.functions.get(&address.id, None).map_err(missing)?;
        function.version(qualifier).map_err(missing)?;
        let arn = match qualifier {
            Some(qualifier) => address.id.qualified_arn(qualifier),
            None => address.id.arn(),
        };
        Ok((address.id, arn))
    }

    /// When a change of a mapping that begins now will be complete.
    pub(crate) fn mapping_settles(&self, now: Timestamp) -> Timestamp {
        now + Duration::from_millis(self.config.settle_delay_ms)
    }

    /// Removes, in the background, a mapping that is being deleted.
    pub(crate) fn finish_deletion(&self, scope: Scope, id: String, due: Timestamp) {
        let (mappings, clock) = (Arc::clone(&self.mappings), self.clock.clone());
        self.tasks.spawn(async move {
            clock.sleep_until(due).await;
            if let Err(error) = mappings.delete(&scope, &id, |_| Ok(())).await {
                tracing::warn!(
                    mapping = id,
                    error = &error as &dyn std::error::Error,
                    "an event source mapping stays until the next start"
                );
            }
        });
    }

    /// Takes up the deletions that an earlier run did not finish.
    pub(crate) fn resume_deletions(&self) {
        for (scope, id, mapping) in self.mappings.all() {
            if mapping.transition == Transition::Deleting {
                self.finish_deletion(scope, id, mapping.settled);
            }
        }
    }
}

/// Says in the log what clients cannot see.
pub fn warn_of_no_poller(id: &str, mapping: &Mapping) {
    if mapping.enabled {
        tracing::warn!(
            mapping = id,
            function = mapping.function_arn,
            "event sources are not polled yet: no event will reach the function through this mapping"
        );
    }
}

pub fn arn(scope: &Scope, id: &str) -> String {
    let Scope { account, region } = scope;
    format!(
        "arn:{}:lambda:{region}:{account}:{PREFIX}{id}",
        region.partition()
    )
}

/// The id in an ARN, if the ARN belongs to this account and region.
pub fn id_of<'a>(scope: &Scope, arn: &'a str) -> Option<&'a str> {
    let mut parts = arn.splitn(6, ':');
    let (_, _, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account) = (parts.next()?, parts.next()?);
    let account: AccountId = account.parse().ok()?;
    let here = service == "lambda" && region == scope.region.as_str() && account == scope.account;
    parts.next()?.strip_prefix(PREFIX).filter(|_| here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(source: Source, topics: &[&str]) -> Mapping {
        Mapping {
            function_name: "f".into(),
            function_arn: "arn:aws:lambda:us-east-1:1:function:f".into(),
            source,
            settings: Settings {
                topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
                ..Settings::default()
            },
            enabled: true,
            modified: Timestamp::default(),
            transition: Transition::Creating,
            settled: Timestamp::from_secs(10),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn a_state_lasts_as_long_as_its_transition() {
        let mut mapping = mapping(Source::Arn("arn:aws:sqs:us-east-1:1:q".into()), &[]);
        assert_eq!(mapping.state(Timestamp::from_secs(9)), "Creating");
        assert!(
            mapping
                .check_settled(Timestamp::from_secs(9), "update")
                .is_err()
        );
        assert_eq!(mapping.state(Timestamp::from_secs(10)), "Enabled");
        assert!(
            mapping
                .check_settled(Timestamp::from_secs(10), "update")
                .is_ok()
        );
        mapping.enabled = false;
        assert_eq!(mapping.state(Timestamp::from_secs(10)), "Disabled");
        mapping.transition = Transition::Deleting;
        assert_eq!(mapping.state(Timestamp::from_secs(99)), "Deleting");
    }

    #[test]
    fn a_source_is_mapped_to_a_function_once() {
        let conflict = |one: &Mapping, other: &Mapping| {
            one.conflict("id", other).map(|error| error.to_string())
        };
        let queue = mapping(Source::Arn("arn:aws:sqs:us-east-1:1:q".into()), &[]);
        assert_eq!(
            conflict(&queue, &queue).unwrap(),
            "An event source mapping with SQS arn (\" arn:aws:sqs:us-east-1:1:q \") and function \
             (\" f \") already exists. Please update or delete the existing mapping with UUID id"
        );
        let stream = mapping(
            Source::Arn("arn:aws:kinesis:us-east-1:1:stream/s".into()),
            &[],
        );
        assert_eq!(
            conflict(&stream, &stream).unwrap(),
            "The event source arn (\" arn:aws:kinesis:us-east-1:1:stream/s \") and function (\" f \
             \") provided mapping already exists. Please update or delete the existing mapping with \
             UUID id"
        );
        assert_eq!(conflict(&queue, &stream), None);
        let kafka = |brokers: &[&str], topic: &str| {
            let brokers = brokers.iter().map(|broker| (*broker).to_owned()).collect();
            mapping(Source::Kafka(brokers), &[topic])
        };
        let (one, two) = (
            kafka(&["kafka:1"], "t"),
            kafka(&["kafka:1", "kafka:2"], "t"),
        );
        assert_eq!(
            conflict(&one, &two).unwrap(),
            "An event source mapping with event source (\"kafka:1,kafka:2\"), function \
             (\"arn:aws:lambda:us-east-1:1:function:f\"), topics (\"t\") already exists. Please \
             update or delete the existing mapping with UUID id"
        );
        assert_eq!(conflict(&one, &kafka(&["kafka:1"], "u")), None);
        assert_eq!(conflict(&one, &kafka(&["kafka:3"], "t")), None);
    }
}
