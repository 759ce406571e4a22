//! The way out of environments, for a spawner with the host's privileges.
//!
//! ```text
//! environment: eth0 ── e7 ┐
//! environment: eth0 ── e8 ┤ router namespace: up0 ── firn0 │ host ── the world
//! ```
//!
//! The router namespace belongs to the spawner alone. It forwards from environments upwards and
//! answers back, nothing else: no environment reaches another, nor the router itself. On the host
//! there is one interface, one route and one table of filter rules, which keep environments from
//! the host's own services and from link-local addresses (where clouds keep their metadata), and
//! translate addresses. All of it vanishes with the spawner, however that ends: interfaces with
//! their namespaces, the table with the socket that owns it.
//!
//! Only IPv4: most hosts where firn runs have no IPv6 prefix to share.

mod firewall;
mod link;
mod netlink;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::wire::{Doing, Failure};
use crate::{Config, sys};
use firewall::Firewall;
use link::Routes;

/// The uplink inside the router namespace, and every environment's interface, get this number.
const INSIDE_INDEX: u32 = 2;
/// Numbers of the environments' interfaces in the router namespace start here.
const FIRST_INDEX: u32 = 100;
/// Begins the name of every uplink on the host.
pub const UPLINK: &str = "firn";
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Tells an environment what its end of the link is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Address {
    pub own: Ipv4Addr,
    pub gateway: Ipv4Addr,
}

/// The router namespace and what belongs to it on the host.
pub struct Router {
    block: Block,
    mtu: u32,
    links: Routes,
    on_host: Routes,
    uplink: u32,
    // Held for their lifetime only: the tables end with these sockets, the claim with its listener.
    _firewalls: [Firewall; 2],
    _claim: UnixListener,
}

impl Router {
    /// Sets everything up. The caller is in the host's network namespace, and stays there.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let (block, claim) = Block::claim(config)?;
        let uplink = format!("{UPLINK}{}", block.number);
        let mtu = default_mtu().unwrap_or(1500);
        let mut on_host = Routes::open().doing(|| "open a route socket".into())?;
        let mut host_firewall = Firewall::open().doing(|| "open a filter socket".into())?;
        let inside = in_new_namespace(|| {
            for (name, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv4/conf/all/rp_filter", "1"),
                ("ipv6/conf/all/disable_ipv6", "1"),
                ("ipv6/conf/default/disable_ipv6", "1"),
            ] {
                let written = fs::write(format!("/proc/sys/net/{name}"), value);
                if name.starts_with("ipv4") {
                    written.doing(|| format!("set {name}"))?;
                }
            }
            let namespace = fs::File::open("/proc/self/ns/net");
            let namespace = namespace.doing(|| "open the router namespace".into())?;
            let routes = Routes::open().doing(|| "open a route socket".into())?;
            let firewall = Firewall::open().doing(|| "open a filter socket".into())?;
            Ok((namespace, routes, firewall))
        })?;
        let (namespace, mut links, mut firewall) = inside;

        let pair = link::Pair {
            name: &uplink,
            index: 0,
            peer_name: "up0",
            peer_index: INSIDE_INDEX,
            peer_namespace: link::Namespace::Fd(namespace.as_fd()),
            mtu,
        };
        on_host
            .add_pair(&pair)
            .doing(|| format!("create the interface {uplink}"))?;
        // Nobody talks IPv6 to it, and link-local addresses would be reachable from the router.
        let _ = fs::write(
            format!("/proc/sys/net/ipv6/conf/{uplink}/disable_ipv6"),
            "1",
        );
        let index = interface_index(&uplink).doing(|| format!("find {uplink}"))?;
        let (host_end, router_end) = (block.address(0), block.address(1));
        on_host
            .add_address(index, host_end, 31)
            .doing(|| "address the uplink".into())?;
        links
            .add_address(INSIDE_INDEX, router_end, 31)
            .doing(|| "address the router".into())?;
        links
            .set_up(INSIDE_INDEX)
            .doing(|| "switch the uplink on".into())?;
        links
            .add_route(None, host_end)
            .doing(|| "route upwards".into())?;
        on_host
            .add_route(Some((block.address(0), block.prefix)), router_end)
            .doing(|| "route to the environments".into())?;

        firewall
            .guard_router()
            .doing(|| "write the router's filter rules".into())?;
        let forwarding = Forwarding::enable().doing(|| format!("write {IP_FORWARD}"))?;
        host_firewall
            .guard_host(&uplink, block.address(0), block.prefix, forwarding.ours)
            .doing(|| "write filter rules".into())?;
        Ok(Self {
            block,
            mtu,
            links,
            on_host,
            uplink: index,
            _firewalls: [host_firewall, firewall],
            _claim: claim,
        })
    }

    /// Gives the network namespace of a process an interface.
    pub fn connect(&mut self, slot: u32, pid: Pid) -> Result<Address, Failure> {
        let offset = slot.checked_add(1).and_then(|pair| pair.checked_mul(2));
        let gateway = self.block.address(offset.unwrap_or(u32::MAX));
        let own = self
            .block
            .address(offset.unwrap_or(u32::MAX).saturating_add(1));
        let index = FIRST_INDEX + slot;
        let pair = link::Pair {
            name: &format!("e{slot}"),
            index,
            peer_name: "eth0",
            peer_index: INSIDE_INDEX,
            peer_namespace: link::Namespace::Process(pid),
            mtu: self.mtu,
        };
        let mut added = self.links.add_pair(&pair);
        if added
            .as_ref()
            .is_err_and(|err| err.raw_os_error() == Some(libc::EEXIST))
        {
            // The slot's last environment is gone, but the kernel still has its interface to clear.
            let _ = self.links.delete(index);
            added = self.links.add_pair(&pair);
        }
        added.doing(|| "create an interface".into())?;
        self.links
            .add_address(index, gateway, 31)
            .doing(|| "address an interface".into())?;
        Ok(Address { own, gateway })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.on_host.delete(self.uplink);
        Forwarding::restore(&format!("{UPLINK}{}", self.block.number));
    }
}

/// In an environment: takes the interface into use, whose other end the router has made.
pub fn configure(address: Address) -> io::Result<()> {
    // Ends inquiries for IPv6 addresses that could not be reached.
    let _ = fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
    let mut routes = Routes::open()?;
    routes.add_address(INSIDE_INDEX, address.own, 31)?;
    routes.set_up(INSIDE_INDEX)?;
    routes.add_route(None, address.gateway)
}

/// In an environment: begins a connection to one of its own ports. Only loopback can be meant.
pub fn connect_inside(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(err) => Err(err.into()),
    }
}

/// In an environment: gives the interface up for good.
pub fn disconnect() -> io::Result<()> {
    Routes::open()?.delete(INSIDE_INDEX)
}

/// A part of the configured network that this spawner alone uses.
struct Block {
    number: u32,
    first: u32,
    prefix: u8,
}

impl Block {
    /// Claims the first block that no other spawner on this host uses.
    fn claim(config: &Config) -> Result<(Self, UnixListener), Failure> {
        let (network, prefix) = parse_network(&config.egress_network)
            .doing(|| format!("read egress_network {:?}", config.egress_network))?;
        let pairs = config.max_environments.saturating_add(1).min(1 << 24);
        let block_prefix = 31 - u8::try_from(pairs.next_power_of_two().ilog2()).unwrap_or(31);
        let too_small = || {
            let text = "too small for max_environments, or all of it is in use by other servers";
            Failure::new(
                "claim addresses",
                &io::Error::new(io::ErrorKind::AddrNotAvailable, text),
            )
        };
        let bits = block_prefix.checked_sub(prefix).ok_or_else(too_small)?;
        for number in 0..1_u32 << bits.min(8) {
            // A dead spawner's interface lingers until the kernel has cleared its namespace away.
            if fs::exists(format!("/sys/class/net/{UPLINK}{number}")).unwrap_or(false) {
                continue;
            }
            // The kernel releases the name with its holder, and nobody has to clean up a file.
            let name = format!("firn-egress-{network}-{number}");
            let claimed = SocketAddr::from_abstract_name(name)
                .and_then(|name| UnixListener::bind_addr(&name));
            let Ok(claim) = claimed else { continue };
            let first = u32::from(network) + (number << (32 - block_prefix));
            return Ok((
                Self {
                    number,
                    first,
                    prefix: block_prefix,
                },
                claim,
            ));
        }
        Err(too_small())
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first.saturating_add(offset))
    }
}

/// `a.b.c.d/n`
fn parse_network(text: &str) -> io::Result<(Ipv4Addr, u8)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not of the form a.b.c.d/n");
    let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
    let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
    let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
    if !(8..=30).contains(&prefix) || u32::from(address) << prefix != 0 {
        return Err(invalid());
    }
    Ok((address, prefix))
}

/// Does something in a network namespace of its own, then returns to the present one.
fn in_new_namespace<T>(action: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let host = fs::File::open("/proc/self/ns/net");
    let host = host.doing(|| "open the host's network namespace".into())?;
    let enter_host = || {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(host.as_fd(), kind)
    };
    // A root who is not the host's may be able to leave its network, but not to return.
    enter_host().doing(|| "use the host's network".into())?;
    // SAFETY: the spawner has one thread, see `spawner_main`.
    unsafe { sys::unshare(libc::CLONE_NEWNET) }.doing(|| "create a network namespace".into())?;
    let result = action();
    // Whatever went on from here would concern the wrong network.
    if enter_host().is_err() {
        sys::exit_now(70);
    }
    result
}

fn interface_index(name: &str) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// What fits through the interface of the default route, so that nothing has to be fragmented.
fn default_mtu() -> Option<u32> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let default = routes.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (interface, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then_some(interface)
    })?;
    fs::read_to_string(format!("/sys/class/net/{default}/mtu"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Exists while forwarding is on only because a server of ours switched it on. One place for all
/// servers of the host, whatever their configuration: the last one switches it off again.
const FORWARDING_NOTE: &str = "/run/firn/ip_forward_was_off";

/// The host's switch for passing packets on between interfaces.
struct Forwarding {
    /// It was off before any server of ours ran.
    ours: bool,
}

impl Forwarding {
    /// Switches it on.
    fn enable() -> io::Result<Self> {
        let note = Path::new(FORWARDING_NOTE);
        if fs::read_to_string(IP_FORWARD)?.trim() != "1" {
            // Without a note the switch merely stays on.
            let _ = note.parent().map(fs::create_dir_all);
            let _ = fs::File::create_new(note);
            fs::write(IP_FORWARD, "1")?;
        }
        Ok(Self {
            ours: note.exists(),
        })
    }

    /// Switches it off again, if it was and no other server uses it.
    fn restore(own: &str) {
        let others = fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name != own
                    && name
                        .strip_prefix(UPLINK)
                        .is_some_and(|n| n.parse::<u32>().is_ok())
            });
        let note = Path::new(FORWARDING_NOTE);
        if note.exists() && !others && fs::write(IP_FORWARD, "0").is_ok() {
            let _ = fs::remove_file(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_strictly() {
        assert_eq!(
            parse_network("198.18.0.0/15").unwrap(),
            (Ipv4Addr::new(198, 18, 0, 0), 15)
        );
        for bad in [
            "",
            "198.18.0.0",
            "198.18.0.1/15",
            "198.18.0.0/31",
            "x/15",
            "10.0.0.0/-1",
        ] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_claims_get_different_addresses() {
        let config = Config {
            egress_network: "198.19.0.0/16".into(),
            ..Config::default()
        };
        let (one, _held) = Block::claim(&config).unwrap();
        let (two, _held) = Block::claim(&config).unwrap();
        assert_ne!(one.first, two.first);
        assert!(one.prefix <= 18);
        let small = Config {
            egress_network: "198.18.0.0/24".into(),
            ..Config::default()
        };
        assert!(Block::claim(&small).is_err());
    }
}
