//! What a rule asks of a value.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;

use super::{MissingVariable, missing};
use crate::path::{self, Path};
use crate::scope::Scope;

/// A question about one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    IsBoolean(bool),
    IsNull(bool),
    IsNumeric(bool),
    IsPresent(bool),
    IsString(bool),
    IsTimestamp(bool),
    /// A pattern in which `*` stands for any text.
    StringMatches(String),
    Compare(Kind, Comparison, Operand),
}

/// The type that both sides have to have; else they are not equal, nor is one greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Numeric,
    String,
    Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equals,
    GreaterThan,
    GreaterThanEquals,
    LessThan,
    LessThanEquals,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Value(Value),
    Path(Path),
}

impl Test {
    pub fn holds(&self, value: &Value, scope: &Scope<'_>) -> Result<bool, MissingVariable> {
        Ok(match self {
            Self::IsPresent(wanted) => *wanted,
            Self::IsNull(wanted) => value.is_null() == *wanted,
            Self::IsBoolean(wanted) => value.is_boolean() == *wanted,
            Self::IsNumeric(wanted) => value.is_number() == *wanted,
            Self::IsString(wanted) => value.is_string() == *wanted,
            Self::IsTimestamp(wanted) => timestamp(value).is_some() == *wanted,
            Self::StringMatches(pattern) => {
                value.as_str().is_some_and(|text| matches(text, pattern))
            }
            Self::Compare(kind, comparison, operand) => {
                let ordering = match operand {
                    Operand::Value(operand) => kind.order(value, operand),
                    Operand::Path(path) => match scope.select(path) {
                        Ok(operand) => kind.order(value, &operand),
                        Err(cause) => return Err(missing(path, cause)),
                    },
                };
                ordering.is_some_and(|ordering| comparison.accepts(ordering))
            }
        })
    }
}

impl Kind {
    fn order(self, left: &Value, right: &Value) -> Option<Ordering> {
        match self {
            Self::Boolean => Some(left.as_bool()?.cmp(&right.as_bool()?)),
            Self::String => Some(left.as_str()?.cmp(right.as_str()?)),
            Self::Timestamp => Some(timestamp(left)?.cmp(&timestamp(right)?)),
            Self::Numeric => match (left, right) {
                (Value::Number(left), Value::Number(right)) => path::compare_numbers(left, right),
                _ => None,
            },
        }
    }
}

impl Comparison {
    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equals => ordering.is_eq(),
            Self::GreaterThan => ordering.is_gt(),
            Self::GreaterThanEquals => ordering.is_ge(),
            Self::LessThan => ordering.is_lt(),
            Self::LessThanEquals => ordering.is_le(),
        }
    }
}

/// A text in RFC 3339's form, with a `T` and with an offset or `Z`.
pub fn timestamp(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    let separator = text.as_bytes().get(10)?;
    (*separator == b'T').then(|| text.parse().ok())?
}

/// `*` is any text, also none; a backslash takes its meaning away.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = vec![String::new()];
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '*' => {
                parts.push(String::new());
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(part) = parts.last_mut() {
            part.push(literal);
        }
    }
    let Some((first, rest)) = parts.split_first() else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return text == first;
    };
    let Some(mut between) = text
        .strip_prefix(first.as_str())
        .and_then(|text| text.strip_suffix(last.as_str()))
    else {
        return false;
    };
    // The earliest place for each part leaves the most for those that follow.
    middle.iter().all(|part| match between.find(part.as_str()) {
        Some(at) => {
            between = &between[at + part.len()..];
            true
        }
        None => false,
    })
}
