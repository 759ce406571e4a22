//! Log lines: which events a level lets through, and how they read.

use asl::history::{EventKind, HistoryEvent, StateKind, TaskEvent};
use clock::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::queue::Weigh;
use crate::executions::About;
use crate::machines::{LogLevel, Logging};

/// Data that takes more room in a line, with its escapes, is cut off there.
const MAX_DATA_BYTES: usize = 248 * 1024;
/// Members that hold data, with those that say something about them.
const DATA: &[&str] = &[
    "input",
    "inputDetails",
    "output",
    "outputDetails",
    "parameters",
    "assignedVariables",
    "assignedVariablesDetails",
];

/// The lines about what one execution did in one go.
#[derive(Debug)]
pub(super) struct Lines {
    /// Of the log group, as it was given.
    pub destination: String,
    /// The machine whose stream they go to.
    pub machine: String,
    pub lines: Vec<(Timestamp, String)>,
}

impl Weigh for Lines {
    fn bytes(&self) -> usize {
        let text: usize = self.lines.iter().map(|(_, line)| line.len() + 64).sum();
        text + self.destination.len() + self.machine.len() + 64
    }
}

impl Lines {
    /// The lines of those events that the configuration asks for, if there are any.
    pub(super) fn of(about: &About, logging: &Logging, events: &[HistoryEvent]) -> Option<Self> {
        let destination = logging.destinations.first()?;
        let lines: Vec<(Timestamp, String)> = events
            .iter()
            .filter(|event| severity(&event.kind) >= least(logging.level))
            .map(|event| {
                let at = Timestamp::from_millis(event.at_ms);
                (at, line(about, event, logging.include_execution_data))
            })
            .collect();
        (!lines.is_empty()).then(|| Self {
            destination: destination.clone(),
            machine: about.revision.machine_name.clone(),
            lines,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Plain,
    Error,
    Fatal,
    /// Of no event.
    Never,
}

const fn least(level: LogLevel) -> Severity {
    match level {
        LogLevel::All => Severity::Plain,
        LogLevel::Error => Severity::Error,
        LogLevel::Fatal => Severity::Fatal,
        LogLevel::Off => Severity::Never,
    }
}

/// The lowest level that logs an event.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-log-level>
const fn severity(kind: &EventKind) -> Severity {
    match kind {
        EventKind::ExecutionAborted(_)
        | EventKind::ExecutionFailed(_)
        | EventKind::ExecutionTimedOut(_) => Severity::Fatal,
        EventKind::StateEntered {
            state: StateKind::Fail,
            ..
        }
        | EventKind::StateAborted(_)
        | EventKind::StateFailed(_)
        | EventKind::MapIterationFailed { .. }
        | EventKind::MapIterationAborted { .. }
        | EventKind::MapRunFailed(_)
        | EventKind::EvaluationFailed { .. }
        | EventKind::Task {
            event: TaskEvent::Failed(_) | TaskEvent::TimedOut(_),
            ..
        } => Severity::Error,
        _ => Severity::Plain,
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    details: Map<String, Value>,
    previous_event_id: String,
    event_timestamp: String,
    execution_arn: &'a str,
    redrive_count: String,
}

fn line(about: &About, event: &HistoryEvent, with_data: bool) -> String {
    let mut details = match event.kind.details() {
        Some((_, Value::Object(details))) => details,
        _ => Map::new(),
    };
    if with_data {
        for name in ["input", "output", "parameters"] {
            cut(&mut details, name);
        }
    } else {
        details.retain(|name, _| !DATA.contains(&name.as_str()));
    }
    let line = Line {
        id: event.id.to_string(),
        kind: event.kind.type_name(),
        details,
        previous_event_id: event.previous.to_string(),
        event_timestamp: event.at_ms.to_string(),
        execution_arn: &about.arn,
        redrive_count: about.redrives.to_string(),
    };
    // A line of strings and JSON values can always be written.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Cuts data off that is longer than a line can take, and says so.
fn cut(details: &mut Map<String, Value>, name: &str) {
    let Some(Value::String(text)) = details.get_mut(name) else {
        return;
    };
    // Most are far from it; each character takes 6 bytes at most.
    if text.len() * 6 <= MAX_DATA_BYTES {
        return;
    }
    let mut bytes = 0;
    let end = text.char_indices().find(|(_, character)| {
        bytes += escaped_len(*character);
        bytes > MAX_DATA_BYTES
    });
    if let Some((end, _)) = end {
        text.truncate(end);
        if let Some(Value::Object(said)) = details.get_mut(&format!("{name}Details")) {
            said.insert("truncated".into(), true.into());
        }
    }
}

const fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}
