//! Requests as they come from the gateway, on their way to the library and back.
//!
//! The gateway has judged the signature. What is left of it is taken off here, so that the library
//! sees a request that nobody signed: it would otherwise ask for secrets that it must not have.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use protocol::{ApiError, Body as Answer, Caller};
use s3s::service::{S3Service, S3ServiceBuilder};
use sha2::{Digest as _, Sha256};

use crate::access::Who;
use crate::answer::{DECLARATION, Names, escaped, finish};
use crate::api::Api;
use crate::checksum::{Algorithm, Trailer};
use crate::chunked::{Chunked, Signing};
use crate::contents::Body;
use crate::host::Hosts;
use crate::service::S3;
use crate::{Error, Result};

const CONTENT_HASH: &str = "x-amz-content-sha256";
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
const TRAILER: &str = "x-amz-trailer";

/// Query parameters that belong to signatures, in lower case.
const OF_SIGNATURES: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "awsaccesskeyid",
    "signature",
    "expires",
];

/// A request whose sender is known.
#[derive(Debug)]
pub struct Request {
    pub parts: http::request::Parts,
    /// Who signed, `None` if nobody did, or why the signature does not count.
    pub signer: Result<Option<Caller>, ApiError>,
    /// How the chunks of the body are signed.
    pub signing: Signing,
    pub peer: Option<IpAddr>,
    pub request_id: String,
}

/// What operations find with their request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) who: Arc<Who>,
    pub(crate) trailer: Option<Trailer>,
}

impl S3 {
    /// Answers requests; to be made once.
    pub fn service(&self) -> Door {
        let mut builder = S3ServiceBuilder::new(Api(self.clone()));
        builder.set_host(Hosts);
        Door {
            s3: self.clone(),
            service: builder.build(),
        }
    }
}

/// The service behind the protocol. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    s3: S3,
    service: S3Service,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    /// Answers a request. Errors of the body of the kind [`std::io::ErrorKind::TimedOut`] mean that
    /// the client stopped sending.
    pub async fn answer<B>(&self, request: Request, body: B) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let method = request.parts.method.clone();
        let request_id = request.request_id.clone();
        let names = Names::of(&request.parts);
        let failure = Arc::new(OnceLock::new());
        let body = Box::pin(body.into_data_stream().map(|chunk| chunk.map_err(of_body)));
        let answered = match self.prepare(request, body, &failure) {
            Ok(request) => self.call(request, &failure).await,
            Err(error) => error_response(&error),
        };
        finish(answered, &method, &request_id, &names).await
    }

    async fn call(
        &self,
        request: http::Request<s3s::Body>,
        failure: &Arc<OnceLock<Failure>>,
    ) -> http::Response<s3s::Body> {
        let service = self.service.clone();
        // A write that has begun is finished, also when the client is gone.
        let answered = tokio::spawn(async move { service.call(request).await }).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let cause = Box::<dyn std::error::Error + Send + Sync>::from(error);
                tracing::error!(error = &*cause as &dyn std::error::Error, "failed");
                error_response(&Error::Damaged(cause.to_string()))
            }
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "failed");
                error_response(&Error::Damaged("a panic".to_owned()))
            }
            Err(_) => error_response(&Error::Stopping),
        };
        match failure.get() {
            // The library does not tell why a body could not be read.
            Some(failure) if response.status().as_u16() >= 400 => failure.response(),
            _ => response,
        }
    }

    fn prepare(
        &self,
        request: Request,
        body: Body,
        failure: &Arc<OnceLock<Failure>>,
    ) -> Result<http::Request<s3s::Body>> {
        let Request {
            mut parts,
            signer,
            signing,
            peer,
            request_id,
        } = request;
        let caller = signer.map_err(|error| of_signature(&error))?;
        if parts.method == Method::OPTIONS {
            return Err(Error::NotConfigured {
                code: "AccessForbidden",
                message: "CORSResponse: CORS is not enabled for this bucket.",
            });
        }
        let is_form = content_type(&parts.headers).starts_with("multipart/form-data");
        if parts.method == Method::POST && is_form {
            return Err(Error::NotSupported("uploads by forms of browsers"));
        }
        self.check_presigned_time(&parts.uri)?;
        unsign(&mut parts)?;
        if let Some(range) = parts.headers.get(http::header::RANGE) {
            // What cannot be read is not there, as HTTP has it.
            let range = range.to_str().map(s3s::dto::Range::parse);
            if !matches!(range, Ok(Ok(_))) {
                parts.headers.remove(http::header::RANGE);
            }
        }
        let is_framed = parts.headers.contains_key(DECODED_LENGTH);
        let (body, trailer) = framed(&mut parts.headers, body, signing)?;
        let who = Arc::new(Who {
            caller,
            request_id,
            peer,
        });
        parts.extensions.insert(Context { who, trailer });
        let body = Watched {
            body,
            failure: Arc::clone(failure),
        };
        let may_have_none = matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
        let is_empty = match parts.headers.get(CONTENT_LENGTH) {
            Some(length) => length == "0" && !is_framed,
            None => may_have_none,
        };
        let body = if is_empty {
            s3s::Body::empty()
        } else {
            let frames = body.map(|chunk| chunk.map(http_body::Frame::data));
            s3s::Body::http_body_unsync(http_body_util::StreamBody::new(frames))
        };
        Ok(http::Request::from_parts(parts, body))
    }

    /// Any signature may be accepted, but not a link that is too old.
    fn check_presigned_time(&self, uri: &Uri) -> Result<()> {
        let query = uri.query().unwrap_or_default();
        let now = self.s3.clock().now();
        let parameter = |wanted: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        if let (Some(date), Some(expires)) = (parameter("X-Amz-Date"), parameter("X-Amz-Expires")) {
            let seconds: Option<u32> = expires.parse().ok();
            if let (Some(made), Some(seconds)) = (date_of(date), seconds) {
                let end = made + std::time::Duration::from_secs(u64::from(seconds));
                if now > end {
                    return Err(Error::Expired);
                }
            }
        }
        // The older form, which counts in seconds since the epoch.
        if parameter("AWSAccessKeyId").is_some()
            && let Some(end) = parameter("Expires").and_then(|end| end.parse::<i64>().ok())
            && now.as_secs() > end
        {
            return Err(Error::Expired);
        }
        Ok(())
    }
}

/// `20130524T000000Z`
fn date_of(text: &str) -> Option<clock::Timestamp> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let (date, time) = (&text[..8], &text[9..15]);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    rfc3339.parse().ok()
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Takes off what belongs to the signature. What presigners have moved from headers into the query
/// moves back.
fn unsign(parts: &mut http::request::Parts) -> Result<()> {
    parts.headers.remove(AUTHORIZATION);
    parts.headers.remove("x-amz-security-token");
    let Some(query) = parts.uri.query() else {
        return Ok(());
    };
    let is_presigned = query.contains("X-Amz-Signature=") || query.contains("Signature=");
    if !is_presigned {
        return Ok(());
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut moved = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let lower = name.to_ascii_lowercase();
        if OF_SIGNATURES.contains(&lower.as_str()) {
            continue;
        }
        if lower.starts_with("x-amz-") {
            moved.push((lower, value));
        } else {
            kept.push(pair);
        }
    }
    for (name, value) in moved {
        let value = percent_decode_str(value).decode_utf8_lossy();
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(&value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Error::argument(
                "A parameter of the query cannot be a header",
            ));
        };
        parts.headers.entry(name).or_insert(value);
    }
    let path = parts.uri.path();
    let target = if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    };
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(
        target
            .parse()
            .map_err(|_| Error::request("The query cannot be read"))?,
    );
    parts.uri = Uri::from_parts(uri).map_err(|_| Error::request("The URI cannot be read"))?;
    Ok(())
}

/// The body without the framing that S3's clients may put around it, checked as it passes.
fn framed(
    headers: &mut HeaderMap,
    body: Body,
    signing: Signing,
) -> Result<(Body, Option<Trailer>)> {
    let text = |headers: &HeaderMap, name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let hash = text(headers, CONTENT_HASH);
    headers.remove(CONTENT_HASH);
    let Some(hash) = hash else {
        return Ok((body, None));
    };
    if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let body = Hashed {
            body,
            hash: Some(Sha256::new()),
            expected: hash.to_ascii_lowercase(),
        };
        return Ok((Box::pin(body), None));
    }
    if !hash.starts_with("STREAMING-") {
        return match hash.as_str() {
            "UNSIGNED-PAYLOAD" => Ok((body, None)),
            _ => Err(Error::argument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, \
                 STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                 STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
            )),
        };
    }
    if hash.contains("ECDSA") {
        return Err(Error::NotSupported("signatures over several regions"));
    }
    let length = text(headers, DECODED_LENGTH).ok_or(Error::MissingContentLength)?;
    let length: u64 = length
        .parse()
        .map_err(|_| Error::argument("x-amz-decoded-content-length is no number"))?;
    headers.remove(DECODED_LENGTH);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let trailer = match text(headers, TRAILER) {
        Some(name) if hash.ends_with("-TRAILER") => {
            let name = name.trim().to_ascii_lowercase();
            let algorithm = Algorithm::ALL.into_iter().find(|one| one.header() == name);
            let algorithm = algorithm.ok_or_else(|| {
                Error::request("The value specified in the x-amz-trailer header is not supported")
            })?;
            Some(Trailer {
                algorithm,
                value: Arc::default(),
            })
        }
        _ => None,
    };
    headers.remove(TRAILER);
    strip_encoding(headers);
    let wanted = trailer.as_ref().map(|trailer| {
        let name = trailer.algorithm.header().to_owned();
        (name, Arc::clone(&trailer.value))
    });
    Ok((Box::pin(Chunked::new(body, signing, wanted)), trailer))
}

/// `aws-chunked` is about the way, not about the object.
fn strip_encoding(headers: &mut HeaderMap) {
    let left: Vec<String> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|encoding| encoding.trim().to_owned())
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    headers.remove(CONTENT_ENCODING);
    if let Ok(value) = HeaderValue::from_str(&left.join(","))
        && !left.is_empty()
    {
        headers.insert(CONTENT_ENCODING, value);
    }
}

/// A body held against its hash.
struct Hashed {
    body: Body,
    /// Taken at the end.
    hash: Option<Sha256>,
    expected: String,
}

impl Stream for Hashed {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.body.as_mut().poll_next(cx));
        match (&chunk, &mut self.hash) {
            (Some(Ok(data)), Some(hash)) => hash.update(data),
            (None, hash) => {
                if let Some(hash) = hash.take()
                    && hex::encode(hash.finalize()) != self.expected
                {
                    return Poll::Ready(Some(Err(Error::PayloadHash)));
                }
            }
            (Some(_), _) => {}
        }
        Poll::Ready(chunk)
    }
}

/// A body whose failure is remembered.
struct Watched {
    body: Body,
    failure: Arc<OnceLock<Failure>>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.body.as_mut().poll_next(cx));
        if let Some(Err(error)) = &chunk {
            let _ = self.failure.set(Failure::of(error));
        }
        Poll::Ready(chunk)
    }
}

/// An error that is answered elsewhere than where it happened.
#[derive(Debug)]
struct Failure {
    code: &'static str,
    status: u16,
    message: String,
}

impl Failure {
    fn of(error: &Error) -> Self {
        Self {
            code: error.code(),
            status: error.status(),
            message: error.to_string(),
        }
    }

    fn response(&self) -> http::Response<s3s::Body> {
        let mut response = http::Response::new(s3s::Body::from(format!(
            "{DECLARATION}<Error><Code>{}</Code><Message>{}</Message></Error>",
            self.code,
            escaped(&self.message)
        )));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }
}

fn error_response(error: &Error) -> http::Response<s3s::Body> {
    let mut failure = Failure::of(error);
    if failure.code == "AccessForbidden" {
        failure.status = 403;
    }
    failure.response()
}

fn of_body(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let io = error.downcast_ref::<std::io::Error>();
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::TimedOut) => Error::RequestTimeout,
        _ => Error::Body(error),
    }
}

/// S3 has codes of its own for what is wrong with a signature.
fn of_signature(error: &ApiError) -> Error {
    let message = error.message().to_owned();
    let refused = |code, message| Error::Unsigned { code, message };
    match error.shape(None).code {
        "MissingAuthenticationTokenException" | "MissingAuthenticationToken" => Error::AccessDenied,
        "UnrecognizedClientException" | "InvalidClientTokenId" => refused(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.".to_owned(),
        ),
        "ExpiredTokenException" | "ExpiredToken" => {
            refused("ExpiredToken", "The provided token has expired.".to_owned())
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch"
            if message.starts_with("Signature expired: the presigned") =>
        {
            Error::Expired
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch"
            if message.starts_with("Signature expired")
                || message.starts_with("Signature not yet") =>
        {
            refused(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large."
                    .to_owned(),
            )
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch"
            if message.starts_with("Credential should") =>
        {
            refused("AuthorizationHeaderMalformed", message)
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" => Error::SignatureDoesNotMatch,
        _ => refused("AuthorizationHeaderMalformed", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> http::request::Parts {
        let request = http::Request::builder().uri(uri).body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn a_presigned_request_loses_its_signature_and_gets_its_headers_back() {
        let mut parts = parts(
            "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0&partNumber=1\
             &x-amz-checksum-crc32=AAAAAA%3D%3D&X-Amz-Expires=60",
        );
        unsign(&mut parts).unwrap();
        assert_eq!(parts.uri.query(), Some("partNumber=1"));
        assert_eq!(parts.headers["x-amz-checksum-crc32"], "AAAAAA==");
        let mut plain = self::parts("/b?expires=1&prefix=x");
        unsign(&mut plain).unwrap();
        assert_eq!(plain.uri.query(), Some("expires=1&prefix=x"));
    }

    #[test]
    fn dates_of_signatures_are_read() {
        assert_eq!(
            date_of("20130524T000000Z").unwrap().as_secs(),
            1_369_353_600
        );
        for bad in ["", "20130524", "2013052éT00000Z", "20131324T000000Z"] {
            assert!(date_of(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_way_does_not_become_part_of_the_object() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, "aws-chunked, gzip".parse().unwrap());
        strip_encoding(&mut headers);
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        headers.insert(CONTENT_ENCODING, "aws-chunked".parse().unwrap());
        strip_encoding(&mut headers);
        assert!(!headers.contains_key(CONTENT_ENCODING));
    }
}
