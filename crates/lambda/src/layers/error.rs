//! Refusals that only operations on layers know.

use model::lambda::error;
use protocol::ApiError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LayerError {
    #[error("Layer version {arn} does not exist.")]
    VersionNotFound { arn: String },
    #[error("No policy is associated with the given resource.")]
    NoPolicy,
    #[error("Statement {id} is not found in resource policy.")]
    StatementNotFound { id: String },
    #[error(
        "The statement id ({id}) provided already exists. Please provide a new statement id, or \
         remove the existing statement."
    )]
    StatementExists { id: String },
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy \
         API to retrieve the latest Revision Id"
    )]
    PolicyRevision,
    #[error("The final policy size ({size}) is bigger than the limit ({limit}).")]
    PolicyTooLong { size: usize, limit: usize },
}

impl From<LayerError> for ApiError {
    fn from(err: LayerError) -> Self {
        let message = err.to_string();
        let shape = match err {
            LayerError::VersionNotFound { .. }
            | LayerError::NoPolicy
            | LayerError::StatementNotFound { .. } => &error::RESOURCE_NOT_FOUND,
            LayerError::StatementExists { .. } => &error::RESOURCE_CONFLICT,
            LayerError::PolicyRevision => &error::PRECONDITION_FAILED,
            LayerError::PolicyTooLong { .. } => &error::POLICY_LENGTH_EXCEEDED,
        };
        Self::new(shape, message)
    }
}
