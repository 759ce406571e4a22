use model::common_error;

use crate::ApiError;

/// Why a request's signature is not accepted. The texts are AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("Missing Authentication Token")]
    Missing,
    /// It cannot be read; the text says what is missing or wrong.
    #[error("{0}")]
    Incomplete(String),
    /// It is not the one the secret gives for this request.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// It was made too long ago, or for a time to come.
    #[error("{0}")]
    OutOfTime(String),
    /// No one has this access key or session token.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session is over.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let shape = match error {
            SignatureError::Missing => &common_error::MISSING_AUTHENTICATION_TOKEN,
            SignatureError::Incomplete(_) => &common_error::INCOMPLETE_SIGNATURE,
            SignatureError::Mismatch | SignatureError::OutOfTime(_) => {
                &common_error::INVALID_SIGNATURE
            }
            SignatureError::UnknownKey => &common_error::UNRECOGNIZED_CLIENT,
            SignatureError::ExpiredToken => &common_error::EXPIRED_TOKEN,
        };
        ApiError::new(shape, error.to_string())
    }
}
