//! Which unix sockets are connected with each other.
//!
//! Only the `sock_diag` interface of the process's own network namespace tells that. The process
//! is made to open the socket for asking, because entering its namespace is not possible for a
//! server without privileges.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::error::{Doing, Result};
use super::sys;
use super::tracee::Tracee;

const NETLINK_SOCK_DIAG: u64 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const SHOW_PEER: u32 = 4;
const ATTRIBUTE_PEER: u16 = 2;
const ATTRIBUTE_SHUTDOWN: u16 = 6;
const HEADER: usize = 16;
const MESSAGE: usize = 16;

#[derive(Debug, Default)]
pub struct Peers {
    peers: HashMap<u64, u64>,
    half_closed: Vec<u64>,
}

impl Peers {
    /// `None` if the process may not ask.
    pub fn ask(tracee: &Tracee) -> Result<Option<Self>> {
        let kind = (libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).cast_unsigned();
        let domain = u64::from(libc::AF_NETLINK.cast_unsigned());
        let arguments = [domain, u64::from(kind), NETLINK_SOCK_DIAG, 0];
        let (fd, _) = tracee.inject(0, libc::SYS_socket, |_| arguments)?;
        let Ok(fd @ 0..) = i32::try_from(fd) else {
            return Ok(None);
        };
        let copy = sys::pidfd_getfd(tracee.pidfd.as_fd(), fd);
        let number = u64::from(fd.cast_unsigned());
        tracee.ask(0, libc::SYS_close, |_| [number, 0, 0, 0])?;
        let copy = copy.doing(|| "copy a descriptor".into())?;
        match dump(&copy) {
            Ok(peers) => Ok(Some(peers)),
            // Kernels without CONFIG_UNIX_DIAG.
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(err) => Err(err).doing(|| "ask for unix sockets".into()),
        }
    }

    pub fn of(&self, inode: u64) -> Option<u64> {
        self.peers.get(&inode).copied()
    }

    pub fn is_half_closed(&self, inode: u64) -> bool {
        self.half_closed.contains(&inode)
    }
}

fn request() -> Vec<u8> {
    const REQUEST_DUMP: u16 = 0x301;
    let length = 40_u32;
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    // struct unix_diag_req
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend((SHOW_PEER).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn dump(socket: &OwnedFd) -> io::Result<Peers> {
    rustix::io::write(socket, &request())?;
    let mut peers = Peers::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        // The answer is there at once: the kernel makes it while it is asked.
        let got = rustix::io::read(socket, &mut buffer)?;
        if peers.take(&buffer[..got])? {
            return Ok(peers);
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Peers {
    /// Takes one datagram of answers; true if it is the last.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
            let length = length as usize;
            let Some(message) = bytes.get(HEADER..length) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            match kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => {
                    let errno = u32_at(message, 0).unwrap_or(0).cast_signed();
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                _ => self.take_socket(message),
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    fn take_socket(&mut self, message: &[u8]) {
        let Some(inode) = u32_at(message, 4).map(u64::from) else {
            return;
        };
        let mut attributes = message.get(MESSAGE..).unwrap_or_default();
        while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
            let length = usize::from(length).max(4);
            match kind {
                ATTRIBUTE_PEER => {
                    let peer = u32_at(attributes, 4).filter(|peer| *peer != 0);
                    self.peers.extend(peer.map(|peer| (inode, u64::from(peer))));
                }
                ATTRIBUTE_SHUTDOWN if attributes.get(4).is_some_and(|how| *how != 0) => {
                    self.half_closed.push(inode);
                }
                _ => {}
            }
            let next = attributes.get(length.next_multiple_of(4)..);
            attributes = next.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Peers, dump};
    use crate::freeze::sys;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn inode(stream: &UnixStream) -> u64 {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", stream.as_raw_fd());
        std::fs::metadata(link).unwrap().ino()
    }

    #[test]
    fn the_ends_of_a_pair_find_each_other() {
        let (a, b) = UnixStream::pair().unwrap();
        let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, 4).unwrap();
        let peers = dump(&socket).unwrap();
        assert_eq!(peers.of(inode(&a)), Some(inode(&b)));
        assert_eq!(peers.of(inode(&b)), Some(inode(&a)));
        assert!(!peers.is_half_closed(inode(&a)));
    }

    #[test]
    fn broken_answers_are_refused() {
        let mut peers = Peers::default();
        assert!(peers.take(&[255; 64]).is_err());
        assert!(!peers.take(&[1, 2]).unwrap());
        peers.take_socket(&[7; 40]);
    }
}
