//! What compiling asks the kernel and the processor.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

/// A memfd with these bytes that nobody can change.
pub fn sealed_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Later kernels warn about a memfd that does not say whether it may be executed; earlier ones
    // do not know the flag.
    let mut fd = memfd(flags | libc::MFD_NOEXEC_SEAL);
    if fd.is_err() {
        fd = memfd(flags);
    }
    let file = std::fs::File::from(fd?);
    file.write_all_at(bytes, 0)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: the call takes numbers only.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if ret == 0 {
        Ok(file.into())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn memfd(flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: a C string, which the kernel reads.
    let fd = unsafe { libc::memfd_create(c"firn-tape".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made it for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a timer's id can be chosen (Linux 6.15).
pub static TIMER_IDS: LazyLock<bool> = LazyLock::new(|| {
    const PR_TIMER_CREATE_RESTORE_IDS: libc::c_int = 77;
    const GET: libc::c_ulong = 2;
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(PR_TIMER_CREATE_RESTORE_IDS, GET, 0, 0, 0) >= 0 }
});

/// What the processor saves of a thread besides the general registers.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedState {
    /// The features that `rt_sigreturn` loads for a process that asked for nothing special.
    pub features: u64,
    /// Bytes of their standard form.
    pub len: usize,
}

/// AMX: its state is refused until a thread asks for it.
const DYNAMIC: u64 = 0b11 << 17;

impl ExtendedState {
    /// Of this machine.
    pub fn here() -> Self {
        static HERE: LazyLock<ExtendedState> = LazyLock::new(detect);
        *HERE
    }

    /// Where a feature's state ends in the standard form.
    pub fn end_of(feature: u32) -> usize {
        feature_end(feature)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> ExtendedState {
    use std::arch::x86_64::__cpuid_count;
    const XSAVE_IN_USE: u32 = 1 << 27;
    let legacy = ExtendedState {
        features: 0,
        len: 576,
    };
    if __cpuid_count(1, 0).ecx & XSAVE_IN_USE == 0 {
        return legacy;
    }
    let (low, high): (u32, u32);
    // SAFETY: the processor has the instruction when the system uses XSAVE.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    let features = (u64::from(high) << 32 | u64::from(low)) & !DYNAMIC;
    let ends = (2..63)
        .filter(|feature| features >> feature & 1 != 0)
        .map(feature_end);
    ExtendedState {
        features,
        len: ends.fold(576, usize::max),
    }
}

#[cfg(target_arch = "x86_64")]
fn feature_end(feature: u32) -> usize {
    if feature < 2 {
        return 576;
    }
    let leaf = std::arch::x86_64::__cpuid_count(0xd, feature);
    leaf.ebx as usize + leaf.eax as usize
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> ExtendedState {
    ExtendedState {
        features: 0,
        len: 576,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn feature_end(_feature: u32) -> usize {
    576
}
