//! What the sandbox does for a process, in small: namespaces of users, processes, mounts and
//! networks, an init, and in them either a program or a thaw.
//!
//! The test program has one thread, so that copies of it may run ordinary code.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use snapshot::{Order, ScratchContent, ScratchEntry, Tape, slot};

/// The function's user and group inside.
pub const UID: u32 = 993;
pub const GID: u32 = 990;
const HOST_USERS: u32 = 300_000;
/// Where programs connect to.
pub const PORT: u16 = 9001;

/// What runs in a cage.
pub enum Job<'a> {
    Program(&'a [&'a str]),
    Tape {
        tape: &'a Tape,
        pages: &'a File,
        scratch: &'a [ScratchEntry],
        /// The device, and where to send what is made of it.
        userfault: Option<(&'a File, &'a UnixStream)>,
    },
}

/// A running cage; killed when dropped.
pub struct Cage {
    init: i32,
    /// The process, as the host numbers it.
    pub host_pid: i32,
    pub listener: TcpListener,
    pub output: Option<File>,
    pub error: Option<File>,
    pub report: Option<File>,
}

impl Cage {
    /// Starts `job` as process `pid` of a new cage.
    pub fn start(pid: i32, job: &Job<'_>) -> Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let [output, error, report] = [pipe()?, pipe()?, pipe()?];
        let flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        let init = fork(flags, None)?;
        if init == 0 {
            drop(ours);
            let ends = [&output.1, &error.1, &report.1].map(AsRawFd::as_raw_fd);
            let result = be_init(theirs, pid, job, ends);
            if let Err(err) = result {
                eprintln!("cage: {err:#}");
            }
            exit(97);
        }
        drop(theirs);
        let mut cage = || -> Result<(TcpListener, i32)> {
            let map = |file: &str, inside: u32| {
                let (host, function) = (HOST_USERS, HOST_USERS + 1);
                let text = format!("0 {host} 1\n{inside} {function} 1\n");
                std::fs::write(format!("/proc/{init}/{file}"), text)
            };
            map("uid_map", UID).context("uid_map")?;
            map("gid_map", GID).context("gid_map")?;
            ours.write_all(b"!")?;
            let listener = receive_descriptor(&ours).context("listener")?;
            let mut started = [0];
            ours.read_exact(&mut started).context("init")?;
            let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
            // It may have ended already; then it will show.
            let child = children.split_whitespace().next().unwrap_or("0");
            Ok((listener.into(), child.parse()?))
        };
        match cage() {
            Ok((listener, host_pid)) => Ok(Self {
                init,
                host_pid,
                listener,
                output: Some(output.0.into()),
                error: Some(error.0.into()),
                report: Some(report.0.into()),
            }),
            Err(err) => {
                kill(init);
                Err(err)
            }
        }
    }

    /// The next connection of the process.
    pub fn accept(&self) -> Result<Peer> {
        wait_readable(self.listener.as_raw_fd(), "a connection")?;
        let (stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_nodelay(true)?;
        Ok(Peer {
            stream,
            rest: Vec::new(),
        })
    }

    /// As [`Cage::accept`]; a thaw that fails says why.
    pub fn accept_clone(&mut self) -> Result<Peer> {
        let accepted = self.accept().and_then(|peer| {
            // The report ends when the process runs.
            let report = self.report()?;
            ensure!(report.is_empty(), "{report}");
            Ok(peer)
        });
        match accepted {
            Ok(peer) => Ok(peer),
            Err(err) => {
                kill(self.init);
                self.init = 0;
                let report = self.report().unwrap_or_default();
                let error = read_all(self.error.take())?;
                Err(err.context(format!("report: {report:?}; standard error: {error:?}")))
            }
        }
    }

    /// What a thaw said about itself, to its end.
    pub fn report(&mut self) -> Result<String> {
        read_all(self.report.take())
    }

    /// Waits until the process has ended; its exit code, or the signal that killed it, negated.
    pub fn wait(&mut self) -> Result<i32> {
        let status = wait(self.init)?;
        self.init = 0;
        Ok(status)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        if self.init != 0 {
            kill(self.init);
        }
    }
}

fn read_all(file: Option<File>) -> Result<String> {
    let mut bytes = Vec::new();
    file.context("read before")?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The other end of a process's connection: lines.
pub struct Peer {
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Peer {
    pub fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.drain(..=end).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).context("wait for a line")?;
            ensure!(read > 0, "the connection was closed");
            self.rest.extend(&buffer[..read]);
        }
    }

    /// Sends one line, and waits for the answer.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        self.stream.write_all(format!("{question}\n").as_bytes())?;
        self.line().with_context(|| format!("after {question:?}"))
    }
}

/// In the new namespaces.
fn be_init(mut parent: UnixStream, pid: i32, job: &Job<'_>, pipes: [RawFd; 3]) -> Result<()> {
    parent.read_exact(&mut [0])?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", flags, Some(c"hidepid=2")).context("proc")?;
    mount("tmpfs", "/tmp", "tmpfs", flags, Some(c"mode=1777")).context("tmp")?;
    mount("tmpfs", "/dev/shm", "tmpfs", flags, Some(c"mode=1777")).context("shm")?;
    loopback_up()?;
    let listener = TcpListener::bind(("127.0.0.1", PORT))?;
    send_descriptor(&parent, &listener)?;
    drop(listener);
    rustix::thread::set_no_new_privs(true)?;
    let bits = rustix::thread::CapabilitiesSecureBits::NO_ROOT
        | rustix::thread::CapabilitiesSecureBits::NO_SETUID_FIXUP;
    rustix::thread::set_capabilities_secure_bits(bits)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    if let Some(settle) = std::env::var_os("THAW_SETTLE_MS") {
        let settle = settle.to_str().and_then(|ms| ms.parse().ok());
        std::thread::sleep(Duration::from_millis(settle.unwrap_or(0)));
    }
    let kind = rustix::net::SocketType::SEQPACKET;
    let family = rustix::net::AddressFamily::UNIX;
    let (orders, waiting) =
        rustix::net::socketpair(family, kind, rustix::net::SocketFlags::CLOEXEC, None)?;
    snapshot::rehearse();
    let child = fork(0, Some(pid)).context("create the process")?;
    if child == 0 {
        drop(orders);
        let Err(err) = become_process(job, pipes, &waiting);
        eprintln!("{err:#}");
        exit(98);
    }
    drop(waiting);
    if let Job::Tape {
        tape,
        pages,
        userfault,
        ..
    } = job
    {
        let [output, error, report] = pipes;
        let mut fds = vec![
            (report, slot::REPORT),
            (output, slot::OUTPUT),
            (error, slot::ERROR),
            (tape.file().as_raw_fd(), slot::TAPE),
            (pages.as_raw_fd(), slot::PAGES),
        ];
        if let Some((device, socket)) = userfault {
            fds.push((device.as_raw_fd(), slot::USERFAULT_DEVICE));
            fds.push((socket.as_raw_fd(), slot::USERFAULT_SOCKET));
        }
        let (fds, slots): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
        let order = Order::to_thaw(tape.file(), pid, &slots, &[]);
        let order = order.unwrap_or_else(|err| Order::to_end(&err.to_string(), 98));
        send(&orders, &order.finish()?, &fds)?;
    }
    // The pipes end when the process does.
    for fd in pipes {
        close(fd);
    }
    parent.write_all(b".")?;
    let status = wait(child)?;
    if status < 0 {
        exit(128 - status);
    }
    exit(status);
}

enum Never {}

fn become_process(
    job: &Job<'_>,
    [output, error, _]: [RawFd; 3],
    orders: &OwnedFd,
) -> Result<Never> {
    rustix::process::setsid()?;
    let limit = rustix::process::Rlimit {
        current: Some(1024),
        maximum: Some(1024),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    let null = File::open("/dev/null")?;
    match job {
        Job::Program(args) => {
            place(null.as_raw_fd(), 0)?;
            place(output, 1)?;
            place(error, 2)?;
            close_from(3);
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(GID));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            let none = CapabilitySet::empty();
            let none = CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            rustix::thread::set_capabilities(None, none)?;
            std::env::set_current_dir("/tmp")?;
            let args = args.iter().map(|arg| CString::new(*arg));
            let args = args.collect::<Result<Vec<_>, _>>()?;
            execute(&args)
        }
        Job::Tape { pages, scratch, .. } => {
            restore(scratch, pages)?;
            // SAFETY: this copy of a process with one thread is for nothing else.
            let err = unsafe { snapshot::wait(orders.as_raw_fd()) };
            Err(err.into())
        }
    }
}

fn send(socket: &OwnedFd, packet: &[u8], fds: &[RawFd]) -> Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    // SAFETY: they are open until this process ends.
    let fds = fds.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) });
    let fds: Vec<_> = fds.collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let packet = [std::io::IoSlice::new(packet)];
    sendmsg(socket, &packet, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// As the sandbox does, with less care.
fn restore(scratch: &[ScratchEntry], pages: &File) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
    for entry in scratch {
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        let mode = std::fs::Permissions::from_mode(entry.mode);
        match &entry.content {
            ScratchContent::Directory => {
                let _ = std::fs::create_dir(path);
                std::fs::set_permissions(path, mode)?;
            }
            ScratchContent::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), path)?,
            ScratchContent::File { len, offset } => {
                let mut bytes = vec![0; usize::try_from(*len)?];
                pages.read_exact_at(&mut bytes, *offset)?;
                std::fs::write(path, bytes)?;
                std::fs::set_permissions(path, mode)?;
            }
        }
        lchown(path, Some(UID), Some(GID))?;
    }
    Ok(())
}

fn execute(args: &[CString]) -> Result<Never> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        let pointers = list.iter().map(|arg| arg.as_ptr());
        pointers.chain([std::ptr::null()]).collect()
    };
    let env = [
        c"PATH=/usr/bin:/bin".to_owned(),
        c"HOME=/tmp".to_owned(),
        c"LANG=C.UTF-8".to_owned(),
    ];
    for signal in 1..65 {
        // SAFETY: the default action is no code of this program.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let (args, env) = (pointers(args), pointers(&env));
    // SAFETY: both lists end with null, and point to C strings.
    unsafe { libc::execve(args[0], args.as_ptr(), env.as_ptr()) };
    bail!("execute: {}", std::io::Error::last_os_error())
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Copies this process, which has one thread.
pub fn fork(flags: i32, pid: Option<i32>) -> Result<i32> {
    let ids = [pid.unwrap_or(0)];
    // SAFETY: plain data for which zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = 17;
    if pid.is_some() {
        args.set_tid = ids.as_ptr() as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: without CLONE_VM this is a fork, of a process with one thread.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    if ret < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(i32::try_from(ret)?)
}

pub fn exit(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

pub fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the kernel writes the status.
    let ret = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    ensure!(ret == pid, "waitpid: {}", std::io::Error::last_os_error());
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status))
    } else {
        Ok(-libc::WTERMSIG(status))
    }
}

fn kill(pid: i32) {
    // SAFETY: a child of this process that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let _ = wait(pid);
}

fn close(fd: RawFd) {
    // SAFETY: the owner of the number is in another process's past.
    unsafe { libc::close(fd) };
}

fn close_from(first: RawFd) {
    // SAFETY: as above; only standard descriptors are used from here on.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

fn place(from: RawFd, to: RawFd) -> Result<()> {
    // SAFETY: nothing that is used has the new number.
    let ret = unsafe { libc::dup2(from, to) };
    ensure!(ret == to, "dup2: {}", std::io::Error::last_os_error());
    Ok(())
}

fn wait_readable(fd: RawFd, what: &str) -> Result<()> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure, which the kernel fills.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 20_000) };
    ensure!(ready == 1, "waited too long for {what}");
    Ok(())
}

fn loopback_up() -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = 0x41;
    // SAFETY: the kernel reads the structure.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    ensure!(ret == 0, "loopback: {}", std::io::Error::last_os_error());
    Ok(())
}

fn send_descriptor(socket: &UnixStream, fd: &TcpListener) -> Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let data = [std::io::IoSlice::new(b"l")];
    sendmsg(socket, &data, &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.context("no descriptor came")
}

/// A memfd for pages.
pub fn page_file() -> Result<File> {
    // SAFETY: a C string, which the kernel reads.
    let fd = unsafe { libc::memfd_create(c"pages".as_ptr(), libc::MFD_CLOEXEC) };
    ensure!(fd >= 0, "memfd: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel made it for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}
