//! Executions: whatever is a machine runs with whatever its tasks answer, and a machine that is
//! taken up by another process goes on as it would have.
#![no_main]

use std::sync::Arc;

use asl::failure::Failure;
use asl::machine::{Command, Identity, Input};
use asl::{Definition, Execution};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const MAX_INPUTS: usize = 200;

fuzz_target!(|input: (&str, &str, Vec<u8>)| {
    let (definition, input, answers) = input;
    let (Ok(definition), Ok(input)) = (
        Definition::parse(definition),
        serde_json::from_str::<Value>(input),
    ) else {
        return;
    };
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
    let mut answers = answers.into_iter();
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
        // What is stored is what runs.
        let stored = serde_json::to_string(&execution).unwrap_or_default();
        let commands = execution.step(&definition, input.clone(), now_ms, 7);
        if let Ok(mut restored) = serde_json::from_str::<Execution>(&stored) {
            assert_eq!(restored.step(&definition, input, now_ms, 7), commands);
        }
        for command in commands {
            match command {
                Command::Record(event) => {
                    let _ = event.kind.details();
                }
                Command::Timer { timer, at_ms } => timers.push((at_ms, timer)),
                Command::Run(request) => coming.push(match answers.next() {
                    None | Some(0..100) => Input::TaskSucceeded {
                        task: request.task,
                        output: Value::clone(&request.input),
                    },
                    Some(100..200) => Input::TaskFailed {
                        task: request.task,
                        failure: Failure::new("Error", "because"),
                    },
                    // Nothing comes but its deadline.
                    Some(_) => continue,
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
