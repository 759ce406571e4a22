use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request};
use proptest::prelude::*;

use super::*;
use crate::lambda::operation::{DeleteFunction, GetFunction, Invoke, ListFunctions, UntagResource};
use crate::lambda::{
    DeleteFunctionInput, DeleteFunctionOutput, InvocationType, InvokeInput, InvokeOutput,
    ListFunctionsInput, UntagResourceInput,
};
use crate::{Blob, Operation};

fn parts(method: Method, uri: &str) -> request::Parts {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .unwrap()
        .into_parts()
        .0
}

/// What arrives when a client sends `input`.
fn sent<O: Operation>(input: &O::Input) -> Result<O::Input, DecodeError> {
    let (parts, body) = O::encode_input(input).into_parts();
    O::decode(&parts, body)
}

#[test]
fn labels_are_split_before_they_are_decoded() {
    let path = "/a/arn%3Aaws%3A%2Fx/b%20c";
    assert_eq!(label::<String>(path, 1).unwrap(), "arn:aws:/x");
    assert_eq!(greedy_label::<String>(path, 1).unwrap(), "arn:aws:/x/b c");
    assert_eq!(label::<String>(path, 7).unwrap(), "");
    assert!(label::<String>("/%ff", 0).is_err());
}

#[test]
fn query_parameters_are_decoded() {
    let text = Some("a=1&b=x%20y&b=z+w&%63=3&flag&MaxItems=abc");
    assert_eq!(query::<i32>(text, "a").unwrap(), Some(1));
    assert_eq!(query::<String>(text, "c").unwrap().as_deref(), Some("3"));
    assert_eq!(query::<String>(text, "flag").unwrap().as_deref(), Some(""));
    assert_eq!(query::<String>(text, "d").unwrap(), None);
    assert_eq!(
        query_list::<String>(text, "b").unwrap().unwrap(),
        ["x y", "z w"]
    );
    assert_eq!(
        query::<i32>(text, "MaxItems").unwrap_err().to_string(),
        "STRING_VALUE cannot be converted to Integer"
    );
}

#[test]
fn a_required_query_list_may_not_be_absent() {
    let request = parts(
        Method::DELETE,
        "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af",
    );
    assert_eq!(
        UntagResource::decode(&request, Bytes::new())
            .unwrap_err()
            .to_string(),
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: \
         Member must not be null"
    );
}

#[test]
fn invoke_shares_the_body_of_its_request() {
    let body = Bytes::from(vec![b'1'; 100]);
    let mut request = parts(
        Method::POST,
        "/2015-03-31/functions/f/invocations?Qualifier=live",
    );
    request
        .headers
        .insert("x-amz-invocation-type", "Event".parse().unwrap());
    let input = Invoke::decode(&request, body.clone()).unwrap();
    assert_eq!(
        input.payload.unwrap().decode().unwrap().as_ptr(),
        body.as_ptr()
    );
    assert_eq!(input.invocation_type, Some(InvocationType::Event));
    assert_eq!(input.qualifier.as_deref(), Some("live"));
}

#[test]
fn located_members_in_a_body_are_ignored() {
    let body = Bytes::from_static(br#"{"Qualifier": "live", "FunctionName": "other"}"#);
    let input = GetFunction::decode(&parts(Method::GET, "/2015-03-31/functions/f"), body).unwrap();
    assert_eq!((input.function_name.as_str(), input.qualifier), ("f", None));
}

#[test]
fn invoke_answers_in_status_headers_and_raw_body() {
    let output = InvokeOutput {
        status_code: Some(202),
        function_error: Some("Unhandled".to_owned()),
        payload: Some(Blob::from(b"{}".to_vec())),
        ..Default::default()
    };
    let (parts, body) = Invoke::encode(output.clone()).into_parts();
    assert_eq!(parts.status, StatusCode::ACCEPTED);
    assert_eq!(parts.headers["x-amz-function-error"], "Unhandled");
    assert!(!parts.headers.contains_key("x-amz-log-result"));
    assert_eq!(Invoke::decode_output(&parts, body).unwrap(), output);
}

#[test]
fn a_deletion_answers_no_content() {
    let response = DeleteFunction::encode(DeleteFunctionOutput::default());
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(response.body().is_empty());
    assert!(!response.headers().contains_key("content-type"));
}

#[test]
fn error_answers_become_wire_errors() {
    let answer = |kind: Option<&str>, body: &'static str| {
        let mut builder = Response::builder().status(404);
        if let Some(kind) = kind {
            builder = builder.header("x-amzn-ErrorType", kind);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let error = GetFunction::decode_output(&parts, Bytes::from_static(body.as_bytes()));
        let error = error.unwrap_err();
        (error.code, error.message)
    };
    let expected = ("ResourceNotFoundException".to_owned(), "gone".to_owned());
    let header = "ResourceNotFoundException:http://internal.amazon.com/coral/";
    assert_eq!(
        answer(Some(header), r#"{"Type":"User","Message":"gone"}"#),
        expected
    );
    let body = r#"{"__type":"com.amazonaws#ResourceNotFoundException","message":"gone"}"#;
    assert_eq!(answer(None, body), expected);
    assert_eq!(answer(None, "<html>"), (String::new(), String::new()));
}

proptest! {
    #[test]
    fn rest_inputs_survive(
        name in "[a-zA-Z0-9_-]{1,20}",
        qualifier in proptest::option::of("[a-zA-Z0-9$_-]{1,10}"),
        payload in proptest::collection::vec(any::<u8>(), 1..50),
        keys in proptest::collection::vec("[ -~]{1,20}", 1..4),
        max_items in proptest::option::of(1..50_i32),
    ) {
        let invoke = InvokeInput {
            function_name: name.clone(),
            qualifier: qualifier.clone(),
            invocation_type: Some(InvocationType::RequestResponse),
            payload: Some(Blob::from(payload)),
            ..Default::default()
        };
        prop_assert_eq!(sent::<Invoke>(&invoke).unwrap(), invoke);
        let delete = DeleteFunctionInput { function_name: name.clone(), qualifier };
        prop_assert_eq!(sent::<DeleteFunction>(&delete).unwrap(), delete);
        let list = ListFunctionsInput { max_items, marker: Some(name), ..Default::default() };
        prop_assert_eq!(sent::<ListFunctions>(&list).unwrap(), list);
        let untag = UntagResourceInput {
            resource: "arn:aws:lambda:us-east-1:000000000000:function:a".to_owned(),
            tag_keys: keys,
        };
        if let Ok(arrived) = sent::<UntagResource>(&untag) {
            prop_assert_eq!(arrived, untag);
        }
    }
}
