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
use repoll::repoll;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::answers::{self, Reply};
use super::body::{self, BodyError, header_text};
use super::credentials::CredentialSource;
use super::event::INVOCATION_ID;
use super::exchange::{Answer, Claim, Exchange, Kind, Next, RestoreNext, RuntimeFault};
use super::replay::{self, Caller, Pending};
use super::stream::{self, Chunk, StreamError, StreamFault};
use super::traffic::{Connection, Line};
use crate::extensions::Extensions;
use crate::extensions::api::{self as extensions, About, Call};
use crate::telemetry::Telemetry;
use crate::telemetry::api::{self as telemetry, Api};

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

/// What the Runtime API of one environment serves beside its exchange.
#[derive(Debug)]
pub(crate) struct Service {
    pub limits: Limits,
    /// Credentials that are asked for instead of being in the environment variables.
    pub credentials: Option<CredentialSource>,
    /// Requests of a thawed runtime that were made before it was frozen. The first connection from
    /// the port of each brings it in.
    pub replay: Vec<Pending>,
    pub extensions: Arc<Extensions>,
    pub telemetry: Arc<Telemetry>,
    /// What extensions are told of the function.
    pub about: About,
}

/// What all connections of one environment share.
struct Shared {
    exchange: Arc<Exchange>,
    limits: Limits,
    credentials: Option<CredentialSource>,
    extensions: Arc<Extensions>,
    telemetry: Arc<Telemetry>,
    about: About,
}

/// Serves the Runtime API of one environment until dropped; connections end with it.
pub(crate) async fn serve(listener: TcpListener, exchange: Arc<Exchange>, service: Service) {
    let Service {
        limits,
        credentials,
        mut replay,
        extensions,
        telemetry,
        about,
    } = service;
    let permits = Arc::new(Semaphore::new(limits.connections));
    let listener = Arc::new(listener);
    exchange.traffic().listen(&listener);
    let shared = Arc::new(Shared {
        exchange,
        limits,
        credentials,
        extensions,
        telemetry,
        about,
    });
    let mut connections = JoinSet::new();
    loop {
        // Past the limit nothing is accepted: the rest waits in the kernel, at the expense of the
        // environment that opened it.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it an answer in two segments would cost a delayed ACK: 40 ms per call.
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                let port = peer.port();
                let head = replay::take(&mut replay, port);
                let connection = shared.exchange.traffic().connect(stream, head);
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    repoll(serve_connection(connection, port, shared)).await;
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

async fn serve_connection(connection: Connection, port: u16, shared: Arc<Shared>) {
    let line = Arc::clone(connection.line());
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        let line = Arc::clone(&line);
        async move {
            let reply = answer(&shared, (&line, port), request).await.ok_or(Gone);
            line.answers();
            reply
        }
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

async fn answer(
    shared: &Shared,
    (line, port): (&Line, u16),
    request: Request<Incoming>,
) -> Option<Reply> {
    let Shared {
        exchange,
        limits,
        credentials,
        ..
    } = shared;
    let limits = *limits;
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Some(route) = Route::of(&path) else {
        return Some(answers::not_found());
    };
    // AWS's supervisor has these routes only where snapshots are made or restored.
    if route.is_of_snapshots() && !exchange.is_of_snapshot() {
        return Some(answers::not_found());
    }
    if !route.takes(&head.method) {
        return Some(answers::method_not_allowed());
    }
    Some(match route {
        Route::Next => return next(exchange, line, Caller::of(port, &head)).await,
        Route::RestoreNext => return restore_next(exchange, line, Caller::of(port, &head)).await,
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
        Route::RestoreError => {
            let error_type = header_text(&head.headers, ERROR_TYPE);
            match body::read(&mut body, limits.response_bytes).await {
                Ok(body) => match exchange.restore_error(RuntimeFault { error_type, body }) {
                    Ok(()) => answers::accepted(),
                    Err(refusal) => answers::refused(refusal),
                },
                Err(err) => unreadable(err, body, limits).await,
            }
        }
        Route::PrimingNext => match exchange.priming_next() {
            Next::Event(event) => answers::event(&event),
            Next::Refused(refusal) => answers::refused(refusal),
            Next::Nothing | Next::Wait(_) => answers::no_content(),
        },
        Route::Warm if head.method == Method::GET => match exchange.warm_event() {
            Ok(event) => answers::event(&event),
            Err(refusal) => answers::refused(refusal),
        },
        Route::Warm => match body::read(&mut body, limits.response_bytes).await {
            Ok(_) => match exchange.warm_answer() {
                Ok(()) => answers::accepted(),
                Err(refusal) => answers::refused(refusal),
            },
            Err(err) => unreadable(err, body, limits).await,
        },
        Route::Credentials => match credentials {
            Some(source) => source.answer(&head.headers),
            None => answers::not_found(),
        },
        Route::Extension(Call::Next) => {
            return extensions::next(&shared.extensions, &head.headers, || line.waits()).await;
        }
        Route::Extension(_) | Route::Telemetry(_) => {
            let limit = extensions::MAX_BODY_BYTES;
            match body::read(&mut body, limit).await {
                Ok(body) => extend(shared, &route, &head.headers, &body),
                Err(err) => {
                    let limits = Limits {
                        response_bytes: limit,
                        ..limits
                    };
                    unreadable(err, body, limits).await
                }
            }
        }
    })
}

/// What extensions call, but for their `next`.
fn extend(shared: &Shared, route: &Route<'_>, headers: &HeaderMap, body: &Bytes) -> Reply {
    let known = &shared.extensions;
    match route {
        Route::Telemetry(api) => {
            telemetry::subscribe((known, &shared.telemetry), *api, headers, body)
        }
        Route::Extension(Call::Register) => {
            extensions::register(known, &shared.about, headers, body)
        }
        Route::Extension(call) => extensions::report(known, *call, headers),
        _ => answers::not_found(),
    }
}

enum Route<'a> {
    Next,
    Answer {
        request_id: &'a str,
        kind: Kind,
    },
    InitError,
    RestoreNext,
    RestoreError,
    /// What firn's own clients warm up with before a snapshot.
    PrimingNext,
    Warm,
    Credentials,
    Telemetry(Api),
    Extension(Call),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (version, path) = path.strip_prefix('/')?.split_once('/')?;
        let route = match (version, path) {
            ("2018-06-01", "runtime/invocation/next") => Self::Next,
            ("2018-06-01", "runtime/init/error") => Self::InitError,
            ("2018-06-01", "runtime/restore/next") => Self::RestoreNext,
            ("2018-06-01", "runtime/restore/error") => Self::RestoreError,
            ("2018-06-01", "runtime/firn/priming/next") => Self::PrimingNext,
            ("2018-06-01", "runtime/firn/warm") => Self::Warm,
            ("2021-04-23", "credentials") => Self::Credentials,
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
            ("2020-01-01", "extension/register") => Self::Extension(Call::Register),
            ("2020-01-01", "extension/event/next") => Self::Extension(Call::Next),
            ("2020-01-01", "extension/init/error") => Self::Extension(Call::InitError),
            ("2020-01-01", "extension/exit/error") => Self::Extension(Call::ExitError),
            ("2020-08-15", "logs") => Self::Telemetry(Api::Logs),
            ("2022-07-01", "telemetry" | "telemetry/") => Self::Telemetry(Api::Telemetry),
            _ => return None,
        };
        Some(route)
    }

    const fn is_of_snapshots(&self) -> bool {
        matches!(
            self,
            Self::RestoreNext
                | Self::RestoreError
                | Self::PrimingNext
                | Self::Warm
                | Self::Credentials
        )
    }

    fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Next | Self::RestoreNext | Self::PrimingNext | Self::Credentials => {
                method == Method::GET
            }
            Self::Warm => method == Method::GET || method == Method::POST,
            Self::Answer { .. } | Self::InitError | Self::RestoreError => method == Method::POST,
            Self::Telemetry(_) => method == Method::PUT,
            Self::Extension(Call::Next) => method == Method::GET,
            Self::Extension(_) => method == Method::POST,
        }
    }
}

/// `None` when the environment ends while the runtime waits.
async fn next(exchange: &Exchange, line: &Line, caller: Caller) -> Option<Reply> {
    match exchange.next(caller) {
        Next::Event(event) => Some(answers::event(&event)),
        Next::Wait(waiting) => {
            line.waits();
            waiting.await.ok().map(|event| answers::event(&event))
        }
        Next::Nothing => Some(answers::no_content()),
        Next::Refused(refusal) => Some(answers::refused(refusal)),
    }
}

/// `None` when the environment ends while the runtime waits.
async fn restore_next(exchange: &Exchange, line: &Line, caller: Caller) -> Option<Reply> {
    match exchange.restore_next(caller) {
        RestoreNext::Go => Some(answers::go()),
        RestoreNext::Wait(waiting) => {
            line.waits();
            waiting.await.ok().map(|()| answers::go())
        }
        RestoreNext::Refused(refusal) => Some(answers::refused(refusal)),
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
