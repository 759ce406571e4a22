//! The client's end of the socket to the server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http::Method;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::client::Client;
use crate::development::PAGE;
use crate::development::wire::{self, FromClient, FromServer, Lines};

/// A function that is being worked on, for as long as this lives.
#[derive(Debug)]
pub struct Link {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    workspace: PathBuf,
    function: String,
    /// A request that came while something else was awaited.
    waiting: Option<u64>,
}

/// What the server says on its own.
#[derive(Debug)]
pub enum FromLink {
    Synchronise(u64),
    Ended,
}

impl Link {
    pub async fn open(client: &Client, function: &str, debug_port: Option<u16>) -> Result<Self> {
        let page = client.admin(Method::GET, PAGE).await;
        let page = page.context("this server does not offer `firn dev`")?;
        let socket = page.get("socket").and_then(serde_json::Value::as_str);
        let socket = Path::new(socket.context("the server does not tell its socket")?);
        let stream = connect(socket).await.with_context(|| {
            format!(
                "cannot open {}: firn dev has to run on the server's machine, as the user that \
                 the server runs as",
                socket.display()
            )
        })?;
        let (reader, writer) = stream.into_split();
        let mut link = Self {
            lines: Lines::new(reader),
            writer,
            workspace: PathBuf::new(),
            function: function.to_owned(),
            waiting: None,
        };
        let open = FromClient::Open {
            function: function.to_owned(),
            debug_port,
        };
        link.send(&open).await?;
        match link.lines.next().await? {
            Some(FromServer::Opened { workspace }) => link.workspace = workspace,
            Some(FromServer::Refused { reason }) => bail!("{reason}"),
            _ => bail!("the server does not answer"),
        }
        Ok(link)
    }

    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    pub fn function(&self) -> &str {
        &self.function
    }

    /// Has the server run a complete copy of the code from now on.
    pub async fn serve(&mut self, generation: u64) -> Result<()> {
        self.send(&FromClient::Code { generation }).await?;
        loop {
            match self.lines.next().await? {
                Some(FromServer::Serving { generation: served }) if served == generation => {
                    return Ok(());
                }
                Some(FromServer::Serving { .. }) => {}
                Some(FromServer::Synchronise { request }) => self.waiting = Some(request),
                _ => bail!("the server has ended"),
            }
        }
    }

    pub async fn synchronised(&mut self, request: u64) -> Result<()> {
        self.send(&FromClient::Synchronised { request }).await
    }

    pub async fn next(&mut self) -> Result<FromLink> {
        if let Some(request) = self.waiting.take() {
            return Ok(FromLink::Synchronise(request));
        }
        match self.lines.next().await? {
            Some(FromServer::Synchronise { request }) => Ok(FromLink::Synchronise(request)),
            Some(_) => bail!("the server says what nobody asked"),
            None => Ok(FromLink::Ended),
        }
    }

    async fn send(&mut self, message: &FromClient) -> Result<()> {
        wire::write(&mut self.writer, message).await
    }
}

async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = wire::in_directory(socket, |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
