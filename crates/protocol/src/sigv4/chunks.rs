//! Signatures of the chunks of a body: each covers its chunk and the signature before.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>

use std::fmt;

use subtle::ConstantTimeEq;

use super::{Scope, hex_sha256, hmac, signing_key};

/// Checks the signatures of chunks, one after the other.
pub struct ChunkSigner {
    key: [u8; 32],
    timestamp: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    pub(super) fn new(scope: &Scope, timestamp: &str, secret: &str, seed: String) -> Self {
        Self {
            key: signing_key(scope, secret),
            timestamp: timestamp.to_owned(),
            scope: scope.to_string(),
            previous: seed,
        }
    }

    /// Whether `signature` is that of the next chunk, whose SHA-256 is `hash` in hexadecimal.
    pub fn check_chunk(&mut self, hash: &str, signature: &str) -> bool {
        let empty = hex_sha256(b"");
        self.check(
            "AWS4-HMAC-SHA256-PAYLOAD",
            &format!("{empty}\n{hash}"),
            signature,
        )
    }

    /// Whether `signature` is that of the trailers: a line for each, as `name:value`.
    pub fn check_trailers(&mut self, trailers: &str, signature: &str) -> bool {
        let hash = hex_sha256(trailers.as_bytes());
        self.check("AWS4-HMAC-SHA256-TRAILER", &hash, signature)
    }

    fn check(&mut self, algorithm: &str, hashes: &str, signature: &str) -> bool {
        let Self {
            key,
            timestamp,
            scope,
            previous,
        } = self;
        let to_sign = format!("{algorithm}\n{timestamp}\n{scope}\n{previous}\n{hashes}");
        let expected = hex::encode(hmac(key, to_sign.as_bytes()));
        let same = bool::from(expected.as_bytes().ct_eq(signature.as_bytes()));
        self.previous = expected;
        same
    }
}

// The key is as good as a password for a day.
impl fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSigner")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's documentation: 66,560 letters in two chunks and an empty one.
    #[test]
    fn chunks_of_the_example_are_accepted() {
        let scope = Scope {
            date: "20130524".into(),
            region: "us-east-1".into(),
            service: "s3".into(),
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        let signer = || ChunkSigner::new(&scope, "20130524T000000Z", secret, seed.into());
        let chunks = [
            (
                65_536,
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            ),
            (
                1_024,
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            ),
            (
                0,
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ),
        ];
        let mut right = signer();
        for (size, signature) in chunks {
            assert!(right.check_chunk(&hex_sha256(&vec![b'a'; size]), signature));
        }
        let mut wrong = signer();
        assert!(!wrong.check_chunk(&hex_sha256(&vec![b'b'; 65_536]), chunks[0].1));
    }
}
