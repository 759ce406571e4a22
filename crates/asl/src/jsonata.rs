//! JSONata expressions, evaluated by the crate `jsonata-core`.
//!
//! AWS's additions: `$states`, variables, and the functions `$partition`, `$range`, `$hash`,
//! `$random` with a seed, `$uuid` and `$parse`; `$eval` is not available. Chance and time come from
//! the evaluation, so that the same journal gives the same values again.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>

use std::cell::RefCell;

use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::{Value, json};

use crate::failure::{Evaluation, EvaluationError};
use crate::intrinsic::Function;
use crate::scope::{Chance, Seeded};

#[cfg(test)]
mod tests;

/// The text of an expression, without its delimiters. It parses: [`Jsonata::check`] has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jsonata(Box<str>);

impl Jsonata {
    /// The expression in a text of the form `{% … %}`.
    pub fn of(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("{%")?.strip_suffix("%}")?;
        Some(Self(inner.trim().into()))
    }

    /// Why the text is no expression, if it is none.
    pub fn check(&self) -> Result<(), String> {
        parser::parse(&self.0)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// The value, for the field at `place`.
    pub fn evaluate(
        &self,
        place: &str,
        evaluation: &mut Evaluation<'_>,
    ) -> Result<Value, EvaluationError> {
        let failed = |reason: &str| {
            let Self(source) = self;
            let cause = format!(
                "The JSONata expression '{source}' specified for the field '{place}' {reason}"
            );
            EvaluationError::query(place, cause)
        };
        let threw =
            |error: &EvaluatorError| failed(&format!("threw an error during evaluation. {error}"));
        let tree =
            parser::parse(&self.0).map_err(|error| failed(&format!("is not valid. {error}")))?;
        let mut evaluator = Evaluator::with_options(bindings(evaluation), limits());
        // Both need numbers; each evaluation has its own generator, taken from that of the step.
        let generator = Generator::new(evaluation.chance.bits());
        register(&mut evaluator, &generator, evaluation.now_ms).map_err(|error| threw(&error))?;
        let value = evaluator
            .evaluate(&tree, &JValue::Undefined)
            .map_err(|error| threw(&error))?;
        if value.is_undefined() {
            return Err(failed("returned nothing (undefined)."));
        }
        if value.is_function() || value.is_regex() {
            return Err(failed("returned a value that is not JSON."));
        }
        plain(&value).ok_or_else(|| failed("returned a value that is not JSON."))
    }
}

/// `$states` and the variables.
fn bindings(evaluation: &Evaluation<'_>) -> Context {
    let mut states = json!({
        "input": evaluation.scope.input,
        "context": evaluation.scope.context,
    });
    if let Some(result) = evaluation.result {
        states["result"] = result.clone();
    }
    if let Some(error) = evaluation.error_output {
        states["errorOutput"] = error.clone();
    }
    let mut context = Context::new();
    context.bind("states".to_owned(), JValue::from(states));
    for (name, value) in evaluation.scope.variables {
        context.bind(name.to_string(), JValue::from(Value::clone(value)));
    }
    context
}

/// The generator behind the functions, which the library takes as shared closures.
#[derive(Clone)]
struct Generator(std::rc::Rc<RefCell<Seeded>>);

impl Generator {
    fn new(seed: u64) -> Self {
        Self(std::rc::Rc::new(RefCell::new(Seeded::new(seed))))
    }

    fn call(&self, function: Function, arguments: Vec<Value>) -> Result<JValue, EvaluatorError> {
        let mut chance = self.0.borrow_mut();
        match function.call(arguments, &mut *chance) {
            Ok(value) => Ok(JValue::from(value)),
            Err(reason) => Err(EvaluatorError::EvaluationError(reason)),
        }
    }
}

/// Bounds on what one expression may take. AWS's own are not published.
const MAX_DEPTH: usize = 500;
const MAX_SEQUENCE: usize = 100_000;
/// The one thing here that depends on the machine: without it, an endless tail call would never end.
const MAX_MILLISECONDS: u64 = 5_000;

fn limits() -> EvaluatorOptions {
    EvaluatorOptions {
        timeout_ms: Some(MAX_MILLISECONDS),
        max_stack_depth: Some(MAX_DEPTH),
        max_sequence_length: Some(MAX_SEQUENCE),
        ..EvaluatorOptions::default()
    }
}

fn register(
    evaluator: &mut Evaluator,
    generator: &Generator,
    now_ms: i64,
) -> Result<(), EvaluatorError> {
    let take = |function: Function| {
        let generator = generator.clone();
        move |arguments: &[JValue]| generator.call(function, values(arguments)?)
    };
    evaluator.register_fn("partition", take(Function::ArrayPartition))?;
    evaluator.register_fn("range", take(Function::ArrayRange))?;
    evaluator.register_fn("hash", take(Function::Hash))?;
    evaluator.register_fn("uuid", take(Function::Uuid))?;
    evaluator.register_fn("parse", take(Function::StringToJson))?;
    let random = generator.clone();
    evaluator.register_fn_override("random", move |arguments: &[JValue]| {
        let mut seeded;
        let mut own;
        let chance: &mut dyn Chance = match arguments.first().and_then(JValue::as_f64) {
            Some(seed) => {
                seeded = Seeded::new(seed.to_bits());
                &mut seeded
            }
            None => {
                own = random.0.borrow_mut();
                &mut *own
            }
        };
        Ok(JValue::from_f64(chance.unit()))
    })?;
    evaluator.register_fn_override("millis", move |_: &[JValue]| Ok(JValue::from_i64(now_ms)))?;
    evaluator.register_fn_override("now", move |arguments: &[JValue]| {
        // With a picture or a time zone the library formats, from the same moment.
        let mut from_millis = Evaluator::new();
        let call = match arguments.len() {
            0 => "$fromMillis($)".to_owned(),
            _ => {
                let shown = values(arguments)?;
                let shown: Vec<String> = shown.iter().map(Value::to_string).collect();
                format!("$fromMillis($, {})", shown.join(", "))
            }
        };
        let tree = parser::parse(&call)
            .map_err(|error| EvaluatorError::EvaluationError(error.to_string()))?;
        from_millis.evaluate(&tree, &JValue::from_i64(now_ms))
    })?;
    evaluator.register_fn_override("eval", |_: &[JValue]| {
        let reason = "Attempted to invoke a non-function".to_owned();
        Err(EvaluatorError::TypeError(reason))
    })
}

fn values(arguments: &[JValue]) -> Result<Vec<Value>, EvaluatorError> {
    let values = arguments.iter().map(|argument| {
        plain(argument)
            .ok_or_else(|| EvaluatorError::TypeError("an argument is not a JSON value".to_owned()))
    });
    values.collect()
}

fn plain(value: &JValue) -> Option<Value> {
    if value.is_undefined() {
        return Some(Value::Null);
    }
    let text = value.to_json_string().ok()?;
    serde_json::from_str(&text).ok()
}
