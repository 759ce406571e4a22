//! The stub's system calls.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use crate::PAGE;
use crate::freeze::SPECIAL;
use crate::tape::{Preamble, TRAILER};

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

/// For children of this process, and for programs that it executes.
pub fn new_time_namespace() -> io::Result<()> {
    // SAFETY: this changes neither memory nor descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWTIME) }.into()).map(drop)
}

/// Opens a file under the number `to`.
pub fn open(path: &CStr, flags: i32, to: RawFd) -> io::Result<()> {
    // SAFETY: a C string, which the kernel reads.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())?;
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    let placed = duplicate(fd, to);
    // SAFETY: opened above, and not used again.
    unsafe { libc::close(fd) };
    placed
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

/// Maps the interpreter's page and, after it, what it may write.
///
/// # Safety
/// The content must be an interpreter.
pub unsafe fn map_lobby(base: u64, end: u64, content: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let address = usize::try_from(base).map_err(|_| invalid())?;
    let len = usize::try_from(end - base).map_err(|_| invalid())?;
    if content.len() > len {
        return Err(invalid());
    }
    let place = ptr::with_exposed_provenance_mut::<libc::c_void>(address);
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel refuses to put it over anything.
    let mapped = unsafe { libc::mmap(place, len, protection, flags, -1, 0) };
    if mapped != place {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: mapped just now, as long as that, and nothing else knows of it.
    unsafe { ptr::copy_nonoverlapping(content.as_ptr(), place.cast(), content.len()) };
    let page = usize::try_from(PAGE).map_err(|_| invalid())?;
    // SAFETY: as above.
    check(unsafe { libc::mprotect(place, page, libc::PROT_READ | libc::PROT_EXEC) }.into())
        .map(drop)
}

/// Closes all descriptors but those between the two, both included.
///
/// # Safety
/// Nobody may use any of them again.
pub unsafe fn close_but(first: RawFd, last: RawFd) -> io::Result<()> {
    let (before, after) = (first.cast_unsigned() - 1, last.cast_unsigned() + 1);
    for (first, last) in [(0, before), (after, u32::MAX)] {
        // SAFETY: the caller's promise.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// Start and length of the kernel's own mappings, ascending.
pub fn special_mappings() -> io::Result<Vec<(u64, u64)>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let is_special = |line: &&str| SPECIAL.iter().any(|name| line.as_bytes().ends_with(name));
    let special = maps.lines().filter(is_special);
    let range = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let parse = |hex| u64::from_str_radix(hex, 16).ok();
        let (start, end) = (parse(start)?, parse(end)?);
        Some((start, end.checked_sub(start)?))
    };
    let found: Option<Vec<_>> = special.map(range).collect();
    match found {
        Some(found) if !found.is_empty() => Ok(found),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Moves one of the kernel's own mappings.
///
/// # Safety
/// No code may use it where it was, and nothing may be at `to`.
pub unsafe fn move_mapping(start: u64, len: u64, to: u64) -> io::Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_mremap, start, len, len, flags, to) }).map(drop)
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

/// # Safety
/// At `code` the interpreter must be mapped, at `entry` entries that use only what they know to be
/// there.
#[cfg(target_arch = "x86_64")]
pub unsafe fn play(code: u64, entry: u64) -> ! {
    // SAFETY: the interpreter begins there; it needs the first entry in r12, no stack, and
    // a text in r13 and r14, of which there is none yet.
    unsafe {
        std::arch::asm!(
            "xor r13d, r13d",
            "xor r14d, r14d",
            "jmp rax",
            in("rax") code,
            in("r12") entry,
            options(noreturn),
        )
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn play(_code: u64, _entry: u64) -> ! {
    // Nobody compiles tapes for this architecture.
    std::process::abort()
}
