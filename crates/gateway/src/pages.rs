//! firn's own pages under `/_firn/`: health, and whatever the assembly adds (code downloads).
//!
//! They are no AWS operations: no signature is asked for, so a page must not tell anything that a
//! stranger may not know, or carry its own proof in the path.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use protocol::Body;
use tokio::io::AsyncReadExt;

const CHUNK_BYTES: usize = 64 << 10;

/// What all of them begin with. No AWS path does.
pub(crate) const PREFIX: &str = "/_firn/";

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(&Parts) -> Answer + Send + Sync>;

/// Paths, or beginnings of paths that end in `/`, and who answers them.
#[derive(Clone, Default)]
pub struct Pages(Vec<(&'static str, Handler)>);

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
        self.0
            .push((path, Arc::new(move |parts| Box::pin(handler(parts)))));
        self
    }

    pub(crate) async fn answer(&self, parts: &Parts) -> Response<Body> {
        let path = parts.uri.path();
        let found = self
            .0
            .iter()
            .find(|(known, _)| path == *known || (known.ends_with('/') && path.starts_with(known)));
        let Some((_, handler)) = found else {
            return plain(StatusCode::NOT_FOUND, "firn has no such page\n");
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
