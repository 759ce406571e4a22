//! The system calls of the freeze side that neither std nor rustix wraps.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// `user_regs_struct` of x86-64 as words.
pub const REGISTERS: usize = 27;
pub type Registers = [u64; REGISTERS];

fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// Requests that carry numbers only.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    Seize {
        options: u64,
    },
    /// Of a thread that stands.
    SetOptions {
        options: u64,
    },
    Interrupt,
    /// Lets it go on to the next entry to or exit from a system call.
    ToSyscall,
    Continue {
        signal: i32,
    },
    Detach {
        signal: i32,
    },
}

pub const OPTION_SYSGOOD: u64 = 1;
pub const OPTION_EXITKILL: u64 = 1 << 20;
pub const OPTION_SUSPEND_SECCOMP: u64 = 1 << 21;

pub fn ptrace(tid: i32, request: Request) -> io::Result<()> {
    const PTRACE_SEIZE: u32 = 0x4206;
    const PTRACE_INTERRUPT: u32 = 0x4207;
    const PTRACE_SETOPTIONS: u32 = 0x4200;
    let (number, data) = match request {
        Request::Seize { options } => (PTRACE_SEIZE, options),
        Request::SetOptions { options } => (PTRACE_SETOPTIONS, options),
        Request::Interrupt => (PTRACE_INTERRUPT, 0),
        Request::ToSyscall => (24, 0),
        Request::Continue { signal } => (7, u64::from(signal.cast_unsigned())),
        Request::Detach { signal } => (17, u64::from(signal.cast_unsigned())),
    };
    // SAFETY: none of these requests makes the kernel touch memory of this process.
    check(unsafe { raw_ptrace(number, tid, 0, data) }).map(drop)
}

/// # Safety
/// As `ptrace(2)`: for requests that transfer data, `data` must point to what the request expects.
unsafe fn raw_ptrace(request: u32, tid: i32, address: u64, data: u64) -> libc::c_long {
    // The raw call, because glibc's wrapper is variadic with types that differ between libraries.
    // SAFETY: passed on to the caller.
    unsafe { libc::syscall(libc::SYS_ptrace, u64::from(request), tid, address, data) }
}

const PTRACE_GETREGSET: u32 = 0x4204;
const PTRACE_SETREGSET: u32 = 0x4205;

/// Reads a register set into `buffer`; returns its length.
pub fn register_set(tid: i32, set: u32, buffer: &mut [u8]) -> io::Result<usize> {
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the iovec describes exactly `buffer`, which is borrowed for writing.
    let ret = unsafe {
        raw_ptrace(
            PTRACE_GETREGSET,
            tid,
            u64::from(set),
            ptr::addr_of_mut!(iov) as u64,
        )
    };
    check(ret).map(|_| iov.iov_len)
}

pub const NT_PRSTATUS: u32 = 1;
pub const NT_X86_XSTATE: u32 = 0x202;
pub const NT_X86_SHSTK: u32 = 0x204;

/// `None` if the thread is not a 64-bit one.
pub fn registers(tid: i32) -> io::Result<Option<Registers>> {
    let mut bytes = [0; REGISTERS * 8];
    if register_set(tid, NT_PRSTATUS, &mut bytes)? != bytes.len() {
        return Ok(None);
    }
    let mut registers = [0; REGISTERS];
    for (register, bytes) in registers.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *register = u64::from_ne_bytes(*bytes);
    }
    Ok(Some(registers))
}

pub fn set_registers(tid: i32, registers: &Registers) -> io::Result<()> {
    let mut iov = libc::iovec {
        iov_base: registers.as_ptr().cast_mut().cast(),
        iov_len: mem::size_of_val(registers),
    };
    // SAFETY: the iovec describes exactly `registers`, from which the kernel only reads.
    let ret = unsafe {
        raw_ptrace(
            PTRACE_SETREGSET,
            tid,
            u64::from(NT_PRSTATUS),
            ptr::addr_of_mut!(iov) as u64,
        )
    };
    check(ret).map(drop)
}

pub fn signal_mask(tid: i32) -> io::Result<u64> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the 8 bytes that the address argument announces.
    let ret = unsafe { raw_ptrace(0x420a, tid, 8, ptr::addr_of_mut!(mask) as u64) };
    check(ret).map(|_| mask)
}

pub fn set_signal_mask(tid: i32, mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads the 8 bytes that the address argument announces.
    let ret = unsafe { raw_ptrace(0x420b, tid, 8, ptr::addr_of!(mask) as u64) };
    check(ret).map(drop)
}

/// Restartable sequences of a thread: address, length, signature; zeroes on kernels that cannot
/// tell.
pub fn rseq(tid: i32) -> io::Result<(u64, u32, u32)> {
    #[repr(C)]
    #[derive(Default)]
    struct Configuration {
        pointer: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    let mut it = Configuration::default();
    let size = mem::size_of_val(&it) as u64;
    // SAFETY: the kernel writes at most the size given as address argument into `it`.
    let ret = unsafe { raw_ptrace(0x420f, tid, size, ptr::addr_of_mut!(it) as u64) };
    check(ret).map(|_| (it.pointer, it.size, it.signature))
}

/// Head and length of a thread's robust futex list.
pub fn robust_list(tid: i32) -> io::Result<(u64, u64)> {
    let (mut head, mut length) = (0_u64, 0_u64);
    // SAFETY: the kernel writes one word to each of both.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            tid,
            ptr::addr_of_mut!(head),
            ptr::addr_of_mut!(length),
        )
    };
    check(ret).map(|_| (head, length))
}

/// Collects a change of state of one tracee of this thread, if there is one.
pub fn wait_now(tid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    let flags = libc::__WALL | libc::WNOHANG;
    // SAFETY: the kernel writes one int to `status`.
    let ret = unsafe { libc::waitpid(tid, ptr::addr_of_mut!(status), flags) };
    match check(libc::c_long::from(ret))? {
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just created the descriptor for us.
    Ok(unsafe { owned(fd) })
}

/// A copy of descriptor `fd` of another process.
pub fn pidfd_getfd(process: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    let fd = check(ret)?;
    // SAFETY: the kernel just created the descriptor for us.
    Ok(unsafe { owned(fd) })
}

/// # Safety
/// `fd` is a descriptor that a system call has just returned and nobody else owns.
unsafe fn owned(fd: libc::c_long) -> OwnedFd {
    #[expect(clippy::cast_possible_truncation, reason = "descriptors are ints")]
    // SAFETY: the caller's contract.
    unsafe {
        OwnedFd::from_raw_fd(fd as i32)
    }
}

pub fn pidfd_kill(process: BorrowedFd<'_>) -> io::Result<()> {
    let info = ptr::null::<libc::siginfo_t>();
    let fd = process.as_raw_fd();
    // SAFETY: a null siginfo asks for the same as kill(2).
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, info, 0) };
    check(ret).map(drop)
}

/// Whether two descriptors of a process are one open file description.
pub fn same_description(pid: i32, a: i32, b: i32) -> io::Result<bool> {
    const KCMP_FILE: i32 = 0;
    // SAFETY: for files the call takes numbers only.
    let ret = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, a, b) };
    check(ret).map(|order| order == 0)
}

/// Whether descriptor `fd` of a process is what its epoll `epoll` watches as number `fd`, of which
/// there can be several, one of them `nth`.
pub fn is_watched(pid: i32, epoll: i32, fd: i32, nth: u32) -> io::Result<bool> {
    #[repr(C)]
    struct Slot {
        epoll: u32,
        fd: u32,
        nth: u32,
    }
    const KCMP_EPOLL_TFD: i32 = 7;
    let slot = Slot {
        epoll: epoll.cast_unsigned(),
        fd: fd.cast_unsigned(),
        nth,
    };
    // SAFETY: the kernel reads one slot, which outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            pid,
            KCMP_EPOLL_TFD,
            fd,
            ptr::addr_of!(slot),
        )
    };
    check(ret).map(|order| order == 0)
}

/// Copies what is in a pipe into another without consuming it.
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK;
    // SAFETY: the call takes numbers only.
    let ret = unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), most, flags) };
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

/// A run of pages, as the kernel reports it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    pub categories: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Scan {
    pub start: u64,
    pub end: u64,
    pub inverted: u64,
    pub all_of: u64,
    pub any_of: u64,
    pub report: u64,
}

pub mod page {
    pub const FILE: u64 = 1 << 2;
    pub const PRESENT: u64 = 1 << 3;
    pub const SWAPPED: u64 = 1 << 4;
    pub const ZERO: u64 = 1 << 5;
    pub const GUARD: u64 = 1 << 8;
}

/// `PAGEMAP_SCAN`: fills `regions`; returns how many, and where to go on.
pub fn pagemap_scan(
    pagemap: BorrowedFd<'_>,
    scan: Scan,
    regions: &mut [Region],
) -> io::Result<(usize, u64)> {
    #[repr(C)]
    struct Argument {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        regions: u64,
        regions_len: u64,
        max_pages: u64,
        inverted: u64,
        all_of: u64,
        any_of: u64,
        report: u64,
    }
    // _IOWR('f', 16, struct pm_scan_arg)
    const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
    let mut argument = Argument {
        size: mem::size_of::<Argument>() as u64,
        flags: 0,
        start: scan.start,
        end: scan.end,
        walk_end: 0,
        regions: regions.as_mut_ptr() as u64,
        regions_len: regions.len() as u64,
        max_pages: 0,
        inverted: scan.inverted,
        all_of: scan.all_of,
        any_of: scan.any_of,
        report: scan.report,
    };
    let pagemap = pagemap.as_raw_fd();
    // SAFETY: the argument has the size it states, and describes `regions`, which the kernel may
    // fill; both outlive the call.
    let ret = unsafe { libc::ioctl(pagemap, PAGEMAP_SCAN, ptr::addr_of_mut!(argument)) };
    let count = check(libc::c_long::from(ret))?;
    Ok((usize::try_from(count).unwrap_or(0), argument.walk_end))
}

/// An `ioctl` that reports one int, such as `FIONREAD`.
pub fn ioctl_int(fd: BorrowedFd<'_>, request: IntRequest) -> io::Result<i32> {
    let mut value = 0;
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    let request = match request {
        IntRequest::Unread => libc::FIONREAD,
        IntRequest::Unsent => SIOCOUTQNSD,
    };
    // SAFETY: both requests write one int.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), request, ptr::addr_of_mut!(value)) };
    check(libc::c_long::from(ret)).map(|_| value)
}

#[derive(Debug, Clone, Copy)]
pub enum IntRequest {
    Unread,
    /// Of a connection: not sent yet. What has been sent and not acknowledged has arrived all the
    /// same, on loopback.
    Unsent,
}

/// The raw value of a socket option, at most 256 bytes.
pub fn socket_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<Vec<u8>> {
    let mut value = vec![0_u8; 256];
    let mut length = 256;
    // SAFETY: the buffer has the stated length, and both outlive the call.
    let ret = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            ptr::addr_of_mut!(length),
        )
    };
    check(libc::c_long::from(ret))?;
    value.truncate(length as usize);
    Ok(value)
}

#[derive(Debug, Clone, Copy)]
pub enum Side {
    Local,
    Peer,
}

/// A socket's address as raw `sockaddr` bytes.
pub fn socket_address(fd: BorrowedFd<'_>, side: Side) -> io::Result<Vec<u8>> {
    let mut address = vec![0_u8; mem::size_of::<libc::sockaddr_storage>()];
    let mut length = 128;
    let (to, len) = (address.as_mut_ptr().cast(), ptr::addr_of_mut!(length));
    // SAFETY: the buffer has 128 bytes, the size of sockaddr_storage, and both outlive the call.
    let ret = unsafe {
        match side {
            Side::Local => libc::getsockname(fd.as_raw_fd(), to, len),
            Side::Peer => libc::getpeername(fd.as_raw_fd(), to, len),
        }
    };
    check(libc::c_long::from(ret))?;
    address.truncate(length as usize);
    Ok(address)
}

/// A new socket of any kind.
pub fn socket(domain: i32, socket_type: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(domain, socket_type | libc::SOCK_CLOEXEC, protocol) };
    let fd = check(libc::c_long::from(fd))?;
    // SAFETY: the kernel just created the descriptor for us.
    Ok(unsafe { owned(fd) })
}

/// What waits in a stream socket, without taking it. The flag says whether descriptors or the
/// like came with it, which were not looked at.
pub fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain data; zeroed it is a message without name and control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::addr_of_mut!(iov);
    message.msg_iovlen = 1;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the message describes exactly `buffer`; all of it outlives the call.
    let ret = unsafe { libc::recvmsg(fd.as_raw_fd(), ptr::addr_of_mut!(message), flags) };
    let got = usize::try_from(ret).map_err(|_| io::Error::last_os_error())?;
    Ok((got, message.msg_flags & libc::MSG_CTRUNC != 0))
}
