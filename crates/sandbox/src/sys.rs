//! The system calls that neither std nor rustix wraps. All `unsafe` of the crate is here.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// libc's constant of this name is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The two outcomes of [`fork`].
pub enum Fork {
    /// In the creating process.
    Parent {
        /// The new process, as this process's pid namespace numbers it.
        pid: Pid,
        /// A handle that never refers to another process.
        pidfd: OwnedFd,
    },
    /// In the new process.
    Child,
}

/// Creates a process with its own copy of the address space, in new namespaces (`CLONE_NEW*`) and,
/// when `cgroup` is given, directly inside that cgroup of the unified hierarchy. With `pid` it gets
/// that number in its pid namespace, if it is free.
///
/// # Safety
/// The caller must be the only thread of its process: the child then has a consistent copy of the
/// allocator and of every lock, and may run ordinary code.
pub unsafe fn fork(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    pid: Option<libc::pid_t>,
) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which zero means "not used".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from(namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    args.pidfd = ptr::addr_of_mut!(pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    if let Some(pid) = &pid {
        args.set_tid = ptr::from_ref(pid) as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: without CLONE_VM and without a stack this is a fork; the caller upholds that no
    // other thread exists whose state the child would miss. `args` and `pid` outlive the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::addr_of!(args),
            mem::size_of::<libc::clone_args>(),
        )
    };
    match ret {
        0 => Ok(Fork::Child),
        pid if pid > 0 => {
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Fork::Parent {
                pid: pid.ok_or(io::ErrorKind::InvalidData)?,
                pidfd,
            })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once, without running destructors or exit handlers that belong to the
/// process it was copied from.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Sets attribute flags (`MOUNT_ATTR_*`) on a mount, and on all below it when `recursive`.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, set: u64) -> io::Result<()> {
    change_mount(mount, recursive, set, 0)
}

/// Takes attribute flags off one mount.
pub fn mount_clearattr(mount: BorrowedFd<'_>, clear: u64) -> io::Result<()> {
    change_mount(mount, false, 0, clear)
}

fn change_mount(mount: BorrowedFd<'_>, recursive: bool, set: u64, clear: u64) -> io::Result<()> {
    // SAFETY: mount_attr is plain data for which zero means "leave alone".
    let mut attr: libc::mount_attr = unsafe { mem::zeroed() };
    attr.attr_set = set;
    attr.attr_clr = clear;
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string and `attr` outlives the call, which only reads both.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::addr_of!(attr),
            mem::size_of::<libc::mount_attr>(),
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor of this process except those in `keep`.
///
/// # Safety
/// Descriptors are closed behind the back of whoever owns them. The caller must not use any owner
/// of a closed descriptor again, which is the case in a new process that never returns to the code
/// it was copied from.
pub unsafe fn close_all_except(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep {
        if fd > first {
            // SAFETY: the caller's contract is the same.
            unsafe { close_range(first, fd - 1) }?;
        }
        first = fd + 1;
    }
    // SAFETY: as above.
    unsafe { close_range(first, u32::MAX) }
}

/// Lets no program that this process starts inherit what it was itself handed beyond the standard
/// descriptors. What is opened here is closed in other programs anyway.
pub fn keep_descriptors() -> io::Result<()> {
    const FIRST: u32 = 3;
    // SAFETY: no descriptor is closed in this process, and no memory is touched.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes the descriptors between two numbers, both included.
///
/// # Safety
/// As for [`close_all_except`].
pub unsafe fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing touches no memory; that nobody uses these descriptors is the caller's
    // contract.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `fd` available under exactly the number `target`, inherited by a program started later.
///
/// # Safety
/// Whatever had the number `target` is closed; see [`close_all_except`].
pub unsafe fn place(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: dup2 touches no memory; that the old `target` is unused is the caller's contract.
    let ret = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    if ret == target {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A copy of `fd` whose number is at least `min`, closed when a program is started.
pub fn duplicate_above(fd: BorrowedFd<'_>, min: RawFd) -> io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, min).map_err(Into::into)
}

/// Replaces this process by a program. Returns only on failure.
pub fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Blocks SIGCHLD and returns a descriptor that becomes readable when a child changes state.
pub fn child_events() -> io::Result<OwnedFd> {
    // SAFETY: a sigset_t may be zeroed before sigemptyset initialises it.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a valid sigset_t for both calls.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: as above; SIGCHLD is a valid signal number.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: -1 asks for a new descriptor; `set` is initialised.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just created it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives every signal its default action and unblocks it, so that nothing of this process's
/// arrangements survives into a program (an ignored SIGPIPE would).
pub fn reset_signals() {
    // The kernel's structure, whose zeroes mean the default action. glibc's function would refuse
    // the two signals that it keeps for itself, and those can be inherited as ignored, too.
    let default = [0_u64; 4];
    let nothing = ptr::null::<u64>();
    for signal in 1..=64 {
        // SAFETY: `default` is as large as the structure on every architecture, and installs no
        // handler. Failure for the unchangeable signals is expected.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, 8);
        }
    }
    // SAFETY: a sigset_t may be zeroed before sigemptyset initialises it.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is a valid sigset_t.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: `none` is initialised, and the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Switches the loopback interface of the current network namespace on.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: ifreq is plain data; zeroed it is an empty name.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // IFF_UP | IFF_RUNNING, which libc has as wider numbers than the field.
    request.ifr_ifru.ifru_flags = 0x41;
    // SAFETY: SIOCSIFFLAGS reads the ifreq, which outlives the call.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Moves this thread, which must be the only one, into other namespaces of its own.
///
/// # Safety
/// The caller must be the only thread of its process, and must not hold descriptors on the promise
/// that they are private (`CLONE_FILES` is refused here, so that promise cannot break).
pub unsafe fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    debug_assert_eq!(
        namespaces & libc::CLONE_FILES,
        0,
        "would share nothing but break I/O safety"
    );
    // SAFETY: without CLONE_FILES, unshare changes no memory and no descriptor.
    let ret = unsafe { libc::unshare(namespaces) };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Installs a compiled filter for this thread and its descendants, for good. Needs
/// no-new-privileges, which init has set.
pub fn seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the structure describes exactly the given slice, which the kernel only reads.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            ptr::addr_of!(program),
        )
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Leaves the session keyring of whoever started this process for an empty one. Kernels without
/// keyrings have nothing to leave.
pub fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    };
}

/// Empties the capability bounding set: nothing executed from here on can have a capability.
pub fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: the call takes numbers only.
        let ret = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if ret != 0 {
            let err = io::Error::last_os_error();
            // The first number that the kernel does not know ends the list.
            return if err.raw_os_error() == Some(libc::EINVAL) {
                Ok(())
            } else {
                Err(err)
            };
        }
    }
    Ok(())
}

/// Signals every process of this pid namespace except its init, which is the caller.
pub fn kill_all(signal: libc::c_int) {
    // SAFETY: the call takes numbers only.
    unsafe { libc::kill(-1, signal) };
}

/// Registers a descriptor with the current tokio runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd reports the same open descriptor for as long as it lives, and the AsyncFd
    // that owns it hands it out only by shared reference.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Ignores signals that ask for an orderly end.
pub fn ignore_requests_to_end() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: SIG_IGN installs no handler, and the signals are valid.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Makes files that this thread creates from now on belong to this user and group. What it may do
/// stays the same: the secure bits say so.
pub fn set_file_user(uid: u32, gid: u32) {
    // SAFETY: the call takes numbers only; a refused change leaves the old user, to whom the files
    // then belong.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
}
