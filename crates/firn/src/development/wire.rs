//! What `firn dev` and its server tell each other: JSON, one message a line.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

const MAX_LINE_BYTES: u64 = 64 << 10;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromClient {
    /// The first message: which function, by ARN, and the host's port for debuggers.
    Open {
        function: String,
        debug_port: Option<u16>,
    },
    /// The workspace holds a new folder, named by this number, that will not change any more.
    Code { generation: u64 },
    /// What was saved before this request came is being served.
    Synchronised { request: u64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromServer {
    Opened {
        workspace: PathBuf,
    },
    Refused {
        reason: String,
    },
    Serving {
        generation: u64,
    },
    /// An invocation waits for the newest code.
    Synchronise {
        request: u64,
    },
}

/// Messages as they come in.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
        }
    }

    /// The next message; `None` when the other side has gone. What was read of a line stays when
    /// this is cancelled.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>> {
        let left = MAX_LINE_BYTES.saturating_sub(self.line.len() as u64);
        let mut reader = (&mut self.reader).take(left);
        reader.read_until(b'\n', &mut self.line).await?;
        if self.line.is_empty() {
            return Ok(None);
        }
        if !self.line.ends_with(b"\n") {
            bail!("a message is cut off or too long");
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.context("cannot understand a message").map(Some)
    }
}

pub async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await.context("the other side has gone")
}

/// Does something with a socket by a path that is short enough, however deep its directory lies: a
/// socket's address holds no more than 107 bytes.
pub fn in_directory<T>(socket: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    let through = format!("/proc/self/fd/{}", directory.as_raw_fd());
    act(&Path::new(&through).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent() {
        let messages = [
            FromClient::Open {
                function: "arn".into(),
                debug_port: Some(5678),
            },
            FromClient::Code { generation: 3 },
        ];
        let mut sent = Vec::new();
        for message in &messages {
            write(&mut sent, message).await.unwrap();
        }
        let mut lines = Lines::new(&sent[..]);
        for message in messages {
            assert_eq!(lines.next().await.unwrap(), Some(message));
        }
        assert_eq!(lines.next::<FromClient>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nonsense_and_endless_lines_are_errors() {
        for hostile in [&b"{\n"[..], b"{\"code\"", &[b'x'; 100_000]] {
            let mut lines = Lines::new(hostile);
            assert!(lines.next::<FromClient>().await.is_err());
        }
    }

    #[test]
    fn a_socket_may_lie_deep() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let socket = deep.join("s");
        let bind = |path: &Path| std::os::unix::net::UnixListener::bind(path);
        assert!(bind(&socket).is_err());
        let _listener = in_directory(&socket, bind).unwrap();
        assert!(socket.exists());
    }
}
