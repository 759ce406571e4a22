//! What a function's owner says about its events: retries, age, destinations.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Timestamp;
use model::Arn;
use model::lambda as wire;
use serde::{Deserialize, Serialize};

use super::delivery::Service;
use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::function::{Function, FunctionId};
use crate::name::{FunctionReference, LATEST, Qualifier};

pub const DEFAULT_RETRIES: u8 = 2;
/// Also the longest that can be configured.
pub const DEFAULT_AGE: Duration = Duration::from_secs(6 * 3600);

/// The configurations of a function by qualifier; `$LATEST` is written out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventInvokes(BTreeMap<String, EventInvoke>);

/// The configuration of one version or alias. What is absent takes its default, but is not shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventInvoke {
    pub modified: Timestamp,
    pub retries: Option<u8>,
    pub age_seconds: Option<u32>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
}

impl EventInvokes {
    pub fn get(&self, qualifier: &str) -> Option<&EventInvoke> {
        self.0.get(qualifier)
    }

    pub fn set(&mut self, qualifier: String, config: EventInvoke) {
        self.0.insert(qualifier, config);
    }

    /// Takes away the configuration of a version or alias; whether there was one.
    pub fn remove(&mut self, qualifier: &str) -> bool {
        self.0.remove(qualifier).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &EventInvoke)> {
        self.0.iter()
    }
}

impl EventInvoke {
    pub fn max_retries(&self) -> u8 {
        self.retries.unwrap_or(DEFAULT_RETRIES)
    }

    pub fn max_age(&self) -> Duration {
        self.age_seconds
            .map_or(DEFAULT_AGE, |seconds| Duration::from_secs(seconds.into()))
    }

    /// Takes over what a request sets; the constraints of the interface have been checked.
    pub fn apply(
        &mut self,
        retries: Option<i32>,
        age_seconds: Option<i32>,
        destinations: Option<wire::DestinationConfig>,
        now: Timestamp,
    ) {
        if let Some(retries) = retries.and_then(|retries| u8::try_from(retries).ok()) {
            self.retries = Some(retries);
        }
        if let Some(seconds) = age_seconds.and_then(|seconds| u32::try_from(seconds).ok()) {
            self.age_seconds = Some(seconds);
        }
        if let Some(destinations) = destinations {
            let (success, failure) = targets(&destinations);
            self.on_success = success.map(str::to_owned);
            self.on_failure = failure.map(str::to_owned);
        }
        self.modified = now;
    }

    pub fn describe(&self, id: &FunctionId, qualifier: &str) -> wire::FunctionEventInvokeConfig {
        wire::FunctionEventInvokeConfig {
            last_modified: Some(self.modified),
            function_arn: Some(id.qualified_arn(qualifier)),
            maximum_retry_attempts: self.retries.map(i32::from),
            maximum_event_age_in_seconds: self
                .age_seconds
                .and_then(|seconds| i32::try_from(seconds).ok()),
            destination_config: Some(wire::DestinationConfig {
                on_success: Some(wire::OnSuccess {
                    destination: self.on_success.clone(),
                }),
                on_failure: Some(wire::OnFailure {
                    destination: self.on_failure.clone(),
                }),
            }),
        }
    }
}

/// The destinations for success and failure; an empty ARN is none.
fn targets(config: &wire::DestinationConfig) -> (Option<&str>, Option<&str>) {
    let success = config
        .on_success
        .as_ref()
        .and_then(|on| on.destination.as_deref());
    let failure = config
        .on_failure
        .as_ref()
        .and_then(|on| on.destination.as_deref());
    let given = |arn: &&str| !arn.is_empty();
    (success.filter(given), failure.filter(given))
}

/// The qualifier under which a configuration is kept.
pub fn key(qualifier: Option<&Qualifier>) -> String {
    qualifier.map_or_else(|| LATEST.to_owned(), ToString::to_string)
}

/// The function that a configuration is for, which must exist with that qualifier.
pub fn function_of(
    lambda: &Lambda,
    id: &FunctionId,
    qualifier: Option<&Qualifier>,
) -> Result<std::sync::Arc<Function>, Error> {
    let function = lambda
        .functions
        .get(id, None)
        .map_err(|_| Error::NoSuchFunction)?;
    check_qualifier(&function, qualifier)?;
    Ok(function)
}

/// Refuses a qualifier that names nothing.
pub fn check_qualifier(function: &Function, qualifier: Option<&Qualifier>) -> Result<(), Error> {
    match function.version(qualifier) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::NoSuchFunction),
    }
}

impl Lambda {
    /// Refuses destinations that AWS refuses, and those that nothing here could deliver to.
    pub(crate) fn check_destinations(
        &self,
        id: &FunctionId,
        config: &wire::DestinationConfig,
    ) -> Result<(), Error> {
        let (success, failure) = targets(config);
        let invalid = || InvalidParameter::Destinations {
            success: shown("OnSuccess", success),
            failure: shown("OnFailure", failure),
        };
        for (target, may_be_bucket) in [(success, false), (failure, true)] {
            let Some(target) = target else { continue };
            let arn: Arn = target.parse().map_err(|_| invalid())?;
            let service = Service::named(&arn.service).ok_or_else(invalid)?;
            match service {
                Service::Lambda => self.check_function_target(id, target)?,
                Service::S3 if !may_be_bucket => return Err(invalid().into()),
                _ => self.events.check_reachable(service)?,
            }
        }
        Ok(())
    }

    /// The same for a dead-letter queue.
    pub(crate) fn check_dead_letter(&self, target: Option<&str>) -> Result<(), Error> {
        let Some(target) = target.filter(|target| !target.is_empty()) else {
            return Ok(());
        };
        let arn: Option<Arn> = target.parse().ok();
        let service = arn.and_then(|arn| Service::named(&arn.service));
        match service {
            Some(service @ (Service::Sqs | Service::Sns)) => self.events.check_reachable(service),
            _ => Err(InvalidParameter::DeadLetterTarget {
                arn: target.to_owned(),
            }
            .into()),
        }
    }

    fn check_function_target(&self, id: &FunctionId, target: &str) -> Result<(), InvalidParameter> {
        let unknown = || InvalidParameter::DestinationArn {
            arn: target.to_owned(),
        };
        let reference: FunctionReference = target.parse().map_err(|_| unknown())?;
        let target = id_of(reference, id);
        // What another account's function may be used for is that account's to say.
        if target.0.scope != id.scope {
            return Err(unknown());
        }
        if target.0 == *id {
            return Err(InvalidParameter::DestinationIsSelf);
        }
        let function = self.functions.get(&target.0, None).map_err(|_| unknown())?;
        match function.version(target.1.as_ref()) {
            Ok(_) => Ok(()),
            Err(_) => Err(unknown()),
        }
    }
}

/// What a reference means, seen from the function that uses it.
pub fn id_of(reference: FunctionReference, from: &FunctionId) -> (FunctionId, Option<Qualifier>) {
    let mut id = from.clone();
    id.name = reference.name;
    if let Some(account) = reference.account {
        id.scope.account = account;
    }
    if let Some(region) = reference.region {
        id.scope.region = region;
    }
    (id, reference.qualifier)
}

/// As AWS's messages show it: `OnSuccess(destination=arn:…)`.
fn shown(name: &str, target: Option<&str>) -> String {
    target.map_or_else(
        || "null".to_owned(),
        |target| format!("{name}(destination={target})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    #[test]
    fn what_was_not_set_has_a_default_but_is_not_shown() {
        let mut config = EventInvoke::default();
        assert_eq!((config.max_retries(), config.max_age()), (2, DEFAULT_AGE));
        let now = Timestamp::from_secs(5);
        config.apply(Some(0), Some(60), None, now);
        assert_eq!(config.max_retries(), 0);
        assert_eq!(config.max_age(), Duration::from_secs(60));
        config.apply(None, Some(61), None, now);
        let id = function("f").id;
        let shown = config.describe(&id, "live");
        assert_eq!(shown.maximum_retry_attempts, Some(0));
        assert_eq!(shown.maximum_event_age_in_seconds, Some(61));
        assert!(shown.function_arn.unwrap().ends_with(":function:f:live"));
        let destinations = shown.destination_config.unwrap();
        assert_eq!(destinations.on_success.unwrap().destination, None);
    }

    #[test]
    fn an_empty_destination_takes_one_away() {
        let mut config = EventInvoke {
            on_failure: Some("arn".into()),
            ..EventInvoke::default()
        };
        let none = wire::DestinationConfig {
            on_success: None,
            on_failure: Some(wire::OnFailure {
                destination: Some(String::new()),
            }),
        };
        config.apply(None, None, Some(none), Timestamp::default());
        assert_eq!(config.on_failure, None);
    }
}
