//! An execution in memory: what it is, what it waits for, and one turn of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use asl::Execution;
use asl::definition::Resource;
use asl::history::HistoryEvent;
use asl::machine::{Command, Identity, Input, MapRequest, Outcome, TaskId, TaskRequest, TimerId};
use clock::Timestamp;
use serde_json::Value;
use store::{Batch, Expect};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::record::{self, End, Head, Line, Running, Taken, Turn};
use super::{About, Error};
use crate::aside::aside;
use crate::lock::lock;
use crate::machines::Kind;

/// The longest that a standard execution can take.
const MAX_AGE_MS: i64 = 365 * 24 * 3600 * 1000;
/// The longest that an express execution can take.
const MAX_EXPRESS_AGE_MS: i64 = 5 * 60 * 1000;

/// Told once an input is on disk: whether it changed anything.
pub type Reply = oneshot::Sender<Result<bool, Error>>;

/// An execution that is in memory.
#[derive(Debug)]
pub struct Live {
    pub number: u64,
    pub about: Arc<About>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub struct State {
    pub execution: Execution,
    /// How many turns are on disk, or on their way.
    pub turns: u64,
    pub inputs: VecDeque<(Input, Option<Reply>)>,
    /// Somebody takes its turns.
    pub driven: bool,
    /// It is not in memory any more: who still holds it has to look it up again.
    pub gone: bool,
    pub timers: BTreeMap<TimerId, i64>,
    pub tasks: BTreeMap<TaskId, Pending>,
    /// Where it stands among all that wait for a moment.
    pub due_ms: Option<i64>,
    /// Set until its next turn if that one begins it, or takes it up again: what its head must be
    /// before.
    pub begins: Option<Expect>,
}

/// A task that has been scheduled and is not over.
#[derive(Debug)]
pub struct Pending {
    pub what: What,
    pub started: bool,
    /// What its call has answered, where that is not its end.
    pub submitted: Option<Value>,
    pub running: Option<AbortHandle>,
}

#[derive(Clone, Debug)]
pub enum What {
    Task(Arc<TaskRequest>),
    Map {
        request: Arc<MapRequest>,
        run_arn: Option<String>,
    },
}

impl Pending {
    fn new(what: What) -> Self {
        Self {
            what,
            started: false,
            submitted: None,
            running: None,
        }
    }

    /// A task that a worker has to fetch.
    pub fn is_queued(&self) -> bool {
        !self.started && self.activity().is_some()
    }

    pub fn activity(&self) -> Option<&str> {
        match &self.what {
            What::Task(request) => match &request.resource {
                Resource::Activity { arn } => Some(arn),
                _ => None,
            },
            What::Map { .. } => None,
        }
    }

    /// Whether something in this process has to go on for it.
    pub fn is_attended(&self) -> bool {
        match &self.what {
            What::Map { .. } => true,
            What::Task(request) => match request.resource {
                Resource::Activity { .. } => false,
                _ => request.token.is_none() || self.submitted.is_none(),
            },
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// What a turn wants done once it is on disk.
#[derive(Debug)]
pub enum Effect {
    Run(TaskId),
    /// What ends a task by being dropped.
    Cancel(Pending),
    Queue(TaskId),
}

/// One turn: what to write, and what to do then.
#[derive(Debug)]
pub struct Made {
    pub batch: Batch,
    pub events: Vec<HistoryEvent>,
    pub effects: Vec<Effect>,
    pub replies: Vec<(Reply, bool)>,
    pub end: Option<End>,
    /// What it waited for before, and waits for now.
    pub due_before: Option<i64>,
    pub due_ms: Option<i64>,
}

impl Live {
    pub fn new(number: u64, about: Arc<About>, begins: Option<Expect>) -> Self {
        let execution = Execution::new(identity(number, &about));
        Self {
            number,
            about,
            state: Mutex::new(State {
                execution,
                turns: 0,
                inputs: VecDeque::new(),
                driven: false,
                gone: false,
                timers: BTreeMap::new(),
                tasks: BTreeMap::new(),
                due_ms: None,
                begins,
            }),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes what has come in, and says what to write and to do. Nothing is to be written if nothing
    /// of it mattered.
    pub fn turn(
        &self,
        state: &mut State,
        now: Timestamp,
        missing: &[String],
        chance: impl FnMut() -> u64,
    ) -> Result<Made, Error> {
        let due_before = state.due_ms;
        let Absorbed {
            turn,
            effects,
            replies,
        } = state.absorb(&self.about, now.as_millis(), missing, chance);
        let mut made = Made {
            batch: Batch::new(),
            events: Vec::new(),
            effects,
            replies,
            end: None,
            due_before,
            due_ms: None,
        };
        if state.execution.outcome().is_none() {
            made.due_ms = state.next_moment();
        }
        state.due_ms = made.due_ms;
        if let Some(outcome) = state.execution.outcome() {
            made.end = Some(End {
                stop: now.as_micros(),
                outcome: outcome.clone(),
            });
        }
        if turn.inputs.is_empty() {
            return Ok(made);
        }
        let begins = state.begins.take();
        made.batch = Batch::new().put(
            record::turn_key(self.number, state.turns),
            record::encode(&turn)?,
            Expect::Any,
        );
        state.turns += 1;
        made.batch = self.write_state(std::mem::take(&mut made.batch), state, &made, begins)?;
        made.events = turn.events;
        Ok(made)
    }

    /// Adds the records that say where the execution stands.
    fn write_state(
        &self,
        mut batch: Batch,
        state: &State,
        made: &Made,
        begins: Option<Expect>,
    ) -> Result<Batch, Error> {
        let about = &self.about;
        if begins.is_some() || made.end.is_some() {
            let head = record::encode(&self.head(made.end.clone()))?;
            let expect = begins.unwrap_or(Expect::Any);
            batch = batch.put(record::head_key(&about.arn), head, expect);
            let line = record::encode(&self.line(made.end.as_ref()))?;
            let key = record::line_key(about.scope(), about.start.as_micros(), self.number);
            batch = batch.put(key, line, Expect::Any);
        }
        let key = record::running_key(self.number);
        Ok(match (&made.end, begins) {
            (Some(_), Some(_)) => batch,
            (Some(_), None) => batch.delete(key, Expect::Any),
            (None, _) => {
                let running = Running {
                    due_ms: made.due_ms,
                    attended: state
                        .tasks
                        .values()
                        .any(|task| task.is_attended() || task.is_queued()),
                    arn: about.arn.clone(),
                };
                batch.put(key, running.encode(), Expect::Any)
            }
        })
    }

    pub fn head(&self, end: Option<End>) -> Head {
        let about = &self.about;
        Head {
            number: self.number,
            name: about.name.clone(),
            revision: about.revision.id.clone(),
            version_arn: about.version_arn.clone(),
            alias_arn: about.alias_arn.clone(),
            map_run_arn: about.map_run_arn.clone(),
            test_case: about.test_case.clone(),
            trace_header: about.trace_header.clone(),
            input: about.input_text.to_string(),
            start: about.start.as_micros(),
            redrives: about.redrives,
            redriven: about.redriven.map(Timestamp::as_micros),
            redrive_token: about.redrive_token.clone(),
            end,
        }
    }

    fn line(&self, end: Option<&End>) -> Line {
        let about = &self.about;
        let status = end.map_or("RUNNING", |end| outcome_name(&end.outcome));
        Line {
            arn: about.arn.clone(),
            name: about.name.clone(),
            machine_arn: about.revision.machine_arn.clone(),
            version_arn: about.version_arn.clone(),
            alias_arn: about.alias_arn.clone(),
            map_run_arn: about.map_run_arn.clone(),
            start: about.start.as_micros(),
            stop: end.map(|end| end.stop),
            status: status.to_owned(),
            redrives: about.redrives,
            redriven: about.redriven.map(Timestamp::as_micros),
        }
    }
}

/// What has come of the inputs of a turn.
#[derive(Debug)]
pub struct Absorbed {
    pub turn: Turn,
    pub effects: Vec<Effect>,
    pub replies: Vec<(Reply, bool)>,
}

impl State {
    /// Takes all that has come in. `missing` are the activities of the definition that do not exist.
    pub fn absorb(
        &mut self,
        about: &About,
        now_ms: i64,
        missing: &[String],
        mut chance: impl FnMut() -> u64,
    ) -> Absorbed {
        let mut absorbed = Absorbed {
            turn: Turn {
                inputs: Vec::new(),
                events: Vec::new(),
            },
            effects: Vec::new(),
            replies: Vec::new(),
        };
        while let Some((input, reply)) = self.inputs.pop_front() {
            let taken = Taken {
                input: input.checked(),
                now_ms,
                seed: chance(),
                missing: missing.to_vec(),
            };
            let (events, effects) = (&mut absorbed.turn.events, &mut absorbed.effects);
            let mattered = self.take(about, &taken, events, effects);
            if mattered {
                absorbed.turn.inputs.push(taken);
            }
            if let Some(reply) = reply {
                absorbed.replies.push((reply, mattered));
            }
            if self.inputs.is_empty() {
                self.start_tasks(&mut absorbed.effects);
            }
        }
        self.forget_timers();
        absorbed
    }

    /// Timers that can change nothing any more.
    pub fn forget_timers(&mut self) {
        let execution = &self.execution;
        self.timers.retain(|timer, _| execution.awaits(*timer));
    }

    /// When something will happen by itself.
    pub fn next_moment(&self) -> Option<i64> {
        self.timers.values().min().copied()
    }

    /// Takes one input. Gives whether it changed anything.
    pub fn take(
        &mut self,
        about: &About,
        taken: &Taken,
        events: &mut Vec<HistoryEvent>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if let Input::Timer(timer) = &taken.input {
            self.timers.remove(timer);
        }
        if let Input::Start | Input::Redrive = taken.input {
            let age = match about.revision.kind {
                Kind::Standard => MAX_AGE_MS,
                Kind::Express => MAX_EXPRESS_AGE_MS,
            };
            let end = taken.now_ms.saturating_add(age);
            self.timers.insert(TimerId::deadline(), end);
        }
        self.note(&taken.input);
        let definition = &about.revision.definition;
        self.execution.without_activities(taken.missing.clone());
        let (input, execution) = (taken.input.clone(), &mut self.execution);
        let step = || execution.step(definition, input, taken.now_ms, taken.seed);
        let commands = match definition.uses_jsonata() {
            true => aside(step),
            false => step(),
        };
        let mattered = !commands.is_empty();
        for command in commands {
            match command {
                Command::Record(event) => events.push(event),
                Command::Run(request) => {
                    let task = request.task;
                    let pending = Pending::new(What::Task(Arc::new(request)));
                    let queued = pending.activity().is_some();
                    self.tasks.insert(task, pending);
                    if queued {
                        effects.push(Effect::Queue(task));
                    }
                }
                Command::RunMap(request) => {
                    let task = request.task;
                    let request = Arc::new(request);
                    let what = What::Map {
                        request,
                        run_arn: None,
                    };
                    self.tasks.insert(task, Pending::new(what));
                    effects.push(Effect::Run(task));
                }
                Command::Cancel(task) => {
                    effects.extend(self.tasks.remove(&task).map(Effect::Cancel));
                }
                Command::Timer { timer, at_ms } => {
                    let at_ms = match self.timers.get(&timer) {
                        // The year that every execution has ends it in any case.
                        Some(&before) if timer == TimerId::deadline() => before.min(at_ms),
                        _ => at_ms,
                    };
                    self.timers.insert(timer, at_ms);
                }
                Command::Finish(_) => {
                    effects.extend(
                        std::mem::take(&mut self.tasks)
                            .into_values()
                            .map(Effect::Cancel),
                    );
                }
            }
        }
        mattered
    }

    /// Keeps account of the tasks that an input is about.
    fn note(&mut self, input: &Input) {
        match input {
            Input::TaskStarted { task, .. } => {
                if let Some(pending) = self.tasks.get_mut(task) {
                    pending.started = true;
                }
            }
            Input::TaskSubmitted { task, output } => {
                if let Some(pending) = self.tasks.get_mut(task) {
                    pending.submitted = Some(output.clone());
                }
            }
            Input::MapRunStarted { task, arn } | Input::MapRunRedriven { task, arn, .. } => {
                if let Some(Pending {
                    what: What::Map { run_arn, .. },
                    ..
                }) = self.tasks.get_mut(task)
                {
                    *run_arn = Some(arn.clone());
                }
            }
            Input::TaskSucceeded { task, .. }
            | Input::TaskFailed { task, .. }
            | Input::MapRunEnded { task, .. } => {
                self.tasks.remove(task);
            }
            _ => {}
        }
    }

    /// Tasks that were just scheduled begin in the same turn: that they have is on disk before they
    /// do, and costs no write of its own.
    fn start_tasks(&mut self, effects: &mut Vec<Effect>) {
        let waiting = self
            .tasks
            .iter_mut()
            .filter(|(_, pending)| !pending.started && pending.activity().is_none());
        for (task, pending) in waiting {
            if let What::Map { .. } = pending.what {
                continue;
            }
            pending.started = true;
            effects.push(Effect::Run(*task));
            let input = Input::TaskStarted {
                task: *task,
                worker: None,
            };
            self.inputs.push_back((input, None));
        }
    }

    /// Whether nothing in this process has to go on for it.
    pub fn can_sleep(&self) -> bool {
        self.inputs.is_empty() && !self.tasks.values().any(Pending::is_attended)
    }

    /// The timers whose moment has come.
    pub fn due(&self, now_ms: i64) -> Vec<TimerId> {
        self.timers
            .iter()
            .filter(|(_, at_ms)| **at_ms <= now_ms)
            .map(|(timer, _)| *timer)
            .collect()
    }
}

pub fn identity(number: u64, about: &About) -> Identity {
    let revision = &about.revision;
    Identity {
        number,
        execution_arn: about.arn.clone(),
        execution_name: about.name.clone(),
        machine_arn: revision.machine_arn.clone(),
        machine_name: revision.machine_name.clone(),
        role_arn: revision.role_arn.clone(),
        region: about.region().to_owned(),
        started_ms: about.start.as_millis(),
        input: Arc::clone(&about.input),
        redrive_count: 0,
    }
}

/// The value of `status` for what an execution ended with.
pub const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded(_) => "SUCCEEDED",
        Outcome::Failed(_) => "FAILED",
        Outcome::TimedOut(_) => "TIMED_OUT",
        Outcome::Aborted(_) => "ABORTED",
    }
}
