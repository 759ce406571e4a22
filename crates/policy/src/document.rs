//! A policy document: its statements, and what they say to a request.

use serde_json::{Map, Value};

use crate::condition::Condition;
use crate::context::Context;
use crate::pattern::{Pattern, Syntax};
use crate::principal::{Named, Principal, texts};

/// The longest document that any service takes: Lambda's and S3's limit for resource policies.
pub const MAX_DOCUMENT_BYTES: usize = 20 * 1024;

/// A parsed policy document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    statements: Vec<Statement>,
}

/// One statement of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    sid: Option<String>,
    effect: Effect,
    principals: Option<Choice<Named>>,
    actions: Choice<Pattern>,
    /// A trust policy has none: it is about the resource that it belongs to.
    resources: Option<Choice<Pattern>>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub principal: &'a Principal,
    /// `lambda:InvokeFunction`
    pub action: &'a str,
    pub resource: &'a str,
    pub context: &'a Context,
}

/// What a document says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// A statement denies it; no other can allow it.
    Deny,
    /// No statement is about it.
    NoMatch,
}

/// The text is not a policy document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the document is longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
    #[error("the document is not valid JSON")]
    Json,
    #[error("Syntax errors in policy.")]
    Syntax,
    #[error("The policy must contain a valid version string")]
    Version,
    #[error("Policy statement must contain an effect of Allow or Deny.")]
    Effect,
    #[error("Invalid principal in policy.")]
    Principal,
    #[error("Policy statement must contain actions.")]
    NoActions,
    #[error("Policy statement must contain resources.")]
    NoResources,
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    ActionWithoutVendor,
    #[error("Invalid Condition type : {0}")]
    ConditionOperator(String),
    #[error("The value of a condition is invalid")]
    ConditionValue,
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    SidNotUnique,
}

/// Those listed, or all others.
#[derive(Debug, Clone, PartialEq)]
struct Choice<T> {
    not: bool,
    list: Vec<T>,
}

impl<T> Choice<T> {
    fn holds(&self, fits: impl FnMut(&T) -> bool) -> bool {
        self.list.iter().any(fits) != self.not
    }
}

impl Document {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(ParseError::TooLong);
        }
        let value: Value = serde_json::from_str(text).map_err(|_| ParseError::Json)?;
        let Value::Object(members) = value else {
            return Err(ParseError::Syntax);
        };
        known(&members, &["Version", "Id", "Statement"])?;
        let variables = match members.get("Version") {
            None => false,
            Some(version) => match version.as_str() {
                Some("2012-10-17") => true,
                Some("2008-10-17") => false,
                _ => return Err(ParseError::Version),
            },
        };
        let statements = match members.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().collect(),
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => return Err(ParseError::Syntax),
        };
        let statements = statements
            .into_iter()
            .map(|statement| Statement::parse(statement, variables))
            .collect::<Result<Vec<_>, _>>()?;
        let mut sids: Vec<&str> = statements.iter().filter_map(|s| s.sid.as_deref()).collect();
        sids.sort_unstable();
        if sids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ParseError::SidNotUnique);
        }
        Ok(Self { statements })
    }

    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Whether each statement says whom it is about, as those of a resource's policy must.
    pub fn names_principals(&self) -> bool {
        self.statements
            .iter()
            .all(|statement| statement.principals.is_some())
    }

    /// What the document says to a request. One statement that denies outweighs all that allow.
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        let mut decision = Decision::NoMatch;
        for statement in &self.statements {
            if !statement.applies(request) {
                continue;
            }
            match statement.effect {
                Effect::Deny => return Decision::Deny,
                Effect::Allow => decision = Decision::Allow,
            }
        }
        decision
    }
}

impl Statement {
    fn parse(value: &Value, variables: bool) -> Result<Self, ParseError> {
        const MEMBERS: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        let members = value.as_object().ok_or(ParseError::Syntax)?;
        known(members, &MEMBERS)?;
        let sid = match members.get("Sid") {
            None => None,
            Some(sid) => Some(sid.as_str().ok_or(ParseError::Syntax)?.to_owned()),
        };
        let effect = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(ParseError::Effect),
        };
        let principals = choice(members, "Principal", "NotPrincipal", Named::parse)?;
        let actions = choice(members, "Action", "NotAction", actions)?;
        let syntax = Syntax {
            wildcards: true,
            variables,
        };
        let resources = choice(members, "Resource", "NotResource", |value| {
            patterns(texts(value)?, syntax)
        })?;
        if resources.is_none() && principals.is_none() {
            return Err(ParseError::NoResources);
        }
        let conditions = match members.get("Condition") {
            None => Vec::new(),
            Some(conditions) => Condition::parse_all(conditions, variables)?,
        };
        Ok(Self {
            sid,
            effect,
            principals,
            actions: actions.ok_or(ParseError::NoActions)?,
            resources,
            conditions,
        })
    }

    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it lets anybody do something: it allows everyone, and no condition narrows that.
    pub fn is_public(&self) -> bool {
        self.effect == Effect::Allow
            && self.conditions.is_empty()
            && self
                .principals
                .as_ref()
                .is_some_and(|choice| choice.not || choice.list.contains(&Named::Everyone))
    }

    fn applies(&self, request: &Request<'_>) -> bool {
        let Request {
            principal,
            action,
            resource,
            context,
        } = *request;
        // The policy of an identity is asked only for requests of that identity.
        self.principals
            .as_ref()
            .is_none_or(|choice| choice.holds(|named| named.covers(principal)))
            && self
                .actions
                .holds(|pattern| pattern.matches_ignoring_case(action, context))
            && self
                .resources
                .as_ref()
                .is_none_or(|choice| choice.holds(|pattern| pattern.matches(resource, context)))
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(context))
    }
}

/// An element that may stand negated, but not both ways.
fn choice<T>(
    members: &Map<String, Value>,
    plain: &str,
    negated: &str,
    parse: impl FnOnce(&Value) -> Result<Vec<T>, ParseError>,
) -> Result<Option<Choice<T>>, ParseError> {
    let (not, value) = match (members.get(plain), members.get(negated)) {
        (None, None) => return Ok(None),
        (Some(value), None) => (false, value),
        (None, Some(value)) => (true, value),
        (Some(_), Some(_)) => return Err(ParseError::Syntax),
    };
    let list = parse(value)?;
    Ok(Some(Choice { not, list }))
}

fn actions(value: &Value) -> Result<Vec<Pattern>, ParseError> {
    let texts = texts(value)?;
    if texts.is_empty() {
        return Err(ParseError::NoActions);
    }
    let prefaced = |text: &&str| {
        *text == "*"
            || text
                .split_once(':')
                .is_some_and(|(vendor, action)| !vendor.is_empty() && !action.is_empty())
    };
    if !texts.iter().all(prefaced) {
        return Err(ParseError::ActionWithoutVendor);
    }
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    patterns(texts, syntax)
}

fn patterns(texts: Vec<&str>, syntax: Syntax) -> Result<Vec<Pattern>, ParseError> {
    if texts.is_empty() {
        return Err(ParseError::NoResources);
    }
    texts
        .into_iter()
        .map(|text| Pattern::parse(text, syntax).ok_or(ParseError::Syntax))
        .collect()
}

fn known(members: &Map<String, Value>, names: &[&str]) -> Result<(), ParseError> {
    if members.keys().all(|name| names.contains(&name.as_str())) {
        return Ok(());
    }
    Err(ParseError::Syntax)
}
