//! Nothing that comes from outside makes the interpreter panic, and any prefix of a journal resumes
//! identically.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::VecDeque;
use std::sync::Arc;

use asl::definition::Severity;
use asl::failure::Failure;
use asl::jsonata::{Jsonata, Offered};
use asl::machine::{Command, Identity, Input};
use asl::{Definition, Execution, Intrinsic, Path};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON of the kind that definitions are made of.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..100).prop_map(Value::from),
        prop::sample::select(vec![
            "$",
            "$.a",
            "$$.Execution",
            "$.a[0]",
            "$.a[*]",
            "$x",
            "A",
            "B",
            "C",
            "JSONata",
            "JSONPath",
            "Task",
            "Pass",
            "Wait",
            "Choice",
            "Map",
            "Parallel",
            "Succeed",
            "Fail",
            "States.ALL",
            "States.Format('{}', $.a)",
            "{% $states.input %}",
            "{% $x + 1 %}",
            "{% a %}",
            "arn:aws:states:::lambda:invoke",
            "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "arn:aws:lambda:us-east-1:123456789012:function:f",
            "2026-01-01T00:00:00Z",
            "",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field(), inner), 0..5)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "Type",
        "Next",
        "End",
        "StartAt",
        "States",
        "Result",
        "ResultPath",
        "InputPath",
        "OutputPath",
        "Parameters",
        "Arguments",
        "Output",
        "Assign",
        "Choices",
        "Default",
        "Variable",
        "IsNull",
        "And",
        "Not",
        "StringEquals",
        "Condition",
        "Branches",
        "ItemProcessor",
        "ItemsPath",
        "Items",
        "ItemSelector",
        "MaxConcurrency",
        "Retry",
        "Catch",
        "ErrorEquals",
        "MaxAttempts",
        "Resource",
        "Seconds",
        "SecondsPath",
        "Timestamp",
        "Label",
        "ItemReader",
        "ResultWriter",
        "Credentials",
        "QueryLanguage",
        "TimeoutSeconds",
        "Error",
        "CausePath",
        "x.$",
        "a",
        "A",
        "B",
    ])
    .prop_map(str::to_owned)
}

/// A state that is likely to be right.
fn state() -> impl Strategy<Value = Value> {
    let next = prop::sample::select(vec!["A", "B", "C", "E"]);
    prop_oneof![
        (next.clone(), value()).prop_map(|(next, value)| json!({
            "Type": "Pass", "Result": value, "ResultPath": "$.r", "Next": next})),
        next.clone()
            .prop_map(|next| json!({"Type": "Wait", "Seconds": 3, "Next": next})),
        (next.clone(), next.clone()).prop_map(|(next, caught)| json!({
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": next,
            "ResultPath": "$.t", "TimeoutSeconds": 9,
            "Retry": [{"ErrorEquals": ["Error"], "MaxAttempts": 2, "JitterStrategy": "FULL"}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": caught, "ResultPath": "$.e"}]})),
        (next.clone(), next.clone()).prop_map(|(next, other)| json!({
            "Type": "Choice", "Default": other,
            "Choices": [{"Variable": "$.r", "IsPresent": true, "Next": next}]})),
        next.clone().prop_map(|next| json!({
        "Type": "Parallel", "Next": next, "ResultPath": null, "Branches": [
            {"StartAt": "X", "States": {"X": {"Type": "Wait", "Seconds": 1, "End": true}}},
            {"StartAt": "Y", "States": {"Y": {"Type": "Task", "End": true,
                "Resource": "arn:aws:lambda:us-east-1:123456789012:function:f"}}},
        ]})),
        next.prop_map(|next| json!({
            "Type": "Map", "Next": next, "QueryLanguage": "JSONata", "Items": "{% [1..3] %}",
            "MaxConcurrency": 2, "Output": "{% $states.input %}",
            "ItemProcessor": {"StartAt": "I", "States": {"I": {
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": true}}}})),
    ]
}

fn machine() -> impl Strategy<Value = Value> {
    (state(), state(), state()).prop_map(|(a, b, c)| {
        json!({"StartAt": "A", "TimeoutSeconds": 1000, "States": {
            "A": a, "B": b, "C": c, "E": {"Type": "Succeed"},
        }})
    })
}

fn execution(input: Value) -> Execution {
    Execution::new(Identity {
        number: 1,
        execution_arn: "arn:aws:states:us-east-1:123456789012:execution:m:r".into(),
        execution_name: "r".into(),
        machine_arn: "arn:aws:states:us-east-1:123456789012:stateMachine:m".into(),
        machine_name: "m".into(),
        role_arn: "arn:aws:iam::123456789012:role/r".into(),
        region: "us-east-1".into(),
        started_ms: 0,
        input: Arc::new(input),
        redrive_count: 0,
    })
}

/// Runs a machine; gives every input with its moment and what came of it.
fn run(definition: &Definition, answers: &[u8]) -> Vec<(Input, i64, Vec<Command>)> {
    let mut execution = execution(json!({"a": [1, 2]}));
    let mut answers = answers.iter().copied();
    let (mut coming, mut timers) = (VecDeque::from([Input::Start]), Vec::new());
    let (mut now_ms, mut journal) = (0, Vec::new());
    while journal.len() < 120 {
        let Some(input) = coming.pop_front().or_else(|| {
            timers.sort_by_key(|(at_ms, _)| -at_ms);
            let (at_ms, timer) = timers.pop()?;
            now_ms = now_ms.max(at_ms);
            Some(Input::Timer(timer))
        }) else {
            break;
        };
        let commands = execution.step(definition, input.clone(), now_ms, 7);
        for command in &commands {
            match command {
                Command::Timer { timer, at_ms } => timers.push((*at_ms, *timer)),
                Command::Run(request) => {
                    let task = request.task;
                    coming.push_back(match answers.next() {
                        None | Some(0..150) => Input::TaskSucceeded {
                            task,
                            output: json!(1),
                        },
                        Some(150..220) => Input::TaskFailed {
                            task,
                            failure: Failure::new("Error", "because"),
                        },
                        Some(_) => continue,
                    });
                }
                _ => {}
            }
        }
        journal.push((input, now_ms, commands));
        if execution.outcome().is_some() {
            break;
        }
    }
    journal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_is_too_much(text in "\\PC{0,120}") {
        let _ = Definition::diagnose(&text);
        let _ = Path::parse(&text);
        let _ = Intrinsic::parse(&text);
        if let Some(expression) = Jsonata::of(&format!("{{%{text}%}}")) {
            let _ = expression.mistakes(Offered::default());
        }
    }

    #[test]
    fn no_definition_is_too_much(document in value()) {
        let text = json!({"StartAt": "A", "States": {"A": document, "B": {"Type": "Succeed"}}}).to_string();
        let found = Definition::diagnose(&text);
        let is_wrong = found.iter().any(|found| found.severity == Severity::Error);
        prop_assert_eq!(Definition::parse(&text).is_err(), is_wrong, "{:?}", found);
        let _ = Definition::of_state("StateName", &document.to_string());
    }

    #[test]
    fn any_prefix_of_a_journal_resumes_identically(
        machine in machine(), answers in prop::collection::vec(any::<u8>(), 0..30), at in 0_usize..120,
    ) {
        let Ok(definition) = Definition::parse(&machine.to_string()) else {
            // A state may be out of reach.
            return Ok(());
        };
        let journal = run(&definition, &answers);
        let mut execution = execution(json!({"a": [1, 2]}));
        for (index, (input, now_ms, commands)) in journal.iter().enumerate() {
            if index == at % journal.len() {
                let stored = serde_json::to_string(&execution).unwrap();
                execution = serde_json::from_str(&stored).unwrap();
            }
            prop_assert_eq!(&execution.step(&definition, input.clone(), *now_ms, 7), commands);
        }
    }
}
