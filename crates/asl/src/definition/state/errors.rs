//! What a state does about errors: `Retry` and `Catch`.

use serde_json::Value;

use super::{Names, assign, check_language_of, not_empty};
use crate::definition::fields::{Fields, Found, MAX_SECONDS};
use crate::definition::parse::target;
use crate::definition::{Catcher, Language, Retrier};
use crate::failure::names;
use crate::jsonata::Offered;

const MAX_DELAY_SECONDS: u64 = 31_622_400;

pub fn retrier(fields: &Fields<'_>, found: &mut Found) -> Option<Retrier> {
    let known = [
        "Comment",
        "ErrorEquals",
        "IntervalSeconds",
        "MaxAttempts",
        "BackoffRate",
        "MaxDelaySeconds",
        "JitterStrategy",
    ];
    fields.only(&[&known], found);
    let backoff_rate = match fields.get("BackoffRate") {
        None => 2.0,
        Some(value) => match value.as_f64() {
            Some(rate) if rate >= 1.0 => rate,
            Some(_) => {
                found.schema("Minimum value is 1", fields.at("BackoffRate"));
                2.0
            }
            None => {
                found.schema("Expected value of type [NUMBER]", fields.at("BackoffRate"));
                2.0
            }
        },
    };
    let interval_seconds = fields
        .whole("IntervalSeconds", 1, MAX_SECONDS, found)
        .unwrap_or(1);
    let max_delay_seconds = fields.whole("MaxDelaySeconds", 1, MAX_DELAY_SECONDS, found);
    if max_delay_seconds.is_some_and(|most| most <= interval_seconds) {
        let message = "The value of 'MaxDelaySeconds' must be greater than 'IntervalSeconds'";
        found.schema(message, fields.at("MaxDelaySeconds"));
    }
    let jitter = fields.one_of("JitterStrategy", &["FULL", "NONE"], found);
    let max_attempts = fields.whole("MaxAttempts", 0, MAX_SECONDS, found);
    Some(Retrier {
        errors: errors(fields, found)?,
        interval_seconds,
        max_attempts: max_attempts.unwrap_or(3),
        backoff_rate,
        max_delay_seconds,
        full_jitter: jitter == Some("FULL"),
    })
}

pub fn catcher(fields: &Fields<'_>, names: &Names, found: &mut Found) -> Option<Catcher> {
    let known = [
        "Comment",
        "ErrorEquals",
        "Next",
        "ResultPath",
        "Assign",
        "Output",
    ];
    fields.only(&[&known], found);
    check_language_of(fields, "ResultPath", found);
    check_language_of(fields, "Output", found);
    let offered = Offered {
        result: false,
        error_output: true,
    };
    let errors = errors(fields, found);
    let result_path = fields.reference("ResultPath", found);
    let assign = assign(fields, offered, found);
    let output = match fields.language {
        Language::JsonPath => None,
        Language::Jsonata => fields.template("Output", offered, found),
    };
    Some(Catcher {
        next: target(fields, "Next", names, found)?,
        errors: errors?,
        result_path,
        assign,
        output,
    })
}

fn errors(fields: &Fields<'_>, found: &mut Found) -> Option<Vec<String>> {
    if !not_empty(fields, "ErrorEquals", found) {
        return None;
    }
    let Some(elements) = fields.get("ErrorEquals").and_then(Value::as_array) else {
        found.schema("Expected value of type [ARRAY]", fields.at("ErrorEquals"));
        return None;
    };
    let mut all = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        match element.as_str() {
            Some(name) => all.push(name.to_owned()),
            None => {
                let location = format!("{}[{index}]", fields.at("ErrorEquals"));
                found.schema("Expected value of type [STRING]", location);
            }
        }
    }
    if all.len() > 1 && all.iter().any(|name| name == names::ALL) {
        let message = format!("{} must appear alone", names::ALL);
        found.schema(message, fields.at("ErrorEquals"));
    }
    Some(all)
}

/// What stands behind `States.ALL` would never be looked at.
pub fn check_all_is_last(fields: &Fields<'_>, field: &str, found: &mut Found) {
    let Some(elements) = fields.get(field).and_then(Value::as_array) else {
        return;
    };
    let has_all = |element: &Value| {
        let errors = element.get("ErrorEquals").and_then(Value::as_array);
        errors.is_some_and(|errors| errors.iter().any(|error| error == names::ALL))
    };
    let last = elements.len().saturating_sub(1);
    for (index, _) in elements
        .iter()
        .enumerate()
        .filter(|(index, element)| *index != last && has_all(element))
    {
        let message = format!("{} must appear in the last entry of {field}", names::ALL);
        let location = format!("{}[{index}]/ErrorEquals", fields.at(field));
        found.schema(message, location);
    }
}
