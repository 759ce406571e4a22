use model::application_autoscaling::error;
use model::common_error;
use protocol::ApiError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the service refuses, in AWS's words.
    #[error("{0}")]
    Validation(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    ResourceNotFound(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("The NextToken is invalid.")]
    InvalidToken,
    /// What AWS has and this server lacks.
    #[error("firn does not support {0} yet")]
    NotSupported(&'static str),
    #[error("the store failed")]
    Store(#[source] store::Error),
    #[error("the stored {what} cannot be read")]
    Record { what: &'static str },
    /// Another service failed, which was asked on behalf of a client.
    #[error("cannot {action}")]
    Peer {
        action: &'static str,
        #[source]
        source: ApiError,
    },
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::Store(source)
    }
}

impl From<Error> for ApiError {
    fn from(err: Error) -> Self {
        let text = err.to_string();
        match err {
            Error::Validation(_) => Self::new(&error::VALIDATION, text),
            Error::NotFound(_) => Self::new(&error::OBJECT_NOT_FOUND, text),
            Error::ResourceNotFound(_) => Self::new(&error::RESOURCE_NOT_FOUND, text),
            Error::LimitExceeded(_) => Self::new(&error::LIMIT_EXCEEDED, text),
            Error::InvalidToken => Self::new(&error::INVALID_NEXT_TOKEN, text),
            Error::NotSupported(_) => Self::new(&common_error::NOT_IMPLEMENTED, text),
            // The disk does not keep up; the client is to try again.
            Error::Store(store::Error::Overloaded { .. }) => {
                Self::new(&common_error::THROTTLING, "Rate exceeded").with_source(err)
            }
            Error::Store(_) | Error::Record { .. } | Error::Peer { .. } => Self::internal(err),
        }
    }
}
