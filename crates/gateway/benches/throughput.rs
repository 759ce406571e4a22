//! Requests per second of an operation that does nothing, server and clients in one process:
//! `cargo bench -p gateway`. What the whole stack adds to it is measured in `benches/`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark, not a server"
)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clock::Clock;
use gateway::{Authenticator, Config, Gateway, Pages};
use model::lambda::{InvokeInput, InvokeOutput};
use protocol::credentials::ServerKey;
use protocol::{ApiError, Caller, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Noop;

mod invoke {
    use super::*;

    pub async fn run(_: &Noop, _: &Caller, input: InvokeInput) -> Result<InvokeOutput, ApiError> {
        let payload = input.payload;
        Ok(InvokeOutput {
            status_code: Some(200),
            payload,
            ..InvokeOutput::default()
        })
    }
}

protocol::operations! { Noop: "Invoke" => invoke::run }

const RUN: Duration = Duration::from_secs(3);
const REQUEST: &[u8] = b"POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\n\
    Host: 127.0.0.1:4566\r\n\
    User-Agent: Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux lang/python\r\n\
    X-Amz-Date: 20261122T000000Z\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/lambda/aws4_request, \
    SignedHeaders=host;x-amz-date, Signature=0000000000000000000000000000000000000000000000000000000000000000\r\n\
    Content-Length: 2\r\n\r\n{}";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = start();
        for clients in [1, 8, 64] {
            measure(address, clients).await;
        }
    });
}

fn start() -> SocketAddr {
    let router = Router::builder().service(Arc::new(Noop)).build();
    let authenticator = Authenticator::accept_any(ServerKey::from_bytes([1; 32]));
    let gateway = Gateway::new(
        router,
        authenticator,
        Pages::default(),
        Config::default(),
        Clock::system(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    address
}

async fn measure(address: SocketAddr, clients: usize) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(client(address, started)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
    let at = |part: usize| latencies[latencies.len() * part / 1000].as_micros();
    println!(
        "{clients:3} clients: {rate:8.0} requests/s, p50 {} µs, p99 {} µs",
        at(500),
        at(990)
    );
}

async fn client(address: SocketAddr, started: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut latencies = Vec::new();
    let mut buffer = [0; 4096];
    while started.elapsed() < RUN {
        let sent = Instant::now();
        stream.write_all(REQUEST).await.unwrap();
        let mut read = 0;
        while !buffer[..read].ends_with(b"\r\n\r\n{}") {
            read += stream.read(&mut buffer[read..]).await.unwrap();
        }
        latencies.push(sent.elapsed());
    }
    latencies
}
