use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn read(document: &Value) -> Result<Mocks, String> {
    Mocks::parse(Path::new("mocks.json"), &document.to_string()).map_err(|error| error.to_string())
}

/// The example of AWS's guide.
fn example() -> Value {
    json!({
        "StateMachines": {"LambdaSQSIntegration": {"TestCases": {
            "HappyPath": {"LambdaState": "MockedLambdaSuccess", "SQSState": "MockedSQSSuccess"},
            "RetryPath": {"LambdaState": "MockedLambdaRetry", "SQSState": "MockedSQSSuccess"},
            "HybridPath": {"LambdaState": "MockedLambdaSuccess"},
        }}},
        "MockedResponses": {
            "MockedLambdaSuccess": {"0": {"Return": {"StatusCode": 200}}},
            "MockedSQSSuccess": {"0": {"Return": {"MessageId": "3bcb6e8e"}}},
            "MockedLambdaRetry": {
                "0": {"Throw": {"Error": "Lambda.ResourceNotReadyException", "Cause": "Not ready."}},
                "1-2": {"Throw": {"Error": "Lambda.TimeoutException", "Cause": "Timed out."}},
                "3": {"Return": {"StatusCode": 200}},
            },
        },
    })
}

#[test]
fn answers_are_told_apart_by_attempt() {
    let mocks = read(&example()).unwrap();
    let case = mocks.find("LambdaSQSIntegration", "RetryPath").unwrap();
    let thrown = |attempt| match case.respond("LambdaState", attempt) {
        Some(Response::Throw(failure)) => failure.error.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(thrown(0), "Lambda.ResourceNotReadyException");
    assert_eq!(thrown(1), "Lambda.TimeoutException");
    assert_eq!(thrown(2), "Lambda.TimeoutException");
    assert_eq!(
        case.respond("LambdaState", 3),
        Some(Response::Return(json!({"StatusCode": 200})))
    );
    // Nobody has said what the fifth attempt answers.
    assert_eq!(thrown(4), "States.Runtime");
}

#[test]
fn states_without_a_mock_have_no_answer() {
    let mocks = read(&example()).unwrap();
    let case = mocks.find("LambdaSQSIntegration", "HybridPath").unwrap();
    assert_eq!(case.respond("SQSState", 0), None);
    assert!(mocks.find("LambdaSQSIntegration", "Unheard").is_none());
    assert!(mocks.find("Unheard", "HappyPath").is_none());
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    let with = |pointer: &str, value: Value| {
        let mut document = example();
        *document.pointer_mut(pointer).unwrap() = value;
        read(&document).unwrap_err()
    };
    let retry = "/MockedResponses/MockedLambdaRetry";
    for (pointer, value, expected) in [
        (
            "/StateMachines/LambdaSQSIntegration/TestCases/HappyPath/SQSState",
            json!("Nothing"),
            "the mock file mocks.json: state machine 'LambdaSQSIntegration', test case \
             'HappyPath', state 'SQSState': there is no mocked response 'Nothing'",
        ),
        (
            "/StateMachines/LambdaSQSIntegration/TestCases/HappyPath/SQSState",
            json!({}),
            "the mock file mocks.json: state machine 'LambdaSQSIntegration', test case \
             'HappyPath', state 'SQSState': the name of a mocked response is expected",
        ),
        (
            retry,
            json!({"1": {"Return": 1}}),
            "the mock file mocks.json: MockedResponses, 'MockedLambdaRetry': attempt 0 has no \
             answer",
        ),
        (
            retry,
            json!({"0-2": {"Return": 1}, "2": {"Return": 1}}),
            "the mock file mocks.json: MockedResponses, 'MockedLambdaRetry': attempt 2 has two \
             answers",
        ),
        (
            retry,
            json!({"2-1": {"Return": 1}}),
            "the mock file mocks.json: MockedResponses, 'MockedLambdaRetry', '2-1': an attempt as \
             '0' or a range of attempts as '1-2' is expected",
        ),
        (
            retry,
            json!({"0": {"Return": 1, "Throw": {"Error": "E", "Cause": "C"}}}),
            "the mock file mocks.json: MockedResponses, 'MockedLambdaRetry', '0': either 'Return' \
             or 'Throw' is expected",
        ),
        (
            retry,
            json!({"0": {"Throw": {"Error": "E"}}}),
            "the mock file mocks.json: MockedResponses, 'MockedLambdaRetry', '0', Throw: the text \
             'Cause' is expected",
        ),
    ] {
        assert_eq!(with(pointer, value), expected);
    }
    let misspelt = json!({"StateMachines": {}, "MockedResponse": {}});
    assert_eq!(
        read(&misspelt).unwrap_err(),
        "the mock file mocks.json: the file: the field 'MockedResponse' is none of StateMachines, \
         MockedResponses"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Mocks::load(Path::new("/nowhere/mocks.json")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the mock file /nowhere/mocks.json"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_much(text in ".{0,200}") {
        let _ = Mocks::parse(Path::new("mocks.json"), &text);
    }
}
