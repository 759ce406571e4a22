use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::answers::{self, Reply};
use super::body::{self, BodyError, header_text};
use super::event::INVOCATION_ID;
use super::exchange::{Answer, Claim, Exchange, Kind, Next, Refusal, RuntimeFault};
use super::stream::{self, Chunk, StreamError, StreamFault};

/// What one environment may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub connections: usize,
    pub response_bytes: usize,
    pub streamed_bytes: usize,
}

/// The X-Ray error cause alone may take 1 MiB.
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>
const MAX_HEADER_BYTES: usize = 1024 * 1024 + 64 * 1024;
/// A body that turned out too large is read this much further before the connection is closed.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

/// Serves the Runtime API of one environment until dropped; connections end with it.
pub(crate) async fn serve(listener: TcpListener, exchange: Arc<Exchange>, limits: Limits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // Past the limit nothing is accepted: the rest waits in the kernel, at the expense of the
        // environment that opened it.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((connection, _)) => {
                let exchange = Arc::clone(&exchange);
                connections.spawn(async move {
                    serve_connection(connection, exchange, limits).await;
                    drop(permit);
                });
            }
            Err(err) if is_about_one_connection(&err) => {}
            Err(err) => {
                tracing::warn!(error = %err, "the Runtime API stopped accepting connections");
                return;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn is_about_one_connection(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        err.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

async fn serve_connection(connection: TcpStream, exchange: Arc<Exchange>, limits: Limits) {
    // Without it an answer in two segments would cost a delayed ACK: 40 ms per call.
    if connection.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let exchange = Arc::clone(&exchange);
        async move { answer(&exchange, request, limits).await.ok_or(Gone) }
    });
    // No time limit for headers: it would also run while a connection idles during a long
    // invocation. What a slow client can hold is bounded by the connections it may have.
    let served = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Err(err) = served {
        tracing::trace!(error = %err, "a Runtime API connection ended");
    }
}

/// The environment ends: its connections are dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the environment ends")]
struct Gone;

async fn answer(exchange: &Exchange, request: Request<Incoming>, limits: Limits) -> Option<Reply> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Some(route) = Route::of(&path) else {
        return Some(answers::not_found());
    };
    if head.method != route.method() {
        return Some(answers::method_not_allowed());
    }
    Some(match route {
        Route::Next => return next(exchange).await,
        Route::Answer { request_id, kind } => {
            let invocation_id = head.headers.get(INVOCATION_ID).map(|id| id.as_bytes());
            match exchange.claim(request_id, invocation_id, kind) {
                Ok(claim) if kind == Kind::Error => error(claim, head.headers, body, limits).await,
                Ok(claim) => response(claim, head.headers, body, limits).await,
                Err(refusal) => answers::refused(refusal),
            }
        }
        Route::InitError => {
            let error_type = header_text(&head.headers, ERROR_TYPE);
            match body::read(&mut body, limits.response_bytes).await {
                Ok(body) => match exchange.init_error(RuntimeFault { error_type, body }) {
                    Ok(()) => answers::accepted(),
                    Err(refusal) => answers::refused(refusal),
                },
                Err(err) => unreadable(err, body, limits).await,
            }
        }
        Route::Restore(to) => answers::refused(Refusal::Transition(exchange.state_name(), to)),
        Route::Telemetry(api) => answers::telemetry_not_supported(api),
        Route::Extension(_) => answers::extensions_not_supported(),
    })
}

enum Route<'a> {
    Next,
    Answer {
        request_id: &'a str,
        kind: Kind,
    },
    InitError,
    /// SnapStart's calls, with the state they lead to. An environment that is not restored from a
    /// snapshot refuses them.
    Restore(&'static str),
    Telemetry(&'static str),
    Extension(Method),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (version, path) = path.strip_prefix('/')?.split_once('/')?;
        let route = match (version, path) {
            ("2018-06-01", "runtime/invocation/next") => Self::Next,
            ("2018-06-01", "runtime/init/error") => Self::InitError,
            ("2018-06-01", "runtime/restore/next") => Self::Restore("RestoreReady"),
            ("2018-06-01", "runtime/restore/error") => Self::Restore("RestoreError"),
            ("2018-06-01", path) => {
                let (id, verb) = path.strip_prefix("runtime/invocation/")?.split_once('/')?;
                let kind = match verb {
                    "response" => Kind::Response,
                    "error" => Kind::Error,
                    _ => return None,
                };
                Self::Answer {
                    request_id: id,
                    kind,
                }
            }
            ("2020-01-01", "extension/event/next") => Self::Extension(Method::GET),
            (
                "2020-01-01",
                "extension/register" | "extension/init/error" | "extension/exit/error",
            ) => Self::Extension(Method::POST),
            ("2020-08-15", "logs") => Self::Telemetry("Logs"),
            ("2022-07-01", "telemetry") => Self::Telemetry("Telemetry"),
            _ => return None,
        };
        Some(route)
    }

    fn method(&self) -> Method {
        match self {
            Self::Next | Self::Restore("RestoreReady") => Method::GET,
            Self::Answer { .. } | Self::InitError | Self::Restore(_) => Method::POST,
            Self::Telemetry(_) => Method::PUT,
            Self::Extension(method) => method.clone(),
        }
    }
}

/// `None` when the environment ends while the runtime waits.
async fn next(exchange: &Exchange) -> Option<Reply> {
    match exchange.next() {
        Next::Event(event) => Some(answers::event(&event)),
        Next::Wait(parked) => parked.await.ok().map(|event| answers::event(&event)),
        Next::Refused(refusal) => Some(answers::refused(refusal)),
    }
}

async fn response(
    claim: Claim<'_>,
    headers: HeaderMap,
    mut body: Incoming,
    limits: Limits,
) -> Reply {
    let content_type = header_text(&headers, CONTENT_TYPE.as_str());
    match headers.get(RESPONSE_MODE).map(|mode| mode.as_bytes()) {
        None => {}
        Some(b"streaming") => return stream_response(claim, content_type, body, limits).await,
        Some(_) => {
            claim.answer(Answer::InvalidResponseMode);
            return answers::invalid_response_mode();
        }
    }
    match body::read(&mut body, limits.response_bytes).await {
        Ok(body) => {
            claim.answer(Answer::Response { body, content_type });
            answers::accepted()
        }
        Err(err) => {
            claim.answer(match err {
                BodyError::TooLarge => Answer::TooLarge,
                BodyError::Truncated => Answer::Truncated,
            });
            unreadable(err, body, limits).await
        }
    }
}

async fn error(claim: Claim<'_>, headers: HeaderMap, mut body: Incoming, limits: Limits) -> Reply {
    let error_type = header_text(&headers, ERROR_TYPE);
    match body::read(&mut body, limits.response_bytes).await {
        Ok(body) => {
            claim.answer(Answer::Error(RuntimeFault { error_type, body }));
            answers::accepted()
        }
        Err(err) => {
            claim.answer(match err {
                BodyError::TooLarge => Answer::TooLarge,
                BodyError::Truncated => Answer::Truncated,
            });
            unreadable(err, body, limits).await
        }
    }
}

async fn unreadable(err: BodyError, mut body: Incoming, limits: Limits) -> Reply {
    match err {
        BodyError::TooLarge => {
            body::discard(&mut body, MAX_DISCARDED_BYTES).await;
            answers::too_large(limits.response_bytes)
        }
        BodyError::Truncated => answers::truncated(),
    }
}

async fn stream_response(
    mut claim: Claim<'_>,
    content_type: Option<String>,
    mut body: Incoming,
    limits: Limits,
) -> Reply {
    let (chunks, source) = stream::channel();
    claim.begin(Answer::Stream {
        chunks: source,
        content_type,
    });
    let fault = forward(&mut body, &chunks, limits.streamed_bytes).await;
    drop(chunks);
    claim.finish();
    match fault {
        None => answers::accepted(),
        Some(StreamFault::Truncated) => answers::truncated(),
        Some(StreamFault::TooLarge) => {
            body::discard(&mut body, MAX_DISCARDED_BYTES).await;
            answers::too_large(limits.streamed_bytes)
        }
    }
}

/// Passes chunks on as they come. A reader that went away does not stop the function.
async fn forward(
    body: &mut Incoming,
    chunks: &mpsc::Sender<Chunk>,
    limit: usize,
) -> Option<StreamFault> {
    let mut left = limit;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let _ = chunks.send(Chunk::Broken(StreamFault::Truncated)).await;
            return Some(StreamFault::Truncated);
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                let Some(rest) = left.checked_sub(data.len()) else {
                    let _ = chunks.send(Chunk::Broken(StreamFault::TooLarge)).await;
                    return Some(StreamFault::TooLarge);
                };
                left = rest;
                let _ = chunks.send(Chunk::Data(data)).await;
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let _ = chunks
        .send(Chunk::End(
            trailers.and_then(|trailers| trailing_error(&trailers)),
        ))
        .await;
    None
}

fn trailing_error(trailers: &HeaderMap) -> Option<StreamError> {
    use base64::Engine as _;
    let error_type = header_text(trailers, ERROR_TYPE);
    let encoded = trailers.get(ERROR_BODY).map(|body| body.as_bytes());
    if error_type.is_none() && encoded.is_none() {
        return None;
    }
    let body = encoded.map(|text| {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap_or_default()
    });
    Some(StreamError {
        error_type,
        body: Bytes::from(body.unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests;
