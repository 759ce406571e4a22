//! What generated code says about services and operations.

use bytes::Bytes;
use http::{Method, request, response};

use crate::rpc::SMITHY_PROTOCOL;
use crate::{DecodeError, ErrorShape, WireError};

/// How a service's requests and answers are laid out in HTTP messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Resources as paths, members in path, query, headers and a JSON body.
    RestJson1,
    /// `POST /` with a target header and a JSON body.
    AwsJson1_0,
    /// As 1.0, with another content type and error format.
    AwsJson1_1,
    /// `POST /service/S/operation/O` with a CBOR body.
    RpcV2Cbor,
    /// `POST /` with a form as body, answered with XML.
    AwsQuery,
}

impl Protocol {
    /// The content type of this protocol's answers.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::RestJson1 => "application/json",
            Self::AwsJson1_0 => "application/x-amz-json-1.0",
            Self::AwsJson1_1 => "application/x-amz-json-1.1",
            Self::RpcV2Cbor => "application/cbor",
            Self::AwsQuery => "text/xml",
        }
    }
}

/// What the layout of an answer depends on, besides the output.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    /// The protocol of the request.
    pub protocol: Protocol,
    /// Some protocols repeat it in the body.
    pub request_id: &'a str,
}

/// An AWS service: how it is addressed, and every operation it has, served by firn or not.
#[derive(Debug)]
pub struct ServiceModel {
    /// The service's folder in the public descriptions, such as `lambda`.
    pub name: &'static str,
    /// The service's version, a date.
    pub api_version: &'static str,
    /// The wire protocol, or the one to speak with clients of ours where there are several.
    pub protocol: Protocol,
    /// All wire protocols.
    pub protocols: &'static [Protocol],
    /// The namespace of XML answers; empty for services that have none.
    pub xml_namespace: &'static str,
    /// The service's name in a signature's credential scope.
    pub signing_name: &'static str,
    /// The first label of the service's host names.
    pub endpoint_prefix: &'static str,
    /// What stands before the operation in `X-Amz-Target`; empty for REST services.
    pub target_prefix: &'static str,
    /// All operations, sorted by name.
    pub operations: &'static [OperationBinding],
    /// The error for a request that breaks constraints.
    pub validation_error: &'static ErrorShape,
    /// The error for faults whose cause the client must not see.
    pub internal_error: &'static ErrorShape,
}

impl ServiceModel {
    /// The protocol that a request to this service speaks.
    pub fn protocol_of(&self, request: &request::Parts) -> Protocol {
        let speaks = |protocol| self.protocols.contains(&protocol);
        let (name, value) = SMITHY_PROTOCOL;
        let is_cbor = (request.headers.get(name)).is_some_and(|found| found == value);
        if is_cbor && speaks(Protocol::RpcV2Cbor) {
            Protocol::RpcV2Cbor
        } else if request.headers.contains_key("x-amz-target") || !speaks(Protocol::AwsQuery) {
            self.protocol
        } else {
            Protocol::AwsQuery
        }
    }

    /// The index of the operation called `name` in [`ServiceModel::operations`].
    pub fn operation_index(&self, name: &str) -> Option<usize> {
        self.operations
            .binary_search_by(|operation| operation.name.cmp(name))
            .ok()
    }
}

/// Where an operation is found and how large its request may be.
#[derive(Debug)]
pub struct OperationBinding {
    /// The operation's name.
    pub name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path with labels such as `{FunctionName}` or `{Key+}`, and fixed query parameters.
    pub uri: &'static str,
    /// The HTTP status of a success.
    pub status: u16,
    /// Larger bodies are refused before they are read.
    pub max_body_bytes: u64,
    /// How a body beyond the limit is answered.
    pub oversized: OversizedBody,
    /// True if the operation is in `models/operations.toml`, so that its types exist.
    pub generated: bool,
}

/// The error for a body beyond an operation's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OversizedBody {
    /// `RequestEntityTooLargeException`, which names the operation.
    Entity,
    /// `RequestTooLargeException`, which names the payload's size, as Lambda's Invoke has it.
    Payload,
}

/// One operation, as a type: `model::lambda::operation::CreateFunction`.
pub trait Operation: Send + Sync + 'static {
    /// The operation's name.
    const NAME: &'static str;
    /// The service it belongs to.
    const SERVICE: &'static ServiceModel;
    /// The errors its interface lists.
    const ERRORS: &'static [&'static ErrorShape];
    /// True if clients may compress the body.
    const COMPRESSIBLE: bool = false;
    /// What a caller sends.
    type Input: OperationInput<Operation = Self> + Send + 'static;
    /// What a success answers.
    type Output: Send + 'static;
    /// What its body is made of: bytes, or a stream of events.
    type Body: Send + 'static;

    /// Reads the input from a request and checks its constraints. A body that the interface
    /// carries as it is (Invoke's payload) is shared, not copied.
    fn decode(request: &request::Parts, body: Bytes) -> Result<Self::Input, DecodeError>;

    /// As [`Operation::decode`], for a service that speaks several protocols.
    fn decode_in(
        _: Protocol,
        request: &request::Parts,
        body: Bytes,
    ) -> Result<Self::Input, DecodeError> {
        Self::decode(request, body)
    }

    /// Lays out a success.
    fn encode(output: Self::Output) -> http::Response<Self::Body>;

    /// As [`Operation::encode`], for a service that speaks several protocols.
    fn encode_in(_: &Answering<'_>, output: Self::Output) -> http::Response<Self::Body> {
        Self::encode(output)
    }

    /// Lays out a request; the URI has path and query only. For clients.
    fn encode_input(input: &Self::Input) -> http::Request<Bytes>;

    /// Reads a success or an error answer. For clients.
    fn decode_output(response: &response::Parts, body: Bytes) -> Result<Self::Output, WireError>;
}

/// Leads from an input's type to its operation. Every operation has its own input type.
pub trait OperationInput: Sized {
    /// The operation that takes this input.
    type Operation: Operation<Input = Self>;
}
