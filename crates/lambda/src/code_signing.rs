//! Code signing configurations: who may have signed the code of a function.
//!
//! firn has no signatures to verify, because AWS makes them with AWS Signer on packages in S3. So
//! all code counts as unsigned: a configuration that only warns lets it pass, and one that enforces
//! refuses it, both as on AWS.
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html>

mod error;

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Timestamp;
use model::AccountId;
use model::lambda as wire;
use protocol::Caller;
use serde::{Deserialize, Serialize};

pub use error::CodeSigningError;

use crate::configuration::last_modified;
use crate::error::Error;
use crate::function::{FunctionId, Scope};
use crate::service::Lambda;

const PREFIX: &str = "code-signing-config:";
const ID_DIGITS: usize = 17;

/// One configuration. Its id is its key in the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningConfig {
    pub description: String,
    /// ARNs of signing profiles.
    pub publishers: Vec<String>,
    pub enforce: bool,
    pub modified: Timestamp,
    pub tags: BTreeMap<String, String>,
}

impl SigningConfig {
    /// How clients see it.
    pub fn answer(&self, scope: &Scope, id: &str) -> wire::CodeSigningConfig {
        let policy = if self.enforce { "Enforce" } else { "Warn" };
        wire::CodeSigningConfig {
            code_signing_config_id: id.to_owned(),
            code_signing_config_arn: arn(scope, id),
            description: Some(self.description.clone()),
            allowed_publishers: wire::AllowedPublishers {
                signing_profile_version_arns: self.publishers.clone(),
            },
            code_signing_policies: wire::CodeSigningPolicies {
                untrusted_artifact_on_deployment: Some(policy.into()),
            },
            last_modified: last_modified(self.modified),
        }
    }

    /// Takes over what a request sets; what is absent stays.
    pub fn apply(
        &mut self,
        description: Option<String>,
        publishers: Option<wire::AllowedPublishers>,
        policies: Option<wire::CodeSigningPolicies>,
        now: Timestamp,
    ) {
        if let Some(description) = description {
            self.description = description;
        }
        if let Some(publishers) = publishers {
            self.publishers = publishers.signing_profile_version_arns;
        }
        let policy = policies.and_then(|policies| policies.untrusted_artifact_on_deployment);
        if let Some(policy) = policy {
            self.enforce = policy.as_str() == "Enforce";
        }
        self.modified = now;
    }
}

impl Lambda {
    /// The id and the configuration that an ARN leads to.
    pub(crate) fn signing_config(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<(Scope, String, Arc<SigningConfig>), Error> {
        let not_found = || CodeSigningError::NotFound {
            arn: arn.to_owned(),
        };
        let scope = Scope {
            account: caller.account,
            region: caller.region.clone(),
        };
        let id = id_of(&scope, arn).ok_or_else(not_found)?;
        let config = self.signing_configs.get(&scope, id);
        Ok((scope, id.to_owned(), config.ok_or_else(not_found)?))
    }

    /// As [`Lambda::signing_config`], with the answer of operations that attach one to a function.
    pub(crate) fn attachable_signing_config(
        &self,
        caller: &Caller,
        arn: &str,
    ) -> Result<Arc<SigningConfig>, Error> {
        let found = self.signing_config(caller, arn);
        found.map(|(_, _, config)| config).map_err(|_| {
            let arn = arn.to_owned();
            CodeSigningError::Gone { arn }.into()
        })
    }

    /// Refuses new code for a function whose configuration enforces signatures.
    pub(crate) fn check_signature(
        &self,
        id: &FunctionId,
        config_arn: Option<&str>,
    ) -> Result<(), Error> {
        let config = config_arn
            .and_then(|arn| id_of(&id.scope, arn))
            .and_then(|config| self.signing_configs.get(&id.scope, config));
        match config {
            Some(config) if config.enforce => {
                let arn = id.arn();
                Err(CodeSigningError::Unsigned { arn }.into())
            }
            _ => Ok(()),
        }
    }

    /// The ARNs of the functions that a configuration is attached to, in the order of their names.
    pub(crate) fn functions_signed_by(&self, scope: &Scope, arn: &str) -> Vec<String> {
        let mut arns: Vec<String> = self
            .functions
            .all()
            .iter()
            .filter(|function| function.id.scope == *scope)
            .filter(|function| function.attached.code_signing.as_deref() == Some(arn))
            .map(|function| function.id.arn())
            .collect();
        arns.sort_unstable();
        arns
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

/// A fresh id in AWS's form.
pub fn new_id() -> String {
    let digits = uuid::Uuid::new_v4().simple().to_string();
    format!("csc-{}", &digits[..ID_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_leads_to_its_id_at_home_only() {
        let scope = Scope {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        };
        let id = new_id();
        assert_eq!(id.len(), 21);
        assert_eq!(id_of(&scope, &arn(&scope, &id)), Some(id.as_str()));
        let other = Scope {
            account: "210987654321".parse().unwrap(),
            ..scope.clone()
        };
        assert_eq!(id_of(&other, &arn(&scope, &id)), None);
        assert_eq!(
            id_of(&scope, "arn:aws:lambda:eu-west-1:123456789012:function:f"),
            None
        );
        assert_eq!(id_of(&scope, "csc-1"), None);
    }
}
