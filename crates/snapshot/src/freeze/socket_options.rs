//! Options of a socket that its process has changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::sys;

/// Options that are set by value, and keep their value.
const OPTIONS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
];

/// Says which buffer sizes were set, rather than grown by the kernel.
const SO_BUF_LOCK: i32 = 72;

/// (level, name, value) of each option that a new socket of the kind has otherwise.
pub fn differing(
    socket: BorrowedFd<'_>,
    domain: i32,
    socket_type: i32,
    protocol: i32,
) -> io::Result<Vec<(i32, i32, Vec<u8>)>> {
    let new = sys::socket(domain, socket_type, protocol)?;
    let mut options = Vec::new();
    for (level, name) in OPTIONS {
        // An option that this kind of socket does not have.
        let Ok(value) = sys::socket_option(socket, *level, *name) else {
            continue;
        };
        let Ok(default) = sys::socket_option(new.as_fd(), *level, *name) else {
            continue;
        };
        if value != default {
            options.push((*level, *name, value));
        }
    }
    let int = |value: Vec<u8>| {
        value
            .first_chunk()
            .map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    };
    let locked = sys::socket_option(socket, libc::SOL_SOCKET, SO_BUF_LOCK).map_or(0, int);
    for (bit, name) in [(1, libc::SO_SNDBUF), (2, libc::SO_RCVBUF)] {
        if locked & bit != 0 {
            // The kernel doubles what is set.
            let size = int(sys::socket_option(socket, libc::SOL_SOCKET, name)?) / 2;
            options.push((libc::SOL_SOCKET, name, size.to_ne_bytes().to_vec()));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::differing;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn only_changed_options_are_told() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ask = || {
            let changed = differing(socket.as_fd(), libc::AF_INET, libc::SOCK_DGRAM, 17);
            changed.unwrap()
        };
        assert_eq!(ask(), []);
        socket.set_broadcast(true).unwrap();
        socket.set_ttl(3).unwrap();
        let names: Vec<_> = ask()
            .into_iter()
            .map(|(level, name, _)| (level, name))
            .collect();
        let expected = [
            (libc::SOL_SOCKET, libc::SO_BROADCAST),
            (libc::IPPROTO_IP, libc::IP_TTL),
        ];
        assert_eq!(names, expected);
    }
}
