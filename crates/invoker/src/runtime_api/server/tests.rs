use std::time::Duration;

use sandbox::Exit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::Credentials;
use crate::runtime_api::Event;
use crate::runtime_api::exchange::{Init, InitOutcome, Rehearsal, RestoreOutcome};
use crate::runtime_api::replay::{PendingRequest, Persistence};

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
    let (exchange, init) = Exchange::new(Init::OnDemand);
    let (exchange, address, server) = served(exchange, Vec::new()).await;
    Fixture {
        exchange,
        init,
        address,
        _server: server,
    }
}

/// As [`fixture`], for a runtime whose snapshot is to be taken.
async fn rehearsal(events: &[&'static str]) -> Fixture {
    let (exchange, init) = Exchange::new(Init::Snapshot(Rehearsal {
        events: events
            .iter()
            .map(|event| Bytes::from_static(event.as_bytes()))
            .collect(),
        clock: clock::Clock::system(),
        invoked_arn: "arn:f".into(),
        timeout: Duration::from_secs(3),
    }));
    let (exchange, address, server) = served(exchange, Vec::new()).await;
    Fixture {
        exchange,
        init,
        address,
        _server: server,
    }
}

/// The server of a thawed runtime.
struct Thawed {
    exchange: Arc<Exchange>,
    outcome: oneshot::Receiver<RestoreOutcome>,
    address: std::net::SocketAddr,
    _server: JoinSet<()>,
}

async fn thawed(pending: Vec<Pending>) -> Thawed {
    let (exchange, outcome) = Exchange::thawed(&pending);
    let (exchange, address, server) = served(exchange, pending).await;
    Thawed {
        exchange,
        outcome,
        address,
        _server: server,
    }
}

async fn served(
    exchange: Exchange,
    replay: Vec<Pending>,
) -> (Arc<Exchange>, std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let exchange = Arc::new(exchange);
    let credentials =
        CredentialSource::new("token".into(), clock::Clock::system(), || Credentials {
            access_key_id: "AK".into(),
            secret_access_key: "SK".into(),
            session_token: "ST".into(),
            expiration: Some(clock::Timestamp::from_secs(1_795_305_600)),
        });
    let service = Service {
        limits: LIMITS,
        credentials: Some(credentials),
        replay,
        extensions: Arc::default(),
        telemetry: Arc::new(Telemetry::off(clock::Clock::system())),
        about: About {
            name: "f".into(),
            version: "7".into(),
            handler: "app.handler".into(),
            account: "000000000000".into(),
        },
    };
    let mut server = JoinSet::new();
    server.spawn(serve(listener, Arc::clone(&exchange), service));
    (exchange, address, server)
}

/// A connection of the runtime from this port of its own.
async fn connect_from(port: u16, address: std::net::SocketAddr) -> Runtime {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], port).into()).unwrap();
    Runtime(socket.connect(address).await.unwrap())
}

fn pending(request: PendingRequest, caller: Caller) -> Vec<Pending> {
    vec![Pending { request, caller }]
}

/// The runtime: a TCP client that writes requests by hand.
struct Runtime(TcpStream);

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

fn deliver(exchange: &Exchange, id: &str, payload: &'static str) -> oneshot::Receiver<Answer> {
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
    exchange
        .deliver(Arc::new(event))
        .expect("the runtime is ready")
}

impl Fixture {
    async fn connect(&self) -> Runtime {
        Runtime(TcpStream::connect(self.address).await.unwrap())
    }

    fn deliver(&self, id: &str, payload: &'static str) -> oneshot::Receiver<Answer> {
        deliver(&self.exchange, id, payload)
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
            403,
            "Extension.MissingExtensionIdentifier",
        ),
        (
            "PUT",
            "/2020-08-15/logs",
            403,
            "Extension.MissingExtensionIdentifier",
        ),
        (
            "POST",
            "/2020-01-01/extension/register",
            403,
            "Extension.InvalidExtensionName",
        ),
        ("GET", "/2020-01-01/extension/register", 405, ""),
        ("GET", "/2018-06-01/runtime/restore/next", 404, "404 page"),
        ("POST", "/2018-06-01/runtime/restore/error", 404, "404 page"),
        (
            "GET",
            "/2018-06-01/runtime/firn/priming/next",
            404,
            "404 page",
        ),
        ("GET", "/2018-06-01/runtime/firn/warm", 404, "404 page"),
        ("GET", "/2021-04-23/credentials", 404, "404 page"),
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

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const RESTORE: &str = "/2018-06-01/runtime/restore/next";
const PRIMING: &str = "/2018-06-01/runtime/firn/priming/next";
const WARM: &str = "/2018-06-01/runtime/firn/warm";

fn request_id(event: &Answered) -> String {
    let line = event
        .head
        .lines()
        .find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn client_of_firn_warms_up_primes_and_is_cut_in_restore_next() {
    let mut fixture = rehearsal(&["{\"n\":1}", "{\"n\":2}"]).await;
    let mut runtime = fixture.connect().await;
    let warm = runtime.call("GET", WARM, &[], b"").await;
    assert_eq!((warm.status, warm.body.as_str()), (200, "{}"));
    for header in ["deadline-ms", "invoked-function-arn: arn:f", "trace-id"] {
        let header = format!("lambda-runtime-{header}");
        assert!(warm.head.contains(&header), "{header} in {}", warm.head);
    }
    assert_eq!(runtime.post(WARM, b"anything").await.status, 202);
    for (body, verb) in [("{\"n\":1}", "response"), ("{\"n\":2}", "error")] {
        let event = runtime.call("GET", PRIMING, &[], b"").await;
        assert_eq!((event.status, event.body.as_str()), (200, body));
        let path = format!(
            "/2018-06-01/runtime/invocation/{}/{verb}",
            request_id(&event)
        );
        assert_eq!(runtime.post(&path, b"{}").await.status, 202);
    }
    assert_eq!(runtime.call("GET", PRIMING, &[], b"").await.status, 204);
    assert!(fixture.init.try_recv().is_err());
    runtime.send("GET", RESTORE, &[], b"").await;
    let outcome = (&mut fixture.init).await;
    assert!(matches!(outcome, Ok(InitOutcome::RestoreReady)));
    let pending = fixture.exchange.pending();
    let port = runtime.0.local_addr().unwrap().port();
    assert_eq!(pending[0].caller.port, port);
    assert_eq!(pending[0].request, PendingRequest::RestoreNext);
}

#[tokio::test]
async fn runtime_that_knows_no_snapshots_gets_its_priming_events_from_next() {
    let mut fixture = rehearsal(&["1"]).await;
    let mut runtime = fixture.connect().await;
    let event = runtime.call("GET", NEXT, &[], b"").await;
    assert_eq!(event.body, "1");
    let path = format!(
        "/2018-06-01/runtime/invocation/{}/response",
        request_id(&event)
    );
    assert_eq!(runtime.post(&path, b"1").await.status, 202);
    runtime.send("GET", NEXT, &[], b"").await;
    assert!(matches!((&mut fixture.init).await, Ok(InitOutcome::Ready)));
    let pending = fixture.exchange.pending();
    assert_eq!(pending[0].request, PendingRequest::InvocationNext);
}

#[tokio::test]
async fn failed_hook_before_the_snapshot_fails_the_init() {
    let mut fixture = rehearsal(&[]).await;
    let mut runtime = fixture.connect().await;
    let headers = [(
        "Lambda-Runtime-Function-Error-Type",
        "Runtime.BeforeSnapshotError",
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
        Some("Runtime.BeforeSnapshotError")
    );
    let refused = runtime.call("GET", RESTORE, &[], b"").await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.body,
        r#"{"errorMessage":"Transition from InitError to Ready failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}"#
    );
}

#[tokio::test]
async fn request_from_before_the_freeze_is_answered_on_the_new_connection() {
    // The runtime before the freeze.
    let mut before = rehearsal(&[]).await;
    let mut runtime = connect_from(0, before.address).await;
    let port = runtime.0.local_addr().unwrap().port();
    runtime.send("GET", RESTORE, &[], b"").await;
    assert!(matches!(
        (&mut before.init).await,
        Ok(InitOutcome::RestoreReady)
    ));
    let stored = serde_json::to_vec(&before.exchange.pending()).unwrap();
    drop((before, runtime));
    // And after the thaw: it connects from the same port and sends nothing.
    let mut after = thawed(serde_json::from_slice(&stored).unwrap()).await;
    let mut runtime = connect_from(port, after.address).await;
    after.exchange.arrived().await;
    let early = tokio::time::timeout(Duration::from_millis(20), runtime.0.readable()).await;
    assert!(early.is_err(), "answered before it was released");
    after.exchange.release();
    let restored = runtime.receive().await;
    assert_eq!((restored.status, restored.body.as_str()), (200, ""));
    // The connection goes on as any other.
    runtime.send("GET", NEXT, &[], b"").await;
    assert!(matches!(
        (&mut after.outcome).await,
        Ok(RestoreOutcome::Ready { .. })
    ));
    let _answer = deliver(&after.exchange, "a", "{}");
    assert_eq!(runtime.receive().await.body, "{}");
    let path = "/2018-06-01/runtime/invocation/a/response";
    assert_eq!(runtime.post(path, b"1").await.status, 202);
}

#[tokio::test]
async fn event_is_the_answer_to_a_next_from_before_the_freeze() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let caller = Caller {
        port,
        ..Caller::default()
    };
    let mut after = thawed(pending(PendingRequest::InvocationNext, caller)).await;
    // Connections that were idle just come back, before or after.
    let mut idle = TcpStream::connect(after.address).await.unwrap();
    let mut runtime = Runtime(socket.connect(after.address).await.unwrap());
    assert!(matches!(
        (&mut after.outcome).await,
        Ok(RestoreOutcome::Ready { .. })
    ));
    let answer = deliver(&after.exchange, "a", "{\"k\":1}");
    assert_eq!(runtime.receive().await.body, "{\"k\":1}");
    idle.write_all(
        b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n7",
    )
    .await
    .unwrap();
    assert!(matches!(answer.await, Ok(Answer::Response { body, .. }) if body == "7"));
    assert_eq!(Runtime(idle).receive().await.status, 202);
}

#[tokio::test]
async fn request_is_replayed_only_to_its_own_port() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let caller = Caller {
        port,
        ..Caller::default()
    };
    let after = thawed(pending(PendingRequest::RestoreNext, caller)).await;
    after.exchange.release();
    let other = TcpStream::connect(after.address).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(20), other.readable()).await;
    assert!(early.is_err(), "another connection got the answer");
    let mut runtime = Runtime(socket.connect(after.address).await.unwrap());
    assert_eq!(runtime.receive().await.status, 200);
}

#[tokio::test]
async fn replayed_answer_keeps_to_what_the_request_said_of_its_connection() {
    for (http_1_0, connection, closes) in [
        (false, None, false),
        (false, Some(Persistence::Close), true),
        (true, None, true),
        (true, Some(Persistence::KeepAlive), false),
    ] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let caller = Caller {
            port: socket.local_addr().unwrap().port(),
            http_1_0,
            connection,
        };
        let after = thawed(pending(PendingRequest::RestoreNext, caller)).await;
        after.exchange.release();
        let mut runtime = Runtime(socket.connect(after.address).await.unwrap());
        let answered = runtime.receive().await;
        let version = if http_1_0 { "HTTP/1.0 " } else { "HTTP/1.1 " };
        assert!(answered.head.starts_with(version), "{}", answered.head);
        let mut rest = [0; 1];
        let end = tokio::time::timeout(Duration::from_millis(50), runtime.0.read(&mut rest)).await;
        assert_eq!(end.is_ok(), closes, "{caller:?}");
    }
}

#[tokio::test]
async fn what_the_request_said_of_its_connection_is_kept() {
    for (line, connection) in [
        ("", None),
        ("Connection: Close\r\n", Some(Persistence::Close)),
        (
            "Connection: x, keep-alive\r\n",
            Some(Persistence::KeepAlive),
        ),
    ] {
        let mut fixture = rehearsal(&[]).await;
        let mut runtime = fixture.connect().await;
        let request = format!("GET {RESTORE} HTTP/1.0\r\n{line}\r\n");
        runtime.0.write_all(request.as_bytes()).await.unwrap();
        assert!((&mut fixture.init).await.is_ok());
        let caller = fixture.exchange.pending()[0].caller;
        assert_eq!((caller.http_1_0, caller.connection), (true, connection));
    }
}

#[tokio::test]
async fn failed_hook_after_the_restore_is_accepted_once() {
    let caller = Caller::default();
    let mut after = thawed(pending(PendingRequest::RestoreNext, caller)).await;
    let mut runtime = Runtime(TcpStream::connect(after.address).await.unwrap());
    let path = "/2018-06-01/runtime/restore/error";
    let headers = [(
        "Lambda-Runtime-Function-Error-Type",
        "Runtime.AfterRestoreError",
    )];
    let body = b"{\"errorMessage\":\"no\"}";
    let early = runtime.call("POST", path, &headers, body).await;
    assert_eq!(early.status, 403);
    assert!(
        early
            .body
            .contains("Transition from RestoreReady to RestoreError failed"),
        "{}",
        early.body
    );
    after.exchange.release();
    assert_eq!(runtime.call("GET", RESTORE, &[], b"").await.status, 200);
    let accepted = runtime.call("POST", path, &headers, body).await;
    assert_eq!(
        (accepted.status, accepted.body.as_str()),
        (202, "{\"status\":\"OK\"}\n")
    );
    let Ok(RestoreOutcome::Failed(fault)) = (&mut after.outcome).await else {
        panic!("no fault")
    };
    assert_eq!(
        fault.error_type.as_deref(),
        Some("Runtime.AfterRestoreError")
    );
    assert_eq!(fault.body, &body[..]);
    assert_eq!(runtime.call("GET", NEXT, &[], b"").await.status, 403);
}

#[tokio::test]
async fn credentials_are_for_those_who_know_the_token() {
    let fixture = rehearsal(&[]).await;
    let mut runtime = fixture.connect().await;
    let path = "/2021-04-23/credentials";
    for headers in [
        &[][..],
        &[("Authorization", "guess")],
        &[("Authorization", "toke")],
    ] {
        let refused = runtime.call("GET", path, headers, b"").await;
        assert_eq!(
            (refused.status, refused.body.as_str()),
            (404, "cannot get credentials for the provided token\n")
        );
    }
    let headers = [("Authorization", "token")];
    let given = runtime.call("GET", path, &headers, b"").await;
    assert_eq!(given.status, 200);
    assert_eq!(
        given.body,
        "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"SK\",\"Token\":\"ST\",\
         \"Expiration\":\"2026-11-22T00:00:00Z\"}"
    );
    assert_eq!(runtime.post(path, b"").await.status, 405);
}

#[tokio::test]
async fn quiet_is_when_no_request_is_under_way_but_the_pending_one() {
    let mut fixture = rehearsal(&[]).await;
    let mut runtime = fixture.connect().await;
    let mut other = fixture.connect().await;
    assert_eq!(other.call("GET", "/x", &[], b"").await.status, 404);
    runtime.send("GET", RESTORE, &[], b"").await;
    assert!((&mut fixture.init).await.is_ok());
    fixture.exchange.quiet().await;
    assert!(fixture.exchange.traffic().is_quiet());
    // Half a request.
    other.0.write_all(b"POST /2018-06").await.unwrap();
    while fixture.exchange.traffic().is_quiet() {
        tokio::task::yield_now().await;
    }
    let early = tokio::time::timeout(Duration::from_millis(20), fixture.exchange.quiet()).await;
    assert!(early.is_err(), "half a request is under way");
    other
        .0
        .write_all(b"-01/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(other.receive().await.status, 404);
    fixture.exchange.quiet().await;
    // Half a request on a connection that goes away.
    other.0.write_all(b"POST /2018-06").await.unwrap();
    while fixture.exchange.traffic().is_quiet() {
        tokio::task::yield_now().await;
    }
    drop(other);
    fixture.exchange.quiet().await;
    assert!(fixture.exchange.traffic().is_quiet());
}

#[test]
fn bytes_and_connections_that_nobody_has_taken_yet_are_not_quiet() {
    use std::io::Write as _;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (fixture, address) = runtime.block_on(async {
        let fixture = rehearsal(&[]).await;
        let mut runtime = fixture.connect().await;
        assert_eq!(runtime.call("GET", "/x", &[], b"").await.status, 404);
        fixture.exchange.quiet().await;
        let address = fixture.address;
        ((fixture, runtime), address)
    });
    let (fixture, client) = fixture;
    // The event loop stands still from here on.
    assert!(fixture.exchange.traffic().is_quiet());
    let knocking = std::net::TcpStream::connect(address).unwrap();
    assert!(!fixture.exchange.traffic().is_quiet());
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    assert!(fixture.exchange.traffic().is_quiet(), "accepted");
    (&knocking).write_all(b"GET").unwrap();
    assert!(!fixture.exchange.traffic().is_quiet(), "unread");
    drop(client);
}

#[tokio::test]
async fn what_was_sent_after_the_quiet_moment_is_noticed_in_the_end() {
    for disturbed in [false, true] {
        let mut fixture = rehearsal(&[]).await;
        let mut runtime = fixture.connect().await;
        let mut other = fixture.connect().await;
        assert_eq!(other.call("GET", "/x", &[], b"").await.status, 404);
        runtime.send("GET", RESTORE, &[], b"").await;
        assert!((&mut fixture.init).await.is_ok());
        let quiet = fixture.exchange.quiet().await;
        if disturbed {
            other.0.write_all(b"GET").await.unwrap();
        }
        // The processes are frozen and killed.
        drop((runtime, other));
        assert_eq!(fixture.exchange.was_quiet_since(quiet).await, !disturbed);
    }
}

#[tokio::test]
async fn connection_after_the_quiet_moment_is_noticed_in_the_end() {
    let mut fixture = rehearsal(&[]).await;
    let mut runtime = fixture.connect().await;
    runtime.send("GET", RESTORE, &[], b"").await;
    assert!((&mut fixture.init).await.is_ok());
    let quiet = fixture.exchange.quiet().await;
    drop((fixture.connect().await, runtime));
    assert!(!fixture.exchange.was_quiet_since(quiet).await);
}

#[tokio::test]
async fn extension_registers_and_is_told_of_its_function() {
    let fixture = fixture().await;
    let mut extension = fixture.connect().await;
    let path = "/2020-01-01/extension/register";
    let headers = [
        ("Lambda-Extension-Name", "inside"),
        ("Lambda-Extension-Accept-Feature", "accountId"),
    ];
    let registered = extension
        .call("POST", path, &headers, b"{\"events\":[\"INVOKE\"]}")
        .await;
    assert_eq!(registered.status, 200, "{}", registered.body);
    assert_eq!(
        registered.body,
        r#"{"accountId":"000000000000","functionName":"f","functionVersion":"7","handler":"app.handler"}"#
    );
    let id = registered
        .head
        .lines()
        .find_map(|line| line.strip_prefix("lambda-extension-identifier: "))
        .unwrap();
    // Telemetry is off in this environment.
    let subscribed = extension
        .call(
            "PUT",
            "/2022-07-01/telemetry",
            &[("Lambda-Extension-Identifier", id)],
            b"{}",
        )
        .await;
    assert_eq!(subscribed.status, 403);
    assert!(subscribed.body.contains("Telemetry.SubscriptionClosed"));
    for (headers, body, error_type) in [
        (
            &headers[..],
            "{\"events\":[]}",
            "Extension.InvalidExtensionState",
        ),
        (&headers[..], "nonsense", "InvalidRequestFormat"),
        (
            &headers[..],
            "{\"events\":[\"FOO\"]}",
            "Extension.InvalidEventType",
        ),
        (
            &headers[..],
            "{\"configurationKeys\":[\"a\"]}",
            "InvalidRequestFormat",
        ),
        (&headers[1..], "{}", "Extension.InvalidExtensionName"),
    ] {
        let refused = extension.call("POST", path, headers, body.as_bytes()).await;
        assert_eq!(refused.status, 403);
        assert!(refused.body.contains(error_type), "{}", refused.body);
    }
}

#[tokio::test]
async fn huge_registration_is_refused_before_it_is_read() {
    let fixture = fixture().await;
    let mut extension = fixture.connect().await;
    let headers = [("Lambda-Extension-Name", "inside")];
    let body = vec![b' '; 300 * 1024];
    let refused = extension
        .call("POST", "/2020-01-01/extension/register", &headers, &body)
        .await;
    assert_eq!(refused.status, 413, "{}", refused.body);
}
