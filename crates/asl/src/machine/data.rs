//! How data goes into states and comes out of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::context;
use super::{Fiber, FiberId, Step, is_too_deep};
use crate::budget::Budget;
use crate::choice::MissingVariable;
use crate::definition::{Amount, Kind, Language, State, Text};
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

impl Made {
    pub fn of(output: Arc<Value>) -> Self {
        Self {
            output,
            assigned: BTreeMap::new(),
        }
    }
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
            context: self.context_of(fiber),
            variables: fiber.variables.clone(),
            result: None,
            error_output: None,
        }
    }

    /// What `$$` is for a fiber. A state that cannot see it has null instead, since it takes longer
    /// to make than most states take.
    fn context_of(&self, fiber: &Fiber) -> Value {
        if let Some(context) = self.watch.as_ref().and_then(|watch| watch.context()) {
            return context.clone();
        }
        if self.definition.state(fiber.state).reads_context {
            context(&self.execution.identity, self.definition, fiber)
        } else {
            Value::Null
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
            budget: Budget::within(&self.budget),
            now_ms: self.now_ms,
            result: data.result.as_deref(),
            error_output: data.error_output.as_ref(),
        })
    }

    /// `InputPath` and then `Parameters`, or `Arguments`.
    pub fn effective_input(&mut self, id: FiberId) -> Result<Arc<Value>, EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        let raw = &self.execution.fibers[&id].input;
        let filtered = match &state.input.path {
            None => Arc::clone(raw),
            path => filter(path.as_ref(), &self.data(id))?,
        };
        let shown = Arc::clone(&filtered);
        self.see(|inspection| match (&state.kind, state.language) {
            // Recorded on AWS: what goes into branches and iterations is not shown.
            (Kind::Parallel { .. } | Kind::Map(_), _) | (_, Language::Jsonata) => {}
            _ => inspection.after_input_path = Some(shown),
        });
        let effective = match &state.input.template {
            None => filtered,
            Some(template) => {
                let data = self.data(id);
                let (data, place) = match state.language {
                    Language::JsonPath => (data.with_input(filtered), "Parameters"),
                    Language::Jsonata => (data, "Arguments"),
                };
                let value = self.evaluate(&data, |evaluation| template.evaluate(place, evaluation));
                let value = value?;
                if is_too_deep(&value) {
                    return Err(EvaluationError::too_much(place));
                }
                Arc::new(value)
            }
        };
        let shown = Arc::clone(&effective);
        self.see(|inspection| match (&state.kind, state.language) {
            (Kind::Task(_) | Kind::Pass { .. }, Language::JsonPath) => {
                inspection.after_parameters = Some(shown);
            }
            (Kind::Task(_) | Kind::Parallel { .. }, Language::Jsonata)
                if state.input.template.is_some() =>
            {
                inspection.after_arguments = Some(shown);
            }
            _ => {}
        });
        Ok(effective)
    }

    /// What a state with this result puts out, and the variables that it sets.
    pub fn output(&mut self, id: FiberId, result: Arc<Value>) -> Result<Made, EvaluationError> {
        let definition = self.definition;
        let state = definition.state(self.execution.fibers[&id].state);
        if let Kind::Task(_) = state.kind {
            self.see(|inspection| inspection.result = Some(Arc::clone(&result)));
        }
        match state.language {
            Language::JsonPath => self.placed(id, state, result),
            Language::Jsonata => {
                if state.assign.is_none() && state.output.output.is_none() {
                    return Ok(Made::of(result));
                }
                let mut data = self.data(id);
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

    /// `ResultSelector`, `Assign`, `ResultPath` and `OutputPath`.
    fn placed(
        &mut self,
        id: FiberId,
        state: &State,
        result: Arc<Value>,
    ) -> Result<Made, EvaluationError> {
        let selected = match &state.output.selector {
            None => result,
            Some(selector) => {
                let data = self.data(id).with_input(result);
                let selected = self.evaluate(&data, |evaluation| {
                    selector.evaluate("ResultSelector", evaluation)
                })?;
                Arc::new(selected)
            }
        };
        let assigned = match &state.assign {
            None => BTreeMap::new(),
            assign => {
                let data = self.data(id).with_input(Arc::clone(&selected));
                self.assigned(assign.as_ref(), &data)?
            }
        };
        let raw = Arc::clone(&self.execution.fibers[&id].input);
        let shown = Arc::clone(&selected);
        let placed = place(state.output.result_path.as_ref(), raw, selected)?;
        let has_result = matches!(
            state.kind,
            Kind::Task(_) | Kind::Pass { .. } | Kind::Parallel { .. } | Kind::Map(_)
        );
        if has_result {
            self.see(|inspection| {
                inspection.after_result_selector = Some(shown);
                inspection.after_result_path = Some(Arc::clone(&placed));
            });
        }
        let output = match &state.output.path {
            None => placed,
            path => filter(path.as_ref(), &self.data(id).with_input(placed))?,
        };
        Ok(Made { output, assigned })
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
        self.evaluate(data, |evaluation| number(field, amount, evaluation))
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

/// The number of a field.
pub fn number(
    field: &str,
    amount: &Amount,
    evaluation: &mut Evaluation<'_>,
) -> Result<f64, EvaluationError> {
    match amount {
        Amount::Value(number) => Ok(*number),
        Amount::Jsonata(expression) => {
            let value = expression.evaluate(field, evaluation)?;
            value.as_f64().ok_or_else(|| {
                EvaluationError::query(field, format!("{field} must be a number: {value}"))
            })
        }
        Amount::Path(path) => {
            let selected = evaluation.scope.select(path);
            let value = selected.map_err(|cause| missing(path.source(), cause))?;
            let value = value.into_value();
            // Recorded on AWS: text that is a number will do.
            let number = match &value {
                Value::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
                other => other.as_f64(),
            };
            number.ok_or_else(|| {
                let percentage = field.ends_with("Percentage");
                let kind = if percentage { "float" } else { "integer" };
                EvaluationError::runtime(format!(
                    "The {field}Path field refers to value \"{}\" which is not a valid {kind}: \
                     {path}",
                    text_of(&value)
                ))
            })
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
        Unresolved::Nothing(none) if none.is_too_much => EvaluationError::too_much(path),
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
