//! Filters: `[?(@.status == 0 && @.name)]`.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::select::{Cursor, walk};
use super::{Path, Root, Selected, Step};

#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// Not one inside the other: a path has room for more than the stack has.
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Exists(Operand),
    Compare(Operand, Comparison, Operand),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `@…`: a path from the element that is looked at.
    Element(Vec<Step>),
    /// `$…`: a path from the whole document.
    Path(Box<Path>),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Contains,
}

impl Expression {
    /// Whether it is true of an element that the path at `cursor` has come to.
    pub fn holds(&self, element: &Value, cursor: Cursor<'_, '_>) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.holds(element, cursor)),
            Self::All(terms) => terms.iter().all(|term| term.holds(element, cursor)),
            Self::Not(inner) => !inner.holds(element, cursor),
            Self::Exists(operand) => operand.value(element, cursor).is_some(),
            Self::Compare(left, comparison, right) => {
                match (left.value(element, cursor), right.value(element, cursor)) {
                    (Some(left), Some(right)) => comparison.holds(&left, &right),
                    // What is missing equals nothing.
                    _ => matches!(comparison, Comparison::NotEqual | Comparison::NotIn),
                }
            }
        }
    }
}

impl Operand {
    fn value<'v>(&'v self, element: &'v Value, cursor: Cursor<'v, '_>) -> Option<Selected<'v>> {
        let Cursor {
            document, budget, ..
        } = cursor;
        let (steps, from) = match self {
            Self::Value(value) => return Some(Selected::One(value)),
            Self::Element(steps) => (steps, element),
            // The other roots are not known here; Jayway has none.
            Self::Path(path) if path.root == Root::Input => (&path.steps, document),
            Self::Path(_) => return None,
        };
        walk(
            steps,
            Cursor::new(from, document, budget),
            &mut String::new(),
        )
        .ok()
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let ordered = |accepts: fn(Ordering) -> bool| order(left, right).is_some_and(accepts);
        match self {
            Self::Equal => equal(left, right),
            Self::NotEqual => !equal(left, right),
            Self::Less => ordered(Ordering::is_lt),
            Self::LessOrEqual => ordered(Ordering::is_le),
            Self::Greater => ordered(Ordering::is_gt),
            Self::GreaterOrEqual => ordered(Ordering::is_ge),
            Self::In => contains(right, left),
            Self::NotIn => !contains(right, left),
            Self::Contains => contains(left, right),
        }
    }
}

/// Numbers compare by value, so that `1` is `1.0`.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => numbers(left, right),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The order of two numbers. Whole numbers are compared as such: as floats, neighbours beyond 2^53
/// would be equal.
pub fn numbers(left: &Number, right: &Number) -> Option<Ordering> {
    let whole = |number: &Number| {
        let signed = number.as_i64().map(i128::from);
        signed.or_else(|| number.as_u64().map(i128::from))
    };
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn contains(container: &Value, value: &Value) -> bool {
    match (container, value) {
        (Value::Array(all), value) => all.iter().any(|element| equal(element, value)),
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        _ => false,
    }
}
