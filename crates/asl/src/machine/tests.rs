use serde_json::json;

use super::*;
use crate::failure::names;

const NOW: i64 = 1_700_000_000_000;

fn begin(definition: &Value, input: Value) -> (Definition, Execution) {
    let definition = Definition::parse(&definition.to_string()).unwrap();
    let execution = Execution::new(Identity {
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
