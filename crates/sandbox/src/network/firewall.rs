//! Packet filter tables, spoken to directly: the `nft` program is not on every host.
//!
//! A table is owned by the socket that made it and ends with it, so that even a killed spawner
//! leaves no rules behind.

use std::io;
use std::net::Ipv4Addr;

use super::UPLINK;
use super::netlink::{Family, Message, Socket};

const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const INET: u8 = 2;
const TABLE_OWNED: u32 = 2;
const SET_EVALUATED: u32 = 0x20;
/// Turns a limit's condition around: it holds once the limit is exceeded.
const OVER: u32 = 1;
const SOURCES: &str = "sources";

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_FILTER: u32 = 0;
const PRIORITY_SOURCE_NAT: u32 = 100;

const ACCEPT: u32 = 1;
const DROP: u32 = 0;

const IN_INTERFACE: u32 = 6;
const OUT_INTERFACE: u32 = 7;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
/// Established or related, in the bits of connection tracking.
const ANSWERS: u32 = 2 | 4;

/// Where clouds serve their metadata; link-local, and so never a legitimate destination.
const METADATA: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 0, 0), 16);

/// Connections of one environment that the host keeps track of at once. The table that they are
/// kept in is the host's own, and must not be filled by one function.
const CONNECTIONS: u32 = 2048;

/// A table of filter rules in the making, later just held.
pub struct Firewall {
    socket: Socket,
}

impl Firewall {
    /// For the current network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open(Family::PacketFilter)?,
        })
    }

    /// From environments upwards, and answers back; nothing else, and nothing to the router.
    pub fn guard_router(&mut self) -> io::Result<()> {
        let mut table = Table::new("router");
        table.chain("input", "filter", HOOK_INPUT, PRIORITY_FILTER, DROP);
        table.chain("forward", "filter", HOOK_FORWARD, PRIORITY_FILTER, DROP);
        let (up, environments) = (exactly("up0"), b"e");
        table.count_connections();
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, environments);
            connections_exceed(rule, CONNECTIONS);
            verdict(rule, DROP);
        });
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, environments);
            interface(rule, OUT_INTERFACE, EQUAL, &up);
            verdict(rule, ACCEPT);
        });
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, &up);
            answers(rule);
            verdict(rule, ACCEPT);
        });
        self.socket.send(&mut table.finish())
    }

    /// Environments reach the world, but not this host, other servers' environments or metadata.
    /// `only_ours`: the host did not pass packets on before; for others it still does not.
    pub fn guard_host(
        &mut self,
        uplink: &str,
        network: Ipv4Addr,
        prefix: u8,
        only_ours: bool,
    ) -> io::Result<()> {
        let mut table = Table::new(uplink);
        table.chain("input", "filter", HOOK_INPUT, PRIORITY_FILTER, ACCEPT);
        table.chain("forward", "filter", HOOK_FORWARD, PRIORITY_FILTER, ACCEPT);
        table.chain(
            "postrouting",
            "nat",
            HOOK_POSTROUTING,
            PRIORITY_SOURCE_NAT,
            ACCEPT,
        );
        let (ours, any_uplink) = (exactly(uplink), UPLINK.as_bytes());
        table.rule("input", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, &ours);
            verdict(rule, DROP);
        });
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, &ours);
            address(rule, DESTINATION, METADATA);
            verdict(rule, DROP);
        });
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, &ours);
            interface(rule, OUT_INTERFACE, EQUAL, any_uplink);
            verdict(rule, DROP);
        });
        table.rule("forward", |rule| {
            interface(rule, IN_INTERFACE, EQUAL, &ours);
            address_differs(rule, SOURCE, (network, prefix));
            verdict(rule, DROP);
        });
        table.rule("forward", |rule| {
            interface(rule, OUT_INTERFACE, EQUAL, &ours);
            answers(rule);
            verdict(rule, ACCEPT);
        });
        table.rule("forward", |rule| {
            interface(rule, OUT_INTERFACE, EQUAL, &ours);
            verdict(rule, DROP);
        });
        if only_ours {
            table.rule("forward", |rule| {
                interface(rule, IN_INTERFACE, DIFFERENT, any_uplink);
                interface(rule, OUT_INTERFACE, DIFFERENT, any_uplink);
                verdict(rule, DROP);
            });
        }
        table.rule("postrouting", |rule| {
            address(rule, SOURCE, (network, prefix));
            interface(rule, OUT_INTERFACE, DIFFERENT, &ours);
            expression(rule, "masq", |_| {});
        });
        self.socket.send(&mut table.finish())
    }
}

/// One transaction that makes a table.
struct Table<'a> {
    name: &'a str,
    messages: Vec<Message>,
}

impl<'a> Table<'a> {
    fn new(name: &'a str) -> Self {
        let mut this = Self {
            name,
            messages: vec![batch(BATCH_BEGIN)],
        };
        let mut table = request(NEW_TABLE, CREATE);
        table.text(1, name).big(2, TABLE_OWNED);
        this.messages.push(table);
        this
    }

    fn chain(&mut self, name: &str, kind: &str, hook: u32, priority: u32, policy: u32) {
        let mut chain = request(NEW_CHAIN, CREATE);
        chain.text(1, self.name).text(3, name);
        chain.nested(4, |at| {
            at.big(1, hook).big(2, priority);
        });
        chain.big(5, policy).text(7, kind);
        self.messages.push(chain);
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Message)) {
        let mut rule = request(NEW_RULE, CREATE | APPEND);
        rule.text(1, self.name).text(2, chain).nested(4, fill);
        self.messages.push(rule);
    }

    /// A set that counts the connections of every source address.
    fn count_connections(&mut self) {
        let mut set = request(NEW_SET, CREATE);
        set.text(1, self.name)
            .text(2, SOURCES)
            .big(3, SET_EVALUATED);
        // IPv4 addresses, of four bytes.
        set.big(4, 7).big(5, 4).big(10, 1);
        set.nested(9, |description| {
            description.big(1, 65_535);
        });
        self.messages.push(set);
    }

    fn finish(mut self) -> Vec<Message> {
        self.messages.push(batch(BATCH_END));
        self.messages
    }
}

fn request(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM | kind, flags, &[INET, 0, 0, 0]).acknowledged()
}

fn batch(kind: u16) -> Message {
    // The subsystem that the batch is for, in network order.
    Message::new(kind, 0, &[0, 0, 0, 10])
}

/// An interface's whole name: comparing the padding too keeps `firn1` from matching `firn10`.
fn exactly(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    padded
}

fn expression(rule: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    rule.nested(1, |element| {
        element.text(1, name).nested(2, fill);
    });
}

fn compare(rule: &mut Message, operator: u32, value: &[u8]) {
    expression(rule, "cmp", |cmp| {
        cmp.big(1, 1).big(2, operator).nested(3, |data| {
            data.attribute(1, value);
        });
    });
}

/// Compares an interface's name, or its beginning.
fn interface(rule: &mut Message, which: u32, operator: u32, name: &[u8]) {
    expression(rule, "meta", |meta| {
        meta.big(2, which).big(1, 1);
    });
    compare(rule, operator, name);
}

/// Goes on if the packet's source has more connections than this.
fn connections_exceed(rule: &mut Message, count: u32) {
    load_address(rule, SOURCE);
    expression(rule, "dynset", |dynset| {
        dynset.text(1, SOURCES).big(2, 1).big(3, 0).big(4, 1);
        dynset.nested(7, |limit| {
            limit.text(1, "connlimit").nested(2, |data| {
                data.big(1, count).big(2, OVER);
            });
        });
    });
}

fn mask(rule: &mut Message, mask: &[u8]) {
    expression(rule, "bitwise", |bitwise| {
        bitwise.big(1, 1).big(2, 1).big(3, 4);
        bitwise.nested(4, |data| {
            data.attribute(1, mask);
        });
        bitwise.nested(5, |data| {
            data.attribute(1, &[0; 4]);
        });
    });
}

fn address(rule: &mut Message, offset: u32, network: (Ipv4Addr, u8)) {
    compare_address(rule, offset, EQUAL, network);
}

fn address_differs(rule: &mut Message, offset: u32, network: (Ipv4Addr, u8)) {
    compare_address(rule, offset, DIFFERENT, network);
}

fn compare_address(rule: &mut Message, offset: u32, operator: u32, (net, prefix): (Ipv4Addr, u8)) {
    load_address(rule, offset);
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    mask(rule, &bits.to_be_bytes());
    compare(rule, operator, &net.octets());
}

/// Four bytes of the network header.
fn load_address(rule: &mut Message, offset: u32) {
    expression(rule, "payload", |payload| {
        payload.big(1, 1).big(2, 1).big(3, offset).big(4, 4);
    });
}

/// Packets of connections that somebody else has begun.
fn answers(rule: &mut Message) {
    expression(rule, "ct", |ct| {
        ct.big(2, 0).big(1, 1);
    });
    mask(rule, &ANSWERS.to_ne_bytes());
    compare(rule, DIFFERENT, &[0; 4]);
}

fn verdict(rule: &mut Message, code: u32) {
    expression(rule, "immediate", |immediate| {
        immediate.big(1, 0).nested(2, |data| {
            data.nested(2, |verdict| {
                verdict.big(1, code);
            });
        });
    });
}
