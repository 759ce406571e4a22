//! A state machine as its definition says it.
//!
//! [`Definition::parse`] checks everything that can be checked without running it, and gives all
//! that is wrong at once. States are numbered, also those of branches and item processors, so that
//! a running execution can name where it stands in four bytes.

mod fields;
mod json;
mod parse;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::choice::Rule;
use crate::jsonata::Jsonata;
use crate::path::Path;
use crate::template::Template;

/// A state's number in its definition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct StateId(pub u32);

/// The number of a sequence of states: 0 is the machine itself, the others are branches and item
/// processors.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct FlowId(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    flows: Vec<Flow>,
    states: Vec<State>,
    main: FlowId,
    /// `TimeoutSeconds` of the whole execution.
    pub timeout_seconds: Option<u64>,
    is_heavy: bool,
    check: TaskCheck,
}

/// Says why a task cannot be started with a value. Belongs to whoever runs tasks; a function of
/// nothing but its arguments.
#[derive(Clone, Copy, Default)]
pub struct TaskCheck(pub Option<fn(&Resource, &serde_json::Value) -> Vec<String>>);

impl fmt::Debug for TaskCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskCheck")
    }
}

impl PartialEq for TaskCheck {
    /// It is no part of what a definition says.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// States that lead to one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub start: StateId,
    pub states: BTreeMap<Box<str>, StateId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    JsonPath,
    Jsonata,
}

#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub name: Box<str>,
    pub language: Language,
    pub kind: Kind,
    /// Whether anything in it may look at the context object.
    pub reads_context: bool,
    /// Where it leads; `None` ends its flow.
    pub next: Option<StateId>,
    pub input: InputFilter,
    pub output: OutputFilter,
    pub assign: Option<Template>,
    pub retry: Vec<Retrier>,
    pub catch: Vec<Catcher>,
}

/// What a state makes of its input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputFilter {
    /// `InputPath`; `Some(None)` is null, which gives an empty object.
    pub path: Option<Option<Path>>,
    /// `Parameters` or `Arguments`.
    pub template: Option<Template>,
}

/// What a state makes of its result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputFilter {
    pub selector: Option<Template>,
    /// `ResultPath`; `Some(None)` is null, which drops the result.
    pub result_path: Option<Option<Path>>,
    /// `OutputPath`; `Some(None)` is null, which gives an empty object.
    pub path: Option<Option<Path>>,
    /// JSONata's `Output`.
    pub output: Option<Template>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Pass {
        result: Option<serde_json::Value>,
    },
    Succeed,
    Fail {
        error: Option<Text>,
        cause: Option<Text>,
    },
    Wait(Wait),
    Choice(Choice),
    Task(Box<Task>),
    Parallel {
        branches: Vec<FlowId>,
    },
    Map(Box<Map>),
}

/// A text, or where to find it.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    Template(Template),
    Path(Path),
    Intrinsic(crate::intrinsic::Intrinsic),
}

/// A number, or where to find it.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    Value(f64),
    Path(Path),
    Jsonata(Jsonata),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    Seconds(Amount),
    /// A moment as text.
    Timestamp(Template),
    TimestampPath(Path),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub rules: Vec<ChoiceRule>,
    pub default: Option<StateId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceRule {
    pub condition: Condition,
    pub next: StateId,
    pub assign: Option<Template>,
    /// JSONata's `Output` of the rule.
    pub output: Option<Template>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Rule(Rule),
    /// `Condition`: an expression, or a plain truth value.
    Template(Template),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub resource: Resource,
    pub credentials: Option<Template>,
    pub timeout_seconds: Option<Amount>,
    pub heartbeat_seconds: Option<Amount>,
}

/// What a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A function's ARN.
    Lambda { arn: String },
    /// An activity's ARN.
    Activity { arn: String },
    /// `arn:aws:states:::service:action`, with `.sync`, `.sync:2` or `.waitForTaskToken`.
    Service {
        /// `sqs`, or `aws-sdk:sqs`.
        service: String,
        /// With the pattern: `sendMessage.waitForTaskToken`.
        action: String,
        pattern: Pattern,
    },
}

/// How long a task of a service lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Until the call has answered.
    RequestResponse,
    /// Until what the call has started is done.
    Sync,
    /// As [`Pattern::Sync`], with the output as JSON instead of text.
    Sync2,
    /// Until somebody sends the token back.
    WaitForTaskToken,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub processor: FlowId,
    pub mode: MapMode,
    /// `ItemsPath`.
    pub items_path: Option<Path>,
    /// JSONata's `Items`.
    pub items: Option<Template>,
    /// `ItemSelector`, or `Parameters` in older definitions.
    pub selector: Option<Template>,
    pub max_concurrency: Option<Amount>,
    pub tolerated_count: Option<Amount>,
    pub tolerated_percentage: Option<Amount>,
    pub label: Option<String>,
    pub reader: Option<ItemReader>,
    pub batcher: Option<ItemBatcher>,
    pub writer: Option<ResultWriter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapMode {
    Inline,
    /// Each item, or batch of items, is an execution of its own.
    Distributed {
        express: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ItemReader {
    pub resource: Resource,
    /// `Parameters` or `Arguments`.
    pub arguments: Option<Template>,
    pub config: Option<Template>,
    pub max_items: Option<Amount>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ItemBatcher {
    pub max_items: Option<Amount>,
    pub max_bytes: Option<Amount>,
    pub batch_input: Option<Template>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ResultWriter {
    pub resource: Option<Resource>,
    pub arguments: Option<Template>,
    pub config: Option<serde_json::Value>,
}

/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
#[derive(Clone, Debug, PartialEq)]
pub struct Retrier {
    pub errors: Vec<String>,
    pub interval_seconds: u64,
    pub max_attempts: u64,
    pub backoff_rate: f64,
    pub max_delay_seconds: Option<u64>,
    /// `JitterStrategy` is `FULL`.
    pub full_jitter: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Catcher {
    pub errors: Vec<String>,
    pub next: StateId,
    pub result_path: Option<Option<Path>>,
    pub assign: Option<Template>,
    pub output: Option<Template>,
}

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: &'static str,
    pub message: String,
    /// The place in the definition, as `/States/A/Next`; the text itself has none.
    pub location: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// All that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct InvalidDefinition(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        // AWS shows a place that is not there, too.
        let location = self.location.as_deref().unwrap_or("null");
        write!(f, " at {location}")
    }
}

impl InvalidDefinition {
    /// The message of the error `InvalidDefinition` for the definition with this text.
    pub fn message(&self, text: &str) -> String {
        let label = self
            .0
            .iter()
            .find(|found| found.code == "INVALID_LABEL_NAME");
        match label {
            // Recorded: labels are refused in other words than everything else.
            Some(label) => {
                let argument = literal(&label.message);
                format!("Error=ValueError Args=[{argument}] in definition '{text}'.")
            }
            None => format!("Invalid State Machine Definition: '{self}'"),
        }
    }
}

/// A text as Python writes it: between double quotes if it has single ones.
fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\");
    if escaped.contains('\'') && !escaped.contains('"') {
        format!("\"{escaped}\"")
    } else {
        format!("'{}'", escaped.replace('\'', "\\'"))
    }
}

impl Definition {
    /// Reads a definition. Whatever is wrong with it is an error; nothing is made of a half of it.
    pub fn parse(text: &str) -> Result<Self, InvalidDefinition> {
        let (definition, mut diagnostics) = parse::definition(text);
        diagnostics.retain(|found| found.severity == Severity::Error);
        definition.ok_or(InvalidDefinition(diagnostics))
    }

    /// Everything that is to be said about a definition, errors before warnings.
    pub fn diagnose(text: &str) -> Vec<Diagnostic> {
        parse::definition(text).1
    }

    /// A machine of one state alone. The states that it leads to are made up.
    pub fn of_state(name: &str, text: &str) -> Result<Self, InvalidDefinition> {
        parse::of_state(name, text)
    }

    /// Whether a state of this name is inside of another one, at any depth.
    pub fn is_inside(&self, state: StateId, name: &str) -> bool {
        let flows = match &self.state(state).kind {
            Kind::Parallel { branches } => branches.as_slice(),
            Kind::Map(map) => std::slice::from_ref(&map.processor),
            _ => &[],
        };
        flows.iter().any(|flow| {
            let states = &self.flow(*flow).states;
            states.contains_key(name) || states.values().any(|inner| self.is_inside(*inner, name))
        })
    }

    /// The state of this name, wherever it is; names are looked for from the outside in.
    pub fn find(&self, name: &str) -> Option<StateId> {
        let named = self.flows.iter().find_map(|flow| flow.states.get(name));
        named.copied()
    }

    /// Has the inputs of tasks checked before they are scheduled.
    #[must_use]
    pub fn with_check(mut self, check: TaskCheck) -> Self {
        self.check = check;
        self
    }

    pub(crate) fn refusals(&self, resource: &Resource, input: &serde_json::Value) -> Vec<String> {
        self.check
            .0
            .map_or_else(Vec::new, |check| check(resource, input))
    }

    /// Whether it has expressions that may take long.
    pub fn uses_jsonata(&self) -> bool {
        self.states
            .iter()
            .any(|state| state.language == Language::Jsonata)
    }

    /// Whether one of its expressions may take seconds, or memory: who runs executions lets few of
    /// these take their steps at a time.
    pub const fn is_heavy(&self) -> bool {
        self.is_heavy
    }

    /// The ARNs of the activities that its tasks wait for.
    pub fn activities(&self) -> impl Iterator<Item = &str> {
        self.states.iter().filter_map(|state| match &state.kind {
            Kind::Task(task) => match &task.resource {
                Resource::Activity { arn } => Some(arn.as_str()),
                _ => None,
            },
            _ => None,
        })
    }

    /// The states that an execution begins with: the machine's own, or an item processor's.
    pub fn main(&self) -> FlowId {
        self.main
    }

    /// The machine that a distributed map runs for each item: the states of its processor. States
    /// keep their numbers, and the time limit stays with the whole.
    #[must_use]
    pub fn processor(&self, flow: FlowId) -> Self {
        Self {
            main: flow,
            timeout_seconds: None,
            ..self.clone()
        }
    }

    pub fn flow(&self, id: FlowId) -> &Flow {
        // Ids are made by `parse` alone, for flows that it adds.
        &self.flows[id.0 as usize]
    }

    pub fn state(&self, id: StateId) -> &State {
        // Ids are made by `parse` alone, for states that it adds.
        &self.states[id.0 as usize]
    }

    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.iter()
    }
}

impl Kind {
    /// The value of `Type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass { .. } => "Pass",
            Self::Succeed => "Succeed",
            Self::Fail { .. } => "Fail",
            Self::Wait(_) => "Wait",
            Self::Choice(_) => "Choice",
            Self::Task(_) => "Task",
            Self::Parallel { .. } => "Parallel",
            Self::Map(_) => "Map",
        }
    }
}

impl Resource {
    /// Whether a task is over only when somebody sends its token back.
    pub fn waits_for_token(&self) -> bool {
        match self {
            Self::Service { pattern, .. } => *pattern == Pattern::WaitForTaskToken,
            Self::Activity { .. } => true,
            Self::Lambda { .. } => false,
        }
    }

    /// Whether a task goes on after its call has answered.
    pub fn is_asynchronous(&self) -> bool {
        match self {
            Self::Service { pattern, .. } => *pattern != Pattern::RequestResponse,
            Self::Activity { .. } | Self::Lambda { .. } => false,
        }
    }

    /// Why an ARN is refused that [`Resource::parse`] cannot read, or that names nothing that is
    /// there.
    pub fn refusal(arn: &str) -> String {
        format!(
            "The resource provided {arn} is not recognized. The value is not a valid resource \
             ARN, or the resource is not available in this region."
        )
    }

    /// Reads an ARN; `None` if it names nothing that a task can run.
    pub fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", _, service, region, account, rest] = parts[..] else {
            return None;
        };
        match (service, region.is_empty() && account.is_empty()) {
            ("lambda", false) if rest.starts_with("function:") => Some(Self::Lambda {
                arn: arn.to_owned(),
            }),
            ("states", false) if rest.starts_with("activity:") => Some(Self::Activity {
                arn: arn.to_owned(),
            }),
            ("states", true) => {
                let (service, action) = match rest.strip_prefix("aws-sdk:") {
                    Some(rest) => {
                        let (service, action) = rest.split_once(':')?;
                        (format!("aws-sdk:{service}"), action)
                    }
                    None => {
                        let (service, action) = rest.split_once(':')?;
                        (service.to_owned(), action)
                    }
                };
                let (name, pattern) = match action.split_once('.') {
                    None => (action, Pattern::RequestResponse),
                    Some((name, "sync")) => (name, Pattern::Sync),
                    Some((name, "sync:2")) => (name, Pattern::Sync2),
                    Some((name, "waitForTaskToken")) => (name, Pattern::WaitForTaskToken),
                    Some(_) => return None,
                };
                let plain = |text: &str| {
                    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                };
                let known = plain(name) && plain(service.trim_start_matches("aws-sdk:"));
                known.then(|| Self::Service {
                    service,
                    action: action.to_owned(),
                    pattern,
                })
            }
            _ => None,
        }
    }
}
