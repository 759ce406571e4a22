//! Hosts beside the AWS APIs: function URLs.
//!
//! A site claims requests by their host or path before they are routed. The gateway reads their
//! body and finds out who signed; what they mean, and whether a signature is needed at all, is up
//! to the site.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use protocol::{ApiError, Body, Caller};

use crate::body::Unread;

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Who answers requests that are not for the AWS APIs.
#[derive(Clone)]
pub struct Site {
    claims: fn(&Parts) -> bool,
    answer: Arc<dyn Fn(SiteRequest) -> Answer + Send + Sync>,
    /// The service in the credential scope of signatures.
    pub(crate) signing_name: &'static str,
    pub(crate) max_body_bytes: u64,
}

/// A request that a site has claimed.
#[derive(Debug)]
pub struct SiteRequest {
    pub parts: Parts,
    pub body: Bytes,
    /// The client's address.
    pub peer: Option<IpAddr>,
    pub request_id: String,
    /// Who signed, `None` if nobody did, or why the signature does not count.
    pub signer: Result<Option<Caller>, ApiError>,
}

impl Site {
    /// A site that answers what `claims` says is for it, signed for `signing_name` if at all.
    ///
    /// `claims` is asked for every request to the server, so it must be quick.
    pub fn new<F, A>(
        claims: fn(&Parts) -> bool,
        signing_name: &'static str,
        max_body_bytes: u64,
        answer: F,
    ) -> Self
    where
        F: Fn(SiteRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self {
            claims,
            answer: Arc::new(move |request| Box::pin(answer(request))),
            signing_name,
            max_body_bytes,
        }
    }

    pub(crate) fn claims(&self, parts: &Parts) -> bool {
        (self.claims)(parts)
    }

    pub(crate) fn answer(&self, request: SiteRequest) -> Answer {
        (self.answer)(request)
    }

    /// The answer to a body that was not read.
    pub(crate) fn refuse(&self, unread: &Unread) -> Response<Body> {
        let (status, message) = match unread {
            Unread::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("Request must be smaller than {} bytes", self.max_body_bytes),
            ),
            Unread::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "The request's body did not arrive in time".to_owned(),
            ),
            Unread::Broken(_) => (StatusCode::BAD_REQUEST, "The body broke off".to_owned()),
        };
        let body = serde_json::json!({ "Message": message }).to_string();
        let mut response = Response::new(Body::from(Bytes::from(body)));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("signing_name", &self.signing_name)
            .finish_non_exhaustive()
    }
}
