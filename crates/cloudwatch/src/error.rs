use model::cloudwatch::error;
use model::common_error;
use protocol::ApiError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that the service refuses, in AWS's words.
    #[error("{0}")]
    InvalidValue(String),
    /// Values that do not go together, in AWS's words.
    #[error("{0}")]
    InvalidCombination(String),
    #[error("The parameter {0} is required.")]
    Missing(String),
    #[error("The token is invalid.")]
    InvalidToken,
    /// A query that is wrong as a whole, such as an expression.
    #[error("{0}")]
    Validation(String),
    /// What AWS has and this server lacks.
    #[error("{0}")]
    NotSupported(String),
    #[error("The account has too many metrics.")]
    TooManyMetrics,
    #[error("Rate exceeded")]
    Overloaded,
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
            Error::InvalidValue(_) => Self::new(&error::INVALID_PARAMETER_VALUE, err.to_string()),
            Error::InvalidCombination(_) => {
                Self::new(&error::INVALID_PARAMETER_COMBINATION, err.to_string())
            }
            Error::Missing(_) => Self::new(&error::MISSING_REQUIRED_PARAMETER, err.to_string()),
            Error::InvalidToken => Self::new(&error::INVALID_NEXT_TOKEN, err.to_string()),
            Error::Validation(_) => Self::new(&common_error::VALIDATION, err.to_string()),
            Error::NotSupported(_) => Self::new(&common_error::NOT_IMPLEMENTED, err.to_string()),
            Error::TooManyMetrics | Error::Overloaded => {
                Self::new(&common_error::THROTTLING, err.to_string())
            }
            // The disk does not keep up; the client is to try again.
            Error::Store(store::Error::Overloaded { .. }) => {
                Self::new(&common_error::THROTTLING, "Rate exceeded").with_source(err)
            }
            Error::Store(_) | Error::Record { .. } => Self::internal(err),
        }
    }
}
