use std::time::Duration;

use sandbox::Exit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::runtime_api::{Event, InitOutcome};

/// A server on a free port, and the invoker's side of it.
struct Fixture {
    exchange: Arc<Exchange>,
    init: oneshot::Receiver<InitOutcome>,
    address: std::net::SocketAddr,
    _server: JoinSet<()>,
}

const LIMITS: Limits = Limits {
    connections: 4,
    response_bytes: 1000,
    streamed_bytes: 2000,
};

async fn fixture() -> Fixture {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (exchange, init) = Exchange::new();
    let exchange = Arc::new(exchange);
    let mut server = JoinSet::new();
    server.spawn(serve(listener, Arc::clone(&exchange), LIMITS));
    Fixture {
        exchange,
        init,
        address,
        _server: server,
    }
}

/// The runtime: a TCP client that writes requests by hand.
struct Runtime(TcpStream);

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Fixture {
    async fn connect(&self) -> Runtime {
        Runtime(TcpStream::connect(self.address).await.unwrap())
    }

    fn deliver(&self, id: &str, payload: &'static str) -> oneshot::Receiver<Answer> {
        let event = Event {
            invocation: crate::Invocation {
                request_id: id.into(),
                payload: Bytes::from_static(payload.as_bytes()),
                ..crate::Invocation::default()
            },
            invocation_id: format!("i-{id}"),
            deadline_ms: 1234,
            ..Event::default()
        };
        self.exchange
            .deliver(Arc::new(event))
            .expect("the runtime is ready")
    }

    /// A runtime that has the event `id` in hand.
    async fn running(&mut self, id: &str) -> (Runtime, oneshot::Receiver<Answer>) {
        let mut runtime = self.connect().await;
        runtime
            .send("GET", "/2018-06-01/runtime/invocation/next", &[], b"")
            .await;
        assert!(matches!((&mut self.init).await, Ok(InitOutcome::Ready)));
        let answer = self.deliver(id, "{}");
        assert_eq!(runtime.receive().await.status, 200);
        (runtime, answer)
    }
}

impl Runtime {
    async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if headers.iter().all(|(name, _)| *name != "Transfer-Encoding") && method != "GET" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> Answered {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Answered {
                        status,
                        head: head.to_owned(),
                        body: body.to_owned(),
                    };
                }
            }
            let read = self.0.read_buf(&mut bytes).await.unwrap();
            assert_ne!(
                read,
                0,
                "connection closed after {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answered {
        self.send(method, path, headers, body).await;
        self.receive().await
    }

    async fn post(&mut self, path: &str, body: &[u8]) -> Answered {
        self.call("POST", path, &[], body).await
    }
}

#[tokio::test]
async fn event_arrives_with_its_headers_and_the_response_goes_back() {
    let mut fixture = fixture().await;
    let mut runtime = fixture.connect().await;
    runtime
        .send("GET", "/2018-06-01/runtime/invocation/next", &[], b"")
        .await;
    assert!(matches!((&mut fixture.init).await, Ok(InitOutcome::Ready)));
    let answer = fixture.deliver("a", "{\"k\":1}");
    let event = runtime.receive().await;
    assert_eq!(event.body, "{\"k\":1}");
    for header in [
        "lambda-runtime-aws-request-id: a",
        "lambda-runtime-deadline-ms: 1234",
        "content-length: 7",
    ] {
        assert!(event.head.contains(header), "{header} in {}", event.head);
    }
    let accepted = runtime
        .post("/2018-06-01/runtime/invocation/a/response", b"\"done\"")
        .await;
    assert_eq!(
        (accepted.status, accepted.body.as_str()),
        (202, "{\"status\":\"OK\"}\n")
    );
    let Ok(Answer::Response { body, .. }) = answer.await else {
        panic!("no response")
    };
    assert_eq!(body, "\"done\"");
}

#[tokio::test]
async fn error_carries_the_type_from_the_header() {
    let mut fixture = fixture().await;
    let (mut runtime, answer) = fixture.running("a").await;
    let headers = [("Lambda-Runtime-Function-Error-Type", "Runtime.Custom")];
    let path = "/2018-06-01/runtime/invocation/a/error";
    assert_eq!(
        runtime
            .call("POST", path, &headers, b"{\"errorMessage\":\"x\"}")
            .await
            .status,
        202
    );
    let Ok(Answer::Error(fault)) = answer.await else {
        panic!("no error")
    };
    assert_eq!(fault.error_type.as_deref(), Some("Runtime.Custom"));
    assert_eq!(fault.body, "{\"errorMessage\":\"x\"}");
}

#[tokio::test]
async fn stale_double_and_misplaced_answers_are_refused_as_aws_does() {
    let mut fixture = fixture().await;
    let mut runtime = fixture.connect().await;
    let refused = runtime
        .post("/2018-06-01/runtime/invocation/a/response", b"1")
        .await;
    assert_eq!(refused.status, 400);
    let (mut runtime, _answer) = fixture.running("a").await;
    let refused = runtime
        .post("/2018-06-01/runtime/invocation/other/response", b"1")
        .await;
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (
            400,
            r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#
        )
    );
    assert_eq!(
        runtime
            .post("/2018-06-01/runtime/invocation/a/response", b"1")
            .await
            .status,
        202
    );
    let refused = runtime
        .post("/2018-06-01/runtime/invocation/a/response", b"1")
        .await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.body.contains("InvalidStateTransition"),
        "{}",
        refused.body
    );
    let refused = runtime.post("/2018-06-01/runtime/init/error", b"{}").await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn init_error_is_reported_with_its_type() {
    let mut fixture = fixture().await;
    let mut runtime = fixture.connect().await;
    let headers = [(
        "Lambda-Runtime-Function-Error-Type",
        "Runtime.ImportModuleError",
    )];
    let path = "/2018-06-01/runtime/init/error";
    assert_eq!(
        runtime.call("POST", path, &headers, b"{}").await.status,
        202
    );
    let Ok(InitOutcome::Failed(fault)) = (&mut fixture.init).await else {
        panic!("no fault")
    };
    assert_eq!(
        fault.error_type.as_deref(),
        Some("Runtime.ImportModuleError")
    );
}

#[tokio::test]
async fn response_over_the_limit_is_refused_and_the_runtime_can_go_on() {
    for headers in [&[][..], &[("Transfer-Encoding", "chunked")][..]] {
        let mut fixture = fixture().await;
        let (mut runtime, answer) = fixture.running("a").await;
        let path = "/2018-06-01/runtime/invocation/a/response";
        let body = if headers.is_empty() {
            vec![b'x'; 1001]
        } else {
            [b"3e9\r\n".as_slice(), &[b'x'; 1001], b"\r\n0\r\n\r\n"].concat()
        };
        let refused = runtime.call("POST", path, headers, &body).await;
        assert_eq!(refused.status, 413);
        assert!(refused.body.contains("(1000 bytes)"), "{}", refused.body);
        assert!(matches!(answer.await, Ok(Answer::TooLarge)));
        let mut back = fixture.exchange.back();
        runtime
            .send("GET", "/2018-06-01/runtime/invocation/next", &[], b"")
            .await;
        assert!((&mut back).await.is_ok());
    }
}

#[tokio::test]
async fn streamed_chunks_are_passed_on_one_by_one_with_the_trailing_error() {
    let mut fixture = fixture().await;
    let (mut runtime, answer) = fixture.running("a").await;
    let headers = [
        ("Lambda-Runtime-Function-Response-Mode", "streaming"),
        ("Transfer-Encoding", "chunked"),
        (
            "Trailer",
            "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
        ),
        ("Content-Type", "text/plain"),
    ];
    let path = "/2018-06-01/runtime/invocation/a/response";
    runtime
        .send("POST", path, &headers, b"5\r\nfirst\r\n")
        .await;
    let Ok(Answer::Stream {
        mut chunks,
        content_type,
    }) = answer.await
    else {
        panic!("no stream")
    };
    assert_eq!(content_type.as_deref(), Some("text/plain"));
    let Chunk::Data(data) = chunks.next().await else {
        panic!("no chunk")
    };
    assert_eq!(data, "first");
    let rest = b"6\r\nsecond\r\n0\r\nLambda-Runtime-Function-Error-Type: Late\r\n\
        Lambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n\r\n";
    runtime.0.write_all(rest).await.unwrap();
    let Chunk::Data(data) = chunks.next().await else {
        panic!("no chunk")
    };
    assert_eq!(data, "second");
    let Chunk::End(Some(error)) = chunks.next().await else {
        panic!("no error")
    };
    assert_eq!(error.error_type.as_deref(), Some("Late"));
    assert_eq!(error.body, "{\"a\":1}");
    assert_eq!(runtime.receive().await.status, 202);
}

#[tokio::test]
async fn cut_off_response_is_truncated() {
    for mode in [
        None,
        Some(("Lambda-Runtime-Function-Response-Mode", "streaming")),
    ] {
        let mut fixture = fixture().await;
        let (mut runtime, answer) = fixture.running("a").await;
        let headers: Vec<_> = mode
            .into_iter()
            .chain([("Transfer-Encoding", "chunked")])
            .collect();
        let path = "/2018-06-01/runtime/invocation/a/response";
        runtime.send("POST", path, &headers, b"5\r\nfi").await;
        drop(runtime);
        match answer.await {
            Ok(Answer::Truncated) if mode.is_none() => {}
            Ok(Answer::Stream { mut chunks, .. }) if mode.is_some() => {
                let mut last = chunks.next().await;
                if let Chunk::Data(_) = last {
                    last = chunks.next().await;
                }
                assert!(
                    matches!(last, Chunk::Broken(StreamFault::Truncated)),
                    "{last:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn unknown_response_mode_is_refused() {
    let mut fixture = fixture().await;
    let (mut runtime, answer) = fixture.running("a").await;
    let headers = [("Lambda-Runtime-Function-Response-Mode", "telepathic")];
    let path = "/2018-06-01/runtime/invocation/a/response";
    assert_eq!(runtime.call("POST", path, &headers, b"1").await.status, 400);
    assert!(matches!(answer.await, Ok(Answer::InvalidResponseMode)));
}

#[tokio::test]
async fn error_cause_of_a_mebibyte_fits_into_the_headers() {
    let mut fixture = fixture().await;
    let (mut runtime, answer) = fixture.running("a").await;
    let cause = "x".repeat(1024 * 1024);
    let headers = [("Lambda-Runtime-Function-XRay-Error-Cause", cause.as_str())];
    let path = "/2018-06-01/runtime/invocation/a/error";
    assert_eq!(
        runtime.call("POST", path, &headers, b"{}").await.status,
        202
    );
    assert!(matches!(answer.await, Ok(Answer::Error(_))));
}

#[tokio::test]
async fn paths_of_other_apis_get_typed_answers() {
    let fixture = fixture().await;
    let mut runtime = fixture.connect().await;
    for (method, path, status, text) in [
        (
            "PUT",
            "/2022-07-01/telemetry",
            202,
            "Telemetry.NotSupported",
        ),
        ("PUT", "/2020-08-15/logs", 202, "Logs.NotSupported"),
        (
            "POST",
            "/2020-01-01/extension/register",
            501,
            "Extension.NotSupported",
        ),
        (
            "GET",
            "/2018-06-01/runtime/restore/next",
            403,
            "InvalidStateTransition",
        ),
        (
            "POST",
            "/2018-06-01/runtime/restore/error",
            403,
            "InvalidStateTransition",
        ),
        ("GET", "/2018-06-01/runtime/invocation/a/response", 405, ""),
        ("GET", "/elsewhere", 404, "404 page not found"),
    ] {
        let answered = runtime.call(method, path, &[], b"").await;
        assert_eq!(answered.status, status, "{method} {path}");
        assert!(answered.body.contains(text), "{path}: {}", answered.body);
    }
}

#[tokio::test]
async fn exit_of_the_process_ends_waiting_requests_and_answers() {
    let mut fixture = fixture().await;
    let (mut runtime, answer) = fixture.running("a").await;
    assert_eq!(
        runtime
            .post("/2018-06-01/runtime/invocation/a/response", b"1")
            .await
            .status,
        202
    );
    assert!(answer.await.is_ok());
    let back = fixture.exchange.back();
    runtime
        .send("GET", "/2018-06-01/runtime/invocation/next", &[], b"")
        .await;
    assert!(back.await.is_ok());
    fixture.exchange.close(Exit::Code(1));
    assert_eq!(
        runtime.0.read(&mut [0; 16]).await.unwrap(),
        0,
        "closed without an answer"
    );
}

#[tokio::test]
async fn garbage_and_idle_connections_do_not_keep_the_runtime_out() {
    let mut fixture = fixture().await;
    for garbage in [
        &b"\x00\xff\xfe\r\n\r\n"[..],
        b"GET \r\n\r\n",
        b"NONSENSE / HTTP/9\r\n\r\n",
    ] {
        let mut attacker = fixture.connect().await;
        attacker.0.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let _ = attacker.0.read_to_end(&mut answer).await;
    }
    let mut slow = fixture.connect().await;
    slow.0.write_all(b"GET /2018-06-01/runti").await.unwrap();
    let (_runtime, _answer) = fixture.running("a").await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_others_close() {
    let fixture = fixture().await;
    let mut open = Vec::new();
    for _ in 0..LIMITS.connections {
        let mut runtime = fixture.connect().await;
        assert_eq!(runtime.call("GET", "/x", &[], b"").await.status, 404);
        open.push(runtime);
    }
    let mut beyond = fixture.connect().await;
    beyond.send("GET", "/x", &[], b"").await;
    let early = tokio::time::timeout(Duration::from_millis(50), beyond.0.readable()).await;
    assert!(early.is_err(), "not served yet");
    open.pop();
    assert_eq!(beyond.receive().await.status, 404);
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let fixture = fixture().await;
    let mut attacker = fixture.connect().await;
    attacker
        .0
        .write_all(b"GET / HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    let chunk = [b'x'; 64 * 1024];
    let mut written = 0;
    while written < 64 * 1024 * 1024 {
        match attacker.0.write(&chunk).await {
            Ok(size) => written += size,
            Err(_) => return,
        }
    }
    panic!("the server took {written} bytes of headers");
}
