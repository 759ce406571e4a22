//! Metric math: arithmetic on time series.
//!
//! See <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html>. What
//! is served: `+ - * / ^`, comparisons, and the functions of [`Function`]. Searches, Metrics
//! Insights and anomaly detection are not.

mod evaluate;
mod parse;

use std::collections::BTreeMap;

pub use evaluate::{Inputs, Value};

/// Values by time, in seconds since the epoch.
pub type Series = BTreeMap<i64, f64>;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is wrong.
    #[error("{0}")]
    Invalid(String),
    /// AWS would compute it.
    #[error("firn does not compute {0} yet")]
    NotSupported(String),
}

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    Text(String),
    Id(String),
    Array(Vec<Node>),
    Negative(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Abs,
    Avg,
    Ceil,
    Diff,
    Fill,
    Floor,
    If,
    Max,
    MetricCount,
    Metrics,
    Min,
    Period,
    Rate,
    RunningSum,
    Stddev,
    Sum,
    TimeSeries,
}

impl Expression {
    /// Parses an expression. It is bounded in depth and, by the interface, in length.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        parse::parse(text).map(Self)
    }

    /// The ids that it names.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids = Vec::new();
        self.0.ids(&mut ids);
        ids
    }

    /// True if it asks for all metrics of the request.
    pub fn uses_all_metrics(&self) -> bool {
        self.0.calls(Function::Metrics)
    }

    /// Its value. `inputs` has the values of the ids.
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Result<Value, ExpressionError> {
        evaluate::evaluate(&self.0, inputs)
    }
}

impl Node {
    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Id(_) => Vec::new(),
            Self::Negative(value) => vec![value],
            Self::Binary(_, left, right) => vec![left, right],
            Self::Array(nodes) | Self::Call(_, nodes) => nodes.iter().collect(),
        }
    }

    fn ids<'a>(&'a self, found: &mut Vec<&'a str>) {
        if let Self::Id(id) = self {
            found.push(id);
        }
        for child in self.children() {
            child.ids(found);
        }
    }

    fn calls(&self, function: Function) -> bool {
        let here = matches!(self, Self::Call(called, _) if *called == function);
        here || self.children().iter().any(|child| child.calls(function))
    }
}

#[cfg(test)]
mod tests;
