//! JSON with expressions in it: `Parameters`, `ResultSelector`, `Arguments`, `Output`, `Assign`.

use serde_json::{Map, Value};

use crate::failure::{Evaluation, EvaluationError};
use crate::intrinsic::{Intrinsic, IntrinsicError};
use crate::jsonata::Jsonata;
use crate::path::Path;
use crate::scope::Unresolved;

/// A parsed payload template.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    Value(Value),
    Array(Vec<Self>),
    Object(Vec<(Box<str>, Self)>),
    /// `"name.$": "$.path"`; the field's name is kept for messages.
    Path(Box<str>, Path),
    /// `"name.$": "States.…"`.
    Intrinsic(Intrinsic),
    /// `"{% … %}"`.
    Jsonata(Jsonata),
}

/// Why a JSON value is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTemplateError {
    /// The field, as `parsed.$`.
    pub field: String,
}

impl Template {
    /// Reads a template of JSONPath's kind: members whose name ends in `.$` are expressions.
    pub fn json_path(value: &Value) -> Result<Self, ParseTemplateError> {
        match value {
            Value::Object(members) => {
                let mut parsed = Vec::with_capacity(members.len());
                for (name, member) in members {
                    parsed.push(match name.strip_suffix(".$") {
                        Some(short) => (short.into(), expression(name, member)?),
                        None => (name.as_str().into(), Self::json_path(member)?),
                    });
                }
                Ok(folded(Self::Object(parsed), value))
            }
            Value::Array(elements) => {
                let parsed = elements
                    .iter()
                    .map(Self::json_path)
                    .collect::<Result<_, _>>()?;
                Ok(folded(Self::Array(parsed), value))
            }
            plain => Ok(Self::Value(plain.clone())),
        }
    }

    /// Reads a template of JSONata's kind: texts between `{%` and `%}` are expressions.
    pub fn jsonata(value: &Value) -> Self {
        match value {
            Value::String(text) => match Jsonata::of(text) {
                Some(expression) => Self::Jsonata(expression),
                None => Self::Value(value.clone()),
            },
            Value::Array(elements) => {
                let parsed = elements.iter().map(Self::jsonata).collect();
                folded(Self::Array(parsed), value)
            }
            Value::Object(members) => {
                let parsed = members.iter();
                let parsed =
                    parsed.map(|(name, member)| (name.as_str().into(), Self::jsonata(member)));
                folded(Self::Object(parsed.collect()), value)
            }
            plain => Self::Value(plain.clone()),
        }
    }

    /// All JSONata expressions, with their places below `place`.
    pub fn expressions<'t>(&'t self, place: &str, found: &mut Vec<(String, &'t Jsonata)>) {
        match self {
            Self::Jsonata(expression) => found.push((place.to_owned(), expression)),
            Self::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    element.expressions(&format!("{place}[{index}]"), found);
                }
            }
            Self::Object(members) => {
                for (name, member) in members {
                    member.expressions(&format!("{place}/{name}"), found);
                }
            }
            Self::Value(_) | Self::Path(..) | Self::Intrinsic(_) => {}
        }
    }

    /// The value of a template without expressions.
    pub fn as_value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The template's value. `place` is the field that it is the value of, for messages.
    pub fn evaluate(
        &self,
        place: &str,
        evaluation: &mut Evaluation<'_>,
    ) -> Result<Value, EvaluationError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Array(elements) => elements
                .iter()
                .enumerate()
                .map(|(index, element)| element.evaluate(&format!("{place}[{index}]"), evaluation))
                .collect(),
            Self::Object(members) => {
                let mut object = Map::with_capacity(members.len());
                for (name, member) in members {
                    let value = member.evaluate(&format!("{place}/{name}"), evaluation)?;
                    object.insert(name.to_string(), value);
                }
                Ok(Value::Object(object))
            }
            Self::Path(field, path) => match evaluation.scope.select(path) {
                Ok(selected) if evaluation.budget.spend_on(&selected) => Ok(selected.into_value()),
                Ok(_) => Err(EvaluationError::too_much(field)),
                Err(cause) => Err(unresolved(field, path, cause, evaluation)),
            },
            Self::Intrinsic(call) => call
                .evaluate(&evaluation.scope, &mut *evaluation.chance)
                .map_err(|error| match error {
                    IntrinsicError::Path { path, .. } => EvaluationError::intrinsic(
                        call.source(),
                        &format!("the path '{path}' could not be found in the input"),
                    ),
                    IntrinsicError::Failed { call, reason } => {
                        EvaluationError::intrinsic(&call, &reason)
                    }
                })
                .and_then(|value| paid(value, place, evaluation)),
            Self::Jsonata(expression) => expression
                .evaluate(place, evaluation)
                .and_then(|value| paid(value, place, evaluation)),
        }
    }
}

/// A value that an expression has made, if all of them together are not too much.
fn paid(value: Value, place: &str, evaluation: &Evaluation<'_>) -> Result<Value, EvaluationError> {
    match evaluation.budget.spend_on(&value) {
        true => Ok(value),
        false => Err(EvaluationError::too_much(place)),
    }
}

fn unresolved(
    field: &str,
    path: &Path,
    cause: Unresolved,
    evaluation: &Evaluation<'_>,
) -> EvaluationError {
    match cause {
        Unresolved::Variable(name) => EvaluationError::unknown_variable(&name),
        Unresolved::Nothing(none) if none.is_too_much => EvaluationError::too_much(field),
        Unresolved::Nothing(_) => {
            EvaluationError::parameter_path(path.source(), field, evaluation.scope.input)
        }
    }
}

fn expression(name: &str, value: &Value) -> Result<Template, ParseTemplateError> {
    let refused = || ParseTemplateError {
        field: name.to_owned(),
    };
    let text = value.as_str().ok_or_else(refused)?;
    if Intrinsic::is_intended(text) {
        let call = Intrinsic::parse(text).map_err(|_| refused())?;
        return Ok(Template::Intrinsic(call));
    }
    let path = Path::parse(text).map_err(|_| refused())?;
    Ok(Template::Path(name.into(), path))
}

/// A template without expressions is a plain value, so that it is copied in one piece.
fn folded(template: Template, value: &Value) -> Template {
    let is_value = |template: &Template| matches!(template, Template::Value(_));
    let plain = match &template {
        Template::Array(elements) => elements.iter().all(is_value),
        Template::Object(members) => members.iter().all(|(_, member)| is_value(member)),
        _ => false,
    };
    if plain {
        Template::Value(value.clone())
    } else {
        template
    }
}
