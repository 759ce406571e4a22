//! Who beside its owner may use a layer version.
//!
//! A statement can grant one action to one account, to everybody, or to an organisation. firn knows
//! of no organisations: such a statement is kept and shown, and grants nothing.

use model::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LayerError;
use crate::error::{Error, InvalidParameter};
use crate::function::new_id;
use crate::policies::{self, PolicyError};

const EVERYBODY: &str = "*";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub revision_id: String,
    /// Never empty: a policy goes with its last statement.
    pub statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    pub id: String,
    pub action: String,
    /// `*`, an account, or the ARN of an account's root.
    pub principal: String,
    pub organization: Option<String>,
    pub resource: String,
}

impl Policy {
    /// Adds a statement; returns it as JSON, and the policy's new revision.
    pub fn add(
        policy: &mut Option<Self>,
        statement: Statement,
        revision_id: Option<&str>,
    ) -> Result<(String, String), Error> {
        let mut next = policy.clone().unwrap_or_else(|| Self {
            revision_id: String::new(),
            statements: Vec::new(),
        });
        if next.statements.iter().any(|one| one.id == statement.id) {
            return Err(PolicyError::StatementExists { id: statement.id }.into());
        }
        next.check_revision(revision_id)?;
        let text = statement.json().to_string();
        next.statements.push(statement);
        next.revision_id = new_id();
        next.document().check_size()?;
        let revision_id = next.revision_id.clone();
        *policy = Some(next);
        Ok((text, revision_id))
    }

    pub fn remove(
        policy: &mut Option<Self>,
        id: &str,
        revision_id: Option<&str>,
    ) -> Result<(), Error> {
        let Some(current) = policy else {
            return Err(PolicyError::NoPolicy.into());
        };
        current.check_revision(revision_id)?;
        let found = current.statements.iter().position(|one| one.id == id);
        let Some(found) = found else {
            return Err(PolicyError::StatementNotFound { id: id.to_owned() }.into());
        };
        current.statements.remove(found);
        current.revision_id = new_id();
        if current.statements.is_empty() {
            *policy = None;
        }
        Ok(())
    }

    /// Whether an account other than the owner may use the version.
    pub fn allows(&self, account: AccountId) -> bool {
        self.statements.iter().any(|one| one.allows(account))
    }

    /// The policy as clients get it.
    pub fn json(&self) -> String {
        self.document().json()
    }

    fn document(&self) -> policies::Policy {
        policies::Policy::of(self.statements.iter().map(Statement::json).collect())
    }

    fn check_revision(&self, revision_id: Option<&str>) -> Result<(), LayerError> {
        match revision_id {
            Some(given) if given != self.revision_id => Err(LayerError::PolicyRevision),
            _ => Ok(()),
        }
    }
}

impl Statement {
    pub fn check(&self) -> Result<(), InvalidParameter> {
        if self.organization.is_some() && self.principal != EVERYBODY {
            return Err(InvalidParameter::OrganizationOfAccount);
        }
        Ok(())
    }

    fn allows(&self, account: AccountId) -> bool {
        if self.organization.is_some() {
            return false;
        }
        self.principal == EVERYBODY || self.account() == account.to_string()
    }

    fn account(&self) -> &str {
        match self.principal.strip_suffix(":root") {
            Some(arn) => arn.rsplit(':').next().unwrap_or_default(),
            None => &self.principal,
        }
    }

    fn json(&self) -> Value {
        let principal = match self.principal.as_str() {
            EVERYBODY => EVERYBODY.into(),
            arn if arn.starts_with("arn:") => json!({ "AWS": arn }),
            account => {
                let partition = self.resource.split(':').nth(1).unwrap_or("aws");
                json!({ "AWS": format!("arn:{partition}:iam::{account}:root") })
            }
        };
        let mut statement = json!({
            "Sid": self.id,
            "Effect": "Allow",
            "Principal": principal,
            "Action": self.action,
            "Resource": self.resource,
        });
        if let Some(organization) = &self.organization {
            statement["Condition"] =
                json!({ "StringEquals": { "aws:PrincipalOrgID": organization } });
        }
        statement
    }
}

#[cfg(test)]
impl Statement {
    pub fn sample(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            action: "lambda:GetLayerVersion".to_owned(),
            principal: EVERYBODY.to_owned(),
            organization: None,
            resource: "arn:aws:lambda:us-east-1:111111111111:layer:l:1".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(text: &str) -> AccountId {
        text.parse().unwrap()
    }

    fn granting(principal: &str, organization: Option<&str>) -> Policy {
        let mut policy = None;
        let statement = Statement {
            principal: principal.to_owned(),
            organization: organization.map(str::to_owned),
            ..Statement::sample("s")
        };
        Policy::add(&mut policy, statement, None).unwrap();
        policy.unwrap()
    }

    #[test]
    fn accounts_are_told_apart() {
        let (mine, other) = (account("222222222222"), account("333333333333"));
        for principal in ["222222222222", "arn:aws:iam::222222222222:root"] {
            let policy = granting(principal, None);
            assert!(policy.allows(mine) && !policy.allows(other), "{principal}");
            let json: Value = serde_json::from_str(&policy.json()).unwrap();
            assert_eq!(
                json["Statement"][0]["Principal"]["AWS"],
                "arn:aws:iam::222222222222:root"
            );
        }
        assert!(granting("*", None).allows(other));
        assert!(!granting("*", Some("o-abc")).allows(other));
        let grants = granting("*", Some("o-abc")).json();
        assert!(
            grants.contains(r#"{"StringEquals":{"aws:PrincipalOrgID":"o-abc"}}"#),
            "{grants}"
        );
    }

    #[test]
    fn members_come_in_the_order_in_which_aws_writes_them() {
        assert_eq!(
            granting("*", None).json(),
            concat!(
                r#"{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"s","Effect":"Allow","#,
                r#""Principal":"*","Action":"lambda:GetLayerVersion","#,
                r#""Resource":"arn:aws:lambda:us-east-1:111111111111:layer:l:1"}]}"#
            )
        );
    }

    #[test]
    fn a_change_for_another_revision_is_refused() {
        let mut policy = None;
        let first = Policy::add(&mut policy, Statement::sample("a"), None).unwrap();
        let stale = Policy::add(&mut policy, Statement::sample("b"), Some("x")).unwrap_err();
        assert!(matches!(stale, Error::Layer(LayerError::PolicyRevision)));
        Policy::add(&mut policy, Statement::sample("b"), Some(&first.1)).unwrap();
        let twice = Policy::add(&mut policy, Statement::sample("b"), None).unwrap_err();
        assert!(matches!(
            twice,
            Error::Policy(PolicyError::StatementExists { .. })
        ));
        assert!(Policy::remove(&mut policy, "a", Some(&first.1)).is_err());
        assert!(Policy::remove(&mut policy, "c", None).is_err());
        Policy::remove(&mut policy, "a", None).unwrap();
        Policy::remove(&mut policy, "b", None).unwrap();
        assert_eq!(policy, None);
        assert!(Policy::remove(&mut policy, "b", None).is_err());
    }

    #[test]
    fn a_policy_does_not_grow_without_end() {
        let mut policy = None;
        let refused = (0..1000).find_map(|number| {
            let statement = Statement::sample(&format!("statement-{number}"));
            Policy::add(&mut policy, statement, None).err()
        });
        assert!(matches!(
            refused,
            Some(Error::Policy(PolicyError::TooLong { .. }))
        ));
        assert!(policy.unwrap().json().len() <= 20_480);
    }
}
