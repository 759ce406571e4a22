//! A client of HTTP and HTTPS servers, with connections that are kept.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
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

/// The body of an answer, piece by piece.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Unreachable>> + Send + Sync>>;

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
            let (head, body) = self.begin(request).await?.into_parts();
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

    /// Sends a request and gives the answer while it comes, however large it is. A body that ends
    /// early ends with an error.
    ///
    /// # Errors
    /// If the head of the answer takes longer than `timeout`, as does each piece, or there is no
    /// connection.
    pub async fn open(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Pieces>, Unreachable> {
        let head = tokio::time::timeout(timeout, self.begin(request)).await;
        let response = head.unwrap_or(Err(Unreachable::Timeout))?;
        Ok(response.map(|body| pieces(body, timeout)))
    }

    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Unreachable> {
        let connections = self.connections.get_or_try_init(connections).await?;
        let response = connections.request(request.map(Full::new)).await;
        response.map_err(|error| Unreachable::Failed(chain(&error)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

fn pieces(body: Incoming, timeout: Duration) -> Pieces {
    let pieces = stream::unfold(Some(body.into_data_stream()), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(timeout, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            // Nothing comes after an error.
            Ok(Some(Err(error))) => Some((Err(Unreachable::Failed(chain(&error))), None)),
            Err(_) => Some((Err(Unreachable::Timeout), None)),
        }
    });
    Box::pin(pieces)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, and then says nothing or, if it `ends`, goes away.
    async fn answering(bytes: &'static [u8], ends: bool) -> Request<Bytes> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(bytes).await.unwrap();
            if !ends {
                let _ = stream.read(&mut [0; 1024]).await;
            }
        });
        Request::get(uri).body(Bytes::new()).unwrap()
    }

    async fn read(bytes: &'static [u8], ends: bool) -> Vec<Result<Bytes, Unreachable>> {
        let request = answering(bytes, ends).await;
        let client = Client::default();
        let opened = client.open(request, Duration::from_millis(500)).await;
        opened.unwrap().into_body().collect().await
    }

    #[tokio::test]
    async fn an_answer_is_read_while_it_comes() {
        let pieces = read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole", false).await;
        let pieces: Result<Vec<Bytes>, _> = pieces.into_iter().collect();
        assert_eq!(pieces.unwrap().concat(), b"whole");
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_ends_with_an_error() {
        let pieces = read(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", true).await;
        assert!(matches!(
            pieces.as_slice(),
            [Ok(piece), Err(Unreachable::Failed(_))] if piece == "half"
        ));
    }

    #[tokio::test]
    async fn an_answer_that_stops_is_given_up() {
        let pieces = read(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false).await;
        assert!(matches!(
            pieces.as_slice(),
            [Ok(piece), Err(Unreachable::Timeout)] if piece == "half"
        ));
        let request = answering(b"", false).await;
        let client = Client::default();
        let opened = client.open(request, Duration::from_millis(50)).await;
        assert!(matches!(opened, Err(Unreachable::Timeout)));
    }
}
