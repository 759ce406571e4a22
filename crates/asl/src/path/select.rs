//! Following a path.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{NoResult, Path, Selected, Step};
use crate::budget::Budget;

/// Where a path stands: at a value, in a document that filters may refer to.
#[derive(Clone, Copy)]
pub struct Cursor<'v, 'b> {
    value: &'v Value,
    pub document: &'v Value,
    pub budget: &'b Budget,
}

impl<'v, 'b> Cursor<'v, 'b> {
    pub const fn new(value: &'v Value, document: &'v Value, budget: &'b Budget) -> Self {
        Self {
            value,
            document,
            budget,
        }
    }

    const fn at(self, value: &'v Value) -> Self {
        Self { value, ..self }
    }
}

pub fn select<'v>(path: &Path, document: &'v Value) -> Result<Selected<'v>, NoResult> {
    let mut at = String::from("$");
    let budget = Budget::default();
    match walk(
        &path.steps,
        Cursor::new(document, document, &budget),
        &mut at,
    ) {
        _ if budget.is_spent() => Err(NoResult {
            at: path.source.to_string(),
            is_too_much: true,
        }),
        // Recorded on AWS: a path that could lead to several values finds none.
        Err(_) if !path.is_definite() => Ok(Selected::Computed(Value::Array(Vec::new()))),
        selected => selected,
    }
}

/// Follows the definite beginning of a path, then collects whatever the rest leads to. `at` is
/// extended by every step, for messages.
pub fn walk<'v>(
    steps: &[Step],
    mut cursor: Cursor<'v, '_>,
    at: &mut String,
) -> Result<Selected<'v>, NoResult> {
    for (index, step) in steps.iter().enumerate() {
        if !cursor.budget.spend_on_step() {
            return Err(NoResult::at(at));
        }
        let next = match step {
            Step::Name(name) => {
                // Writing to a string cannot fail.
                let _ = write!(at, "['{name}']");
                cursor.value.get(&**name)
            }
            Step::Index(number) => {
                let _ = write!(at, "[{number}]");
                element(cursor.value, *number)
            }
            Step::Length => {
                at.push_str(".length()");
                let length = length(cursor.value).map(Value::from);
                let length = length.ok_or_else(|| NoResult::at(at))?;
                return Ok(Selected::Computed(length));
            }
            _ => {
                let mut found = Vec::new();
                collect(&steps[index..], cursor, &mut found);
                let values = found.into_iter().map(Selected::into_value).collect();
                return Ok(Selected::Computed(Value::Array(values)));
            }
        };
        match next {
            Some(value) => cursor = cursor.at(value),
            None => return Err(NoResult::at(at)),
        }
    }
    Ok(Selected::One(cursor.value))
}

/// Everything that the steps lead to; what is missing on the way is left out.
fn collect<'v>(steps: &[Step], cursor: Cursor<'v, '_>, found: &mut Vec<Selected<'v>>) {
    let Some((step, rest)) = steps.split_first() else {
        if cursor.budget.spend_on(cursor.value) {
            found.push(Selected::One(cursor.value));
        }
        return;
    };
    if !cursor.budget.spend_on_step() {
        return;
    }
    let value = cursor.value;
    let mut go_on = |next: &'v Value| collect(rest, cursor.at(next), found);
    match step {
        Step::Name(name) => value.get(&**name).into_iter().for_each(go_on),
        Step::Names(names) => {
            if rest.is_empty() && value.is_object() {
                // The chosen members together are one result, as an object.
                let chosen = names.iter().filter_map(|name| {
                    let member = value.get(&**name)?;
                    let paid = cursor.budget.spend_on(member);
                    paid.then(|| (name.to_string(), member.clone()))
                });
                found.push(Selected::Computed(Value::Object(chosen.collect())));
            } else {
                names
                    .iter()
                    .filter_map(|name| value.get(&**name))
                    .for_each(go_on);
            }
        }
        Step::Index(number) => element(value, *number).into_iter().for_each(go_on),
        Step::Indices(numbers) => numbers
            .iter()
            .filter_map(|number| element(value, *number))
            .for_each(go_on),
        Step::Slice(from, to) => slice(value, *from, *to).iter().for_each(go_on),
        Step::Wildcard => children(value).for_each(go_on),
        Step::Filter(expression) => {
            // A filter on an object is asked about the object itself, as Jayway does.
            let elements = value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice);
            elements
                .iter()
                .filter(|element| expression.holds(element, cursor))
                .for_each(go_on);
        }
        Step::Descent => {
            go_on(value);
            for child in children(value) {
                collect(steps, cursor.at(child), found);
            }
        }
        Step::Length => {
            if let Some(length) = length(value) {
                cursor.budget.spend_on(&Value::Null);
                found.push(Selected::Computed(Value::from(length)));
            }
        }
    }
}

/// Puts a value where reference steps lead.
pub fn put(
    steps: &[Step],
    document: Value,
    value: Value,
    at: &mut String,
) -> Result<Value, NoResult> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(value);
    };
    match step {
        Step::Name(name) => {
            let mut members = match document {
                Value::Object(members) => members,
                Value::Null => Map::new(),
                _ => return Err(NoResult::at(at)),
            };
            // Writing to a string cannot fail.
            let _ = write!(at, "['{name}']");
            let before = members.get_mut(&**name).map(Value::take);
            let before = before.unwrap_or_else(|| Value::Object(Map::new()));
            let after = put(rest, before, value, at)?;
            members.insert(name.to_string(), after);
            Ok(Value::Object(members))
        }
        Step::Index(number) => {
            let _ = write!(at, "[{number}]");
            let Value::Array(mut elements) = document else {
                return Err(NoResult::at(at));
            };
            let place = index(elements.len(), *number).and_then(|i| elements.get_mut(i));
            let Some(place) = place else {
                return Err(NoResult::at(at));
            };
            *place = put(rest, place.take(), value, at)?;
            Ok(Value::Array(elements))
        }
        _ => Err(NoResult::at(at)),
    }
}

fn element(value: &Value, number: i64) -> Option<&Value> {
    let elements = value.as_array()?;
    elements.get(index(elements.len(), number)?)
}

/// The place of an index that counts from the end if it is negative.
fn index(length: usize, number: i64) -> Option<usize> {
    let distance = usize::try_from(number.unsigned_abs()).ok()?;
    if number < 0 {
        length.checked_sub(distance)
    } else {
        Some(distance)
    }
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>) -> &[Value] {
    let elements = value.as_array().map_or(&[][..], Vec::as_slice);
    let length = elements.len();
    let bound = |number: Option<i64>, default: usize| {
        number.map_or(default, |number| match index(length, number) {
            Some(place) => place.min(length),
            None => 0,
        })
    };
    let (from, to) = (bound(from, 0), bound(to, length));
    elements.get(from..to).unwrap_or_default()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(elements) => Box::new(elements.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(elements) => Some(elements.len()),
        Value::Object(members) => Some(members.len()),
        Value::String(text) => Some(text.chars().count()),
        _ => None,
    }
}
