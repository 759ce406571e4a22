//! Signs requests with the credentials of the settings.

use anyhow::{Context, Result};
use clock::Timestamp;
use http::request::Parts;
use protocol::sigv4;

use super::settings::Settings;

pub fn sign(
    parts: &mut Parts,
    body: &[u8],
    service: &str,
    settings: &Settings,
    now: Timestamp,
) -> Result<()> {
    let own = &settings.credentials;
    let credentials = sigv4::Credentials {
        access_key: own.access_key.clone(),
        secret_key: own.secret_key.reveal().clone(),
        session_token: own
            .session_token
            .as_ref()
            .map(|token| token.reveal().clone()),
    };
    sigv4::sign(parts, body, &credentials, &settings.region, service, now)
        .context("the credentials hold characters that no header can carry")
}
