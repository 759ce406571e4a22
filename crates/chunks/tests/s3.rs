//! L3 on S3, against a small server of the same protocol: objects in memory, signatures not checked
//! but asked for.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use chunks::{Chunks, Config, Error, L3, S3};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use kit::*;

#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Requests to answer with 503 first.
    failures: AtomicU32,
}

impl Bucket {
    /// Serves until the test ends; returns the endpoint.
    async fn serve(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let bucket = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bucket = Arc::clone(&bucket);
                let service = hyper::service::service_fn(move |request| {
                    let bucket = Arc::clone(&bucket);
                    async move { Ok::<_, Infallible>(bucket.answer(request).await) }
                });
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(stream, service),
                );
            }
        });
        endpoint
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let reply = |status: StatusCode, body: Bytes| {
            Response::builder()
                .status(status)
                .header("etag", "\"0\"")
                .header("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT")
                .body(Full::new(body))
                .unwrap()
        };
        let signed = head
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=key/")) {
            return reply(StatusCode::FORBIDDEN, Bytes::new());
        }
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if failing.is_ok() {
            return reply(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
        }
        let query = head.uri.query().unwrap_or_default();
        let key = head
            .uri
            .path()
            .strip_prefix("/bucket")
            .unwrap()
            .trim_start_matches('/')
            .to_owned();
        let mut objects = self.objects.lock().unwrap();
        match head.method {
            Method::GET if key.is_empty() => {
                let prefix = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("prefix="))
                    .unwrap_or_default();
                let prefix = prefix.replace("%2F", "/");
                let contents: String = objects
                    .iter()
                    .filter(|(key, _)| key.starts_with(&prefix))
                    .map(|(key, bytes)| {
                        format!(
                            "<Contents><Key>{key}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified>\
                             <ETag>\"0\"</ETag><Size>{}</Size></Contents>",
                            bytes.len()
                        )
                    })
                    .collect();
                let list = format!(
                    "<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
                );
                reply(StatusCode::OK, list.into())
            }
            Method::POST if query.contains("delete") => {
                let body = String::from_utf8(body.to_vec()).unwrap();
                let mut deleted = String::new();
                for key in body
                    .split("<Key>")
                    .skip(1)
                    .filter_map(|rest| rest.split("</Key>").next())
                {
                    objects.remove(key);
                    deleted += &format!("<Deleted><Key>{key}</Key></Deleted>");
                }
                reply(
                    StatusCode::OK,
                    format!("<DeleteResult>{deleted}</DeleteResult>").into(),
                )
            }
            Method::PUT => {
                objects.insert(key, body);
                reply(StatusCode::OK, Bytes::new())
            }
            Method::DELETE => {
                objects.remove(&key);
                reply(StatusCode::NO_CONTENT, Bytes::new())
            }
            Method::HEAD | Method::GET => match objects.get(&key) {
                Some(bytes) => reply(StatusCode::OK, bytes.clone()),
                None => reply(StatusCode::NOT_FOUND, Bytes::new()),
            },
            _ => reply(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
        }
    }
}

fn on_s3(dir: &Path, cache: &str, endpoint: &str) -> Config {
    Config {
        dir: dir.join(cache),
        grace_ms: 0,
        l3: L3::S3(S3 {
            url: "s3://bucket/some/where".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            allow_http: true,
            access_key_id: Some("key".to_owned()),
            secret_access_key: Some("secret".to_owned()),
            ..S3::default()
        }),
        ..Config::default()
    }
}

async fn started() -> (Arc<Bucket>, tempfile::TempDir, String) {
    let bucket = Arc::new(Bucket::default());
    let endpoint = bucket.serve().await;
    (bucket, tempfile::tempdir().unwrap(), endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_lives_in_a_bucket() {
    let (bucket, dir, endpoint) = started().await;
    let one = open(on_s3(dir.path(), "one", &endpoint));
    let pages = pages(1, 2 << 20);
    let stored = put(&one, "a", "x", &pages).await;
    assert!(stored.new_chunks > 0);
    assert_eq!(put(&one, "a", "again", &pages).await.new_chunks, 0);
    image(&one, "a", "x")
        .await
        .put_side("ws", b"1")
        .await
        .unwrap();
    let keys: Vec<_> = bucket.objects.lock().unwrap().keys().cloned().collect();
    assert!(
        keys.iter().all(|key| key.starts_with("some/where/")),
        "{keys:?}"
    );

    // Another machine, which has nothing.
    let two = open(on_s3(dir.path(), "two", &endpoint));
    let found = image(&two, "a", "x").await;
    assert_eq!(found.meta(), b"meta of x");
    assert_eq!(filled(&found).await, pages);
    assert_eq!(found.side("ws").await.unwrap().unwrap(), b"1");
    let far = two.stats().l3.hits;
    wait_for(|| two.stats().l1.written_bytes == two.stats().l3.read_bytes).await;
    assert_eq!(filled(&found).await, pages);
    assert_eq!(two.stats().l3.hits, far, "the second time it is in L1");
    assert_eq!(two.list().await.unwrap().images.len(), 2);

    released(&found).await;
    drop(found);
    assert!(two.delete(&account("a"), &id("x")).await.unwrap());
    assert_eq!(
        two.collect_garbage().await.unwrap().chunks,
        0,
        "the other image has the same"
    );
    assert!(two.delete(&account("a"), &id("again")).await.unwrap());
    let collected = two.collect_garbage().await.unwrap();
    assert_eq!(collected.chunks, u64::from(stored.new_chunks));
    assert!(bucket.objects.lock().unwrap().is_empty());
    assert!(two.image(&account("a"), &id("x")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_not_trusted() {
    let (bucket, dir, endpoint) = started().await;
    let pages = pages(1, 1 << 20);
    put(&open(on_s3(dir.path(), "one", &endpoint)), "a", "x", &pages).await;
    let whole = bucket.objects.lock().unwrap().clone();
    for (run, (key, bytes)) in whole.iter().enumerate() {
        let mut damaged = bytes.to_vec();
        let at = damaged.len() / 2;
        damaged[at] ^= 4;
        bucket
            .objects
            .lock()
            .unwrap()
            .insert(key.clone(), damaged.into());
        let chunks = open(on_s3(dir.path(), &run.to_string(), &endpoint));
        let read = async {
            let image = chunks
                .image(&account("a"), &id("x"))
                .await?
                .expect("there is one");
            read_all(&image).await
        };
        assert!(matches!(read.await, Err(Error::Corrupt { .. })), "{key}");
        bucket
            .objects
            .lock()
            .unwrap()
            .insert(key.clone(), bytes.clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again() {
    let (bucket, dir, endpoint) = started().await;
    let chunks = open(on_s3(dir.path(), "one", &endpoint));
    bucket.failures.store(3, Ordering::SeqCst);
    let pages = pages(1, 300_000);
    put(&chunks, "a", "x", &pages).await;
    assert_eq!(filled(&image(&chunks, "a", "x").await).await, pages);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_for_http_nothing_is_sent_in_the_clear() {
    let (_bucket, dir, endpoint) = started().await;
    let mut config = on_s3(dir.path(), "one", &endpoint);
    if let L3::S3(s3) = &mut config.l3 {
        s3.allow_http = false;
    }
    let chunks = Chunks::open(config, key(), clock::Clock::system()).unwrap();
    let image = chunks.image(&account("a"), &id("x")).await;
    assert!(matches!(image, Err(Error::ObjectStore { .. })), "{image:?}");
}
