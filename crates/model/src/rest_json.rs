//! The restJson1 protocol: answers and requests around what [`crate::rest`] binds.
//!
//! See <https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, response};

use crate::event_stream::{self, Event, EventStream};
use crate::json::{self, FromJson, Reader};
use crate::rest::{self, Text};
use crate::{Blob, WireError};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A success with a JSON body.
pub(crate) fn response(status: u16, body: Bytes) -> Response<Bytes> {
    let mut response = with_status(status, body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A success whose body is a blob. Lambda, the one service with such outputs here, calls it JSON.
pub(crate) fn payload(status: u16, payload: Option<Blob>) -> Response<Bytes> {
    let body = payload
        .and_then(|payload| payload.decode().ok())
        .unwrap_or_default();
    response(status, body)
}

/// A success whose body is a stream of events.
pub(crate) fn events<E: Event>(status: u16, events: EventStream<E>) -> Response<EventStream<E>> {
    let mut response = Response::new(events);
    *response.status_mut() = status_code(status);
    let content_type = HeaderValue::from_static(event_stream::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Reads the events of a success.
pub(crate) fn read_events<E: Event>(
    response: &response::Parts,
    body: Bytes,
) -> Result<EventStream<E>, WireError> {
    EventStream::from_body(body).map_err(|error| unreadable(response, &error.to_string()))
}

/// A success without a body.
pub(crate) fn empty(status: u16) -> Response<Bytes> {
    with_status(status, Bytes::new())
}

/// The status that an output asks for, or the interface's.
pub(crate) fn status(asked: Option<i32>, default: u16) -> u16 {
    asked
        .and_then(|status| u16::try_from(status).ok())
        .unwrap_or(default)
}

fn with_status(status: u16, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status_code(status);
    response
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A request with a JSON body.
pub(crate) fn request(method: &'static str, uri: String, body: Bytes) -> Request<Bytes> {
    let mut request = empty_request(method, uri);
    request.headers_mut().insert(CONTENT_TYPE, JSON);
    *request.body_mut() = body;
    request
}

/// A request whose body is a blob.
pub(crate) fn payload_request(
    method: &'static str,
    uri: String,
    payload: Option<&Blob>,
) -> Request<Bytes> {
    let mut request = empty_request(method, uri);
    request.headers_mut().insert(CONTENT_TYPE, OCTETS);
    *request.body_mut() = payload
        .and_then(|payload| payload.decode().ok())
        .unwrap_or_default();
    request
}

/// A request without a body.
pub(crate) fn empty_request(method: &'static str, uri: String) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    // All labels and values are percent-encoded, so that the text is always a valid URI.
    *request.uri_mut() = uri.parse().unwrap_or_default();
    request
}

/// Turns an error answer into a [`WireError`].
pub(crate) fn check_status(response: &response::Parts, body: &Bytes) -> Result<(), WireError> {
    if response.status.is_success() {
        Ok(())
    } else {
        Err(error(response, body))
    }
}

/// The error's name is in a header or in the body, sometimes with a namespace before it
/// (`com.amazonaws.sqs#`) or a URI after it (`:http://`).
fn error(response: &response::Parts, body: &Bytes) -> WireError {
    let mut members = Reader::new(body).strings().unwrap_or_default();
    let header = response
        .headers
        .get("x-amzn-errortype")
        .and_then(|value| value.to_str().ok());
    let named = header
        .map(str::to_owned)
        .or_else(|| members.remove("__type"))
        .or_else(|| members.remove("code"))
        .unwrap_or_default();
    let code = named
        .split(':')
        .next()
        .unwrap_or_default()
        .rsplit('#')
        .next()
        .unwrap_or_default();
    let message = members
        .remove("message")
        .or_else(|| members.remove("Message"));
    WireError {
        status: response.status.as_u16(),
        code: code.to_owned(),
        message: message.unwrap_or_default(),
    }
}

/// Reads the body of a success.
pub(crate) fn body<T: FromJson + Default>(
    response: &response::Parts,
    body: &Bytes,
) -> Result<T, WireError> {
    let read = json::from_body(body);
    read.map(|(value, _)| value)
        .map_err(|error| unreadable(response, &error.to_string()))
}

/// Reads a header of a success.
pub(crate) fn header<T: Text>(
    response: &response::Parts,
    name: &'static str,
) -> Result<Option<T>, WireError> {
    rest::header(&response.headers, name).map_err(|error| unreadable(response, &error.to_string()))
}

fn unreadable(response: &response::Parts, message: &str) -> WireError {
    WireError {
        status: response.status.as_u16(),
        code: "UnreadableAnswer".to_owned(),
        message: message.to_owned(),
    }
}
