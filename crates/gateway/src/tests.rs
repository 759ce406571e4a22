//! The listener as clients meet it, good ones and bad ones, over raw TCP.

use std::time::Duration;

use bytes::Bytes;
use model::lambda::{InvokeInput, InvokeOutput};
use protocol::credentials::ServerKey;
use protocol::sigv4;
use protocol::{ApiError, Caller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

struct Echo;

mod invoke {
    use super::*;

    /// Answers with the payload; a function called `who` answers with its caller.
    pub async fn run(
        _: &Echo,
        caller: &Caller,
        input: InvokeInput,
    ) -> Result<InvokeOutput, ApiError> {
        let payload = match input.function_name.as_str() {
            "who" => {
                let Caller {
                    account,
                    region,
                    principal,
                    ..
                } = caller;
                Some(Bytes::from(format!("{account} {region} {}", principal.arn)).into())
            }
            "broken" => return Err(ApiError::internal("disk on fire")),
            _ => input.payload,
        };
        Ok(InvokeOutput {
            status_code: Some(200),
            payload,
            ..InvokeOutput::default()
        })
    }
}

protocol::operations! { Echo: "Invoke" => invoke::run }

struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

fn start(config: Config) -> Server {
    start_with(config, Authenticator::accept_any(server_key()))
}

fn server_key() -> ServerKey {
    ServerKey::from_bytes([7; 32])
}

fn start_with(config: Config, authenticator: Authenticator) -> Server {
    let router = Router::builder().service(Arc::new(Echo)).build();
    let pages = Pages::default().page("/_firn/health", |_| async {
        pages::json(&serde_json::json!({ "status": "ok" }))
    });
    let gateway = Gateway::new(router, authenticator, pages, config, Clock::system());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        gateway
            .serve(listener, async { drop(stopped.await) })
            .await
            .unwrap();
    });
    Server {
        address,
        stop: Some(stop),
        task,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_to_end(&mut stream).await
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("the server hangs")
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer with a Content-Length.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte));
        match read.await.expect("the server hangs").unwrap() {
            0 => return text,
            _ => answer.push(byte[0]),
        }
    }
}

fn invoke(function: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: firn\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn scope(access_key: &str, region: &str) -> String {
    format!(
        "X-Amz-Date: 20261122T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential={access_key}/20261122/{region}/lambda/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={}\r\n",
        "0".repeat(64)
    )
}

#[tokio::test]
async fn answers_and_keeps_the_connection() {
    let server = start(Config::default());
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream
            .write_all(invoke("f", "", "{}").as_bytes())
            .await
            .unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("{}"), "{answer}");
        assert!(answer.contains("x-amzn-requestid: "), "{answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(Config::default());
    let requests = [
        invoke("f", "", "1"),
        invoke("f", "", "2"),
        invoke("f", "Connection: close\r\n", "3"),
    ];
    let answer = server.exchange(requests.concat()).await;
    let bodies: Vec<_> = answer
        .match_indices("\r\n\r\n")
        .map(|(at, _)| &answer[at + 4..at + 5])
        .collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn development_credentials_choose_account_and_region() {
    let server = start(Config::default());
    for (headers, expected) in [
        (
            String::new(),
            "000000000000 us-east-1 arn:aws:iam::000000000000:root",
        ),
        (
            scope("AKIAEXAMPLE", "eu-west-1"),
            "000000000000 eu-west-1 arn:aws:iam::000000000000:root",
        ),
        (
            scope("123456789012", "us-west-2"),
            "123456789012 us-west-2 arn:aws:iam::123456789012:root",
        ),
    ] {
        let headers = format!("{headers}Connection: close\r\n");
        let answer = server.exchange(invoke("who", &headers, "")).await;
        assert!(answer.ends_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn region_of_an_unsigned_request_is_taken_from_the_host() {
    let server = start(Config::default());
    let request = "POST /2015-03-31/functions/who/invocations HTTP/1.1\r\n\
        Host: lambda.ap-southeast-2.amazonaws.com\r\nConnection: close\r\n\
        Content-Length: 0\r\n\r\n";
    let answer = server.exchange(request).await;
    assert!(answer.contains("000000000000 ap-southeast-2 "), "{answer}");
}

#[tokio::test]
async fn garbage_gets_an_error_and_the_server_lives_on() {
    let server = start(Config::default());
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(garbage).await.unwrap();
        // The client may also just go away in the middle.
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{garbage:?}: {answer}");
    }
    let answer = server
        .exchange(invoke("f", "Connection: close\r\n", "alive"))
        .await;
    assert!(answer.ends_with("alive"));
}

#[tokio::test]
async fn odd_requests_get_the_errors_of_aws() {
    let server = start(Config::default());
    for (request, status, code) in [
        (
            "GET /nonsense HTTP/1.1\r\n",
            403,
            "MissingAuthenticationTokenException",
        ),
        (
            "GET /%00%ff/%zz HTTP/1.1\r\n",
            403,
            "MissingAuthenticationTokenException",
        ),
        (
            "GET /2015-03-31/event-source-mappings HTTP/1.1\r\n",
            501,
            "NotImplementedException",
        ),
        (
            "POST / HTTP/1.1\r\nX-Amz-Target: Nobody.Knows\r\n",
            400,
            "UnknownOperationException",
        ),
    ] {
        let answer = server
            .exchange(format!("{request}Host: x\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(
            answer.contains(&format!("x-amzn-errortype: {code}\r\n")),
            "{request}: {answer}"
        );
    }
}

#[tokio::test]
async fn cause_of_a_server_fault_is_not_shown() {
    let server = start(Config::default());
    let answer = server
        .exchange(invoke("broken", "Connection: close\r\n", ""))
        .await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(!answer.contains("fire"), "{answer}");
}

#[tokio::test]
async fn headers_of_64_kilobytes_pass_and_endless_ones_do_not() {
    let server = start(Config {
        max_head_bytes: 128 << 10,
        ..Config::default()
    });
    let large = format!("X-Large: {}\r\nConnection: close\r\n", "a".repeat(64 << 10));
    let answer = server.exchange(invoke("f", &large, "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let mut stream = server.connect().await;
    let endless = format!("GET / HTTP/1.1\r\nX-Large: {}", "a".repeat(300 << 10));
    // The server may close before all is written.
    let _ = stream.write_all(endless.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
}

#[tokio::test]
async fn announced_body_beyond_the_limit_is_refused_before_it_is_sent() {
    let server = start(Config::default());
    let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\n\
        Content-Length: 99999999999\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.contains("x-amzn-errortype: RequestTooLargeException"),
        "{answer}"
    );
}

#[tokio::test]
async fn client_that_sends_all_before_it_reads_still_sees_the_refusal() {
    let server = start(Config::default());
    let body = "x".repeat(8 << 20);
    for request in [
        invoke("f", "", &body),
        format!(
            "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
    ] {
        let answer = server.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}

#[tokio::test]
async fn body_is_only_asked_for_when_it_is_wanted() {
    let server = start(Config::default());
    let head = |length: usize| {
        format!(
            "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: x\r\n\
             Expect: 100-continue\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = server.connect().await;
    stream.write_all(head(2).as_bytes()).await.unwrap();
    let go_on = read_answer(&mut stream).await;
    assert!(go_on.starts_with("HTTP/1.1 100 "), "{go_on}");
    stream.write_all(b"{}").await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));

    let answer = server.exchange(head(7 << 20)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn slow_heads_and_slow_bodies_are_given_up() {
    let server = start(Config {
        head_timeout_s: 5,
        body_timeout_s: 5,
        ..Config::default()
    });
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /2015-03-31/functions/f")
        .await
        .unwrap();
    assert_eq!(read_to_end_patiently(&mut stream).await, "");

    let mut stream = server.connect().await;
    let request = invoke("f", "", "ten bytes!");
    stream
        .write_all(&request.as_bytes()[..request.len() - 5])
        .await
        .unwrap();
    let answer = read_to_end_patiently(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// Without a timeout of its own, which would fire first under paused time.
async fn read_to_end_patiently(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_their_turn() {
    let server = start(Config {
        max_connections: 1,
        ..Config::default()
    });
    let mut first = server.connect().await;
    first
        .write_all(invoke("f", "", "1").as_bytes())
        .await
        .unwrap();
    assert!(read_answer(&mut first).await.ends_with('1'));
    let mut second = server.connect().await;
    second
        .write_all(invoke("f", "", "2").as_bytes())
        .await
        .unwrap();
    drop(first);
    assert!(read_answer(&mut second).await.ends_with('2'));
}

#[tokio::test]
async fn stopping_finishes_running_requests_and_closes_idle_connections() {
    let mut server = start(Config::default());
    let mut idle = server.connect().await;
    idle.write_all(invoke("f", "", "1").as_bytes())
        .await
        .unwrap();
    assert!(read_answer(&mut idle).await.ends_with('1'));
    let mut busy = server.connect().await;
    let request = invoke("f", "", "12");
    let (sent, rest) = request.split_at(request.len() - 1);
    busy.write_all(sent.as_bytes()).await.unwrap();
    // The page answers over another connection, so the listener has taken up the busy one.
    server
        .exchange("GET /_firn/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;

    drop(server.stop.take());
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
    busy.write_all(rest.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("12"), "{answer}");
    server.task.await.unwrap();
}

#[tokio::test]
async fn pages_answer_without_credentials_and_only_to_reading() {
    let server = start(Config::default());
    let page = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    };
    let answer = server.exchange(page("GET", "/_firn/health")).await;
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    assert!(
        server
            .exchange(page("GET", "/_firn/none"))
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    assert!(
        server
            .exchange(page("POST", "/_firn/health"))
            .await
            .starts_with("HTTP/1.1 405 ")
    );
}

#[tokio::test]
async fn head_and_body_arrive_together() {
    let server = start(Config::default());
    let mut stream = server.connect().await;
    for _ in 0..20 {
        stream
            .write_all(invoke("f", "", "{\"a\":1}").as_bytes())
            .await
            .unwrap();
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(
            buffer[..n].ends_with(b"{\"a\":1}"),
            "the answer came in pieces"
        );
    }
}

#[tokio::test]
async fn enforced_signatures_must_fit_key_request_and_body() {
    let dir = tempfile::tempdir().unwrap();
    let file = keys::KeyFile::in_dir(dir.path());
    let key = file
        .create("123456789012".parse().unwrap(), "now".into())
        .unwrap();
    let keys = keys::Keys::open(file).unwrap();
    let server = start_with(
        Config::default(),
        Authenticator::enforce(keys, server_key()),
    );
    let signed = |secret: &str, service: &str, body: &str| {
        let mut parts = http::Request::post("/2015-03-31/functions/who/invocations")
            .header("host", "firn")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let credentials = sigv4::Credentials {
            access_key: key.access_key.clone(),
            secret_key: secret.to_owned(),
            session_token: None,
        };
        let now = Clock::system().now();
        sigv4::sign(
            &mut parts,
            body.as_bytes(),
            &credentials,
            "eu-west-1",
            service,
            now,
        )
        .unwrap();
        parts
            .headers
            .iter()
            .filter(|(name, _)| *name != "host")
            .fold("Connection: close\r\n".to_owned(), |text, (name, value)| {
                text + &format!("{name}: {}\r\n", value.to_str().unwrap())
            })
    };
    let secret = key.secret_key.reveal();

    let answer = server
        .exchange(invoke("who", &signed(secret, "lambda", "{}"), "{}"))
        .await;
    assert!(
        answer.ends_with("123456789012 eu-west-1 arn:aws:iam::123456789012:root"),
        "{answer}"
    );

    for (headers, code) in [
        (
            signed(secret, "lambda", "other body"),
            "InvalidSignatureException",
        ),
        (
            signed("wrong secret", "lambda", "{}"),
            "InvalidSignatureException",
        ),
        (signed(secret, "logs", "{}"), "InvalidSignatureException"),
        (
            "Connection: close\r\n".to_owned(),
            "MissingAuthenticationTokenException",
        ),
    ] {
        let answer = server.exchange(invoke("who", &headers, "{}")).await;
        assert!(
            answer.contains(&format!("x-amzn-errortype: {code}\r\n")),
            "{code}: {answer}"
        );
    }
}

fn admin_pages() -> Pages {
    Pages::default().admin("/_firn/snapshots", |request| async move {
        let account = request.account.map(|account| account.to_string());
        pages::json(&serde_json::json!({
            "method": request.method.as_str(),
            "name": request.parameter("name"),
            "account": account,
        }))
    })
}

fn gateway_with_admin(authenticator: Authenticator) -> Gateway {
    let router = Router::builder().service(Arc::new(Echo)).build();
    let (config, clock) = (Config::default(), Clock::system());
    Gateway::new(router, authenticator, admin_pages(), config, clock)
}

/// The answer on an operator's page to one connection from outside, or from a function.
async fn asked(gateway: Gateway, origin: Origin, method: &str, headers: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        match origin {
            Origin::Outside => gateway
                .serve(listener, std::future::pending())
                .await
                .unwrap(),
            Origin::Environment => gateway.serve_environment(listener).await,
        }
    });
    let request = format!(
        "{method} /_firn/snapshots?name=a%20b HTTP/1.1\r\nHost: firn\r\n\
         Connection: close\r\n{headers}\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    task.abort();
    answer
}

#[tokio::test]
async fn operators_pages_take_every_method_but_no_function() {
    let any = || gateway_with_admin(Authenticator::accept_any(server_key()));
    let answer = asked(any(), Origin::Outside, "DELETE", "").await;
    assert!(
        answer.ends_with(r#"{"method":"DELETE","name":"a b","account":null}"#),
        "{answer}"
    );
    let answer = asked(any(), Origin::Environment, "GET", "").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn operators_pages_need_a_key_where_signatures_are_enforced() {
    let dir = tempfile::tempdir().unwrap();
    let file = keys::KeyFile::in_dir(dir.path());
    let account = "123456789012".parse().unwrap();
    let key = file.create(account, "now".into()).unwrap();
    let enforced = || {
        let keys = keys::Keys::open(keys::KeyFile::in_dir(dir.path())).unwrap();
        gateway_with_admin(Authenticator::enforce(keys, server_key()))
    };
    let signed = |credentials: &sigv4::Credentials| {
        let request = http::Request::get("/_firn/snapshots?name=a%20b").header("host", "firn");
        let mut parts = request.body(()).unwrap().into_parts().0;
        let now = Clock::system().now();
        sigv4::sign(&mut parts, b"", credentials, "eu-west-1", "lambda", now).unwrap();
        let lines = parts.headers.iter().filter(|(name, _)| *name != "host");
        lines.fold(String::new(), |text, (name, value)| {
            text + &format!("{name}: {}\r\n", value.to_str().unwrap())
        })
    };
    let right = sigv4::Credentials {
        access_key: key.access_key.clone(),
        secret_key: key.secret_key.reveal().clone(),
        session_token: None,
    };
    let answer = asked(enforced(), Origin::Outside, "GET", &signed(&right)).await;
    assert!(answer.contains(r#""account":"123456789012""#), "{answer}");

    let wrong = sigv4::Credentials {
        secret_key: "wrong".to_owned(),
        ..right
    };
    let expiration = Clock::system().now() + Duration::from_secs(3600);
    let role = "arn:aws:iam::123456789012:role/r";
    let issued = protocol::credentials::TemporaryCredentials::issue(
        &server_key(),
        account,
        role,
        "f",
        expiration,
    )
    .unwrap();
    let of_function = sigv4::Credentials {
        access_key: issued.access_key_id,
        secret_key: issued.secret_access_key,
        session_token: Some(issued.session_token),
    };
    for headers in [String::new(), signed(&wrong), signed(&of_function)] {
        let answer = asked(enforced(), Origin::Outside, "GET", &headers).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{headers}: {answer}");
    }
}

fn gateway_with_site(authenticator: Authenticator) -> Gateway {
    let router = Router::builder().service(Arc::new(Echo)).build();
    let (config, clock) = (Config::default(), Clock::system());
    let claims = |parts: &http::request::Parts| {
        let host = parts.headers.get("host");
        host.is_some_and(|host| host.as_bytes().starts_with(b"site."))
    };
    let site = Site::new(claims, "lambda", 10, |request| async move {
        let signer = match &request.signer {
            Ok(Some(caller)) => caller.account.to_string(),
            Ok(None) => "nobody".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = format!("{} {signer} {}", request.parts.uri, request.body.len());
        let mut response = http::Response::new(protocol::Body::from(Bytes::from(text)));
        response
            .headers_mut()
            .insert("x-peer", request.peer.unwrap().to_string().parse().unwrap());
        response
    });
    Gateway::new(router, authenticator, Pages::default(), config, clock).with_site(site)
}

/// The answer of a gateway with a site to one connection.
async fn asked_of_site(authenticator: Authenticator, request: impl AsRef<[u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = gateway_with_site(authenticator);
    let task = tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    task.abort();
    answer
}

#[tokio::test]
async fn a_site_gets_what_it_claims_and_nothing_else() {
    let any = || Authenticator::accept_any(server_key());
    let to = |host: &str| {
        format!(
            "POST /x?y=z HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    };
    let answer = asked_of_site(any(), to("site.localhost")).await;
    assert!(answer.ends_with("/x?y=z nobody 2"), "{answer}");
    assert!(answer.contains("x-peer: 127.0.0.1\r\n"), "{answer}");
    let answer = asked_of_site(any(), to("localhost")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_sites_limit_holds_for_announced_and_other_bodies() {
    for body in [
        "Content-Length: 11\r\n\r\nhello world",
        "Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: site.x\r\n{body}");
        let answer = asked_of_site(Authenticator::accept_any(server_key()), request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("\"Message\""), "{answer}");
    }
}

#[tokio::test]
async fn a_site_learns_who_signed() {
    let dir = tempfile::tempdir().unwrap();
    let file = keys::KeyFile::in_dir(dir.path());
    let key = file
        .create("123456789012".parse().unwrap(), "now".into())
        .unwrap();
    let enforced = || {
        let keys = keys::Keys::open(keys::KeyFile::in_dir(dir.path())).unwrap();
        Authenticator::enforce(keys, server_key())
    };
    let signed = |secret: &str, service: &str| {
        let request = http::Request::get("/").header("host", "site.x");
        let mut parts = request.body(()).unwrap().into_parts().0;
        let credentials = sigv4::Credentials {
            access_key: key.access_key.clone(),
            secret_key: secret.to_owned(),
            session_token: None,
        };
        let now = Clock::system().now();
        sigv4::sign(&mut parts, b"", &credentials, "eu-west-1", service, now).unwrap();
        let start = "GET / HTTP/1.1\r\nConnection: close\r\n".to_owned();
        let head = parts.headers.iter().fold(start, |text, (name, value)| {
            text + &format!("{name}: {}\r\n", value.to_str().unwrap())
        });
        head + "\r\n"
    };
    let secret = key.secret_key.reveal();
    let answer = asked_of_site(enforced(), signed(secret, "lambda")).await;
    assert!(answer.ends_with("/ 123456789012 0"), "{answer}");
    for (secret, service) in [("wrong", "lambda"), (secret, "logs")] {
        let answer = asked_of_site(enforced(), signed(secret, service)).await;
        assert!(answer.contains("InvalidSignatureException"), "{answer}");
    }
    // Another scheme is none of AWS's.
    let request =
        "GET / HTTP/1.1\r\nHost: site.x\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n";
    let answer = asked_of_site(enforced(), request).await;
    assert!(answer.ends_with("/ nobody 0"), "{answer}");
}

/// A frame of HTTP/2: its length in three bytes, type, flags, stream and payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads frames until one of `kind` is there; returns its payload.
async fn frame_of(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == kind {
                return payload;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the server hangs")
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let server = start(Config::default());
    let mut stream = server.connect().await;
    // One byte, so that the server cannot tell yet; then the rest.
    stream.write_all(&PREFACE[..1]).await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(&PREFACE[1..]).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // GET / http x, with the last one as a literal.
    let head = [0x82, 0x86, 0x44, 13]
        .into_iter()
        .chain(*b"/_firn/health")
        .chain([0x41, 1, b'x'])
        .collect::<Vec<u8>>();
    stream.write_all(&frame(1, 0x5, 1, &head)).await.unwrap();
    let body = frame_of(&mut stream, 0).await;
    assert_eq!(body, br#"{"status":"ok"}"#);
}

#[tokio::test(start_paused = true)]
async fn idle_http_2_connections_and_silent_ones_are_ended() {
    let server = start(Config {
        head_timeout_s: 5,
        ..Config::default()
    });
    let mut silent = server.connect().await;
    assert_eq!(read_to_end_patiently(&mut silent).await, "");
    let mut half = server.connect().await;
    half.write_all(b"P").await.unwrap();
    assert_eq!(read_to_end_patiently(&mut half).await, "");

    let mut idle = server.connect().await;
    idle.write_all(PREFACE).await.unwrap();
    idle.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // GOAWAY, and then the end.
    let answer = {
        let mut answer = Vec::new();
        let _ = idle.read_to_end(&mut answer).await;
        answer
    };
    assert!(
        answer
            .windows(6)
            .any(|bytes| bytes[3..] == [7, 0, 0] && bytes[..2] == [0, 0]),
        "{answer:?}"
    );
}
