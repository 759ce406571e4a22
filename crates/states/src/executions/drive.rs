//! Starting executions, and taking their turns.

use std::sync::Arc;

use asl::failure::Failure;
use asl::machine::{Input, TaskId, TaskRequest};
use clock::Timestamp;
use integrations::{Call, Report, Update};
use model::stepfunctions::error;
use serde_json::Value;
use store::Expect;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::live::{Effect, Live, Made, Reply, What};
use super::record::{self, Head};
use super::{
    About, Attempt, Described, Executions, MapReport, MapStart, MapUpdate, Status, status_of,
};
use crate::aside::turn;
use crate::lock::lock;
use crate::machines::{Kind, Target, arn};
use crate::{Error, writing};

/// An execution to start.
#[derive(Clone, Debug)]
pub struct Start {
    pub target: Target,
    /// Default: a random one.
    pub name: Option<String>,
    /// Its text, and what that says.
    pub input_text: Arc<str>,
    pub input: Arc<Value>,
    pub trace_header: Option<String>,
    /// The distributed map that it is a child of.
    pub map_run_arn: Option<String>,
}

/// An execution that has been started, and is on disk.
#[derive(Clone, Debug)]
pub struct Started {
    pub arn: String,
    pub at: Timestamp,
    /// Where it stands, if it has ended at once.
    pub ended: Option<Described>,
}

/// What somebody sends back for a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Success(Value),
    Failure(Failure),
    Heartbeat,
}

impl Executions {
    /// Starts an execution. It is on disk when this returns, with all that it has done at once.
    ///
    /// A name that is in use gives the execution that has it if it runs with the same input, and
    /// else `ExecutionAlreadyExists`.
    pub async fn start(self: &Arc<Self>, start: Start) -> Result<Started, Error> {
        let number = self.numbers.next().await?;
        let named = start.name.is_some();
        let about = Arc::new(self.begin(start, Kind::Standard));
        if named && let Some(running) = self.already(&about)? {
            return Ok(running);
        }
        // A random name is nobody else's.
        let expect = if named { Expect::Absent } else { Expect::Any };
        let live = Arc::new(Live::new(number, Arc::clone(&about), Some(expect)));
        let made = {
            let _turn = turn(&about.revision.definition).await;
            let mut state = live.state();
            state.driven = true;
            state.inputs.push_back((Input::Start, None));
            live.turn(
                &mut state,
                self.clock.now(),
                &self.missing(&live.about),
                chance,
            )?
        };
        let ended = match self.begin_running(live, made).await {
            Ok(ended) => ended,
            // Somebody has taken the name meanwhile.
            Err(Error::Store(store::Error::Conflict { .. })) => {
                return self.already(&about)?.ok_or_else(|| exists(&about));
            }
            Err(err) => return Err(err),
        };
        Ok(Started {
            arn: about.arn.clone(),
            at: about.start,
            ended,
        })
    }

    /// Writes the turn that begins an execution, or takes it up again, and lets it go on. Gives how
    /// it ended, if it has ended at once.
    pub(super) async fn begin_running(
        self: &Arc<Self>,
        live: Arc<Live>,
        made: Made,
    ) -> Result<Option<Described>, Error> {
        let this = Arc::clone(self);
        // In a task of its own: what is on disk has to go on, also if the client goes away.
        let begun = tokio::spawn(async move { this.write_first(&live, made).await });
        begun.await.map_err(|_| Error::Stopping)?
    }

    async fn write_first(
        self: &Arc<Self>,
        live: &Arc<Live>,
        mut made: Made,
    ) -> Result<Option<Described>, Error> {
        self.note_begin(&live.about);
        self.count(&live.about.revision.machine_arn, 1);
        if made.end.is_none() {
            // Before anybody can read of it, so that there is never a second one in memory.
            self.shard(live.number)
                .insert(live.number, Arc::clone(live));
        }
        if let Err(err) = self.table.write(std::mem::take(&mut made.batch)).await {
            self.shard(live.number).remove(&live.number);
            live.state().gone = true;
            self.count(&live.about.revision.machine_arn, -1);
            return Err(err.into());
        }
        self.observer.status_changed(&live.about, &Status::Running);
        let ended = made.end.as_ref().map(|end| Described {
            about: Arc::clone(&live.about),
            status: status_of(Some(end)),
        });
        self.done(live, made);
        self.settle(live);
        Ok(ended)
    }

    pub(crate) fn begin(&self, start: Start, kind: Kind) -> About {
        let target = start.target;
        let name = start.name.unwrap_or_else(|| Uuid::new_v4().to_string());
        let machine = &target.revision.machine_arn;
        let arn = match kind {
            Kind::Standard => arn::of_execution(machine, kind, &name),
            Kind::Express => {
                let run = format!("{name}:{}", Uuid::new_v4());
                arn::of_execution(machine, kind, &run)
            }
        };
        About {
            arn,
            name,
            revision: target.revision,
            version_arn: target.version_arn,
            alias_arn: target.alias_arn,
            map_run_arn: start.map_run_arn,
            test_case: target.test_case,
            trace_header: start.trace_header,
            input_text: start.input_text,
            input: start.input,
            start: self.clock.now(),
            redrives: 0,
            redriven: None,
            redrive_token: None,
        }
    }

    /// The execution that has the name already, if it is as good as the one to be started.
    fn already(&self, about: &About) -> Result<Option<Started>, Error> {
        let Some(stored) = self.table.get(record::head_key(&about.arn))? else {
            return Ok(None);
        };
        let head: Head = record::decode(&stored.value)?;
        if head.end.is_some() || *head.input != *about.input_text {
            return Err(exists(about));
        }
        Ok(Some(Started {
            arn: about.arn.clone(),
            at: Timestamp::from_micros(head.start),
            ended: None,
        }))
    }

    /// Stops an execution that runs. Gives when it ended; `None` if there is none.
    pub async fn stop(
        self: &Arc<Self>,
        arn: &str,
        failure: Failure,
    ) -> Result<Option<Timestamp>, Error> {
        let Some(stored) = self.table.get(record::head_key(arn))? else {
            return Ok(None);
        };
        let head: Head = record::decode(&stored.value)?;
        if head.end.is_none() {
            let (told, answer) = oneshot::channel();
            if self.send(head.number, Input::Stop(failure), Some(told))? {
                answer.await.map_err(|_| Error::Stopping)??;
            }
        }
        let described = self.describe(arn)?;
        Ok(described.and_then(|described| match described.status {
            Status::Succeeded { stop, .. } | Status::Failed { stop, .. } => Some(stop),
            Status::Running | Status::PendingRedrive => None,
        }))
    }

    /// Hands an answer to the task that waits for the token.
    pub async fn answer(self: &Arc<Self>, token: &str, answer: Answer) -> Result<(), Error> {
        let number = asl::machine::execution_of_token(token).ok_or_else(|| {
            Error::refused(&error::INVALID_TOKEN, "Invalid Token: 'Invalid token'")
        })?;
        let over = || {
            let text = "Task Timed Out: 'Provided task does not exist anymore'";
            Error::refused(&error::TASK_TIMED_OUT, text)
        };
        let Some(live) = self.find(number)? else {
            return Err(over());
        };
        let (told, outcome) = oneshot::channel();
        let input = {
            let state = live.state();
            let task = state.execution.task_of_token(token).ok_or_else(over)?;
            match answer {
                Answer::Success(output) => Input::TaskSucceeded { task, output },
                Answer::Failure(failure) => Input::TaskFailed { task, failure },
                Answer::Heartbeat => Input::TaskHeartbeat { task },
            }
        };
        let is_heartbeat = matches!(input, Input::TaskHeartbeat { .. });
        if !self.send(number, input, Some(told))? {
            return Err(over());
        }
        let mattered = outcome.await.map_err(|_| Error::Stopping)??;
        // A heartbeat that nobody asked for is as good as any.
        if mattered || is_heartbeat {
            Ok(())
        } else {
            Err(over())
        }
    }

    /// Gives an input to an execution; false if it runs no more.
    pub(super) fn send(
        self: &Arc<Self>,
        number: u64,
        input: Input,
        mut reply: Option<Reply>,
    ) -> Result<bool, Error> {
        loop {
            let Some(live) = self.find(number)? else {
                return Ok(false);
            };
            let mut state = live.state();
            if state.gone {
                continue;
            }
            state.inputs.push_back((input, reply.take()));
            if !state.driven {
                state.driven = true;
                drop(state);
                self.drive(live);
            }
            return Ok(true);
        }
    }

    /// Takes turns of an execution in a task of its own, until there is nothing left to take in.
    fn drive(self: &Arc<Self>, live: Arc<Live>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let made = {
                    let _turn = turn(&live.about.revision.definition).await;
                    this.next_turn(&live)
                };
                let Some(made) = made else {
                    return;
                };
                let Ok(mut made) = made.inspect_err(|err| this.abandon(&live, err)) else {
                    return;
                };
                if !made.batch.is_empty()
                    && let Err(err) =
                        writing::write(&this.table, std::mem::take(&mut made.batch)).await
                {
                    this.abandon(&live, &err);
                    return;
                }
                this.done(&live, made);
            }
        });
    }

    /// The next turn; `None` if there is none, and then nobody drives it any more.
    fn next_turn(&self, live: &Arc<Live>) -> Option<Result<Made, Error>> {
        let mut shard = self.shard(live.number);
        let mut state = live.state();
        if state.gone {
            return None;
        }
        if state.inputs.is_empty() {
            state.driven = false;
            if state.can_sleep() {
                state.gone = true;
                shard.remove(&live.number);
            }
            return None;
        }
        drop(shard);
        if self.machines.is_deleting(&live.about.revision.machine_arn) {
            let stopped = Failure {
                error: None,
                cause: None,
            };
            state.inputs.push_back((Input::Stop(stopped), None));
        }
        Some(live.turn(
            &mut state,
            self.clock.now(),
            &self.missing(&live.about),
            chance,
        ))
    }

    /// Does what a turn wants, now that it is on disk.
    pub(super) fn done(self: &Arc<Self>, live: &Arc<Live>, made: Made) {
        self.observer.recorded(&live.about, &made.events);
        self.reschedule(live.number, made.due_before, made.due_ms);
        if let Some(end) = &made.end {
            let late = {
                let mut shard = self.shard(live.number);
                let mut state = live.state();
                state.gone = true;
                shard.remove(&live.number);
                std::mem::take(&mut state.inputs)
            };
            self.tell_ended(&live.about, status_of(Some(end)));
            // What came while the end was written has come too late.
            for (_, reply) in late {
                if let Some(reply) = reply {
                    // Nobody may wait any more.
                    let _ = reply.send(Ok(false));
                }
            }
        }
        for effect in made.effects {
            match effect {
                Effect::Run(task) => self.run(live, task, None),
                Effect::Queue(task) => self.enqueue(live, task),
                Effect::Cancel(pending) => drop(pending),
            }
        }
        for (reply, mattered) in made.replies {
            // Nobody may wait any more.
            let _ = reply.send(Ok(mattered));
        }
    }

    /// Lets an execution go on, or sleep.
    pub(super) fn settle(self: &Arc<Self>, live: &Arc<Live>) {
        let mut shard = self.shard(live.number);
        let mut state = live.state();
        if state.gone {
            return;
        }
        if !state.inputs.is_empty() {
            state.driven = true;
            drop(state);
            drop(shard);
            self.drive(Arc::clone(live));
            return;
        }
        state.driven = false;
        if state.can_sleep() {
            state.gone = true;
            shard.remove(&live.number);
        }
    }

    fn tell_ended(&self, about: &Arc<About>, status: Status) {
        self.count(&about.revision.machine_arn, -1);
        self.observer.status_changed(about, &status);
        let waiting = lock(&self.waiting).remove(&about.arn);
        for told in waiting.into_iter().flatten() {
            let described = Described {
                about: Arc::clone(about),
                status: status.clone(),
            };
            // Nobody may wait any more.
            let _ = told.send(described);
        }
    }

    /// Counts how many executions of a machine run.
    pub(super) fn count(&self, machine_arn: &str, by: i64) {
        let mut running = lock(&self.running);
        let count = match running.get_mut(machine_arn) {
            Some(count) => count,
            None => running.entry(machine_arn.to_owned()).or_default(),
        };
        *count = count.saturating_add_signed(by);
        if *count > 0 {
            return;
        }
        running.remove(machine_arn);
        drop(running);
        if self.machines.is_deleting(machine_arn) {
            self.finish_delete(machine_arn.to_owned());
        }
    }

    /// The last execution of a machine that is to go has ended.
    pub(super) fn finish_delete(&self, machine: String) {
        let machines = Arc::clone(&self.machines);
        tokio::spawn(async move {
            if let Err(err) = machines.finish_delete(&machine).await {
                tracing::error!(machine, "cannot delete a state machine: {err}");
            }
        });
    }

    /// A turn could not be written. What it would have done is not done; after a restart the
    /// execution goes on from its last turn.
    fn abandon(&self, live: &Arc<Live>, err: &Error) {
        tracing::error!(
            execution = live.about.arn,
            "an execution stands still: {err}"
        );
        let mut shard = self.shard(live.number);
        let mut state = live.state();
        state.gone = true;
        state.inputs.clear();
        state.tasks.clear();
        shard.remove(&live.number);
    }

    /// Begins a task, or goes on with one that had begun before a restart.
    pub(super) fn run(
        self: &Arc<Self>,
        live: &Arc<Live>,
        task: TaskId,
        resumed: Option<Option<Value>>,
    ) {
        let mut state = live.state();
        let Some(pending) = state.tasks.get_mut(&task) else {
            return;
        };
        let running = match &pending.what {
            What::Task(request) => {
                let Some(runner) = self.tasks.get() else {
                    return;
                };
                let Some(call) = call(&live.about, live.number, request) else {
                    return;
                };
                runner(Attempt {
                    call,
                    state: request.state.to_string(),
                    retries: request.attempt,
                    about: Arc::clone(&live.about),
                    resumed,
                    report: self.report(live.number, task),
                })
            }
            What::Map { request, run_arn } => {
                let Some(runner) = self.maps.get() else {
                    return;
                };
                runner(MapStart {
                    about: Arc::clone(&live.about),
                    id: live.about.task_id(live.number, task),
                    request: Arc::clone(request),
                    run_arn: run_arn.clone(),
                    report: self.map_report(live.number, task),
                })
            }
        };
        pending.running = Some(tokio::spawn(running).abort_handle());
    }

    fn report(&self, number: u64, task: TaskId) -> Report {
        let executions = self.this.clone();
        Arc::new(move |update| {
            if let (Some(executions), Some(input)) = (executions.upgrade(), input_of(task, update))
            {
                executions.tell(number, input);
            }
        })
    }

    fn map_report(&self, number: u64, task: TaskId) -> MapReport {
        let executions = self.this.clone();
        Arc::new(move |update| {
            let input = match update {
                MapUpdate::Started { arn } => Input::MapRunStarted { task, arn },
                MapUpdate::Redriven { arn, count } => Input::MapRunRedriven { task, arn, count },
                MapUpdate::Ended(result) => Input::MapRunEnded { task, result },
            };
            if let Some(executions) = executions.upgrade() {
                executions.tell(number, input);
            }
        })
    }

    fn tell(self: &Arc<Self>, number: u64, input: Input) {
        if let Err(err) = self.send(number, input, None) {
            tracing::error!(number, "cannot go on with an execution: {err}");
        }
    }
}

/// What `integrations` needs to know of a task. `None` if the execution has no proper ARN.
pub(crate) fn call(about: &About, number: u64, request: &TaskRequest) -> Option<Call> {
    Some(Call {
        id: about.task_id(number, request.task),
        account: about.account().parse().ok()?,
        region: about.region().parse().ok()?,
        machine_arn: about.revision.machine_arn.clone(),
        execution_arn: about.arn.clone(),
        role_arn: about.revision.role_arn.clone(),
        task_role_arn: request.role_arn.clone(),
        resource: request.resource.clone(),
        input: Arc::clone(&request.input),
        token: request.token.clone(),
        timeout_seconds: request.timeout_seconds,
        trace_header: about.trace_header.clone(),
    })
}

/// What an update of a task is to its execution, which knows already that the task was started.
pub(crate) fn input_of(task: TaskId, update: Update) -> Option<Input> {
    match update {
        Update::Started => None,
        Update::Submitted(output) => Some(Input::TaskSubmitted { task, output }),
        Update::Succeeded(output) => Some(Input::TaskSucceeded { task, output }),
        Update::Failed(failure) => Some(Input::TaskFailed { task, failure }),
    }
}

fn exists(about: &About) -> Error {
    let text = format!("Execution Already Exists: '{}'", about.arn);
    Error::refused(&error::EXECUTION_ALREADY_EXISTS, text)
}

/// A random seed.
pub(crate) fn chance() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    // The fixed bits of a UUID are elsewhere in each half.
    high ^ low.rotate_left(32)
}
