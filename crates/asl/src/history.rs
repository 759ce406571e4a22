//! The events of an execution, as `GetExecutionHistory` shows them.
//! <https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// Counted from 1.
    pub id: u64,
    /// The event that this one follows from; 0 at the beginning.
    pub previous: u64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub kind: EventKind,
}

/// What happened. Data is JSON text where AWS has text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    ExecutionStarted {
        input: Arc<Value>,
        role_arn: String,
    },
    ExecutionSucceeded {
        output: Arc<Value>,
    },
    ExecutionFailed(Failure),
    ExecutionAborted(Failure),
    ExecutionTimedOut(Failure),
    /// It is taken up again, for the how manieth time.
    ExecutionRedriven {
        count: u32,
    },
    StateEntered {
        state: StateKind,
        name: String,
        input: Arc<Value>,
    },
    StateExited {
        state: StateKind,
        name: String,
        output: Arc<Value>,
        assigned: BTreeMap<String, Arc<Value>>,
    },
    /// A state's end that was not its own: `TaskStateAborted`, `ParallelStateFailed`.
    StateAborted(StateKind),
    StateFailed(StateKind),
    /// `ParallelStateStarted`, and `MapStateStarted` with the number of items.
    StateStarted {
        state: StateKind,
        length: Option<u64>,
    },
    StateSucceeded(StateKind),
    MapIterationStarted {
        name: String,
        index: u64,
    },
    MapIterationSucceeded {
        name: String,
        index: u64,
    },
    MapIterationFailed {
        name: String,
        index: u64,
    },
    MapIterationAborted {
        name: String,
        index: u64,
    },
    MapRunStarted {
        arn: String,
    },
    MapRunRedriven {
        arn: String,
        count: u32,
    },
    MapRunSucceeded,
    MapRunFailed(Failure),
    EvaluationFailed {
        failure: Failure,
        location: String,
        state: String,
    },
    Task {
        task: TaskKind,
        event: TaskEvent,
    },
}

/// The type of a state that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateKind {
    Choice,
    Fail,
    Map,
    Parallel,
    Pass,
    Succeed,
    Task,
    Wait,
}

/// What runs a task; each kind has events of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskKind {
    Lambda { arn: String },
    Activity { arn: String },
    Service { service: String, action: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TaskEvent {
    Scheduled {
        input: Arc<Value>,
        region: String,
        timeout_seconds: Option<u64>,
        heartbeat_seconds: Option<u64>,
        role_arn: Option<String>,
    },
    Started {
        worker: Option<String>,
    },
    Submitted {
        output: Arc<Value>,
    },
    Succeeded {
        output: Arc<Value>,
    },
    Failed(Failure),
    TimedOut(Failure),
}

impl StateKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Choice => "Choice",
            Self::Fail => "Fail",
            Self::Map => "Map",
            Self::Parallel => "Parallel",
            Self::Pass => "Pass",
            Self::Succeed => "Succeed",
            Self::Task => "Task",
            Self::Wait => "Wait",
        }
    }
}

impl TaskKind {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Lambda { .. } => "LambdaFunction",
            Self::Activity { .. } => "Activity",
            Self::Service { .. } => "Task",
        }
    }
}

/// The details of an event while they are collected, in AWS's names.
struct Details(serde_json::Map<String, Value>);

impl Details {
    fn new() -> Self {
        Self(serde_json::Map::new())
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Data as text, which is never truncated here.
    fn data(self, name: &str, value: &Value) -> Self {
        let truncated = Self::new().with("truncated", false);
        self.with(name, value.to_string())
            .with(&format!("{name}Details"), truncated.0)
    }

    fn failure(self, failure: &Failure) -> Self {
        self.with_some("error", failure.error.as_deref())
            .with_some("cause", failure.cause.as_deref())
    }
}

impl EventKind {
    /// The value of the member `type`.
    pub fn type_name(&self) -> String {
        match self {
            Self::ExecutionStarted { .. } => "ExecutionStarted".into(),
            Self::ExecutionSucceeded { .. } => "ExecutionSucceeded".into(),
            Self::ExecutionFailed(_) => "ExecutionFailed".into(),
            Self::ExecutionAborted(_) => "ExecutionAborted".into(),
            Self::ExecutionTimedOut(_) => "ExecutionTimedOut".into(),
            Self::ExecutionRedriven { .. } => "ExecutionRedriven".into(),
            Self::StateEntered { state, .. } => format!("{}StateEntered", state.name()),
            Self::StateExited { state, .. } => format!("{}StateExited", state.name()),
            Self::StateAborted(state) => format!("{}StateAborted", state.name()),
            Self::StateFailed(state) => format!("{}StateFailed", state.name()),
            Self::StateStarted { state, .. } => format!("{}StateStarted", state.name()),
            Self::StateSucceeded(state) => format!("{}StateSucceeded", state.name()),
            Self::MapIterationStarted { .. } => "MapIterationStarted".into(),
            Self::MapIterationSucceeded { .. } => "MapIterationSucceeded".into(),
            Self::MapIterationFailed { .. } => "MapIterationFailed".into(),
            Self::MapIterationAborted { .. } => "MapIterationAborted".into(),
            Self::MapRunStarted { .. } => "MapRunStarted".into(),
            Self::MapRunRedriven { .. } => "MapRunRedriven".into(),
            Self::MapRunSucceeded => "MapRunSucceeded".into(),
            Self::MapRunFailed(_) => "MapRunFailed".into(),
            Self::EvaluationFailed { .. } => "EvaluationFailed".into(),
            Self::Task { task, event } => format!("{}{}", task.prefix(), event.name()),
        }
    }

    /// The member that holds the details, and what it holds, as the API answers it.
    pub fn details(&self) -> Option<(String, Value)> {
        let type_name = self.type_name();
        let details = match self {
            Self::ExecutionStarted { input, role_arn } => Details::new()
                .data("input", input)
                .with("roleArn", role_arn.as_str()),
            Self::ExecutionSucceeded { output } => Details::new().data("output", output),
            Self::ExecutionFailed(failure)
            | Self::ExecutionAborted(failure)
            | Self::ExecutionTimedOut(failure)
            | Self::MapRunFailed(failure) => Details::new().failure(failure),
            Self::ExecutionRedriven { count } => Details::new().with("redriveCount", *count),
            Self::StateEntered { name, input, .. } => {
                let details = Details::new()
                    .with("name", name.as_str())
                    .data("input", input);
                return Some(("stateEnteredEventDetails".into(), details.0.into()));
            }
            Self::StateExited {
                name,
                output,
                assigned,
                ..
            } => {
                let mut details = Details::new()
                    .with("name", name.as_str())
                    .data("output", output);
                if !assigned.is_empty() {
                    let shown: serde_json::Map<String, Value> = assigned
                        .iter()
                        .map(|(name, value)| (name.clone(), value.to_string().into()))
                        .collect();
                    let truncated = Details::new().with("truncated", false);
                    details = details
                        .with("assignedVariables", shown)
                        .with("assignedVariablesDetails", truncated.0);
                }
                return Some(("stateExitedEventDetails".into(), details.0.into()));
            }
            Self::StateStarted { length, .. } => Details::new().with("length", (*length)?),
            Self::MapIterationStarted { name, index }
            | Self::MapIterationSucceeded { name, index }
            | Self::MapIterationFailed { name, index }
            | Self::MapIterationAborted { name, index } => Details::new()
                .with("name", name.as_str())
                .with("index", *index),
            Self::MapRunStarted { arn } => Details::new().with("mapRunArn", arn.as_str()),
            Self::MapRunRedriven { arn, count } => Details::new()
                .with("mapRunArn", arn.as_str())
                .with("redriveCount", *count),
            Self::EvaluationFailed {
                failure,
                location,
                state,
            } => Details::new()
                .failure(failure)
                .with("location", location.as_str())
                .with("state", state.as_str()),
            Self::Task { task, event } => event.details(task)?,
            Self::StateAborted(_)
            | Self::StateFailed(_)
            | Self::StateSucceeded(_)
            | Self::MapRunSucceeded => return None,
        };
        let mut member = type_name;
        if let Some(first) = member.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Some((format!("{member}EventDetails"), details.0.into()))
    }
}

impl TaskEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "Scheduled",
            Self::Started { .. } => "Started",
            Self::Submitted { .. } => "Submitted",
            Self::Succeeded { .. } => "Succeeded",
            Self::Failed(_) => "Failed",
            Self::TimedOut(_) => "TimedOut",
        }
    }

    fn details(&self, task: &TaskKind) -> Option<Details> {
        let details = match self {
            Self::Scheduled {
                input,
                region,
                timeout_seconds,
                heartbeat_seconds,
                role_arn,
            } => {
                let details = match task {
                    TaskKind::Lambda { arn } | TaskKind::Activity { arn } => Details::new()
                        .data("input", input)
                        .with("resource", arn.as_str()),
                    TaskKind::Service { .. } => Details::new()
                        .with("parameters", input.to_string())
                        .with("region", region.as_str()),
                };
                let role = role_arn
                    .as_deref()
                    .map(|role| Details::new().with("roleArn", role).0);
                details
                    .with_some("timeoutInSeconds", *timeout_seconds)
                    .with_some("heartbeatInSeconds", *heartbeat_seconds)
                    .with_some("taskCredentials", role)
            }
            Self::Started { worker } => match task {
                // The start of a function has no details.
                TaskKind::Lambda { .. } => return None,
                TaskKind::Activity { .. } => {
                    Details::new().with_some("workerName", worker.as_deref())
                }
                TaskKind::Service { .. } => Details::new(),
            },
            Self::Submitted { output } | Self::Succeeded { output } => {
                Details::new().data("output", output)
            }
            Self::Failed(failure) | Self::TimedOut(failure) => Details::new().failure(failure),
        };
        Some(match task {
            TaskKind::Service { service, action } => details
                .with("resourceType", service.as_str())
                .with("resource", action.as_str()),
            _ => details,
        })
    }
}
