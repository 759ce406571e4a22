//! Resource-based policies of functions: who beside the owner's account may do what with a function,
//! one of its versions or one of its aliases.
//!
//! Each has a policy of its own, and a request is held against that of the qualifier it names; the
//! policy of the function is that of `$LATEST`. Within an account, nothing needs permission until
//! there are identities with policies; a statement that denies holds there, too.
//! <https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html>

mod error;
mod statement;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use policy::{Context, Decision, Document, Effect, Principal, Request};
use protocol::{Caller, PrincipalKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use error::PolicyError;
pub use statement::statement;

use crate::error::Error;
use crate::function::{Function, new_id};
use crate::name::{LATEST, Qualifier};
use crate::service::Lambda;

const MAX_POLICY_BYTES: usize = policy::MAX_DOCUMENT_BYTES;
const VERSION: &str = "2012-10-17";

/// The policies of a function, by qualifier; that of the function itself is under `$LATEST`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policies(BTreeMap<String, Policy>);

/// One policy, as clients see it. It goes with its last statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    version: String,
    id: Option<String>,
    statements: Vec<Value>,
    #[serde(skip)]
    parsed: Parsed,
}

/// The policy in the form that requests are held against, made when it is first needed.
#[derive(Debug, Default)]
struct Parsed(OnceLock<Option<Document>>);

impl Clone for Parsed {
    /// A copy is made to be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Parsed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: VERSION.to_owned(),
            id: Some("default".to_owned()),
            statements: Vec::new(),
            parsed: Parsed::default(),
        }
    }
}

impl Policies {
    pub fn get(&self, qualifier: Option<&Qualifier>) -> Option<&Policy> {
        self.0.get(&*key(qualifier))
    }

    /// Adds a statement to the policy of a qualifier.
    pub fn add(
        &mut self,
        qualifier: Option<&Qualifier>,
        sid: &str,
        statement: Value,
    ) -> Result<(), PolicyError> {
        let mut policy = self.get(qualifier).cloned().unwrap_or_default();
        if policy.position(sid).is_some() {
            let id = sid.to_owned();
            return Err(PolicyError::StatementExists { id });
        }
        policy.statements.push(statement);
        policy.check_size()?;
        self.put(qualifier, policy);
        Ok(())
    }

    pub fn remove(&mut self, qualifier: Option<&Qualifier>, sid: &str) -> Result<(), PolicyError> {
        let key = key(qualifier);
        let policy = self.0.get_mut(&*key).ok_or(PolicyError::NoPolicy)?;
        let Some(at) = policy.position(sid) else {
            let id = sid.to_owned();
            return Err(PolicyError::StatementNotFound { id });
        };
        policy.statements.remove(at);
        policy.parsed = Parsed::default();
        if policy.statements.is_empty() {
            self.0.remove(&*key);
        }
        Ok(())
    }

    /// Puts a whole policy in place of what was there.
    pub fn put(&mut self, qualifier: Option<&Qualifier>, policy: Policy) {
        self.0.insert(key(qualifier).into_owned(), policy);
    }

    /// Drops the policy of a qualifier; tells whether there was one.
    pub fn drop_qualifier(&mut self, qualifier: &str) -> bool {
        self.0.remove(qualifier).is_some()
    }

    /// Whether any statement denies something.
    pub fn deny_anything(&self) -> bool {
        self.0.values().any(Policy::denies_anything)
    }
}

impl Policy {
    /// Reads a document that a client gives for the resource `arn`.
    pub fn parse(text: &str, arn: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLong { size: text.len() });
        }
        let document = Document::parse(text)?;
        if !document.names_principals() {
            return Err(policy::ParseError::Principal.into());
        }
        let mut value: Value = serde_json::from_str(text).map_err(|_| policy::ParseError::Json)?;
        let statements = match value["Statement"].take() {
            Value::Array(statements) => statements,
            statement => vec![statement],
        };
        for statement in &statements {
            check_resource(statement, arn)?;
        }
        if statements.is_empty() {
            return Err(policy::ParseError::Syntax.into());
        }
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Ok(Self {
            version: text("Version").unwrap_or_else(|| VERSION.to_owned()),
            id: text("Id"),
            statements,
            parsed: Parsed::default(),
        })
    }

    /// A policy of statements that firn has made itself.
    pub fn of(statements: Vec<Value>) -> Self {
        Self {
            statements,
            ..Self::default()
        }
    }

    pub fn json(&self) -> String {
        let mut document = json!({ "Version": self.version });
        if let Some(id) = &self.id {
            document["Id"] = json!(id);
        }
        document["Statement"] = json!(self.statements);
        document.to_string()
    }

    pub fn denies_anything(&self) -> bool {
        let statements = self
            .document()
            .map(Document::statements)
            .unwrap_or_default();
        statements.iter().any(|one| one.effect() == Effect::Deny)
    }

    fn position(&self, sid: &str) -> Option<usize> {
        self.statements.iter().position(|one| one["Sid"] == sid)
    }

    pub fn check_size(&self) -> Result<(), PolicyError> {
        let size = self.json().len();
        if size > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLong { size });
        }
        Ok(())
    }

    /// What was stored has been checked; should a later firn find it malformed, it allows nothing.
    fn document(&self) -> Option<&Document> {
        let parsed = &self.parsed.0;
        parsed
            .get_or_init(|| match Document::parse(&self.json()) {
                Ok(document) => Some(document),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a stored policy cannot be read, and allows nothing"
                    );
                    None
                }
            })
            .as_ref()
    }
}

/// The name under which a qualifier's policy is kept.
fn key(qualifier: Option<&Qualifier>) -> Cow<'_, str> {
    match qualifier {
        None | Some(Qualifier::Latest) => LATEST.into(),
        Some(Qualifier::Alias(name)) => name.into(),
        Some(Qualifier::Version(number)) => number.to_string().into(),
    }
}

/// A statement about another resource would never apply.
fn check_resource(statement: &Value, arn: &str) -> Result<(), PolicyError> {
    let about = |value: &Value| value.as_str() == Some(arn);
    let fits = match &statement["Resource"] {
        Value::Array(values) => values.iter().all(about),
        value => about(value),
    };
    if fits {
        return Ok(());
    }
    let arn = arn.to_owned();
    Err(PolicyError::OtherResource { arn })
}

impl Function {
    /// What the policy of a qualifier is about.
    pub fn policy_arn(&self, qualifier: Option<&Qualifier>) -> String {
        match qualifier {
            None | Some(Qualifier::Latest) => self.id.arn(),
            Some(qualifier) => self.id.qualified_arn(qualifier),
        }
    }

    /// The revision that a change of the policy of a qualifier has to name: that of the version or
    /// alias itself.
    pub fn policy_revision(&self, qualifier: Option<&Qualifier>) -> Result<&str, Error> {
        if let Some(Qualifier::Alias(name)) = qualifier {
            return match self.aliases.get(name) {
                Some(alias) => Ok(&alias.revision_id),
                None => Err(self.qualifier_not_found(name)),
            };
        }
        Ok(&self.version(qualifier)?.revision_id)
    }

    /// Refuses a change of a policy that was meant for another revision.
    pub fn check_policy_revision(
        &self,
        qualifier: Option<&Qualifier>,
        expected: Option<&str>,
    ) -> Result<(), Error> {
        let current = self.policy_revision(qualifier)?;
        match expected {
            Some(expected) if expected != current => Err(Error::RevisionMismatch),
            _ => Ok(()),
        }
    }

    /// Makes a new revision of what a policy belongs to, because the policy has changed.
    pub fn touch_policy(&mut self, qualifier: Option<&Qualifier>) {
        match qualifier {
            Some(Qualifier::Alias(name)) => {
                if let Some(alias) = self.aliases.get_mut(name) {
                    alias.revision_id = new_id();
                }
            }
            None | Some(Qualifier::Latest) => self.latest_mut().touch(),
            Some(Qualifier::Version(number)) => {
                if let Some(version) = self.version_mut(Some(*number)) {
                    version.touch();
                }
            }
        }
    }

    /// AWS calls an alias an alias only if it could be the name of one.
    fn qualifier_not_found(&self, name: &str) -> Error {
        let arn = self.alias_arn(name);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.bytes().all(plain) {
            return Error::AliasNotFound { arn };
        }
        Error::FunctionNotFound { arn }
    }
}

impl Lambda {
    /// Refuses what neither the principal's own account nor the policy of the qualifier allows.
    ///
    /// `action` has its prefix: `lambda:InvokeFunction`.
    pub fn authorise(
        &self,
        function: &Function,
        qualifier: Option<&Qualifier>,
        principal: &Principal,
        action: &str,
        context: &Context,
    ) -> Result<(), Error> {
        let resource = function.policy_arn(qualifier);
        let request = Request {
            principal,
            action,
            resource: &resource,
            context,
        };
        let policy = function.attached.policies.get(qualifier);
        let decision = policy
            .and_then(Policy::document)
            .map_or(Decision::NoMatch, |document| document.evaluate(&request));
        let own = principal.account() == Some(function.id.scope.account.as_str());
        let explicit = match decision {
            Decision::Allow => return Ok(()),
            Decision::NoMatch if own => return Ok(()),
            Decision::NoMatch => false,
            Decision::Deny => true,
        };
        let principal = match principal {
            Principal::Aws { arn } => arn.clone(),
            Principal::Service(name) | Principal::Federated(name) => name.clone(),
            Principal::Anonymous => "anonymous".to_owned(),
        };
        let action = action.to_owned();
        Err(match explicit {
            true => PolicyError::Denied {
                principal,
                action,
                resource,
            },
            false => PolicyError::NotAllowed {
                principal,
                action,
                resource,
            },
        }
        .into())
    }
}

/// Who a caller is, to a policy.
pub fn principal(caller: &Caller) -> Principal {
    let arn = &caller.principal.arn;
    match caller.principal.kind {
        PrincipalKind::Service => Principal::service(arn.clone()),
        PrincipalKind::Root | PrincipalKind::User | PrincipalKind::AssumedRole => {
            Principal::aws(arn.clone())
        }
    }
}

/// What policies can ask about a caller.
pub fn context(caller: &Caller, now: clock::Timestamp) -> Context {
    let kind = match caller.principal.kind {
        PrincipalKind::Root => "Account",
        PrincipalKind::User => "User",
        PrincipalKind::AssumedRole => "AssumedRole",
        PrincipalKind::Service => "Service",
    };
    let account = principal(caller).account().map(str::to_owned);
    Context::new()
        .with("aws:PrincipalArn", caller.principal.arn.clone())
        .with_some("aws:PrincipalAccount", account)
        .with("aws:PrincipalType", kind)
        .with("aws:RequestedRegion", caller.region.as_str())
        .with("aws:CurrentTime", now.to_string())
        .with("aws:EpochTime", now.as_secs().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    fn open(sid: &str) -> Value {
        json!({
            "Sid": sid, "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction",
            "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        })
    }

    #[test]
    fn a_policy_comes_with_its_first_statement_and_goes_with_its_last() {
        let mut policies = Policies::default();
        policies.add(None, "a", open("a")).unwrap();
        policies.add(None, "b", open("b")).unwrap();
        let qualifier = Qualifier::Version(1);
        policies.add(Some(&qualifier), "a", open("a")).unwrap();
        assert_eq!(
            policies.add(None, "a", open("a")).unwrap_err().to_string(),
            "The statement id (a) provided already exists. Please provide a new statement id, or \
             remove the existing statement."
        );
        assert_eq!(policies.get(None), policies.get(Some(&Qualifier::Latest)));
        policies.remove(None, "a").unwrap();
        assert!(policies.remove(None, "a").is_err());
        policies.remove(None, "b").unwrap();
        assert_eq!(policies.remove(None, "b"), Err(PolicyError::NoPolicy));
        assert!(policies.get(Some(&qualifier)).is_some());
        assert!(policies.drop_qualifier("1"));
        assert_eq!(policies, Policies::default());
    }

    #[test]
    fn a_policy_has_a_limit() {
        let mut policies = Policies::default();
        let error = (0..200).find_map(|n| {
            let sid = format!("{n}-{}", "x".repeat(90));
            policies.add(None, &sid, open(&sid)).err()
        });
        let message = error.unwrap().to_string();
        assert!(
            message.starts_with("The final policy size (20"),
            "{message}"
        );
        assert!(message.ends_with(") is bigger than the limit (20480)."));
    }

    #[test]
    fn a_policy_survives_being_stored() {
        let mut policies = Policies::default();
        policies.add(None, "a", open("a")).unwrap();
        let text = serde_json::to_string(&policies).unwrap();
        let read: Policies = serde_json::from_str(&text).unwrap();
        assert_eq!(read, policies);
        assert_eq!(
            read.get(None).unwrap().json(),
            format!(
                r#"{{"Version":"2012-10-17","Id":"default","Statement":[{}]}}"#,
                open("a")
            )
        );
    }

    #[test]
    fn whole_documents_must_be_about_their_function() {
        let function = function("f");
        let document = |statement: Value| json!({"Version": VERSION, "Statement": statement});
        let parse =
            |statement: Value| Policy::parse(&document(statement).to_string(), &function.id.arn());
        let policy = parse(open("a")).unwrap();
        assert_eq!(policy.json(), document(json!([open("a")])).to_string());
        assert!(!policy.denies_anything());
        let mut other = open("a");
        other["Resource"] = json!("*");
        assert!(matches!(
            parse(other),
            Err(PolicyError::OtherResource { .. })
        ));
        let mut identity = open("a");
        identity.as_object_mut().unwrap().remove("Principal");
        assert!(matches!(parse(identity), Err(PolicyError::Malformed(_))));
        let mut denial = open("a");
        denial["Effect"] = json!("Deny");
        assert!(parse(denial).unwrap().denies_anything());
    }
}
