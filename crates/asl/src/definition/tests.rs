use serde_json::{Value, json};

use super::*;

fn wrong(definition: &Value) -> Vec<String> {
    match Definition::parse(&definition.to_string()) {
        Ok(_) => Vec::new(),
        Err(InvalidDefinition(all)) => all.iter().map(ToString::to_string).collect(),
    }
}

fn single(state: Value) -> Value {
    json!({"StartAt": "S", "States": {"S": state}})
}

#[test]
fn nested_flows_are_numbered() {
    let definition = json!({"StartAt": "P", "TimeoutSeconds": 9, "States": {
        "P": {"Type": "Parallel", "Next": "M", "Branches": [
            {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}},
            {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}},
        ]},
        "M": {"Type": "Map", "End": true, "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
            "StartAt": "T", "States": {"T": {
                "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
                "TimeoutSecondsPath": "$.t", "End": true, "Retry": [{"ErrorEquals": ["States.ALL"]}],
            }},
        }},
    }});
    let definition = Definition::parse(&definition.to_string()).unwrap();
    assert_eq!(definition.timeout_seconds, Some(9));
    let state = |flow: FlowId, name: &str| definition.state(definition.flow(flow).states[name]);
    let main = definition.main();
    let Kind::Parallel { branches } = &state(main, "P").kind else {
        panic!()
    };
    assert_eq!(branches.len(), 2);
    assert_eq!(state(branches[1], "A").kind, Kind::Succeed);
    let Kind::Map(map) = &state(main, "M").kind else {
        panic!()
    };
    assert_eq!(map.mode, MapMode::Distributed { express: true });
    let task = state(map.processor, "T");
    assert_eq!(task.retry[0].max_attempts, 3);
    let Kind::Task(task) = &task.kind else {
        panic!()
    };
    let Resource::Service {
        action, pattern, ..
    } = &task.resource
    else {
        panic!()
    };
    assert_eq!(action, "sendMessage.waitForTaskToken");
    assert_eq!(*pattern, Pattern::WaitForTaskToken);
    assert!(matches!(task.timeout_seconds, Some(Amount::Path(_))));
}

/// Words recorded on AWS.
#[test]
fn mistakes_are_told_as_aws_tells_them() {
    for (definition, expected) in [
        (
            json!({}),
            "SCHEMA_VALIDATION_FAILED: These fields are required: [States, StartAt] at /",
        ),
        (
            json!({"States": {"A": {"Type": "Pass", "End": true}}}),
            "SCHEMA_VALIDATION_FAILED: These fields are required: [StartAt] at /",
        ),
        (
            json!({"StartAt": "Pass", "QueryLanguage": "JSONata", "States": {
                "Pass": {"Type": "Pass", "End": true, "QueryLanguage": "JSONPath"},
            }}),
            "SCHEMA_VALIDATION_FAILED: 'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' \
             for whole state machine at /States/Pass",
        ),
        (
            single(json!({"Type": "TypeThatDoesNotExist", "End": true})),
            "SCHEMA_VALIDATION_FAILED: The field 'Type' should have one of these values: [Task, \
             Wait, Pass, Succeed, Fail, Choice, Parallel, Map] at /States/S/Type",
        ),
        (
            single(json!({"Type": "Parallel", "Branches": [], "End": true})),
            "SCHEMA_VALIDATION_FAILED: Value cannot be empty at /States/S/Branches",
        ),
        (
            single(json!({
                "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Credentials": {},
                "End": true,
            })),
            "SCHEMA_VALIDATION_FAILED: The field 'RoleArn' is required but was missing at \
             /States/S/Credentials",
        ),
        (
            single(json!({"Type": "Pass", "Parameters": {"parsed.$": "States.X("}, "End": true})),
            "SCHEMA_VALIDATION_FAILED: The value for the field 'parsed.$' must be a valid JSONPath \
             or a valid intrinsic function call at /States/S/Parameters",
        ),
        (
            single(json!({"Type": "Task", "Resource": "arn:aws:states:::dynamodb", "End": true})),
            "SCHEMA_VALIDATION_FAILED: The resource provided arn:aws:states:::dynamodb is not \
             recognized. The value is not a valid resource ARN, or the resource is not available \
             in this region. at /States/S/Resource",
        ),
    ] {
        assert_eq!(wrong(&definition), [expected], "{definition}");
    }
    let nothing = Definition::parse("").unwrap_err();
    assert_eq!(
        nothing.0[0].message,
        "Definition must be a valid JSON object"
    );
    let no_json = Definition::parse("not a definition").unwrap_err();
    assert_eq!(no_json.0[0].code, "INVALID_JSON_DESCRIPTION");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "Next": "Nowhere"},
        "B": {"Type": "Wait", "End": true},
        "C": {"Type": "Choice", "Choices": [{"Variable": "$.x", "Next": "A"}]},
        "D": {"Type": "Pass", "Output": 1, "Next": "A", "End": true},
    }});
    let found = wrong(&definition);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[0].starts_with("MISSING_TRANSITION_TARGET: Missing 'Next' target: Nowhere at "));
}

#[test]
fn unreachable_states_are_refused() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Pass", "End": true}, "B": {"Type": "Pass", "End": true},
    }});
    let found = wrong(&definition);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("State \"B\" is not reachable."),
        "{found:?}"
    );
}

#[test]
fn definitions_inside_definitions_have_a_bound() {
    let mut definition = json!({"StartAt": "S", "States": {"S": {"Type": "Pass", "End": true}}});
    for _ in 0..70 {
        definition = json!({"StartAt": "S", "States": {
            "S": {"Type": "Parallel", "End": true, "Branches": [definition]},
        }});
    }
    assert!(!wrong(&definition).is_empty());
    // Deeper than the JSON reader goes.
    let text = format!("{{\"States\": {}", "[".repeat(100_000));
    assert!(Definition::parse(&text).is_err());
}
