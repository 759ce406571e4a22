use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, header, request};
use model::Timestamp;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use super::{
    ALGORITHM, ChunkSigner, MAX_SKEW, SignatureError, TERMINATOR, UNSIGNED_PAYLOAD, canonical,
    date, hex_sha256, signature,
};

const CONTENT_HASH: &str = "x-amz-content-sha256";

/// What a request says about who signed it, for what and when. Not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The access key that names the secret.
    pub access_key: String,
    /// What the signature is for.
    pub scope: Scope,
    /// The token that goes with temporary credentials.
    pub session_token: Option<String>,
    /// When the signature was made.
    pub timestamp: Timestamp,
    /// How long a presigned request may be used; `None` if the signature is in a header.
    pub expires: Option<Duration>,
    /// The date exactly as it was signed.
    date: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// A signature's credential scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The day, `YYYYMMDD`.
    pub date: String,
    /// The region the request is meant for.
    pub region: String,
    /// The signing name of the service.
    pub service: String,
}

impl Authorization {
    /// A presigned request is good for a week at most.
    const MAX_EXPIRES: u64 = 7 * 24 * 60 * 60;

    /// Reads the signature of a request, from its header or its query; `None` if it has none.
    pub fn parse(request: &request::Parts) -> Result<Option<Self>, SignatureError> {
        if let Some(value) = request.headers.get(header::AUTHORIZATION) {
            let text = value
                .to_str()
                .map_err(|_| incomplete("Authorization header is not text"))?;
            return Self::from_header(text, &request.headers).map(Some);
        }
        match request.uri.query() {
            Some(query) if query.contains("X-Amz-Algorithm=") => Self::from_query(query).map(Some),
            _ => Ok(None),
        }
    }

    fn from_header(text: &str, headers: &HeaderMap) -> Result<Self, SignatureError> {
        let Some(fields) = text.strip_prefix(ALGORITHM) else {
            return Err(incomplete(format!(
                "Unsupported AWS 'algorithm', {ALGORITHM} is needed"
            )));
        };
        let field = |name: &str| {
            fields
                .split(',')
                .filter_map(|field| field.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    incomplete(format!("Authorization header requires '{name}' parameter."))
                })
        };
        let (date, timestamp) = header_date(headers)?;
        let credential = field("Credential")?;
        let signed_headers = field("SignedHeaders")?;
        let signature = field("Signature")?;
        let session_token = headers
            .get("x-amz-security-token")
            .map(|token| {
                token
                    .to_str()
                    .map(str::to_owned)
                    .map_err(|_| SignatureError::UnknownKey)
            })
            .transpose()?;
        let claims = Claims {
            credential,
            signed_headers,
            signature,
            date,
            timestamp,
        };
        Self::new(claims, session_token, None)
    }

    fn from_query(query: &str) -> Result<Self, SignatureError> {
        let parameters: HashMap<&str, Cow<'_, str>> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| name.starts_with("X-Amz-"))
            .map(|(name, value)| (name, percent_decode_str(value).decode_utf8_lossy()))
            .collect();
        let parameter = |name: &str| {
            parameters
                .get(name)
                .map(|value| &**value)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    incomplete(format!(
                        "AWS query-string parameters must include '{name}'."
                    ))
                })
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(format!(
                "Unsupported AWS 'algorithm', {ALGORITHM} is needed"
            )));
        }
        let date = parameter("X-Amz-Date")?.to_owned();
        let timestamp = date::parse(&date).ok_or_else(|| bad_date(&date))?;
        let expires = parameter("X-Amz-Expires")?
            .parse()
            .ok()
            .filter(|seconds| (1..=Self::MAX_EXPIRES).contains(seconds))
            .ok_or_else(|| incomplete("X-Amz-Expires must be between 1 and 604800 seconds"))?;
        let claims = Claims {
            credential: parameter("X-Amz-Credential")?,
            signed_headers: parameter("X-Amz-SignedHeaders")?,
            signature: parameter("X-Amz-Signature")?,
            date,
            timestamp,
        };
        let session_token = parameter("X-Amz-Security-Token").ok().map(str::to_owned);
        Self::new(claims, session_token, Some(Duration::from_secs(expires)))
    }

    fn new(
        claims: Claims<'_>,
        session_token: Option<String>,
        expires: Option<Duration>,
    ) -> Result<Self, SignatureError> {
        let (access_key, scope) = parse_credential(claims.credential)?;
        let day = date::format(claims.timestamp);
        if !day.starts_with(&scope.date) || scope.date.len() != 8 {
            return Err(incomplete(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{}' != '{}', from '{day}'.",
                scope.date,
                &day[..8]
            )));
        }
        let signed_headers: Vec<String> = claims
            .signed_headers
            .split(';')
            .map(str::to_ascii_lowercase)
            .collect();
        Ok(Self {
            access_key: access_key.to_owned(),
            scope,
            session_token,
            timestamp: claims.timestamp,
            expires,
            date: claims.date,
            signed_headers,
            signature: claims.signature.to_owned(),
        })
    }

    /// The host, and headers that choose the operation or the identity, must be signed. A presigned
    /// request may come with headers that its maker did not know of.
    fn check_headers_signed(&self, headers: &HeaderMap) -> Result<(), SignatureError> {
        if !self.signed_headers.iter().any(|name| name == "host") {
            return Err(incomplete(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        if self.expires.is_some() {
            return Ok(());
        }
        let unsigned = headers.keys().map(header::HeaderName::as_str).find(|name| {
            name.starts_with("x-amz-") && !self.signed_headers.iter().any(|signed| signed == name)
        });
        match unsigned {
            Some(name) => Err(incomplete(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            ))),
            None => Ok(()),
        }
    }

    /// Checks the signature against the secret of its access key, at the time `now`.
    ///
    /// `body` is the whole body. Its hash is checked, too, unless the request says that its payload
    /// is not signed, as S3 clients may.
    pub fn verify(
        &self,
        request: &request::Parts,
        body: &[u8],
        secret: &str,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let payload_hash = match self.expires {
            Some(_) if self.scope.service == "s3" => UNSIGNED_PAYLOAD.to_owned(),
            _ => canonical::payload_hash(&request.headers, body),
        };
        self.verify_hash(request, &payload_hash, secret, now)?;
        // The hash in the header is signed now; a hash, where it is one, must be the body's.
        let is_hash = payload_hash.len() == 64;
        if is_hash && !bool::from(hex_sha256(body).as_bytes().ct_eq(payload_hash.as_bytes())) {
            return Err(SignatureError::Mismatch);
        }
        Ok(())
    }

    /// Checks the signature of a request whose body is yet to come, as S3's may be.
    ///
    /// What is signed of the body stands in `x-amz-content-sha256`: its hash, that it comes in
    /// signed chunks, or that it is not signed. To hold the body against that is up to the caller,
    /// who gets what chunks are signed with if they are.
    pub fn verify_head(
        &self,
        request: &request::Parts,
        secret: &str,
        now: Timestamp,
    ) -> Result<Option<ChunkSigner>, SignatureError> {
        let sent = request
            .headers
            .get(CONTENT_HASH)
            .and_then(|value| value.to_str().ok());
        let payload_hash = match (self.expires, sent) {
            (Some(_), _) => UNSIGNED_PAYLOAD,
            (None, Some(sent)) => sent,
            (None, None) => {
                return Err(incomplete(format!(
                    "Missing required header for this request: {CONTENT_HASH}"
                )));
            }
        };
        self.verify_hash(request, payload_hash, secret, now)?;
        let signed_chunks = payload_hash.starts_with("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        Ok(signed_chunks
            .then(|| ChunkSigner::new(&self.scope, &self.date, secret, self.signature.clone())))
    }

    fn verify_hash(
        &self,
        request: &request::Parts,
        payload_hash: &str,
        secret: &str,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        self.check_headers_signed(&request.headers)?;
        self.check_time(now)?;
        let canonical = canonical::request(
            request,
            &self.scope.service,
            &self.signed_headers,
            payload_hash,
        );
        let expected = signature(&canonical, &self.date, &self.scope, secret);
        if !bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Err(SignatureError::Mismatch);
        }
        Ok(())
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let (made, now_text) = (&self.date, date::format(now));
        if self.timestamp.duration_since(now) > MAX_SKEW {
            let latest = date::format(now + MAX_SKEW);
            return Err(SignatureError::OutOfTime(format!(
                "Signature not yet current: {made} is still later than {latest} \
                 ({now_text} + 5 min.)"
            )));
        }
        let age = now.duration_since(self.timestamp);
        match self.expires {
            Some(expires) if age > expires => Err(SignatureError::OutOfTime(
                "Signature expired: the presigned request has \
                     outlived its X-Amz-Expires"
                    .to_owned(),
            )),
            None if age > MAX_SKEW => {
                let earliest = date::format(now - MAX_SKEW);
                Err(SignatureError::OutOfTime(format!(
                    "Signature expired: {made} is now earlier than {earliest} \
                     ({now_text} - 5 min.)"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The fields of a signature, from header or query.
struct Claims<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    date: String,
    timestamp: Timestamp,
}

fn header_date(headers: &HeaderMap) -> Result<(String, Timestamp), SignatureError> {
    if let Some(value) = headers.get("x-amz-date") {
        let text = value.to_str().unwrap_or_default();
        let timestamp = date::parse(text).ok_or_else(|| bad_date(text))?;
        return Ok((text.to_owned(), timestamp));
    }
    let value = headers.get(header::DATE).ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    })?;
    let text = value.to_str().unwrap_or_default();
    let timestamp = date::parse_http(text).ok_or_else(|| bad_date(text))?;
    Ok((date::format(timestamp), timestamp))
}

/// `AKID/20150830/us-east-1/iam/aws4_request`. An access key may hold slashes, a scope may not.
fn parse_credential(credential: &str) -> Result<(&str, Scope), SignatureError> {
    let mut fields = credential.rsplitn(5, '/');
    let mut field = || fields.next().unwrap_or_default();
    let (terminator, service, region, date, access_key) =
        (field(), field(), field(), field(), field());
    if access_key.is_empty() || date.is_empty() || region.is_empty() || service.is_empty() {
        return Err(incomplete(
            "Credential must have at least 5 slash-delimited elements: \
             '<access-key>/YYYYMMDD/<region>/<service>/aws4_request'.",
        ));
    }
    if terminator != TERMINATOR {
        return Err(incomplete(
            "Credential should be scoped with a valid terminator: 'aws4_request'.",
        ));
    }
    let [date, region, service] = [date, region, service].map(str::to_owned);
    Ok((
        access_key,
        Scope {
            date,
            region,
            service,
        },
    ))
}

fn bad_date(text: &str) -> SignatureError {
    let text: String = text.chars().take(64).collect();
    incomplete(format!(
        "Date must be in ISO-8601 'basic format'. Got '{text}'."
    ))
}

fn incomplete(message: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete(message.into())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            region,
            service,
        } = self;
        write!(f, "{date}/{region}/{service}/{TERMINATOR}")
    }
}

// The session token is as good as a password, so it never shows.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("access_key", &self.access_key)
            .field("scope", &self.scope)
            .field("timestamp", &self.timestamp)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
