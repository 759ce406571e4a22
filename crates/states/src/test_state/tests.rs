use std::sync::Mutex;

use clock::Clock;
use model::stepfunctions::{
    InspectionLevel, MockErrorOutput, MockInput, TestExecutionStatus, TestStateConfiguration,
};
use protocol::Principal;
use serde_json::{Value, json};

use super::*;

fn caller() -> Caller {
    let account: model::AccountId = "123456789012".parse().unwrap();
    let region: model::Region = "eu-west-1".parse().unwrap();
    Caller {
        principal: Principal::root(account, &region),
        account,
        region,
        access_key: None,
        request_id: "r".into(),
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_secs(1_763_000_000))
}

fn nothing_runs() -> TaskRunner {
    Arc::new(|_| Box::pin(async {}))
}

fn debug(state: Value, input: Value) -> TestStateInput {
    TestStateInput {
        definition: state.to_string(),
        input: Some(input.to_string()),
        inspection_level: Some(InspectionLevel::Debug),
        ..TestStateInput::default()
    }
}

async fn tested(input: TestStateInput) -> TestStateOutput {
    run(&clock(), &nothing_runs(), &caller(), input)
        .await
        .unwrap()
}

async fn refusal(input: TestStateInput) -> String {
    run(&clock(), &nothing_runs(), &caller(), input)
        .await
        .unwrap_err()
        .to_string()
}

fn result(value: &Value) -> Option<MockInput> {
    Some(MockInput {
        result: Some(value.to_string()),
        ..MockInput::default()
    })
}

fn error(name: &str) -> Option<MockInput> {
    Some(MockInput {
        error_output: Some(MockErrorOutput {
            error: Some(name.into()),
            cause: Some("because".into()),
        }),
        ..MockInput::default()
    })
}

fn parsed(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

fn function(more: &Value) -> Value {
    let mut state = json!({
        "Type": "Task", "Resource": "arn:aws:lambda:eu-west-1:123456789012:function:f", "End": true,
    });
    for (name, value) in more.as_object().unwrap() {
        state[name] = value.clone();
    }
    state
}

#[tokio::test]
async fn data_is_shown_at_every_step() {
    let state = function(&json!({
        "InputPath": "$.a", "Parameters": {"x.$": "$.b"}, "ResultSelector": {"y.$": "$.r"},
        "ResultPath": "$.out", "OutputPath": "$.out",
    }));
    let mut input = debug(state, json!({"a": {"b": 1}}));
    input.mock = result(&json!({"r": 2, "s": 3}));
    let output = tested(input).await;
    assert_eq!(output.status, Some(TestExecutionStatus::Succeeded));
    assert_eq!(parsed(output.output.as_ref()), json!({"y": 2}));
    let data = output.inspection_data.unwrap();
    for (shown, expected) in [
        (&data.input, json!({"a": {"b": 1}})),
        (&data.after_input_path, json!({"b": 1})),
        (&data.after_parameters, json!({"x": 1})),
        (&data.result, json!({"r": 2, "s": 3})),
        (&data.after_result_selector, json!({"y": 2})),
        (
            &data.after_result_path,
            json!({"a": {"b": 1}, "out": {"y": 2}}),
        ),
    ] {
        assert_eq!(parsed(shown.as_ref()), expected);
    }
}

#[tokio::test]
async fn failure_is_retried_as_often_as_its_retrier_says() {
    let state = function(&json!({
        "Retry": [
            {"ErrorEquals": ["Other"]},
            {"ErrorEquals": ["E"], "MaxAttempts": 2, "IntervalSeconds": 3, "BackoffRate": 4},
        ],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Caught"}],
    }));
    for (retries, seconds) in [(0, Some(3)), (1, Some(12)), (2, None)] {
        let mut input = debug(state.clone(), json!({"a": 1}));
        input.mock = error("E");
        input.state_configuration = Some(TestStateConfiguration {
            retrier_retry_count: Some(retries),
            ..TestStateConfiguration::default()
        });
        let output = tested(input).await;
        let details = output.inspection_data.unwrap().error_details.unwrap();
        assert_eq!(details.retry_backoff_interval_seconds, seconds);
        assert_eq!(output.error.as_deref(), Some("E"));
        if seconds.is_some() {
            assert_eq!(output.status, Some(TestExecutionStatus::Retriable));
            assert_eq!(details.retry_index, Some(1));
            assert_eq!(output.output, None);
        } else {
            assert_eq!(output.status, Some(TestExecutionStatus::CaughtError));
            assert_eq!(details.catch_index, Some(0));
            assert_eq!(output.next_state.as_deref(), Some("Caught"));
            assert_eq!(
                parsed(output.output.as_ref()),
                json!({"a": 1, "error": {"Error": "E", "Cause": "because"}})
            );
        }
    }
}

#[tokio::test]
async fn variables_go_in_and_come_out() {
    let state = json!({"Type": "Pass", "QueryLanguage": "JSONata", "End": true,
        "Assign": {"n": "{% $n + 1 %}"}, "Output": "{% $n %}"});
    let mut input = debug(state, json!({}));
    input.variables = Some(r#"{"n": 1, "m": 5}"#.into());
    let output = tested(input).await;
    assert_eq!(output.output.as_deref(), Some("1"));
    let data = output.inspection_data.unwrap();
    assert_eq!(parsed(data.variables.as_ref()), json!({"n": 2, "m": 5}));
    assert_eq!(data.after_input_path, None);
}

#[tokio::test]
async fn state_inside_of_a_machine_is_found() {
    let machine = json!({"StartAt": "M", "States": {"M": {"Type": "Map", "End": true,
        "ItemProcessor": {"StartAt": "Inner", "States": {
            "Inner": {"Type": "Pass", "Next": "Last"}, "Last": {"Type": "Succeed"},
        }},
    }}});
    let mut input = debug(machine, json!(3));
    input.state_name = Some("Inner".into());
    let output = tested(input.clone()).await;
    assert_eq!(output.next_state.as_deref(), Some("Last"));
    assert_eq!(output.output.as_deref(), Some("3"));
    input.state_name = Some("Nowhere".into());
    assert_eq!(refusal(input).await, "State not found in the definition");
}

#[tokio::test]
async fn task_without_a_mock_is_run() {
    let seen = Arc::new(Mutex::new(None));
    let tasks: TaskRunner = {
        let seen = Arc::clone(&seen);
        Arc::new(move |attempt: Attempt| {
            *seen.lock().unwrap() = Some(attempt.call.input.to_string());
            Box::pin(async move {
                (attempt.report)(Update::Started);
                (attempt.report)(Update::Succeeded(json!("done")));
            })
        })
    };
    let state = function(&json!({"Parameters": {"k": 1}}));
    let mut input = debug(state, json!({}));
    assert_eq!(
        refusal(input.clone()).await,
        "RoleArn must be specified when testing a Task state"
    );
    input.role_arn = Some("arn:aws:iam::123456789012:role/r".into());
    let output = run(&clock(), &tasks, &caller(), input).await.unwrap();
    assert_eq!(output.output.as_deref(), Some(r#""done""#));
    assert_eq!(seen.lock().unwrap().as_deref(), Some(r#"{"k":1}"#));
}

#[tokio::test]
async fn wait_is_waited_for() {
    let clock = clock();
    let input = debug(
        json!({"Type": "Wait", "Seconds": 30, "Next": "N"}),
        json!({"a": 1}),
    );
    let running = {
        let clock = clock.clone();
        tokio::spawn(async move { run(&clock, &nothing_runs(), &caller(), input).await })
    };
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    clock.advance(Duration::from_secs(30));
    let output = running.await.unwrap().unwrap();
    assert_eq!(output.next_state.as_deref(), Some("N"));
}

#[tokio::test]
async fn map_says_what_it_would_do() {
    let state = json!({"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2, "End": true,
        "ItemSelector": {"v.$": "$$.Map.Item.Value", "all.$": "$.n"},
        "ItemProcessor": {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}},
        "ToleratedFailureCount": 1,
    });
    let mut input = debug(state, json!({"n": 7, "items": [1, 2]}));
    input.mock = result(&json!(["a", "b"]));
    let output = tested(input.clone()).await;
    assert_eq!(output.output.as_deref(), Some(r#"["a","b"]"#));
    let data = output.inspection_data.unwrap();
    assert_eq!(parsed(data.after_items_path.as_ref()), json!([1, 2]));
    assert_eq!(
        parsed(data.after_item_selector.as_ref()),
        json!([{"v": 1, "all": 7}, {"v": 2, "all": 7}])
    );
    assert_eq!(data.max_concurrency, Some(2));
    assert_eq!(data.tolerated_failure_count, Some(1));
    let failing = |count| {
        Some(TestStateConfiguration {
            map_iteration_failure_count: Some(count),
            ..TestStateConfiguration::default()
        })
    };
    input.state_configuration = failing(2);
    let output = tested(input.clone()).await;
    assert_eq!(
        output.error.as_deref(),
        Some("States.ExceedToleratedFailureThreshold")
    );
    input.state_configuration = failing(3);
    assert_eq!(
        refusal(input).await,
        "Map iteration failure count must be less than or equal to the number of Map iterations"
    );
}

#[tokio::test]
async fn what_cannot_be_tested_is_refused() {
    let parallel = json!({"Type": "Parallel", "End": true, "Branches": [
        {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}},
    ]});
    let pass = json!({"Type": "Pass", "End": true});
    let with = |state: &Value, mock: Option<MockInput>| TestStateInput {
        mock,
        ..debug(state.clone(), json!({}))
    };
    for (input, expected) in [
        (
            with(&parallel, None),
            "TestState API does not support Map or Parallel states. Supported state types \
             include: [Task, Wait, Pass, Succeed, Fail, Choice]",
        ),
        (
            with(&parallel, result(&json!([1, 2]))),
            "Mocked result must contain the same number of items as number of Parallel branches.",
        ),
        (
            with(&parallel, result(&json!({}))),
            "Mocked result must be an array.",
        ),
        (
            with(&pass, result(&json!({}))),
            "State type 'Pass' is not supported when a mock is specified",
        ),
        (
            with(
                &function(&json!({})),
                Some(MockInput {
                    result: Some("not JSON".into()),
                    ..MockInput::default()
                }),
            ),
            "Mocked result must be valid JSON",
        ),
        (
            TestStateInput {
                context: Some(r#"{"Execution": {"Id": 1}}"#.into()),
                ..with(&function(&json!({})), result(&json!({})))
            },
            "Invalid Context object provided: Execution.Id must be a string",
        ),
        (
            TestStateInput {
                context: Some(r#"{"Map": {}}"#.into()),
                ..with(&function(&json!({})), result(&json!({})))
            },
            "Invalid Context object provided: 'Map' field is not supported when mocking a Context \
             object",
        ),
    ] {
        assert_eq!(refusal(input).await, expected);
    }
}
