//! The system calls of userfaultfd.

use std::io::{self, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::PAGE;

const UFFD_API: u64 = 0xaa;
/// Forks, moves, removals, unmappings; missing pages of shared memory files.
pub const EVENTS_AND_MISSING: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 5;
/// Protection against writing for memory files; from Linux 5.19.
pub const PROTECTION: u64 = 1 << 12;

// _IOWR(0xaa, 0x3f, struct uffdio_api) and so on.
const USERFAULTFD_IOC_NEW: libc::c_ulong = 0xaa00;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_WAKE: libc::c_ulong = 0x8010_aa02;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;

/// What userfaultfd reports.
#[derive(Debug)]
pub enum Message {
    Fault { address: u64 },
    Fork { uffd: OwnedFd },
    Remap { from: u64, to: u64, len: u64 },
    Remove { start: u64, end: u64 },
    Unmap { start: u64, end: u64 },
    Other,
}

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A new userfaultfd of this process.
pub fn create(device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: this ioctl takes flags.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags) };
    check(fd)?;
    // SAFETY: made just now, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Agrees on features. After a refusal it can be tried again with others.
pub fn handshake(uffd: BorrowedFd<'_>, features: u64) -> io::Result<()> {
    let mut api = [UFFD_API, features, 0];
    // SAFETY: the request reads and writes a structure of three u64.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) })?;
    if api[1] & features == features {
        Ok(())
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets threads go on that wait for pages in a range.
pub fn wake(uffd: BorrowedFd<'_>, start: u64, len: u64) -> io::Result<()> {
    let mut range = [start, len];
    // SAFETY: the request reads a structure of two u64.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_WAKE, range.as_mut_ptr()) })
}

/// Makes a page zeroes in this address space, and wakes those who wait for it.
pub fn zero_page(uffd: BorrowedFd<'_>, address: u64) -> io::Result<()> {
    let mut request = [address, PAGE, 0, 0];
    // SAFETY: the request reads and writes a structure of four u64.
    check(unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_ZEROPAGE, request.as_mut_ptr()) })
}

/// `struct uffd_msg`
type Raw = [u64; 4];
const RAW: usize = mem::size_of::<Raw>();

/// Some of the waiting messages; none if there are none.
pub fn read(uffd: BorrowedFd<'_>) -> io::Result<Vec<Message>> {
    let mut messages: [Raw; 16] = [[0; 4]; 16];
    let len = mem::size_of_val(&messages);
    // SAFETY: the buffer has `len` bytes and can hold any bit pattern.
    let got = unsafe { libc::read(uffd.as_raw_fd(), ptr::addr_of_mut!(messages).cast(), len) };
    let Ok(got) = usize::try_from(got) else {
        let err = io::Error::last_os_error();
        return match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Vec::new()),
            _ => Err(err),
        };
    };
    Ok(messages.iter().take(got / RAW).map(understand).collect())
}

fn understand(message: &Raw) -> Message {
    let [head, a, b, c] = *message;
    match head & 0xff {
        0x12 => Message::Fault { address: b },
        0x13 => {
            let Ok(fd) = i32::try_from(a & 0xffff_ffff) else {
                return Message::Other;
            };
            // SAFETY: reading the message has just created the descriptor for us.
            let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
            Message::Fork { uffd }
        }
        0x14 => Message::Remap {
            from: a,
            to: b,
            len: c,
        },
        0x15 => Message::Remove { start: a, end: b },
        0x16 => Message::Unmap { start: a, end: b },
        _ => Message::Other,
    }
}

/// One byte with one descriptor.
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut buffers, &mut attached, flags)?;
    let descriptor = attached.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
