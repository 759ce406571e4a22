//! Requests and answers, against those of botocore (see `scripts/extract-integrations`).

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::catalog;

#[derive(Deserialize)]
struct Request {
    service: String,
    operation: String,
    parameters: Value,
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    body: String,
}

#[derive(Deserialize)]
struct Answered {
    service: String,
    operation: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    output: Value,
}

fn call<'a>(service: &str, operation: &str, parameters: &'a Value) -> Call<'a> {
    let entry = catalog::find(service).unwrap();
    let (name, operation) = entry.operation(operation).unwrap();
    Call {
        entry,
        name,
        operation,
        parameters,
        token: "t",
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    let mut pairs: Vec<_> = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
    pairs.sort();
    pairs
}

/// A body in a form in which what means the same is the same.
fn comparable(kind: &str, body: &str) -> Value {
    if kind.contains("json") {
        let value = serde_json::from_str::<Value>(body);
        return value.unwrap_or_else(|_| body.into());
    }
    if kind.contains("form") {
        return json!(pairs(body));
    }
    body.into()
}

#[test]
fn requests_are_those_of_botocore() {
    let golden = include_str!("../../tests/golden/requests.json");
    let golden: Vec<Request> = serde_json::from_str(golden).unwrap();
    assert!(golden.len() > 25);
    for expected in golden {
        let what = format!("{} {}", expected.service, expected.operation);
        let call = call(&expected.service, &expected.operation, &expected.parameters);
        let message = write(&call).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(message.method.as_str(), expected.method, "{what}");
        let (path, query) = message
            .target
            .split_once('?')
            .unwrap_or((&message.target, ""));
        let (wanted, more) = expected
            .path
            .split_once('?')
            .unwrap_or((&expected.path, ""));
        assert_eq!(path, wanted, "{what}");
        let mut wanted = expected.query;
        wanted.extend(pairs(more));
        wanted.sort();
        assert_eq!(pairs(query), wanted, "{what}");
        for (name, value) in &expected.headers {
            // Botocore leaves it to others.
            let found = message
                .headers
                .get(name)
                .map(|found| found.to_str().unwrap());
            assert_eq!(found, Some(value.as_str()), "{what}: {name}");
        }
        let kind = message.headers.get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap());
        let body = std::str::from_utf8(&message.body).unwrap();
        assert_eq!(
            comparable(kind, body),
            comparable(kind, &expected.body),
            "{what}: {body}"
        );
    }
}

#[test]
fn answers_are_read_as_botocore_reads_them() {
    let golden = include_str!("../../tests/golden/answers.json");
    let golden: Vec<Answered> = serde_json::from_str(golden).unwrap();
    assert!(golden.len() > 10);
    for expected in golden {
        let what = format!("{} {}", expected.service, expected.operation);
        let call = call(&expected.service, &expected.operation, &Value::Null);
        let mut response = Response::builder().status(expected.status);
        for (name, value) in &expected.headers {
            response = response.header(name, value);
        }
        let response = response.body(Bytes::from(expected.body)).unwrap();
        let answer = read(call.entry, call.operation, Style::Two, &response).unwrap();
        assert_eq!(Value::Object(answer.output), expected.output, "{what}");
    }
}

fn rejected(service: &str, status: u16, headers: &[(&str, &str)], body: &str) -> Box<Rejected> {
    let parameters = Value::Null;
    let entry = catalog::find(service).unwrap();
    let any = entry.interface().unwrap().operations.keys().next().unwrap();
    let call = call(service, any, &parameters);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let response = response.body(Bytes::from(body.to_owned())).unwrap();
    read(call.entry, call.operation, Style::Two, &response).unwrap_err()
}

#[test]
fn errors_are_read_in_each_protocol() {
    let body =
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"no"}"#;
    let error = rejected("dynamodb", 400, &[("x-amzn-requestid", "r")], body);
    assert_eq!(
        (error.code.as_str(), error.request_id.as_str()),
        ("ResourceNotFoundException", "r")
    );
    assert_eq!(error.message.as_deref(), Some("no"));

    let headers = [("x-amzn-errortype", "ResourceNotFoundException:http://x/")];
    let error = rejected("lambda", 404, &headers, r#"{"Message":"no"}"#);
    assert_eq!(
        (error.code.as_str(), error.status.as_u16()),
        ("ResourceNotFoundException", 404)
    );
    assert_eq!(error.message.as_deref(), Some("no"));

    let headers = [(
        "x-amzn-query-error",
        "AWS.SimpleQueueService.NonExistentQueue;Sender",
    )];
    let body = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no"}"#;
    let error = rejected("sqs", 400, &headers, body);
    assert_eq!(error.code, "AWS.SimpleQueueService.NonExistentQueue");

    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>no</Message>\
                </Error><RequestId>r</RequestId></ErrorResponse>";
    let error = rejected("sns", 404, &[], body);
    assert_eq!(
        (error.code.as_str(), error.request_id.as_str()),
        ("NotFound", "r")
    );

    let body = "<Response><Errors><Error><Code>InvalidAMIID.NotFound</Code><Message>no</Message>\
                </Error></Errors><RequestID>r</RequestID></Response>";
    let error = rejected("ec2", 400, &[], body);
    assert_eq!(
        (error.code.as_str(), error.request_id.as_str()),
        ("InvalidAMIID.NotFound", "r")
    );

    let body = "<Error><Code>NoSuchKey</Code><Message>no</Message><RequestId>r</RequestId></Error>";
    let error = rejected("s3", 404, &[("x-amz-id-2", "x")], body);
    assert_eq!(
        (error.code.as_str(), error.request_id.as_str()),
        ("NoSuchKey", "r")
    );
    assert_eq!(error.extended_request_id.as_deref(), Some("x"));

    // A proxy on the way, or the answer to a HEAD request.
    assert_eq!(rejected("dynamodb", 502, &[], "<html>").code, "BadGateway");
    assert_eq!(rejected("s3", 404, &[], "").code, "NotFound");
}

// What AWS put into the bucket, by the checksums that it answered.
#[test]
fn a_stream_gets_its_json() {
    for (body, sum) in [
        (json!("text data"), "KUmHvQ=="),
        (json!({"Dict": "Value"}), "hnEfWw=="),
        (json!(["List", "Data"]), "1F2MPA=="),
        (json!(false), "K81oMA=="),
        (json!(0), "9NvfIQ=="),
    ] {
        let parameters = json!({"Bucket": "b", "Key": "k", "Body": body});
        let message = write(&call("s3", "putObject", &parameters)).unwrap();
        assert_eq!(message.headers["x-amz-checksum-crc32"], sum, "{body}");
        assert_eq!(message.body, body.to_string());
    }
}

#[test]
fn any_json_is_text_where_a_service_wants_text() {
    let parameters = json!({"QueueUrl": "q", "MessageBody": {"a": [1]}});
    let message = write(&call("sqs", "sendMessage", &parameters)).unwrap();
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(body["MessageBody"], r#"{"a":[1]}"#);
}

#[test]
fn tokens_against_repetition_are_filled_in() {
    let parameters = json!({"TaskDefinition": "d"});
    let message = write(&call("ecs", "runTask", &parameters)).unwrap();
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(body["clientToken"], "t");
}

#[test]
fn what_does_not_fit_is_told_in_awss_words() {
    let found = |parameters: Value| {
        let call = call("dynamodb", "putItem", &parameters);
        let interface = call.entry.interface().unwrap();
        let found = check(interface, call.operation, &parameters);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(found(json!({"TableName": "t", "Item": {}})).is_empty());
    // AWS leaves it to the service to refuse what is null.
    assert!(found(json!({"TableName": "t", "Item": null})).is_empty());
    // Names begin with a capital, whatever the API has.
    assert_eq!(
        found(json!({"TableName": "t", "Item": {}, "tableName": "t"})),
        ["The field 'tableName' is not supported by Step Functions"]
    );
    assert_eq!(
        found(json!({"Item": {}, "Guess": 1})),
        [
            "The field 'TableName' is required but was missing",
            "The field 'Guess' is not supported by Step Functions",
        ]
    );
    assert_eq!(
        found(json!({"TableName": "t", "Item": []})),
        ["The value of the field 'Item' has an invalid format"]
    );
}

#[test]
fn nesting_has_an_end() {
    let mut value = json!({"S": "x"});
    for _ in 0..200 {
        value = json!({"L": [value]});
    }
    let parameters = json!({"TableName": "t", "Item": {"deep": value}});
    assert!(write(&call("dynamodb", "putItem", &parameters)).is_err());
    let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
    assert!(xml::parse(deep.as_bytes()).is_none());
}

proptest::proptest! {
    #[test]
    fn no_document_makes_the_reader_fail(text in "[<>/a-c&;#\"'= !\\[\\]-]{0,60}") {
        let _ = xml::parse(text.as_bytes());
    }
}
