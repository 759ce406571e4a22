//! A keep-alive HTTP/1.1 connection over a blocking socket, without allocations per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::answer;

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

    /// Sends one request, reads its whole answer and gives its body; see [`answer::body`] for what is an error.
    pub fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request)?;
        self.filled = 0;
        let body = loop {
            self.fill()?;
            if let Some(body) = answer::body(&self.buffer[..self.filled])? {
                break body;
            }
        };
        Ok(&self.buffer[body])
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
