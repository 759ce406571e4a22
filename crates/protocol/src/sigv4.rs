//! AWS Signature Version 4, for headers and presigned queries.
//!
//! [`Authorization::parse`] reads what a request claims, [`Authorization::verify`] checks it against
//! the secret of its access key, [`sign`] makes such a request. Nothing here looks anything up or
//! reads a clock. Requests are signed as they travel: the path is encoded once more on top of its
//! wire form, except for S3, which signs the wire form itself.
//!
//! See <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

mod authorization;
mod canonical;
mod chunks;
mod date;
mod error;
mod sign;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub use authorization::{Authorization, Scope};
pub use chunks::ChunkSigner;
pub use error::SignatureError;
pub use sign::{Credentials, sign};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Clocks may differ by this much, as AWS has it.
const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// HMAC-SHA256 takes keys of any length.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    #[expect(
        clippy::expect_used,
        reason = "HMAC is defined for keys of every length"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The signature of a canonical request.
fn signature(canonical_request: &str, timestamp: &str, scope: &Scope, secret: &str) -> String {
    let digest = hex_sha256(canonical_request.as_bytes());
    let string_to_sign = format!("{ALGORITHM}\n{timestamp}\n{scope}\n{digest}");
    hex::encode(hmac(&signing_key(scope, secret), string_to_sign.as_bytes()))
}

fn signing_key(scope: &Scope, secret: &str) -> [u8; 32] {
    let key = hmac(format!("AWS4{secret}").as_bytes(), scope.date.as_bytes());
    let key = hmac(&key, scope.region.as_bytes());
    let key = hmac(&key, scope.service.as_bytes());
    hmac(&key, TERMINATOR.as_bytes())
}
