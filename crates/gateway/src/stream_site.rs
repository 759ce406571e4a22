//! A service whose bodies are too large to be held in memory: S3.
//!
//! It claims the requests that are signed for it, and those nobody signed whose host or path is its
//! own. The gateway checks the signature of the head; the body goes on as it arrives.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use protocol::sigv4::ChunkSigner;
use protocol::{ApiError, Body, Caller};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::auth;

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Who answers requests whose bodies are streamed.
#[derive(Clone)]
pub struct StreamSite {
    /// Asked for requests that nobody signed.
    claims_unsigned: Arc<dyn Fn(&Parts) -> bool + Send + Sync>,
    answer: Arc<dyn Fn(StreamRequest) -> Answer + Send + Sync>,
    /// The service in the credential scope of signatures.
    pub(crate) signing_name: &'static str,
}

/// A request that a site has claimed.
#[derive(Debug)]
pub struct StreamRequest {
    pub parts: Parts,
    pub body: RequestBody,
    /// The client's address.
    pub peer: Option<IpAddr>,
    pub request_id: String,
    /// Who signed the head, `None` if nobody did, or why the signature does not count.
    pub signer: Result<Option<Signed>, ApiError>,
}

/// A signature that counts.
#[derive(Debug)]
pub struct Signed {
    pub caller: Caller,
    /// What the chunks of the body must be signed with, if they are.
    pub chunks: Option<ChunkSigner>,
}

impl StreamSite {
    /// A site that answers what is signed for `signing_name`, and of what is not signed at all what
    /// `claims_unsigned` says is for it. It is asked for every such request, so it must be quick.
    pub fn new<C, F, A>(signing_name: &'static str, claims_unsigned: C, answer: F) -> Self
    where
        C: Fn(&Parts) -> bool + Send + Sync + 'static,
        F: Fn(StreamRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self {
            claims_unsigned: Arc::new(claims_unsigned),
            answer: Arc::new(move |request| Box::pin(answer(request))),
            signing_name,
        }
    }

    pub(crate) fn claims(&self, parts: &Parts) -> bool {
        match auth::signed_for(parts) {
            auth::SignedFor::Service(service) => service == self.signing_name,
            // The older kind of signature is known to nobody else.
            auth::SignedFor::Unscoped => true,
            auth::SignedFor::Nobody => (self.claims_unsigned)(parts),
        }
    }

    pub(crate) fn answer(&self, request: StreamRequest) -> Answer {
        (self.answer)(request)
    }
}

impl std::fmt::Debug for StreamSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSite")
            .field("signing_name", &self.signing_name)
            .finish_non_exhaustive()
    }
}

/// A body as it arrives. A client that stops sending is an error of the kind
/// [`io::ErrorKind::TimedOut`]. What nobody reads is read to its end elsewhere, so that the client
/// sees the answer.
pub struct RequestBody {
    body: Option<Incoming>,
    pause: Duration,
    /// Set while there is a wait.
    timer: Option<Pin<Box<Sleep>>>,
    refused: Option<mpsc::Sender<Incoming>>,
    unread: Unread,
}

/// Tells whether something of a body was left when it was dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(crate) fn is_some(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        pause: Duration,
        refused: Option<mpsc::Sender<Incoming>>,
    ) -> Self {
        Self {
            body: Some(body),
            pause,
            timer: None,
            refused,
            unread: Unread::default(),
        }
    }

    pub(crate) fn unread(&self) -> Unread {
        self.unread.clone()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            this.timer = None;
            return match frame {
                None => Poll::Ready(None),
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => {
                    // There is nothing more to come.
                    this.body = None;
                    Poll::Ready(Some(Err(io::Error::other(error))))
                }
            };
        }
        let pause = this.pause;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + pause)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        if http_body::Body::is_end_stream(&body) {
            return;
        }
        self.unread.0.store(true, Ordering::Release);
        if let Some(refused) = &self.refused {
            // Requests of one connection come one after the other, so there is room.
            let _ = refused.try_send(body);
        }
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestBody")
    }
}
