//! Evaluating an expression on plain data: the same code in this process and in another one.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use serde_json::Value;

use super::data;
use crate::intrinsic::Function;
use crate::scope::{Chance, Seeded};

/// Bounds on what one expression may take. AWS's own are not published.
const MAX_DEPTH: usize = 500;
const MAX_SEQUENCE: usize = 100_000;
/// The text of a result. What a state may put out is a small part of it.
const MAX_RESULT_BYTES: usize = 16 << 20;
/// The words of an error; those of an execution's may have 32,768 characters.
const MAX_REASON_BYTES: usize = 32 << 10;

/// What an expression is evaluated with.
pub struct Given {
    /// `$states` and the variables.
    pub bindings: Vec<(String, JValue)>,
    pub seed: u64,
    pub now_ms: i64,
    pub limit: Duration,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With what follows "The JSONata expression '…' specified for the field '…' ".
    Because(String),
    /// The value is too large.
    TooLarge,
    TooLong,
}

impl Refusal {
    fn threw(error: &EvaluatorError) -> Self {
        let mut error = error.to_string();
        // The library's word for the end of the time.
        if error.contains("D1012: Evaluation timeout") {
            return Self::TooLong;
        }
        error.truncate(error.floor_char_boundary(MAX_REASON_BYTES));
        Self::Because(format!("threw an error during evaluation. {error}"))
    }
}

pub struct Panicked;

/// The library has panicked at dates and pictures that nobody had thought of. Such an expression
/// fails; the execution, and the thread that many of them share, go on.
pub fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    // All that the library was at is dropped with its evaluator.
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked)
}

/// Whether an expression can use what has this name. Most have few names, and binding what nobody
/// looks at would take longer than to evaluate them.
pub fn mentions(source: &str, name: &str) -> bool {
    source.contains(name)
}

/// The value of an expression, as JSON.
pub fn run(tree: &AstNode, source: &str, given: Given) -> Result<String, Refusal> {
    let mut context = Context::new();
    for (name, value) in given.bindings {
        context.bind(name, value);
    }
    let mut evaluator = Evaluator::with_options(context, limits(given.limit));
    let generator = Generator::new(given.seed);
    register(source, &mut evaluator, &generator, given.now_ms)
        .map_err(|error| Refusal::threw(&error))?;
    let because = |reason: &str| Refusal::Because(reason.to_owned());
    let value = guarded(|| evaluator.evaluate(tree, &JValue::Undefined))
        .map_err(|Panicked| because("threw an error during evaluation."))?
        .map_err(|error| Refusal::threw(&error))?;
    if value.is_undefined() {
        return Err(because("returned nothing (undefined)."));
    }
    let no_json = || because("returned a value that is not JSON.");
    if value.is_function() || value.is_regex() {
        return Err(no_json());
    }
    let text = value.to_json_string().map_err(|_| no_json())?;
    match text.len() > MAX_RESULT_BYTES {
        true => Err(Refusal::TooLarge),
        false => Ok(text),
    }
}

fn limits(time: Duration) -> EvaluatorOptions {
    EvaluatorOptions {
        timeout_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        max_stack_depth: Some(MAX_DEPTH),
        max_sequence_length: Some(MAX_SEQUENCE),
        ..EvaluatorOptions::default()
    }
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

    /// A number from zero to less than one; with a seed always the same.
    fn unit(&self, seed: Option<&JValue>) -> f64 {
        match seed.and_then(JValue::as_f64) {
            Some(seed) => Seeded::new(seed.to_bits()).unit(),
            None => self.0.borrow_mut().unit(),
        }
    }
}

/// The functions that AWS adds, and those that would look at the clock or at chance.
fn register(
    source: &str,
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
        if mentions(source, name) {
            let generator = generator.clone();
            evaluator.register_fn(name, move |arguments: &[JValue]| {
                generator.call(function, values(arguments)?)
            })?;
        }
    }
    if mentions(source, "random") {
        let random = generator.clone();
        evaluator.register_fn_override("random", move |arguments: &[JValue]| {
            Ok(JValue::from_f64(random.unit(arguments.first())))
        })?;
    }
    if mentions(source, "millis") {
        let millis = move |_: &[JValue]| Ok(JValue::from_i64(now_ms));
        evaluator.register_fn_override("millis", millis)?;
    }
    if mentions(source, "now") {
        let now = move |arguments: &[JValue]| now(now_ms, arguments);
        evaluator.register_fn_override("now", now)?;
    }
    if mentions(source, "eval") {
        evaluator.register_fn_override("eval", |_: &[JValue]| {
            let reason = "Attempted to invoke a non-function".to_owned();
            Err(EvaluatorError::TypeError(reason))
        })?;
    }
    Ok(())
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
        data::plain(argument)
            .ok_or_else(|| EvaluatorError::TypeError("an argument is not a JSON value".to_owned()))
    });
    values.collect()
}
