//! A map run under way: children begin, end, and what they ended with is written.

use std::collections::HashMap;
use std::sync::Arc;

use asl::failure::Failure;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protocol::BoxFuture;
use store::{Batch, Expect};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::children::{Child, Children};
use super::live::{Halt, Live, Running};
use super::marks::Marks;
use super::reading::{self, Reading};
use super::record::{self, Chunk, Outcome};
use super::{MapRuns, PAGE};
use crate::Error;

/// Children that share one task of the runtime, at most.
const GROUP: u64 = 64;
/// No more children begin while so many outcomes wait to be written.
const MAX_FRESH: usize = 20_000;
/// A record has no more outcomes than this, and about so many bytes.
const OUTCOMES: usize = 2_000;
const OUTCOME_BYTES: usize = 4 << 20;

/// What the disk says of a run that had begun.
#[derive(Debug, Default)]
pub struct Found {
    /// Children that have ended in a way that stays.
    pub done: Marks,
    /// Children that are to run again, and have not; with the attempt in which each began.
    pub again: HashMap<u64, u32>,
}

/// A run that is under way.
pub struct Work {
    runs: Arc<MapRuns>,
    live: Arc<Live>,
    children: Arc<Children>,
    found: Found,
    cursor: Cursor,
    told: mpsc::UnboundedSender<Result<Outcome, Error>>,
    ends: mpsc::UnboundedReceiver<Result<Outcome, Error>>,
    groups: JoinSet<()>,
    reader: JoinSet<Result<(), Halt>>,
    writing: Option<BoxFuture<'static, Result<(), Error>>>,
}

/// The place of the next child among all inputs.
#[derive(Default)]
struct Cursor {
    /// The key of the chunk that is being taken, and what is left of it.
    chunk: Option<bytes::Bytes>,
    next: u64,
    left: std::vec::IntoIter<record::Input>,
}

impl Work {
    pub fn new(
        runs: Arc<MapRuns>,
        live: Arc<Live>,
        children: Arc<Children>,
        found: Found,
        reading: Option<Reading>,
    ) -> Self {
        let (told, ends) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        if let Some(reading) = reading {
            reader.spawn(reading::read(Arc::clone(&runs), Arc::clone(&live), reading));
        }
        Self {
            runs,
            live,
            children,
            found,
            cursor: Cursor::default(),
            told,
            ends,
            groups: JoinSet::new(),
            reader,
            writing: None,
        }
    }

    /// Runs all children to their ends, which are on disk then. A failure ends the run; its children
    /// have been stopped.
    pub async fn run(mut self) -> Result<(), Halt> {
        let ended = self.go_on().await;
        if let Err(Halt::Failure(failure)) = ended {
            self.reader.shutdown().await;
            self.groups.shutdown().await;
            if let Some(writing) = self.writing.take() {
                writing.await?;
            }
            // What has ended meanwhile has ended so.
            while let Ok(outcome) = self.ends.try_recv() {
                self.live.ended(outcome?);
            }
            stop_running(&self.runs, &self.live, &self.children).await?;
            return Err(Halt::Failure(failure));
        }
        ended
    }

    async fn go_on(&mut self) -> Result<(), Halt> {
        loop {
            self.check()?;
            self.begin_more()?;
            if self.writing.is_none() {
                self.writing = write_fresh(&self.runs, &self.live);
            }
            if self.is_over() {
                return Ok(());
            }
            tokio::select! {
                Some(outcome) = self.ends.recv() => {
                    self.live.ended(outcome?);
                    while let Ok(outcome) = self.ends.try_recv() {
                        self.live.ended(outcome?);
                    }
                }
                written = maybe(&mut self.writing) => {
                    self.writing = None;
                    written?;
                }
                Some(read) = self.reader.join_next() => {
                    read.map_err(|_| Error::Stopping)??;
                }
                Some(group) = self.groups.join_next() => {
                    group.map_err(|_| Error::Stopping)?;
                }
                () = self.live.changed.notified() => {}
            }
        }
    }

    /// Whether more has failed than may.
    fn check(&self) -> Result<(), Halt> {
        let counts = self.live.counts();
        let total = self.reader.is_empty().then_some(counts.items.total);
        let limits = self.live.run().limits;
        if limits.exceeded(counts.items.not_succeeded(), total) {
            // Recorded on AWS.
            return Err(Halt::Failure(Failure::new(
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.reader.is_empty()
            && self.writing.is_none()
            && self.live.running().is_empty()
            && self.live.fresh().is_empty()
            && self.cursor.left.len() == 0
            && self.cursor.next >= self.live.counts().children.total
    }

    fn begin_more(&mut self) -> Result<(), Halt> {
        let at_once = self.live.run().limits.at_once();
        let size = (at_once / 4).clamp(1, GROUP);
        loop {
            let running = self.live.running().len() as u64;
            let room = at_once.saturating_sub(running).min(size);
            if room == 0 || self.live.fresh().len() >= MAX_FRESH {
                return Ok(());
            }
            // A few places are not worth a task, unless nothing else would fill it.
            if room < size && running > 0 && at_once > 4 * GROUP {
                return Ok(());
            }
            let group = self.take(room)?;
            if group.is_empty() {
                return Ok(());
            }
            let children = Arc::clone(&self.children);
            self.groups
                .spawn(run_group(children, group, self.told.clone()));
        }
    }

    /// The next children to run, up to `room`.
    fn take(&mut self, room: u64) -> Result<Vec<Child>, Halt> {
        let mut group = Vec::new();
        while (group.len() as u64) < room {
            let Some(input) = self.cursor.left.next() else {
                if self.next_chunk()? {
                    continue;
                }
                break;
            };
            let number = self.cursor.next;
            self.cursor.next += 1;
            if self.found.done.has(number) {
                continue;
            }
            let again = self.found.again.remove(&number);
            let running = Running {
                items: input.items,
                named: self.children.named(again),
            };
            self.live.running().insert(number, running);
            self.live
                .count(|counts| counts.begun(input.items, again.is_some()));
            group.push(Child {
                number,
                input,
                again,
            });
        }
        Ok(group)
    }

    fn next_chunk(&mut self) -> Result<bool, Halt> {
        let prefix = record::key(record::CHUNKS, self.live.id);
        let after = self.cursor.chunk.as_deref();
        let found = self.runs.table.scan(prefix, after, 1)?;
        let Some(stored) = found.into_iter().next() else {
            return Ok(false);
        };
        let chunk = Chunk::decode(&stored.value)?;
        self.cursor.chunk = Some(stored.key);
        self.cursor.left = chunk.inputs.into_iter();
        Ok(true)
    }
}

async fn run_group(
    children: Arc<Children>,
    group: Vec<Child>,
    told: mpsc::UnboundedSender<Result<Outcome, Error>>,
) {
    let mut running: FuturesUnordered<_> =
        group.into_iter().map(|child| children.run(child)).collect();
    while let Some(outcome) = running.next().await {
        // Nobody listens any more once the run has failed.
        let _ = told.send(outcome);
    }
}

async fn maybe(writing: &mut Option<BoxFuture<'static, Result<(), Error>>>) -> Result<(), Error> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

/// Begins to write outcomes that are not on disk, if there are any.
fn write_fresh(runs: &Arc<MapRuns>, live: &Live) -> Option<BoxFuture<'static, Result<(), Error>>> {
    let some = {
        let mut fresh = live.fresh();
        let mut bytes = 0;
        let count = fresh
            .iter()
            .take(OUTCOMES)
            .take_while(|outcome| {
                let before = bytes;
                bytes += outcome.bytes();
                before < OUTCOME_BYTES
            })
            .count();
        fresh.drain(..count).collect::<Vec<_>>()
    };
    if some.is_empty() {
        return None;
    }
    let key = record::numbered(record::OUTCOMES, live.id, live.take_number());
    let batch = Batch::new().put(key, record::encode_outcomes(&some), Expect::Any);
    let runs = Arc::clone(runs);
    Some(Box::pin(async move { runs.write(batch).await }))
}

/// Stops what runs, and writes how it ended.
pub async fn stop_running(
    runs: &Arc<MapRuns>,
    live: &Live,
    children: &Children,
) -> Result<(), Error> {
    let running: Vec<(u64, Running)> = {
        let running = live.running();
        running.iter().map(|(child, at)| (*child, *at)).collect()
    };
    let mut stopped = futures_util::stream::iter(running)
        .map(|(child, running)| children.stop(child, running))
        .buffer_unordered(PAGE);
    while let Some(outcome) = stopped.next().await {
        live.ended(outcome?);
    }
    while let Some(writing) = write_fresh(runs, live) {
        writing.await?;
    }
    Ok(())
}
