//! The messages between the server, the spawner and the init of each environment.
//!
//! Every message is one packet on a `SOCK_SEQPACKET` socket pair: JSON, plus descriptors. Both
//! limits are fixed. The server reads what an init writes as hostile input: an init runs no
//! foreign code, but it is the nearest thing to it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::cgroup;

/// Largest packet. A unix socket's default buffer takes 208 KiB; AWS allows 4 KiB of environment
/// variables, so that this bound is met by mistakes only.
pub const MAX_MESSAGE: usize = 192 << 10;
/// Largest packet that an init or the spawner sends back.
pub const MAX_REPLY: usize = 16 << 10;
/// Most descriptors with one packet; the kernel's own limit is 253.
pub const MAX_FDS: usize = 128;

/// Server to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSpawner {
    /// The first message. Answered by `Started` or `Refused`.
    Start(Box<Config>),
    /// Make an environment. Comes with its control socket. Answered by `Created` or `NotCreated`,
    /// then by the environment itself on its control socket.
    Create { id: u64, slot: u32 },
    /// Open host paths as detached read-only mounts. Answered by `Opened` or `NotOpened`.
    Open { request: u64, sources: Vec<String> },
    /// Kill an environment. Answered by `Gone`, which also comes unasked when one ends.
    Destroy { id: u64 },
}

/// Spawner to server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSpawner {
    Started(Box<Abilities>),
    Refused(Refusal),
    Created { id: u64, cgroup: cgroup::Paths },
    NotCreated { id: u64, failure: Failure },
    Opened { request: u64 },
    NotOpened { request: u64, failure: Failure },
    Gone { id: u64 },
}

/// Server to the init of an environment.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// Comes with one detached mount per target. Answered by `Entered` or `NotEntered`.
    Enter(Box<Enter>),
    /// Comes with standard output, standard error, then one descriptor per entry of `fds`.
    /// Answered by `Spawned` or `NotSpawned`.
    Spawn(Box<Spawn>),
    /// Comes with the descriptors that [`Thaw`] describes. Answered by `Spawned` or `NotSpawned`.
    Thaw(Thaw),
    /// Signal one process of those spawned, if it still exists.
    Signal { pid: i32, signal: i32 },
    /// Signal all processes inside; stands in for a missing freezer.
    SignalAll { signal: i32 },
    /// Connect to a port on the environment's own loopback. Answered by `Connecting` or
    /// `NotConnected`.
    Connect { sequence: u64, port: u16 },
}

/// The init of an environment to the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// Comes with one listener per configured port, in order.
    Ready,
    NotReady(Failure),
    Entered,
    NotEntered(Failure),
    Spawned {
        sequence: u64,
        pid: i32,
    },
    /// `exec` tells the program's own fault from ours.
    NotSpawned {
        sequence: u64,
        exec: bool,
        failure: Failure,
    },
    Exited {
        pid: i32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// Comes with the socket, on which the connection is being made.
    Connecting {
        sequence: u64,
    },
    NotConnected {
        sequence: u64,
        failure: Failure,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Enter {
    pub targets: Vec<String>,
    pub tmp_bytes: u64,
    pub hostname: String,
    pub hosts: Vec<(std::net::IpAddr, String)>,
    pub pids_max: u32,
    pub egress: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spawn {
    pub sequence: u64,
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub fds: Vec<i32>,
}

/// A process to be brought back from an image. Descriptors come in this order: the report pipe, the
/// output pipe, the error pipe, the tape, the pages; then, each if its flag says so, the pipe for
/// log frames, the device and the socket for page faults, and the scratch files' list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Thaw {
    pub sequence: u64,
    pub pid: i32,
    pub log: bool,
    pub userfault: bool,
    pub scratch: bool,
}

/// What the spawner found this host able to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Abilities {
    pub cgroup: cgroup::Kind,
    pub freezer: cgroup::Freezer,
    pub single_user: bool,
    pub userns: bool,
    pub seccomp: bool,
    pub egress: bool,
    /// Why not, when `egress` is false.
    pub egress_detail: String,
    pub notes: Vec<String>,
}

/// Why the spawner will not start.
#[derive(Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// A feature is missing that the operator did not declare dispensable.
    Missing {
        feature: String,
        detail: String,
        flag: String,
    },
    Failed(Failure),
}

/// An error on its way to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, beginning with a verb.
    pub action: String,
    /// The cause.
    pub cause: String,
    /// The error number, 0 when there is none.
    pub errno: i32,
}

impl Failure {
    pub fn new(action: impl Into<String>, err: &io::Error) -> Self {
        let mut action = action.into();
        // A reply must fit its packet whatever paths it quotes.
        action.truncate(action.floor_char_boundary(4096));
        Self {
            action,
            cause: err.to_string(),
            errno: err.raw_os_error().unwrap_or(0),
        }
    }
}

impl From<Failure> for crate::Error {
    fn from(failure: Failure) -> Self {
        Self::Remote {
            action: failure.action,
            cause: failure.cause,
            errno: failure.errno,
        }
    }
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|err| Failure::new(action(), &err.into()))
    }
}

/// A connected pair of packet sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Encodes a message, refusing one that would not fit.
pub fn encode(message: &impl Serialize, limit: usize) -> io::Result<Vec<u8>> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() > limit {
        let text = format!("a message of {} bytes, {limit} are possible", packet.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(packet)
}

/// Sends one packet. Whether it waits for room depends on the socket.
pub fn send_packet(
    socket: impl AsFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::TOOMANYREFS);
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(packet)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Encodes and sends a message.
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let packet = encode(message, MAX_MESSAGE)?;
    Ok(send_packet(socket, &packet, fds)?)
}

/// Receives one message; `None` when the other side has gone. `buffer` bounds its size.
pub fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = receive_packet(socket, buffer)? else {
        return Ok(None);
    };
    let message = serde_json::from_slice(&buffer[..bytes])?;
    Ok(Some((message, fds)))
}

/// Receives one packet into the buffer; `None` when the other side has gone.
pub fn receive_packet(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet beyond the size limit",
        ));
    }
    Ok(Some((received.bytes, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        let message = ToInit::Signal { pid: 7, signal: 15 };
        send(&a, &message, &[a.as_fd(), b.as_fd()]).unwrap();
        let mut buffer = vec![0; MAX_MESSAGE];
        let (message, fds) = receive::<ToInit>(&b, &mut buffer).unwrap().unwrap();
        assert!(matches!(message, ToInit::Signal { pid: 7, signal: 15 }));
        assert_eq!(fds.len(), 2);
    }

    #[test]
    fn an_oversized_message_is_refused_by_either_side() {
        let (a, b) = pair().unwrap();
        let long = ToSpawner::Open {
            request: 1,
            sources: vec!["x".repeat(MAX_MESSAGE)],
        };
        assert!(send(&a, &long, &[]).is_err());
        send(
            &a,
            &ToSpawner::Open {
                request: 1,
                sources: vec!["x".repeat(500)],
            },
            &[],
        )
        .unwrap();
        assert!(receive::<ToSpawner>(&b, &mut [0; 100]).is_err());
    }

    #[test]
    fn the_largest_message_fits_the_socket() {
        let (a, b) = pair().unwrap();
        let packet = vec![b' '; MAX_MESSAGE];
        send_packet(&a, &packet, &[]).unwrap();
        drop((a, b));
    }

    #[test]
    fn a_closed_socket_reads_as_the_end() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(receive::<FromInit>(&b, &mut [0; 64]).unwrap().is_none());
    }
}
