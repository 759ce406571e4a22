//! Errors that every service can answer, which no interface lists.
//!
//! See <https://docs.aws.amazon.com/awssupport/latest/APIReference/CommonErrors.html>.

use crate::ErrorShape;

/// Values break the constraints of the interface.
pub static VALIDATION: ErrorShape = ErrorShape {
    query_code: Some("ValidationError"),
    ..ErrorShape::client("ValidationException", 400)
};

/// The body is not well formed, or a value has the wrong type.
pub static SERIALIZATION: ErrorShape = ErrorShape::client("SerializationException", 400);

/// No such operation.
pub static UNKNOWN_OPERATION: ErrorShape = ErrorShape::client("UnknownOperationException", 404);

/// The path exists, but not with this method.
pub static METHOD_NOT_ALLOWED: ErrorShape = ErrorShape::client("UnknownOperationException", 405);

/// The target header names no operation. The JSON protocols answer 400 here.
pub static UNKNOWN_TARGET: ErrorShape = ErrorShape::client("UnknownOperationException", 400);

/// A Query request names no operation.
pub static MISSING_ACTION: ErrorShape = ErrorShape {
    query_code: Some("MissingAction"),
    ..ErrorShape::client("MissingActionException", 400)
};

/// A Query request names an operation that the service does not have.
pub static INVALID_ACTION: ErrorShape = ErrorShape {
    query_code: Some("InvalidAction"),
    ..ErrorShape::client("InvalidActionException", 400)
};

/// AWS has the operation, but this server does not.
pub static NOT_IMPLEMENTED: ErrorShape = ErrorShape::server("NotImplementedException", 501);

/// The body is larger than the operation allows.
pub static REQUEST_ENTITY_TOO_LARGE: ErrorShape =
    ErrorShape::client("RequestEntityTooLargeException", 413);

/// The payload is larger than an invocation allows.
pub static REQUEST_TOO_LARGE: ErrorShape = ErrorShape::client("RequestTooLargeException", 413);

/// The service failed, and the client must not see why.
pub static INTERNAL_FAILURE: ErrorShape = ErrorShape::server("InternalFailure", 500);

/// The request carries no signature.
pub static MISSING_AUTHENTICATION_TOKEN: ErrorShape =
    ErrorShape::client("MissingAuthenticationTokenException", 403);

/// The signature cannot be read.
pub static INCOMPLETE_SIGNATURE: ErrorShape =
    ErrorShape::client("IncompleteSignatureException", 400);

/// The signature is wrong, or too old.
pub static INVALID_SIGNATURE: ErrorShape = ErrorShape::client("InvalidSignatureException", 403);

/// The access key or session token is not known.
pub static UNRECOGNIZED_CLIENT: ErrorShape = ErrorShape::client("UnrecognizedClientException", 403);

/// The session has ended.
pub static EXPIRED_TOKEN: ErrorShape = ErrorShape::client("ExpiredTokenException", 403);

/// The caller may not do this.
pub static ACCESS_DENIED: ErrorShape = ErrorShape::client("AccessDeniedException", 403);

/// Too many requests.
pub static THROTTLING: ErrorShape = ErrorShape::client("ThrottlingException", 400);

/// The service cannot answer now.
pub static SERVICE_UNAVAILABLE: ErrorShape = ErrorShape::server("ServiceUnavailable", 503);
