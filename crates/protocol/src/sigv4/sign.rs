use std::fmt;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, InvalidHeaderValue};
use http::request;
use model::Timestamp;

use super::authorization::Scope;
use super::{ALGORITHM, canonical, date, signature};

/// What a client signs with.
#[derive(Clone)]
pub struct Credentials {
    /// Names the secret.
    pub access_key: String,
    /// Shared with the server, never sent.
    pub secret_key: String,
    /// Goes with temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Signs a request by adding headers. Its host must be in a `Host` header or in the URI.
///
/// Signed are `host`, `content-type` and all `x-amz-` headers, so add those before.
///
/// # Errors
/// If a credential holds characters that no header can carry.
pub fn sign(
    request: &mut request::Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Result<(), InvalidHeaderValue> {
    if let Some(authority) = request.uri.authority()
        && !request.headers.contains_key(HOST)
    {
        request
            .headers
            .insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    let timestamp = date::format(now);
    request
        .headers
        .insert("x-amz-date", HeaderValue::from_str(&timestamp)?);
    if let Some(token) = &credentials.session_token {
        request
            .headers
            .insert("x-amz-security-token", HeaderValue::from_str(token)?);
    }
    let mut signed: Vec<&str> = request
        .headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| matches!(*name, "host" | "content-type") || name.starts_with("x-amz-"))
        .collect();
    signed.sort_unstable();
    let scope = Scope {
        date: timestamp[..8].to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    };
    let payload_hash = canonical::payload_hash(&request.headers, body);
    let canonical = canonical::request(request, service, &signed, &payload_hash);
    let signature = signature(&canonical, &timestamp, &scope, &credentials.secret_key);
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key,
        signed.join(";")
    );
    request
        .headers
        .insert(AUTHORIZATION, HeaderValue::from_str(&authorization)?);
    Ok(())
}
