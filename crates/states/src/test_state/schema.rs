//! Whether a mocked result is one that the API behind a task could give.

use asl::definition::Resource;
use integrations::api::{self, Kind, Shape};
use model::stepfunctions::MockResponseValidationMode;
use serde_json::Value;

/// Lists and structures inside of one another; those of APIs are far less deep.
const MAX_DEPTH: usize = 64;

pub fn check(
    resource: &Resource,
    result: &Value,
    mode: &MockResponseValidationMode,
) -> Result<(), String> {
    if *mode == MockResponseValidationMode::None {
        return Ok(());
    }
    let Some(shape) = api::output(resource) else {
        return Ok(());
    };
    let checker = Checker {
        strict: *mode == MockResponseValidationMode::Strict,
    };
    checker
        .value(shape, result, "", 0)
        .map_err(|wrong| format!("Mock result schema validation error: {wrong}"))
}

struct Checker {
    /// Whether what is required has to be there.
    strict: bool,
}

impl Checker {
    fn value(&self, shape: Shape, value: &Value, name: &str, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH || shape.is_document() {
            return Ok(());
        }
        match shape.kind() {
            Kind::Structure => self.structure(shape, value, name, depth),
            Kind::List => {
                let elements = value.as_array().ok_or_else(|| must_be(name, "an array"))?;
                length(shape, elements.len(), name)?;
                match shape.element() {
                    None => Ok(()),
                    Some(element) => elements
                        .iter()
                        .try_for_each(|value| self.value(element, value, name, depth + 1)),
                }
            }
            Kind::Map => {
                let members = value
                    .as_object()
                    .ok_or_else(|| must_be(name, "an object"))?;
                match shape.element() {
                    None => Ok(()),
                    Some(inner) => members
                        .values()
                        .try_for_each(|value| self.value(inner, value, name, depth + 1)),
                }
            }
            Kind::String | Kind::Character => {
                let text = value.as_str().ok_or_else(|| must_be(name, "a string"))?;
                let values = shape.values();
                if !values.is_empty() && !values.iter().any(|known| **known == *text) {
                    return Err(format!("Field '{name}' is not an expected value"));
                }
                length(shape, text.chars().count(), name)
            }
            Kind::Blob => {
                let text = value.as_str().ok_or_else(|| must_be(name, "a string"))?;
                length(shape, text.len(), name)
            }
            // AWS writes moments as text.
            Kind::Timestamp => match value.is_string() {
                true => Ok(()),
                false => Err(must_be(name, "a string")),
            },
            Kind::Boolean => match value.is_boolean() {
                true => Ok(()),
                false => Err(must_be(name, "a boolean")),
            },
            Kind::Integer
            | Kind::Long
            | Kind::BigInteger
            | Kind::Float
            | Kind::Double
            | Kind::BigDecimal => {
                let number = value.as_f64().ok_or_else(|| must_be(name, "a number"))?;
                if shape.min().is_some_and(|least| number < least) {
                    return Err(format!("Field '{name}' is less than the minimum value"));
                }
                if shape.max().is_some_and(|most| number > most) {
                    return Err(format!("Field '{name}' exceeds the maximum value"));
                }
                Ok(())
            }
        }
    }

    fn structure(
        &self,
        shape: Shape,
        value: &Value,
        name: &str,
        depth: usize,
    ) -> Result<(), String> {
        let Some(members) = value.as_object() else {
            return Err(match name {
                "" => "Mocked result must be a JSON object".to_owned(),
                name => must_be(name, "an object"),
            });
        };
        for member in shape.members() {
            let name = &member.name;
            match members.get(name) {
                Some(value) => self.value(member.shape, value, name, depth + 1)?,
                None if member.required && self.strict => {
                    return Err(format!("Required field '{name}' is missing"));
                }
                // What an API does not know is let through: it may know it tomorrow.
                None => {}
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "of lengths that exist in memory"
)]
fn length(shape: Shape, length: usize, name: &str) -> Result<(), String> {
    if shape.min().is_some_and(|least| (length as f64) < least) {
        return Err(format!("Field '{name}' is smaller than the minimum length"));
    }
    if shape.max().is_some_and(|most| (length as f64) > most) {
        return Err(format!("Field '{name}' exceeds the maximum length"));
    }
    Ok(())
}

fn must_be(name: &str, what: &str) -> String {
    format!("Field '{name}' must be {what}")
}
