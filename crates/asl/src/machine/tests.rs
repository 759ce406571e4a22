use serde_json::json;

use super::*;
use crate::failure::names;

const NOW: i64 = 1_700_000_000_000;

fn begin(definition: &Value, input: Value) -> (Definition, Execution) {
    let definition = Definition::parse(&definition.to_string()).unwrap();
    let execution = Execution::new(Identity {
        number: 1,
        execution_arn: "arn:aws:states:eu-west-1:123456789012:execution:m:run".into(),
        execution_name: "run".into(),
        machine_arn: "arn:aws:states:eu-west-1:123456789012:stateMachine:m".into(),
        machine_name: "m".into(),
        role_arn: "arn:aws:iam::123456789012:role/r".into(),
        region: "eu-west-1".into(),
        started_ms: NOW,
        input: Arc::new(input),
        redrive_count: 0,
    });
    (definition, execution)
}

fn requests(commands: &[Command]) -> Vec<&TaskRequest> {
    let mut found = Vec::new();
    for command in commands {
        if let Command::Run(request) = command {
            found.push(request);
        }
    }
    found
}

fn timers(commands: &[Command]) -> Vec<(TimerId, i64)> {
    let mut found = Vec::new();
    for command in commands {
        if let Command::Timer { timer, at_ms } = command {
            found.push((*timer, *at_ms));
        }
    }
    found
}

fn task(retry: Value) -> Value {
    json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        "Retry": [retry], "TimeoutSeconds": 60, "End": true,
    }}})
}

#[test]
fn attempts_are_spaced_as_the_retrier_says() {
    let retry = json!({
        "ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 3, "MaxAttempts": 3,
        "BackoffRate": 2.0, "MaxDelaySeconds": 10,
    });
    let (definition, mut execution) = begin(&task(retry), json!({}));
    let mut commands = execution.step(&definition, Input::Start, NOW, 1);
    for expected_ms in [3_000, 6_000, 10_000] {
        let task = requests(&commands)[0].task;
        let failure = Failure::new("Boom", "bang");
        commands = execution.step(&definition, Input::TaskFailed { task, failure }, NOW, 1);
        let [(timer, at_ms)] = timers(&commands)[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(at_ms - NOW, expected_ms);
        commands = execution.step(&definition, Input::Timer(timer), NOW, 1);
    }
    let task = requests(&commands)[0].task;
    let failure = Failure::new("Boom", "bang");
    execution.step(
        &definition,
        Input::TaskFailed {
            task,
            failure: failure.clone(),
        },
        NOW,
        1,
    );
    assert_eq!(execution.outcome(), Some(&Outcome::Failed(failure)));
}

#[test]
fn answers_that_come_too_late_do_nothing() {
    let retry = json!({"ErrorEquals": ["States.Timeout"], "MaxAttempts": 1});
    let (definition, mut execution) = begin(&task(retry), json!({}));
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let first = requests(&commands)[0].task;
    let (deadline, _) = timers(&commands)[0];
    let commands = execution.step(&definition, Input::Timer(deadline), NOW, 1);
    assert!(commands.contains(&Command::Cancel(first)));
    let late = Input::TaskSucceeded {
        task: first,
        output: json!(1),
    };
    assert_eq!(execution.step(&definition, late.clone(), NOW, 1), []);
    let (again, _) = timers(&commands)[0];
    let commands = execution.step(&definition, Input::Timer(again), NOW, 1);
    assert_ne!(requests(&commands)[0].task, first);
    assert_eq!(execution.step(&definition, late, NOW, 1), []);
    // The deadline of the first run is over, too.
    assert_eq!(
        execution.step(&definition, Input::Timer(deadline), NOW, 1),
        []
    );
    assert_eq!(execution.outcome(), None);
}

#[test]
fn failing_branch_ends_the_others() {
    let definition = json!({"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "Branches": [
        {"StartAt": "A", "States": {"A": {
            "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:a", "End": true,
        }}},
        {"StartAt": "B", "States": {"B": {
            "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:b", "End": true,
        }}},
    ]}}});
    let (definition, mut execution) = begin(&definition, json!({}));
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let [a, b] = requests(&commands)[..] else {
        panic!("{commands:?}")
    };
    let failure = Failure::new("Boom", "bang");
    let failed = Input::TaskFailed {
        task: b.task,
        failure,
    };
    let commands = execution.step(&definition, failed, NOW, 1);
    assert!(commands.contains(&Command::Cancel(a.task)));
    assert!(matches!(execution.outcome(), Some(Outcome::Failed(_))));
}

#[test]
fn execution_has_a_deadline_of_its_own() {
    let definition = json!({"StartAt": "W", "TimeoutSeconds": 5, "States": {
        "W": {"Type": "Wait", "Seconds": 60, "End": true},
    }});
    let (definition, mut execution) = begin(&definition, json!({}));
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let (deadline, at_ms) = timers(&commands)[0];
    assert_eq!(at_ms, NOW + 5_000);
    execution.step(&definition, Input::Timer(deadline), at_ms, 1);
    let Some(Outcome::TimedOut(failure)) = execution.outcome() else {
        panic!("{:?}", execution.outcome())
    };
    assert_eq!(failure.error.as_deref(), Some(names::TIMEOUT));
}

#[test]
fn endless_loop_ends_at_the_limit_of_events() {
    let definition = json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}, "B": {
        "Type": "Choice", "Choices": [{"Variable": "$.never", "IsPresent": true, "Next": "C"}],
        "Default": "A",
    }, "C": {"Type": "Succeed"}}});
    let (definition, mut execution) = begin(&definition, json!({}));
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let events = commands
        .iter()
        .filter(|command| matches!(command, Command::Record(_)));
    assert!(events.count() as u64 <= MAX_EVENTS);
    assert!(matches!(execution.outcome(), Some(Outcome::Failed(_))));
}

/// A journal of inputs, cut anywhere and taken up by another process, gives the same commands.
#[test]
fn any_prefix_of_a_journal_resumes_identically() {
    let definition = json!({"StartAt": "M", "States": {"M": {
        "Type": "Map", "MaxConcurrency": 2, "End": true, "ItemProcessor": {
            "StartAt": "T", "States": {"T": {
                "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
                "Parameters": {"id.$": "States.UUID()", "token.$": "$$.Task.Token"},
                "Retry": [{"ErrorEquals": ["States.ALL"], "JitterStrategy": "FULL"}], "End": true,
            }},
        },
    }}});
    let (definition, mut execution) = begin(&definition, json!([1, 2, 3]));
    let mut journal = vec![(Input::Start, NOW, 11)];
    let mut commands = Vec::new();
    let mut at = 0;
    while at < journal.len() {
        let (input, now_ms, seed) = journal[at].clone();
        let next = execution.step(&definition, input, now_ms, seed);
        for command in &next {
            let seed = journal.len() as u64 * 7;
            match command {
                // Every other task fails once.
                Command::Run(request) if journal.len().is_multiple_of(2) => {
                    let failure = Failure::new("Boom", "bang");
                    journal.push((
                        Input::TaskFailed {
                            task: request.task,
                            failure,
                        },
                        now_ms + 5,
                        seed,
                    ));
                }
                Command::Run(request) => {
                    let output = json!({"n": journal.len()});
                    journal.push((
                        Input::TaskSucceeded {
                            task: request.task,
                            output,
                        },
                        now_ms + 5,
                        seed,
                    ));
                }
                Command::Timer { timer, at_ms } => {
                    journal.push((Input::Timer(*timer), *at_ms, seed))
                }
                _ => {}
            }
        }
        commands.push(next);
        at += 1;
    }
    assert!(
        matches!(execution.outcome(), Some(Outcome::Succeeded(_))),
        "{:?}",
        execution.outcome()
    );
    for cut in 0..journal.len() {
        let Identity { input, .. } = execution.identity().clone();
        let mut other = Execution::new(Identity {
            input,
            ..execution.identity().clone()
        });
        for (at, (input, now_ms, seed)) in journal.iter().cloned().enumerate() {
            if at == cut {
                let stored = serde_json::to_string(&other).unwrap();
                other = serde_json::from_str(&stored).unwrap();
            }
            assert_eq!(
                other.step(&definition, input, now_ms, seed),
                commands[at],
                "cut at {cut}, step {at}"
            );
        }
        assert_eq!(other.outcome(), execution.outcome());
    }
}

#[test]
fn redrive_does_again_what_failed_and_nothing_else() {
    let task = |next: &str| json!({"Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:1:function:f", "Next": next});
    let definition = json!({"StartAt": "A", "States": {
        "A": task("P"),
        "P": {"Type": "Parallel", "Next": "E", "Branches": [
            {"StartAt": "B", "States": {"B": task("B2"), "B2": {"Type": "Pass", "End": true}}},
            {"StartAt": "C", "States": {"C": task("C2"), "C2": {"Type": "Pass", "End": true}}},
        ]},
        "E": {"Type": "Succeed"},
    }});
    let (definition, mut execution) = begin(&definition, json!({"n": 1}));
    let done = |execution: &mut Execution, task, output| {
        execution.step(&definition, Input::TaskSucceeded { task, output }, NOW, 1)
    };
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let a = requests(&commands)[0].task;
    let commands = done(&mut execution, a, json!("a"));
    let (b, c) = (requests(&commands)[0].task, requests(&commands)[1].task);
    done(&mut execution, b, json!("b"));
    let failure = Failure::new("Boom", "bang");
    let failed = Input::TaskFailed { task: c, failure };
    execution.step(&definition, failed, NOW, 1);
    assert!(matches!(execution.outcome(), Some(Outcome::Failed(_))));
    assert!(execution.is_redrivable());

    let commands = execution.step(&definition, Input::Redrive, NOW, 1);
    assert!(matches!(
        &commands[0],
        Command::Record(event) if event.kind == EventKind::ExecutionRedriven { count: 1 }
    ));
    let [again] = requests(&commands)[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(&*again.state, "C");
    assert_ne!(again.task, c, "it is another run of the task");
    let again = again.task;
    done(&mut execution, again, json!("c"));
    let Some(Outcome::Succeeded(output)) = execution.outcome() else {
        panic!("{:?}", execution.outcome())
    };
    assert_eq!(**output, json!(["b", "c"]));
    assert!(!execution.is_redrivable());
    assert!(
        execution
            .step(&definition, Input::Redrive, NOW, 1)
            .is_empty()
    );
}

#[test]
fn stopped_execution_is_taken_up_where_it_stood() {
    let definition = json!({"StartAt": "W", "States": {
        "W": {"Type": "Wait", "Seconds": 60, "Next": "S"}, "S": {"Type": "Succeed"},
    }});
    let (definition, mut execution) = begin(&definition, json!({}));
    execution.step(&definition, Input::Start, NOW, 1);
    let stop = Input::Stop(Failure::new("Because", ""));
    execution.step(&definition, stop, NOW, 1);
    let commands = execution.step(&definition, Input::Redrive, NOW + 1, 1);
    let (timer, at_ms) = timers(&commands)[0];
    assert_eq!(at_ms, NOW + 60_001);
    execution.step(&definition, Input::Timer(timer), at_ms, 1);
    assert!(matches!(execution.outcome(), Some(Outcome::Succeeded(_))));
}

/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
#[test]
fn wildcard_does_not_catch_what_ends_an_execution() {
    let machine = |errors: Value| {
        json!({"StartAt": "T", "States": {
            "T": {
                "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f",
                "Catch": [{"ErrorEquals": errors, "Next": "Caught"}], "End": true,
            },
            "Caught": {"Type": "Pass", "End": true},
        }})
    };
    for (thrown, errors, caught) in [
        ("Boom", json!(["States.ALL"]), true),
        (names::TIMEOUT, json!(["States.ALL"]), true),
        (names::TIMEOUT, json!(["States.TaskFailed"]), false),
        (names::RUNTIME, json!(["States.ALL"]), false),
        (names::RUNTIME, json!([names::RUNTIME]), true),
        // Recorded, against what AWS documents.
        (names::DATA_LIMIT_EXCEEDED, json!(["States.ALL"]), true),
    ] {
        let (definition, mut execution) = begin(&machine(errors.clone()), json!({}));
        let commands = execution.step(&definition, Input::Start, NOW, 1);
        let task = requests(&commands)[0].task;
        let failure = Failure::new(thrown, "because");
        execution.step(&definition, Input::TaskFailed { task, failure }, NOW, 1);
        let succeeded = matches!(execution.outcome(), Some(Outcome::Succeeded(_)));
        assert_eq!(succeeded, caught, "{thrown} and {errors}");
    }
}

/// An inner scope sees the variables around it, and what it assigns stays inside.
#[test]
fn variables_of_branches_stay_inside() {
    let branch = |own: i64| {
        json!({"StartAt": "In", "States": {
            "In": {"Type": "Pass", "Assign": {"inner": own}, "Next": "Out"},
            "Out": {"Type": "Pass", "End": true,
                "Parameters": {"inner.$": "$inner", "outer.$": "$outer"}},
        }})
    };
    let machine = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "P"},
        "P": {"Type": "Parallel", "Branches": [branch(10), branch(20)], "Next": "M"},
        "M": {"Type": "Map", "ItemProcessor": branch(30), "Next": "Z"},
        "Z": {"Type": "Pass", "Parameters": {"all.$": "$", "inner.$": "$inner"}, "End": true},
    }});
    let (definition, mut execution) = begin(&machine, json!({}));
    execution.step(&definition, Input::Start, NOW, 1);
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!("{:?}", execution.outcome())
    };
    let cause = failure.cause.as_deref().unwrap();
    assert!(
        cause.contains("The variable '$inner' is not defined"),
        "{cause}"
    );
}

/// The limits of an execution: 25,000 events, and 256 KiB of data between states.
#[test]
fn execution_ends_at_its_limits() {
    let endless = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Next": "B"},
        "B": {"Type": "Choice", "Default": "A",
            "Choices": [{"Variable": "$.never", "IsPresent": true, "Next": "E"}]},
        "E": {"Type": "Succeed"},
    }});
    let (definition, mut execution) = begin(&endless, json!({}));
    let commands = execution.step(&definition, Input::Start, NOW, 1);
    let events = commands
        .iter()
        .filter(|command| matches!(command, Command::Record(_)))
        .count();
    assert!(events <= usize::try_from(MAX_EVENTS).unwrap(), "{events}");
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!()
    };
    assert_eq!(failure.error.as_deref(), Some(names::RUNTIME));

    let growing = json!({"StartAt": "A", "States": {"A": {
        "Type": "Pass", "Parameters": {"a.$": "$.text", "b.$": "$.text"}, "End": true,
    }}});
    let text = "x".repeat(MAX_DATA_BYTES / 2);
    let (definition, mut execution) = begin(&growing, json!({"text": text}));
    execution.step(&definition, Input::Start, NOW, 1);
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!()
    };
    assert_eq!(failure.error.as_deref(), Some(names::DATA_LIMIT_EXCEEDED));
}

/// The error that a machine ends with whose state `A` follows itself until something is too much.
fn error_of_endless(pass: Value) -> Option<String> {
    let mut pass = pass;
    pass["Type"] = "Pass".into();
    pass["Next"] = "B".into();
    let endless = json!({"StartAt": "Z", "States": {
        "Z": {"Type": "Pass", "Assign": {"v": [1]}, "Next": "A"},
        "A": pass,
        "B": {"Type": "Choice", "Default": "A",
            "Choices": [{"Variable": "$.never", "IsPresent": true, "Next": "E"}]},
        "E": {"Type": "Succeed"},
    }});
    let (definition, mut execution) = begin(&endless, json!({}));
    execution.step(&definition, Input::Start, NOW, 1);
    match execution.outcome() {
        Some(Outcome::Failed(failure)) => failure.error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_cannot_be_nested_ever_deeper() {
    let too_much = Some(names::DATA_LIMIT_EXCEEDED.to_owned());
    for pass in [
        json!({"Parameters": {"a.$": "$"}}),
        json!({"Parameters": {"a.$": "States.Array($)"}}),
        json!({"Assign": {"v.$": "States.Array($v)"}}),
    ] {
        assert_eq!(error_of_endless(pass), too_much);
    }
}

#[test]
fn variables_have_bounds() {
    let too_much = Some(names::DATA_LIMIT_EXCEEDED.to_owned());
    let doubled =
        json!({"Assign": {"v.$": "States.StringToJson(States.Format('[{},{}]', $v, $v))"}});
    assert_eq!(error_of_endless(doubled), too_much);
}

/// A template may name a large input more often than there is memory for the copies.
#[test]
fn templates_have_bounds() {
    let names = (0..30_000).map(|n| (format!("{n}.$"), json!("$")));
    let parameters = Value::Object(names.collect());
    let copies = json!({"StartAt": "A", "States": {"A": {
        "Type": "Pass", "Parameters": parameters, "End": true,
    }}});
    let text = "x".repeat(MAX_DATA_BYTES / 2);
    let (definition, mut execution) = begin(&copies, json!({"text": text}));
    execution.step(&definition, Input::Start, NOW, 1);
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!()
    };
    assert_eq!(failure.error.as_deref(), Some(names::DATA_LIMIT_EXCEEDED));
}

/// Whatever is recorded or comes in is stored with more around it, and has to be read again.
#[test]
fn what_is_stored_is_not_nested_too_deeply_to_be_read() {
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert!(!is_too_deep(&nested(100)));
    assert!(is_too_deep(&nested(101)));

    let mut template = json!({"x.$": "$"});
    for _ in 0..90 {
        template = json!({"x": template});
    }
    let machine = json!({"StartAt": "T", "States": {"T": {
        "Type": "Task", "Resource": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "Parameters": template, "End": true,
    }}});
    let (definition, mut execution) = begin(&machine, nested(100));
    for command in execution.step(&definition, Input::Start, NOW, 1) {
        if let Command::Record(event) = command {
            let stored = serde_json::to_string(&event).unwrap();
            serde_json::from_str::<HistoryEvent>(&stored).unwrap();
        }
    }
    let Some(Outcome::Failed(failure)) = execution.outcome() else {
        panic!()
    };
    assert_eq!(failure.error.as_deref(), Some(names::DATA_LIMIT_EXCEEDED));

    let task = TaskId {
        fiber: FiberId(0),
        run: 1,
    };
    let output = nested(101);
    let checked = Input::TaskSucceeded { task, output }.checked();
    assert!(matches!(checked, Input::TaskFailed { .. }), "{checked:?}");
}
