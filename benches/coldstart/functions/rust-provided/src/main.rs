//! A function without a runtime: the loop of the Runtime API over one connection of the standard library.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut connection = TcpStream::connect(&address)?;
    connection.set_nodelay(true)?;
    let next =
        format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n");
    loop {
        connection.write_all(next.as_bytes())?;
        let event = Answer::read(&mut connection)?;
        let id = event
            .header("lambda-runtime-aws-request-id")
            .ok_or_else(|| io::Error::other("an event without an id"))?;
        if let Some(pause) = sleep_ms(&event.body) {
            thread::sleep(Duration::from_millis(pause));
        }
        let body = &event.body;
        let length = body.len();
        let response = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(response.as_bytes())?;
        Answer::read(&mut connection)?;
    }
}

/// The number after `"sleep_ms":`, without a JSON parser.
fn sleep_ms(event: &str) -> Option<u64> {
    let (_, rest) = event.split_once("\"sleep_ms\":")?;
    let digits = rest
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn read(connection: &mut TcpStream) -> io::Result<Self> {
        let mut data = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(answer) = Self::parse(&data) {
                return Ok(answer);
            }
            match connection.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// `None` until all of it is there.
    fn parse(data: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(data);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let answer = Self {
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        };
        let length = answer
            .header("content-length")
            .map_or(Some(0), |n| n.parse().ok())?;
        (answer.body.len() >= length).then_some(answer)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    }
}
