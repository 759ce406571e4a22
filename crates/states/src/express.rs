//! Express executions: in memory, for five minutes at most.
//!
//! What a client started and does not wait for is on disk until it has ended; a server that died
//! meanwhile runs it again from the beginning (at least once). What a client waits for ends with the
//! server (at most once). Histories are told to the observer and kept nowhere.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html>

use std::sync::Arc;

use asl::Definition;
use asl::failure::{Failure, names};
use asl::machine::{Input, TaskId};
use clock::Timestamp;
use integrations::Report;
use serde_json::Value;
use store::{Batch, Expect};
use tokio::sync::mpsc;

use crate::Error;
use crate::aside::turn;
use crate::executions::{
    About, Attempt, Described, Effect, Executions, Live, Start, Started, State, Status, What, call,
    chance, input_of, record,
};
use crate::machines::Kind;

const PAGE: usize = 1_000;

/// An express execution that has been started, and may have ended already.
struct Running {
    executions: Arc<Executions>,
    live: Live,
    told: mpsc::UnboundedSender<Input>,
    coming: mpsc::UnboundedReceiver<Input>,
}

impl Executions {
    /// Runs an express execution to its end.
    pub async fn run_express(self: &Arc<Self>, start: Start) -> Result<Described, Error> {
        let about = Arc::new(self.begin(start, Kind::Express));
        let number = self.number().await?;
        self.run_in_memory(number, about).await
    }

    /// Starts an express execution that nobody waits for. It is on disk when this returns.
    pub async fn start_express(self: &Arc<Self>, start: Start) -> Result<Started, Error> {
        let about = Arc::new(self.begin(start, Kind::Express));
        let number = self.number().await?;
        let live = Live::new(number, Arc::clone(&about), None);
        let head = record::Express {
            arn: about.arn.clone(),
            head: live.head(None),
        };
        let value = record::encode(&head)?;
        let key = record::express_key(number);
        self.table().put(key, value, Expect::Any).await?;
        let started = Started {
            arn: about.arn.clone(),
            at: about.start,
            ended: None,
        };
        self.run_to_the_end(number, about);
        Ok(started)
    }

    /// Runs again what the server was running when it died.
    pub(crate) async fn restart_express(self: &Arc<Self>) -> Result<(), Error> {
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let page = self.table().scan(record::EXPRESS, after.as_deref(), PAGE)?;
            for stored in &page {
                let Some(number) = record::number_of(&stored.key) else {
                    continue;
                };
                let record::Express { arn, head } = record::decode(&stored.value)?;
                match self.about(&arn, head) {
                    Ok(about) => self.run_to_the_end(number, Arc::new(about)),
                    Err(err) => tracing::error!(execution = arn, "cannot run it again: {err}"),
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
                return Ok(());
            };
            after = Some(last.key.clone());
            // Others have something to do, too.
            tokio::task::yield_now().await;
        }
    }

    fn run_to_the_end(self: &Arc<Self>, number: u64, about: Arc<About>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let arn = about.arn.clone();
            if let Err(err) = this.run_in_memory(number, about).await {
                tracing::error!(execution = arn, "an express execution ended: {err}");
                return;
            }
            let over = Batch::new().delete(record::express_key(number), Expect::Any);
            if let Err(err) = this.table().write_relaxed(over) {
                tracing::warn!(
                    execution = arn,
                    "an express execution will run again after a restart: {err}"
                );
            }
        });
    }

    async fn run_in_memory(
        self: &Arc<Self>,
        number: u64,
        about: Arc<About>,
    ) -> Result<Described, Error> {
        self.observer().status_changed(&about, &Status::Running);
        let (told, coming) = mpsc::unbounded_channel();
        let live = Live::new(number, about, None);
        live.state().inputs.push_back((Input::Start, None));
        let mut running = Running {
            executions: Arc::clone(self),
            live,
            told,
            coming,
        };
        let ended = match running.definition().is_heavy() {
            // Waits for its turn.
            true => None,
            false => running.turn(),
        };
        let described = match ended {
            Some(described) => described,
            // A client that goes away does not end it.
            None => tokio::spawn(running.go_on())
                .await
                .map_err(|_| Error::Stopping)?,
        };
        let (about, status) = (&described.about, &described.status);
        self.observer().status_changed(about, status);
        Ok(described)
    }
}

impl Running {
    fn definition(&self) -> &Definition {
        &self.live.about.revision.definition
    }

    async fn go_on(mut self) -> Described {
        loop {
            // Of a heavy definition not even the first turn has been taken.
            if !self.live.state().inputs.is_empty() {
                let turn = turn(self.definition()).await;
                if let Some(described) = self.turn() {
                    return described;
                }
                drop(turn);
            }
            let next = self.live.state().next_moment();
            let clock = self.executions.clock().clone();
            tokio::select! {
                input = self.coming.recv() => {
                    // The sender is in `self`, so there is always another one.
                    if let Some(input) = input {
                        self.live.state().inputs.push_back((input, None));
                    }
                }
                () = sleep_until(&clock, next) => {
                    let now_ms = clock.now().as_millis();
                    let mut state = self.live.state();
                    let due = state.due(now_ms);
                    let timers = due.into_iter().map(|timer| (Input::Timer(timer), None));
                    state.inputs.extend(timers);
                }
            }
        }
    }

    /// Takes a turn; gives how it ended, if it has.
    fn turn(&mut self) -> Option<Described> {
        let now = self.executions.clock().now();
        let about = &self.live.about;
        let (events, effects, outcome) = {
            let mut state = self.live.state();
            while let Ok(input) = self.coming.try_recv() {
                state.inputs.push_back((input, None));
            }
            let absorbed = state.absorb(about, now.as_millis(), &[], chance);
            let outcome = state.execution.outcome().cloned();
            (absorbed.turn.events, absorbed.effects, outcome)
        };
        self.executions.observer().recorded(about, &events);
        if let Some(outcome) = outcome {
            return Some(Described {
                about: Arc::clone(about),
                status: Status::of(&outcome, now),
            });
        }
        for effect in effects {
            match effect {
                Effect::Run(task) => self.run(task),
                Effect::Cancel(pending) => drop(pending),
                Effect::Queue(task) => self.refuse(task, "An activity"),
            }
        }
        None
    }

    fn run(&self, task: TaskId) {
        let mut state = self.live.state();
        let State { tasks, .. } = &mut *state;
        let Some(pending) = tasks.get_mut(&task) else {
            return;
        };
        let What::Task(request) = &pending.what else {
            return self.refuse(task, "A distributed map");
        };
        let about = &self.live.about;
        let (Some(runner), Some(call)) = (
            self.executions.task_runner(),
            call(about, self.live.number, request),
        ) else {
            return self.refuse(task, "This task");
        };
        let running = runner(Attempt {
            call,
            state: request.state.to_string(),
            retries: request.attempt,
            about: Arc::clone(about),
            resumed: None::<Option<Value>>,
            report: self.report(task),
        });
        pending.running = Some(tokio::spawn(running).abort_handle());
    }

    fn report(&self, task: TaskId) -> Report {
        let told = self.told.clone();
        Arc::new(move |update| {
            if let Some(input) = input_of(task, update) {
                // The execution may have ended.
                let _ = told.send(input);
            }
        })
    }

    /// What an express machine cannot do is refused when the machine is made; a mistake there must
    /// not leave an execution that waits for nothing.
    fn refuse(&self, task: TaskId, what: &str) {
        let cause = format!("{what} is not supported in express workflows");
        let failure = Failure::new(names::RUNTIME, cause);
        let _ = self.told.send(Input::TaskFailed { task, failure });
    }
}

async fn sleep_until(clock: &clock::Clock, moment_ms: Option<i64>) {
    match moment_ms {
        Some(moment_ms) => clock.sleep_until(Timestamp::from_millis(moment_ms)).await,
        None => std::future::pending().await,
    }
}
