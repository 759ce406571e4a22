//! Services that speak several protocols: the newer ones, and AWS Query for older clients.
//!
//! The members of all of them are the same, so that each format leads to and from what
//! [`crate::json`] reads and writes. See <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
//! and <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, request};

use crate::json::{self, FromJson, ToJson, Writer};
use crate::validation::{Validate, Validator};
use crate::{Answering, DecodeError, Protocol, ServiceModel, aws_json, cbor, form};

/// The header that names the protocol of a CBOR message, and its value.
pub const SMITHY_PROTOCOL: (&str, &str) = ("smithy-protocol", "rpc-v2-cbor");

pub(crate) fn decode<T>(
    protocol: Protocol,
    request: &request::Parts,
    body: &Bytes,
) -> Result<T, DecodeError>
where
    T: FromJson + Default + Validate,
{
    let (input, missing) = match protocol {
        Protocol::RpcV2Cbor => json::from_body::<T>(&cbor::to_json(body)?)?,
        Protocol::AwsQuery => json::from_text_body::<T>(&form::to_json(form(request, body))?)?,
        Protocol::RestJson1 | Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
            return aws_json::decode(body);
        }
    };
    Validator::check(&input, missing)?;
    Ok(input)
}

/// The form of a Query request: its body, or the query of one without a body.
pub fn form<'a>(request: &'a request::Parts, body: &'a Bytes) -> &'a [u8] {
    if body.is_empty() {
        request.uri.query().unwrap_or_default().as_bytes()
    } else {
        body
    }
}

pub(crate) fn encode<T: ToJson>(
    service: &ServiceModel,
    operation: &str,
    answering: &Answering<'_>,
    output: &T,
) -> Response<Bytes> {
    let mut writer = match answering.protocol {
        Protocol::RpcV2Cbor => {
            let mut writer = Writer::cbor();
            output.to_json(&mut writer);
            return response(answering.protocol, writer.into_bytes());
        }
        Protocol::RestJson1 | Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
            return aws_json::encode(service, output);
        }
        Protocol::AwsQuery => Writer::xml(),
    };
    query_response(&mut writer, service, operation, answering, |writer| {
        writer.element(&format!("{operation}Result"), |writer| {
            output.to_json(writer);
        });
    });
    response(answering.protocol, writer.into_bytes())
}

/// The answer of an operation without an output.
pub(crate) fn encode_empty(
    service: &ServiceModel,
    operation: &str,
    answering: &Answering<'_>,
) -> Response<Bytes> {
    match answering.protocol {
        Protocol::AwsQuery => {
            let mut writer = Writer::xml();
            query_response(&mut writer, service, operation, answering, |_| {});
            response(answering.protocol, writer.into_bytes())
        }
        Protocol::RpcV2Cbor => {
            let mut response = response(answering.protocol, Bytes::new());
            response.headers_mut().remove(CONTENT_TYPE);
            response
        }
        Protocol::RestJson1 | Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
            aws_json::encode_empty(service)
        }
    }
}

fn query_response(
    writer: &mut Writer,
    service: &ServiceModel,
    operation: &str,
    answering: &Answering<'_>,
    result: impl FnOnce(&mut Writer),
) {
    let namespace = service.xml_namespace;
    writer.raw(&format!("<{operation}Response xmlns=\"{namespace}\">"));
    result(writer);
    writer.element("ResponseMetadata", |writer| {
        writer.element("RequestId", |writer| writer.string(answering.request_id));
    });
    writer.raw(&format!("</{operation}Response>"));
}

fn response(protocol: Protocol, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static(protocol.content_type());
    headers.insert(CONTENT_TYPE, content_type);
    if protocol == Protocol::RpcV2Cbor {
        let (name, value) = SMITHY_PROTOCOL;
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
