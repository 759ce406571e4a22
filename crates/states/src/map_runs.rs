//! Map runs: distributed maps, each item or batch of items of which is an execution of its own.
//!
//! A run is on disk before its execution hears of it. Its items are read as a stream and become
//! inputs of children, which are on disk in chunks before a child begins ([`reading`]). Children
//! that end are written many at a time ([`drive`]). After a restart the run goes on from there: what
//! has ended is not run again, standard children recover by themselves and are waited for, express
//! ones without an outcome run again.
//!
//! The execution takes part by [`crate::executions::MapRunner`]: it drops the run when it does not
//! wait any more, and then the run is aborted.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html>

mod batch;
mod children;
mod drive;
mod limits;
mod listed;
mod live;
mod marks;
mod objects;
mod reading;
mod record;
mod results;
pub mod source;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};

use asl::definition::{Kind, Map};
use asl::failure::Failure;
use asl::machine::distributed::Settings;
use bytes::Bytes;
use clock::Clock;
use serde_json::Value;
use store::{Batch, Expect, Record, Store, Table};
use uuid::Uuid;

pub use self::listed::{Change, Described, Status};
pub use self::objects::{Body, Found, Get, List, ObjectError, Objects, Put, Who};
pub use self::tally::Tally;

use self::children::{Children, name_of};
use self::drive::{Work, stop_running};
use self::limits::Limits;
use self::live::{Halt, Live, Running};
use self::reading::Reading;
use self::record::{End, Ended, How, Outcome, Run};
use self::results::{Form, Results};
use self::tally::Counts;
use crate::aside::{aside, turn};
use crate::executions::{Executions, MapRunner, MapStart, MapUpdate};
use crate::lock::lock;
use crate::machines::{Machines, Revision};
use crate::{Error, writing};

const PAGE: usize = 1_000;
/// Runs of one execution that are looked at when one of them is to be taken up again.
const MAX_RUNS: usize = 25_000;

/// All map runs.
#[derive(Debug)]
pub struct MapRuns {
    table: Table,
    clock: Clock,
    executions: Arc<Executions>,
    machines: Arc<Machines>,
    objects: Objects,
    live: Mutex<HashMap<Uuid, Arc<Live>>>,
    /// The runs that an execution waits for, since the server started.
    claimed: Mutex<HashSet<(String, String)>>,
    this: Weak<Self>,
}

/// Aborts a run that is dropped before it has ended.
struct Guard {
    runs: Weak<MapRuns>,
    live: Option<Arc<Live>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (Some(runs), Some(live)) = (self.runs.upgrade(), self.live.take()) else {
            return;
        };
        // Where there is no runtime any more the server has ended, and the run goes on later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { runs.abort(live).await });
        }
    }
}

impl MapRuns {
    /// Opens what the store holds, and runs the distributed maps of executions from now on.
    pub fn open(
        store: &Store,
        clock: Clock,
        executions: Arc<Executions>,
        machines: Arc<Machines>,
        objects: Objects,
    ) -> Result<Arc<Self>, Error> {
        let table = store.table("states-map-runs")?;
        let runs = Arc::new_cyclic(|this| Self {
            table,
            clock,
            executions: Arc::clone(&executions),
            machines,
            objects,
            live: Mutex::default(),
            claimed: Mutex::default(),
            this: this.clone(),
        });
        executions.run_maps_with(runs.runner());
        Ok(runs)
    }

    fn runner(&self) -> MapRunner {
        let this = self.this.clone();
        Arc::new(move |start: MapStart| {
            let runs = this.upgrade();
            if let Some(runs) = &runs {
                let claim = (start.about.arn.clone(), start.id.clone());
                lock(&runs.claimed).insert(claim);
            }
            Box::pin(async move {
                if let Some(runs) = runs {
                    runs.drive(start).await;
                }
            })
        })
    }

    /// Ends the runs that no execution waits for any more. To be called once, after the executions
    /// have been taken up.
    pub async fn start(self: &Arc<Self>) -> Result<(), Error> {
        for id in self.active()? {
            let Some(run) = self.stored(id)? else {
                continue;
            };
            let claim = (run.execution_arn.clone(), run.task.clone());
            if lock(&self.claimed).contains(&claim) {
                continue;
            }
            let (live, _) = self.load(id, run)?;
            self.find_running(&live)?;
            Arc::clone(self).abort(Arc::new(live)).await;
        }
        Ok(())
    }

    fn active(&self) -> Result<Vec<Uuid>, Error> {
        let mut ids = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let keys = self.table.keys([record::ACTIVE], after.as_deref(), PAGE)?;
            ids.extend(keys.iter().filter_map(|key| record::id_of(key)));
            if keys.len() < PAGE {
                return Ok(ids);
            }
            after = keys.last().cloned();
        }
    }

    /// Runs a distributed map to its end.
    async fn drive(self: Arc<Self>, start: MapStart) {
        let report = Arc::clone(&start.report);
        match self.run_to_end(start).await {
            Ok(result) => report(MapUpdate::Ended(result)),
            // The execution goes on after a restart, as it does when its own turn cannot be written.
            Err(err) => tracing::error!("a map run stands still: {err}"),
        }
    }

    async fn run_to_end(
        self: &Arc<Self>,
        start: MapStart,
    ) -> Result<Result<Value, Failure>, Error> {
        let definition = Arc::clone(&start.about.revision.definition);
        let Kind::Map(map) = &definition.state(start.request.state).kind else {
            let failure = Failure::new("States.Runtime", "The state is no Map.");
            return Ok(Err(failure));
        };
        let (id, run) = self.begin(&start, map).await?;
        if start.run_arn.is_none() {
            (start.report)(if run.redrives > 0 {
                MapUpdate::Redriven {
                    arn: run.arn.clone(),
                    count: run.redrives,
                }
            } else {
                MapUpdate::Started {
                    arn: run.arn.clone(),
                }
            });
        }
        if let Some(end) = run.end {
            return Ok(result_of(end.how));
        }
        let (live, found) = self.load(id, run)?;
        let live = Arc::new(live);
        lock(&self.live).insert(id, Arc::clone(&live));
        let mut guard = Guard {
            runs: self.this.clone(),
            live: Some(Arc::clone(&live)),
        };
        let children = Arc::new(self.children(&live)?);
        let ended = self.work(&start, map, &live, &children, found).await;
        let how = match ended {
            Ok(output) => How::Succeeded(output),
            Err(Halt::Failure(failure)) => How::Failed(failure),
            Err(Halt::Error(err)) => {
                guard.live = None;
                return Err(err);
            }
        };
        self.end(&live, how.clone()).await?;
        guard.live = None;
        Ok(result_of(how))
    }

    async fn work(
        self: &Arc<Self>,
        start: &MapStart,
        map: &Map,
        live: &Arc<Live>,
        children: &Arc<Children>,
        found: drive::Found,
    ) -> Result<Value, Halt> {
        let about = &start.about;
        let request = &start.request;
        let state = about.revision.definition.state(request.state);
        let turn = turn(&about.revision.definition).await;
        let settings = aside(|| Settings::of(map, request, live.start_ms(), live.seed(u64::MAX)));
        drop(turn);
        let settings =
            settings.map_err(|error| error.in_state(&state.name, request.entered_event))?;
        let who = Who {
            account: about.account().parse().map_err(|_| Error::Stopping)?,
            region: about.region().parse().map_err(|_| Error::Stopping)?,
            role_arn: about.revision.role_arn.clone(),
        };
        let form = Form::of(settings.writer.as_ref())?;
        let results = Results {
            runs: self,
            live,
            children,
            objects: &self.objects,
            who: &who,
            state: &state.name,
        };
        results.check(&form).await?;
        let all_read = live.run().read.is_some();
        let reading = (!all_read).then(|| Reading {
            definition: Arc::clone(&about.revision.definition),
            request: Arc::clone(request),
            settings: Arc::new(settings),
            objects: self.objects.clone(),
            who: who.clone(),
        });
        let work = Work::new(
            Arc::clone(self),
            Arc::clone(live),
            Arc::clone(children),
            found,
            reading,
        );
        match work.run().await {
            Ok(()) => {
                let output = results.output(&form).await?;
                live.count(Counts::written);
                Ok(output)
            }
            Err(Halt::Failure(failure)) => {
                // The run has failed already; what cannot be told now is not told.
                if let Err(Halt::Error(err)) = results.leave(&form).await {
                    return Err(err.into());
                }
                Err(failure.into())
            }
            Err(halt) => Err(halt),
        }
    }

    /// The run that a start is about: one that is there, one that is taken up again, or a new one.
    async fn begin(&self, start: &MapStart, map: &Map) -> Result<(Uuid, Run), Error> {
        let about = &start.about;
        let id = name_of(&[about.arn.as_bytes(), start.id.as_bytes()]);
        if let Some(run) = self.stored(id)? {
            let ended = run.end.as_ref().map(|end| &end.how);
            let failed = matches!(ended, Some(How::Failed(_) | How::Aborted));
            if failed && about.redrives > run.execution_redrives {
                return Ok((id, self.redrive(start, id, run).await?));
            }
            return Ok((id, run));
        }
        let request = &start.request;
        let state = about.revision.definition.state(request.state);
        let parent = &about.revision;
        let label = map.label.clone().unwrap_or_else(|| {
            let parts = [parent.machine_arn.as_bytes(), state.name.as_bytes()];
            name_of(&parts).to_string()
        });
        let revision = self.machines.derived(parent, map.processor, &label)?;
        let partition = about.arn.split(':').nth(1).unwrap_or("aws");
        let run = Run {
            arn: format!(
                "arn:{partition}:states:{}:{}:mapRun:{}:{id}",
                about.region(),
                about.account(),
                revision.machine_name,
            ),
            task: start.id.clone(),
            execution_arn: about.arn.clone(),
            machine_arn: revision.machine_arn.clone(),
            revision: revision.id.clone(),
            state: request.state,
            express: revision.kind == crate::machines::Kind::Express,
            start: self.clock.now().as_micros(),
            limits: Limits {
                max_concurrency: request.max_concurrency,
                tolerated_count: request.tolerated_count.unwrap_or(0),
                tolerated_percentage: request.tolerated_percentage.unwrap_or(0.0),
            },
            execution_redrives: about.redrives,
            redrives: 0,
            redriven: None,
            read: None,
            end: None,
        };
        let line = record::line_key(&run.execution_arn, run.start, id);
        let batch = Batch::new()
            .put(
                record::key(record::RUNS, id),
                record::encode_run(&run)?,
                Expect::Absent,
            )
            .put(line, Bytes::new(), Expect::Any)
            .put(record::key(record::ACTIVE, id), Bytes::new(), Expect::Any);
        self.write(batch).await?;
        Ok((id, run))
    }

    /// Takes up again a run that did not succeed when its execution ran before.
    async fn redrive(&self, start: &MapStart, id: Uuid, mut run: Run) -> Result<Run, Error> {
        run.execution_redrives = start.about.redrives;
        run.redrives += 1;
        run.redriven = Some(self.clock.now().as_micros());
        run.end = None;
        let batch = Batch::new()
            .put(
                record::key(record::RUNS, id),
                record::encode_run(&run)?,
                Expect::Any,
            )
            .put(record::key(record::ACTIVE, id), Bytes::new(), Expect::Any);
        self.write(batch).await?;
        Ok(run)
    }

    /// The runs of an execution, the first one first.
    fn of_execution(&self, execution_arn: &str) -> Result<Vec<Uuid>, Error> {
        let prefix = record::line_prefix(execution_arn);
        let keys = self.table.keys(prefix, None, MAX_RUNS)?;
        Ok(keys.iter().filter_map(|key| record::id_of(key)).collect())
    }

    fn stored(&self, id: Uuid) -> Result<Option<Run>, Error> {
        match self.table.get(record::key(record::RUNS, id))? {
            None => Ok(None),
            Some(stored) => record::decode_run(&stored.value).map(Some),
        }
    }

    fn children(&self, live: &Live) -> Result<Children, Error> {
        let run = live.run().clone();
        let revision: Arc<Revision> = self.machines.revision(&run.revision)?;
        let parent = self.executions.describe(&run.execution_arn)?;
        let parent = parent.map(|described| described.about);
        Ok(Children {
            executions: Arc::clone(&self.executions),
            revision,
            id: live.id,
            run_arn: run.arn,
            express: run.express,
            redrives: run.redrives,
            trace_header: parent.as_ref().and_then(|about| about.trace_header.clone()),
            test_case: parent.as_ref().and_then(|about| about.test_case.clone()),
        })
    }

    /// Reads what has become of the children of a run.
    fn load(&self, id: Uuid, run: Run) -> Result<(Live, drive::Found), Error> {
        let mut counts = Counts::default();
        let prefix = record::key(record::CHUNKS, id);
        if let Some(last) = scan_last(&self.table, &prefix)? {
            let chunk = record::Chunk::decode(&last.value)?;
            let first = record::number_of(&last.key).unwrap_or_default();
            let children = first + chunk.inputs.len() as u64;
            counts.read(children, chunk.items_before + chunk.items());
        }
        let mut found = drive::Found::default();
        let mut failed: HashMap<u64, Outcome> = HashMap::new();
        let mut next = 0;
        let prefix = record::key(record::OUTCOMES, id);
        let mut after: Option<Bytes> = None;
        while let Some(stored) = self.table.scan(&prefix, after.as_deref(), 1)?.pop() {
            next = record::number_of(&stored.key).unwrap_or_default() + 1;
            for mut outcome in record::decode_outcomes(&stored.value)? {
                if let Ended::Succeeded { .. } = outcome.how {
                    if found.done.add(outcome.child) {
                        counts.found(&outcome);
                    }
                } else {
                    outcome.forget_texts();
                    failed.insert(outcome.child, outcome);
                }
            }
            after = Some(stored.key);
        }
        for (child, outcome) in failed {
            if found.done.has(child) {
                continue;
            }
            if outcome.redrives == run.redrives {
                found.done.add(child);
                counts.found(&outcome);
            } else {
                found.again.insert(child, outcome.named);
                counts.waits_again(&outcome);
            }
        }
        Ok((Live::new(id, run, counts, next), found))
    }

    /// Finds the children of a run that were running when the server last ended.
    fn find_running(&self, live: &Live) -> Result<(), Error> {
        let children = self.children(live)?;
        if children.express {
            return Ok(());
        }
        let (_, found) = self.load(live.id, live.run().clone())?;
        let mut absent = 0;
        for child in 0..live.counts().children.total {
            if found.done.has(child) {
                continue;
            }
            let named = children.named(found.again.get(&child).copied());
            match children.runs(child, named)? {
                Some(true) => {
                    live.running().insert(child, Running { items: 1, named });
                    absent = 0;
                }
                Some(false) => absent = 0,
                None => absent += 1,
            }
            // They begin in their order, never more than this apart.
            if absent > limits::MAX_AT_ONCE {
                break;
            }
        }
        Ok(())
    }

    /// Changes a run, on disk first.
    async fn change(&self, live: &Live, change: impl Fn(&mut Run)) -> Result<(), Error> {
        let mut run = live.run().clone();
        change(&mut run);
        let key = record::key(record::RUNS, live.id);
        let batch = Batch::new().put(key, record::encode_run(&run)?, Expect::Any);
        self.write(batch).await?;
        change(&mut live.run());
        Ok(())
    }

    async fn end(&self, live: &Live, how: How) -> Result<(), Error> {
        let end = End {
            stop: self.clock.now().as_micros(),
            how,
            counts: live.counts(),
        };
        let mut run = live.run().clone();
        run.end = Some(end);
        let batch = Batch::new()
            .put(
                record::key(record::RUNS, live.id),
                record::encode_run(&run)?,
                Expect::Any,
            )
            .delete(record::key(record::ACTIVE, live.id), Expect::Any);
        self.write(batch).await?;
        lock(&self.live).remove(&live.id);
        Ok(())
    }

    /// Ends a run that nobody waits for.
    async fn abort(self: Arc<Self>, live: Arc<Live>) {
        let aborted = async {
            let children = self.children(&live)?;
            stop_running(&self, &live, &children).await?;
            self.end(&live, How::Aborted).await
        };
        if let Err(err) = aborted.await {
            let run = live.run().arn.clone();
            tracing::error!(run, "a map run cannot be aborted: {err}");
        }
    }

    /// Forgets the runs of an execution that is forgotten itself.
    pub async fn forget(&self, execution_arn: &str) -> Result<(), Error> {
        for id in self.of_execution(execution_arn)? {
            for kind in [record::CHUNKS, record::OUTCOMES] {
                let prefix = record::key(kind, id);
                loop {
                    let keys = self.table.keys(&prefix, None, PAGE)?;
                    let gone = keys
                        .iter()
                        .fold(Batch::new(), |batch, key| batch.delete(key, Expect::Any));
                    if gone.is_empty() {
                        break;
                    }
                    self.write(gone).await?;
                }
            }
            let start = self.stored(id)?.map_or(0, |run| run.start);
            let gone = Batch::new()
                .delete(record::key(record::RUNS, id), Expect::Any)
                .delete(record::key(record::ACTIVE, id), Expect::Any)
                .delete(record::line_key(execution_arn, start, id), Expect::Any);
            self.write(gone).await?;
        }
        Ok(())
    }

    async fn write(&self, batch: Batch) -> Result<(), Error> {
        writing::write(&self.table, batch).await
    }
}

fn result_of(how: How) -> Result<Value, Failure> {
    match how {
        How::Succeeded(output) => Ok(output),
        How::Failed(failure) => Err(failure),
        How::Aborted => Err(Failure::new("States.Runtime", "The map run was aborted.")),
    }
}

/// The last record whose key begins with `prefix`.
fn scan_last(table: &Table, prefix: &[u8]) -> Result<Option<Record>, Error> {
    let mut last: Option<Bytes> = None;
    loop {
        let keys = table.keys(prefix, last.as_deref(), PAGE)?;
        let full = keys.len() == PAGE;
        if let Some(key) = keys.last() {
            last = Some(key.clone());
        }
        if !full {
            break;
        }
    }
    match last {
        None => Ok(None),
        Some(key) => Ok(table.get(key)?),
    }
}
