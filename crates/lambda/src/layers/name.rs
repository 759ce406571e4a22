//! Names of layers and of their versions: plain, or as ARNs.

use model::{AccountId, Region};
use protocol::Caller;

use super::LayerError;
use crate::error::{Error, InvalidParameter};
use crate::function::Scope;

/// What tells one layer from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerId {
    pub scope: Scope,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionId {
    pub layer: LayerId,
    pub number: u64,
}

impl LayerId {
    pub fn arn(&self) -> String {
        let Scope { account, region } = &self.scope;
        let partition = region.partition();
        format!(
            "arn:{partition}:lambda:{region}:{account}:layer:{}",
            self.name
        )
    }
}

impl VersionId {
    pub fn arn(&self) -> String {
        format!("{}:{}", self.layer.arn(), self.number)
    }

    /// `None` for an ARN of another form, and for one with another partition than its region's.
    pub fn parse(arn: &str) -> Option<Self> {
        let (layer, number) = arn.rsplit_once(':')?;
        let id = Self {
            layer: parse_arn(layer)?,
            // Zero is left to whoever looks it up: it leads nowhere.
            number: number.parse().ok()?,
        };
        Some(id)
    }

    pub fn not_found(&self) -> Error {
        LayerError::VersionNotFound { arn: self.arn() }.into()
    }
}

/// The layer that a request means. Another account's is reached where its policy says so, which
/// `action` names; a policy is a version's, so that whole layers never are.
pub fn resolve(caller: &Caller, action: &'static str, name: &str) -> Result<LayerId, Error> {
    let id = any(caller, name);
    if id.scope.account == caller.account {
        Ok(id)
    } else {
        Err(denied(caller, action, id.arn()))
    }
}

/// The layer that a request means, whosoever it is.
pub fn any(caller: &Caller, name: &str) -> LayerId {
    // The interface's constraints have excluded every other form.
    parse_arn(name).unwrap_or_else(|| LayerId {
        scope: Scope {
            account: caller.account,
            region: caller.region.clone(),
        },
        name: name.to_owned(),
    })
}

pub fn denied(caller: &Caller, action: &'static str, resource: String) -> Error {
    Error::OtherAccount {
        principal: caller.principal.arn.clone(),
        action,
        resource,
    }
}

/// A number as requests carry it.
pub fn version_number(number: i64) -> Result<u64, InvalidParameter> {
    match u64::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(InvalidParameter::LayerVersionTooSmall),
    }
}

fn parse_arn(arn: &str) -> Option<LayerId> {
    let mut parts = arn.splitn(7, ':');
    if parts.next()? != "arn" {
        return None;
    }
    let partition = parts.next()?;
    if parts.next()? != "lambda" {
        return None;
    }
    let region: Region = parts.next()?.parse().ok()?;
    let account: AccountId = parts.next()?.parse().ok()?;
    if parts.next()? != "layer" || region.partition() != partition {
        return None;
    }
    let name = parts.next()?;
    if name.is_empty() || name.contains([':', '/']) {
        return None;
    }
    Some(LayerId {
        scope: Scope { account, region },
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_leads_back_to_its_version() {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:layer:tools:12";
        let id = VersionId::parse(arn).unwrap();
        assert_eq!((id.arn().as_str(), id.number), (arn, 12));
        for foreign in [
            "arn:aws:lambda:eu-west-1:123456789012:layer:tools",
            "arn:aws:lambda:eu-west-1:123456789012:layer:tools:x",
            "arn:aws:lambda:eu-west-1:123456789012:layer:to/ols:1",
            "arn:aws:lambda:eu-west-1:123456789012:function:tools:1",
            "arn:aws-cn:lambda:eu-west-1:123456789012:layer:tools:1",
            "arn:aws:lambda:::awslayer:AWSLambda",
            "",
        ] {
            assert_eq!(VersionId::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn numbers_start_at_one() {
        assert_eq!(version_number(1), Ok(1));
        for refused in [0, -1, i64::MIN] {
            assert!(version_number(refused).is_err());
        }
    }
}
