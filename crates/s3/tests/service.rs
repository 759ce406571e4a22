//! The service behind its door, without a gateway: what needs hooks, restarts or many at once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clock::Clock;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use model::AccountId;
use protocol::{Caller, Principal};
use s3::{Config, DeliveryError, Door, Hooks, Put, S3};
use store::Store;

const MIB: usize = 1 << 20;

struct Running {
    s3: S3,
    door: Door,
    // After its users.
    _store: Store,
}

async fn open(dir: &std::path::Path, hooks: Hooks) -> Running {
    let store = Store::open(&dir.join("store"), Clock::system()).unwrap();
    let config = Config {
        min_part_bytes: 1,
        ..Config::default()
    };
    let s3 = S3::open(config, &dir.join("s3"), &store, Clock::system(), hooks).unwrap();
    s3.start().await.unwrap();
    let door = s3.service();
    Running {
        s3,
        door,
        _store: store,
    }
}

fn account() -> AccountId {
    "111111111111".parse().unwrap()
}

fn caller() -> Caller {
    let region = "us-east-1".parse().unwrap();
    Caller {
        account: account(),
        principal: Principal::root(account(), &region),
        region,
        access_key: Some("111111111111".to_owned()),
        request_id: "id".to_owned(),
    }
}

/// Sends a request as the owner; gives the status and the body.
async fn send(running: &Running, method: &str, uri: &str, body: impl Into<Bytes>) -> (u16, String) {
    let body = body.into();
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "127.0.0.1")
        .header("content-length", body.len())
        .body(())
        .unwrap();
    let request = s3::Request {
        parts: request.into_parts().0,
        signer: Ok(Some(caller())),
        signing: None,
        peer: None,
        request_id: "00000000-0000-0000-0000-000000000001".to_owned(),
    };
    let answer = running.door.answer(request, Full::new(body)).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn ok(running: &Running, method: &str, uri: &str, body: impl Into<Bytes>) -> String {
    let (status, body) = send(running, method, uri, body).await;
    assert!(status < 300, "{method} {uri}: {status} {body}");
    body
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

/// Puts an object together from parts.
async fn in_parts(running: &Running, uri: &str, parts: &[Vec<u8>]) {
    let made = ok(running, "POST", &format!("{uri}?uploads"), "").await;
    let id = between(&made, "<UploadId>", "</UploadId>");
    let mut named = String::new();
    for (index, part) in parts.iter().enumerate() {
        let number = index + 1;
        let target = format!("{uri}?partNumber={number}&uploadId={id}");
        ok(running, "PUT", &target, part.clone()).await;
        named.push_str(&format!("<Part><PartNumber>{number}</PartNumber></Part>"));
    }
    let body = format!("<CompleteMultipartUpload>{named}</CompleteMultipartUpload>");
    ok(running, "POST", &format!("{uri}?uploadId={id}"), body).await;
}

fn files(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_the_server_reads_writes_and_lists_without_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    let (s3, account) = (&running.s3, account());
    let large = vec![7_u8; 3 * MIB];
    let pieces = large.chunks(100_000).map(Bytes::copy_from_slice);
    let pieces: Vec<Result<Bytes, std::io::Error>> = pieces.map(Ok).collect();
    let put = Put::stream(futures_util::stream::iter(pieces)).content_type("x/y");
    let made = s3.put_object(&account, "data", "large", put).await.unwrap();
    assert_eq!(
        (made.size, made.content_type.as_deref()),
        (3 << 20, Some("x/y"))
    );
    let small = Put::bytes("small").metadata("a", "1");
    s3.put_object(&account, "data", "small", small)
        .await
        .unwrap();

    let (object, contents) = s3
        .get_object(&account, "data", "large", None)
        .await
        .unwrap();
    assert_eq!(object.etag, made.etag);
    assert_eq!(contents.remaining(), object.size);
    assert_eq!(contents.collect(4 << 20).await.unwrap(), large);
    let range = Some(1..4);
    let (object, contents) = s3
        .get_object(&account, "data", "small", range)
        .await
        .unwrap();
    assert_eq!(object.metadata, [("a".to_owned(), "1".to_owned())]);
    assert_eq!(contents.collect(10).await.unwrap(), "mal");

    let listed = s3.list(&account, "data", "", None, 1).unwrap();
    assert_eq!(listed[0].key, "large");
    let listed = s3.list(&account, "data", "", Some("large"), 10).unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|one| one.key.as_str())
            .collect::<Vec<_>>(),
        ["small"]
    );

    let code = |error: s3::Error| (error.code(), error.status());
    let other: AccountId = "222222222222".parse().unwrap();
    let refused = s3
        .get_object(&other, "data", "small", None)
        .await
        .unwrap_err();
    assert_eq!(code(refused), ("AccessDenied", 403));
    let absent = s3
        .get_object(&account, "data", "absent", None)
        .await
        .unwrap_err();
    assert_eq!(code(absent), ("NoSuchKey", 404));
    let absent = s3.list(&account, "absent", "", None, 1).unwrap_err();
    assert_eq!(code(absent), ("NoSuchBucket", 404));
    // A stream that fails leaves nothing.
    let broken = [
        Ok(Bytes::from(vec![0; MIB])),
        Err(std::io::Error::other("gone")),
    ];
    let broken = Put::stream(futures_util::stream::iter(broken));
    assert!(
        s3.put_object(&account, "data", "broken", broken)
            .await
            .is_err()
    );
    assert_eq!(
        s3.list(&account, "data", "broken", None, 1).unwrap().len(),
        0
    );
    assert_eq!(files(&dir.path().join("s3")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_stays_whole_while_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    let (s3, account) = (&running.s3, account());
    let parts: Vec<Vec<u8>> = (1..=4_u8).map(|byte| vec![byte; MIB]).collect();
    in_parts(&running, "/data/parts", &parts).await;
    s3.put_object(&account, "data", "whole", Put::bytes(parts[0].clone()))
        .await
        .unwrap();

    let (_, mut in_parts) = s3
        .get_object(&account, "data", "parts", None)
        .await
        .unwrap();
    let (_, mut whole) = s3
        .get_object(&account, "data", "whole", None)
        .await
        .unwrap();
    let first = in_parts.next().await.unwrap().unwrap();
    for key in ["parts", "whole"] {
        s3.put_object(&account, "data", key, Put::bytes("new"))
            .await
            .unwrap();
    }
    let mut read = first.to_vec();
    while let Some(chunk) = in_parts.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(read, parts.concat());
    let mut read = Vec::new();
    while let Some(chunk) = whole.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(read, parts[0]);
    drop((in_parts, whole));
    // Nobody reads them any more, so they go.
    while files(&dir.path().join("s3")) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_object_leave_one_content() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    let account = account();
    let writers = (0..20_u8).map(|byte| {
        let s3 = running.s3.clone();
        tokio::spawn(async move {
            let put = Put::bytes(vec![byte; 100_000]);
            s3.put_object(&account, "data", "k", put).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(files(&dir.path().join("s3")), 1);
    let (_, contents) = running
        .s3
        .get_object(&account, "data", "k", None)
        .await
        .unwrap();
    let read = contents.collect(MIB as u64).await.unwrap();
    assert!(read.iter().all(|byte| *byte == read[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_jump_over_what_lies_below_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    let account = account();
    let puts = (0..5_000_u32).map(|number| {
        let s3 = running.s3.clone();
        async move {
            let key = format!("{}/{number:05}", number % 5);
            s3.put_object(&account, "data", &key, Put::bytes("x"))
                .await
                .unwrap();
        }
    });
    futures_util::stream::iter(puts)
        .buffer_unordered(500)
        .collect::<Vec<_>>()
        .await;
    let listed = ok(&running, "GET", "/data?list-type=2&delimiter=/", "").await;
    let prefixes: Vec<&str> = listed
        .split("<CommonPrefixes><Prefix>")
        .skip(1)
        .map(|rest| &rest[..2])
        .collect();
    assert_eq!(prefixes, ["0/", "1/", "2/", "3/", "4/"]);
    assert!(
        listed.contains("<IsTruncated>false</IsTruncated>"),
        "{listed}"
    );
    let mut token = String::new();
    let mut found = 0;
    loop {
        let page = ok(
            &running,
            "GET",
            &format!("/data?list-type=2&prefix=3/{token}"),
            "",
        )
        .await;
        found += page.matches("<Key>").count();
        if page.contains("<IsTruncated>false</IsTruncated>") {
            break;
        }
        let next = between(&page, "<NextContinuationToken>", "</NextContinuationToken>");
        token = format!("&continuation-token={next}");
    }
    assert_eq!(found, 1000);
}

fn told(
    deliveries: &Arc<Mutex<Vec<String>>>,
    works: &Arc<AtomicBool>,
    tries: &Arc<AtomicUsize>,
) -> Hooks {
    let (deliveries, works) = (Arc::clone(deliveries), Arc::clone(works));
    let tries = Arc::clone(tries);
    Hooks {
        check: Arc::new(|delivery| {
            let known = delivery.destination.ends_with(":f");
            Box::pin(async move { known.then_some(()).ok_or_else(|| "absent".to_owned()) })
        }),
        deliver: Arc::new(move |delivery| {
            let (deliveries, works) = (Arc::clone(&deliveries), Arc::clone(&works));
            tries.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if !works.load(Ordering::SeqCst) {
                    return Err(DeliveryError::Later("busy".to_owned()));
                }
                let event: serde_json::Value = serde_json::from_slice(&delivery.payload).unwrap();
                let record = &event["Records"][0];
                let key = record["s3"]["object"]["key"].as_str().unwrap();
                let name = record["eventName"].as_str().unwrap();
                deliveries.lock().unwrap().push(format!("{name} {key}"));
                Ok(())
            })
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_their_destination_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (deliveries, works, tries) = (Arc::default(), Arc::default(), Arc::default());
    let running = open(dir.path(), told(&deliveries, &works, &tries)).await;
    ok(&running, "PUT", "/data", "").await;
    let configuration = |function: &str| {
        format!(
            "<NotificationConfiguration><CloudFunctionConfiguration><Id>one</Id>\
             <CloudFunction>arn:aws:lambda:us-east-1:111111111111:function:{function}</CloudFunction>\
             <Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event>\
             <Filter><S3Key><FilterRule><Name>prefix</Name><Value>in/</Value></FilterRule></S3Key></Filter>\
             </CloudFunctionConfiguration></NotificationConfiguration>"
        )
    };
    let (status, body) = send(
        &running,
        "PUT",
        "/data?notification",
        configuration("absent"),
    )
    .await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("Unable to validate the following destination configurations"));
    ok(&running, "PUT", "/data?notification", configuration("f")).await;
    let shown = ok(&running, "GET", "/data?notification", "").await;
    assert!(shown.contains("function:f"), "{shown}");

    ok(&running, "PUT", "/data/in/a", "x").await;
    ok(&running, "PUT", "/data/out/a", "x").await;
    ok(&running, "DELETE", "/data/in/a", "").await;
    ok(&running, "DELETE", "/data/in/absent", "").await;
    in_parts(&running, "/data/in/b", &[vec![1; 100]]).await;
    while tries.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    assert!(deliveries.lock().unwrap().is_empty());
    running.s3.shutdown().await;
    drop(running);

    works.store(true, Ordering::SeqCst);
    let _running = open(dir.path(), told(&deliveries, &works, &tries)).await;
    while deliveries.lock().unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        *deliveries.lock().unwrap(),
        [
            "ObjectCreated:Put in/a",
            "ObjectRemoved:Delete in/a",
            "ObjectCreated:CompleteMultipartUpload in/b"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_an_old_name_begins_empty_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    ok(&running, "PUT", "/data/k", vec![1; 100_000]).await;
    let (status, body) = send(&running, "DELETE", "/data", "").await;
    assert_eq!(status, 409, "{body}");
    ok(&running, "DELETE", "/data/k", "").await;
    ok(&running, "POST", "/data/unfinished?uploads", "").await;
    ok(&running, "DELETE", "/data", "").await;
    let (status, body) = send(&running, "PUT", "/data/k", "x").await;
    assert_eq!(status, 404);
    assert!(
        body.contains("<Code>NoSuchBucket</Code>")
            && body.contains("<BucketName>data</BucketName>")
    );
    ok(&running, "PUT", "/data", "").await;
    running.s3.shutdown().await;
    drop(running);
    let running = open(dir.path(), Hooks::default()).await;
    let uploads = ok(&running, "GET", "/data?uploads", "").await;
    assert!(!uploads.contains("<Upload>"), "{uploads}");
    assert_eq!(
        running
            .s3
            .list(&account(), "data", "", None, 10)
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path(), Hooks::default()).await;
    ok(&running, "PUT", "/data", "").await;
    for (method, uri, body, expected) in [
        ("POST", "/data?delete", "<nonsense", "MalformedXML"),
        ("POST", "/data?delete", "", "MissingRequestBodyError"),
        ("PUT", "/data?tagging", "<Tagging/>", "MalformedXML"),
        ("PUT", "/data?policy", "{", "MalformedPolicy"),
        (
            "PUT",
            "/data/k?partNumber=0&uploadId=x",
            "",
            "InvalidArgument",
        ),
        ("PUT", "/data/k?partNumber=1&uploadId=x", "", "NoSuchUpload"),
        ("GET", "/data/%FF", "", "InvalidURI"),
        ("GET", "/UPPER/k", "", "InvalidBucketName"),
        (
            "GET",
            "/data?list-type=2&max-keys=-1",
            "",
            "InvalidArgument",
        ),
        ("POST", "/", "", "NotImplemented"),
        (
            "PUT",
            "/data?versioning",
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
            "NotImplemented",
        ),
        ("GET", "/data/k?torrent", "", "NotImplemented"),
        ("OPTIONS", "/data/k", "", "AccessForbidden"),
    ] {
        let (status, answer) = send(&running, method, uri, body).await;
        assert!(
            (400..=501).contains(&status),
            "{method} {uri}: {status} {answer}"
        );
        assert!(
            answer.contains(&format!("<Code>{expected}</Code><Message>")),
            "{method} {uri}: {answer}"
        );
        assert!(
            answer.contains("</Message>") && answer.contains("<RequestId>"),
            "{answer}"
        );
    }
}
