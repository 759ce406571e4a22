//! Requests that break constraints, as botocore lays them out, and what AWS answered.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use http::Request;
use model::{DecodeError, Operation, OperationInput, lambda, logs};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    id: String,
    service: String,
    operation: String,
    request: Message,
    code: String,
    violations: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    method: String,
    uri: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
}

fn decode<O: Operation>(message: &Message) -> Result<(), DecodeError> {
    let mut builder = Request::builder()
        .method(message.method.as_str())
        .uri(&message.uri);
    for (name, value) in &message.headers {
        builder = builder.header(name, value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    O::decode(&parts, Bytes::from(message.body.clone())).map(drop)
}

fn outcome(case: &Case) -> Result<(), DecodeError> {
    use lambda::operation as lambda;
    use logs::operation as logs;
    let message = &case.request;
    match case.operation.as_str() {
        "CreateAlias" => decode::<lambda::CreateAlias>(message),
        "CreateFunction" => decode::<lambda::CreateFunction>(message),
        "DeleteFunction" => decode::<lambda::DeleteFunction>(message),
        "GetFunction" => decode::<lambda::GetFunction>(message),
        "Invoke" => decode::<lambda::Invoke>(message),
        "ListFunctions" => decode::<lambda::ListFunctions>(message),
        "UpdateFunctionConfiguration" => decode::<lambda::UpdateFunctionConfiguration>(message),
        "FilterLogEvents" => decode::<logs::FilterLogEvents>(message),
        other => panic!("no test for {other}"),
    }
}

#[test]
fn messages_are_those_of_aws() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/validation.json")).unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let service = if case.service == "logs" {
            &logs::SERVICE
        } else {
            &lambda::SERVICE
        };
        assert_eq!(service.validation_error.code, case.code, "{}", case.id);
        let Err(DecodeError::Validation(message)) = outcome(&case) else {
            panic!("{}: accepted", case.id);
        };
        let count = case.violations.len();
        let plural = if count == 1 { "" } else { "s" };
        let (head, list) = message.split_once(" detected: ").unwrap();
        assert_eq!(
            head,
            format!("{count} validation error{plural}"),
            "{}: {message}",
            case.id
        );
        // The recordings sort what they hold of one answer, so its order is not known.
        let mut violations: Vec<&str> = list.split("; ").collect();
        violations.sort_unstable();
        assert_eq!(violations, case.violations, "{}", case.id);
    }
}

/// Several violations come in the order of the interface's members.
#[test]
fn violations_follow_the_order_of_members() {
    type Input = lambda::CreateFunctionInput;
    let body = Bytes::from_static(
        br#"{"Architectures": ["x", "y"], "MemorySize": 1, "FunctionName": "a b", "VpcConfig": {"SubnetIds": ["s"]},
            "Environment": {"Variables": {"1A": "x"}}, "Code": {}, "Tags": {"": "v"}, "Layers": ["l"]}"#,
    );
    let (parts, ()) = Request::post("/2015-03-31/functions")
        .body(())
        .unwrap()
        .into_parts();
    let error = <Input as OperationInput>::Operation::decode(&parts, body).unwrap_err();
    let violations: Vec<String> = error
        .to_string()
        .split("; ")
        .map(|violation| {
            violation
                .split(" failed to")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(
        violations,
        [
            "9 validation errors detected: Value 'a b' at 'functionName'",
            "Value null at 'role'",
            "Value '1' at 'memorySize'",
            "Value '[s]' at 'vpcConfig.subnetIds'",
            "Value at 'environment.variables'",
            "Value '{=v}' at 'tags'",
            "Value '[l]' at 'layers'",
            "Value '[x, y]' at 'architectures'",
            "Value '[x, y]' at 'architectures'",
        ]
    );
}
