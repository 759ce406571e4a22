//! From an answer to what a workflow sees.

use clock::Timestamp;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value};

use super::{rest, time, xml};
use crate::catalog::{Entry, Interface, Operation, Protocol, Shape};

/// How answers look: AWS calls some services through version 1 of its SDK for Java, others, and all
/// of `aws-sdk`, through version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Times are milliseconds since the epoch.
    One,
    /// Times are texts.
    Two,
}

/// What a service answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub output: Map<String, Value>,
}

/// What a service refused a request with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub status: StatusCode,
    /// As the wire has it, without a namespace.
    pub code: String,
    /// The name of the shape, where that is told beside a code of another time.
    pub shape: Option<String>,
    pub message: Option<String>,
    pub request_id: String,
    /// S3 has a second one.
    pub extended_request_id: Option<String>,
}

/// Reads shapes out of answers.
pub struct Reader<'a> {
    pub interface: &'a Interface,
    pub style: Style,
}

impl Style {
    pub fn time(self, moment: Timestamp) -> Value {
        match self {
            Self::One => moment.as_millis().into(),
            Self::Two => time::iso(moment).into(),
        }
    }
}

/// Reads the answer to a call.
pub fn read(
    entry: &'static Entry,
    operation: &Operation,
    style: Style,
    response: &Response<bytes::Bytes>,
) -> Result<Answer, Box<Rejected>> {
    let (status, headers, body) = (response.status(), response.headers(), response.body());
    if !status.is_success() && status != StatusCode::NOT_MODIFIED {
        return Err(Box::new(rejected(entry, status, headers, body)));
    }
    let output = (entry.interface().zip(operation.output)).map(|(interface, id)| {
        let reader = Reader { interface, style };
        let shape = interface.shape(id);
        reader.output(entry.names.protocol, operation, (id, shape), response)
    });
    Ok(Answer {
        output: output.unwrap_or_default(),
    })
}

impl Reader<'_> {
    fn output(
        &self,
        protocol: Protocol,
        operation: &Operation,
        (id, shape): (crate::catalog::ShapeId, &Shape),
        response: &Response<bytes::Bytes>,
    ) -> Map<String, Value> {
        let body = response.body();
        match protocol {
            Protocol::Json => {
                let value = serde_json::from_slice(body).unwrap_or(Value::Null);
                object(self.json(id, value, None, false))
            }
            Protocol::Query | Protocol::Ec2 => {
                let document = xml::parse(body).unwrap_or_default();
                let wrapped = operation.wrapper.as_deref();
                let element = wrapped.and_then(|name| document.child(name));
                self.xml_members(shape, element.unwrap_or(&document))
            }
            Protocol::RestJson | Protocol::RestXml => {
                let mut made = Map::new();
                self.headers(shape, response.status(), response.headers(), &mut made);
                let xml = protocol == Protocol::RestXml;
                if let Some(payload) = &shape.payload {
                    let member = shape.members.iter().find(|member| member.name == *payload);
                    let value = member.and_then(|member| {
                        rest::payload(self, member, body, xml).map(|value| (member, value))
                    });
                    if let Some((member, value)) = value {
                        made.insert(member.shown(), value);
                    }
                } else if xml {
                    let document = xml::parse(body).unwrap_or_default();
                    made.extend(self.xml_members(shape, &document));
                } else if !body.is_empty() {
                    let value = serde_json::from_slice(body).unwrap_or(Value::Null);
                    made.extend(object(self.json(id, value, None, true)));
                }
                made
            }
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn rejected(entry: &Entry, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Rejected {
    let mut rejected = match entry.names.protocol {
        Protocol::Json | Protocol::RestJson => of_json(headers, body),
        Protocol::Query | Protocol::Ec2 | Protocol::RestXml => of_xml(body),
    };
    rejected.status = status;
    let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    if rejected.request_id.is_empty() {
        rejected.request_id = header("x-amzn-requestid")
            .or_else(|| header("x-amz-request-id"))
            .unwrap_or_default();
    }
    rejected.extended_request_id = header("x-amz-id-2");
    // Services that once spoke Query have codes of that time.
    if entry.names.query_compatible
        && let Some(code) = header("x-amzn-query-error")
    {
        let code = code.split(';').next().unwrap_or_default().to_owned();
        rejected.shape = Some(std::mem::replace(&mut rejected.code, code));
    }
    if rejected.code.is_empty() {
        // HEAD requests have no body, and proxies have bodies of their own.
        let reason = status.canonical_reason().unwrap_or_default();
        rejected.code = if status.is_server_error() || status == StatusCode::NOT_FOUND {
            reason.chars().filter(|letter| *letter != ' ').collect()
        } else {
            status.as_u16().to_string()
        };
    }
    rejected
}

fn of_json(headers: &HeaderMap, body: &[u8]) -> Rejected {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let header = headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok());
    let code = header
        .or_else(|| text("__type"))
        .or_else(|| text("code"))
        .unwrap_or_default();
    // `com.amazonaws.dynamodb.v20120810#ResourceNotFoundException:http://...`
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    let message = ["message", "Message", "errorMessage"]
        .into_iter()
        .find_map(text);
    Rejected::new(code, message)
}

fn of_xml(body: &[u8]) -> Rejected {
    let Some(document) = xml::parse(body) else {
        return Rejected::new("", None);
    };
    // `ErrorResponse/Error`, `Response/Errors/Error`, or the error alone.
    let errors = document.child("Errors");
    let error = errors.unwrap_or(&document).child("Error");
    let error = error.unwrap_or(&document);
    let code = error.child_text("Code").unwrap_or_default();
    let mut rejected = Rejected::new(code, error.child_text("Message"));
    let id = ["RequestId", "RequestID"]
        .into_iter()
        .find_map(|name| document.child_text(name).or_else(|| error.child_text(name)));
    rejected.request_id = id.unwrap_or_default().to_owned();
    rejected
}

impl Rejected {
    fn new(code: &str, message: Option<&str>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: code.to_owned(),
            shape: None,
            message: message.map(str::to_owned),
            request_id: String::new(),
            extended_request_id: None,
        }
    }
}
