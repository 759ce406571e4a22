use model::logs::error;
use protocol::ApiError;

use crate::filter::ParsePatternError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("The specified log group does not exist.")]
    GroupNotFound,
    #[error("The specified log stream does not exist.")]
    StreamNotFound,
    #[error("The specified log group already exists")]
    GroupExists,
    #[error("The specified log stream already exists")]
    StreamExists,
    /// A parameter that the service itself refuses, in AWS's words.
    #[error("{0}")]
    InvalidParameter(String),
    /// A combination of parameters that the service refuses, in AWS's words.
    #[error("{0}")]
    Validation(&'static str),
    #[error("The specified nextToken is invalid.")]
    InvalidToken,
    #[error("Invalid filter pattern: {0}")]
    Pattern(#[from] ParsePatternError),
    #[error("the store failed")]
    Store(#[source] store::Error),
    #[error("the stored {what} cannot be read")]
    Record { what: &'static str },
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::Store(source)
    }
}

impl From<Error> for ApiError {
    fn from(err: Error) -> Self {
        match err {
            Error::GroupNotFound | Error::StreamNotFound => {
                Self::new(&error::RESOURCE_NOT_FOUND, err.to_string())
            }
            Error::GroupExists | Error::StreamExists => {
                Self::new(&error::RESOURCE_ALREADY_EXISTS, err.to_string())
            }
            Error::InvalidParameter(_) | Error::InvalidToken | Error::Pattern(_) => {
                Self::new(&error::INVALID_PARAMETER, err.to_string())
            }
            Error::Validation(_) => Self::new(&error::VALIDATION, err.to_string()),
            // The disk does not keep up; the client is to try again.
            Error::Store(store::Error::Overloaded { .. }) => Self::new(
                &error::SERVICE_UNAVAILABLE,
                "The service cannot complete the request.",
            )
            .with_source(err),
            Error::Store(_) | Error::Record { .. } => Self::internal(err),
        }
    }
}
