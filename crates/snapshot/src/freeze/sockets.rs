//! Sockets: what each is to its process, and what a clone can make of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::descriptors::{Open, copy};
use super::error::{Doing, Result};
use super::pipes::is_alone;
use super::socket_options as options;
use super::sys::{self, IntRequest, Side};
use super::tracee::Tracee;
use super::unix_sockets::Peers;
use crate::{Kind, Socket, SocketState};

/// States of TCP, as `TCP_INFO` tells them.
const ESTABLISHED: u8 = 1;
const CLOSED: u8 = 7;
const LISTEN: u8 = 10;

/// What has to be known about all sockets before each can be described.
pub struct Sockets {
    peers: Option<Peers>,
    by_inode: HashMap<u64, i32>,
}

impl Sockets {
    pub fn collect(tracee: &Tracee, open: &[Open]) -> Result<Self> {
        let is_socket = |open: &&Open| open.target.starts_with(b"socket:");
        let sockets: Vec<&Open> = open.iter().filter(is_socket).collect();
        let mut any_unix = false;
        for open in &sockets {
            let copy = copy(tracee, open)?;
            any_unix |= int(copy.as_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN)? == libc::AF_UNIX;
        }
        let pairs = sockets
            .iter()
            .filter_map(|open| Some((open.inode()?, open.fd)));
        Ok(Self {
            peers: if any_unix { Peers::ask(tracee)? } else { None },
            by_inode: pairs.collect(),
        })
    }
}

fn int(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32> {
    let value = sys::socket_option(fd, level, name).doing(|| "ask a socket".into())?;
    Ok(value
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes)))
}

pub fn kind(tracee: &Tracee, open: &Open, all: &Sockets, listeners: &[u16]) -> Result<Kind> {
    let socket = copy(tracee, open)?;
    let ask = |name| int(socket.as_fd(), libc::SOL_SOCKET, name);
    let (domain, socket_type, protocol) = (
        ask(libc::SO_DOMAIN)?,
        ask(libc::SO_TYPE)?,
        ask(libc::SO_PROTOCOL)?,
    );
    let state = match (domain, socket_type, protocol) {
        (libc::AF_UNIX, ..) => match unix(open, &socket, socket_type, all)? {
            Unix::Pair(kind) => return Ok(kind),
            Unix::State(state) => state,
        },
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP) => {
            tcp(open, &socket, listeners)?
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP) => {
            udp(open, &socket)?
        }
        (libc::AF_NETLINK, _, libc::NETLINK_ROUTE) => netlink(open, &socket)?,
        (domain, _, protocol) => {
            let what = format!("is a socket of domain {domain}, protocol {protocol}");
            return open.refuse(&what);
        }
    };
    let options = options::differing(socket.as_fd(), domain, socket_type, protocol);
    Ok(Kind::Socket(Socket {
        domain,
        socket_type,
        protocol,
        state,
        options: options.doing(|| "ask a socket for its options".into())?,
    }))
}

fn local(socket: &OwnedFd) -> Result<Vec<u8>> {
    sys::socket_address(socket.as_fd(), Side::Local).doing(|| "ask a socket's address".into())
}

/// Empty for a socket that is not connected.
fn peer(socket: &OwnedFd) -> Vec<u8> {
    sys::socket_address(socket.as_fd(), Side::Peer).unwrap_or_default()
}

fn waiting(socket: &OwnedFd, request: IntRequest) -> Result<i32> {
    sys::ioctl_int(socket.as_fd(), request).doing(|| "ask a socket".into())
}

fn tcp(open: &Open, socket: &OwnedFd, listeners: &[u16]) -> Result<SocketState> {
    const SO_MAX_BACKLOG_FIELD: usize = 28;
    let info = sys::socket_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO);
    let info = info.doing(|| "ask a connection's state".into())?;
    let local = local(socket)?;
    let peer = peer(socket);
    Ok(match info.first().copied().unwrap_or(CLOSED) {
        LISTEN => {
            let backlog = info
                .get(SO_MAX_BACKLOG_FIELD..)
                .and_then(|rest| rest.first_chunk());
            let backlog = backlog.map_or(128, |bytes| i32::from_ne_bytes(*bytes));
            SocketState::Listening { local, backlog }
        }
        ESTABLISHED if is_server(&peer, listeners) => {
            if waiting(socket, IntRequest::Unread)? > 0 {
                return open.refuse("is a connection to the platform with unread data");
            }
            if waiting(socket, IntRequest::Unsent)? > 0 {
                return open.refuse("is a connection to the platform with unsent data");
            }
            SocketState::Reconnect { local, peer }
        }
        CLOSED if is_anywhere(&local) => SocketState::New,
        // One that was connected has lost its port, but not its address.
        CLOSED if port(&local) != 0 => SocketState::Bound { local },
        _ => SocketState::Reset { local, peer },
    })
}

fn udp(open: &Open, socket: &OwnedFd) -> Result<SocketState> {
    let (local, peer) = (local(socket)?, peer(socket));
    if waiting(socket, IntRequest::Unread)? > 0 {
        return open.refuse("is a datagram socket with unread data");
    }
    Ok(if !peer.is_empty() {
        SocketState::Datagram { local, peer }
    } else if is_anywhere(&local) {
        SocketState::New
    } else {
        SocketState::Bound { local }
    })
}

/// Its number is chosen by the kernel; what counts are the groups it listens to.
fn netlink(open: &Open, socket: &OwnedFd) -> Result<SocketState> {
    let local = local(socket)?;
    let groups = local.get(8..12).is_some_and(|groups| groups != [0; 4]);
    if groups {
        return open.refuse("listens to changes of the network");
    }
    Ok(SocketState::New)
}

enum Unix {
    Pair(Kind),
    State(SocketState),
}

fn unix(open: &Open, socket: &OwnedFd, socket_type: i32, all: &Sockets) -> Result<Unix> {
    /// Family only: no name.
    const UNNAMED: usize = 2;
    let named = local(socket)?;
    let connected = sys::socket_address(socket.as_fd(), Side::Peer).is_ok();
    if !connected {
        let listens = int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0;
        return Ok(Unix::State(match (listens, named.len() > UNNAMED) {
            (true, _) => SocketState::Listening {
                local: named,
                backlog: 128,
            },
            (false, true) => SocketState::Bound { local: named },
            (false, false) => SocketState::New,
        }));
    }
    let inode = open.inode().unwrap_or(0);
    let other = if is_alone(socket)? {
        None
    } else {
        let other = all.peers.as_ref().and_then(|peers| peers.of(inode));
        match other {
            Some(other) if all.by_inode.contains_key(&other) => Some(other),
            Some(_) => return open.refuse("is a unix socket connected to another process"),
            None => return open.refuse("is a unix socket whose other end cannot be found"),
        }
    };
    if other.is_some()
        && all
            .peers
            .as_ref()
            .is_some_and(|peers| peers.is_half_closed(inode))
    {
        return open.refuse("is a unix socket that has been shut down half");
    }
    let first = other.map_or(inode, |other| other.min(inode));
    // Numbers of sockets are 32 bits wide.
    let pair = u32::try_from(first).unwrap_or(u32::MAX);
    Ok(Unix::Pair(Kind::SocketPair {
        pair,
        end: u8::from(inode != first),
        socket_type,
        content: content(open, socket, socket_type)?,
    }))
}

fn content(open: &Open, socket: &OwnedFd, socket_type: i32) -> Result<Vec<u8>> {
    let unread = usize::try_from(waiting(socket, IntRequest::Unread)?).unwrap_or(0);
    if unread == 0 {
        return Ok(Vec::new());
    }
    if socket_type != libc::SOCK_STREAM {
        return open.refuse("is a unix socket with unread messages");
    }
    let mut content = vec![0; unread];
    let (got, attached) = match sys::peek(socket.as_fd(), &mut content) {
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => (0, false),
        result => result.doing(|| "look at what a socket holds".into())?,
    };
    if attached || got != unread {
        return open.refuse("is a unix socket with descriptors on their way");
    }
    Ok(content)
}

fn family(address: &[u8]) -> i32 {
    let family = address
        .first_chunk()
        .map_or(0, |bytes| u16::from_ne_bytes(*bytes));
    i32::from(family)
}

fn port(address: &[u8]) -> u16 {
    let bytes = address.get(2..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// The host's part of an internet address.
fn host(address: &[u8]) -> &[u8] {
    match family(address) {
        libc::AF_INET => address.get(4..8).unwrap_or_default(),
        libc::AF_INET6 => address.get(8..24).unwrap_or_default(),
        _ => &[],
    }
}

fn is_anywhere(address: &[u8]) -> bool {
    port(address) == 0 && host(address).iter().all(|byte| *byte == 0)
}

/// Whether a connection goes to one of the ports that the server provides on loopback.
fn is_server(peer: &[u8], listeners: &[u16]) -> bool {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let host = host(peer);
    let v4 = host.strip_prefix(&MAPPED).unwrap_or(host);
    v4 == [127, 0, 0, 1] && listeners.contains(&port(peer))
}

#[cfg(test)]
mod tests {
    use super::{is_anywhere, is_server};

    #[test]
    fn the_servers_ports_are_recognised_in_both_families() {
        let v4 = [2, 0, 0x23, 0x29, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_server(&v4, &[9001]));
        assert!(!is_server(&v4, &[4566]));
        let mut v6 = [0_u8; 28];
        v6[..4].copy_from_slice(&[10, 0, 0x23, 0x29]);
        v6[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        assert!(is_server(&v6, &[4566, 9001]));
        v6[20] = 10;
        assert!(!is_server(&v6, &[9001]));
        assert!(!is_server(&[], &[0]));
    }

    #[test]
    fn an_unbound_socket_is_recognised() {
        assert!(is_anywhere(&[2, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!is_anywhere(&[2, 0, 0, 80, 0, 0, 0, 0]));
    }
}
