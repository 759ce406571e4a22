//! Executions recorded on AWS, run again: every event, in order, with its id and the id of the
//! event that it follows from. What tasks answered is taken from the recording; everything else
//! has to come from the interpreter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use asl::failure::Failure;
use asl::history::HistoryEvent;
use asl::machine::{Command, Identity, Input, TaskId, TimerId};
use asl::{Definition, Execution};
use serde_json::{Value, json};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/golden/aws/stepfunctions"
);

struct Recorded {
    id: String,
    definition: String,
    input: Value,
    events: Vec<Value>,
}

fn recorded() -> Vec<Recorded> {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("histories.jsonl")).unwrap();
    let read = |line: &str| {
        // What the calls were made with, and what was recorded, are of different accounts.
        let line = line.replace("123456789012", "111111111111");
        let row: Value = serde_json::from_str(&line).unwrap();
        Recorded {
            id: row["id"].as_str().unwrap().to_owned(),
            definition: row["definition"].as_str().unwrap().to_owned(),
            input: serde_json::from_str(row["input"].as_str().unwrap()).unwrap(),
            events: row["events"].as_array().unwrap().clone(),
        }
    };
    text.lines().map(read).collect()
}

/// The cases that do not match, with the reason of each.
fn exceptions() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("not-yet.txt")).unwrap();
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (id, reason) = line.split_once('\t').expect("an id, a tab, a reason");
            assert!(!reason.trim().is_empty(), "{id} has no reason");
            (id.to_owned(), reason.to_owned())
        })
        .collect()
}

#[test]
fn histories_are_those_that_aws_recorded() {
    let exceptions = exceptions();
    let mut mismatches = Vec::new();
    let mut superfluous = Vec::new();
    let mut matched = 0;
    for case in recorded() {
        match (replay(&case), exceptions.contains_key(&case.id)) {
            (Ok(()), false) => matched += 1,
            (Ok(()), true) => superfluous.push(case.id),
            (Err(_), true) => {}
            (Err(difference), false) => mismatches.push(format!("{}\n    {difference}", case.id)),
        }
    }
    println!(
        "{matched} executions match, {} are listed",
        exceptions.len()
    );
    assert!(
        mismatches.is_empty(),
        "{} mismatches:\n{}",
        mismatches.len(),
        mismatches.join("\n")
    );
    assert!(
        superfluous.is_empty(),
        "listed, but they match: {superfluous:#?}"
    );
}

/// Runs a case; `Err` tells the first difference.
fn replay(case: &Recorded) -> Result<(), String> {
    let definition =
        Definition::parse(&case.definition).map_err(|error| format!("refused: {error}"))?;
    let mut run = Run {
        case,
        definition,
        execution: Execution::new(identity(&case.input)),
        history: Vec::new(),
        timers: BTreeMap::new(),
        now_ms: 1_700_000_000_000,
        bindings: BTreeMap::new(),
    };
    run.feed(Input::Start)?;
    while run.execution.outcome().is_none() {
        let Some(((at_ms, _), timer)) = run.timers.pop_first() else {
            return Err("it waits for something that nobody brings".into());
        };
        run.now_ms = run.now_ms.max(at_ms);
        run.feed(Input::Timer(timer))?;
    }
    run.compare()
}

fn identity(input: &Value) -> Identity {
    Identity {
        number: 1,
        execution_arn: "arn:aws:states:us-east-1:111111111111:execution:machine:run".into(),
        execution_name: "run".into(),
        machine_arn: "arn:aws:states:us-east-1:111111111111:stateMachine:machine".into(),
        machine_name: "machine".into(),
        role_arn: "arn:aws:iam::111111111111:role/role".into(),
        region: "us-east-1".into(),
        started_ms: 1_700_000_000_000,
        input: Arc::new(input.clone()),
        redrive_count: 0,
    }
}

struct Run<'c> {
    case: &'c Recorded,
    definition: Definition,
    execution: Execution,
    history: Vec<HistoryEvent>,
    timers: BTreeMap<(i64, usize), TimerId>,
    now_ms: i64,
    /// What a placeholder stands for.
    bindings: BTreeMap<String, Value>,
}

impl Run<'_> {
    /// Steps, and does what is to be done: tasks answer what they answered on AWS.
    fn feed(&mut self, input: Input) -> Result<(), String> {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for command in self.execution.step(&self.definition, input, self.now_ms, 7) {
                match command {
                    Command::Record(event) => self.history.push(event),
                    Command::Timer { timer, at_ms } => {
                        let order = self.timers.len() + self.history.len() * 1000;
                        self.timers.insert((at_ms, order), timer);
                    }
                    Command::Run(request) => {
                        let scheduled = self.history.last().unwrap().id;
                        inputs.extend(self.answers(request.task, scheduled));
                    }
                    Command::RunMap(request) => {
                        let started = self.history.last().unwrap().id;
                        inputs.extend(self.map_answers(request.task, started));
                    }
                    Command::Cancel(_) | Command::Finish(_) => {}
                }
            }
        }
        Ok(())
    }

    /// What followed on AWS from the event with this id, step by step.
    fn followers(&self, id: u64) -> Vec<&Value> {
        let mut found = Vec::new();
        let mut last = id;
        while let Some(next) = self
            .case
            .events
            .iter()
            .find(|event| event["previousEventId"] == last)
        {
            found.push(next);
            last = next["id"].as_u64().unwrap_or(u64::MAX);
        }
        found
    }

    fn answers(&self, task: TaskId, scheduled: u64) -> Vec<Input> {
        let mut inputs = Vec::new();
        for event in self.followers(scheduled) {
            let name = event["type"].as_str().unwrap_or_default();
            let details = details(event);
            let (end, input) = if name.ends_with("Started") {
                let worker = details["workerName"].as_str().map(str::to_owned);
                (false, Input::TaskStarted { task, worker })
            } else if name.ends_with("Submitted") {
                let output = data(&details["output"]);
                (false, Input::TaskSubmitted { task, output })
            } else if name.ends_with("Succeeded") {
                let output = data(&details["output"]);
                (true, Input::TaskSucceeded { task, output })
            } else if name.ends_with("TimedOut") {
                break;
            } else if name.ends_with("Failed") {
                let failure = Failure {
                    error: details["error"].as_str().map(str::to_owned),
                    cause: text(&details["cause"]),
                };
                (true, Input::TaskFailed { task, failure })
            } else {
                break;
            };
            inputs.push(input);
            if end {
                break;
            }
        }
        inputs
    }

    fn map_answers(&self, task: TaskId, started: u64) -> Vec<Input> {
        let Some(run) = self
            .case
            .events
            .iter()
            .find(|event| event["id"] == started + 1)
        else {
            return Vec::new();
        };
        let arn = details(run)["mapRunArn"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut inputs = vec![Input::MapRunStarted { task, arn }];
        let of_type = |name: &str| self.case.events.iter().find(|event| event["type"] == name);
        if let Some(failed) = of_type("MapRunFailed") {
            let details = details(failed);
            let failure = Failure {
                error: details["error"].as_str().map(str::to_owned),
                cause: text(&details["cause"]),
            };
            inputs.push(Input::MapRunEnded {
                task,
                result: Err(failure),
            });
        } else if let Some(exited) = of_type("MapStateExited") {
            let output = data(&details(exited)["output"]);
            inputs.push(Input::MapRunEnded {
                task,
                result: Ok(output),
            });
        }
        inputs
    }

    fn compare(&mut self) -> Result<(), String> {
        let history = std::mem::take(&mut self.history);
        let shown: Vec<Value> = history.iter().map(show).collect();
        let expected = self.case.events.clone();
        for (ours, theirs) in shown.iter().zip(&expected) {
            unify(theirs, ours, &mut self.bindings).map_err(|why| {
                format!(
                    "{why}\n    AWS:  {}\n    ours: {}",
                    brief(theirs),
                    brief(ours)
                )
            })?;
        }
        if shown.len() != expected.len() {
            let next = shown.get(expected.len()).or(expected.get(shown.len()));
            return Err(format!(
                "{} events instead of {}: {}",
                shown.len(),
                expected.len(),
                brief(next.unwrap_or(&Value::Null))
            ));
        }
        Ok(())
    }
}

fn show(event: &HistoryEvent) -> Value {
    let mut shown = json!({
        "id": event.id,
        "previousEventId": event.previous,
        "type": event.kind.type_name(),
        "timestamp": "timestamp",
    });
    if let Some((name, details)) = event.kind.details() {
        shown[name] = details;
    }
    shown
}

fn details(event: &Value) -> Value {
    let members = event.as_object().unwrap();
    let found = members
        .iter()
        .find(|(name, _)| name.ends_with("EventDetails"));
    found
        .map(|(_, details)| details.clone())
        .unwrap_or_default()
}

/// Data in a recording: parsed already if it was an object, else JSON text.
fn data(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        other => other.clone(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether ours is what was recorded. A placeholder in the recording stands for any text, but for
/// the same one each time.
fn unify(
    theirs: &Value,
    ours: &Value,
    bindings: &mut BTreeMap<String, Value>,
) -> Result<(), String> {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<&String> =
                left.keys().chain(right.keys()).collect();
            for name in names {
                match (left.get(name), right.get(name)) {
                    (Some(theirs), Some(ours)) => {
                        unify(theirs, ours, bindings).map_err(|why| format!("{name}: {why}"))?;
                    }
                    (Some(_), None) => return Err(format!("{name} is missing")),
                    _ => return Err(format!("{name} is too much")),
                }
            }
            Ok(())
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .try_for_each(|(theirs, ours)| unify(theirs, ours, bindings)),
        (Value::String(left), Value::String(right)) if left == right => Ok(()),
        (Value::String(left), Value::String(right)) => match (
            serde_json::from_str::<Value>(left),
            serde_json::from_str::<Value>(right),
        ) {
            (Ok(left), Ok(right)) => unify(&left, &right, bindings),
            _ => placeholder(left, ours, bindings),
        },
        (Value::String(left), _) => placeholder(left, ours, bindings),
        // A recording has objects parsed that were text.
        (_, Value::String(right)) => match serde_json::from_str::<Value>(right) {
            Ok(right) => unify(theirs, &right, bindings),
            Err(_) => Err(format!("{right} instead of {theirs}")),
        },
        (left, right) if left == right => Ok(()),
        (left, right) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) if left == right => Ok(()),
            _ => Err(format!("{right} instead of {left}")),
        },
    }
}

fn placeholder(
    theirs: &str,
    ours: &Value,
    bindings: &mut BTreeMap<String, Value>,
) -> Result<(), String> {
    let words = [
        "timestamp",
        "date",
        "start-time",
        "entered-time",
        "lambda_function_name",
        "file-key",
        "snf_role_arn",
        "sqs_queue_url",
        "activity_arn",
        "bucket-name",
    ];
    let is_one = words.contains(&theirs) || theirs.contains('<');
    if !is_one {
        return Err(format!("{ours} instead of {theirs:?}"));
    }
    if ["timestamp", "date", "start-time", "entered-time"].contains(&theirs) {
        return Ok(());
    }
    match bindings.get(theirs) {
        None => {
            bindings.insert(theirs.to_owned(), ours.clone());
            Ok(())
        }
        Some(before) if before == ours => Ok(()),
        Some(before) => Err(format!("{theirs} is {ours}, and was {before}")),
    }
}

fn brief(event: &Value) -> String {
    event.to_string().chars().take(420).collect()
}
