//! One connection, in HTTP/1.1 or HTTP/2.
//!
//! Which of the two a client speaks shows in its first bytes: an HTTP/2 client that knows what it
//! talks to begins with a fixed preface. They are only looked at, so that HTTP/1 pays nothing for
//! the choice.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use protocol::{Body, BodyError};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::body::discard;
use crate::{Gateway, Origin};

/// What an HTTP/2 client says first. No request of HTTP/1 begins with its first three bytes.
const PREFACE: &[u8] = b"PRI";

/// Pause between looks at a connection whose first bytes come one by one: bytes that are only
/// looked at announce nothing when more of them arrive.
const PEEK_PAUSE: Duration = Duration::from_millis(5);

/// What a client may have open on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Time that a client has for a last request when its connection is to end.
const GOODBYE: Duration = Duration::from_secs(1);
/// A client that does not answer a ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a connection comes from, and until when it serves.
pub(crate) struct Client {
    pub(crate) origin: Origin,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) draining: watch::Receiver<()>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(gateway: &Gateway, stream: TcpStream, client: Client) {
    let peer = client.peer;
    // Header and body leave in one write; without this the last segment of a longer answer would
    // wait for the client's delayed acknowledgement.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!(error = %err, "the connection is gone before its first request");
        return;
    }
    match speaks_http2(gateway, &stream, client.draining.clone()).await {
        Some(Ok(true)) => {
            let served = Box::pin(serve_http2(gateway, stream, client)).await;
            log_end(peer, served);
        }
        Some(Ok(false)) => {
            let served = serve_http1(gateway, stream, client).await;
            log_end(peer, served);
        }
        Some(Err(err)) => tracing::debug!(error = %err, "the connection is gone"),
        // It has not said a word.
        None => {}
    }
}

/// Looks at the first bytes of a connection; `None` if none come in time, or before the server
/// stops.
async fn speaks_http2(
    gateway: &Gateway,
    stream: &TcpStream,
    mut draining: watch::Receiver<()>,
) -> Option<io::Result<bool>> {
    let looking = async {
        let mut first = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut first).await?;
            if seen == 0 || seen == PREFACE.len() || first[..seen] != PREFACE[..seen] {
                return Ok(first == PREFACE);
            }
            tokio::time::sleep(PEEK_PAUSE).await;
        }
    };
    let looked = tokio::time::timeout(gateway.config().head_timeout(), looking);
    tokio::select! {
        looked = looked => looked.ok(),
        // An error means that the listener is gone, which is a stop as well.
        _ = draining.changed() => None,
    }
}

async fn serve_http1(
    gateway: &Gateway,
    stream: TcpStream,
    client: Client,
) -> Result<(), hyper::Error> {
    let Client {
        origin,
        peer,
        mut draining,
    } = client;
    let config = gateway.config();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.head_timeout())
        .max_buf_size(config.head_bytes());

    // A refused upload is read to its end here, while the refusal is already on its way: closing at
    // once would reset the connection, and the client would never see the answer.
    let (refused, mut unread) = mpsc::channel::<Incoming>(1);
    let service = service_fn(|request| {
        let (gateway, refused) = (&gateway, &refused);
        async move {
            let answered = gateway.respond(request, origin, peer, Some(refused)).await;
            Ok::<_, Infallible>(answered)
        }
    });
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut linger = pin!(async {
        while let Some(body) = unread.recv().await {
            discard(body).await;
        }
    });
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            result = &mut http => return result,
            () = &mut linger => {}
            // An error means that the listener is gone, which is a stop as well.
            _ = draining.changed(), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn serve_http2(
    gateway: &Gateway,
    stream: TcpStream,
    client: Client,
) -> Result<(), hyper::Error> {
    let Client {
        origin,
        peer,
        mut draining,
    } = client;
    let config = gateway.config();
    // The tasks of its streams end with the connection.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(config.head_bytes().try_into().unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let use_of = Arc::new(Use::new());
    let service = {
        let (gateway, use_of) = (gateway.clone(), Arc::clone(&use_of));
        service_fn(move |request: Request<Incoming>| {
            let (gateway, busy) = (gateway.clone(), Busy::new(&use_of));
            async move {
                let answered = gateway.respond(request, origin, peer, None).await;
                Ok::<_, Infallible>(answered.map(|body| Counted { body, _busy: busy }))
            }
        })
    };
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = false;
    let patience = config.head_timeout();
    loop {
        tokio::select! {
            biased;
            result = &mut http => return result,
            _ = draining.changed(), if !stopping => stopping = true,
            () = tokio::time::sleep(use_of.patience_left(patience)), if !stopping => {
                stopping = use_of.is_idle_for(patience);
            }
            // It was told to go, has nothing open, and does not go.
            () = tokio::time::sleep(GOODBYE), if stopping => {
                if use_of.is_idle_for(GOODBYE) {
                    return Ok(());
                }
            }
        }
        if stopping {
            http.as_mut().graceful_shutdown();
        }
    }
}

/// Whether the streams of a connection are in use, since one without any would stay for ever.
struct Use {
    open: AtomicUsize,
    born: Instant,
    /// When the last stream ended, in milliseconds since the connection was made.
    idle_since_ms: AtomicU64,
}

impl Use {
    fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            born: Instant::now(),
            idle_since_ms: AtomicU64::new(0),
        }
    }

    fn idle(&self) -> Option<Duration> {
        if self.open.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::Acquire));
        Some(self.born.elapsed().saturating_sub(since))
    }

    fn is_idle_for(&self, patience: Duration) -> bool {
        self.idle().is_some_and(|idle| idle >= patience)
    }

    /// When to look next whether it was idle for too long.
    fn patience_left(&self, patience: Duration) -> Duration {
        let left = patience.saturating_sub(self.idle().unwrap_or_default());
        left.max(Duration::from_millis(10))
    }
}

/// One open stream.
struct Busy(Arc<Use>);

impl Busy {
    fn new(use_of: &Arc<Use>) -> Self {
        use_of.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(use_of))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = self.0.born.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.0.idle_since_ms.store(now, Ordering::Release);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A body that keeps its stream counted as long as it is sent.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Clients that hang up, send garbage or are too slow are daily business.
fn log_end(peer: Option<SocketAddr>, result: Result<(), hyper::Error>) {
    if let Err(err) = result {
        let peer = peer.map(tracing::field::display);
        tracing::debug!(peer, error = %err, "connection ended early");
    }
}
