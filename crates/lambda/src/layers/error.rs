//! Refusals that only operations on layers know.

use model::lambda::error;
use protocol::ApiError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LayerError {
    #[error("Layer version {arn} does not exist.")]
    VersionNotFound { arn: String },
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy \
         API to retrieve the latest Revision Id"
    )]
    PolicyRevision,
}

impl From<LayerError> for ApiError {
    fn from(err: LayerError) -> Self {
        let message = err.to_string();
        let shape = match err {
            LayerError::VersionNotFound { .. } => &error::RESOURCE_NOT_FOUND,
            LayerError::PolicyRevision => &error::PRECONDITION_FAILED,
        };
        Self::new(shape, message)
    }
}
