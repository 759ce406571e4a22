//! The kernel's netlink protocol: messages with nested attributes, and their acknowledgement.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A request being built. The header's length and number are filled in when it is sent.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// The kernel's answer to a request that wants one.
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

impl Message {
    /// A request with a family-specific header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        let mut message = Self { bytes };
        message.raw(header);
        message
    }

    /// Asks for an acknowledgement.
    pub fn acknowledged(mut self) -> Self {
        self.bytes[6] |= ACKNOWLEDGE.to_le_bytes()[0];
        self
    }

    /// Bytes without an attribute header, padded as everything is.
    pub fn raw(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// One attribute.
    pub fn attribute(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.raw(data);
        self
    }

    /// A text with its terminating zero.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// A number in the host's order.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A number in the network's order, as the packet filter takes them.
    pub fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// An attribute that holds others.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn number_as(&mut self, sequence: u32) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn wants_answer(&self) -> bool {
        self.bytes[6] & ACKNOWLEDGE.to_le_bytes()[0] != 0
    }
}

/// A connection to one of the kernel's netlink families, in the network namespace in which it was
/// opened, wherever its user goes later.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy)]
pub enum Family {
    /// Interfaces, addresses, routes.
    Route,
    /// Packet filter rules.
    PacketFilter,
}

impl Socket {
    pub fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            // Protocol number 0, which is also the default.
            Family::Route => None,
            Family::PacketFilter => Some(rustix::net::netlink::NETFILTER),
        };
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends requests in one packet and waits for the acknowledgements asked for.
    pub fn send(&mut self, messages: &mut [Message]) -> io::Result<()> {
        let mut packet = Vec::new();
        let mut expected = 0_u32;
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.number_as(self.sequence);
            expected += u32::from(message.wants_answer());
            packet.extend(&message.bytes);
        }
        rustix::net::send(&self.socket, &packet, SendFlags::empty())?;
        let mut buffer = vec![0; 32 << 10];
        while expected > 0 {
            let (length, _) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?;
            for errno in answers(&buffer[..length]) {
                // A batch that fails is undone as a whole, and may answer to nothing else in it.
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                expected = expected.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// The error numbers of the acknowledgements in a packet from the kernel.
fn answers(mut packet: &[u8]) -> Vec<i32> {
    let mut found = Vec::new();
    let number = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    while let Some(length) = number(packet, 0) {
        let length = length as usize;
        if length < HEADER || length > packet.len() {
            break;
        }
        let kind = u16::from_ne_bytes([packet[4], packet[5]]);
        if let (ERROR, Some(code)) = (kind, number(packet, HEADER)) {
            found.push(code.cast_signed().wrapping_neg());
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_counted() {
        let mut message = Message::new(16, 0, &[1, 2]);
        message.nested(5, |inner| {
            inner.text(1, "ab").number(2, 7);
        });
        message.number_as(9);
        let b = &message.bytes;
        assert_eq!(b.len(), 16 + 4 + 4 + 8 + 8);
        assert_eq!(u32::from_ne_bytes(b[0..4].try_into().unwrap()), 40);
        assert_eq!(u16::from_ne_bytes(b[20..22].try_into().unwrap()), 20);
        assert_eq!(&b[28..32], b"ab\0\0");
    }

    #[test]
    fn garbage_from_the_kernel_is_no_answer() {
        assert!(answers(&[]).is_empty());
        assert!(answers(&[1; 15]).is_empty());
        assert!(answers(&[0xff; 64]).is_empty());
    }
}
