//! A keep-alive HTTP/1.1 connection over a blocking socket, without allocations per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// What to send, rendered once.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Where the server listens
    #[arg(long)]
    pub addr: SocketAddr,
    #[arg(long)]
    pub path: String,
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// `Name: value`, repeatable
    #[arg(long)]
    pub header: Vec<String>,
    #[arg(long, default_value = "{}")]
    pub body: String,
}

impl Target {
    pub fn request(&self) -> Vec<u8> {
        let Self {
            addr,
            path,
            method,
            header,
            body,
        } = self;
        let headers: String = header.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }
}

/// One open connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub fn open(addr: SocketAddr, timeout: Duration) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            buffer: vec![0; 64 << 10],
            filled: 0,
        })
    }

    /// Sends one request and reads its whole answer. An answer other than 2xx, or one that names a function error, is
    /// an error: a benchmark of failures is worth nothing.
    pub fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        self.filled = 0;
        let head = loop {
            self.fill()?;
            if let Some(at) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
        if !text.starts_with("http/1.1 2") || text.contains("\r\nx-amz-function-error:") {
            bail!(
                "refused: {}",
                String::from_utf8_lossy(&self.buffer[..self.filled])
            );
        }
        match header(&text, "content-length") {
            Some(length) => {
                let end = head + length.parse::<usize>()?;
                while self.filled < end {
                    self.fill()?;
                }
            }
            None if header(&text, "transfer-encoding") == Some("chunked") => {
                while !self.buffer[head..self.filled].ends_with(b"0\r\n\r\n") {
                    self.fill()?;
                }
            }
            None => bail!("an answer without a length"),
        }
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..])? {
            0 => bail!("the server closed the connection"),
            read => self.filled += read,
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
