//! An execution without a server: tasks answer what mocks say, and time passes at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use asl::definition::{Kind, MapMode, Resource};
use asl::failure::{Failure, names};
use asl::history::{EventKind, HistoryEvent, StateKind};
use asl::machine::distributed::{Place, Selector};
use asl::machine::{Command, Identity, Input, MapRequest, Outcome, TaskRequest, TimerId};
use asl::{Definition, Execution};
use serde_json::Value;
use states::mocks::{Response, TestCase};

/// An execution takes no more inputs than this: a loop that nothing ends has ended long before.
const MAX_INPUTS: usize = 100_000;
/// Distributed maps inside of distributed maps.
const MAX_DEPTH: usize = 8;
const ACCOUNT: &str = "123456789012";

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub definition: &'a Definition,
    pub name: &'a str,
    pub input: Value,
    pub mocks: &'a TestCase,
    /// Milliseconds since the epoch.
    pub start_ms: i64,
    pub seed: u64,
}

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    pub outcome: Outcome,
    pub history: Vec<HistoryEvent>,
    pub end_ms: i64,
}

/// Why there is no end of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    #[error("the state '{state}' runs {resource}, and there is no mock for it")]
    Unmocked { state: String, resource: String },
    #[error("the state '{0}' reads its items from elsewhere: give it a mock with its result")]
    Reader(String),
    #[error("the execution does not come to an end")]
    Endless,
    #[error("distributed maps are nested too deeply")]
    TooDeep,
}

/// A state that was entered, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    pub state: String,
    pub kind: StateKind,
    /// Milliseconds from the start.
    pub at_ms: i64,
    /// Errors of its tasks.
    pub errors: Vec<String>,
    pub output: Option<Arc<Value>>,
}

pub fn run(setup: &Setup<'_>) -> Result<Rehearsal, Stuck> {
    rehearse(setup, 0)
}

impl Rehearsal {
    /// The states in the order in which they were entered.
    pub fn path(&self) -> Vec<Visit> {
        let start = self.history.first().map_or(0, |event| event.at_ms);
        let mut visits: Vec<Visit> = Vec::new();
        // Which visit an event belongs to, by the event it follows from.
        let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
        for event in &self.history {
            let owner = owners.get(&event.previous).copied();
            let own = match &event.kind {
                EventKind::StateEntered { state, name, .. } => {
                    visits.push(Visit {
                        state: name.clone(),
                        kind: *state,
                        at_ms: event.at_ms - start,
                        errors: Vec::new(),
                        output: None,
                    });
                    Some(visits.len() - 1)
                }
                EventKind::StateExited { output, name, .. } => {
                    // A join follows from the last of its branches.
                    let left = visits
                        .iter_mut()
                        .rev()
                        .find(|visit| visit.state == *name && visit.output.is_none());
                    if let Some(visit) = left {
                        visit.output = Some(Arc::clone(output));
                    }
                    owner
                }
                EventKind::Task {
                    event:
                        asl::history::TaskEvent::Failed(failure)
                        | asl::history::TaskEvent::TimedOut(failure),
                    ..
                } => {
                    if let Some(visit) = owner.and_then(|owner| visits.get_mut(owner)) {
                        visit.errors.extend(failure.error.clone());
                    }
                    owner
                }
                _ => owner,
            };
            if let Some(own) = own {
                owners.insert(event.id, own);
            }
        }
        visits
    }

    pub const fn status(&self) -> &'static str {
        match &self.outcome {
            Outcome::Succeeded(_) => "SUCCEEDED",
            Outcome::Failed(_) => "FAILED",
            Outcome::TimedOut(_) => "TIMED_OUT",
            Outcome::Aborted(_) => "ABORTED",
        }
    }

    pub fn output(&self) -> Option<&Value> {
        match &self.outcome {
            Outcome::Succeeded(output) => Some(output),
            _ => None,
        }
    }

    pub const fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Succeeded(_) => None,
            Outcome::Failed(failure) | Outcome::TimedOut(failure) | Outcome::Aborted(failure) => {
                Some(failure)
            }
        }
    }
}

fn rehearse(setup: &Setup<'_>, depth: usize) -> Result<Rehearsal, Stuck> {
    if depth > MAX_DEPTH {
        return Err(Stuck::TooDeep);
    }
    let mut stage = Stage {
        setup,
        depth,
        execution: Execution::new(identity(setup)),
        history: Vec::new(),
        timers: BTreeMap::new(),
        set: 0,
        now_ms: setup.start_ms,
        outcome: None,
        inputs: 0,
    };
    stage.feed(Input::Start)?;
    loop {
        if let Some(outcome) = stage.outcome.take() {
            return Ok(Rehearsal {
                outcome,
                history: stage.history,
                end_ms: stage.now_ms,
            });
        }
        let Some(((at_ms, _), timer)) = stage.timers.pop_first() else {
            return Err(Stuck::Endless);
        };
        if stage.execution.awaits(timer) {
            stage.now_ms = stage.now_ms.max(at_ms);
            stage.feed(Input::Timer(timer))?;
        }
    }
}

fn identity(setup: &Setup<'_>) -> Identity {
    let name = setup.name;
    Identity {
        number: 1,
        execution_arn: format!("arn:aws:states:us-east-1:{ACCOUNT}:execution:{name}:test"),
        execution_name: "test".into(),
        machine_arn: format!("arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{name}"),
        machine_name: name.to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/test"),
        region: "us-east-1".into(),
        started_ms: setup.start_ms,
        input: Arc::new(setup.input.clone()),
        redrive_count: 0,
    }
}

struct Stage<'a> {
    setup: &'a Setup<'a>,
    depth: usize,
    execution: Execution,
    history: Vec<HistoryEvent>,
    /// By the moment, and then in the order in which they were set.
    timers: BTreeMap<(i64, u64), TimerId>,
    set: u64,
    now_ms: i64,
    outcome: Option<Outcome>,
    inputs: usize,
}

impl Stage<'_> {
    fn feed(&mut self, input: Input) -> Result<(), Stuck> {
        let mut coming = VecDeque::from([input]);
        while let Some(input) = coming.pop_front() {
            self.inputs += 1;
            if self.inputs > MAX_INPUTS {
                return Err(Stuck::Endless);
            }
            let seed = self.setup.seed.wrapping_add(self.inputs as u64);
            let commands = self
                .execution
                .step(self.setup.definition, input, self.now_ms, seed);
            for command in commands {
                match command {
                    Command::Record(event) => self.history.push(event),
                    Command::Timer { timer, at_ms } => {
                        self.set += 1;
                        self.timers.insert((at_ms, self.set), timer);
                    }
                    Command::Run(request) => coming.extend(self.answers(&request)?),
                    Command::RunMap(request) => coming.extend(self.map(&request)?),
                    Command::Finish(outcome) => self.outcome = Some(outcome),
                    Command::Cancel(_) => {}
                }
            }
        }
        Ok(())
    }

    fn answers(&self, request: &TaskRequest) -> Result<Vec<Input>, Stuck> {
        let task = request.task;
        let Some(response) = self.setup.mocks.respond(&request.state, request.attempt) else {
            return Err(Stuck::Unmocked {
                state: request.state.to_string(),
                resource: shown(&request.resource),
            });
        };
        let mut inputs = vec![Input::TaskStarted { task, worker: None }];
        let end = match response {
            Response::Throw(failure) => Input::TaskFailed { task, failure },
            Response::Return(output) => {
                if request.resource.is_asynchronous() {
                    let output = output.clone();
                    inputs.push(Input::TaskSubmitted { task, output });
                }
                Input::TaskSucceeded { task, output }
            }
        };
        inputs.push(end);
        Ok(inputs)
    }

    /// A distributed map: its mock, or all of its children, one after the other.
    fn map(&self, request: &MapRequest) -> Result<Vec<Input>, Stuck> {
        let task = request.task;
        let state = self.setup.definition.state(request.state);
        let arn = format!(
            "arn:aws:states:us-east-1:{ACCOUNT}:mapRun:{}/{}:{task}",
            self.setup.name, state.name
        );
        let result = match self.setup.mocks.respond(&state.name, 0) {
            Some(Response::Return(output)) => Ok(output),
            Some(Response::Throw(failure)) => Err(failure),
            None => self.children(request)?,
        };
        Ok(vec![
            Input::MapRunStarted { task, arn },
            Input::MapRunEnded { task, result },
        ])
    }

    fn children(&self, request: &MapRequest) -> Result<Result<Value, Failure>, Stuck> {
        let state = self.setup.definition.state(request.state);
        let (Kind::Map(map), Some(items)) = (&state.kind, &request.items) else {
            return Err(Stuck::Reader(state.name.to_string()));
        };
        if map.mode == MapMode::Inline || map.batcher.is_some() || map.writer.is_some() {
            return Err(Stuck::Reader(state.name.to_string()));
        }
        let definition = self.setup.definition.processor(map.processor);
        let items: Vec<(Option<&str>, &Value)> = match &**items {
            Value::Array(values) => values.iter().map(|value| (None, value)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (Some(key.as_str()), value))
                .collect(),
            _ => Vec::new(),
        };
        let mut selector = Selector::new(map, request);
        let (mut results, mut failed) = (Vec::with_capacity(items.len()), 0_u64);
        for (index, (key, value)) in items.iter().enumerate() {
            let place = Place {
                index: index as u64,
                key: *key,
                source: "STATE_DATA",
            };
            let input = selector.select((*value).clone(), &place, self.now_ms, self.setup.seed);
            let input = match input {
                Ok(input) => input,
                Err(error) => return Ok(Err(Failure::new(error.error, error.cause))),
            };
            let child = rehearse(
                &Setup {
                    definition: &definition,
                    input,
                    start_ms: self.now_ms,
                    ..self.setup.clone()
                },
                self.depth + 1,
            )?;
            match child.outcome {
                Outcome::Succeeded(output) => results.push(Value::clone(&output)),
                _ => failed += 1,
            }
        }
        if is_too_many(request, failed, items.len()) {
            let cause = "The specified tolerated failure threshold was exceeded";
            let name = names::EXCEED_TOLERATED_FAILURE_THRESHOLD;
            return Ok(Err(Failure::new(name, cause)));
        }
        Ok(Ok(Value::Array(results)))
    }
}

/// Nothing said about failures means that none is tolerated.
#[expect(clippy::cast_precision_loss, reason = "of counts that exist in memory")]
fn is_too_many(request: &MapRequest, failed: u64, total: usize) -> bool {
    let count = request.tolerated_count.filter(|count| *count > 0);
    let percentage = request.tolerated_percentage.filter(|most| *most > 0.0);
    match (count, percentage) {
        (None, None) => failed > 0,
        (count, percentage) => {
            count.is_some_and(|count| failed > count)
                || percentage.is_some_and(|most| failed as f64 * 100.0 > most * total as f64)
        }
    }
}

fn shown(resource: &Resource) -> String {
    match resource {
        Resource::Lambda { arn } | Resource::Activity { arn } => arn.clone(),
        Resource::Service {
            service, action, ..
        } => format!("{service}:{action}"),
    }
}
