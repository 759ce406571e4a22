//! Answers of the URL itself, when the function gives none.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use model::common_error;
use model::lambda::{SERVICE, error};
use protocol::{ApiError, Body};
use serde_json::{Value, json};

use crate::error::Error;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORBIDDEN: &str = "Forbidden. For troubleshooting Function URL authorization issues, see: \
    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";

/// Who asks may not, or there is no such URL: which of the two is not told.
pub fn forbidden() -> Response<Body> {
    let message = json!({ "Message": FORBIDDEN });
    with_type(StatusCode::FORBIDDEN, "AccessDeniedException", &message)
}

/// The signature is none that counts.
pub fn unsigned(cause: &ApiError) -> Response<Body> {
    let message = json!({ "Message": cause.message() });
    with_type(StatusCode::FORBIDDEN, cause.shape(None).code, &message)
}

/// The request, or the event that it makes, is larger than an invocation may be.
pub fn too_large() -> Response<Body> {
    let limit = super::MAX_BODY_BYTES;
    let text =
        format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
    let code = "RequestEntityTooLargeException";
    with_type(
        StatusCode::PAYLOAD_TOO_LARGE,
        code,
        &json!({ "Message": text }),
    )
}

/// The function failed, or answered what is no HTTP response.
pub fn bad_gateway() -> Response<Body> {
    let mut response = Response::new(Body::from(bytes::Bytes::from_static(
        b"Internal Server Error",
    )));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The function was not run. Callers are told of throttling as API clients are; what else stands
/// in the way is the operator's business.
pub fn not_run(cause: Error, request_id: &str) -> Response<Body> {
    let cause = ApiError::from(cause);
    let shape = cause.shape(Some(&SERVICE));
    if shape == &error::TOO_MANY_REQUESTS {
        return cause.to_response(Some(&SERVICE), request_id);
    }
    if shape == &error::RESOURCE_NOT_FOUND || shape == &common_error::ACCESS_DENIED {
        return forbidden();
    }
    if cause.fault() == model::Fault::Server {
        tracing::error!(
            error = &cause as &dyn std::error::Error,
            "a function URL cannot run its function"
        );
    }
    bad_gateway()
}

fn with_type(status: StatusCode, code: &'static str, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes::Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ERROR_TYPE, HeaderValue::from_static(code));
    response
}
