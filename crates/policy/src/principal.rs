//! Who asks, and whom a statement names.

use serde_json::Value;

use crate::document::ParseError;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An account's root, a user, or a session of a role.
    Aws { arn: String },
    /// A service, by its name: `s3.amazonaws.com`.
    Service(String),
    /// A session that an identity provider vouches for.
    Federated(String),
    /// Nobody in particular: the request was not signed.
    Anonymous,
}

impl Principal {
    pub fn aws(arn: impl Into<String>) -> Self {
        Self::Aws { arn: arn.into() }
    }

    pub fn service(name: impl Into<String>) -> Self {
        Self::Service(name.into())
    }

    /// The account that the principal belongs to.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Aws { arn } => account(arn),
            Self::Service(_) | Self::Federated(_) | Self::Anonymous => None,
        }
    }
}

fn account(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(3)
}

/// One of the principals that a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Everyone,
    /// The account, and with it whoever the account lets act.
    Account(String),
    /// A user, a role or a session, by ARN.
    Arn(String),
    Service(String),
    Federated(String),
    CanonicalUser(String),
}

impl Named {
    /// The principals of a `Principal` or `NotPrincipal` element.
    pub fn parse(element: &Value) -> Result<Vec<Self>, ParseError> {
        match element {
            Value::String(text) if text == "*" => Ok(vec![Self::Everyone]),
            Value::Object(kinds) if !kinds.is_empty() => {
                let mut named = Vec::new();
                for (kind, values) in kinds {
                    for value in texts(values)? {
                        named.push(Self::of_kind(kind, value)?);
                    }
                }
                Ok(named)
            }
            _ => Err(ParseError::Principal),
        }
    }

    fn of_kind(kind: &str, value: &str) -> Result<Self, ParseError> {
        if value.is_empty() {
            return Err(ParseError::Principal);
        }
        match kind {
            "AWS" if value == "*" => Ok(Self::Everyone),
            "AWS" if is_account(value) => Ok(Self::Account(value.to_owned())),
            "AWS" => match account(value) {
                Some(account) if value.ends_with(":root") && is_account(account) => {
                    Ok(Self::Account(account.to_owned()))
                }
                // Anything else is an ARN, or the id of a principal that was deleted, which fits
                // nobody.
                _ => Ok(Self::Arn(value.to_owned())),
            },
            "Service" => Ok(Self::Service(value.to_owned())),
            "Federated" => Ok(Self::Federated(value.to_owned())),
            "CanonicalUser" => Ok(Self::CanonicalUser(value.to_owned())),
            _ => Err(ParseError::Principal),
        }
    }

    pub fn covers(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Everyone, _) => true,
            (Self::Account(named), principal) => principal.account() == Some(named),
            (Self::Arn(named), Principal::Aws { arn }) => named == arn || is_session_of(arn, named),
            (Self::Service(named), Principal::Service(name))
            | (Self::Federated(named), Principal::Federated(name)) => named == name,
            _ => false,
        }
    }
}

/// A session's ARN has the role's name, but not its path.
fn is_session_of(session: &str, role: &str) -> bool {
    let role_name = role
        .split_once(":role/")
        .map(|(_, path)| path.rsplit('/').next().unwrap_or(path));
    let session_role = session
        .split_once(":assumed-role/")
        .and_then(|(_, rest)| rest.split('/').next());
    role_name.is_some() && role_name == session_role && account(role) == account(session)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A text, or a list of texts.
pub fn texts(value: &Value) -> Result<Vec<&str>, ParseError> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(values) => values
            .iter()
            .map(|value| value.as_str().ok_or(ParseError::Syntax))
            .collect(),
        _ => Err(ParseError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn covers(element: Value, principal: &Principal) -> bool {
        Named::parse(&element)
            .unwrap()
            .iter()
            .any(|named| named.covers(principal))
    }

    #[test]
    fn an_account_covers_all_in_it() {
        let user = Principal::aws("arn:aws:iam::123456789012:user/alice");
        for element in [
            json!("*"),
            json!({"AWS": "*"}),
            json!({"AWS": "123456789012"}),
            json!({"AWS": ["000000000000", "arn:aws:iam::123456789012:root"]}),
            json!({"AWS": "arn:aws:iam::123456789012:user/alice"}),
        ] {
            assert!(covers(element.clone(), &user), "{element}");
        }
        for element in [
            json!({"AWS": "210987654321"}),
            json!({"AWS": "arn:aws:iam::123456789012:user/bob"}),
            json!({"Service": "s3.amazonaws.com"}),
        ] {
            assert!(!covers(element.clone(), &user), "{element}");
        }
        let service = Principal::service("s3.amazonaws.com");
        assert!(covers(json!({"Service": ["s3.amazonaws.com"]}), &service));
        assert!(!covers(json!({"AWS": "123456789012"}), &service));
        assert!(covers(json!("*"), &Principal::Anonymous));
    }

    #[test]
    fn a_role_covers_its_sessions() {
        let session = Principal::aws("arn:aws:sts::123456789012:assumed-role/worker/f");
        let role = |arn: &str| json!({"AWS": arn});
        assert!(covers(
            role("arn:aws:iam::123456789012:role/worker"),
            &session
        ));
        assert!(covers(
            role("arn:aws:iam::123456789012:role/team/worker"),
            &session
        ));
        assert!(!covers(
            role("arn:aws:iam::123456789012:role/work"),
            &session
        ));
        assert!(!covers(
            role("arn:aws:iam::000000000000:role/worker"),
            &session
        ));
    }

    #[test]
    fn malformed_principals_are_refused() {
        for element in [
            json!("x"),
            json!({}),
            json!({"Who": "x"}),
            json!({"AWS": ""}),
            json!([]),
        ] {
            assert!(Named::parse(&element).is_err(), "{element}");
        }
    }
}
