//! Packet sockets on the async runtime.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{sys, wire};

/// The server's end of a control socket.
#[derive(Debug)]
pub struct Link {
    socket: AsyncFd<OwnedFd>,
}

impl Link {
    /// Must be called inside a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self {
            socket: sys::watch(socket, interest)?,
        })
    }

    /// Sends a message, waiting for room.
    pub async fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = wire::encode(message, wire::MAX_MESSAGE)?;
        let send = |socket: &OwnedFd| Ok(wire::send_packet(socket, &packet, fds)?);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Sends a message, or fails if there is no room.
    pub fn try_send(&self, message: &impl Serialize) -> io::Result<()> {
        wire::send(self.socket.get_ref(), message, &[])
    }

    /// The next message; `None` when the other side has gone.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let receive = |socket: &OwnedFd| wire::receive(socket, &mut [0; wire::MAX_REPLY]);
        self.socket.async_io(Interest::READABLE, receive).await
    }

    /// Tells the other side that this one has gone, whoever else still holds the socket.
    pub fn close(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }
}
