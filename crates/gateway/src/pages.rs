//! firn's own pages under `/_firn/`: health, and whatever the assembly adds (code downloads).
//!
//! They are no AWS operations: no signature is asked for, so a page must not tell anything that a
//! stranger may not know, or carry its own proof in the path. Pages that only operators may use
//! are added with [`Pages::admin`]: no function reaches those, and a server that verifies
//! signatures asks for one.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use model::AccountId;
use percent_encoding::percent_decode_str;
use protocol::Body;
use tokio::io::AsyncReadExt;

const CHUNK_BYTES: usize = 64 << 10;

/// What all of them begin with. No AWS path does.
pub(crate) const PREFIX: &str = "/_firn/";

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(&Parts) -> Answer + Send + Sync>;

/// Paths, or beginnings of paths that end in `/`, and who answers them.
#[derive(Clone, Default)]
pub struct Pages(Vec<(&'static str, Page)>);

type AdminHandler = Arc<dyn Fn(AdminRequest) -> Answer + Send + Sync>;

#[derive(Clone)]
enum Page {
    Public(Handler),
    Admin(AdminHandler),
}

/// Why somebody may not use an operator's page.
pub(crate) enum Refused {
    /// For functions there is no such page.
    OfFunction,
    Unsigned,
}

const UNSIGNED: &str = "this page needs a request signed with one of the server's keys\n";

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminRequest {
    pub method: Method,
    pub path: String,
    query: String,
    /// The account that the request is limited to; `None` if it may see and change all.
    pub account: Option<AccountId>,
}

impl AdminRequest {
    pub(crate) fn new(parts: &Parts, account: Option<AccountId>) -> Self {
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            account,
        }
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
    }

    /// The rest of the path after `prefix`, decoded.
    pub fn rest(&self, prefix: &str) -> Option<String> {
        self.path.strip_prefix(prefix).map(decoded)
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl Pages {
    /// Adds a page at `path`, which begins with `/_firn/`. One that ends in `/` also answers
    /// everything below.
    #[must_use]
    pub fn page<F, A>(mut self, path: &'static str, handler: F) -> Self
    where
        F: Fn(&Parts) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        debug_assert!(path.starts_with(PREFIX));
        let handler: Handler = Arc::new(move |parts| Box::pin(handler(parts)));
        self.0.push((path, Page::Public(handler)));
        self
    }

    /// Adds a page for operators at `path`, which begins with `/_firn/`; any method reaches it.
    /// One that ends in `/` also answers everything below.
    #[must_use]
    pub fn admin<F, A>(mut self, path: &'static str, handler: F) -> Self
    where
        F: Fn(AdminRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        debug_assert!(path.starts_with(PREFIX));
        let handler: AdminHandler = Arc::new(move |request| Box::pin(handler(request)));
        self.0.push((path, Page::Admin(handler)));
        self
    }

    /// Answers a request. `authorise` tells for whom an operator's page may act.
    pub(crate) async fn answer(
        &self,
        parts: &Parts,
        authorise: impl FnOnce() -> Result<Option<AccountId>, Refused>,
    ) -> Response<Body> {
        let path = parts.uri.path();
        let found = self
            .0
            .iter()
            .find(|(known, _)| path == *known || (known.ends_with('/') && path.starts_with(known)));
        let handler = match found {
            None => return no_such_page(),
            Some((_, Page::Public(handler))) => handler,
            Some((_, Page::Admin(handler))) => {
                return match authorise() {
                    Ok(account) => handler(AdminRequest::new(parts, account)).await,
                    Err(Refused::OfFunction) => no_such_page(),
                    Err(Refused::Unsigned) => plain(StatusCode::FORBIDDEN, UNSIGNED),
                };
            }
        };
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "this page can only be read\n",
            );
        }
        handler(parts).await
    }
}

fn no_such_page() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "firn has no such page\n")
}

/// A JSON answer, for pages.
pub fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => with_type(StatusCode::OK, "application/json", text),
        Err(err) => {
            tracing::error!(error = %err, "cannot write a page as JSON");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        }
    }
}

/// Text of any type, for pages.
pub fn text(content_type: &'static str, text: String) -> Response<Body> {
    with_type(StatusCode::OK, content_type, text.into_bytes())
}

/// A plain text answer, for pages.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    with_type(
        status,
        "text/plain; charset=utf-8",
        text.as_bytes().to_vec(),
    )
}

fn with_type(status: StatusCode, content_type: &'static str, text: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(content_type),
    );
    response
}

/// A file, sent piece by piece.
pub async fn file(path: &Path, content_type: &'static str) -> Response<Body> {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, length))
    };
    let (file, length) = match opened.await {
        Ok(opened) => opened,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return plain(StatusCode::NOT_FOUND, "the file is gone\n");
        }
        Err(err) => {
            tracing::error!(path = %path.display(), error = %err, "cannot open a file to send");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
        }
    };
    let mut response = Response::new(Body::stream(StreamBody::new(chunks(file))));
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(content_type),
    );
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn chunks(file: tokio::fs::File) -> impl Stream<Item = std::io::Result<Frame<Bytes>>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let n = file.read_buf(&mut chunk).await?;
        Ok((n > 0).then(|| (Frame::data(chunk.freeze()), file)))
    })
}
