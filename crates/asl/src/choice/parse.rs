//! JSON to rule.

use serde_json::{Map, Value};

use super::Rule;
use super::compare::{Comparison, Kind, Operand, Test, timestamp};
use crate::path::Path;

/// Rules inside rules; a definition is not parsed deeper anyway.
const MAX_DEPTH: usize = 64;

/// Why an object is no rule, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRuleError {
    /// The place in the rule, as `/And[0]/Variable`; nothing for the rule itself.
    pub place: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("These fields are required: [Variable]")]
    NoVariable,
    #[error("Exactly one of these fields is required: [And, Or, Not, or a comparison]")]
    NotOneComparison,
    #[error("Field '{0}' is not supported")]
    Unknown(String),
    #[error("Expected value of type [{0}]")]
    Type(&'static str),
    #[error("Value is not a valid ISO-8601 extended offset date-time format string")]
    Timestamp,
    #[error("Value cannot be empty")]
    Empty,
    #[error("The value for the field '{0}' must be a valid JSONPath")]
    Path(String),
    #[error("Rules are nested too deeply")]
    TooDeep,
}

impl ParseRuleError {
    fn here(problem: Problem) -> Self {
        Self {
            place: String::new(),
            problem,
        }
    }

    fn at(field: &str, problem: Problem) -> Self {
        Self {
            place: format!("/{field}"),
            problem,
        }
    }

    /// The same, of a rule that is inside of another one.
    fn inside(self, place: &str) -> Self {
        Self {
            place: format!("/{place}{}", self.place),
            ..self
        }
    }
}

/// Reads a rule. Only the outermost one leads somewhere.
pub fn rule(object: &Map<String, Value>, depth: usize) -> Result<Rule, ParseRuleError> {
    if depth > MAX_DEPTH {
        return Err(ParseRuleError::here(Problem::TooDeep));
    }
    let inner = |value: &Value, place: &str| match value.as_object() {
        Some(object) => rule(object, depth + 1).map_err(|error| error.inside(place)),
        None => Err(ParseRuleError::at(place, Problem::Type("OBJECT"))),
    };
    let several = |value: &Value, field: &str| -> Result<Vec<Rule>, ParseRuleError> {
        let Some(all) = value.as_array() else {
            return Err(ParseRuleError::at(field, Problem::Type("ARRAY")));
        };
        if all.is_empty() {
            return Err(ParseRuleError::at(field, Problem::Empty));
        }
        let all = all.iter().enumerate();
        all.map(|(index, rule)| inner(rule, &format!("{field}[{index}]")))
            .collect()
    };
    let beside: &[&str] = match depth {
        0 => &["Next", "Comment", "Assign"],
        _ => &["Comment"],
    };
    let mut questions = object
        .iter()
        .filter(|(field, _)| *field != "Variable" && !beside.contains(&field.as_str()));
    let (Some((field, value)), others) = (questions.next(), questions.next()) else {
        return Err(ParseRuleError::here(Problem::NotOneComparison));
    };
    if others.is_some() {
        let unknown = object
            .keys()
            .find(|field| !beside.contains(&field.as_str()) && !is_known(field));
        return Err(ParseRuleError::here(match unknown {
            Some(field) => Problem::Unknown(field.clone()),
            None => Problem::NotOneComparison,
        }));
    }
    match field.as_str() {
        "And" => return several(value, "And").map(Rule::And),
        "Or" => return several(value, "Or").map(Rule::Or),
        "Not" => return Ok(Rule::Not(Box::new(inner(value, "Not")?))),
        _ => {}
    }
    let test = test(field, value)?;
    match object.get("Variable") {
        Some(Value::String(variable)) => Ok(Rule::Test(path(variable, "Variable")?, test)),
        Some(_) => Err(ParseRuleError::at("Variable", Problem::Type("STRING"))),
        None => Err(ParseRuleError::here(Problem::NoVariable)),
    }
}

fn is_known(field: &str) -> bool {
    let plain = ["Variable", "And", "Or", "Not", "StringMatches"];
    let flags = [
        "IsBoolean",
        "IsNull",
        "IsNumeric",
        "IsPresent",
        "IsString",
        "IsTimestamp",
    ];
    plain.contains(&field) || flags.contains(&field) || compared(field).is_some()
}

fn test(field: &str, value: &Value) -> Result<Test, ParseRuleError> {
    let flag = || {
        let flag = value.as_bool();
        flag.ok_or_else(|| ParseRuleError::at(field, Problem::Type("BOOLEAN")))
    };
    Ok(match field {
        "IsBoolean" => Test::IsBoolean(flag()?),
        "IsNull" => Test::IsNull(flag()?),
        "IsNumeric" => Test::IsNumeric(flag()?),
        "IsPresent" => Test::IsPresent(flag()?),
        "IsString" => Test::IsString(flag()?),
        "IsTimestamp" => Test::IsTimestamp(flag()?),
        "StringMatches" => match value.as_str() {
            Some(pattern) => Test::StringMatches(pattern.to_owned()),
            None => return Err(ParseRuleError::at(field, Problem::Type("STRING"))),
        },
        _ => comparison(field, value)?,
    })
}

/// `NumericLessThanEquals`, `StringEqualsPath` and their like.
fn compared(field: &str) -> Option<(Kind, Comparison, bool)> {
    let kinds = [
        ("Boolean", Kind::Boolean),
        ("Numeric", Kind::Numeric),
        ("String", Kind::String),
        ("Timestamp", Kind::Timestamp),
    ];
    let (kind, rest) = kinds
        .into_iter()
        .find_map(|(name, kind)| Some((kind, field.strip_prefix(name)?)))?;
    let (name, is_path) = match rest.strip_suffix("Path") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let comparison = match name {
        "Equals" => Comparison::Equals,
        _ if kind == Kind::Boolean => return None,
        "GreaterThan" => Comparison::GreaterThan,
        "GreaterThanEquals" => Comparison::GreaterThanEquals,
        "LessThan" => Comparison::LessThan,
        "LessThanEquals" => Comparison::LessThanEquals,
        _ => return None,
    };
    Some((kind, comparison, is_path))
}

fn comparison(field: &str, value: &Value) -> Result<Test, ParseRuleError> {
    let Some((kind, comparison, is_path)) = compared(field) else {
        let problem = Problem::Unknown(field.to_owned());
        return Err(ParseRuleError::here(problem));
    };
    let operand = if is_path {
        match value.as_str() {
            Some(source) => Operand::Path(path(source, field)?),
            None => return Err(ParseRuleError::at(field, Problem::Type("STRING"))),
        }
    } else {
        let (fits, problem) = match kind {
            Kind::Boolean => (value.is_boolean(), Problem::Type("BOOLEAN")),
            Kind::Numeric => (value.is_number(), Problem::Type("NUMBER")),
            Kind::String => (value.is_string(), Problem::Type("STRING")),
            Kind::Timestamp => (timestamp(value).is_some(), Problem::Timestamp),
        };
        if !fits {
            return Err(ParseRuleError::at(field, problem));
        }
        Operand::Value(value.clone())
    };
    Ok(Test::Compare(kind, comparison, operand))
}

fn path(source: &str, field: &str) -> Result<Path, ParseRuleError> {
    Path::parse(source).map_err(|_| ParseRuleError::at(field, Problem::Path(field.to_owned())))
}
