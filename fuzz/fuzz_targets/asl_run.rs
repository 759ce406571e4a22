//! Executions: whatever is a machine runs with whatever its tasks answer, and a machine that is
//! taken up by another process goes on as it would have.
//!
//! The first line says what becomes of each task (`-` fails, `.` never answers, anything else
//! succeeds), the second is the input, the definition follows.
#![no_main]

use std::sync::Arc;

use asl::failure::Failure;
use asl::machine::{Command, Identity, Input, is_too_deep};
use asl::{Definition, Execution};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const MAX_INPUTS: usize = 200;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (answers, input, definition) = (line(), line(), line());
    let (Ok(definition), Ok(input)) = (
        Definition::parse(definition),
        serde_json::from_str::<Value>(input),
    ) else {
        return;
    };
    if is_too_deep(&input) {
        return;
    }
    let mut execution = Execution::new(Identity {
        number: 1,
        execution_arn: "arn:aws:states:us-east-1:123456789012:execution:m:r".into(),
        execution_name: "r".into(),
        machine_arn: "arn:aws:states:us-east-1:123456789012:stateMachine:m".into(),
        machine_name: "m".into(),
        role_arn: "arn:aws:iam::123456789012:role/r".into(),
        region: "us-east-1".into(),
        started_ms: 1_763_000_000_000,
        input: Arc::new(input),
        redrive_count: 0,
    });
    let mut answers = answers.bytes();
    let mut now_ms = 1_763_000_000_000;
    let mut coming = vec![Input::Start];
    let mut timers = Vec::new();
    for _ in 0..MAX_INPUTS {
        let Some(input) = coming.pop().or_else(|| {
            let (at_ms, timer) = timers.pop()?;
            now_ms = now_ms.max(at_ms);
            Some(Input::Timer(timer))
        }) else {
            return;
        };
        let input = input.checked();
        // What is stored is what runs.
        let stored = serde_json::to_string(&execution).expect("an execution is JSON");
        let mut restored: Execution = serde_json::from_str(&stored).expect("what was stored");
        let commands = execution.step(&definition, input.clone(), now_ms, 7);
        assert_eq!(restored.step(&definition, input, now_ms, 7), commands);
        for command in commands {
            match command {
                Command::Record(event) => {
                    let _ = event.kind.details();
                }
                Command::Timer { timer, at_ms } => timers.push((at_ms, timer)),
                Command::Run(request) => coming.push(match answers.next() {
                    Some(b'-') => Input::TaskFailed {
                        task: request.task,
                        failure: Failure::new("Error", "because"),
                    },
                    // Nothing comes but its deadline.
                    Some(b'.') => continue,
                    None | Some(_) => Input::TaskSucceeded {
                        task: request.task,
                        output: Value::clone(&request.input),
                    },
                }),
                Command::RunMap(request) => coming.push(Input::MapRunEnded {
                    task: request.task,
                    result: Ok(Value::Array(Vec::new())),
                }),
                Command::Cancel(_) => {}
                Command::Finish(_) => return,
            }
        }
    }
});
