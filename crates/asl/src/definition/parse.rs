//! Text to definition: the machine, its flows, and what holds between states.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{Fields, Found, MAX_SECONDS, SCHEMA};
use super::json;
use super::state;
use super::{
    Definition, Diagnostic, Flow, FlowId, InvalidDefinition, Language, Severity, State, StateId,
};

/// A definition may have a mebibyte.
const MAX_BYTES: usize = 1 << 20;
/// Flows inside flows.
const MAX_DEPTH: usize = 64;
const MAX_NAME: usize = 80;
const MISSING_TARGET: &str = "MISSING_TRANSITION_TARGET";

/// The definition, and everything that is to be said about it.
pub fn definition(text: &str) -> (Option<Definition>, Vec<Diagnostic>) {
    match document(text) {
        Ok(document) => machine(&document),
        Err(diagnostic) => (None, vec![diagnostic]),
    }
}

/// A machine of one state, as [`Definition::of_state`] makes it. Where the state leads is made up.
pub fn of_state(name: &str, text: &str) -> Result<Definition, InvalidDefinition> {
    let state = document(text).map_err(|diagnostic| InvalidDefinition(vec![diagnostic]))?;
    let mut states = Map::new();
    for target in targets(&state) {
        let end = Value::Object(Map::from_iter([("Type".into(), "Succeed".into())]));
        states.insert(target.to_owned(), end);
    }
    states.insert(name.to_owned(), Value::Object(state));
    let document = Map::from_iter([
        ("StartAt".to_owned(), name.into()),
        ("States".to_owned(), Value::Object(states)),
    ]);
    // A state that leads nowhere, or to itself, is no mistake here.
    let (definition, mut found) = machine(&document);
    found.retain(|found| found.severity == Severity::Error && found.code != "MISSING_END_STATE");
    match definition {
        Some(definition) if found.is_empty() => Ok(definition),
        _ => Err(InvalidDefinition(found)),
    }
}

fn machine(document: &Map<String, Value>) -> (Option<Definition>, Vec<Diagnostic>) {
    let mut found = Found::default();
    let mut fields = Fields {
        object: document,
        location: String::new(),
        language: Language::JsonPath,
        machine: Language::JsonPath,
    };
    let language = own_language(&fields).unwrap_or_default();
    fields.language = language;
    fields.machine = language;
    let known = [
        "Comment",
        "QueryLanguage",
        "StartAt",
        "States",
        "TimeoutSeconds",
        "Version",
    ];
    fields.only(&[&known], &mut found);
    check_language_name(&fields, &mut found);
    fields.text("Comment", &mut found);
    fields.text("Version", &mut found);
    let timeout_seconds = fields.whole("TimeoutSeconds", 1, MAX_SECONDS, &mut found);
    let mut builder = Builder::default();
    builder.flow(&fields, 0, &mut found);
    let built = builder.finish(timeout_seconds, found.is_heavy());
    let is_wrong = found.is_wrong();
    (built.filter(|_| !is_wrong), found.into_all())
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
            let (message, location) = match json::problem(text) {
                Some(problem) => (problem.message, problem.location),
                // Jackson stops at fewer things, nesting for instance.
                None => {
                    let place = format!("line: {}, column: {}", error.line(), error.column());
                    (error.to_string(), place)
                }
            };
            Err(wrong("INVALID_JSON_DESCRIPTION", message, Some(location)))
        }
    }
}

/// The query language that an object names. Measured on AWS: whatever is not exactly `JSONPath`
/// is JSONata, also what is no language at all.
pub fn own_language(fields: &Fields<'_>) -> Option<Language> {
    match fields.get("QueryLanguage")?.as_str() {
        Some("JSONPath") => Some(Language::JsonPath),
        _ => Some(Language::Jsonata),
    }
}

pub fn check_language_name(fields: &Fields<'_>, found: &mut Found) {
    fields.one_of("QueryLanguage", &["JSONPath", "JSONata"], found);
}

/// Where a state leads, as its object says it.
fn targets(state: &Map<String, Value>) -> Vec<&str> {
    let mut targets: Vec<&str> = ["Next", "Default"]
        .iter()
        .filter_map(|field| state.get(*field)?.as_str())
        .collect();
    for field in ["Choices", "Catch"] {
        let rules = state.get(field).and_then(Value::as_array);
        targets.extend(
            rules
                .into_iter()
                .flatten()
                .filter_map(|rule| rule.get("Next")?.as_str()),
        );
    }
    targets
}

fn is_terminal(state: &Map<String, Value>) -> bool {
    let kind = state.get("Type").and_then(Value::as_str);
    matches!(kind, Some("Succeed" | "Fail")) || state.get("End") == Some(&Value::Bool(true))
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
            let message = "States are nested too deeply";
            found.error("TOO_DEEPLY_NESTED", message, fields.here());
            return id;
        }
        if !fields.require(&["States", "StartAt"], found) {
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
        for name in states.object.keys() {
            // Not there: it is told as what it is instead.
            let Some(own) = states.inner(name, found) else {
                continue;
            };
            let own = Fields {
                language: fields.machine,
                ..own
            };
            let state = state::read(self, name, &own, &names, depth, found);
            if let (Some(state), Some(number)) = (state, names.get(name.as_str())) {
                self.states[number.0 as usize] = Some(state);
            }
        }
        check_transitions(fields, &states, start, depth, found);
        if let Some(start) = start.and_then(|start| names.get(start)) {
            self.flows[id.0 as usize] = Some(Flow {
                start: *start,
                states: names,
            });
        }
        id
    }

    /// Gives every state of a flow its number before any is read, since they name one another.
    fn number(&mut self, states: &Fields<'_>, found: &mut Found) -> BTreeMap<Box<str>, StateId> {
        let mut names = BTreeMap::new();
        for name in states.object.keys() {
            if name.is_empty() || name.chars().count() > MAX_NAME {
                let message = format!("State names must have 1 to {MAX_NAME} characters");
                found.error("INVALID_STATE_NAME", message, states.at(name));
            }
            let id = StateId(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
            self.states.push(None);
            names.insert(name.as_str().into(), id);
        }
        names
    }

    fn finish(self, timeout_seconds: Option<u64>, is_heavy: bool) -> Option<Definition> {
        Some(Definition {
            flows: self.flows.into_iter().collect::<Option<_>>()?,
            states: self.states.into_iter().collect::<Option<_>>()?,
            main: FlowId(0),
            timeout_seconds,
            is_heavy,
            check: super::TaskCheck::default(),
        })
    }
}

/// A machine has to have an end, and nothing in a flow can be out of reach. Measured on AWS: a
/// machine without an end is not told about what is out of reach, too, and the states inside of a
/// state may go round for ever.
fn check_transitions(
    fields: &Fields<'_>,
    states: &Fields<'_>,
    start: Option<&str>,
    depth: usize,
    found: &mut Found,
) {
    let objects = || {
        let all = states.object.iter();
        all.filter_map(|(name, state)| Some((name.as_str(), state.as_object()?)))
    };
    if depth == 0 && !objects().any(|(_, state)| is_terminal(state)) {
        let message = "Workflow has no terminal state";
        found.transition("MISSING_END_STATE", message, None);
        return;
    }
    let Some(start) = start else { return };
    if !states.object.contains_key(start) {
        let message = format!("Missing 'Next' target: {start}");
        found.transition(MISSING_TARGET, message, Some(fields.at("StartAt")));
    }
    let edges: BTreeMap<&str, Vec<&str>> = objects()
        .map(|(name, state)| (name, targets(state)))
        .collect();
    let mut reached = BTreeSet::new();
    let mut pending = vec![start];
    while let Some(name) = pending.pop() {
        if let Some(targets) = edges.get(name)
            && reached.insert(name)
        {
            pending.extend(targets);
        }
    }
    for (name, _) in objects() {
        if !reached.contains(name) {
            let message = format!("State \"{name}\" is not reachable.");
            found.transition(MISSING_TARGET, message, Some(states.at(name)));
        }
    }
}

/// The state that a member names.
pub fn target(
    fields: &Fields<'_>,
    field: &str,
    names: &BTreeMap<Box<str>, StateId>,
    found: &mut Found,
) -> Option<StateId> {
    let name = fields.required_text(field, found)?;
    let id = names.get(name).copied();
    if id.is_none() {
        let message = format!("Missing 'Next' target: {name}");
        found.transition(MISSING_TARGET, message, Some(fields.at(field)));
    }
    id
}
