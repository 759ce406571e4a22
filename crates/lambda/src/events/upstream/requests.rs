//! The one request that each service needs: SQS and EventBridge speak JSON, SNS the Query protocol,
//! and S3 takes the record as an object.

use bytes::Bytes;
use clock::Timestamp;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use model::Arn;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::delivery::Service;
use super::super::record::{Delivery, Purpose};
use crate::function::new_id;

/// What form bodies and paths leave as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// The unsigned request that brings a delivery to its target.
pub fn make(
    service: Service,
    endpoint: &str,
    target: &Arn,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Request<Bytes>, http::Error> {
    let region = if target.region.is_empty() {
        &delivery.note.function.1
    } else {
        &target.region
    };
    let endpoint = endpoint.replace("{region}", region);
    let request = match service {
        Service::Sqs => send_message(&endpoint, target, delivery),
        Service::Sns => publish(&endpoint, delivery),
        Service::Events => put_events(&endpoint, delivery, now),
        Service::S3 | Service::Lambda => put_object(&endpoint, target, delivery, now),
    };
    let mut request = request?;
    // Services that carry traces on take it from here.
    if let Ok(header) = HeaderValue::from_str(&delivery.note.trace_header) {
        request.headers_mut().insert(TRACE, header);
    }
    Ok(request)
}

fn json_request(
    endpoint: &str,
    content_type: &'static str,
    operation: &'static str,
    body: &Value,
) -> Result<Request<Bytes>, http::Error> {
    Request::post(format!("{endpoint}/"))
        .header(CONTENT_TYPE, content_type)
        .header("x-amz-target", operation)
        .body(body.to_string().into())
}

fn send_message(
    endpoint: &str,
    target: &Arn,
    delivery: &Delivery,
) -> Result<Request<Bytes>, http::Error> {
    let attribute = |(name, kind, value): (&str, &str, String)| {
        let value = json!({"DataType": kind, "StringValue": value});
        (name.to_owned(), value)
    };
    let attributes: Map<_, _> = attributes(delivery).into_iter().map(attribute).collect();
    let trace = &delivery.note.trace_header;
    let mut body = json!({
        "QueueUrl": format!("{endpoint}/{}/{}", target.account, target.resource),
        "MessageBody": text(&delivery.body),
        "MessageSystemAttributes": {
            "AWSTraceHeader": {"DataType": "String", "StringValue": trace},
        },
    });
    if !attributes.is_empty() {
        body["MessageAttributes"] = attributes.into();
    }
    json_request(
        endpoint,
        "application/x-amz-json-1.0",
        "AmazonSQS.SendMessage",
        &body,
    )
}

fn publish(endpoint: &str, delivery: &Delivery) -> Result<Request<Bytes>, http::Error> {
    let mut form = Form::default();
    form.add("Action", "Publish");
    form.add("Version", "2010-03-31");
    form.add("TopicArn", &delivery.note.target);
    form.add("Message", &text(&delivery.body));
    for (number, (name, kind, value)) in (1..).zip(attributes(delivery)) {
        let entry = format!("MessageAttributes.entry.{number}");
        form.add(&format!("{entry}.Name"), name);
        form.add(&format!("{entry}.Value.DataType"), kind);
        form.add(&format!("{entry}.Value.StringValue"), &value);
    }
    Request::post(format!("{endpoint}/"))
        .header(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8",
        )
        .body(form.0.into())
}

fn put_events(
    endpoint: &str,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Request<Bytes>, http::Error> {
    let note = &delivery.note;
    let ended = match note.purpose {
        Purpose::Success => "Success",
        Purpose::Failure | Purpose::DeadLetter { .. } => "Failure",
    };
    let body = json!({"Entries": [{
        "Time": now.as_secs(),
        "Source": "lambda",
        "Resources": [note.target, note.function_arn],
        "DetailType": format!("Lambda Function Invocation Result - {ended}"),
        "Detail": text(&delivery.body),
        "EventBusName": note.target,
        "TraceHeader": note.trace_header,
    }]});
    json_request(
        endpoint,
        "application/x-amz-json-1.1",
        "AWSEvents.PutEvents",
        &body,
    )
}

/// The key is `aws/lambda/async/FUNCTION/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-UUID`.
fn put_object(
    endpoint: &str,
    target: &Arn,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Request<Bytes>, http::Error> {
    let moment = now.to_string();
    let (date, time) = moment.split_once('T').unwrap_or((&moment, ""));
    let time = time.split('.').next().unwrap_or_default();
    let time = time.trim_end_matches('Z').replace(':', ".");
    let folder = date.replace('-', "/");
    let name = utf8_percent_encode(&delivery.note.function.2, UNRESERVED);
    let bucket = utf8_percent_encode(&target.resource, UNRESERVED);
    let id = new_id();
    let uri = format!("{endpoint}/{bucket}/aws/lambda/async/{name}/{folder}/{date}T{time}-{id}");
    Request::put(uri)
        .header(CONTENT_TYPE, "application/json")
        .header(
            "x-amz-content-sha256",
            hex::encode(Sha256::digest(&delivery.body)),
        )
        .body(delivery.body.clone())
}

/// What a dead letter says in attributes: name, type, value.
fn attributes(delivery: &Delivery) -> Vec<(&'static str, &'static str, String)> {
    let Purpose::DeadLetter {
        error_code,
        error_message,
    } = &delivery.note.purpose
    else {
        return Vec::new();
    };
    let mut attributes = vec![("RequestID", "String", delivery.note.request_id.clone())];
    if let Some(code) = error_code {
        attributes.push(("ErrorCode", "Number", code.to_string()));
    }
    // A message attribute cannot be empty.
    if !error_message.is_empty() {
        attributes.push(("ErrorMessage", "String", error_message.clone()));
    }
    attributes
}

/// Payloads are JSON, so they are text.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, UNRESERVED));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Note;
    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:111111111111:function:f:$LATEST";

    fn delivery(target: &str, purpose: Purpose) -> Delivery {
        Delivery {
            note: Note {
                target: target.to_owned(),
                function: ("111111111111".into(), "eu-west-1".into(), "f".into()),
                function_arn: FUNCTION.to_owned(),
                request_id: "request-1".into(),
                trace_header: "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:00000001:0"
                    .into(),
                purpose,
            },
            body: Bytes::from_static(br#"{"a": "b c&"}"#),
        }
    }

    fn made(target: &str, purpose: Purpose) -> Request<Bytes> {
        let arn: Arn = target.parse().unwrap();
        let service = Service::named(&arn.service).unwrap();
        let now = Timestamp::from_millis(1_573_755_365_568);
        let endpoint = "http://127.0.0.1:9";
        make(service, endpoint, &arn, &delivery(target, purpose), now).unwrap()
    }

    fn dead_letter() -> Purpose {
        Purpose::DeadLetter {
            error_code: Some(200),
            error_message: "no such colour".into(),
        }
    }

    #[test]
    fn a_queue_gets_the_message_its_attributes_and_the_trace() {
        let request = made("arn:aws:sqs:eu-west-1:111111111111:dlq", dead_letter());
        assert_eq!(request.headers()["x-amz-target"], "AmazonSQS.SendMessage");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["QueueUrl"], "http://127.0.0.1:9/111111111111/dlq");
        assert_eq!(body["MessageBody"], r#"{"a": "b c&"}"#);
        let expected = json!({
            "RequestID": {"DataType": "String", "StringValue": "request-1"},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {"DataType": "String", "StringValue": "no such colour"},
        });
        assert_eq!(body["MessageAttributes"], expected);
        let trace = &body["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"];
        assert_eq!(*trace, request.headers()[TRACE].to_str().unwrap());
        let plain = made("arn:aws:sqs:eu-west-1:111111111111:q", Purpose::Success);
        let body: Value = serde_json::from_slice(plain.body()).unwrap();
        assert_eq!(body.get("MessageAttributes"), None);
    }

    #[test]
    fn a_topic_gets_a_form() {
        let request = made("arn:aws:sns:eu-west-1:111111111111:t", dead_letter());
        let body = std::str::from_utf8(request.body()).unwrap();
        assert!(body.starts_with(
            "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A111111111111%3At\
             &Message=%7B%22a%22%3A%20%22b%20c%26%22%7D&MessageAttributes.entry.1.Name=RequestID&"
        ), "{body}");
        assert!(body.contains(
            "MessageAttributes.entry.3.Name=ErrorMessage&MessageAttributes.entry.3.Value.DataType=\
             String&MessageAttributes.entry.3.Value.StringValue=no%20such%20colour"
        ));
    }

    #[test]
    fn a_bus_gets_the_record_as_detail() {
        let bus = "arn:aws:events:eu-west-1:111111111111:event-bus/default";
        let request = made(bus, Purpose::Failure);
        assert_eq!(request.headers()["x-amz-target"], "AWSEvents.PutEvents");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let entry = &body["Entries"][0];
        assert_eq!(
            entry["DetailType"],
            "Lambda Function Invocation Result - Failure"
        );
        assert_eq!(entry["Resources"], json!([bus, FUNCTION]));
        assert_eq!(
            (&entry["Source"], &entry["EventBusName"]),
            (&json!("lambda"), &json!(bus))
        );
    }

    #[test]
    fn a_bucket_gets_an_object_under_awss_key() {
        let request = made("arn:aws:s3:::records", Purpose::Failure);
        assert_eq!(request.method(), "PUT");
        let path = request.uri().path();
        let key = "/records/aws/lambda/async/f/2019/11/14/2019-11-14T18.16.05-";
        assert!(path.starts_with(key), "{path}");
        assert_eq!(request.headers()["x-amz-content-sha256"].len(), 64);
    }

    #[test]
    fn an_endpoint_may_depend_on_the_region() {
        let target: Arn = "arn:aws:s3:::records".parse().unwrap();
        let delivery = delivery("arn:aws:s3:::records", Purpose::Failure);
        let endpoint = "https://s3.{region}.amazonaws.com";
        let request = make(
            Service::S3,
            endpoint,
            &target,
            &delivery,
            Timestamp::default(),
        )
        .unwrap();
        assert_eq!(request.uri().host(), Some("s3.eu-west-1.amazonaws.com"));
    }
}
