//! A history as lines for a human: all events of it, or what happens while one watches.

use super::duration;
use super::event::Event;
use super::graph::Status;
use super::outcome::{cut, progress};
use super::trace::Trace;

/// As much of an input or output as fits into a line.
const MAX_DATA: usize = 100;
/// States of a `Map` with more iterations are shown as progress, not one by one.
const MAX_ITERATIONS: i64 = 10;

/// One event as a row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    /// Milliseconds since the first event.
    pub offset_ms: i64,
    pub event: String,
    /// With the iterations that it is in: `Check [3]`.
    pub state: String,
    pub detail: String,
}

/// The rows of a history. `events` are in the order of their numbers.
pub fn rows(events: &[Event]) -> Vec<Row> {
    let mut trace = Trace::default();
    let start = events.first().map_or(0, |event| event.at_ms);
    events
        .iter()
        .map(|event| {
            let entry = trace.add(event);
            Row {
                id: event.id,
                offset_ms: event.at_ms - start,
                event: event.kind.clone(),
                state: entry.map_or_else(String::new, |at| state_name(&trace, at)),
                detail: detail(event, MAX_DATA),
            }
        })
        .collect()
}

fn state_name(trace: &Trace, at: usize) -> String {
    let entry = &trace.entries[at];
    match entry.iteration {
        Some(index) => format!("{} [{index}]", entry.name),
        None => entry.name.clone(),
    }
}

/// What an event says beside its type: error, data, resource.
fn detail(event: &Event, max: usize) -> String {
    let data = |text: &str| cut(&one_line(text), max);
    if let Some(error) = event.error() {
        return data(&error);
    }
    if let Some(output) = event.output() {
        return format!("output {}", data(output));
    }
    let what = match (event.text("resourceType"), event.text("resource")) {
        (Some(service), Some(action)) => format!("{service}:{action}"),
        (None, Some(arn)) => arn.rsplit(':').next().unwrap_or(arn).to_owned(),
        _ => String::new(),
    };
    if let Some(input) = event.input() {
        let space = if what.is_empty() { "" } else { " " };
        return format!("{what}{space}input {}", data(input));
    }
    if let Some(index) = event.number("index") {
        return format!("iteration {index}");
    }
    if let Some(length) = event.number("length").filter(|length| *length > 0) {
        return iterations(length);
    }
    let named = ["mapRunArn", "workerName", "redriveCount"];
    match named.iter().find_map(|name| event.text(name)) {
        Some(text) => data(text),
        None => what,
    }
}

fn iterations(count: i64) -> String {
    match count {
        1 => "1 iteration".to_owned(),
        more => format!("{more} iterations"),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How a line of [`Live`] is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// A line about what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub offset_ms: i64,
    pub tone: Tone,
    pub text: String,
}

/// A history while it grows.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub trace: Trace,
    start_ms: Option<i64>,
}

impl Live {
    /// Takes the events that are new, and says what is worth a line.
    pub fn add(&mut self, events: &[Event]) -> Vec<Line> {
        let entries: Vec<_> = events.iter().map(|event| self.trace.add(event)).collect();
        let mut lines = Vec::new();
        for (event, entry) in events.iter().zip(entries) {
            let start = *self.start_ms.get_or_insert(event.at_ms);
            if let Some((tone, text)) = self.line(event, entry) {
                lines.push(Line {
                    offset_ms: event.at_ms - start,
                    tone,
                    text,
                });
            }
        }
        lines
    }

    /// The states that run now, with the time since they were entered.
    pub fn running(&self, now_ms: i64) -> Vec<String> {
        let all = 0..self.trace.entries.len();
        let running = all.filter(|at| self.trace.status(*at) == Status::Running);
        running
            .filter(|at| !self.is_one_of_many(*at))
            .map(|at| {
                let entry = &self.trace.entries[at];
                let since = duration::short(now_ms - entry.entered_ms);
                match entry.items.total {
                    Some(_) => {
                        format!("{} {since}, {}", entry.name, progress(entry.items))
                    }
                    None => format!("{} {since}", state_name(&self.trace, at)),
                }
            })
            .collect()
    }

    /// The map runs that are not over.
    pub fn map_runs(&self) -> Vec<(String, String)> {
        let entries = self.trace.entries.iter();
        let open = entries.filter(|entry| entry.left_ms.is_none());
        open.filter_map(|entry| Some((entry.name.clone(), entry.map_run.clone()?)))
            .collect()
    }

    fn is_one_of_many(&self, at: usize) -> bool {
        let siblings = self.trace.siblings(at);
        siblings.is_some_and(|siblings| siblings > MAX_ITERATIONS)
    }

    fn line(&self, event: &Event, entry: Option<usize>) -> Option<(Tone, String)> {
        let error = || {
            event
                .error()
                .map_or_else(String::new, |error| format!(": {}", cut(&error, 300)))
        };
        match event.kind.as_str() {
            "ExecutionStarted" => return Some((Tone::Plain, "execution started".into())),
            "ExecutionRedriven" => return Some((Tone::Plain, "execution redriven".into())),
            "ExecutionSucceeded" => return Some((Tone::Good, "execution succeeded".into())),
            "ExecutionFailed" => return Some((Tone::Bad, format!("execution failed{}", error()))),
            "ExecutionAborted" => {
                return Some((Tone::Bad, format!("execution aborted{}", error())));
            }
            "ExecutionTimedOut" => {
                return Some((Tone::Bad, format!("execution timed out{}", error())));
            }
            _ => {}
        }
        let at = entry?;
        let state = &self.trace.entries[at];
        let name = state_name(&self.trace, at);
        if event.is_failure() {
            return Some((
                Tone::Bad,
                format!("{name}: {}{}", attempt(state.attempts), error()),
            ));
        }
        if self.is_one_of_many(at) {
            return None;
        }
        if event.entered().is_some() {
            // Of a state that is over already, the line about its end says enough.
            let running = state.left_ms.is_none() && state.kind != "Fail";
            return running.then(|| (Tone::Plain, format!("{name}: entered")));
        }
        if event.exited().is_some() {
            let took = state.left_ms.unwrap_or(event.at_ms) - state.entered_ms;
            let took = duration::short(took);
            return Some(match self.trace.status(at) {
                Status::Caught => (Tone::Warning, format!("{name}: caught after {took}")),
                _ => (Tone::Good, format!("{name}: {took}")),
            });
        }
        match event.kind.as_str() {
            "MapStateStarted" => {
                let total = state.items.total.filter(|total| *total > 0)?;
                Some((Tone::Plain, format!("{name}: {}", iterations(total))))
            }
            "MapRunStarted" => {
                let arn = state.map_run.as_deref()?;
                Some((Tone::Plain, format!("{name}: map run {arn}")))
            }
            "TaskSubmitted" => Some((Tone::Plain, format!("{name}: submitted, waiting"))),
            _ => None,
        }
    }
}

fn attempt(attempts: u32) -> String {
    match attempts {
        0 | 1 => "failed".to_owned(),
        more => format!("attempt {more} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::history;
    use super::*;

    const RETRIED: [(i64, i64, &str, &str); 7] = [
        (1, 0, "ExecutionStarted", ""),
        (2, 0, "TaskStateEntered", "Call"),
        (3, 2, "TaskScheduled", ""),
        (4, 3, "TaskFailed", "Busy"),
        (5, 4, "TaskScheduled", ""),
        (6, 5, "TaskFailed", "Busy"),
        (7, 6, "ExecutionFailed", "Busy"),
    ];

    #[test]
    fn rows_name_the_state_of_every_event() {
        let rows = rows(&history(&RETRIED));
        let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
        assert_eq!(states, ["", "Call", "Call", "Call", "Call", "Call", ""]);
        assert_eq!(rows[3].offset_ms, 30);
        assert_eq!(rows[3].detail, "Busy");
    }

    #[test]
    fn watching_tells_attempts_and_the_end() {
        let mut live = Live::default();
        let events = history(&RETRIED);
        let mut lines = live.add(&events[..3]);
        assert_eq!(live.running(events[2].at_ms), ["Call 10 ms"]);
        lines.extend(live.add(&events[3..]));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "execution started",
                "Call: entered",
                "Call: attempt 2 failed: Busy",
                "Call: attempt 2 failed: Busy",
                "execution failed: Busy"
            ]
        );
        assert!(live.running(0).is_empty());
    }
}
