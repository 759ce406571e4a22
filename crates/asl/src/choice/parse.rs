//! JSON to rule.

use serde_json::{Map, Value};

use super::Rule;
use super::compare::{Comparison, Kind, Operand, Test, timestamp};
use crate::path::Path;

/// Rules inside rules; a definition is not parsed deeper anyway.
const MAX_DEPTH: usize = 64;

/// Why an object is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRuleError {
    #[error("the field 'Variable' is required")]
    NoVariable,
    #[error("a rule has exactly one comparison")]
    NotOneComparison,
    #[error("the value of '{field}' is not valid")]
    Value { field: String },
    #[error("'{path}' is not a valid path")]
    Path { path: String },
    #[error("rules are nested too deeply")]
    TooDeep,
}

pub fn rule(object: &Map<String, Value>, depth: usize) -> Result<Rule, ParseRuleError> {
    if depth > MAX_DEPTH {
        return Err(ParseRuleError::TooDeep);
    }
    let inner = |value: &Value, field: &str| match value.as_object() {
        Some(object) => rule(object, depth + 1),
        None => Err(wrong(field)),
    };
    let several = |value: &Value, field: &str| match value.as_array() {
        Some(all) if !all.is_empty() => all.iter().map(|rule| inner(rule, field)).collect(),
        _ => Err(wrong(field)),
    };
    if let Some(rules) = object.get("And") {
        return several(rules, "And").map(Rule::And);
    }
    if let Some(rules) = object.get("Or") {
        return several(rules, "Or").map(Rule::Or);
    }
    if let Some(negated) = object.get("Not") {
        return Ok(Rule::Not(Box::new(inner(negated, "Not")?)));
    }
    let Some(variable) = object.get("Variable").and_then(Value::as_str) else {
        return Err(ParseRuleError::NoVariable);
    };
    let mut tests = object
        .iter()
        .filter(|(field, _)| !["Variable", "Next", "Comment", "Assign"].contains(&field.as_str()));
    let (Some((field, value)), None) = (tests.next(), tests.next()) else {
        return Err(ParseRuleError::NotOneComparison);
    };
    Ok(Rule::Test(path(variable)?, test(field, value)?))
}

fn test(field: &str, value: &Value) -> Result<Test, ParseRuleError> {
    let flag = || value.as_bool().ok_or_else(|| wrong(field));
    Ok(match field {
        "IsBoolean" => Test::IsBoolean(flag()?),
        "IsNull" => Test::IsNull(flag()?),
        "IsNumeric" => Test::IsNumeric(flag()?),
        "IsPresent" => Test::IsPresent(flag()?),
        "IsString" => Test::IsString(flag()?),
        "IsTimestamp" => Test::IsTimestamp(flag()?),
        "StringMatches" => match value.as_str() {
            Some(pattern) => Test::StringMatches(pattern.to_owned()),
            None => return Err(wrong(field)),
        },
        _ => comparison(field, value)?,
    })
}

/// `NumericLessThanEquals`, `StringEqualsPath` and their like.
fn comparison(field: &str, value: &Value) -> Result<Test, ParseRuleError> {
    let kinds = [
        ("Boolean", Kind::Boolean),
        ("Numeric", Kind::Numeric),
        ("String", Kind::String),
        ("Timestamp", Kind::Timestamp),
    ];
    let found = kinds
        .into_iter()
        .find_map(|(name, kind)| Some((kind, field.strip_prefix(name)?)));
    let Some((kind, rest)) = found else {
        return Err(ParseRuleError::NotOneComparison);
    };
    let (name, is_path) = match rest.strip_suffix("Path") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let comparison = match name {
        "Equals" => Comparison::Equals,
        _ if kind == Kind::Boolean => return Err(ParseRuleError::NotOneComparison),
        "GreaterThan" => Comparison::GreaterThan,
        "GreaterThanEquals" => Comparison::GreaterThanEquals,
        "LessThan" => Comparison::LessThan,
        "LessThanEquals" => Comparison::LessThanEquals,
        _ => return Err(ParseRuleError::NotOneComparison),
    };
    let operand = if is_path {
        Operand::Path(path(value.as_str().ok_or_else(|| wrong(field))?)?)
    } else {
        let fits = match kind {
            Kind::Boolean => value.is_boolean(),
            Kind::Numeric => value.is_number(),
            Kind::String => value.is_string(),
            Kind::Timestamp => timestamp(value).is_some(),
        };
        if !fits {
            return Err(wrong(field));
        }
        Operand::Value(value.clone())
    };
    Ok(Test::Compare(kind, comparison, operand))
}

fn path(source: &str) -> Result<Path, ParseRuleError> {
    Path::parse(source).map_err(|_| ParseRuleError::Path {
        path: source.to_owned(),
    })
}

fn wrong(field: &str) -> ParseRuleError {
    ParseRuleError::Value {
        field: field.to_owned(),
    }
}
