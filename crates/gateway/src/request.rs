//! One request from its head to its answer.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::{AccountId, Fault, common_error};
use protocol::{ApiError, Body, Route};
use tokio::sync::mpsc;
use tracing::{Instrument, Span, field};
use uuid::Uuid;

use crate::body::{self, Unread};
use crate::pages;
use crate::site::{Site, SiteRequest};
use crate::stream_site::{RequestBody, StreamRequest, StreamSite};
use crate::{Gateway, Origin};

/// Why no operation ran, or what it failed with.
struct Failed {
    error: ApiError,
    /// Known once the request was routed; it decides how the error is written.
    route: Option<Route>,
    /// A body that was not read.
    unread: Option<Incoming>,
}

impl Gateway {
    /// Answers a request. A body that is refused goes to `refused`, to be read to its end; where
    /// there is none, the protocol knows how to tell a client to stop sending.
    pub(crate) async fn respond(
        &self,
        request: Request<Incoming>,
        origin: Origin,
        peer: Option<SocketAddr>,
        refused: Option<&mpsc::Sender<Incoming>>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Some(site) = self.0.site.as_ref().filter(|site| site.claims(&parts)) {
            // Boxed, so that the other requests of a connection need no room for it.
            return Box::pin(self.visit(site, parts, body, peer, refused)).await;
        }
        let stream_site = self.0.stream_site.as_ref();
        if let Some(site) = stream_site.filter(|site| site.claims(&parts)) {
            return Box::pin(self.stream(site, parts, body, peer, refused)).await;
        }
        if parts.uri.path().starts_with(pages::PREFIX) {
            let authorise = || self.authorise(&parts, origin);
            return self.0.pages.answer(&parts, authorise).await;
        }
        let request_id = Uuid::new_v4().to_string();
        let span = tracing::info_span!(
            "request",
            request_id,
            account = field::Empty,
            service = field::Empty,
            operation = field::Empty,
        );
        self.answer(parts, body, request_id, refused)
            .instrument(span)
            .await
    }

    /// Answers a request that a site has claimed.
    async fn visit(
        &self,
        site: &Site,
        parts: Parts,
        mut body: Incoming,
        peer: Option<SocketAddr>,
        refused: Option<&mpsc::Sender<Incoming>>,
    ) -> Response<Body> {
        let started = Instant::now();
        let limit = site.max_body_bytes;
        let announced = body::announced_length(&parts.headers).filter(|length| *length > limit);
        let read = match announced {
            Some(_) => Err(Unread::TooLarge),
            None => body::read(&mut body, limit, self.config().body_timeout()).await,
        };
        let read = match read {
            Ok(read) => read,
            Err(unread) => {
                let mut response = site.refuse(&unread);
                give_up(body, &parts.headers, refused, &mut response);
                return response;
            }
        };
        let request_id = Uuid::new_v4().to_string();
        let now = self.0.clock.now();
        let signer =
            (self.0.authenticator).signer(&parts, &read, site.signing_name, &request_id, now);
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let span = tracing::info_span!("visit", request_id);
        let response = site
            .answer(SiteRequest {
                parts,
                body: read,
                peer: peer.map(|peer| peer.ip().to_canonical()),
                request_id,
                signer,
            })
            .instrument(span)
            .await;
        tracing::debug!(
            %method,
            path,
            status = response.status().as_u16(),
            micros = started.elapsed().as_micros(),
            "answered",
        );
        response
    }

    /// Answers a request whose body the site reads itself.
    async fn stream(
        &self,
        site: &StreamSite,
        parts: Parts,
        body: Incoming,
        peer: Option<SocketAddr>,
        refused: Option<&mpsc::Sender<Incoming>>,
    ) -> Response<Body> {
        let started = Instant::now();
        let request_id = Uuid::new_v4().to_string();
        let (name, now) = (site.signing_name, self.0.clock.now());
        let signer = (self.0.authenticator).head_signer(&parts, name, &request_id, now);
        let is_http1 = refused.is_some();
        // A client that waits for `100 Continue` will not send the body after a refusal.
        let refused = refused.filter(|_| !body::awaits_continue(&parts.headers));
        let body = RequestBody::new(body, self.config().body_timeout(), refused.cloned());
        let unread = body.unread();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let span = tracing::info_span!("stream", request_id);
        let request = StreamRequest {
            parts,
            body,
            peer: peer.map(|peer| peer.ip().to_canonical()),
            request_id,
            signer,
        };
        let mut response = site.answer(request).instrument(span).await;
        if is_http1 && unread.is_some() {
            // What is left of the body cannot be told from a next request.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        tracing::debug!(
            %method,
            path,
            status = response.status().as_u16(),
            micros = started.elapsed().as_micros(),
            "answered",
        );
        response
    }

    /// For whom an operator's page may act. Functions are no operators, whatever they present.
    fn authorise(
        &self,
        parts: &Parts,
        origin: Origin,
    ) -> Result<Option<AccountId>, pages::Refused> {
        if origin == Origin::Environment {
            return Err(pages::Refused::OfFunction);
        }
        let gateway = &*self.0;
        gateway
            .authenticator
            .operator(parts, gateway.clock.now())
            .map_err(|error| {
                tracing::debug!(error = %Chain(&error), "refused");
                pages::Refused::Unsigned
            })
    }

    async fn answer(
        &self,
        parts: Parts,
        body: Incoming,
        request_id: String,
        refused: Option<&mpsc::Sender<Incoming>>,
    ) -> Response<Body> {
        let started = Instant::now();
        let response = match self.run(&parts, body, &request_id).await {
            Ok(response) => response,
            Err(failed) => self.refuse(&parts, failed, &request_id, refused),
        };
        tracing::debug!(
            method = %parts.method,
            path = parts.uri.path(),
            status = response.status().as_u16(),
            micros = started.elapsed().as_micros(),
            "answered",
        );
        response
    }

    async fn run(
        &self,
        parts: &Parts,
        mut body: Incoming,
        request_id: &str,
    ) -> Result<Response<Body>, Failed> {
        let gateway = &*self.0;
        let span = Span::current();
        let claim = match gateway.authenticator.read(parts, gateway.clock.now()) {
            Ok(claim) => claim,
            Err(error) => return Err(Failed::before_route(error, body)),
        };
        span.record("account", field::display(&claim.account));
        let route = match gateway.router.route(parts, claim.service()) {
            Ok(route) => route,
            Err(error) => return Err(Failed::before_route(error, body)),
        };
        span.record("service", route.service().name);
        if route.is_complete() {
            span.record("operation", route.operation());
        }

        let body = match self.read(parts, &mut body, &route).await {
            Ok(body) => body,
            Err(error) => {
                return Err(Failed {
                    error,
                    route: Some(route),
                    unread: Some(body),
                });
            }
        };
        let route = match gateway.router.complete(route, parts, &body) {
            Ok(completed) => {
                if !route.is_complete() {
                    span.record("operation", completed.operation());
                }
                completed
            }
            Err(error) => {
                return Err(Failed {
                    error,
                    route: Some(route),
                    unread: None,
                });
            }
        };
        let ran = async {
            let request_id = request_id.to_owned();
            let caller = claim.prove(&route, parts, &body, request_id, gateway.clock.now())?;
            gateway
                .router
                .try_dispatch(&route, parts, body, &caller)
                .await
        };
        ran.await.map_err(|error| Failed {
            error,
            route: Some(route),
            unread: None,
        })
    }

    /// A body whose length is announced is refused before it is sent, any other while it arrives.
    async fn read(
        &self,
        parts: &Parts,
        body: &mut Incoming,
        route: &Route,
    ) -> Result<Bytes, ApiError> {
        let limit = route.max_body_bytes();
        let announced = body::announced_length(&parts.headers);
        if let Some(length) = announced.filter(|length| *length > limit) {
            return Err(route.too_large(length));
        }
        body::read(body, limit, self.config().body_timeout())
            .await
            .map_err(|unread| match unread {
                Unread::TooLarge => route.too_large(limit + 1),
                Unread::TooSlow => ApiError::new(
                    &REQUEST_TIMEOUT,
                    "The request's body did not arrive in time",
                ),
                Unread::Broken(reason) => {
                    let error = ApiError::new(&common_error::SERIALIZATION, "The body broke off");
                    error.with_source(reason)
                }
            })
    }

    fn refuse(
        &self,
        parts: &Parts,
        failed: Failed,
        request_id: &str,
        refused: Option<&mpsc::Sender<Incoming>>,
    ) -> Response<Body> {
        let Failed {
            error,
            route,
            unread,
        } = failed;
        log(&error);
        let mut response = match &route {
            Some(route) => route.refuse(&error, request_id),
            None => self.0.router.reject(parts, &error, request_id),
        };
        if let Some(body) = unread {
            give_up(body, &parts.headers, refused, &mut response);
        }
        response
    }
}

/// Ends the connection after an answer to a request whose body was not read to its end.
fn give_up(
    body: Incoming,
    headers: &HeaderMap,
    refused: Option<&mpsc::Sender<Incoming>>,
    response: &mut Response<Body>,
) {
    let Some(refused) = refused.filter(|_| !http_body::Body::is_end_stream(&body)) else {
        return;
    };
    // What is left of the body cannot be told from a next request.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    // A client that waits for `100 Continue` will not send the body now. Requests on one connection
    // come one after the other, so there is room for this one.
    if !body::awaits_continue(headers) && response.status() != StatusCode::REQUEST_TIMEOUT {
        let _ = refused.try_send(body);
    }
}

impl Failed {
    const fn before_route(error: ApiError, body: Incoming) -> Self {
        Self {
            error,
            route: None,
            unread: Some(body),
        }
    }
}

static REQUEST_TIMEOUT: model::ErrorShape =
    model::ErrorShape::client("RequestTimeoutException", 408);

/// Client faults are daily business; a server fault is for a human to look at, with its whole chain
/// of causes.
fn log(error: &ApiError) {
    match error.fault() {
        Fault::Client => tracing::debug!(error = %Chain(error), "refused"),
        Fault::Server if error.shape(None) == &common_error::NOT_IMPLEMENTED => {
            tracing::warn!(error = %Chain(error), "refused");
        }
        Fault::Server => tracing::error!(error = %Chain(error), "failed"),
    }
}

/// An error and what led to it, on one line.
struct Chain<'a>(&'a ApiError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_line_shows_every_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write the record")]
        struct Outer(#[source] std::io::Error);

        let error = ApiError::internal(Outer(std::io::Error::other("disk full")));
        let line = Chain(&error).to_string();
        assert_eq!(line, "internal error: cannot write the record: disk full");
    }
}
