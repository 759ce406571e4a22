//! Executions come back into memory from their journals.

use std::sync::Arc;

use asl::failure::{Failure, names};
use asl::history::HistoryEvent;
use asl::machine::{Input, TaskId};
use serde_json::Value;

use super::live::{Live, State};
use super::record::{self, Running, Turn};
use super::{About, Executions};
use crate::Error;
use crate::lock::lock;
use crate::machines::arn::machine_of;

const PAGE: usize = 1_000;
/// Executions that are taken up at once when the server starts.
const AT_ONCE: usize = 256;

/// Why an execution ends whose history cannot be understood any more.
const OTHERWISE: &str = "The execution was begun by another version of firn, which took its turns \
                         otherwise than this one would; it cannot be continued.";

/// A task to go on with, and what its call had answered.
type Interrupted = (TaskId, Option<Value>);

impl Executions {
    /// An execution that runs, from memory or from disk; `None` if it runs no more.
    pub(super) fn find(self: &Arc<Self>, number: u64) -> Result<Option<Arc<Live>>, Error> {
        let (live, interrupted) = {
            let mut shard = self.shard(number);
            if let Some(live) = shard.get(&number) {
                return Ok(Some(Arc::clone(live)));
            }
            let Some(live) = self.restore(number)? else {
                return Ok(None);
            };
            let live = Arc::new(live);
            shard.insert(number, Arc::clone(&live));
            let interrupted = interrupted(&live.state());
            (live, interrupted)
        };
        for (task, submitted) in interrupted {
            self.run(&live, task, Some(submitted));
        }
        if !live.state().inputs.is_empty() {
            self.settle(&live);
        }
        Ok(Some(live))
    }

    fn restore(&self, number: u64) -> Result<Option<Live>, Error> {
        let Some(stored) = self.table.get(record::running_key(number))? else {
            return Ok(None);
        };
        let running = Running::decode(&stored.value).ok_or_else(broken)?;
        let Some(stored) = self.table.get(record::head_key(&running.arn))? else {
            return Err(broken());
        };
        let about = Arc::new(self.about(&running.arn, record::decode(&stored.value)?)?);
        let live = self.replayed(number, about)?;
        live.state().due_ms = running.due_ms;
        Ok(Some(live))
    }

    /// An execution as its journal leaves it.
    pub(super) fn replayed(&self, number: u64, about: Arc<About>) -> Result<Live, Error> {
        let live = Live::new(number, about, None);
        let mut otherwise = None;
        {
            let mut state = live.state();
            let prefix = record::turns_of(number);
            let mut after: Option<bytes::Bytes> = None;
            let mut last_event = 0;
            loop {
                let page = self.table.scan(&prefix, after.as_deref(), PAGE)?;
                for stored in &page {
                    let turn: Turn = record::decode(&stored.value)?;
                    if !replay(&live, &mut state, &turn) {
                        otherwise = Some(state.turns);
                    }
                    last_event = turn.events.last().map_or(last_event, |event| event.id);
                }
                let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
                    break;
                };
                after = Some(last.key.clone());
            }
            // Moments that have passed meanwhile are told by the index, as all others.
            state.forget_timers();
            if let Some(turn) = otherwise {
                tracing::error!(
                    execution = live.about.arn,
                    turn,
                    "a turn would go otherwise today than it went: the execution cannot go on"
                );
                state.tasks.clear();
                state.execution.continue_after(last_event);
                let failure = Failure::new(names::RUNTIME, OTHERWISE);
                state.inputs.push_back((Input::Stop(failure), None));
            }
        }
        Ok(live)
    }

    /// Reads what runs, takes up what was under way, and lets time go on. To be called once, with
    /// everything in place that tasks need.
    pub async fn start_all(self: &Arc<Self>) -> Result<(), Error> {
        let mut attended = Vec::new();
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let page = self.table.scan(record::RUNNING, after.as_deref(), PAGE)?;
            for stored in &page {
                let number = record::number_of(&stored.key).ok_or_else(broken)?;
                let running = Running::decode(&stored.value).ok_or_else(broken)?;
                self.count(&machine_of(&running.arn), 1);
                if let Some(due_ms) = running.due_ms {
                    lock(&self.due).insert((due_ms, number));
                }
                if running.attended {
                    attended.push(number);
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
                break;
            };
            after = Some(last.key.clone());
            // Others have something to do, too.
            tokio::task::yield_now().await;
        }
        self.wake_in_background();
        self.clear_in_background();
        for numbers in attended.chunks(AT_ONCE) {
            for &number in numbers {
                if let Err(err) = self.take_up(number) {
                    tracing::error!(number, "cannot go on with an execution: {err}");
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Goes on with an execution that the last run of the server left under way.
    fn take_up(self: &Arc<Self>, number: u64) -> Result<(), Error> {
        let Some(live) = self.find(number)? else {
            return Ok(());
        };
        let queued: Vec<TaskId> = live
            .state()
            .tasks
            .iter()
            .filter(|(_, pending)| pending.is_queued())
            .map(|(task, _)| *task)
            .collect();
        for task in queued {
            self.enqueue(&live, task);
        }
        self.settle(&live);
        Ok(())
    }
}

/// Takes in what a turn took in. Gives whether the same came of it.
fn replay(live: &Live, state: &mut State, turn: &Turn) -> bool {
    let mut events = Vec::new();
    let mut effects = Vec::new();
    for taken in &turn.inputs {
        state.take(&live.about, taken, &mut events, &mut effects);
    }
    state.turns += 1;
    agree(&events, &turn.events)
}

/// Whether two tellings of a turn are about the same. Texts may have got better meanwhile.
fn agree(told: &[HistoryEvent], stored: &[HistoryEvent]) -> bool {
    let kind = |event: &HistoryEvent| (event.id, event.previous, event.kind.type_name());
    told.iter().map(kind).eq(stored.iter().map(kind))
}

/// Tasks that nobody runs although they are under way.
fn interrupted(state: &State) -> Vec<Interrupted> {
    let lost = state
        .tasks
        .iter()
        .filter(|(_, pending)| pending.is_attended() && pending.running.is_none());
    lost.map(|(task, pending)| (*task, pending.submitted.clone()))
        .collect()
}

fn broken() -> Error {
    Error::Record {
        what: "running execution",
        source: serde::de::Error::custom("it is incomplete"),
    }
}
