use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::Clock;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sandbox::Connector;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::event::Event;
use super::queue::{Batch, Queue};
use super::subscription::{Destination, Subscription};
use super::{Audience, Category};
use crate::environment::Aborted;

/// Brings the events of one subscription to its destination, for as long as the environment lives.
pub(super) struct Delivery {
    pub connector: Connector,
    pub subscription: Subscription,
    pub queue: Arc<Queue>,
    pub clock: Clock,
}

/// A connection to the destination, kept from batch to batch.
enum Link {
    Http {
        sender: SendRequest<Full<Bytes>>,
        _connection: Aborted,
    },
    Tcp(TcpStream),
}

#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("cannot connect")]
    Connect(#[from] sandbox::Error),
    #[error("cannot talk HTTP")]
    Http(#[from] hyper::Error),
    #[error("cannot write")]
    Io(#[from] io::Error),
    #[error("the destination answered {0}")]
    Status(http::StatusCode),
    #[error("the destination's answer is too long")]
    TooLong,
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

/// A destination that does not take a batch gets it this often.
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
/// What a destination may answer; nobody reads it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const REASON: &str =
    "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.";

impl Delivery {
    pub async fn run(self) {
        let mut link = None;
        loop {
            let mut batch = self.queue.next().await;
            self.tell_of_dropped(&mut batch);
            let mut attempt = 1;
            // Without a time limit: a frozen environment takes nothing, and whoever never answers
            // holds up nobody but itself.
            while let Err(err) = self.send(&mut link, &batch.events).await {
                link = None;
                if attempt == ATTEMPTS {
                    tracing::debug!(error = %err, "telemetry could not be delivered");
                    self.queue.lost(&batch);
                    break;
                }
                attempt += 1;
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
        }
    }

    fn tell_of_dropped(&self, batch: &mut Batch) {
        let dropped = batch.dropped;
        let wanted = self.subscription.wants(Category::Platform, Audience::Both);
        if dropped.records == 0 || !wanted {
            return;
        }
        let record = serde_json::json!({
            "reason": REASON,
            "droppedRecords": dropped.records,
            "droppedBytes": dropped.bytes,
        });
        let time = self.clock.now();
        let event = ("platform.logsDropped", record);
        let event = Event::new(Category::Platform, Audience::Both, time, event);
        batch.events.push(event.json);
    }

    async fn send(&self, link: &mut Option<Link>, events: &[Bytes]) -> Result<(), DeliveryError> {
        let connected = match link {
            Some(Link::Http { sender, .. }) => sender.ready().await.is_ok(),
            Some(Link::Tcp(_)) => true,
            None => false,
        };
        if !connected {
            *link = Some(self.connect().await?);
        }
        match (link, &self.subscription.destination) {
            (Some(Link::Http { sender, .. }), Destination::Http { .. }) => {
                let reply = sender.send_request(self.request(events)?).await?;
                let status = reply.status();
                let mut body = reply.into_body();
                let mut left = MAX_ANSWER_BYTES;
                while let Some(frame) = body.frame().await {
                    let size = frame?.data_ref().map_or(0, Bytes::len);
                    left = left.checked_sub(size).ok_or(DeliveryError::TooLong)?;
                }
                if status.is_server_error() || status.is_client_error() {
                    return Err(DeliveryError::Status(status));
                }
                Ok(())
            }
            (Some(Link::Tcp(stream)), _) => Ok(stream.write_all(&lines(events)).await?),
            // A link is made for its destination.
            _ => Ok(()),
        }
    }

    async fn connect(&self) -> Result<Link, DeliveryError> {
        let (Destination::Http { port, .. } | Destination::Tcp { port }) =
            &self.subscription.destination;
        let stream = TcpStream::from_std(self.connector.connect(*port).await?)?;
        stream.set_nodelay(true)?;
        if matches!(self.subscription.destination, Destination::Tcp { .. }) {
            return Ok(Link::Tcp(stream));
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_ANSWER_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let connection = tokio::spawn(async move {
            // Its errors reach whoever sends.
            let _ = connection.await;
        });
        Ok(Link::Http {
            sender,
            _connection: Aborted(connection.abort_handle()),
        })
    }

    fn request(&self, events: &[Bytes]) -> Result<Request<Full<Bytes>>, DeliveryError> {
        let (path, host, method) = match &self.subscription.destination {
            Destination::Http {
                path,
                host,
                put: true,
                ..
            } => (path.as_str(), host.as_str(), Method::PUT),
            Destination::Http { path, host, .. } => (path.as_str(), host.as_str(), Method::POST),
            Destination::Tcp { .. } => ("/", "sandbox", Method::POST),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json");
        Ok(request.body(Full::new(array(events)))?)
    }
}

/// `[event,event]`
fn array(events: &[Bytes]) -> Bytes {
    let mut array = joined(b"[", events, b',');
    if !events.is_empty() {
        array.truncate(array.len() - 1);
    }
    array.extend_from_slice(b"]");
    array.freeze()
}

/// One event per line.
fn lines(events: &[Bytes]) -> Bytes {
    joined(b"", events, b'\n').freeze()
}

fn joined(begin: &[u8], events: &[Bytes], end: u8) -> BytesMut {
    let size: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut all = BytesMut::with_capacity(begin.len() + size + 1);
    all.extend_from_slice(begin);
    for event in events {
        all.extend_from_slice(event);
        all.extend_from_slice(&[end]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_one_array_or_one_event_per_line() {
        let events = [Bytes::from("{\"a\":1}"), Bytes::from("{}")];
        assert_eq!(array(&events), "[{\"a\":1},{}]");
        assert_eq!(array(&[]), "[]");
        assert_eq!(lines(&events), "{\"a\":1}\n{}\n");
    }
}
