//! How long the interpreter takes for a transition: `cargo bench -p asl`.
//!
//! One transition is a state that is entered, run and left. Nothing is stored and nothing is
//! encoded: that is the business of who calls it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asl::machine::{Identity, Input};
use asl::{Definition, Execution};
use serde_json::{Value, json};

fn main() {
    let pass = |next: &str| json!({"Type": "Pass", "Next": next});
    let end = json!({"Type": "Pass", "End": true});
    let task_less = [
        (
            "three Pass states",
            json!({"StartAt": "A", "States": {"A": pass("B"), "B": pass("C"), "C": end}}),
            3,
        ),
        (
            "with Parameters and ResultPath",
            json!({"StartAt": "A", "States": {
                "A": {"Type": "Pass", "Parameters": {"x.$": "$.order.id", "y": 1},
                    "ResultPath": "$.made", "Next": "B"},
                "B": {"Type": "Pass", "Parameters": {"t.$": "States.Format('{}-{}', $.made.x, $.made.y)"},
                    "ResultPath": "$.text", "Next": "C"},
                "C": end,
            }}),
            3,
        ),
        (
            "with a Choice",
            json!({"StartAt": "A", "States": {
                "A": pass("B"),
                "B": {"Type": "Choice", "Default": "A", "Choices": [
                    {"Variable": "$.order.id", "StringEquals": "no", "Next": "A"},
                    {"Variable": "$.order.total", "NumericGreaterThan": 5, "Next": "C"},
                ]},
                "C": end,
            }}),
            3,
        ),
        (
            "with the context object",
            json!({"StartAt": "A", "States": {
                "A": {"Type": "Pass", "Parameters": {"n.$": "$$.Execution.Name"}, "Next": "B"},
                "B": pass("C"), "C": end,
            }}),
            3,
        ),
        (
            "with JSONata",
            json!({"QueryLanguage": "JSONata", "StartAt": "A", "States": {
                "A": {"Type": "Pass", "Output": "{% $merge([$states.input, {'n': 1}]) %}", "Next": "B"},
                "B": {"Type": "Pass", "Assign": {"v": "{% $states.input.n + 1 %}"}, "Next": "C"},
                "C": {"Type": "Pass", "Output": {"sum": "{% $v * 2 %}"}, "End": true},
            }}),
            3,
        ),
    ];
    for (name, definition, transitions) in task_less {
        measure(name, &definition, transitions);
    }
}

fn measure(name: &str, definition: &Value, transitions: u32) {
    let definition = Definition::parse(&definition.to_string()).unwrap();
    let input = Arc::new(json!({
        "order": {"id": "o-123456", "total": 42.5, "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]},
        "customer": {"name": "Jane", "address": "Main Street 1"},
    }));
    // Warms up, and finds a number of rounds that takes long enough.
    let mut rounds = 100_u32;
    let taken = loop {
        let taken = run(&definition, &input, rounds);
        if taken > Duration::from_millis(400) {
            break taken;
        }
        rounds *= 2;
    };
    let per_execution = taken / rounds;
    println!(
        "{name:34} {:8.2} us per transition, {:8.0} executions/s",
        per_execution.as_secs_f64() * 1e6 / f64::from(transitions),
        1.0 / per_execution.as_secs_f64(),
    );
}

fn run(definition: &Definition, input: &Arc<Value>, rounds: u32) -> Duration {
    let began = Instant::now();
    for round in 0..rounds {
        let mut execution = Execution::new(Identity {
            number: 1,
            execution_arn: "arn:aws:states:eu-west-1:123456789012:execution:machine:run".into(),
            execution_name: "run".into(),
            machine_arn: "arn:aws:states:eu-west-1:123456789012:stateMachine:machine".into(),
            machine_name: "machine".into(),
            role_arn: "arn:aws:iam::123456789012:role/role".into(),
            region: "eu-west-1".into(),
            started_ms: 1_763_000_000_000,
            input: Arc::clone(input),
            redrive_count: 0,
        });
        let commands = execution.step(
            definition,
            Input::Start,
            1_763_000_000_000,
            u64::from(round),
        );
        black_box(&commands);
        assert!(execution.outcome().is_some());
    }
    began.elapsed()
}
