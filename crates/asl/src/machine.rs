//! Running a state machine, one event at a time.
//!
//! [`Execution::step`] takes what has happened and says what is to be done. It is a function of
//! nothing else: whoever stores the inputs and gives them again, in the same order, gets the same
//! commands, so that any prefix of a journal resumes identically.
//!
//! An execution is a tree of *fibers*: the machine itself, and one for every branch and iteration
//! that runs. A fiber stands at a state, in a [`Phase`].

mod branches;
mod context;
mod data;
pub mod distributed;
mod faults;
mod redrive;
mod run;
mod task;
#[cfg(test)]
mod tests;
pub mod trial;

pub use context::moment;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::budget::StepBudget;
use crate::definition::{Definition, Resource, StateId};
use crate::failure::{Failure, names};
use crate::history::{EventKind, HistoryEvent};
use crate::scope::{Seeded, Variables};

/// An execution can have no more events than this.
pub const MAX_EVENTS: u64 = 25_000;
/// Inputs and outputs can have no more bytes than this, as JSON.
pub const MAX_DATA_BYTES: usize = 262_144;
/// Arrays and objects inside of one another. Values that are nested ever deeper, state by state, would
/// leave no stack to whoever walks them, and what is stored around a value has to be readable, too:
/// `serde_json` reads 127 levels.
const MAX_DATA_DEPTH: usize = 100;
const TOO_DEEP: &str = "The result is nested too deeply.";
/// All variables together. <https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>
const MAX_VARIABLES_BYTES: usize = 10 << 20;
/// A token's execution, fiber and run, and 16 bytes that nobody can guess.
const TOKEN_BYTES: usize = 8 + 4 + 4 + 16;

/// What does not change while an execution runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Whoever runs executions tells them apart by it; task tokens begin with it.
    pub number: u64,
    pub execution_arn: String,
    pub execution_name: String,
    pub machine_arn: String,
    pub machine_name: String,
    pub role_arn: String,
    pub region: String,
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    pub input: Arc<Value>,
    pub redrive_count: u32,
}

/// A running or finished execution. Serialised, it can be taken up by another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    identity: Identity,
    outcome: Option<Outcome>,
    last_event: u64,
    next_fiber: u32,
    fibers: BTreeMap<FiberId, Fiber>,
    /// Where everything stood when it failed.
    #[serde(default)]
    stopped: BTreeMap<FiberId, Fiber>,
    /// Activities that do not exist: a fact of the next input.
    #[serde(skip)]
    missing: Vec<String>,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Succeeded(Arc<Value>),
    Failed(Failure),
    TimedOut(Failure),
    Aborted(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct FiberId(u32);

/// Names one run of a task. A retry is another one, so that answers to an earlier one are told
/// apart and left aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    fiber: FiberId,
    run: u32,
}

/// Names a moment that an execution waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimerId {
    fiber: FiberId,
    run: u32,
    kind: TimerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum TimerKind {
    Wait,
    Retry,
    TaskTimeout,
    Heartbeat,
    ExecutionTimeout,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// The beginning: once, and first.
    Start,
    Timer(TimerId),
    /// A task's worker has begun; an activity's has a name.
    TaskStarted {
        task: TaskId,
        worker: Option<String>,
    },
    /// The call of a `.sync` or `.waitForTaskToken` task has answered.
    TaskSubmitted {
        task: TaskId,
        output: Value,
    },
    TaskSucceeded {
        task: TaskId,
        output: Value,
    },
    TaskFailed {
        task: TaskId,
        failure: Failure,
    },
    TaskHeartbeat {
        task: TaskId,
    },
    /// A distributed map has got its name.
    MapRunStarted {
        task: TaskId,
        arn: String,
    },
    /// A distributed map that had failed is taken up again.
    MapRunRedriven {
        task: TaskId,
        arn: String,
        count: u32,
    },
    /// A distributed map has ended.
    MapRunEnded {
        task: TaskId,
        result: Result<Value, Failure>,
    },
    Stop(Failure),
    /// An execution that has failed is taken up again.
    Redrive,
}

impl Input {
    /// The input as it can be stored: a result that is nested too deeply is a failure.
    pub fn checked(self) -> Self {
        let too_deep = || Failure::new(names::DATA_LIMIT_EXCEEDED, TOO_DEEP);
        match self {
            Self::TaskSubmitted { task, output } | Self::TaskSucceeded { task, output }
                if is_too_deep(&output) =>
            {
                let failure = too_deep();
                Self::TaskFailed { task, failure }
            }
            Self::MapRunEnded {
                task,
                result: Ok(output),
            } if is_too_deep(&output) => Self::MapRunEnded {
                task,
                result: Err(too_deep()),
            },
            other => other,
        }
    }
}

/// Whether a value is nested too deeply to go into an execution, or from one state to another.
pub fn is_too_deep(value: &Value) -> bool {
    nests_deeper(value, MAX_DATA_DEPTH)
}

/// Looks no deeper than it has to.
fn nests_deeper(value: &Value, depth: usize) -> bool {
    let inside = |value: &Value| nests_deeper(value, depth - 1);
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => true,
        Value::Array(elements) => elements.iter().any(inside),
        Value::Object(members) => members.values().any(inside),
        _ => false,
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Record(HistoryEvent),
    Run(TaskRequest),
    RunMap(MapRequest),
    /// Nobody waits for it any more.
    Cancel(TaskId),
    Timer {
        timer: TimerId,
        at_ms: i64,
    },
    Finish(Outcome),
}

/// A task to run.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRequest {
    pub task: TaskId,
    /// The name of the state.
    pub state: Box<str>,
    /// How often the state has been retried.
    pub attempt: u64,
    pub resource: Resource,
    pub input: Arc<Value>,
    /// What a worker sends back, where the task waits for that.
    pub token: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub heartbeat_seconds: Option<u64>,
    pub role_arn: Option<String>,
}

/// A distributed map to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapRequest {
    pub task: TaskId,
    pub state: StateId,
    /// The event with which the state was entered, for messages.
    pub entered_event: u64,
    /// What its fields are evaluated with.
    pub input: Arc<Value>,
    pub context: Value,
    pub variables: Variables,
    /// The items, unless a reader brings them.
    pub items: Option<Arc<Value>>,
    pub max_concurrency: u64,
    pub tolerated_count: Option<u64>,
    pub tolerated_percentage: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fiber {
    parent: Option<Branch>,
    state: StateId,
    phase: Phase,
    /// The state's raw input.
    input: Arc<Value>,
    variables: Variables,
    /// The event that the next one follows from.
    previous: u64,
    /// The event that the state's first one followed from.
    before: u64,
    entered_event: u64,
    entered_ms: i64,
    /// Attempts so far, by retrier.
    attempts: Vec<u64>,
    retries: u64,
    /// Its branches or iterations have begun at least once.
    forked: bool,
    /// Counts the runs of its tasks and timers.
    run: u32,
    item: Option<Item>,
}

/// Whose branch or iteration a fiber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Branch {
    fiber: FiberId,
    index: usize,
}

/// What `$$.Map.Item` is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    index: usize,
    value: Arc<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Entering,
    Executing,
    Waiting {
        output: Arc<Value>,
    },
    Backoff,
    Task {
        heartbeat_seconds: Option<u64>,
        token: Option<String>,
    },
    MapRun,
    Branches(Branches),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Branches {
    results: Vec<Option<Arc<Value>>>,
    done: usize,
    /// The iterations that have not begun; a Parallel has none.
    waiting: VecDeque<usize>,
    items: Option<Arc<Value>>,
    /// What `ItemSelector` is evaluated with.
    input: Arc<Value>,
}

/// One step while it is made.
struct Step<'a> {
    execution: &'a mut Execution,
    definition: &'a Definition,
    now_ms: i64,
    chance: Seeded,
    /// Of its JSONata expressions, all together.
    budget: Rc<StepBudget>,
    commands: Vec<Command>,
    ready: VecDeque<FiberId>,
    /// Where everything stood before the failure that is being dealt with.
    unwound: Option<BTreeMap<FiberId, Fiber>>,
    /// Of a state that is run alone.
    watch: Option<Box<trial::Watch>>,
}

impl TimerId {
    /// The end of the time that an execution has as a whole, for who limits it beyond its
    /// definition.
    pub const fn deadline() -> Self {
        Self {
            fiber: FiberId(0),
            run: 0,
            kind: TimerKind::ExecutionTimeout,
        }
    }
}

/// The number of the execution that a task token belongs to; `None` for what is no token.
pub fn execution_of_token(token: &str) -> Option<u64> {
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, token).ok()?;
    let (number, rest) = bytes.split_first_chunk()?;
    (rest.len() == TOKEN_BYTES - 8).then(|| u64::from_be_bytes(*number))
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.fiber.0, self.run)
    }
}

impl Execution {
    /// An execution that has not begun.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            outcome: None,
            last_event: 0,
            next_fiber: 0,
            fibers: BTreeMap::new(),
            stopped: BTreeMap::new(),
            missing: Vec::new(),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Lets the next event have the id after this one: for a history that somebody else has told,
    /// and that has no end yet.
    pub fn continue_after(&mut self, last_event: u64) {
        self.outcome = None;
        self.last_event = last_event;
    }

    /// Says which activities do not exist when the next inputs come. Belongs to these inputs, as the
    /// time does.
    pub fn without_activities(&mut self, arns: Vec<String>) {
        self.missing = arns;
    }

    /// Whether a timer can still change something.
    pub fn awaits(&self, timer: TimerId) -> bool {
        if timer.kind == TimerKind::ExecutionTimeout {
            return self.outcome.is_none();
        }
        self.fibers.get(&timer.fiber).is_some_and(|fiber| {
            fiber.run == timer.run
                && matches!(
                    (timer.kind, &fiber.phase),
                    (TimerKind::Wait, Phase::Waiting { .. })
                        | (TimerKind::Retry, Phase::Backoff)
                        | (
                            TimerKind::TaskTimeout | TimerKind::Heartbeat,
                            Phase::Task { .. }
                        )
                )
        })
    }

    /// The task that waits for a token; `None` for one that is over, or of another execution.
    pub fn task_of_token(&self, token: &str) -> Option<TaskId> {
        self.fibers.iter().find_map(|(fiber, at)| match &at.phase {
            Phase::Task {
                token: Some(expected),
                ..
            } if expected == token => Some(TaskId {
                fiber: *fiber,
                run: at.run,
            }),
            _ => None,
        })
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Takes an input, and says what is to be done now. `now_ms` and `seed` belong to the input:
    /// given again with it, they give the same commands. Inputs that nobody waits for, such as an
    /// answer after the deadline, do nothing.
    pub fn step(
        &mut self,
        definition: &Definition,
        input: Input,
        now_ms: i64,
        seed: u64,
    ) -> Vec<Command> {
        if self.outcome.is_some() && input != Input::Redrive {
            return Vec::new();
        }
        let mut step = Step {
            execution: self,
            definition,
            now_ms,
            chance: Seeded::new(seed),
            budget: Rc::default(),
            commands: Vec::new(),
            ready: VecDeque::new(),
            watch: None,
            unwound: None,
        };
        step.take(input);
        while step.execution.outcome.is_none()
            && let Some(fiber) = step.ready.pop_front()
        {
            step.advance(fiber);
        }
        step.commands
    }
}

impl Step<'_> {
    fn take(&mut self, input: Input) {
        match input {
            Input::Start => self.start(),
            Input::Stop(failure) => {
                self.record(0, EventKind::ExecutionAborted(failure.clone()));
                self.finish(Outcome::Aborted(failure));
            }
            Input::Redrive => self.redrive(),
            Input::Timer(timer) => self.fire(timer),
            Input::TaskStarted { task, worker } => self.task_started(task, worker),
            Input::TaskSubmitted { task, output } => self.task_submitted(task, output),
            Input::TaskSucceeded { task, output } => self.task_succeeded(task, output),
            Input::TaskFailed { task, failure } => self.task_failed(task, failure),
            Input::TaskHeartbeat { task } => self.task_heartbeat(task),
            Input::MapRunStarted { task, arn } => self.map_run_started(task, arn),
            Input::MapRunRedriven { task, arn, count } => self.map_run_redriven(task, arn, count),
            Input::MapRunEnded { task, result } => self.map_run_ended(task, result),
        }
    }

    fn start(&mut self) {
        if self.execution.last_event > 0 {
            return;
        }
        let identity = &self.execution.identity;
        let (input, role_arn) = (Arc::clone(&identity.input), identity.role_arn.clone());
        let started = EventKind::ExecutionStarted {
            input: Arc::clone(&input),
            role_arn,
        };
        self.record(0, started);
        if let Some(seconds) = self.definition.timeout_seconds {
            self.set_timer(TimerId::deadline(), seconds.saturating_mul(1000));
        }
        let start = self.definition.flow(self.definition.main()).start;
        self.spawn(None, start, input, Variables::new(), 0, None);
    }

    fn spawn(
        &mut self,
        parent: Option<Branch>,
        state: StateId,
        input: Arc<Value>,
        variables: Variables,
        previous: u64,
        item: Option<Item>,
    ) {
        let id = FiberId(self.execution.next_fiber);
        self.execution.next_fiber += 1;
        let fiber = Fiber {
            parent,
            state,
            phase: Phase::Entering,
            input,
            variables,
            previous,
            before: previous,
            entered_event: 0,
            entered_ms: self.now_ms,
            attempts: Vec::new(),
            retries: 0,
            forked: false,
            run: 0,
            item,
        };
        self.execution.fibers.insert(id, fiber);
        self.ready.push_back(id);
    }

    /// Adds an event to the history, and gives its id.
    fn record(&mut self, previous: u64, kind: EventKind) -> u64 {
        self.execution.last_event += 1;
        let id = self.execution.last_event;
        self.commands.push(Command::Record(HistoryEvent {
            id,
            previous,
            at_ms: self.now_ms,
            kind,
        }));
        id
    }

    /// As [`Step::record`], in the chain of a fiber's events.
    fn record_of(&mut self, fiber: FiberId, kind: EventKind) -> u64 {
        let previous = self
            .execution
            .fibers
            .get(&fiber)
            .map_or(0, |fiber| fiber.previous);
        let id = self.record(previous, kind);
        if let Some(fiber) = self.execution.fibers.get_mut(&fiber) {
            fiber.previous = id;
        }
        id
    }

    fn set_timer(&mut self, timer: TimerId, after_ms: u64) {
        let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
        let at_ms = self.now_ms.saturating_add(after_ms);
        self.commands.push(Command::Timer { timer, at_ms });
    }

    fn finish(&mut self, outcome: Outcome) {
        if !matches!(outcome, Outcome::Succeeded(_)) {
            self.remember();
            self.execution.stopped = self.unwound.take().unwrap_or_default();
        }
        let ids: Vec<FiberId> = self.execution.fibers.keys().copied().collect();
        for id in ids {
            self.drop_fiber(id);
        }
        self.execution.outcome = Some(outcome.clone());
        self.commands.push(Command::Finish(outcome));
    }

    /// Takes a fiber away, and its task with it.
    fn drop_fiber(&mut self, id: FiberId) -> Option<Fiber> {
        let fiber = self.execution.fibers.remove(&id)?;
        if let Phase::Task { .. } | Phase::MapRun = fiber.phase {
            let run = fiber.run;
            self.commands
                .push(Command::Cancel(TaskId { fiber: id, run }));
        }
        Some(fiber)
    }

    /// The fiber that waits for this run of a task, unless that is over.
    fn awaiting(&self, task: TaskId) -> Option<&Fiber> {
        let fiber = self.execution.fibers.get(&task.fiber)?;
        let waits = matches!(fiber.phase, Phase::Task { .. } | Phase::MapRun);
        (waits && fiber.run == task.run).then_some(fiber)
    }
}
