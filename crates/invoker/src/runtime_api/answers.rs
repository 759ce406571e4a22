//! Status codes and bodies as AWS's supervisor sends them.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::event::Event;
use super::exchange::Refusal;

pub(crate) type Reply = Response<Full<Bytes>>;

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "errorMessage")]
    message: &'a str,
    #[serde(rename = "errorType")]
    error_type: &'a str,
}

pub(super) fn event(event: &Event) -> Reply {
    let mut reply = Response::new(Full::new(event.invocation.payload.clone()));
    *reply.headers_mut() = event.headers();
    reply
}

pub(crate) fn accepted() -> Reply {
    json(
        StatusCode::ACCEPTED,
        Bytes::from_static(b"{\"status\":\"OK\"}\n"),
    )
}

/// The answer to `restore/next`: nothing but that it is here.
pub(super) fn go() -> Reply {
    Response::new(Full::default())
}

/// No priming event is left.
pub(super) fn no_content() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

pub(super) fn credentials(body: Bytes) -> Reply {
    json(StatusCode::OK, body)
}

pub(super) fn no_credentials() -> Reply {
    plain(
        StatusCode::NOT_FOUND,
        "cannot get credentials for the provided token\n",
    )
}

pub(super) fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::UnknownRequest => error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
        Refusal::Transition(from, to) => error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            &format!(
                "Transition from {from} to {to} failed for runtime. \
                 Error: State transition is not allowed"
            ),
        ),
    }
}

pub(super) fn too_large(limit: usize) -> Reply {
    error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        &format!("Exceeded maximum allowed payload size ({limit} bytes)."),
    )
}

pub(super) fn truncated() -> Reply {
    error(
        StatusCode::BAD_REQUEST,
        "TruncatedHTTPRequest",
        "HTTP request detected as truncated",
    )
}

pub(super) fn invalid_response_mode() -> Reply {
    error(
        StatusCode::BAD_REQUEST,
        "InvalidFunctionResponseMode",
        "Invalid function response mode",
    )
}

/// A refusal by the APIs of extensions.
pub(crate) fn forbidden(error_type: &str, message: &str) -> Reply {
    error(StatusCode::FORBIDDEN, error_type, message)
}

pub(super) fn not_found() -> Reply {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

pub(super) fn method_not_allowed() -> Reply {
    plain(StatusCode::METHOD_NOT_ALLOWED, "")
}

pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Reply {
    // Two strings always serialise.
    let body = serde_json::to_vec(&ErrorBody {
        message,
        error_type,
    })
    .unwrap_or_default();
    json(status, body.into())
}

pub(crate) fn json(status: StatusCode, body: Bytes) -> Reply {
    reply(status, "application/json", body)
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    reply(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
