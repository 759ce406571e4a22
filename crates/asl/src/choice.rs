//! The rules of a JSONPath `Choice` state.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/state-choice.html>

mod compare;
mod parse;
#[cfg(test)]
mod tests;

use crate::path::Path;
use crate::scope::{Scope, Unresolved};
use compare::Test;
pub use compare::timestamp;
pub use parse::ParseRuleError;

/// A rule without where it leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// `Variable`, and what is asked of it.
    Test(Path, Test),
}

/// Why a rule is neither true nor false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingVariable {
    pub path: String,
    pub cause: Unresolved,
}

impl Rule {
    /// Reads a rule from its JSON object. Other members, such as `Next` and `Comment`, are not its
    /// business.
    pub fn parse(
        object: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, ParseRuleError> {
        parse::rule(object, 0)
    }

    /// Whether the rule is true. `And` and `Or` look no further than they have to.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, MissingVariable> {
        match self {
            Self::Not(rule) => Ok(!rule.holds(scope)?),
            Self::And(rules) => {
                for rule in rules {
                    if !rule.holds(scope)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Or(rules) => {
                for rule in rules {
                    if rule.holds(scope)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Test(path, test) => {
                let found = scope.select(path);
                match (found, test) {
                    (Err(cause), _) if cause.is_too_much() => Err(missing(path, cause)),
                    (found, Test::IsPresent(wanted)) => Ok(found.is_ok() == *wanted),
                    (Ok(value), test) => test.holds(&value, scope),
                    (Err(cause), _) => Err(missing(path, cause)),
                }
            }
        }
    }
}

fn missing(path: &Path, cause: Unresolved) -> MissingVariable {
    let path = path.source().to_owned();
    MissingVariable { path, cause }
}
