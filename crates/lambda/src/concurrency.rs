//! How much of an account's concurrency functions have for themselves: reserved for a function as a
//! whole, and provisioned for its versions and aliases.
//!
//! What is configured is stored with the function ([`Concurrency`]); [`rules`] say what may be
//! configured, [`shares`] what follows from it for each version, and the [`Keeper`] tells that to
//! the workers and moves aliases from one version to another without a gap.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html>.

mod keeper;
mod moving;
mod progress;
pub mod rules;
mod shares;

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Timestamp;
use protocol::Caller;
use serde::{Deserialize, Serialize};

use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::function::{Function, FunctionId};
use crate::name::Qualifier;

pub use keeper::Keeper;
pub use moving::{in_transit, settle_alias};
pub use progress::Progress;
pub use rules::Refusal;

/// What a function has for itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Concurrency {
    pub reserved: Option<u32>,
    /// By version number or name of an alias.
    pub provisioned: BTreeMap<String, Provisioned>,
}

/// Environments that a version, or whatever an alias points to, is to have initialised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provisioned {
    pub requested: u32,
    pub modified: Timestamp,
    /// The alias is on its way from one version to another.
    #[serde(default)]
    pub moving: Option<Moving>,
}

/// An alias is led from one version to another in three steps. First the new version gets its
/// environments, while all invocations go to the old one: for so long the alias has a weight of one
/// for it, as on AWS. Then invocations go to the new one. The old one's environments end a moment
/// later, when nobody can still be on the way to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    pub from: u64,
    /// Invocations go to the new version.
    pub arrived: bool,
}

impl Concurrency {
    /// All that is provisioned for the function.
    pub fn total_provisioned(&self) -> u32 {
        self.provisioned
            .values()
            .fold(0, |sum, one| sum.saturating_add(one.requested))
    }

    /// What nobody else in the account may use.
    pub fn set_aside(&self) -> u32 {
        self.reserved.map_or_else(
            || self.total_provisioned(),
            |reserved| reserved.max(self.total_provisioned()),
        )
    }

    fn is_empty(&self) -> bool {
        self.reserved.is_none() && self.provisioned.is_empty()
    }
}

impl Lambda {
    /// The account as it is for a change of one function.
    pub(crate) fn account_for(&self, id: &FunctionId) -> rules::Account {
        rules::Account {
            limit: self.config.concurrent_executions,
            minimum: self.config.minimum_unreserved_concurrency,
            others: self
                .capacity
                .set_aside(&id.scope, |function| function.id != *id),
        }
    }
}

/// The function that a request for reserved concurrency means: never one of its versions.
pub fn own(
    lambda: &Lambda,
    caller: &Caller,
    action: &'static str,
    name: &str,
) -> Result<FunctionId, Error> {
    let address = lambda.resolve(caller, action, name, None)?;
    match address.qualifier {
        None => Ok(address.id),
        Some(_) => Err(InvalidParameter::QualifiedFunction.into()),
    }
}

/// The version or alias that a request for provisioned concurrency means. `latest` is the answer to
/// one for `$LATEST`.
pub fn existing(
    lambda: &Lambda,
    caller: &Caller,
    action: &'static str,
    (name, qualifier): (&str, &str),
    latest: Refusal,
) -> Result<(Arc<Function>, Qualifier), Error> {
    let address = lambda.resolve(caller, action, name, Some(qualifier))?;
    let (id, qualifier) = match address.qualifier {
        None | Some(Qualifier::Latest) => return Err(latest.into()),
        Some(qualifier) => (address.id, qualifier),
    };
    let function = lambda.functions.get(&id, Some(&qualifier));
    if let Qualifier::Alias(alias) = &qualifier {
        return match function {
            Ok(function) if function.aliases.contains_key(alias) => Ok((function, qualifier)),
            _ => Err(Error::AliasNotFound {
                arn: id.qualified_arn(alias),
            }),
        };
    }
    let function = function?;
    function.version(Some(&qualifier))?;
    Ok((function, qualifier))
}

/// A version or an alias is deleted, and with it what is provisioned for it.
pub fn forget(function: &mut Function, qualifier: &Qualifier) {
    let provisioned = &mut function.attached.concurrency.provisioned;
    provisioned.remove(&qualifier.to_string());
    if let Qualifier::Version(number) = qualifier {
        for one in provisioned.values_mut() {
            if one.moving.is_some_and(|moving| moving.from == *number) {
                one.moving = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioned_environments_are_part_of_what_is_reserved() {
        let mut concurrency = Concurrency::default();
        assert_eq!(concurrency.set_aside(), 0);
        for (qualifier, requested) in [("1", 3), ("live", 4)] {
            let one = Provisioned {
                requested,
                modified: Timestamp::default(),
                moving: None,
            };
            concurrency.provisioned.insert(qualifier.to_owned(), one);
        }
        assert_eq!(concurrency.set_aside(), 7);
        concurrency.reserved = Some(10);
        assert_eq!(concurrency.set_aside(), 10);
    }

    #[test]
    fn older_records_have_none() {
        assert_eq!(
            serde_json::from_str::<Concurrency>("{}").unwrap(),
            Concurrency::default()
        );
    }
}
