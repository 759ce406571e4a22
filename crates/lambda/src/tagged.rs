//! What can have tags: functions, code signing configurations and event source mappings.

use std::collections::BTreeMap;

use protocol::Caller;

use crate::code_signing;
use crate::error::{Error, InvalidParameter};
use crate::event_sources;
use crate::function::{Function, FunctionId, Scope};
use crate::service::{Address, Lambda};

/// A resource that a tag operation names.
#[derive(Debug)]
pub enum Tagged {
    Function(FunctionId),
    SigningConfig(Scope, String),
    Mapping(Scope, String),
}

type Tags = BTreeMap<String, String>;

impl Tagged {
    /// The resource behind an ARN.
    pub fn resolve(
        lambda: &Lambda,
        caller: &Caller,
        action: &'static str,
        arn: &str,
    ) -> Result<Self, Error> {
        let scope = Scope {
            account: caller.account,
            region: caller.region.clone(),
        };
        if let Some(id) = code_signing::id_of(&scope, arn) {
            let id = id.to_owned();
            return Ok(Self::SigningConfig(scope, id));
        }
        if let Some(id) = event_sources::id_of(&scope, arn) {
            let id = id.to_owned();
            return Ok(Self::Mapping(scope, id));
        }
        if arn.split(':').nth(5) != Some("function") {
            return Err(Error::ResourceNotFound);
        }
        let Address { id, qualifier } = lambda.resolve(caller, action, arn, None)?;
        match qualifier {
            None => Ok(Self::Function(id)),
            Some(_) => Err(InvalidParameter::TagsOnQualifier.into()),
        }
    }

    pub fn tags(&self, lambda: &Lambda) -> Result<Tags, Error> {
        let found = match self {
            Self::Function(id) => Some(lambda.functions.get(id, None)?.tags.clone()),
            Self::SigningConfig(scope, id) => {
                let config = lambda.signing_configs.get(scope, id);
                config.map(|config| config.tags.clone())
            }
            Self::Mapping(scope, id) => {
                let mapping = lambda.mappings.get(scope, id);
                mapping.map(|mapping| mapping.tags.clone())
            }
        };
        found.ok_or(Error::ResourceNotFound)
    }

    /// Changes the tags. `apply` may run more than once, each time on a fresh copy.
    pub async fn change<F>(self, lambda: &Lambda, apply: F) -> Result<(), Error>
    where
        F: Fn(&mut Tags) -> Result<(), Error> + Send + Sync + 'static,
    {
        let changed = match self {
            Self::Function(id) => {
                let change = move |function: &mut Function| {
                    apply(&mut function.tags)?;
                    function.latest_mut().touch();
                    Ok(())
                };
                lambda.functions.change(id, change).await?;
                Some(())
            }
            Self::SigningConfig(scope, id) => {
                let change =
                    move |config: &mut code_signing::SigningConfig| apply(&mut config.tags);
                let changed = lambda.signing_configs.change(&scope, &id, change);
                changed.await?.map(drop)
            }
            Self::Mapping(scope, id) => {
                let change = move |mapping: &mut event_sources::Mapping| apply(&mut mapping.tags);
                let changed = lambda.mappings.change(&scope, &id, change);
                changed.await?.map(drop)
            }
        };
        changed.ok_or(Error::ResourceNotFound)
    }
}
