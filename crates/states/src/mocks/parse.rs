//! JSON to mocks. Every problem names the machine, the test case and the state it is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use asl::failure::Failure;
use serde_json::{Map, Value};

use super::{Mocks, Response, Responses, TestCase};

type Problem = String;

pub fn mocks(document: &Value) -> Result<Mocks, Problem> {
    let top = object(document, "the file")?;
    known(top, &["StateMachines", "MockedResponses"], "the file")?;
    let mut responses = BTreeMap::new();
    if let Some(all) = top.get("MockedResponses") {
        for (name, value) in object(all, "MockedResponses")? {
            let at = format!("MockedResponses, '{name}'");
            responses.insert(name.as_str(), Arc::new(answers(value, &at)?));
        }
    }
    let machines = top
        .get("StateMachines")
        .ok_or("the field 'StateMachines' is missing")?;
    let mut read = BTreeMap::new();
    for (machine, value) in object(machines, "StateMachines")? {
        let at = format!("state machine '{machine}'");
        let fields = object(value, &at)?;
        known(fields, &["TestCases"], &at)?;
        let cases = fields
            .get("TestCases")
            .ok_or_else(|| format!("{at}: the field 'TestCases' is missing"))?;
        let mut all = BTreeMap::new();
        for (case, states) in object(cases, &format!("{at}, TestCases"))? {
            let at = format!("{at}, test case '{case}'");
            all.insert(case.clone(), Arc::new(test_case(states, &responses, &at)?));
        }
        read.insert(machine.clone(), all);
    }
    Ok(Mocks { machines: read })
}

fn test_case(
    states: &Value,
    responses: &BTreeMap<&str, Arc<Responses>>,
    at: &str,
) -> Result<TestCase, Problem> {
    let mut read = BTreeMap::new();
    for (state, name) in object(states, at)? {
        let name = name.as_str().ok_or_else(|| {
            format!("{at}, state '{state}': the name of a mocked response is expected")
        })?;
        let Some(found) = responses.get(name) else {
            return Err(format!(
                "{at}, state '{state}': there is no mocked response '{name}'"
            ));
        };
        read.insert(state.clone(), Arc::clone(found));
    }
    Ok(TestCase { states: read })
}

/// `{"0": {"Return": …}, "1-2": {"Throw": …}}`.
fn answers(value: &Value, at: &str) -> Result<Responses, Problem> {
    let mut ranges = Vec::new();
    for (key, value) in object(value, at)? {
        let at = format!("{at}, '{key}'");
        let (from, to) = range(key).ok_or_else(|| {
            format!("{at}: an attempt as '0' or a range of attempts as '1-2' is expected")
        })?;
        ranges.push((from, to, answer(value, &at)?));
    }
    ranges.sort_by_key(|(from, ..)| *from);
    let mut until = Vec::with_capacity(ranges.len());
    let mut expected = 0_u64;
    for (from, to, response) in ranges {
        if from != expected {
            let problem = if from < expected {
                format!("attempt {from} has two answers")
            } else {
                format!("attempt {expected} has no answer")
            };
            return Err(format!("{at}: {problem}"));
        }
        expected = to.saturating_add(1);
        until.push((to, response));
    }
    if until.is_empty() {
        return Err(format!("{at}: there is no answer"));
    }
    Ok(Responses { until })
}

fn range(key: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok())?
    };
    match key.split_once('-') {
        None => number(key).map(|only| (only, only)),
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some((from, to))
        }
    }
}

fn answer(value: &Value, at: &str) -> Result<Response, Problem> {
    let fields = object(value, at)?;
    known(fields, &["Return", "Throw"], at)?;
    match (fields.get("Return"), fields.get("Throw")) {
        (Some(value), None) => Ok(Response::Return(value.clone())),
        (None, Some(thrown)) => {
            let at = format!("{at}, Throw");
            let fields = object(thrown, &at)?;
            known(fields, &["Error", "Cause"], &at)?;
            let text = |name: &str| match fields.get(name) {
                Some(Value::String(text)) => Ok(text.clone()),
                _ => Err(format!("{at}: the text '{name}' is expected")),
            };
            Ok(Response::Throw(Failure::new(
                text("Error")?,
                text("Cause")?,
            )))
        }
        _ => Err(format!("{at}: either 'Return' or 'Throw' is expected")),
    }
}

fn object<'v>(value: &'v Value, at: &str) -> Result<&'v Map<String, Value>, Problem> {
    value
        .as_object()
        .ok_or_else(|| format!("{at}: an object is expected"))
}

/// A misspelt field would be a mock that is never used.
fn known(fields: &Map<String, Value>, names: &[&str], at: &str) -> Result<(), Problem> {
    match fields.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(other) => Err(format!(
            "{at}: the field '{other}' is none of {}",
            names.join(", ")
        )),
    }
}
