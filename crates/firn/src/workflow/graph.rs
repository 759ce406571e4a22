//! A definition as nodes and edges.
//!
//! It is made of the JSON alone, so that a definition with mistakes can still be looked at: a
//! transition to a state that does not exist leads to a node that says so.

use serde_json::{Map, Value};

use super::condition;
use super::resource;

/// Flows inside flows; definitions are not read deeper either.
const MAX_DEPTH: usize = 64;

/// In a flow of more states than this, the ways of errors are told in words: drawn, they cross the
/// whole picture, and take their time to be laid out.
const MANY: usize = 100;

/// States that lead to one another: a machine, a branch, or an item processor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub name: String,
    /// What the state does, in a few words per line.
    pub details: Vec<String>,
    pub comment: Option<String>,
    /// Branches, or the item processor.
    pub flows: Vec<Flow>,
    /// What became of it in an execution.
    pub mark: Option<Mark>,
}

/// How a state of an execution is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub status: Status,
    /// `3\u{d7}, 120 ms`.
    pub badge: Option<String>,
    /// Input, output and error, for those who ask.
    pub notes: Vec<String>,
}

/// In the order of what counts more if a state has run several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    NotReached,
    Succeeded,
    /// It failed, and a `Catch` took over.
    Caught,
    Aborted,
    TimedOut,
    Failed,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Start,
    End,
    /// Some transition names it, but there is no such state.
    Missing,
    Task,
    Pass,
    Choice,
    Wait,
    Succeed,
    Fail,
    Parallel,
    Map,
    /// A `Type` that is none.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub kind: EdgeKind,
    pub label: Option<String>,
    /// Whether the execution went this way.
    pub taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    Next,
    Choice,
    Catch,
}

/// Why there is nothing to draw.
#[derive(Debug, thiserror::Error)]
pub enum NoGraph {
    #[error("this is no state machine: it has no object `States`")]
    NoStates,
    #[error("states are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Succeeded,
        Self::Caught,
        Self::Failed,
        Self::TimedOut,
        Self::Aborted,
        Self::Running,
        Self::NotReached,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NotReached => "not reached",
            Self::Succeeded => "succeeded",
            Self::Caught => "caught",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Aborted => "aborted",
            Self::Running => "running",
        }
    }

    /// A name without spaces, for style sheets.
    pub const fn class(self) -> &'static str {
        match self {
            Self::NotReached => "unreached",
            Self::TimedOut => "timedout",
            other => other.name(),
        }
    }
}

impl Node {
    fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            details: Vec::new(),
            comment: None,
            flows: Vec::new(),
            mark: None,
        }
    }
}

impl Flow {
    /// The graph of a whole definition, with a beginning and an end.
    pub fn of_machine(definition: &Value) -> Result<Self, NoGraph> {
        let mut flow = Self::of(definition, 0)?;
        let start = definition.get("StartAt").and_then(Value::as_str);
        let first = start.and_then(|name| flow.find(name));
        flow.nodes.push(Node::new(Kind::Start, "Start"));
        if let Some(first) = first {
            flow.edge(flow.nodes.len() - 1, first, EdgeKind::Next, None);
        }
        let lasts: Vec<usize> = states(definition)
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, (_, state))| ends(state))
            .map(|(at, _)| at)
            .collect();
        if !lasts.is_empty() {
            flow.nodes.push(Node::new(Kind::End, "End"));
            for last in lasts {
                flow.edge(last, flow.nodes.len() - 1, EdgeKind::Next, None);
            }
        }
        Ok(flow)
    }

    /// The flow as it is drawn: one that is large says in words where errors lead.
    pub fn for_drawing(&self) -> Self {
        let mut flow = self.clone();
        for node in &mut flow.nodes {
            for inner in &mut node.flows {
                *inner = inner.for_drawing();
            }
        }
        if flow.nodes.len() > MANY {
            let (ways, edges) = flow
                .edges
                .into_iter()
                .partition(|edge| edge.kind == EdgeKind::Catch);
            flow.edges = edges;
            let ways: Vec<Edge> = ways;
            for way in ways {
                let to = flow.nodes[way.to].name.clone();
                let errors = way.label.unwrap_or_default();
                let line = format!("{errors} \u{2192} {to}");
                flow.nodes[way.from].details.push(line);
            }
        }
        flow
    }

    /// How many states there are, also inside others.
    pub fn size(&self) -> usize {
        let inner = self.nodes.iter().flat_map(|node| &node.flows);
        self.nodes.len() + inner.map(Self::size).sum::<usize>()
    }

    fn of(definition: &Value, depth: usize) -> Result<Self, NoGraph> {
        if depth > MAX_DEPTH {
            return Err(NoGraph::TooDeep);
        }
        let states = states(definition).ok_or(NoGraph::NoStates)?;
        let mut flow = Self::default();
        for (name, state) in states {
            flow.nodes.push(node(name, state, depth)?);
        }
        for (from, (_, state)) in states.iter().enumerate() {
            flow.transitions(from, state);
        }
        Ok(flow)
    }

    fn transitions(&mut self, from: usize, state: &Value) {
        let text = |field: &str| state.get(field).and_then(Value::as_str);
        let objects = |field: &str| {
            let array = state.get(field).and_then(Value::as_array);
            array.into_iter().flatten().filter_map(Value::as_object)
        };
        let is_choice = text("Type") == Some("Choice");
        for rule in objects("Choices").filter(|_| is_choice) {
            if let Some(next) = rule.get("Next").and_then(Value::as_str) {
                let label = condition::of_rule(rule);
                self.transition(from, next, EdgeKind::Choice, Some(label));
            }
        }
        if let Some(next) = text("Default").filter(|_| is_choice) {
            self.transition(from, next, EdgeKind::Choice, Some("otherwise".to_owned()));
        }
        if let Some(next) = text("Next").filter(|_| !is_choice) {
            self.transition(from, next, EdgeKind::Next, None);
        }
        for catcher in objects("Catch") {
            if let Some(next) = catcher.get("Next").and_then(Value::as_str) {
                self.transition(from, next, EdgeKind::Catch, Some(errors(catcher)));
            }
        }
    }

    fn transition(&mut self, from: usize, name: &str, kind: EdgeKind, label: Option<String>) {
        let to = self.find(name).unwrap_or_else(|| {
            self.nodes.push(Node::new(Kind::Missing, name));
            self.nodes.len() - 1
        });
        // Several reasons to go the same way are one edge.
        let same = self.edges.iter_mut().find(|edge| {
            (edge.from, edge.to, edge.kind) == (from, to, kind) && edge.label.is_some()
        });
        match (same, label) {
            (Some(edge), Some(more)) => {
                let word = if kind == EdgeKind::Catch {
                    ", "
                } else {
                    " or "
                };
                edge.label = edge
                    .label
                    .take()
                    .map(|label| format!("{label}{word}{more}"));
            }
            (_, label) => self.edge(from, to, kind, label),
        }
    }

    fn edge(&mut self, from: usize, to: usize, kind: EdgeKind, label: Option<String>) {
        self.edges.push(Edge {
            from,
            to,
            kind,
            label,
            taken: false,
        });
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }
}

fn states(definition: &Value) -> Option<&Map<String, Value>> {
    definition.get("States")?.as_object()
}

fn ends(state: &Value) -> bool {
    state.get("End") == Some(&Value::Bool(true))
        || state.get("Type").and_then(Value::as_str) == Some("Succeed")
}

fn node(name: &str, state: &Value, depth: usize) -> Result<Node, NoGraph> {
    let empty = Map::new();
    let fields = state.as_object().unwrap_or(&empty);
    let type_name = fields.get("Type").and_then(Value::as_str).unwrap_or("?");
    let (kind, mut details) = match type_name {
        "Task" => (Kind::Task, resource::of_task(fields)),
        "Pass" => (Kind::Pass, vec!["Pass".to_owned()]),
        "Choice" => (Kind::Choice, Vec::new()),
        "Wait" => (Kind::Wait, vec![wait(fields)]),
        "Succeed" => (Kind::Succeed, vec!["Succeed".to_owned()]),
        "Fail" => (Kind::Fail, vec![fail(fields)]),
        "Parallel" => (Kind::Parallel, vec!["Parallel".to_owned()]),
        "Map" => (Kind::Map, map(fields)),
        other => (Kind::Unknown, vec![other.to_owned()]),
    };
    details.extend(retries(fields));
    let mut node = Node::new(kind, name);
    node.details = details;
    node.comment = text(fields, "Comment");
    let inner: Vec<&Value> = match kind {
        Kind::Parallel => {
            let branches = fields.get("Branches").and_then(Value::as_array);
            branches.into_iter().flatten().collect()
        }
        Kind::Map => processor(fields).into_iter().collect(),
        _ => Vec::new(),
    };
    for flow in inner {
        // A branch that is none has nothing to draw; the rest of the machine has.
        match Flow::of(flow, depth + 1) {
            Err(NoGraph::NoStates) => {}
            other => node.flows.push(other?),
        }
    }
    Ok(node)
}

fn processor(fields: &Map<String, Value>) -> Option<&Value> {
    fields
        .get("ItemProcessor")
        .or_else(|| fields.get("Iterator"))
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields
        .get(name)
        .and_then(Value::as_str)
        .map(condition::expression)
}

/// A field as text, or the field that says where to find it.
fn value(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let path = format!("{name}Path");
    match fields.get(name).or_else(|| fields.get(&path))? {
        Value::String(text) => Some(condition::expression(text)),
        other => Some(other.to_string()),
    }
}

fn wait(fields: &Map<String, Value>) -> String {
    if let Some(seconds) = value(fields, "Seconds") {
        return format!("Wait {seconds} s");
    }
    match value(fields, "Timestamp") {
        Some(moment) => format!("Wait until {moment}"),
        None => "Wait".to_owned(),
    }
}

fn fail(fields: &Map<String, Value>) -> String {
    match value(fields, "Error") {
        Some(error) => format!("Fail {error}"),
        None => "Fail".to_owned(),
    }
}

fn map(fields: &Map<String, Value>) -> Vec<String> {
    let config = processor(fields).and_then(|processor| processor.get("ProcessorConfig"));
    let setting = |name: &str| config.and_then(|config| config.get(name)?.as_str());
    let mut first = match (setting("Mode"), setting("ExecutionType")) {
        (Some("DISTRIBUTED"), Some("EXPRESS")) => "Distributed Map, Express".to_owned(),
        (Some("DISTRIBUTED"), _) => "Distributed Map".to_owned(),
        _ => "Map".to_owned(),
    };
    if let Some(most) = value(fields, "MaxConcurrency").filter(|most| most != "0") {
        first = format!("{first}, {most} at once");
    }
    let mut lines = vec![first];
    let items = value(fields, "Items");
    if let Some(items) = items.filter(|items| !items.starts_with('[')) {
        lines.push(format!("each of {items}"));
    }
    if let Some(reader) = fields.get("ItemReader").and_then(Value::as_object) {
        let format = reader
            .get("ReaderConfig")
            .and_then(|config| config.get("InputType")?.as_str());
        lines.push(match format {
            Some(format) => format!("reads {format} from S3"),
            None => "reads a list from S3".to_owned(),
        });
    }
    lines
}

fn errors(catcher: &Map<String, Value>) -> String {
    let names = catcher.get("ErrorEquals").and_then(Value::as_array);
    let names: Vec<&str> = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match names[..] {
        [] => "?".to_owned(),
        ["States.ALL"] => "any error".to_owned(),
        _ => names.join(", "),
    }
}

fn retries(fields: &Map<String, Value>) -> Vec<String> {
    const MOST: usize = 2;
    let retriers = fields.get("Retry").and_then(Value::as_array);
    let all: Vec<String> = retriers
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|retrier| {
            let attempts = retrier
                .get("MaxAttempts")
                .and_then(Value::as_u64)
                .unwrap_or(3);
            format!("\u{21bb} {attempts}\u{d7} on {}", errors(retrier))
        })
        .collect();
    if all.len() <= MOST {
        return all;
    }
    let more = all.len() - MOST + 1;
    let mut shown = all;
    shown.truncate(MOST - 1);
    shown.push(format!("\u{21bb} and {more} more retriers"));
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph(definition: Value) -> Flow {
        Flow::of_machine(&definition).unwrap()
    }

    fn edges(flow: &Flow) -> Vec<(String, String, Option<&str>)> {
        let name = |at: usize| flow.nodes[at].name.clone();
        flow.edges
            .iter()
            .map(|edge| (name(edge.from), name(edge.to), edge.label.as_deref()))
            .collect()
    }

    #[test]
    fn transitions_become_edges_with_their_reasons() {
        let flow = graph(json!({"StartAt": "A", "States": {
            "A": {"Type": "Choice", "Choices": [
                {"Variable": "$.n", "NumericEquals": 1, "Next": "B"},
                {"Variable": "$.n", "NumericEquals": 2, "Next": "B"},
            ], "Default": "C"},
            "B": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "A",
                "Catch": [{"ErrorEquals": ["X", "Y"], "Next": "C"}, {"ErrorEquals": ["States.ALL"], "Next": "C"}]},
            "C": {"Type": "Succeed"},
        }}));
        let expected = [
            ("A", "B", Some("$.n = 1 or $.n = 2")),
            ("A", "C", Some("otherwise")),
            ("B", "A", None),
            ("B", "C", Some("X, Y, any error")),
            ("Start", "A", None),
            ("C", "End", None),
        ];
        let expected = expected.map(|(from, to, label)| (from.to_owned(), to.to_owned(), label));
        assert_eq!(edges(&flow), expected);
    }

    #[test]
    fn a_missing_target_is_a_node_that_says_so() {
        let flow = graph(json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}}));
        assert_eq!(flow.nodes[1].kind, Kind::Missing);
        assert_eq!(flow.nodes[1].name, "B");
    }

    #[test]
    fn branches_and_processors_are_flows_of_their_own() {
        let inner = json!({"StartAt": "X", "States": {"X": {"Type": "Pass", "End": true}}});
        let flow = graph(json!({"StartAt": "P", "States": {
            "P": {"Type": "Parallel", "Branches": [inner, inner], "Next": "M"},
            "M": {"Type": "Map", "Iterator": inner, "ItemsPath": "$.all", "MaxConcurrency": 2, "End": true},
        }}));
        assert_eq!(flow.nodes[0].flows.len(), 2);
        assert_eq!(flow.nodes[1].flows.len(), 1);
        assert_eq!(flow.nodes[1].details, ["Map, 2 at once", "each of $.all"]);
    }

    #[test]
    fn retriers_are_told_in_two_lines() {
        let one = json!({"ErrorEquals": ["A"], "MaxAttempts": 5});
        let two = json!({"ErrorEquals": ["States.ALL"]});
        let lines = |retry: Value| retries(json!({"Retry": retry}).as_object().unwrap());
        assert_eq!(
            lines(json!([one, two])),
            ["\u{21bb} 5\u{d7} on A", "\u{21bb} 3\u{d7} on any error"]
        );
        assert_eq!(
            lines(json!([one, two, two])),
            ["\u{21bb} 5\u{d7} on A", "\u{21bb} and 2 more retriers"]
        );
    }

    #[test]
    fn what_is_no_machine_is_refused() {
        assert!(Flow::of_machine(&json!({})).is_err());
        assert!(Flow::of_machine(&json!([1])).is_err());
        let mut deep = json!({"StartAt": "X", "States": {"X": {"Type": "Pass", "End": true}}});
        for _ in 0..=MAX_DEPTH {
            deep = json!({"States": {"M": {"Type": "Map", "Iterator": deep}}});
        }
        assert!(matches!(Flow::of_machine(&deep), Err(NoGraph::TooDeep)));
    }
}
