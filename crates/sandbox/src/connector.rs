//! Connections from the server to what listens inside an environment.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;

use crate::sandbox::{ENDED, Environment};
use crate::service::patiently;
use crate::wire::ToInit;
use crate::{Error, sys};

/// Connects to ports of one environment. It can reach nothing but that environment's loopback:
/// the socket is made by its init, in its network namespace, for this one address.
#[derive(Debug, Clone)]
pub struct Connector {
    environment: Arc<Environment>,
}

impl Connector {
    pub(crate) fn new(environment: Arc<Environment>) -> Self {
        Self { environment }
    }

    /// A connection to 127.0.0.1:`port` inside, non-blocking. Fails when nobody listens there.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, Error> {
        let (sequence, answer) = self.environment.expect_connection()?;
        let sent = self
            .environment
            .link
            .send(&ToInit::Connect { sequence, port }, &[])
            .await;
        sent.map_err(|err| Error::io("instruct the environment", err))?;
        let answer = patiently("open a socket inside", answer).await?;
        let socket = answer.map_err(|_| ENDED)??;
        patiently("connect inside", established(socket))
            .await?
            .map_err(|err| Error::io("connect inside", err))
    }
}

async fn established(socket: OwnedFd) -> std::io::Result<TcpStream> {
    let watched = sys::watch(socket, Interest::WRITABLE)?;
    watched.writable().await?.retain_ready();
    let socket = TcpStream::from(watched.into_inner());
    match socket.take_error()? {
        None => Ok(socket),
        Some(err) => Err(err),
    }
}
