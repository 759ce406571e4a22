//! How data goes into states and comes out of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::context;
use super::{FiberId, Step};
use crate::choice::MissingVariable;
use crate::definition::{Amount, Language, Text};
use crate::failure::{Evaluation, EvaluationError, names};
use crate::path::{Path, Root};
use crate::scope::{Scope, Unresolved, Variables};
use crate::template::Template;

/// What expressions are evaluated with, copied from a fiber so that the step stays free.
pub struct Data {
    pub input: Arc<Value>,
    pub context: Value,
    pub variables: Variables,
    pub result: Option<Arc<Value>>,
    pub error_output: Option<Value>,
}

/// What a state's end has made.
pub struct Made {
    pub output: Arc<Value>,
    pub assigned: BTreeMap<String, Arc<Value>>,
}

impl Data {
    /// The same data with another meaning of `$`.
    pub fn with_input(self, input: Arc<Value>) -> Self {
        Self { input, ..self }
    }
}

impl Step<'_> {
    pub fn data(&self, id: FiberId) -> Data {
        let fiber = &self.execution.fibers[&id];
        Data {
            input: Arc::clone(&fiber.input),
            context: context(&self.execution.identity, self.definition, fiber),
            variables: fiber.variables.clone(),
            result: None,
            error_output: None,
        }
    }

    pub fn evaluate<T>(
        &mut self,
        data: &Data,
        evaluate: impl FnOnce(&mut Evaluation<'_>) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        evaluate(&mut Evaluation {
            scope: Scope {
                input: &data.input,
                context: &data.context,
                variables: &data.variables,
            },
            chance: &mut self.chance,
            now_ms: self.now_ms,
            result: data.result.as_deref(),
            error_output: data.error_output.as_ref(),
        })
    }

    /// `InputPath` and then `Parameters`, or `Arguments`.
    pub fn effective_input(&mut self, id: FiberId) -> Result<Arc<Value>, EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let data = self.data(id);
        let filtered = filter(state.input.path.as_ref(), &data)?;
        let Some(template) = &state.input.template else {
            return Ok(filtered);
        };
        let (data, place) = match state.language {
            Language::JsonPath => (data.with_input(filtered), "Parameters"),
            Language::Jsonata => (data, "Arguments"),
        };
        let value = self.evaluate(&data, |evaluation| template.evaluate(place, evaluation));
        value.map(Arc::new)
    }

    /// What a state with this result puts out, and the variables that it sets.
    pub fn output(&mut self, id: FiberId, result: Arc<Value>) -> Result<Made, EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let mut data = self.data(id);
        match state.language {
            Language::JsonPath => {
                let mut result = result;
                if let Some(selector) = &state.output.selector {
                    data = data.with_input(result);
                    let selected = self.evaluate(&data, |evaluation| {
                        selector.evaluate("ResultSelector", evaluation)
                    })?;
                    result = Arc::new(selected);
                }
                let raw = Arc::clone(&self.execution.fibers[&id].input);
                data = data.with_input(Arc::clone(&result));
                let assigned = self.assigned(state.assign.as_ref(), &data)?;
                let placed = place(state.output.result_path.as_ref(), raw, result)?;
                data = data.with_input(placed);
                let output = filter(state.output.path.as_ref(), &data)?;
                Ok(Made { output, assigned })
            }
            Language::Jsonata => {
                data.result = Some(Arc::clone(&result));
                let assigned = self.assigned(state.assign.as_ref(), &data)?;
                let output =
                    match &state.output.output {
                        None => result,
                        Some(template) => Arc::new(self.evaluate(&data, |evaluation| {
                            template.evaluate("Output", evaluation)
                        })?),
                    };
                Ok(Made { output, assigned })
            }
        }
    }

    pub fn assigned(
        &mut self,
        assign: Option<&Template>,
        data: &Data,
    ) -> Result<BTreeMap<String, Arc<Value>>, EvaluationError> {
        let Some(assign) = assign else {
            return Ok(BTreeMap::new());
        };
        let value = self.evaluate(data, |evaluation| assign.evaluate("Assign", evaluation))?;
        let Value::Object(members) = value else {
            return Ok(BTreeMap::new());
        };
        Ok(members
            .into_iter()
            .map(|(name, value)| (name, Arc::new(value)))
            .collect())
    }

    /// A number of a field, which must not be negative.
    pub fn amount(
        &mut self,
        field: &str,
        amount: &Amount,
        data: &Data,
    ) -> Result<f64, EvaluationError> {
        match amount {
            Amount::Value(number) => Ok(*number),
            Amount::Jsonata(expression) => {
                let value =
                    self.evaluate(data, |evaluation| expression.evaluate(field, evaluation))?;
                value.as_f64().ok_or_else(|| {
                    EvaluationError::query(field, format!("{field} must be a number: {value}"))
                })
            }
            Amount::Path(path) => {
                let value = select(path, data)?;
                // Recorded on AWS: text that is a number will do.
                let number = match &value {
                    Value::String(text) => {
                        text.parse().ok().filter(|number: &f64| number.is_finite())
                    }
                    other => other.as_f64(),
                };
                number.ok_or_else(|| {
                    let kind = if field.ends_with("Percentage") { "float" } else { "integer" };
                    EvaluationError::runtime(format!(
                        "The {field}Path field refers to value \"{}\" which is not a valid {kind}: {path}",
                        text_of(&value)
                    ))
                })
            }
        }
    }

    /// The text of `Error` or `Cause`.
    pub fn text(
        &mut self,
        field: &str,
        text: &Text,
        data: &Data,
    ) -> Result<String, EvaluationError> {
        let value = match text {
            Text::Template(template) => {
                self.evaluate(data, |evaluation| template.evaluate(field, evaluation))?
            }
            Text::Path(path) => select(path, data)?,
            Text::Intrinsic(call) => {
                let template = Template::Intrinsic(call.clone());
                self.evaluate(data, |evaluation| template.evaluate(field, evaluation))?
            }
        };
        match value {
            Value::String(text) => Ok(text),
            other => Err(EvaluationError::runtime(format!(
                "The {field} field must be a string, but is: {other}"
            ))),
        }
    }
}

/// `InputPath` and `OutputPath`: absent is everything, null is an empty object.
pub fn filter(path: Option<&Option<Path>>, data: &Data) -> Result<Arc<Value>, EvaluationError> {
    match path {
        None => Ok(Arc::clone(&data.input)),
        Some(None) => Ok(Arc::new(Value::Object(Map::new()))),
        Some(Some(path)) if path.source() == "$" => Ok(Arc::clone(&data.input)),
        Some(Some(path)) => select(path, data).map(Arc::new),
    }
}

/// `ResultPath`: absent is everything, null drops the result.
pub fn place(
    path: Option<&Option<Path>>,
    raw: Arc<Value>,
    result: Arc<Value>,
) -> Result<Arc<Value>, EvaluationError> {
    match path {
        None => Ok(result),
        Some(None) => Ok(raw),
        Some(Some(path)) => {
            if *path.root() != Root::Input {
                let cause = format!("Invalid path '{path}': a result can only go into the input");
                return Err(EvaluationError::named(
                    names::RESULT_PATH_MATCH_FAILURE,
                    cause,
                ));
            }
            let shown = raw.to_string();
            let raw = Arc::unwrap_or_clone(raw);
            let placed = path.put(raw, Arc::unwrap_or_clone(result));
            placed.map(Arc::new).map_err(|_| {
                let cause = format!("Unable to apply ReferencePath {path} to input {shown}");
                EvaluationError::named(names::RESULT_PATH_MATCH_FAILURE, cause)
            })
        }
    }
}

pub fn select(path: &Path, data: &Data) -> Result<Value, EvaluationError> {
    let scope = Scope {
        input: &data.input,
        context: &data.context,
        variables: &data.variables,
    };
    match scope.select(path) {
        Ok(selected) => Ok(selected.into_value()),
        Err(cause) => Err(missing(path.source(), cause)),
    }
}

fn missing(path: &str, cause: Unresolved) -> EvaluationError {
    match cause {
        Unresolved::Variable(name) => EvaluationError::unknown_variable(&name),
        Unresolved::Nothing(none) => EvaluationError::runtime(format!(
            "Invalid path '{path}' : Missing property in path {}",
            none.at
        )),
    }
}

impl From<MissingVariable> for EvaluationError {
    fn from(missing_variable: MissingVariable) -> Self {
        missing(&missing_variable.path, missing_variable.cause)
    }
}

/// A value in a message: text without its quotes.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
