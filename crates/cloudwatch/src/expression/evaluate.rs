//! From a tree and the values of its ids to a value.

use std::collections::BTreeMap;

use super::{ExpressionError, Function, Node, Operator, Series};

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(f64),
    Series(Series),
    /// Several series, each with its label.
    Array(Vec<(String, Series)>),
}

/// What expressions are made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The values of the ids.
    pub values: &'a BTreeMap<String, Value>,
    /// The metrics of the request, with their labels and ids, in its order.
    pub metrics: &'a [(String, String)],
    /// When periods begin, in seconds since the epoch.
    pub times: &'a [i64],
    /// The length of a period, in seconds.
    pub period: i64,
}

pub(super) fn evaluate(node: &Node, inputs: &Inputs<'_>) -> Result<Value, ExpressionError> {
    match node {
        Node::Number(value) => Ok(Value::Scalar(*value)),
        Node::Text(text) => Err(invalid(format!("Unexpected {text}"))),
        Node::Id(id) => inputs
            .values
            .get(id)
            .cloned()
            .ok_or_else(|| invalid(format!("Unknown id {id}"))),
        Node::Array(nodes) => array(nodes, inputs),
        Node::Negative(value) => map(evaluate(value, inputs)?, |value| -value),
        Node::Binary(operator, left, right) => {
            let (left, right) = (evaluate(left, inputs)?, evaluate(right, inputs)?);
            combine(left, right, |a, b| operator.apply(a, b))
        }
        Node::Call(function, arguments) => call(*function, arguments, inputs),
    }
}

fn array(nodes: &[Node], inputs: &Inputs<'_>) -> Result<Value, ExpressionError> {
    let mut all = Vec::new();
    for node in nodes {
        match evaluate(node, inputs)? {
            Value::Series(series) => all.push((label(node), series)),
            Value::Array(series) => all.extend(series),
            Value::Scalar(_) => return Err(invalid("An array can hold time series only")),
        }
    }
    Ok(Value::Array(all))
}

fn label(node: &Node) -> String {
    match node {
        Node::Id(id) => id.clone(),
        _ => String::new(),
    }
}

fn call(
    function: Function,
    arguments: &[Node],
    inputs: &Inputs<'_>,
) -> Result<Value, ExpressionError> {
    match (function, arguments) {
        (Function::Metrics, []) => Ok(metrics(inputs, "")),
        (Function::Metrics, [Node::Text(text)]) => Ok(metrics(inputs, text)),
        (Function::Fill, [series, filling]) => fill(series, filling, inputs),
        (Function::If, [condition, yes]) => choose(condition, yes, None, inputs),
        (Function::If, [condition, yes, no]) => choose(condition, yes, Some(no), inputs),
        (Function::TimeSeries, [value]) => match evaluate(value, inputs)? {
            Value::Scalar(value) => Ok(Value::Series(constant(value, inputs.times))),
            _ => Err(invalid("TIME_SERIES takes a number")),
        },
        (_, [argument]) => unary(function, evaluate(argument, inputs)?, inputs),
        _ => Err(invalid("Wrong number of arguments")),
    }
}

fn unary(
    function: Function,
    argument: Value,
    inputs: &Inputs<'_>,
) -> Result<Value, ExpressionError> {
    match function {
        Function::Abs => map(argument, f64::abs),
        Function::Ceil => map(argument, f64::ceil),
        Function::Floor => map(argument, f64::floor),
        Function::Sum => reduce(argument, |values| Some(values.iter().sum())),
        Function::Avg => reduce(argument, mean),
        Function::Min => reduce(argument, |values| values.iter().copied().reduce(f64::min)),
        Function::Max => reduce(argument, |values| values.iter().copied().reduce(f64::max)),
        Function::Stddev => reduce(argument, deviation),
        Function::Rate => each(argument, |series| {
            steps(series, |seconds, difference| difference / seconds)
        }),
        Function::Diff => each(argument, |series| steps(series, |_, difference| difference)),
        Function::RunningSum => each(argument, |series| {
            let mut sum = 0.0;
            let summed = series.into_iter().map(|(at, value)| {
                sum += value;
                (at, sum)
            });
            summed.collect()
        }),
        Function::MetricCount => match argument {
            #[expect(clippy::cast_precision_loss, reason = "a request has few metrics")]
            Value::Array(all) => Ok(Value::Scalar(all.len() as f64)),
            _ => Err(invalid("METRIC_COUNT takes an array")),
        },
        #[expect(clippy::cast_precision_loss, reason = "a period is below 10^6")]
        Function::Period => match argument {
            Value::Series(_) => Ok(Value::Scalar(inputs.period as f64)),
            _ => Err(invalid("PERIOD takes a metric")),
        },
        Function::Fill | Function::If | Function::Metrics | Function::TimeSeries => {
            Err(invalid("Wrong number of arguments"))
        }
    }
}

fn metrics(inputs: &Inputs<'_>, containing: &str) -> Value {
    let found = inputs.metrics.iter().filter_map(|(id, label)| {
        if !id.contains(containing) {
            return None;
        }
        match inputs.values.get(id) {
            Some(Value::Series(series)) => Some((label.clone(), series.clone())),
            _ => None,
        }
    });
    Value::Array(found.collect())
}

/// Gives values to periods that have none.
fn fill(series: &Node, filling: &Node, inputs: &Inputs<'_>) -> Result<Value, ExpressionError> {
    let value = evaluate(series, inputs)?;
    let with = match filling {
        Node::Text(text) if text == "REPEAT" => Filling::Repeat,
        Node::Text(text) if text == "LINEAR" => Filling::Linear,
        other => match evaluate(other, inputs)? {
            Value::Scalar(value) => Filling::Constant(value),
            Value::Series(series) => Filling::Series(series),
            Value::Array(_) => return Err(invalid("FILL takes a number or a time series")),
        },
    };
    each(value, |series| with.apply(&series, inputs.times))
}

enum Filling {
    Constant(f64),
    Series(Series),
    /// The last value before.
    Repeat,
    /// On the line between the values before and after.
    Linear,
}

impl Filling {
    fn apply(&self, series: &Series, times: &[i64]) -> Series {
        let mut filled = series.clone();
        for at in times {
            if series.contains_key(at) {
                continue;
            }
            let before = || series.range(..at).next_back();
            let value =
                match self {
                    Self::Constant(value) => Some(*value),
                    Self::Series(other) => other.get(at).copied(),
                    Self::Repeat => before().map(|(_, value)| *value),
                    Self::Linear => before().zip(series.range(at..).next()).map(
                        |((from, first), (to, last))| {
                            first + (last - first) * seconds(at - from) / seconds(to - from)
                        },
                    ),
                };
            filled.extend(value.map(|value| (*at, value)));
        }
        filled
    }
}

#[expect(clippy::cast_precision_loss, reason = "within the years that are kept")]
fn seconds(difference: i64) -> f64 {
    difference as f64
}

fn choose(
    condition: &Node,
    yes: &Node,
    no: Option<&Node>,
    inputs: &Inputs<'_>,
) -> Result<Value, ExpressionError> {
    let condition = evaluate(condition, inputs)?;
    let yes = evaluate(yes, inputs)?;
    let no = no.map(|no| evaluate(no, inputs)).transpose()?;
    let at = |value: &Value, at: &i64| match value {
        Value::Scalar(value) => Some(*value),
        Value::Series(series) => series.get(at).copied(),
        Value::Array(_) => None,
    };
    match condition {
        Value::Scalar(value) if value != 0.0 => Ok(yes),
        Value::Scalar(_) => no.ok_or_else(|| invalid("IF has no value")),
        Value::Series(series) => {
            let chosen = series.iter().filter_map(|(time, value)| {
                let from = if *value != 0.0 {
                    Some(&yes)
                } else {
                    no.as_ref()
                };
                Some((*time, at(from?, time)?))
            });
            Ok(Value::Series(chosen.collect()))
        }
        Value::Array(_) => Err(invalid("IF takes a number or a time series")),
    }
}

fn map(value: Value, function: impl Fn(f64) -> f64) -> Result<Value, ExpressionError> {
    if let Value::Scalar(value) = value {
        return Ok(Value::Scalar(function(value)));
    }
    each(value, |series| {
        let mapped = series.into_iter().map(|(at, value)| (at, function(value)));
        mapped.collect()
    })
}

fn each(value: Value, function: impl Fn(Series) -> Series) -> Result<Value, ExpressionError> {
    match value {
        Value::Scalar(_) => Err(invalid("A time series is needed")),
        Value::Series(series) => Ok(Value::Series(function(series))),
        Value::Array(all) => {
            let all = all
                .into_iter()
                .map(|(label, series)| (label, function(series)));
            Ok(Value::Array(all.collect()))
        }
    }
}

/// Series are joined where both have a value.
fn combine(
    left: Value,
    right: Value,
    function: impl Fn(f64, f64) -> f64 + Copy,
) -> Result<Value, ExpressionError> {
    use Value::{Array, Scalar, Series};
    Ok(match (left, right) {
        (Scalar(a), Scalar(b)) => Scalar(function(a, b)),
        (left, Scalar(b)) => return map(left, |a| function(a, b)),
        (Scalar(a), right) => return map(right, |b| function(a, b)),
        (Series(a), Series(b)) => Series(joined(&a, &b, function)),
        (Array(all), Series(b)) => Array(
            all.into_iter()
                .map(|(label, a)| (label, joined(&a, &b, function)))
                .collect(),
        ),
        (Series(a), Array(all)) => Array(
            all.into_iter()
                .map(|(label, b)| (label, joined(&a, &b, function)))
                .collect(),
        ),
        (Array(_), Array(_)) => return Err(invalid("Two arrays cannot be combined")),
    })
}

fn joined(a: &Series, b: &Series, function: impl Fn(f64, f64) -> f64) -> Series {
    a.iter()
        .filter_map(|(at, a)| {
            let value = function(*a, *b.get(at)?);
            // A division by zero gives no data point.
            value.is_finite().then_some((*at, value))
        })
        .collect()
}

/// One number of a series, or one series of an array.
fn reduce(
    value: Value,
    function: impl Fn(&[f64]) -> Option<f64>,
) -> Result<Value, ExpressionError> {
    match value {
        Value::Scalar(_) => Err(invalid("A time series or an array is needed")),
        Value::Series(series) => {
            let values: Vec<f64> = series.into_values().collect();
            Ok(Value::Scalar(function(&values).unwrap_or(0.0)))
        }
        Value::Array(all) => {
            let mut by_time: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for (_, series) in all {
                for (at, value) in series {
                    by_time.entry(at).or_default().push(value);
                }
            }
            let reduced = by_time
                .into_iter()
                .filter_map(|(at, values)| Some((at, function(&values)?)));
            Ok(Value::Series(reduced.collect()))
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a request has few data points")]
    let count = values.len() as f64;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count)
}

fn deviation(values: &[f64]) -> Option<f64> {
    let center = mean(values)?;
    let squares: Vec<f64> = values
        .iter()
        .map(|value| (value - center).powi(2))
        .collect();
    mean(&squares).map(f64::sqrt)
}

/// A value for each step from one data point to the next.
fn steps(series: Series, function: impl Fn(f64, f64) -> f64) -> Series {
    let points: Vec<(i64, f64)> = series.into_iter().collect();
    points
        .windows(2)
        .map(|pair| {
            let ((from, first), (to, last)) = (pair[0], pair[1]);
            (to, function(seconds(to - from), last - first))
        })
        .collect()
}

fn constant(value: f64, times: &[i64]) -> Series {
    times.iter().map(|at| (*at, value)).collect()
}

impl Operator {
    fn apply(self, a: f64, b: f64) -> f64 {
        let truth = |is: bool| f64::from(u8::from(is));
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Power => a.powf(b),
            #[expect(clippy::float_cmp, reason = "this is what the expression asks")]
            Self::Equal => truth(a == b),
            #[expect(clippy::float_cmp, reason = "this is what the expression asks")]
            Self::NotEqual => truth(a != b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Or => truth(a != 0.0 || b != 0.0),
        }
    }
}

fn invalid(text: impl Into<String>) -> ExpressionError {
    ExpressionError::Invalid(text.into())
}
