use model::common_error;
use model::stepfunctions::error;
use protocol::ApiError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the service, in AWS's words.
    #[error("{message}")]
    Refused {
        shape: &'static model::ErrorShape,
        message: String,
    },
    /// As [`Error::Refused`], for a `ValidationException` with its reason.
    #[error("{message}")]
    Validation {
        message: String,
        reason: Option<&'static str>,
    },
    /// What AWS has and this server lacks.
    #[error("firn does not support {0} yet")]
    NotSupported(&'static str),
    #[error("the store failed")]
    Store(#[source] store::Error),
    #[error("the stored {what} cannot be read")]
    Record {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The file of mocks is of no use; found when the service is opened.
    #[error(transparent)]
    Mocks(#[from] crate::mocks::MockFileError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl Error {
    pub(crate) fn refused(shape: &'static model::ErrorShape, message: impl Into<String>) -> Self {
        Self::Refused {
            shape,
            message: message.into(),
        }
    }

    /// A `ValidationException` without a reason.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation {
            message: message.into(),
            reason: None,
        }
    }
}

impl From<store::Error> for Error {
    fn from(source: store::Error) -> Self {
        Self::Store(source)
    }
}

impl From<Error> for ApiError {
    fn from(err: Error) -> Self {
        match err {
            Error::Refused { shape, message } => Self::new(shape, message),
            Error::Validation { message, reason } => {
                let refusal = Self::new(&error::VALIDATION, message);
                match reason {
                    Some(reason) => refusal.with_member("reason", reason),
                    None => refusal,
                }
            }
            Error::NotSupported(_) => Self::new(&common_error::NOT_IMPLEMENTED, err.to_string()),
            // The disk does not keep up; the client is to try again.
            Error::Store(store::Error::Overloaded { .. }) => {
                Self::new(&common_error::THROTTLING, "Rate exceeded").with_source(err)
            }
            Error::Store(_) | Error::Record { .. } | Error::Mocks(_) | Error::Stopping => {
                Self::internal(err)
            }
        }
    }
}
