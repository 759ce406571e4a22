//! JSONata expressions, evaluated by the crate `jsonata-core`.
//!
//! AWS's additions: `$states`, variables, and the functions `$partition`, `$range`, `$hash`,
//! `$random` with a seed, `$uuid` and `$parse`; `$eval` is not available. Chance and time come from
//! the evaluation, so that the same journal gives the same values again.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::{Value, json};

use crate::failure::{Evaluation, EvaluationError};
use crate::intrinsic::Function;
use crate::scope::{Chance, Seeded};

mod check;
#[cfg(test)]
mod tests;

pub use check::{Mistake, Offered};

/// An expression, with its text without delimiters.
#[derive(Clone, Debug)]
pub struct Jsonata {
    source: Box<str>,
    tree: Result<Arc<AstNode>, Mistake>,
}

impl PartialEq for Jsonata {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Jsonata {
    /// The expression in a text of the form `{% … %}`.
    pub fn of(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("{%")?.strip_suffix("%}")?;
        let source: Box<str> = inner.trim().into();
        let tree = match guarded(|| parser::parse(&source)) {
            Ok(parsed) => parsed
                .map(Arc::new)
                .map_err(|error| check::syntax(&source, &error)),
            Err(Panicked) => Err(check::unreadable()),
        };
        Some(Self { source, tree })
    }

    /// What AWS refuses the expression for, at a place where `$states` has these parts.
    pub fn mistakes(&self, offered: Offered) -> Vec<Mistake> {
        match &self.tree {
            Ok(tree) => check::references(tree, offered),
            Err(mistake) => vec![mistake.clone()],
        }
    }

    /// The value, for the field at `place`.
    pub fn evaluate(
        &self,
        place: &str,
        evaluation: &mut Evaluation<'_>,
    ) -> Result<Value, EvaluationError> {
        let failed = |reason: &str| {
            let source = &self.source;
            let cause = format!(
                "The JSONata expression '{source}' specified for the field '{place}' {reason}"
            );
            EvaluationError::query(place, cause)
        };
        let threw =
            |error: &EvaluatorError| failed(&format!("threw an error during evaluation. {error}"));
        // Not reached for an expression of a definition, which is checked before it runs.
        let tree = self
            .tree
            .as_ref()
            .map_err(|mistake| failed(&format!("is not valid. {}", mistake.message)))?;
        let mut evaluator = Evaluator::with_options(self.bindings(evaluation), limits());
        // Both need numbers; each evaluation has its own generator, taken from that of the step.
        let generator = Generator::new(evaluation.chance.bits());
        self.register(&mut evaluator, &generator, evaluation.now_ms)
            .map_err(|error| threw(&error))?;
        let value = guarded(|| evaluator.evaluate(tree, &JValue::Undefined))
            .map_err(|Panicked| failed("threw an error during evaluation."))?
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

struct Panicked;

/// The library has panicked at dates and pictures that nobody had thought of. Such an expression
/// fails; the execution, and the thread that many of them share, go on.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    // All that the library was at is dropped with its evaluator.
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked)
}

impl Jsonata {
    /// Whether the expression can use what has this name. Most have few names, and binding what
    /// nobody looks at would take longer than to evaluate them.
    fn mentions(&self, name: &str) -> bool {
        self.source.contains(name)
    }

    /// `$states` and the variables.
    fn bindings(&self, evaluation: &Evaluation<'_>) -> Context {
        let mut context = Context::new();
        if self.mentions("states") {
            context.bind("states".to_owned(), states(evaluation));
        }
        for (name, value) in evaluation.scope.variables {
            if self.mentions(name) {
                context.bind(name.to_string(), JValue::from(Value::clone(value)));
            }
        }
        context
    }
}

fn states(evaluation: &Evaluation<'_>) -> JValue {
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
    JValue::from(states)
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

impl Generator {
    /// A number from zero to less than one; with a seed always the same.
    fn unit(&self, seed: Option<&JValue>) -> f64 {
        match seed.and_then(JValue::as_f64) {
            Some(seed) => Seeded::new(seed.to_bits()).unit(),
            None => self.0.borrow_mut().unit(),
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

impl Jsonata {
    /// The functions that AWS adds, and those that would look at the clock or at chance.
    fn register(
        &self,
        evaluator: &mut Evaluator,
        generator: &Generator,
        now_ms: i64,
    ) -> Result<(), EvaluatorError> {
        for (name, function) in [
            ("partition", Function::ArrayPartition),
            ("range", Function::ArrayRange),
            ("hash", Function::Hash),
            ("uuid", Function::Uuid),
            ("parse", Function::StringToJson),
        ] {
            if self.mentions(name) {
                let generator = generator.clone();
                evaluator.register_fn(name, move |arguments: &[JValue]| {
                    generator.call(function, values(arguments)?)
                })?;
            }
        }
        if self.mentions("random") {
            let random = generator.clone();
            evaluator.register_fn_override("random", move |arguments: &[JValue]| {
                Ok(JValue::from_f64(random.unit(arguments.first())))
            })?;
        }
        if self.mentions("millis") {
            let millis = move |_: &[JValue]| Ok(JValue::from_i64(now_ms));
            evaluator.register_fn_override("millis", millis)?;
        }
        if self.mentions("now") {
            let now = move |arguments: &[JValue]| now(now_ms, arguments);
            evaluator.register_fn_override("now", now)?;
        }
        if self.mentions("eval") {
            evaluator.register_fn_override("eval", |_: &[JValue]| {
                let reason = "Attempted to invoke a non-function".to_owned();
                Err(EvaluatorError::TypeError(reason))
            })?;
        }
        Ok(())
    }
}

fn now(now_ms: i64, arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    // With a picture or a time zone the library formats, from the same moment.
    let call = match arguments.len() {
        0 => "$fromMillis($)".to_owned(),
        _ => {
            let shown = values(arguments)?;
            let shown: Vec<String> = shown.iter().map(Value::to_string).collect();
            format!("$fromMillis($, {})", shown.join(", "))
        }
    };
    let tree =
        parser::parse(&call).map_err(|error| EvaluatorError::EvaluationError(error.to_string()))?;
    Evaluator::new().evaluate(&tree, &JValue::from_i64(now_ms))
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
