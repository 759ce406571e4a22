//! Why a change of a policy, or what a policy is asked about, is refused.

use model::common_error;
use model::lambda::error;
use protocol::ApiError;

use super::MAX_POLICY_BYTES;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "User: {principal} is not authorized to perform: {action} on resource: {resource} because \
         no resource-based policy allows the {action} action"
    )]
    NotAllowed {
        principal: String,
        action: String,
        resource: String,
    },
    #[error(
        "User: {principal} is not authorized to perform: {action} on resource: {resource} with an \
         explicit deny in a resource-based policy"
    )]
    Denied {
        principal: String,
        action: String,
        resource: String,
    },
    #[error("We currently do not support adding policies for $LATEST.")]
    Latest,
    #[error("The provided principal was invalid. Please check the principal and try again.")]
    Principal,
    #[error("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")]
    AuthTypeOfOtherAction,
    #[error(
        "The statement id ({id}) provided already exists. Please provide a new statement id, or \
         remove the existing statement."
    )]
    StatementExists { id: String },
    #[error("Statement {id} is not found in resource policy.")]
    StatementNotFound { id: String },
    #[error("No policy is associated with the given resource.")]
    NoPolicy,
    #[error("No policy found for: {arn}")]
    NoFunction { arn: String },
    #[error("The final policy size ({size}) is bigger than the limit ({MAX_POLICY_BYTES}).")]
    TooLong { size: usize },
    #[error("Each statement must name {arn} as its resource.")]
    OtherResource { arn: String },
    #[error(transparent)]
    Malformed(#[from] policy::ParseError),
}

impl From<PolicyError> for ApiError {
    fn from(err: PolicyError) -> Self {
        let message = err.to_string();
        let shape = match err {
            PolicyError::NotAllowed { .. } | PolicyError::Denied { .. } => {
                &common_error::ACCESS_DENIED
            }
            PolicyError::Latest
            | PolicyError::Principal
            | PolicyError::AuthTypeOfOtherAction
            | PolicyError::OtherResource { .. }
            | PolicyError::Malformed(_) => &error::INVALID_PARAMETER_VALUE,
            PolicyError::StatementExists { .. } => &error::RESOURCE_CONFLICT,
            PolicyError::StatementNotFound { .. }
            | PolicyError::NoPolicy
            | PolicyError::NoFunction { .. } => &error::RESOURCE_NOT_FOUND,
            PolicyError::TooLong { .. } => &error::POLICY_LENGTH_EXCEEDED,
        };
        Self::new(shape, message)
    }
}
