//! What a failed operation answers.

use std::error::Error as StdError;
use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use model::json::{ToJson, Writer};
use model::rpc::SMITHY_PROTOCOL;
use model::{DecodeError, ErrorShape, Fault, Protocol, ServiceModel, common_error};

use crate::Body;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const INTERNAL_MESSAGE: &str = "An error occurred and the request cannot be processed.";

/// An error on its way to the client.
///
/// `Display` is for logs; what the client sees is [`ApiError::to_response`]. The two differ for
/// internal errors, whose cause stays here.
pub struct ApiError(Box<Inner>);

struct Inner {
    shape: Shape,
    message: String,
    members: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    untyped: bool,
    silent: bool,
}

/// How a text is written that is not there.
struct Null;

impl ToJson for Null {
    fn to_json(&self, writer: &mut Writer) {
        writer.raw("null");
    }
}

/// Some shapes depend on the service that answers, which is known only when the error is rendered.
#[derive(Clone, Copy)]
enum Shape {
    Known(&'static ErrorShape),
    Validation,
    Internal,
}

impl ApiError {
    /// An error that the interface lists, with the text for the client.
    pub fn new(shape: &'static ErrorShape, message: impl Into<String>) -> Self {
        Self::with_shape(Shape::Known(shape), message.into())
    }

    /// A fault of ours. The cause is kept for the log; the client sees the service's generic error.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let mut error = Self::with_shape(Shape::Internal, INTERNAL_MESSAGE.to_owned());
        error.0.source = Some(cause.into());
        error
    }

    fn with_shape(shape: Shape, message: String) -> Self {
        let (members, headers) = (Vec::new(), Vec::new());
        Self(Box::new(Inner {
            shape,
            message,
            members,
            headers,
            source: None,
            untyped: false,
            silent: false,
        }))
    }

    /// Leaves out the `Type` that the body of such an error has otherwise.
    #[must_use]
    pub fn without_type(mut self) -> Self {
        self.0.untyped = true;
        self
    }

    /// Answers `null` for the text in REST-JSON; the text stays for the log.
    #[must_use]
    pub fn without_message(mut self) -> Self {
        self.0.silent = true;
        self
    }

    /// Adds a member to the body. `Type` need not be added: it follows from the shape.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.members.push((name, value.into()));
        self
    }

    /// Adds a header, such as `Retry-After`. A value that no header can carry is left out.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Keeps what led to the error, for the log.
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Who is to blame, which decides the log level.
    pub fn fault(&self) -> Fault {
        match self.0.shape {
            Shape::Known(shape) => shape.fault,
            Shape::Validation => Fault::Client,
            Shape::Internal => Fault::Server,
        }
    }

    /// The shape with which `service` answers this error.
    pub fn shape(&self, service: Option<&ServiceModel>) -> &'static ErrorShape {
        match self.0.shape {
            Shape::Known(shape) => shape,
            Shape::Validation => service.map_or(&common_error::VALIDATION, |service| {
                service.validation_error
            }),
            Shape::Internal => service.map_or(&common_error::INTERNAL_FAILURE, |service| {
                service.internal_error
            }),
        }
    }

    /// The answer, in the protocol of `service`. Where no service was found, REST-JSON is used: its
    /// errors name the type in header and body, so that clients of all JSON protocols read them.
    pub fn to_response(&self, service: Option<&ServiceModel>, request_id: &str) -> Response<Body> {
        let protocol = service.map_or(Protocol::RestJson1, |service| service.protocol);
        self.to_response_in(protocol, service, request_id)
    }

    /// The answer in one of the protocols of `service`.
    pub fn to_response_in(
        &self,
        protocol: Protocol,
        service: Option<&ServiceModel>,
        request_id: &str,
    ) -> Response<Body> {
        let shape = self.shape(service);
        let body = match protocol {
            Protocol::RestJson1 | Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
                self.body(Writer::new(), shape, protocol, shape.code)
            }
            Protocol::RpcV2Cbor => {
                let service = service.map_or("firn", |service| service.name);
                let code = format!("com.amazonaws.{service}#{}", shape.code);
                self.body(Writer::cbor(), shape, protocol, &code)
            }
            Protocol::AwsQuery => self.query_body(shape, service, request_id),
        };
        let mut response = Response::new(body.into());
        *response.status_mut() =
            StatusCode::from_u16(shape.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(protocol.content_type()),
        );
        if protocol != Protocol::AwsQuery {
            headers.insert(ERROR_TYPE, HeaderValue::from_static(shape.code));
            if service.is_some_and(|service| service.protocols.contains(&Protocol::AwsQuery))
                && let Ok(error) = HeaderValue::from_str(&query_error(shape))
            {
                headers.insert(QUERY_ERROR, error);
            }
        }
        if protocol == Protocol::RpcV2Cbor {
            let (name, value) = SMITHY_PROTOCOL;
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, request_id);
        }
        for (name, value) in &self.0.headers {
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                headers.insert(name, value);
            }
        }
        response
    }

    fn query_body(
        &self,
        shape: &ErrorShape,
        service: Option<&ServiceModel>,
        request_id: &str,
    ) -> Bytes {
        let namespace = service.map_or("", |service| service.xml_namespace);
        let mut writer = Writer::xml();
        writer.raw(&format!("<ErrorResponse xmlns=\"{namespace}\"><Error>"));
        let mut object = writer.object();
        object.entry("Type", blamed(shape.fault));
        object.entry("Code", shape.query_code.unwrap_or(shape.code));
        object.entry("Message", &self.0.message);
        for (name, value) in &self.0.members {
            object.entry(name, value);
        }
        object.end();
        writer.raw("</Error>");
        let mut object = writer.object();
        object.entry("RequestId", request_id);
        object.end();
        writer.raw("</ErrorResponse>");
        writer.into_bytes()
    }

    fn body(
        &self,
        mut writer: Writer,
        shape: &ErrorShape,
        protocol: Protocol,
        code: &str,
    ) -> Bytes {
        let mut object = writer.object();
        if protocol != Protocol::RestJson1 {
            object.entry("__type", code);
        }
        let names_type = self.0.members.iter().any(|(name, _)| *name == "Type");
        if shape.typed && !names_type && !self.0.untyped {
            let blamed = if shape.fault == Fault::Client {
                "User"
            } else {
                "Service"
            };
            object.entry("Type", blamed);
        }
        for (name, value) in &self.0.members {
            object.entry(name, value);
        }
        if self.0.silent && protocol == Protocol::RestJson1 {
            object.entry(shape.message_key, &Null);
        } else {
            object.entry(shape.message_key, &self.0.message);
        }
        object.end();
        writer.into_bytes()
    }
}

/// How clients that once spoke Query know the error: its code there, and who is to blame.
fn query_error(shape: &ErrorShape) -> String {
    let code = shape.query_code.unwrap_or(shape.code);
    format!("{code};{}", blamed(shape.fault))
}

const fn blamed(fault: Fault) -> &'static str {
    match fault {
        Fault::Client => "Sender",
        Fault::Server => "Receiver",
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Serialization(message) => Self::new(&common_error::SERIALIZATION, message),
            DecodeError::Validation(message) => Self::with_shape(Shape::Validation, message),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.shape {
            Shape::Internal => f.write_str("internal error"),
            Shape::Validation => write!(f, "ValidationException: {}", self.0.message),
            Shape::Known(shape) => write!(f, "{}: {}", shape.code, self.0.message),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("error", &self.to_string())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}
