//! L3 on S3, through the `object_store` crate.
//!
//! Its own HTTP client (reqwest) stays out: requests go through the hyper that the server has
//! anyway, with rustls and the system's certificates.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Timestamp;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind,
    HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};

use crate::config::S3;
use crate::dir::Entry;
use crate::seal::MAX_STORED_RECORD;
use crate::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last received, for objects of at most some megabytes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// No object of the store is longer, nor is any page of a listing.
const MAX_ANSWER: usize = MAX_STORED_RECORD;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Bucket {
    store: AmazonS3,
    /// Empty, or ends in a slash.
    prefix: String,
}

impl Bucket {
    pub(crate) fn open(config: &S3) -> Result<Self> {
        let refuse = |reason: String| Error::Config { reason };
        let (bucket, prefix) = parse_url(&config.url)?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_region(config.region.as_deref().unwrap_or("us-east-1"))
            .with_allow_http(config.allow_http)
            .with_retry(RetryConfig {
                max_retries: 4,
                retry_timeout: Duration::from_secs(30),
                ..RetryConfig::default()
            })
            .with_http_connector(Connector);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        match (&config.access_key_id, &config.secret_access_key) {
            (Some(id), Some(secret)) => {
                builder = builder
                    .with_access_key_id(id)
                    .with_secret_access_key(secret);
                if let Some(token) = &config.session_token {
                    builder = builder.with_token(token);
                }
            }
            (None, None) => {}
            _ => {
                let reason =
                    "an access key id needs its secret access key, and the other way round";
                return Err(refuse(reason.to_owned()));
            }
        }
        let store = builder
            .build()
            .map_err(|err| refuse(format!("L3 on S3: {err}")))?;
        Ok(Self { store, prefix })
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    pub(crate) async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let found = match self.store.get(&self.path(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(err) => return Err(failed("read", key)(err)),
        };
        if found.meta.size > limit as u64 {
            return Err(Error::corrupt(
                key,
                format!("it is longer than {limit} bytes"),
            ));
        }
        let bytes = found.bytes().await.map_err(failed("read", key))?;
        Ok(Some(bytes.into()))
    }

    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let bytes = Bytes::from(bytes);
        let put = self.store.put(&self.path(key), bytes.into()).await;
        put.map(|_| ()).map_err(failed("write", key))
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<Option<Entry>> {
        match self.store.head(&self.path(key)).await {
            Ok(meta) => Ok(Some(entry(key.to_owned(), &meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(err) => Err(failed("look at", key)(err)),
        }
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(failed("remove", key)(err)),
        }
    }

    pub(crate) async fn remove_all(&self, keys: Vec<String>) -> Result<()> {
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let mut removed = self
            .store
            .delete_stream(futures_util::stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(err) => return Err(failed("remove", "chunks")(err)),
            }
        }
        Ok(())
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let path = self.path(prefix.trim_end_matches('/'));
        let mut listed = self.store.list(Some(&path));
        let mut found = Vec::new();
        while let Some(meta) = listed.try_next().await.map_err(failed("list", prefix))? {
            if let Some(key) = meta.location.as_ref().strip_prefix(&self.prefix) {
                found.push(entry(key.to_owned(), &meta));
            }
        }
        Ok(found)
    }
}

fn parse_url(url: &str) -> Result<(&str, String)> {
    let refuse = || Error::Config {
        reason: format!("{url:?} is not of the form s3://bucket or s3://bucket/prefix"),
    };
    let rest = url.strip_prefix("s3://").ok_or_else(refuse)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(refuse());
    }
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|_| refuse())?;
    let prefix = match prefix.as_ref() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    Ok((bucket, prefix))
}

fn entry(key: String, meta: &ObjectMeta) -> Entry {
    Entry {
        key,
        bytes: meta.size,
        modified: Timestamp::from_millis(meta.last_modified.timestamp_millis()),
    }
}

fn failed(action: &'static str, key: &str) -> impl FnOnce(object_store::Error) -> Error {
    let path = key.to_owned();
    move |source| Error::ObjectStore {
        action,
        path,
        source: Arc::new(source),
    }
}

/// Makes HTTP clients for `object_store`: one for the bucket, maybe one for credentials.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options
            .get_config_value(&ClientConfigKey::AllowHttp)
            .is_some_and(|value| value == "true");
        let mut tcp = TcpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_native_roots();
        let service = match tls {
            Ok(tls) => {
                let tls = match allow_http {
                    true => tls.https_or_http(),
                    false => tls.https_only(),
                };
                Service::Tls(client(tls.enable_http1().wrap_connector(tcp)))
            }
            // No certificates: good enough for a server next door, without TLS.
            Err(_) if allow_http => {
                tcp.enforce_http(true);
                Service::Plain(client(tcp))
            }
            Err(source) => {
                return Err(object_store::Error::Generic {
                    store: "S3",
                    source: Box::new(source),
                });
            }
        };
        Ok(HttpClient::new(service))
    }
}

fn client<C>(connector: C) -> Client<C, HttpRequestBody>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector)
}

#[derive(Debug)]
enum Service {
    Plain(Client<TcpConnector, HttpRequestBody>),
    Tls(Client<HttpsConnector<TcpConnector>, HttpRequestBody>),
}

impl Service {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        };
        let answer = answer.await.map_err(|err| {
            let kind = if err.is_connect() {
                HttpErrorKind::Connect
            } else {
                HttpErrorKind::Request
            };
            HttpError::new(kind, err)
        })?;
        // Taken whole here, so that the timeout covers it. Objects are small.
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|err| HttpError::new_boxed(HttpErrorKind::Interrupted, err))?
            .to_bytes();
        let body = http_body_util::Full::new(body).map_err(|never| match never {});
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

impl HttpService for Service {
    // What the attribute of the crate async-trait makes of an `async fn`.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            match tokio::time::timeout(REQUEST_TIMEOUT, self.send(request)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_url_has_a_bucket_and_maybe_a_prefix() {
        let parsed = |url| parse_url(url).map(|(bucket, prefix)| (bucket.to_owned(), prefix));
        assert_eq!(parsed("s3://b").unwrap(), ("b".to_owned(), String::new()));
        assert_eq!(parsed("s3://b/").unwrap(), ("b".to_owned(), String::new()));
        assert_eq!(
            parsed("s3://b/p/q/").unwrap(),
            ("b".to_owned(), "p/q/".to_owned())
        );
        for bad in ["b", "s3://", "s3:///p", "http://b", "s3://b/../p"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
