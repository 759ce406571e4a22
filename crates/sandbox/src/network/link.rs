//! Interfaces, addresses and routes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;

use super::netlink::{Family, Message, Socket};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const INET: u8 = 2;
const UP: u32 = 1;

/// Two interfaces that are each other's far end.
pub struct Pair<'a> {
    pub name: &'a str,
    /// 0 lets the kernel choose.
    pub index: u32,
    pub peer_name: &'a str,
    pub peer_index: u32,
    pub peer_namespace: Namespace<'a>,
    pub mtu: u32,
}

/// Where the far end goes.
pub enum Namespace<'a> {
    Fd(BorrowedFd<'a>),
    Process(Pid),
}

/// Changes interfaces and routes of one network namespace.
pub struct Routes {
    socket: Socket,
}

impl Routes {
    /// For the current network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open(Family::Route)?,
        })
    }

    /// Creates a pair; the near end is switched on.
    pub fn add_pair(&mut self, pair: &Pair<'_>) -> io::Result<()> {
        let mut message =
            Message::new(NEW_LINK, CREATE | EXCLUSIVE, &link_header(pair.index, UP)).acknowledged();
        message
            .text(3, pair.name)
            .number(4, pair.mtu)
            .nested(18, |info| {
                info.text(1, "veth").nested(2, |data| {
                    data.nested(1, |peer| {
                        peer.raw(&link_header(pair.peer_index, 0));
                        peer.text(3, pair.peer_name).number(4, pair.mtu);
                        match pair.peer_namespace {
                            Namespace::Fd(fd) => peer.number(28, fd.as_raw_fd().cast_unsigned()),
                            Namespace::Process(pid) => {
                                peer.number(19, pid.as_raw_nonzero().get().cast_unsigned())
                            }
                        };
                    });
                });
            });
        self.socket.send(&mut [message])
    }

    /// Removes an interface, and with it its far end.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        let message = Message::new(DELETE_LINK, 0, &link_header(index, 0)).acknowledged();
        self.socket.send(&mut [message])
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let message = Message::new(NEW_LINK, 0, &link_header(index, UP)).acknowledged();
        self.socket.send(&mut [message])
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut header = vec![INET, prefix, 0, 0];
        header.extend(index.to_ne_bytes());
        let mut message = Message::new(NEW_ADDRESS, CREATE | EXCLUSIVE, &header).acknowledged();
        message
            .attribute(2, &address.octets())
            .attribute(1, &address.octets());
        self.socket.send(&mut [message])
    }

    /// Routes a network, or everything, through a gateway.
    pub fn add_route(&mut self, to: Option<(Ipv4Addr, u8)>, via: Ipv4Addr) -> io::Result<()> {
        let prefix = to.map_or(0, |(_, prefix)| prefix);
        // Main table, set by an administrator, global scope, unicast.
        let header = [INET, prefix, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let mut message = Message::new(NEW_ROUTE, CREATE | EXCLUSIVE, &header).acknowledged();
        if let Some((network, _)) = to {
            message.attribute(1, &network.octets());
        }
        message.attribute(5, &via.octets());
        self.socket.send(&mut [message])
    }
}

fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    // Only the flags given are changed.
    header.extend(flags.to_ne_bytes());
    header
}
