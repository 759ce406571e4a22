//! A client of HTTP and HTTPS servers, with connections that are kept.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

type Connections = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("no answer in time")]
    Timeout,
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Failed(String),
}

/// Sends requests to servers.
#[derive(Default)]
pub struct Client {
    /// Made at the first use: the system's certificates are read then.
    connections: OnceCell<Connections>,
}

impl Client {
    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// If the whole takes longer than `timeout`, the answer's body has more than `max_bytes`, or
    /// there is no connection.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Unreachable> {
        let exchange = async {
            let connections = self.connections.get_or_try_init(connections).await?;
            let response = connections
                .request(request.map(Full::new))
                .await
                .map_err(|error| Unreachable::Failed(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_bytes)
                .collect()
                .await
                .map_err(|error| {
                    if error.downcast_ref::<LengthLimitError>().is_some() {
                        Unreachable::TooLarge(max_bytes)
                    } else {
                        Unreachable::Failed(chain(&*error))
                    }
                })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(Unreachable::Timeout))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

async fn connections() -> Result<Connections, Unreachable> {
    // Reads files, so not on a thread that serves requests.
    let built = tokio::task::spawn_blocking(|| {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Unreachable::Failed(format!("no certificates: {error}")))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector))
    });
    built
        .await
        .unwrap_or_else(|error| Err(Unreachable::Failed(error.to_string())))
}

/// An error with its causes: "client error" alone says nothing.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
