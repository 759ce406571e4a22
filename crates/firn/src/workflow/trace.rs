//! Which state each event of a history is about.
//!
//! Events name the event that they follow from; only some name a state. A [`Trace`] follows them
//! and keeps an [`Entry`] for each time that a state was entered, with what became of it.

use std::collections::BTreeMap;

use super::event::Event;
use super::graph::Status;

/// A state, entered once.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    /// The value of `Type`.
    pub kind: String,
    /// The `Map` or `Parallel` that it is in.
    pub parent: Option<usize>,
    /// Of a state in a `Map`: in which iteration.
    pub iteration: Option<i64>,
    pub entered_ms: i64,
    pub left_ms: Option<i64>,
    pub input: Option<String>,
    pub output: Option<String>,
    /// Calls, or runs of what is inside.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// Iterations of a `Map`: how many there are, and how many of them have ended how.
    pub items: Items,
    pub map_run: Option<String>,
    /// Of a `Map` or `Parallel`: all of it has gone well.
    succeeded: bool,
    closed: Option<Status>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items {
    pub total: Option<i64>,
    pub succeeded: i64,
    pub failed: i64,
}

/// Ways between states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// `None` is the beginning.
    pub from: Option<String>,
    /// `None` is the end.
    pub to: Option<String>,
    pub caught: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub entries: Vec<Entry>,
    pub ways: Vec<Way>,
    pub started_ms: Option<i64>,
    /// The event that ended the execution.
    pub end: Option<Event>,
    /// What each event is about, and in which iteration of it.
    events: BTreeMap<i64, (Option<usize>, Option<i64>, Follows)>,
}

/// What a state that follows an event is to the state that the event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Inside,
    Beside,
}

impl Trace {
    /// Reads a whole history, in its order.
    pub fn of(events: &[Event]) -> Self {
        let mut trace = Self::default();
        for event in events {
            trace.add(event);
        }
        trace
    }

    /// Takes the next event, and says which entry it is about.
    pub fn add(&mut self, event: &Event) -> Option<usize> {
        self.started_ms.get_or_insert(event.at_ms);
        let before = self.events.get(&event.previous).copied();
        let (about, iteration, _) = before.unwrap_or((None, None, Follows::Beside));
        let mut follows = Follows::Beside;
        let entry = if let Some(kind) = event.entered() {
            Some(self.enter(event, kind, before))
        } else if event.is_about_execution() {
            self.execution(event, about);
            None
        } else {
            let entry = self.subject(event, about).or_else(|| self.named(event));
            if let Some(at) = entry {
                self.catch(event, at, about);
                follows = self.change(event, at);
            }
            entry
        };
        let iteration = match event.kind.as_str() {
            "MapIterationStarted" => event.number("index"),
            _ if follows == Follows::Inside => None,
            _ => entry
                .and_then(|at| self.entries[at].iteration)
                .or(iteration),
        };
        self.events.insert(event.id, (entry, iteration, follows));
        entry
    }

    /// Where an entry stands now.
    pub fn status(&self, at: usize) -> Status {
        let entry = &self.entries[at];
        if let Some(closed) = entry.closed {
            return closed;
        }
        let failed = entry.failure.is_some() || entry.kind == "Fail";
        if entry.left_ms.is_some() {
            return if failed {
                Status::Caught
            } else {
                Status::Succeeded
            };
        }
        match self.end.as_ref().map(|end| end.kind.as_str()) {
            None => Status::Running,
            Some(_) if failed => Status::Failed,
            Some("ExecutionTimedOut") => Status::TimedOut,
            Some(_) => Status::Aborted,
        }
    }

    /// The time that an entry has taken, if it is over.
    pub fn duration_ms(&self, at: usize) -> Option<i64> {
        let entry = &self.entries[at];
        let over = self.status(at) != Status::Running;
        let end = self.end.as_ref().map(|end| end.at_ms).filter(|_| over);
        let left = entry.left_ms.or(end)?;
        Some(left - entry.entered_ms)
    }

    /// How many iterations the smallest `Map` around an entry has.
    pub fn siblings(&self, at: usize) -> Option<i64> {
        let maps = self.ancestors(at).skip(1);
        maps.filter_map(|at| self.entries[at].items.total).max()
    }

    fn enter(
        &mut self,
        event: &Event,
        kind: &str,
        before: Option<(Option<usize>, Option<i64>, Follows)>,
    ) -> usize {
        let name = event.text("name").unwrap_or_default().to_owned();
        let (about, iteration, follows) = before.unwrap_or((None, None, Follows::Beside));
        let parent = match follows {
            Follows::Inside => about,
            Follows::Beside => about.and_then(|at| self.entries[at].parent),
        };
        match (about, follows) {
            (Some(at), Follows::Beside) => {
                let caught = self.status(at) == Status::Caught;
                self.way(
                    Some(self.entries[at].name.clone()),
                    Some(name.clone()),
                    caught,
                );
            }
            (None, _) => self.way(None, Some(name.clone()), false),
            (Some(_), Follows::Inside) => {}
        }
        self.entries.push(Entry {
            name,
            kind: kind.to_owned(),
            parent,
            iteration: parent.and(iteration),
            entered_ms: event.at_ms,
            left_ms: None,
            input: event.input().map(str::to_owned),
            output: None,
            attempts: 0,
            failure: None,
            items: Items::default(),
            map_run: None,
            succeeded: false,
            closed: None,
        });
        self.entries.len() - 1
    }

    fn execution(&mut self, event: &Event, about: Option<usize>) {
        if event.kind == "ExecutionRedriven" {
            self.end = None;
        }
        if event.ends_execution() {
            if let (Some(at), "ExecutionSucceeded") = (about, event.kind.as_str()) {
                self.way(Some(self.entries[at].name.clone()), None, false);
            }
            self.end = Some(event.clone());
        }
    }

    fn way(&mut self, from: Option<String>, to: Option<String>, caught: bool) {
        let way = Way { from, to, caught };
        if !self.ways.contains(&way) {
            self.ways.push(way);
        }
    }

    /// The entry that an event is about, among those around the one that it follows from.
    fn subject(&self, event: &Event, about: Option<usize>) -> Option<usize> {
        let about = about?;
        let kind = event.kind.as_str();
        let wanted = |entry: &Entry| {
            if event.exited().is_some() || kind.starts_with("MapIteration") {
                Some(entry.name.as_str()) == event.text("name")
            } else if kind.starts_with("ParallelState") {
                entry.kind == "Parallel"
            } else if kind.starts_with("MapState") || kind.starts_with("MapRun") {
                entry.kind == "Map"
            } else {
                true
            }
        };
        self.ancestors(about).find(|at| wanted(&self.entries[*at]))
    }

    /// The newest entry of the state that an event names: failed evaluations follow from nothing.
    fn named(&self, event: &Event) -> Option<usize> {
        let name = event.text("state")?;
        self.entries.iter().rposition(|entry| entry.name == name)
    }

    /// The entry itself, and those that it is in, from the inside out.
    fn ancestors(&self, at: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(at), |at| self.entries[*at].parent)
    }

    /// A `Map` or `Parallel` that is left without having succeeded has caught what failed inside.
    fn catch(&mut self, event: &Event, at: usize, inside: Option<usize>) {
        let is_outer = matches!(event.exited(), Some("Map" | "Parallel"));
        let entry = &self.entries[at];
        if !is_outer || entry.succeeded || entry.failure.is_some() {
            return;
        }
        let inner = inside.map(|inside| &self.entries[inside]);
        let reason = inner.and_then(|inner| inner.failure.clone());
        self.entries[at].failure = Some(reason.unwrap_or_else(|| "failed".to_owned()));
        self.close_inside(at, None, event.at_ms);
    }

    fn change(&mut self, event: &Event, at: usize) -> Follows {
        let kind = event.kind.as_str();
        let entry = &mut self.entries[at];
        match kind {
            "MapIterationStarted" => return Follows::Inside,
            "MapIterationSucceeded" => entry.items.succeeded += 1,
            "MapIterationFailed" | "MapIterationAborted" => {
                entry.items.failed += 1;
                self.close_inside(at, event.number("index"), event.at_ms);
            }
            "ParallelStateStarted" | "MapStateStarted" => {
                entry.items = Items {
                    total: event.number("length"),
                    ..Items::default()
                };
                entry.failure = None;
                entry.attempts += 1;
                self.close_inside(at, None, event.at_ms);
                return Follows::Inside;
            }
            "MapStateSucceeded" | "ParallelStateSucceeded" => entry.succeeded = true,
            "MapRunStarted" => entry.map_run = event.text("mapRunArn").map(str::to_owned),
            _ if event.exited().is_some() => {
                entry.left_ms = Some(event.at_ms);
                entry.output = event.output().map(str::to_owned);
            }
            _ if event.is_failure() => {
                entry.failure = Some(event.error().unwrap_or_else(|| kind.to_owned()));
                if kind.starts_with("ParallelState") || kind.starts_with("MapState") {
                    self.close_inside(at, None, event.at_ms);
                }
            }
            _ if kind.ends_with("Scheduled") => {
                entry.failure = None;
                entry.attempts += 1;
            }
            _ if kind.ends_with("StateAborted") => entry.closed = Some(Status::Aborted),
            _ => {}
        }
        Follows::Beside
    }

    /// What is in a `Map` or `Parallel` goes no further.
    fn close_inside(&mut self, outer: usize, iteration: Option<i64>, at_ms: i64) {
        for at in outer + 1..self.entries.len() {
            let entry = &self.entries[at];
            let open = entry.left_ms.is_none() && entry.closed.is_none();
            if !open || !self.ancestors(at).skip(1).any(|at| at == outer) {
                continue;
            }
            let direct = self
                .ancestors(at)
                .find(|at| self.entries[*at].parent == Some(outer));
            let of_iteration = direct.is_some_and(|at| self.entries[at].iteration == iteration);
            if iteration.is_some() && !of_iteration {
                continue;
            }
            let failed = entry.failure.is_some() || entry.kind == "Fail";
            self.entries[at].left_ms = Some(at_ms);
            self.entries[at].closed = Some(if failed {
                Status::Failed
            } else {
                Status::Aborted
            });
        }
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A history in few words: number, previous one, type, name or index or error.
    pub fn history(lines: &[(i64, i64, &str, &str)]) -> Vec<Event> {
        let read = |&(id, previous, kind, word): &(i64, i64, &str, &str)| {
            let index: Value = word.parse::<i64>().map_or(Value::Null, Value::from);
            Event::read(&json!({
                "id": id, "previousEventId": previous, "type": kind,
                "timestamp": 1_000_000.0 + id as f64 / 100.0,
                "xEventDetails": {
                    "name": word.split('#').next(), "error": word, "length": index,
                    "index": word.split('#').nth(1).and_then(|index| index.parse::<i64>().ok()),
                    "input": "{}", "output": format!("\"{word}\""),
                },
            }))
            .unwrap()
        };
        lines.iter().map(read).collect()
    }

    fn statuses(trace: &Trace) -> Vec<(&str, Status)> {
        (0..trace.entries.len())
            .map(|at| (trace.entries[at].name.as_str(), trace.status(at)))
            .collect()
    }

    #[test]
    fn an_iteration_that_fails_fails_its_map_and_nothing_else() {
        // As AWS records a Map whose iterations run one after the other.
        let trace = Trace::of(&history(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "PassStateEntered", "Begin"),
            (3, 2, "PassStateExited", "Begin"),
            (4, 3, "MapStateEntered", "All"),
            (5, 4, "MapStateStarted", "2"),
            (6, 5, "MapIterationStarted", "All#0"),
            (7, 6, "PassStateEntered", "One"),
            (8, 7, "PassStateExited", "One"),
            (9, 8, "MapIterationSucceeded", "All#0"),
            (10, 8, "MapIterationStarted", "All#1"),
            (11, 10, "FailStateEntered", "Break"),
            (12, 11, "MapIterationFailed", "All#1"),
            (13, 11, "MapStateFailed", "Broken"),
            (14, 13, "ExecutionFailed", "Broken"),
        ]));
        assert_eq!(
            statuses(&trace),
            [
                ("Begin", Status::Succeeded),
                ("All", Status::Failed),
                ("One", Status::Succeeded),
                ("Break", Status::Failed)
            ]
        );
        assert_eq!(trace.entries[2].parent, Some(1));
        assert_eq!(trace.entries[2].iteration, Some(0));
        assert_eq!(trace.entries[3].iteration, Some(1));
        let items = trace.entries[1].items;
        assert_eq!(
            (items.total, items.succeeded, items.failed),
            (Some(2), 1, 1)
        );
    }

    #[test]
    fn a_task_that_succeeds_after_a_retry_has_succeeded() {
        let trace = Trace::of(&history(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "TaskStateEntered", "Call"),
            (3, 2, "TaskScheduled", ""),
            (4, 3, "TaskStarted", ""),
            (5, 4, "TaskFailed", "Busy"),
            (6, 5, "TaskScheduled", ""),
            (7, 6, "TaskSucceeded", ""),
            (8, 7, "TaskStateExited", "Call"),
            (9, 8, "ExecutionSucceeded", ""),
        ]));
        assert_eq!(statuses(&trace), [("Call", Status::Succeeded)]);
        assert_eq!(trace.entries[0].attempts, 2);
        assert_eq!(trace.duration_ms(0), Some(60));
        assert_eq!(trace.ways.len(), 2);
    }

    #[test]
    fn what_is_left_after_a_failure_is_caught() {
        let trace = Trace::of(&history(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "TaskStateEntered", "Call"),
            (3, 2, "LambdaFunctionScheduled", ""),
            (4, 3, "LambdaFunctionFailed", "Busy"),
            (5, 4, "TaskStateExited", "Call"),
            (6, 5, "PassStateEntered", "Handle"),
        ]));
        assert_eq!(
            statuses(&trace),
            [("Call", Status::Caught), ("Handle", Status::Running)]
        );
        assert_eq!(trace.entries[0].failure.as_deref(), Some("Busy"));
        assert!(trace.ways[1].caught);
    }

    #[test]
    fn a_parallel_that_catches_says_why() {
        let trace = Trace::of(&history(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "ParallelStateEntered", "Both"),
            (3, 2, "ParallelStateStarted", ""),
            (4, 3, "TaskStateEntered", "Call"),
            (5, 4, "TaskScheduled", ""),
            (6, 3, "WaitStateEntered", "Wait"),
            (7, 5, "TaskFailed", "Busy"),
            (8, 7, "ParallelStateExited", "Both"),
            (9, 8, "PassStateEntered", "Handle"),
        ]));
        assert_eq!(
            statuses(&trace),
            [
                ("Both", Status::Caught),
                ("Call", Status::Failed),
                ("Wait", Status::Aborted),
                ("Handle", Status::Running)
            ]
        );
        assert_eq!(trace.entries[0].failure.as_deref(), Some("Busy"));
        assert!(trace.ways.iter().any(|way| way.caught));
    }

    #[test]
    fn a_parallel_that_is_tried_again_closes_what_was_in_it() {
        let trace = Trace::of(&history(&[
            (1, 0, "ExecutionStarted", ""),
            (2, 0, "ParallelStateEntered", "Both"),
            (3, 2, "ParallelStateStarted", ""),
            (4, 3, "FailStateEntered", "No"),
            (5, 3, "WaitStateEntered", "Wait"),
            (6, 4, "ParallelStateStarted", ""),
            (7, 6, "WaitStateEntered", "Wait"),
        ]));
        assert_eq!(
            statuses(&trace),
            [
                ("Both", Status::Running),
                ("No", Status::Failed),
                ("Wait", Status::Aborted),
                ("Wait", Status::Running)
            ]
        );
    }

    #[test]
    fn events_that_follow_from_nothing_known_harm_nobody() {
        let trace = Trace::of(&history(&[
            (9, 8, "TaskStateExited", "Call"),
            (12, 11, "MapIterationFailed", "x"),
            (13, 99, "PassStateEntered", "Late"),
        ]));
        assert_eq!(statuses(&trace), [("Late", Status::Running)]);
    }
}
