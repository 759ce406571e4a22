//! Links to code packages, as `GetFunction` gives them out.
//!
//! AWS answers with a presigned S3 URL that is good for ten minutes. firn answers with a URL of its
//! own: the token in it names the package and the moment it expires, under a MAC. The key lives
//! only as long as the server, which is long enough for such a link.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clock::Timestamp;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use store::Digest;

use crate::error::Error;

/// The path, below the server's root, that links lead to.
pub const PATH: &str = "/_firn/code/";
const LIFETIME: Duration = Duration::from_secs(600);
const SIGNED_BYTES: usize = 8 + 32;
const MAC_BYTES: usize = 32;

/// Makes and reads tokens.
pub struct Links {
    mac: Hmac<Sha256>,
}

impl Links {
    pub fn new() -> Result<Self, Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key).map_err(Error::Random)?;
        Ok(Self {
            mac: Hmac::new(&key.into()),
        })
    }

    /// A token for a package, good for ten minutes.
    pub fn issue(&self, digest: &Digest, now: Timestamp) -> String {
        let mut token = Vec::with_capacity(SIGNED_BYTES + MAC_BYTES);
        token.extend_from_slice(&(now + LIFETIME).as_micros().to_be_bytes());
        token.extend_from_slice(digest.as_bytes());
        let mac = self
            .mac
            .clone()
            .chain_update(&token)
            .finalize()
            .into_bytes();
        token.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The package that a token was issued for, unless it is forged or has expired.
    pub fn read(&self, token: &str, now: Timestamp) -> Option<Digest> {
        if token.len() > 2 * (SIGNED_BYTES + MAC_BYTES) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES)?;
        self.mac
            .clone()
            .chain_update(signed)
            .verify_slice(mac)
            .ok()?;
        let (expiry, digest) = signed.split_first_chunk::<8>()?;
        if now >= Timestamp::from_micros(i64::from_be_bytes(*expiry)) {
            return None;
        }
        Some(Digest::from_bytes(digest.try_into().ok()?))
    }
}

impl std::fmt::Debug for Links {
    // The key must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_ten_minutes() {
        let links = Links::new().unwrap();
        let (digest, now) = (
            Digest::from_bytes([5; 32]),
            Timestamp::from_secs(1_700_000_000),
        );
        let token = links.issue(&digest, now);
        assert_eq!(links.read(&token, now), Some(digest));
        assert_eq!(
            links.read(&token, now + Duration::from_secs(599)),
            Some(digest)
        );
        assert_eq!(links.read(&token, now + Duration::from_secs(600)), None);
    }

    #[test]
    fn a_link_cannot_be_forged() {
        let links = Links::new().unwrap();
        let (digest, now) = (Digest::from_bytes([5; 32]), Timestamp::default());
        let token = links.issue(&digest, now);
        assert_eq!(Links::new().unwrap().read(&token, now), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(links.read(&forged, now), None, "{at}");
            assert_eq!(links.read(&token[..at], now), None);
        }
        assert_eq!(links.read("", now), None);
        assert_eq!(links.read(&"A".repeat(500), now), None);
    }
}
