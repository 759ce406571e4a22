//! The stub's system calls.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use crate::PAGE;
use crate::tape::{Preamble, REGION, TRAILER};

fn check(ret: i64) -> io::Result<i64> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// Blocks every signal; the tape's frames set the masks of the threads.
pub fn block_signals() {
    let all = u64::MAX;
    let nothing = ptr::null::<u64>();
    // SAFETY: the kernel reads eight bytes of `all`. libc's function would leave out the signals
    // that it keeps for itself.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            nothing,
            8,
        )
    };
}

pub fn set_dumpable() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }.into()).map(drop)
}

pub fn process_id() -> i32 {
    // SAFETY: no arguments. Not from libc's cache, if it has one.
    i32::try_from(unsafe { libc::syscall(libc::SYS_getpid) }).unwrap_or(0)
}

pub fn duplicate(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: descriptors of a process that is about to be replaced belong to nobody.
    check(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) }.into()).map(drop)
}

pub fn clock(clock: libc::clockid_t) -> io::Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes the timespec.
    check(unsafe { libc::clock_gettime(clock, &raw mut now) }.into())?;
    Ok(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

/// For children, and for [`enter_time_namespace`].
pub fn new_time_namespace() -> io::Result<()> {
    // SAFETY: this changes neither memory nor descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWTIME) }.into()).map(drop)
}

pub const TIME_FOR_CHILDREN: &CStr = c"/proc/self/ns/time_for_children";

pub fn enter_time_namespace() -> io::Result<()> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a C string, which the kernel reads.
    let fd = check(unsafe { libc::open(TIME_FOR_CHILDREN.as_ptr(), flags) }.into())?;
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    // SAFETY: the call takes numbers only.
    let entered = check(unsafe { libc::setns(fd, libc::CLONE_NEWTIME) }.into());
    // SAFETY: opened above, and not used again.
    unsafe { libc::close(fd) };
    entered.map(drop)
}

/// Size and time of change of a file, without regard to what it is.
pub fn size_and_time(path: &CStr) -> Option<(u64, i64)> {
    // SAFETY: plain data for which zero is a value.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    let mask = libc::STATX_SIZE | libc::STATX_MTIME;
    let flags = libc::AT_STATX_DONT_SYNC;
    // SAFETY: the kernel reads the C string and fills the structure.
    let ret = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, &raw mut found) };
    if ret != 0 {
        return None;
    }
    let seconds = found.stx_mtime.tv_sec.checked_mul(1_000_000_000)?;
    Some((
        found.stx_size,
        seconds.checked_add(found.stx_mtime.tv_nsec.into())?,
    ))
}

pub fn read_preamble(tape: RawFd) -> io::Result<Preamble> {
    // SAFETY: plain data for which zero is a value.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the kernel fills the structure.
    check(unsafe { libc::fstat(tape, &raw mut stat) }.into())?;
    let len = stat.st_size.cast_unsigned();
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut trailer = [0; TRAILER];
    let at = len.checked_sub(TRAILER as u64).ok_or_else(invalid)?;
    read_at(tape, &mut trailer, at)?;
    let (start, len) = Preamble::find(len, &trailer).ok_or_else(invalid)?;
    let mut bytes = vec![0; len];
    read_at(tape, &mut bytes, start)?;
    Preamble::decode(&bytes).ok_or_else(invalid)
}

fn read_at(fd: RawFd, bytes: &mut [u8], at: u64) -> io::Result<()> {
    // SAFETY: the kernel writes at most the slice's length.
    let read = unsafe { libc::pread(fd, bytes.as_mut_ptr().cast(), bytes.len(), at.cast_signed()) };
    if check(read as i64)? == bytes.len() as i64 {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

const USERFAULTFD_IOC_NEW: libc::c_ulong = 0xaa00;

/// Makes a userfaultfd for this process, hands it over through `socket`, and leaves it under the
/// device's number, where the tape looks for it.
///
/// Its features are chosen by the receiver: the kernel lets only a privileged process ask for
/// word of forks, and this one may be privileged in its user namespace only. The receiver answers
/// with a byte once that is done.
pub fn hand_over_userfault(device: RawFd, socket: RawFd) -> io::Result<()> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: this ioctl takes flags.
    let fd = check(unsafe { libc::ioctl(device, USERFAULTFD_IOC_NEW, flags) }.into())?;
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    send_descriptor(socket, fd)?;
    duplicate(fd, device)?;
    // SAFETY: made above, and not used again under this number.
    unsafe { libc::close(fd) };
    let mut answer = [0_u8];
    // SAFETY: the kernel writes at most one byte.
    let received = unsafe { libc::recv(socket, answer.as_mut_ptr().cast(), 1, 0) };
    match check(received as i64)? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn send_descriptor(socket: RawFd, fd: RawFd) -> io::Result<()> {
    let mut byte = [0_u8];
    let mut vector = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // Aligned as a cmsghdr must be.
    let mut control = [0_u64; 4];
    // SAFETY: plain data for which zero means "none".
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: arithmetic on a constant.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
    // SAFETY: the control buffer holds one header with four bytes.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: as above.
    unsafe {
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
    }
    // SAFETY: everything that the message points to lives until the call is over.
    let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
    check(sent as i64).map(drop)
}

/// # Safety
/// The file must hold the tape that `preamble` describes.
pub unsafe fn map_tape(tape: RawFd, preamble: &Preamble) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let len = usize::try_from(preamble.len).map_err(|_| invalid())?;
    let writable = usize::try_from(preamble.writable_len).map_err(|_| invalid())?;
    let code = ptr::with_exposed_provenance_mut::<libc::c_void>(
        usize::try_from(preamble.base).map_err(|_| invalid())?,
    );
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    // The whole hole must be free, not only what the tape takes of it: the tape unmaps everything
    // around the hole, and nothing in it.
    let hole = usize::try_from(REGION).map_err(|_| invalid())?;
    let anonymous = flags | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel refuses to put it over anything.
    let mapped = unsafe { libc::mmap(code, hole, libc::PROT_NONE, anonymous, -1, 0) };
    if mapped != code {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: mapped just now, and not used.
    check(unsafe { libc::munmap(code, hole) }.into())?;
    // SAFETY: the kernel refuses to put it over anything.
    let mapped = unsafe { libc::mmap(code, len, libc::PROT_READ, flags, tape, 0) };
    if mapped != code {
        return Err(io::Error::last_os_error());
    }
    let page = 4096;
    // SAFETY: memory that was mapped just now, of which nothing in Rust knows.
    let ret = unsafe { libc::mprotect(code, page, libc::PROT_READ | libc::PROT_EXEC) };
    check(ret.into())?;
    let data = code.wrapping_byte_add(page);
    // SAFETY: as above.
    let ret = unsafe { libc::mprotect(data, writable, libc::PROT_READ | libc::PROT_WRITE) };
    check(ret.into()).map(drop)
}

/// Takes back the registration that libc made for this thread: its memory is about to go away,
/// and the kernel kills a thread whose registration points nowhere.
///
/// # Safety
/// No code that relies on restartable sequences may run afterwards.
pub unsafe fn forget_restartable_sequence() {
    let Some(offset) = find_restartable_sequence() else {
        return;
    };
    let area = thread_pointer().wrapping_add_signed(offset);
    // The length must be that of the registration. glibc's was 32 until the structure grew.
    for len in (32..=256).step_by(4) {
        // SAFETY: unregistering writes no memory of ours but the area itself.
        let ret = unsafe { libc::syscall(libc::SYS_rseq, area, len, 1, SIGNATURE) };
        if ret == 0 {
            return;
        }
    }
}

/// Where it lies, from the thread pointer on. Asked for once: looking a symbol up goes through the
/// tables of all libraries.
pub fn find_restartable_sequence() -> Option<isize> {
    static OFFSET: OnceLock<Option<isize>> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        // Since glibc 2.35; absent in other libraries, which register nothing.
        // SAFETY: a C string.
        let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) };
        // SAFETY: libc defines it as a ptrdiff_t that never changes.
        (!offset.is_null()).then(|| unsafe { offset.cast::<isize>().read() })
    })
}

/// What glibc puts before its abort handlers on x86-64.
const SIGNATURE: u32 = 0x5305_3053;

#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: by the ABI the first word of the thread's control block is its own address.
    unsafe {
        std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
    }
    pointer
}

#[cfg(not(target_arch = "x86_64"))]
fn thread_pointer() -> usize {
    0
}

/// Moves this process's `[vvar]`, `[vdso]` and so on to where the tape expects them.
///
/// # Safety
/// No code may use the vDSO afterwards.
pub unsafe fn park(special: &[(i64, u64, u64)]) -> io::Result<()> {
    // SAFETY: the call takes a number only.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    if vdso == 0 || special.is_empty() {
        return Err(unsupported());
    }
    for (offset, len, place) in special {
        let start = vdso.checked_add_signed(*offset).ok_or_else(unsupported)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the place lies in the hole that the tape begins, which nothing else uses.
        let ret = unsafe { libc::syscall(libc::SYS_mremap, start, *len, *len, flags, *place) };
        check(ret)?;
    }
    Ok(())
}

/// # Safety
/// The tape must be mapped.
#[cfg(target_arch = "x86_64")]
pub unsafe fn play(tape: &Preamble) -> ! {
    // SAFETY: the interpreter begins at the base; it needs the first entry in r12, no stack, and
    // a text in r13 and r14, of which there is none yet.
    unsafe {
        std::arch::asm!(
            "xor r13d, r13d",
            "xor r14d, r14d",
            "jmp rax",
            in("rax") tape.base,
            in("r12") tape.entry,
            options(noreturn),
        )
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn play(_tape: &Preamble) -> ! {
    // Nobody compiles tapes for this architecture.
    std::process::abort()
}

const _: () = assert!(PAGE == 4096, "map_tape protects one page of code");
