//! A Lambda runtime client alone: how long from the event it is given to the answer it has posted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::latencies::summary;

const IO_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 5000)]
    requests: usize,
    #[arg(long, default_value_t = 200)]
    warm_up: usize,
    #[arg(long, default_value = "{}")]
    payload: String,
    /// The runtime client; it finds the Runtime API in `AWS_LAMBDA_RUNTIME_API`.
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

/// Ends the client when the measurement is over, however it ends.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(args: &Args) -> anyhow::Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let start = Instant::now();
    let _client = Client(
        Command::new(&args.command[0])
            .args(&args.command[1..])
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .spawn()
            .with_context(|| format!("start {}", args.command[0]))?,
    );
    let mut connection = Connection::accept(&listener)?;
    connection.expect_next()?;
    let ready = start.elapsed();

    let event = event_bytes(&args.payload);
    let mut latencies = Vec::with_capacity(args.requests);
    for round in 0..args.warm_up + args.requests {
        let start = Instant::now();
        connection.stream.write_all(&event)?;
        let head = connection.read_request()?;
        if !head.contains("/response ") {
            bail!("expected an answer to the invocation, got: {head}");
        }
        if round >= args.warm_up {
            latencies.push(start.elapsed());
        }
        connection.stream.write_all(ACCEPTED)?;
        connection.expect_next()?;
    }
    Ok(json!({"ready_ms": ready.as_secs_f64() * 1e3, "latency": summary(latencies)}))
}

const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n";

fn event_bytes(payload: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: {REQUEST_ID}\r\n\
         Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:noop\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0\r\n\
         Content-Length: {}\r\n\r\n{payload}",
        payload.len()
    )
    .into_bytes()
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn accept(listener: &TcpListener) -> anyhow::Result<Self> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    fn expect_next(&mut self) -> anyhow::Result<()> {
        let head = self.read_request()?;
        if !head.starts_with("GET /2018-06-01/runtime/invocation/next ") {
            bail!("expected a request for the next invocation, got: {head}");
        }
        Ok(())
    }

    /// Reads one request with its body and returns its head.
    fn read_request(&mut self) -> anyhow::Result<String> {
        let head_length = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            self.read_some()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_length]).into_owned();
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .map(str::to_owned)
            })
            .map_or(Ok(0), |value| value.trim().parse())?;
        while self.buffer.len() < head_length + length {
            self.read_some()?;
        }
        self.buffer.drain(..head_length + length);
        Ok(head)
    }

    fn read_some(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = self
            .stream
            .read(&mut chunk)
            .context("read from the runtime client")?;
        if read == 0 {
            bail!("the runtime client closed its connection");
        }
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}
