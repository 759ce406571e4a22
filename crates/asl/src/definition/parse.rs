//! Text to definition: the machine, its flows, and what holds between states.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{Fields, Found, SCHEMA};
use super::state;
use super::{
    Definition, Diagnostic, Flow, FlowId, InvalidDefinition, Kind, Language, Severity, State,
    StateId,
};

/// A definition may have a mebibyte.
const MAX_BYTES: usize = 1 << 20;
/// Flows inside flows.
const MAX_DEPTH: usize = 64;
const MAX_NAME: usize = 80;

pub fn definition(text: &str) -> Result<Definition, InvalidDefinition> {
    let document = document(text).map_err(|diagnostic| InvalidDefinition(vec![diagnostic]))?;
    let mut found = Found::default();
    let fields = Fields {
        object: &document,
        location: String::new(),
        language: Language::JsonPath,
    };
    let language = language(&fields, None, &mut found);
    let fields = Fields { language, ..fields };
    let mut builder = Builder::default();
    let timeout_seconds = fields.whole("TimeoutSeconds", 1, &mut found);
    builder.flow(&fields, 0, &mut found);
    if !found.0.is_empty() {
        return Err(InvalidDefinition(found.0));
    }
    builder
        .finish(timeout_seconds)
        .ok_or_else(|| InvalidDefinition(Vec::new()))
}

fn document(text: &str) -> Result<Map<String, Value>, Diagnostic> {
    let wrong = |code, message: String, location| Diagnostic {
        severity: Severity::Error,
        code,
        message,
        location,
    };
    let no_object = || {
        let message = "Definition must be a valid JSON object".to_owned();
        wrong(SCHEMA, message, None)
    };
    if text.len() > MAX_BYTES {
        let message = "The definition is longer than 1048576 bytes".to_owned();
        return Err(wrong(SCHEMA, message, None));
    }
    if text.trim().is_empty() {
        return Err(no_object());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(no_object()),
        Err(error) => {
            let place = format!("line: {}, column: {}", error.line(), error.column());
            let message = format!("{error}");
            Err(wrong("INVALID_JSON_DESCRIPTION", message, Some(place)))
        }
    }
}

/// The query language of an object: its own, or that of what it is part of. Once it is JSONata
/// for the whole machine, no state may go back.
pub fn language(fields: &Fields<'_>, outer: Option<Language>, found: &mut Found) -> Language {
    match fields.text("QueryLanguage", found) {
        None => outer.unwrap_or_default(),
        Some("JSONata") => Language::Jsonata,
        Some("JSONPath") if outer == Some(Language::Jsonata) => {
            found.schema(
                "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine",
                fields.location.clone(),
            );
            Language::JsonPath
        }
        Some("JSONPath") => Language::JsonPath,
        Some(_) => {
            found.schema(
                "The field 'QueryLanguage' should have one of these values: [JSONPath, JSONata]",
                fields.at("QueryLanguage"),
            );
            Language::JsonPath
        }
    }
}

/// Numbers flows and states while they are read.
#[derive(Default)]
pub struct Builder {
    flows: Vec<Option<Flow>>,
    states: Vec<Option<State>>,
}

impl Builder {
    /// Reads the flow that an object describes with `StartAt` and `States`.
    pub fn flow(&mut self, fields: &Fields<'_>, depth: usize, found: &mut Found) -> FlowId {
        let id = FlowId(u32::try_from(self.flows.len()).unwrap_or(u32::MAX));
        self.flows.push(None);
        if depth > MAX_DEPTH {
            found.schema("States are nested too deeply", fields.location.clone());
            return id;
        }
        let missing: Vec<&str> = ["States", "StartAt"]
            .into_iter()
            .filter(|field| fields.get(field).is_none())
            .collect();
        if !missing.is_empty() {
            let message = format!("These fields are required: [{}]", missing.join(", "));
            let location = match fields.location.as_str() {
                "" => "/",
                other => other,
            };
            found.schema(message, location);
            return id;
        }
        let start = fields.text("StartAt", found);
        let Some(states) = fields.inner("States", found) else {
            return id;
        };
        if states.object.is_empty() {
            found.schema("Value cannot be empty", states.location);
            return id;
        }
        let names = self.number(&states, found);
        for (name, value) in states.object {
            let Some(object) = value.as_object() else {
                found.schema("Expected value of type Object", states.at(name));
                continue;
            };
            let own = Fields {
                object,
                location: states.at(name),
                language: fields.language,
            };
            let state = state::read(self, name, &own, &names, depth, found);
            if let (Some(state), Some(number)) = (state, names.get(name.as_str())) {
                self.states[number.0 as usize] = Some(state);
            }
        }
        let Some(start) = start else { return id };
        match names.get(start) {
            Some(start) => {
                self.check_reached(*start, &names, &states.location, found);
                let flow = Flow {
                    start: *start,
                    states: names,
                };
                self.flows[id.0 as usize] = Some(flow);
            }
            None => found.add(
                "MISSING_TRANSITION_TARGET",
                format!("Missing 'StartAt' target: {start}"),
                fields.at("StartAt"),
            ),
        }
        id
    }

    /// Gives every state of a flow its number before any is read, since they name one another.
    fn number(&mut self, states: &Fields<'_>, found: &mut Found) -> BTreeMap<Box<str>, StateId> {
        let mut names = BTreeMap::new();
        for name in states.object.keys() {
            if name.chars().count() > MAX_NAME {
                let message = format!("State names must not be longer than {MAX_NAME} characters");
                found.schema(message, states.at(name));
            }
            let id = StateId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
            self.states.push(None);
            names.insert(name.as_str().into(), id);
        }
        names
    }

    /// A state that nothing leads to is a mistake.
    fn check_reached(
        &self,
        start: StateId,
        names: &BTreeMap<Box<str>, StateId>,
        location: &str,
        found: &mut Found,
    ) {
        // Something was wrong with a state: where it leads is not known.
        let own: Vec<&State> = names
            .values()
            .filter_map(|id| self.states[id.0 as usize].as_ref())
            .collect();
        if own.len() < names.len() {
            return;
        }
        let mut reached = BTreeSet::new();
        let mut pending = vec![start];
        while let Some(id) = pending.pop() {
            if reached.insert(id)
                && let Some(state) = &self.states[id.0 as usize]
            {
                pending.extend(targets(state));
            }
        }
        for (name, id) in names {
            if !reached.contains(id) {
                found.add(
                    "MISSING_TRANSITION_TARGET",
                    format!("State \"{name}\" is not reachable."),
                    format!("{location}/{name}"),
                );
            }
        }
    }

    fn finish(self, timeout_seconds: Option<u64>) -> Option<Definition> {
        Some(Definition {
            flows: self.flows.into_iter().collect::<Option<_>>()?,
            states: self.states.into_iter().collect::<Option<_>>()?,
            timeout_seconds,
        })
    }
}

fn targets(state: &State) -> Vec<StateId> {
    let mut targets: Vec<StateId> = state.next.into_iter().collect();
    targets.extend(state.catch.iter().map(|catcher| catcher.next));
    if let Kind::Choice(choice) = &state.kind {
        targets.extend(choice.default);
        targets.extend(choice.rules.iter().map(|rule| rule.next));
    }
    targets
}
