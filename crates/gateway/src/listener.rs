//! Accepts connections, keeps their number within bounds, and lets them finish when asked to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::body::discard;
use crate::{Gateway, Origin};

/// Pause after an accept that failed for want of file descriptors or memory: retrying at once would
/// only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `listener` until `stop` resolves, then waits for running requests.
pub(crate) async fn serve(
    gateway: &Gateway,
    listener: TcpListener,
    max_connections: usize,
    origin: Origin,
    stop: impl Future<Output = ()>,
) {
    let (drain, draining) = watch::channel(());
    let mut connections = JoinSet::new();
    let permits = Arc::new(Semaphore::new(
        max_connections.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            (stream, permit) = accept(&listener, &permits) => {
                let connection = connection(gateway.clone(), stream, origin, permit, draining.clone());
                connections.spawn(connection);
            }
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    drop(draining);
    drain.send_replace(());
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(gateway.config().drain(), finish)
        .await
        .is_err()
    {
        tracing::warn!("connections are cut off, their requests took too long");
    }
    // What still runs is aborted when the set is dropped.
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(err) if concerns_one_connection(&err) => {}
            Err(err) => {
                tracing::error!(error = %err, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client gave up before it was accepted.
fn concerns_one_connection(err: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        err.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

async fn connection(
    gateway: Gateway,
    stream: TcpStream,
    origin: Origin,
    permit: OwnedSemaphorePermit,
    mut draining: watch::Receiver<()>,
) {
    // Header and body leave in one write; without this the last segment of a longer answer would
    // wait for the client's delayed acknowledgement.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!(error = %err, "the connection is gone before its first request");
        return;
    }
    let peer = stream.peer_addr().ok();
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
        async move { Ok::<_, Infallible>(gateway.respond(request, origin, refused).await) }
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
            result = &mut http => {
                log_end(peer, result);
                break;
            }
            () = &mut linger => {}
            // An error means that the listener is gone, which is a stop as well.
            _ = draining.changed(), if !stopping => {
                stopping = true;
                http.as_mut().graceful_shutdown();
            }
        }
    }
    drop(permit);
}

/// Clients that hang up, send garbage or are too slow are daily business.
fn log_end(peer: Option<SocketAddr>, result: Result<(), hyper::Error>) {
    if let Err(err) = result {
        let peer = peer.map(tracing::field::display);
        tracing::debug!(peer, error = %err, "connection ended early");
    }
}
