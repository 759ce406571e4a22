//! Accepts connections, keeps their number within bounds, and lets them finish when asked to stop.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use repoll::repoll;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::connection::{self, Client};
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
            (stream, peer, permit) = accept(&listener, &permits) => {
                let (gateway, draining) = (gateway.clone(), draining.clone());
                connections.spawn(async move {
                    let peer = Some(peer);
                    let client = Client { origin, peer, draining };
                    repoll(connection::serve(&gateway, stream, client)).await;
                    drop(permit);
                });
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
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
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
