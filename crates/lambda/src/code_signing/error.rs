//! Why an operation on a code signing configuration, or unsigned code, is refused.

use model::lambda::error;
use protocol::ApiError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CodeSigningError {
    #[error("The Lambda code signing configuration {arn} can not be found.")]
    NotFound { arn: String },
    #[error(
        "The code signing configuration cannot be found. Check that the provided configuration is \
         not deleted: {arn}."
    )]
    Gone { arn: String },
    #[error("The code signing configuration {arn} is attached to functions and cannot be deleted.")]
    InUse { arn: String },
    #[error(
        "Lambda cannot deploy the function. The function or layer might be signed using a \
         signature that the client is not configured to accept. Check the provided signature for \
         {arn}."
    )]
    Unsigned { arn: String },
}

impl From<CodeSigningError> for ApiError {
    fn from(err: CodeSigningError) -> Self {
        let message = err.to_string();
        match err {
            CodeSigningError::NotFound { .. } => {
                // The one answer of its kind that does not say who is to blame.
                Self::new(&error::RESOURCE_NOT_FOUND, message).without_type()
            }
            CodeSigningError::Gone { .. } => {
                Self::new(&error::CODE_SIGNING_CONFIG_NOT_FOUND, message)
            }
            CodeSigningError::InUse { .. } => Self::new(&error::RESOURCE_CONFLICT, message),
            CodeSigningError::Unsigned { .. } => {
                Self::new(&error::CODE_VERIFICATION_FAILED, message)
            }
        }
    }
}
