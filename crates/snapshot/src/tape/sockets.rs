//! Sockets.

use super::descriptors::bits;
use super::objects::number;
use super::writer::Expect;
use super::{Compiler, TapeError};
use crate::{Descriptor, Socket, SocketState};

impl Compiler<'_> {
    pub(super) fn open_socket(
        &mut self,
        socket: &Socket,
        nonblocking: u64,
        places: &[Descriptor],
    ) -> Result<(), TapeError> {
        if socket.domain == libc::AF_UNIX && matches!(socket.state, SocketState::Reset { .. }) {
            return self.open_reset_unix(socket, nonblocking, places);
        }
        let (domain, protocol) = (bits(socket.domain), bits(socket.protocol));
        // The handshake with the server need not be waited for: whoever uses the socket waits.
        // Other flags are set at the end.
        let reconnect = matches!(socket.state, SocketState::Reconnect { .. });
        let now = if reconnect { libc::O_NONBLOCK } else { 0 };
        let args = [domain, bits(socket.socket_type | now), protocol];
        let fresh = self.create(libc::SYS_socket, &args, 1, places)?;
        match &socket.state {
            SocketState::New => self.set_options(fresh, socket),
            SocketState::Bound { local } => {
                self.set_options(fresh, socket);
                self.bind(fresh, local);
            }
            SocketState::Listening { local, backlog } => {
                self.set_options(fresh, socket);
                self.bind(fresh, local);
                let args = [number(fresh), bits(*backlog)];
                self.tape.call(libc::SYS_listen, &args, Expect::Is(0));
            }
            SocketState::Reconnect { local, peer } => {
                // An earlier connection from the same port may not be forgotten yet.
                self.set_option(fresh, libc::SOL_SOCKET, libc::SO_REUSEADDR, &[1, 0, 0, 0]);
                self.set_options(fresh, socket);
                self.bind(fresh, local);
                self.connect(fresh, peer, Expect::Connecting);
            }
            SocketState::Reset { peer, .. } => {
                self.set_options(fresh, socket);
                self.connect_and_reset(fresh, socket, peer)?;
            }
            SocketState::Datagram { local, peer } => {
                self.set_options(fresh, socket);
                // An address of the old environment's network may not exist in this one, nor a
                // way to the peer. Then the socket is as one whose network went down.
                if is_loopback(local) {
                    self.bind(fresh, local);
                }
                let expect = if is_loopback(peer) {
                    Expect::Is(0)
                } else {
                    Expect::Anything
                };
                self.connect(fresh, peer, expect);
            }
        }
        self.set_status(fresh, flags(nonblocking), now);
        self.settle(fresh, places);
        Ok(())
    }

    fn set_options(&mut self, fd: i32, socket: &Socket) {
        for (level, name, value) in &socket.options {
            self.set_option(fd, *level, *name, value);
        }
    }

    fn set_option(&mut self, fd: i32, level: i32, name: i32, value: &[u8]) {
        let address = self.tape.constant(value, 8);
        let args = [
            number(fd),
            bits(level),
            bits(name),
            address,
            value.len() as u64,
        ];
        // What decides whether the address can be had must be as it was. Of the rest, some can be
        // told by the kernel that it does not take, such as those of an accepted connection.
        let expect = match (level, name) {
            (libc::SOL_SOCKET, libc::SO_REUSEADDR | libc::SO_REUSEPORT)
            | (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => Expect::Is(0),
            _ => Expect::Anything,
        };
        self.tape.call(libc::SYS_setsockopt, &args, expect);
    }

    fn bind(&mut self, fd: i32, local: &[u8]) {
        let address = self.tape.constant(local, 8);
        let args = [number(fd), address, local.len() as u64];
        self.tape.call(libc::SYS_bind, &args, Expect::Is(0));
    }

    fn connect(&mut self, fd: i32, peer: &[u8], expect: Expect) {
        let address = self.tape.constant(peer, 8);
        let args = [number(fd), address, peer.len() as u64];
        self.tape.call(libc::SYS_connect, &args, expect);
    }

    /// Connects to a listener made for this, which then resets the connection: the program finds
    /// what it must expect of any connection, a peer that has gone.
    fn connect_and_reset(
        &mut self,
        fd: i32,
        socket: &Socket,
        peer: &[u8],
    ) -> Result<(), TapeError> {
        let local = throw_away_address(socket.domain, peer);
        let len = local.len() as u64;
        let args = [bits(socket.domain), bits(libc::SOCK_STREAM), 0];
        let listener = self.create(libc::SYS_socket, &args, 1, &[])?;
        self.bind(listener, &local);
        let args = [number(listener), 1];
        self.tape.call(libc::SYS_listen, &args, Expect::Is(0));
        // The kernel chooses the port; its answer is the address to connect to.
        let address = self.tape.word(0)?;
        for _ in 0..3 {
            self.tape.word(0)?;
        }
        let length = self.tape.word(len)?;
        let args = [number(listener), address, length];
        self.tape.call(libc::SYS_getsockname, &args, Expect::Is(0));
        let args = [number(fd), address, len];
        self.tape.call(libc::SYS_connect, &args, Expect::Is(0));
        let args = [number(listener), 0, 0, 0];
        let accepted = self.create(libc::SYS_accept4, &args, 3, &[])?;
        // On, zero seconds: closing resets.
        let linger = [1, 0, 0, 0, 0, 0, 0, 0];
        self.set_option(accepted, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
        self.close(accepted);
        self.close(listener);
        Ok(())
    }

    /// A unix socket is reset when its peer goes without having read everything.
    fn open_reset_unix(
        &mut self,
        socket: &Socket,
        nonblocking: u64,
        places: &[Descriptor],
    ) -> Result<(), TapeError> {
        let fresh = self.table.open()?;
        let peer = self.table.open()?;
        let here = places.iter().find(|place| place.fd == fresh);
        let close_on_exec = here.is_some_and(|place| place.close_on_exec);
        let mut socket_type = bits(socket.socket_type);
        if close_on_exec {
            socket_type |= bits(libc::SOCK_CLOEXEC);
        }
        let result = self.tape.word(0)?;
        let args = [bits(libc::AF_UNIX), socket_type, 0, result];
        self.tape.call(libc::SYS_socketpair, &args, Expect::Is(0));
        self.send(fresh, b"\0");
        self.close(peer);
        self.set_options(fresh, socket);
        self.set_status(fresh, flags(nonblocking), 0);
        self.settle(fresh, places);
        Ok(())
    }
}

fn flags(nonblocking: u64) -> i32 {
    if nonblocking == 0 {
        0
    } else {
        libc::O_NONBLOCK
    }
}

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const LOOPBACK_6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The address in an IPv6 socket address.
fn address_6(address: &[u8]) -> Option<&[u8]> {
    address.get(8..24)
}

fn is_loopback(address: &[u8]) -> bool {
    let family = address
        .get(..2)
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match family.map(i32::from) {
        Some(libc::AF_INET) => address.get(4) == Some(&127),
        Some(libc::AF_INET6) => address_6(address).is_some_and(|bytes| {
            bytes == LOOPBACK_6 || (bytes.starts_with(&MAPPED) && bytes[12] == 127)
        }),
        // Unix and netlink addresses do not depend on the network.
        _ => true,
    }
}

/// Loopback in the form that a socket of this domain can connect to, without a port.
fn throw_away_address(domain: i32, peer: &[u8]) -> Vec<u8> {
    let family = u16::try_from(domain).unwrap_or(0).to_le_bytes();
    if domain != libc::AF_INET6 {
        let mut address = vec![0; 16];
        address[..2].copy_from_slice(&family);
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        return address;
    }
    let mut address = vec![0; 28];
    address[..2].copy_from_slice(&family);
    let host = if address_6(peer).is_some_and(|bytes| bytes.starts_with(&MAPPED)) {
        let mut host = [0; 16];
        host[..12].copy_from_slice(&MAPPED);
        host[12..].copy_from_slice(&[127, 0, 0, 1]);
        host
    } else {
        LOOPBACK_6
    };
    address[8..24].copy_from_slice(&host);
    address
}
