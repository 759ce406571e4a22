//! Temporary credentials without a table of sessions.
//!
//! The session token itself says for which account and role it is good and until when, under a MAC
//! with the server's key; the secret key follows from the token and the server's key. Tokens thus
//! survive a restart and need no storage. They cannot be revoked before they expire, except by a
//! new server key.

mod token;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use model::{AccountId, Timestamp};
use sha2::Sha256;

/// The key from which all session tokens and their secrets derive. Whoever has it can make both.
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// A key from the system's randomness.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// A key that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored where only the server can read them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, purpose: &str, message: &[u8]) -> Hmac<Sha256> {
        #[expect(
            clippy::expect_used,
            reason = "HMAC is defined for keys of every length"
        )]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        // The length keeps one purpose's messages apart from another's.
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(message);
        mac
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey")
    }
}

/// What `sts:AssumeRole` hands out, and what a function finds in its environment.
#[derive(Clone)]
pub struct TemporaryCredentials {
    /// `ASIA` and sixteen letters and digits.
    pub access_key_id: String,
    /// Forty characters.
    pub secret_access_key: String,
    /// Opaque to the client.
    pub session_token: String,
    /// When all three stop working.
    pub expiration: Timestamp,
}

impl fmt::Debug for TemporaryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// What a valid token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The account the session works in.
    pub account: AccountId,
    /// The role it has taken.
    pub role_arn: String,
    /// The name given when it took the role.
    pub session_name: String,
    /// The access key that goes with the token.
    pub access_key_id: String,
    /// When the session ends.
    pub expiration: Timestamp,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("account", &self.account)
            .field("role_arn", &self.role_arn)
            .field("session_name", &self.session_name)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was not made with this server's key, or was changed.
    #[error("the session token is not one of ours")]
    Invalid,
    /// Its time is over.
    #[error("the session has expired")]
    Expired,
}

/// Credentials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The system gives no randomness.
    #[error("drawing a random access key")]
    Random(#[source] getrandom::Error),
    /// A role's ARN or a session's name is too long to fit a token.
    #[error(
        "a role ARN or session name is longer than {} bytes",
        token::MAX_TEXT_BYTES
    )]
    TooLong,
}

impl TemporaryCredentials {
    /// Makes credentials for a session of the role `role_arn`.
    pub fn issue(
        key: &ServerKey,
        account: AccountId,
        role_arn: &str,
        session_name: &str,
        expiration: Timestamp,
    ) -> Result<Self, IssueError> {
        let session = Session {
            account,
            role_arn: role_arn.to_owned(),
            session_name: session_name.to_owned(),
            access_key_id: random_access_key().map_err(IssueError::Random)?,
            expiration,
        };
        let session_token = token::encode(key, &session).ok_or(IssueError::TooLong)?;
        let secret_access_key = secret(key, &session_token);
        let access_key_id = session.access_key_id;
        Ok(Self {
            access_key_id,
            secret_access_key,
            session_token,
            expiration,
        })
    }

    /// Reads a token: whose session it is, and the secret key that its requests are signed with.
    pub fn verify(
        key: &ServerKey,
        session_token: &str,
        now: Timestamp,
    ) -> Result<(Session, String), TokenError> {
        let session = token::decode(key, session_token).ok_or(TokenError::Invalid)?;
        if session.expiration <= now {
            return Err(TokenError::Expired);
        }
        Ok((session, secret(key, session_token)))
    }
}

/// Forty characters, as AWS's secrets have.
fn secret(key: &ServerKey, session_token: &str) -> String {
    let mac = key
        .mac("secret", session_token.as_bytes())
        .finalize()
        .into_bytes();
    let mut secret = STANDARD.encode(mac);
    secret.truncate(40);
    secret
}

fn random_access_key() -> Result<String, getrandom::Error> {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let letters = random
        .iter()
        .map(|byte| char::from(BASE32[usize::from(byte & 31)]));
    Ok("ASIA".chars().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::123456789012:role/service/worker";

    fn issue(key: &ServerKey) -> TemporaryCredentials {
        let account = "123456789012".parse().unwrap();
        let expiration = Timestamp::from_secs(1_000);
        TemporaryCredentials::issue(key, account, ROLE, "hello", expiration).unwrap()
    }

    #[test]
    fn a_token_tells_its_session_and_secret() {
        let key = ServerKey::generate().unwrap();
        let credentials = issue(&key);
        let now = Timestamp::from_secs(999);
        let (session, secret) =
            TemporaryCredentials::verify(&key, &credentials.session_token, now).unwrap();
        assert_eq!(session.account.as_str(), "123456789012");
        assert_eq!(
            (session.role_arn.as_str(), session.session_name.as_str()),
            (ROLE, "hello")
        );
        assert_eq!(session.access_key_id, credentials.access_key_id);
        assert_eq!(secret, credentials.secret_access_key);
        assert_eq!((credentials.access_key_id.len(), secret.len()), (20, 40));
    }

    #[test]
    fn a_token_ends_at_its_expiration() {
        let key = ServerKey::generate().unwrap();
        let token = issue(&key).session_token;
        let verify = |now| TemporaryCredentials::verify(&key, &token, Timestamp::from_secs(now));
        assert!(verify(999).is_ok());
        assert_eq!(verify(1_000).unwrap_err(), TokenError::Expired);
    }

    #[test]
    fn a_changed_token_or_another_key_is_refused() {
        let key = ServerKey::generate().unwrap();
        let token = issue(&key).session_token;
        let now = Timestamp::from_secs(0);
        let other = ServerKey::generate().unwrap();
        assert_eq!(
            TemporaryCredentials::verify(&other, &token, now).unwrap_err(),
            TokenError::Invalid
        );
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                TemporaryCredentials::verify(&key, &changed, now).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn each_issue_has_its_own_key_and_secret() {
        let key = ServerKey::generate().unwrap();
        let (first, second) = (issue(&key), issue(&key));
        assert_ne!(first.access_key_id, second.access_key_id);
        assert_ne!(first.secret_access_key, second.secret_access_key);
    }
}
