//! Standard executions: durable, each at one place in its history whatever happens to the server.
//!
//! An execution moves in *turns*: it takes what has come in, the interpreter says what follows, and
//! that is written in one batch, inputs and events. Only then is anything of it done or seen: tasks
//! begin, waiting callers are answered. So a task is on disk as started before it starts, and an
//! execution that was acknowledged goes on from its last turn after a crash. What was under way
//! then is not run again unless that can do no harm; see `resume` in the crate `integrations`.
//!
//! An execution that only waits, for a moment or for a token, leaves the memory; a line in an index
//! of moments remains, and its journal of inputs brings it back.

mod activity_tasks;
mod drive;
mod history;
mod lists;
mod live;
mod numbers;
pub(crate) mod record;
mod redrive;
mod restore;
mod retention;
#[cfg(test)]
mod tests;
mod wake;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use asl::machine::{MapRequest, Outcome, TaskId};
use clock::{Clock, Timestamp};
use integrations::{Call, Report};
use protocol::BoxFuture;
use serde_json::Value;
use store::{Store, Table};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::Error;
use crate::lock::lock;
use crate::machines::{Kind, Machines, Revision};
use crate::observe::Observer;

pub use activity_tasks::ActivityTask;
pub use drive::{Answer, Start, Started};
pub(crate) use drive::{call, chance, input_of};
pub use history::{HistoryPage, Place};
pub use lists::{Filter, Listed, Page};
pub(crate) use live::{Effect, Live, State, What};
use numbers::Numbers;

const SHARDS: usize = 64;

/// What is known of an execution from its beginning.
#[derive(Clone, Debug)]
pub struct About {
    pub arn: String,
    pub name: String,
    pub revision: Arc<Revision>,
    pub version_arn: Option<String>,
    pub alias_arn: Option<String>,
    /// The distributed map that it is a child of.
    pub map_run_arn: Option<String>,
    /// Of a mocked execution.
    pub test_case: Option<String>,
    pub trace_header: Option<String>,
    /// The input as it was given.
    pub input_text: Arc<str>,
    pub input: Arc<Value>,
    pub start: Timestamp,
    pub redrives: u32,
    pub redriven: Option<Timestamp>,
    /// What the client named its last redrive.
    pub redrive_token: Option<String>,
}

/// Where an execution stands, with what it ended with.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    Running,
    Succeeded {
        output: Arc<Value>,
        stop: Timestamp,
    },
    /// Failed, timed out or aborted.
    Failed {
        how: Unsuccess,
        error: Option<String>,
        cause: Option<String>,
        stop: Timestamp,
    },
    /// Failed, and about to be taken up again.
    PendingRedrive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Unsuccess {
    Failed,
    TimedOut,
    Aborted,
}

/// An execution and where it stands.
#[derive(Clone, Debug)]
pub struct Described {
    pub about: Arc<About>,
    pub status: Status,
}

/// One attempt at a task that is not an activity's.
pub struct Attempt {
    pub call: Call,
    /// The name of the state.
    pub state: String,
    /// How often the state has been retried.
    pub retries: u64,
    pub about: Arc<About>,
    /// Set if the attempt began before the server last started: what its call had answered by then,
    /// if that was not its end.
    pub resumed: Option<Option<Value>>,
    pub report: Report,
}

/// Runs attempts at tasks. What it gives is dropped when nobody waits for the task any more.
pub type TaskRunner = Arc<dyn Fn(Attempt) -> BoxFuture<'static, ()> + Send + Sync>;

/// A distributed map to run for an execution.
pub struct MapStart {
    pub about: Arc<About>,
    /// Names the map run, also after a restart.
    pub id: String,
    pub request: Arc<MapRequest>,
    /// Set if it has begun before the server last started.
    pub run_arn: Option<String>,
    pub report: MapReport,
}

/// What becomes of a distributed map.
#[derive(Clone, Debug, PartialEq)]
pub enum MapUpdate {
    Started {
        arn: String,
    },
    /// One that had not succeeded is taken up again.
    Redriven {
        arn: String,
        count: u32,
    },
    Ended(Result<Value, asl::failure::Failure>),
}

/// Takes what becomes of a distributed map.
pub type MapReport = Arc<dyn Fn(MapUpdate) + Send + Sync>;

/// Runs distributed maps. What it gives is dropped when the execution does not wait any more.
pub type MapRunner = Arc<dyn Fn(MapStart) -> BoxFuture<'static, ()> + Send + Sync>;

/// Whether there is an activity with this ARN.
pub type ActivityCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Drops what somebody else keeps of the execution with this ARN.
pub type Forgetting = Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// All executions of standard machines.
pub struct Executions {
    table: Table,
    clock: Clock,
    machines: Arc<Machines>,
    observer: Arc<Observer>,
    numbers: Numbers,
    tasks: OnceLock<TaskRunner>,
    maps: OnceLock<MapRunner>,
    activity_exists: OnceLock<ActivityCheck>,
    forgets: OnceLock<Forgetting>,
    /// Those in memory, by number.
    live: Vec<Mutex<HashMap<u64, Arc<Live>>>>,
    /// All that run, by the moment that they wait for.
    due: Mutex<BTreeSet<(i64, u64)>>,
    due_earlier: Arc<Notify>,
    /// How many run, by machine.
    running: Mutex<HashMap<String, u64>>,
    /// Who waits for the end of an execution, by its ARN.
    waiting: Mutex<BTreeMap<String, Vec<oneshot::Sender<Described>>>>,
    queues: activity_tasks::Queues,
    waker: Mutex<Option<AbortHandle>>,
    clearer: Mutex<Option<AbortHandle>>,
    /// Revisions that executions began with since the last count of revisions began, while it goes on.
    begun: Mutex<Option<HashSet<String>>>,
    this: Weak<Self>,
}

impl fmt::Debug for Executions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executions").finish_non_exhaustive()
    }
}

impl Executions {
    /// Opens what the store holds. Nothing goes on before [`Executions::start_all`].
    pub fn open(
        store: &Store,
        clock: Clock,
        machines: Arc<Machines>,
        observer: Arc<Observer>,
    ) -> Result<Arc<Self>, Error> {
        let table = store.table("states-executions")?;
        let numbers = Numbers::open(&table)?;
        Ok(Arc::new_cyclic(|this| Self {
            table,
            clock,
            machines,
            observer,
            numbers,
            tasks: OnceLock::new(),
            maps: OnceLock::new(),
            activity_exists: OnceLock::new(),
            forgets: OnceLock::new(),
            live: (0..SHARDS).map(|_| Mutex::default()).collect(),
            due: Mutex::default(),
            due_earlier: Arc::default(),
            running: Mutex::default(),
            waiting: Mutex::default(),
            queues: activity_tasks::Queues::default(),
            waker: Mutex::default(),
            clearer: Mutex::default(),
            begun: Mutex::default(),
            this: this.clone(),
        }))
    }

    /// Who runs tasks. To be called once, before anything starts.
    pub fn run_tasks_with(&self, runner: TaskRunner) {
        let _ = self.tasks.set(runner);
    }

    /// Who runs distributed maps. To be called once, before anything starts.
    pub fn run_maps_with(&self, runner: MapRunner) {
        let _ = self.maps.set(runner);
    }

    /// Who is told before an execution is forgotten. To be called once, before anything starts.
    pub fn forget_with(&self, forgetting: Forgetting) {
        let _ = self.forgets.set(forgetting);
    }

    /// Who knows activities. To be called once, before anything starts; without, all exist.
    pub fn know_activities_by(&self, exists: ActivityCheck) {
        let _ = self.activity_exists.set(exists);
    }

    /// The activities of a definition that do not exist.
    fn missing(&self, about: &About) -> Vec<String> {
        let Some(exists) = self.activity_exists.get() else {
            return Vec::new();
        };
        let activities = about.revision.definition.activities();
        activities
            .filter(|arn| !exists(arn))
            .map(str::to_owned)
            .collect()
    }

    /// An execution and where it stands, as it is on disk.
    pub fn describe(&self, arn: &str) -> Result<Option<Described>, Error> {
        let Some(stored) = self.table.get(record::head_key(arn))? else {
            return Ok(None);
        };
        let head: record::Head = record::decode(&stored.value)?;
        let status = status_of(head.end.as_ref());
        let about = Arc::new(self.about(arn, head)?);
        Ok(Some(Described { about, status }))
    }

    /// Whether a machine has executions that have not ended.
    pub fn running_of(&self, machine_arn: &str) -> bool {
        lock(&self.running).contains_key(machine_arn)
    }

    /// Waits until an execution has ended; `None` if there is none.
    pub async fn ended(&self, arn: &str) -> Result<Option<Described>, Error> {
        let (told, end) = oneshot::channel();
        lock(&self.waiting)
            .entry(arn.to_owned())
            .or_default()
            .push(told);
        // It may have ended before, and then nobody tells.
        match self.describe(arn)? {
            Some(described) if described.status == Status::Running => {}
            found => {
                let mut waiting = lock(&self.waiting);
                if let Some(others) = waiting.get_mut(arn) {
                    others.retain(|other| !other.is_closed());
                    if others.len() <= 1 {
                        waiting.remove(arn);
                    }
                }
                return Ok(found);
            }
        }
        end.await.map(Some).map_err(|_| Error::Stopping)
    }

    pub(crate) async fn number(&self) -> Result<u64, Error> {
        self.numbers.next().await
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(crate) fn task_runner(&self) -> Option<&TaskRunner> {
        self.tasks.get()
    }

    pub(crate) fn about(&self, arn: &str, head: record::Head) -> Result<About, Error> {
        let input = serde_json::from_str(&head.input).map_err(|source| Error::Record {
            what: "execution",
            source,
        })?;
        Ok(About {
            arn: arn.to_owned(),
            name: head.name,
            revision: self.machines.revision(&head.revision)?,
            version_arn: head.version_arn,
            alias_arn: head.alias_arn,
            map_run_arn: head.map_run_arn,
            test_case: head.test_case,
            trace_header: head.trace_header,
            input_text: head.input.into(),
            input: Arc::new(input),
            start: Timestamp::from_micros(head.start),
            redrives: head.redrives,
            redriven: head.redriven.map(Timestamp::from_micros),
            redrive_token: head.redrive_token,
        })
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        let shards = self.live.len() as u64;
        let index = usize::try_from(number % shards).unwrap_or_default();
        lock(&self.live[index])
    }
}

impl About {
    pub fn region(&self) -> &str {
        self.arn.split(':').nth(3).unwrap_or_default()
    }

    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    /// Whose list it is in: its map run's, or its machine's.
    fn scope(&self) -> &str {
        self.map_run_arn
            .as_deref()
            .unwrap_or(&self.revision.machine_arn)
    }

    /// The name of a task, also after a restart.
    fn task_id(&self, number: u64, task: TaskId) -> String {
        let express = match self.revision.kind {
            Kind::Standard => "s",
            Kind::Express => "e",
        };
        format!("{express}{number}-{task}")
    }
}

impl Status {
    /// The value of the member `status`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded { .. } => "SUCCEEDED",
            Self::Failed { how, .. } => match how {
                Unsuccess::Failed => "FAILED",
                Unsuccess::TimedOut => "TIMED_OUT",
                Unsuccess::Aborted => "ABORTED",
            },
            Self::PendingRedrive => "PENDING_REDRIVE",
        }
    }

    /// What an outcome says.
    pub fn of(outcome: &Outcome, stop: Timestamp) -> Self {
        let (how, failure) = match outcome {
            Outcome::Succeeded(output) => {
                return Self::Succeeded {
                    output: Arc::clone(output),
                    stop,
                };
            }
            Outcome::Failed(failure) => (Unsuccess::Failed, failure),
            Outcome::TimedOut(failure) => (Unsuccess::TimedOut, failure),
            Outcome::Aborted(failure) => (Unsuccess::Aborted, failure),
        };
        Self::Failed {
            how,
            error: failure.error.clone(),
            cause: failure.cause.clone(),
            stop,
        }
    }
}

fn status_of(end: Option<&record::End>) -> Status {
    end.map_or(Status::Running, |end| {
        Status::of(&end.outcome, Timestamp::from_micros(end.stop))
    })
}
