//! The awsJson protocols: `POST /`, the operation in `X-Amz-Target`, everything else in the body.
//!
//! See <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, response};

use crate::json::{self, FromJson, ToJson};
use crate::validation::{Validate, Validator};
use crate::{DecodeError, ServiceModel, WireError, rest_json};

pub(crate) fn decode<T>(body: &Bytes) -> Result<T, DecodeError>
where
    T: FromJson + Default + Validate,
{
    let (input, missing) = json::from_body::<T>(body)?;
    Validator::check(&input, missing)?;
    Ok(input)
}

pub(crate) fn encode<T: ToJson>(service: &ServiceModel, output: &T) -> Response<Bytes> {
    let mut response = Response::new(json::to_bytes(output));
    let content_type = HeaderValue::from_static(service.protocol.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An operation without an output answers an empty body, as the real services do.
pub(crate) fn encode_empty(service: &ServiceModel) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let content_type = HeaderValue::from_static(service.protocol.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(crate) fn encode_input<T: ToJson>(
    service: &ServiceModel,
    operation: &str,
    input: &T,
) -> Request<Bytes> {
    let mut request = Request::new(json::to_bytes(input));
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(service.protocol.content_type()),
    );
    if let Ok(target) = HeaderValue::try_from(format!("{}.{operation}", service.target_prefix)) {
        headers.insert("x-amz-target", target);
    }
    request
}

pub(crate) fn decode_output<T: FromJson + Default>(
    response: &response::Parts,
    body: &Bytes,
) -> Result<T, WireError> {
    rest_json::check_status(response, body)?;
    rest_json::body(response, body)
}
