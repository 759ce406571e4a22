//! Credentials on request, for environments that come from a snapshot: variables would be frozen
//! with it and expire.
//!
//! The answers are those of the
//! [container credential provider](https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html),
//! which every AWS SDK asks when it finds the two variables.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use super::answers::{self, Reply};
use crate::Credentials;

/// Gives fresh credentials to whoever brings the environment's token.
#[derive(Clone)]
pub(crate) struct CredentialSource {
    token: String,
    fetch: Arc<dyn Fn() -> Credentials + Send + Sync>,
    clock: Clock,
}

/// After how long SDKs ask again for credentials of which nobody said when they expire.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

impl CredentialSource {
    pub fn new(
        token: String,
        clock: Clock,
        fetch: impl Fn() -> Credentials + Send + Sync + 'static,
    ) -> Self {
        Self {
            token,
            fetch: Arc::new(fetch),
            clock,
        }
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Reply {
        let brought = headers
            .get(AUTHORIZATION)
            .map_or(&b""[..], |value| value.as_bytes());
        if !bool::from(brought.ct_eq(self.token.as_bytes())) {
            return answers::no_credentials();
        }
        let credentials = (self.fetch)();
        let expiration = credentials
            .expiration
            .unwrap_or_else(|| self.clock.now() + ASK_AGAIN);
        let body = Body {
            access_key_id: &credentials.access_key_id,
            secret_access_key: &credentials.secret_access_key,
            token: &credentials.session_token,
            // Whole seconds, as AWS's own endpoints have it: not every client reads more.
            expiration: expiration
                .to_jiff()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
        };
        // Four strings always serialise.
        answers::credentials(serde_json::to_vec(&body).unwrap_or_default().into())
    }
}

impl fmt::Debug for CredentialSource {
    // The token must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialSource")
    }
}

/// A token that nobody can guess, for one environment or for all from one image.
pub(crate) fn new_token() -> String {
    let half = || uuid::Uuid::new_v4().simple();
    format!("{}{}", half(), half())
}
