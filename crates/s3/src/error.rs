//! What goes wrong, with AWS's codes and texts.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::io;
use std::path::{Path, PathBuf};

use s3s::{S3Error, S3ErrorCode};

/// Why a request is refused, or what failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("The specified bucket does not exist")]
    NoSuchBucket,
    #[error("The specified key does not exist.")]
    NoSuchKey,
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )]
    NoSuchUpload,
    #[error(
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
    )]
    BucketAlreadyExists,
    #[error("Your previous request to create the named bucket succeeded and you already own it.")]
    BucketAlreadyOwnedByYou,
    #[error("The bucket you tried to delete is not empty")]
    BucketNotEmpty,
    #[error("You have attempted to create more buckets than allowed")]
    TooManyBuckets,
    #[error("The specified bucket is not valid.")]
    InvalidBucketName,
    #[error("The specified location-constraint is not valid")]
    InvalidLocationConstraint,
    #[error("Your key is too long")]
    KeyTooLong,
    #[error("Access Denied")]
    AccessDenied,
    #[error("Request has expired")]
    Expired,
    #[error("{0}")]
    InvalidArgument(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    InvalidTag(&'static str),
    #[error("The Content-MD5 you specified was invalid.")]
    InvalidDigest,
    #[error("The {0} you specified did not match the calculated checksum.")]
    BadDigest(&'static str),
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    PayloadHash,
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    IncompleteBody,
    #[error("The request's body is not framed as its headers say: {0}")]
    MalformedChunks(&'static str),
    /// What is wrong with how the request is signed.
    #[error("{message}")]
    Unsigned { code: &'static str, message: String },
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )]
    SignatureDoesNotMatch,
    #[error("You must provide the Content-Length HTTP header.")]
    MissingContentLength,
    #[error(
        "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."
    )]
    RequestTimeout,
    #[error("Your proposed upload exceeds the maximum allowed size")]
    EntityTooLarge,
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    EntityTooSmall,
    #[error("Your metadata headers exceed the maximum allowed metadata size")]
    MetadataTooLarge,
    #[error(
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    )]
    InvalidPart,
    #[error("The list of parts was not in ascending order. Parts must be ordered by part number.")]
    InvalidPartOrder,
    #[error("The requested partnumber is not satisfiable")]
    InvalidPartNumber,
    #[error("The requested range is not satisfiable")]
    InvalidRange { size: u64 },
    #[error("At least one of the pre-conditions you specified did not hold")]
    PreconditionFailed,
    /// An answer, not a failure; carries what the answer's head needs.
    #[error("Not Modified")]
    NotModified { etag: String },
    #[error(
        "A conflicting conditional operation is currently in progress against this resource. Please try again."
    )]
    OperationAborted,
    #[error("{0}")]
    MalformedPolicy(String),
    #[error(
        "The XML you provided was not well-formed or did not validate against our published schema"
    )]
    MalformedXml,
    /// What a bucket or object has not got until somebody puts it there.
    #[error("{message}")]
    NotConfigured {
        code: &'static str,
        message: &'static str,
    },
    #[error("The bucket does not allow ACLs")]
    AclNotSupported,
    #[error("The storage class you specified is not valid")]
    InvalidStorageClass,
    #[error("firn's S3 does not support {0}")]
    NotSupported(&'static str),
    #[error("Please reduce your request rate.")]
    SlowDown(#[source] store::Error),
    #[error("We encountered an internal error. Please try again.")]
    Store(#[source] store::Error),
    #[error("We encountered an internal error. Please try again.")]
    Damaged(String),
    #[error("We encountered an internal error. Please try again.")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The client's body broke off.
    #[error("The request's body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server stops.
    #[error("Please reduce your request rate.")]
    Stopping,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::InvalidRequest(message.into())
    }

    /// The code as AWS has it, such as `NoSuchKey`.
    pub fn code(&self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> u16 {
        self.facts().1
    }

    fn facts(&self) -> (&'static str, u16) {
        match self {
            Self::NoSuchBucket => ("NoSuchBucket", 404),
            Self::NoSuchKey => ("NoSuchKey", 404),
            Self::NoSuchUpload => ("NoSuchUpload", 404),
            Self::BucketAlreadyExists => ("BucketAlreadyExists", 409),
            Self::BucketAlreadyOwnedByYou => ("BucketAlreadyOwnedByYou", 409),
            Self::BucketNotEmpty => ("BucketNotEmpty", 409),
            Self::TooManyBuckets => ("TooManyBuckets", 400),
            Self::InvalidBucketName => ("InvalidBucketName", 400),
            Self::InvalidLocationConstraint => ("InvalidLocationConstraint", 400),
            Self::KeyTooLong => ("KeyTooLongError", 400),
            Self::AccessDenied | Self::Expired => ("AccessDenied", 403),
            Self::InvalidArgument(_) => ("InvalidArgument", 400),
            Self::InvalidRequest(_) => ("InvalidRequest", 400),
            Self::InvalidTag(_) => ("InvalidTag", 400),
            Self::InvalidDigest => ("InvalidDigest", 400),
            Self::BadDigest(_) => ("BadDigest", 400),
            Self::PayloadHash => ("XAmzContentSHA256Mismatch", 400),
            Self::IncompleteBody | Self::MalformedChunks(_) | Self::Body(_) => {
                ("IncompleteBody", 400)
            }
            Self::Unsigned { code, .. } => match *code {
                "AuthorizationHeaderMalformed" | "ExpiredToken" => (code, 400),
                _ => (code, 403),
            },
            Self::SignatureDoesNotMatch => ("SignatureDoesNotMatch", 403),
            Self::MissingContentLength => ("MissingContentLength", 411),
            Self::RequestTimeout => ("RequestTimeout", 400),
            Self::EntityTooLarge => ("EntityTooLarge", 400),
            Self::EntityTooSmall => ("EntityTooSmall", 400),
            Self::MetadataTooLarge => ("MetadataTooLarge", 400),
            Self::InvalidPart => ("InvalidPart", 400),
            Self::InvalidPartOrder => ("InvalidPartOrder", 400),
            Self::InvalidPartNumber => ("InvalidPartNumber", 416),
            Self::InvalidRange { .. } => ("InvalidRange", 416),
            Self::PreconditionFailed => ("PreconditionFailed", 412),
            Self::NotModified { .. } => ("NotModified", 304),
            Self::OperationAborted => ("OperationAborted", 409),
            Self::MalformedPolicy(_) => ("MalformedPolicy", 400),
            Self::MalformedXml => ("MalformedXML", 400),
            Self::NotConfigured { code, .. } => (code, 404),
            Self::AclNotSupported => ("AccessControlListNotSupported", 400),
            Self::InvalidStorageClass => ("InvalidStorageClass", 400),
            Self::NotSupported(_) => ("NotImplemented", 501),
            Self::SlowDown(_) | Self::Stopping => ("SlowDown", 503),
            Self::Store(_) | Self::Damaged(_) | Self::Io { .. } => ("InternalError", 500),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Overloaded { .. } => Self::SlowDown(error),
            error => Self::Store(error),
        }
    }
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let (code, status) = error.facts();
        let cause = &error as &dyn std::error::Error;
        match &error {
            Error::NotSupported(_) => tracing::warn!(error = cause, "refused"),
            _ if status >= 500 => tracing::error!(error = cause, "failed"),
            _ => tracing::debug!(error = cause, "refused"),
        }
        let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
        let mut wire = Self::with_message(code, error.to_string());
        if let Ok(status) = http::StatusCode::from_u16(status) {
            wire.set_status_code(status);
        }
        if let Error::NotModified { etag } = &error {
            let mut headers = http::HeaderMap::new();
            if let Ok(etag) = format!("\"{etag}\"").parse() {
                headers.insert(http::header::ETAG, etag);
            }
            wire.set_headers(headers);
        }
        if let Error::InvalidRange { size } = &error {
            let mut headers = http::HeaderMap::new();
            if let Ok(range) = format!("bytes */{size}").parse() {
                headers.insert(http::header::CONTENT_RANGE, range);
            }
            wire.set_headers(headers);
        }
        wire
    }
}
