//! What destinations and dead-letter queues are told of an event.
//!
//! The record is AWS's, version 1.0:
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>. A dead
//! letter is the event itself, with the error in attributes of the message.

use bytes::Bytes;
use clock::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::Service;
use super::record::Purpose;
use super::verdict::{Condition, Response};
use crate::error::Error;

/// AWS cuts the message of a dead letter to this length.
const MAX_ERROR_BYTES: usize = 1024;
/// A larger record goes to SNS without the payloads, as on AWS, because a message cannot carry it.
const MAX_SNS_BYTES: usize = 256 << 10;

/// An event that is over.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub at: Timestamp,
    pub request_id: &'a str,
    /// With the qualifier it was invoked with, or `$LATEST`.
    pub function_arn: &'a str,
    pub condition: Condition,
    pub count: u8,
    pub request: &'a Bytes,
    pub response: Option<&'a Response>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_payload: Option<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Json<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    executed_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

/// JSON as it came, or text that is none as a string.
#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    Raw(&'a RawValue),
    Text(String),
}

impl<'a> Json<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(raw) => Self::Raw(raw),
            Err(_) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

impl Outcome<'_> {
    /// The record for a destination.
    pub fn record(&self, service: Service) -> Result<Bytes, Error> {
        let mut document = self.document();
        let whole = encode(&document)?;
        if service == Service::Sns && whole.len() > MAX_SNS_BYTES {
            document.request_payload = None;
            document.response_payload = None;
            return encode(&document);
        }
        Ok(whole)
    }

    fn document(&self) -> Document<'_> {
        let payload = self.response.and_then(|response| response.payload.as_ref());
        Document {
            version: "1.0",
            timestamp: self.at.to_string(),
            request_context: RequestContext {
                request_id: self.request_id,
                function_arn: self.function_arn,
                condition: self.condition.name(),
                approximate_invoke_count: self.count,
            },
            request_payload: Some(Json::of(self.request)),
            response_context: self.response.map(|response| ResponseContext {
                status_code: response.status,
                executed_version: response.executed_version.as_deref(),
                function_error: response.function_error.as_deref(),
            }),
            response_payload: payload.map(|payload| Json::of(payload)),
        }
    }

    /// What a dead letter says beside the event itself.
    pub fn dead_letter(&self) -> Purpose {
        let mut message = self.error_message();
        let mut end = MAX_ERROR_BYTES.min(message.len());
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        Purpose::DeadLetter {
            error_code: self.response.map(|response| response.status),
            error_message: message,
        }
    }

    fn error_message(&self) -> String {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            error_message: String,
        }
        let Some(response) = self.response else {
            return match self.condition {
                Condition::ZeroReservedConcurrency => {
                    "Function not invoked. Function is configured with zero reserved concurrent \
                     executions"
                }
                _ => "The event has exceeded its maximum age",
            }
            .to_owned();
        };
        if let Some(message) = &response.message {
            return message.clone();
        }
        let payload = response.payload.as_deref().unwrap_or_default();
        match serde_json::from_slice::<Answer>(payload) {
            Ok(answer) => answer.error_message,
            Err(_) => String::from_utf8_lossy(payload).into_owned(),
        }
    }
}

fn encode(document: &Document<'_>) -> Result<Bytes, Error> {
    serde_json::to_vec(document)
        .map(Bytes::from)
        .map_err(|_| Error::EventRecord)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome<'a>(request: &'a Bytes, response: Option<&'a Response>) -> Outcome<'a> {
        Outcome {
            at: Timestamp::from_millis(1_573_755_365_568),
            request_id: "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            function_arn: "arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST",
            condition: Condition::RetriesExhausted,
            count: 3,
            request,
            response,
        }
    }

    fn failure() -> Response {
        Response {
            status: 200,
            executed_version: Some("$LATEST".into()),
            function_error: Some("Unhandled".into()),
            payload: Some(Bytes::from_static(
                br#"{"errorMessage": "RequestId: e4b46cbf Process exited before completing request"}"#,
            )),
            message: None,
        }
    }

    /// The example of AWS's guide.
    #[test]
    fn a_record_has_awss_form() {
        let request = Bytes::from_static(br#"{"ORDER_IDS": ["9e07af03"]}"#);
        let failure = failure();
        let record = outcome(&request, Some(&failure))
            .record(Service::Sqs)
            .unwrap();
        assert_eq!(
            std::str::from_utf8(&record).unwrap(),
            r#"{"version":"1.0","timestamp":"2019-11-14T18:16:05.568Z","requestContext":{"requestId":"e4b46cbf-b738-xmpl-8880-a18cdf61200e","functionArn":"arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"ORDER_IDS": ["9e07af03"]},"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage": "RequestId: e4b46cbf Process exited before completing request"}}"#
        );
    }

    #[test]
    fn an_event_that_never_ran_has_no_response() {
        let request = Bytes::from_static(b"{}");
        let record = outcome(&request, None).record(Service::Sqs).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert!(value.get("responseContext").is_none());
        assert!(value.get("responsePayload").is_none());
    }

    #[test]
    fn a_dead_letter_carries_the_functions_message_cut_at_a_character() {
        let request = Bytes::from_static(b"{}");
        let mut response = failure();
        let long = format!("{{\"errorMessage\": \"{}\"}}", "\u{e9}".repeat(600));
        response.payload = Some(long.into());
        response.payload = response.payload.map(|payload| {
            let text = String::from_utf8(payload.to_vec()).unwrap();
            text.replacen('\u{e9}', "x", 1).into()
        });
        let Purpose::DeadLetter {
            error_code,
            error_message,
        } = outcome(&request, Some(&response)).dead_letter()
        else {
            panic!("not a dead letter")
        };
        assert_eq!(error_code, Some(200));
        assert_eq!(error_message.len(), 1023);
        assert!(error_message.ends_with('\u{e9}'));
    }

    #[test]
    fn a_record_too_large_for_sns_goes_without_payloads() {
        let request = Bytes::from(format!("\"{}\"", "x".repeat(300 << 10)));
        let failure = failure();
        let outcome = outcome(&request, Some(&failure));
        assert!(outcome.record(Service::Sqs).unwrap().len() > 300 << 10);
        let record = outcome.record(Service::Sns).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert!(value.get("requestPayload").is_none());
        assert_eq!(value["responseContext"]["functionError"], "Unhandled");
    }
}
