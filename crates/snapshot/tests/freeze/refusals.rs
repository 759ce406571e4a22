//! What an image cannot hold is named, and the process runs on.

use crate::program::Program;

fn refused(code: &str, words: &str) {
    Program::python(code).0.refused(words);
}

#[test]
fn other_processes() {
    refused(
        "
import subprocess
with_us = lambda: libc.prctl(1, 9)
child = subprocess.Popen(['sleep', '1000'], close_fds=True, preexec_fn=with_us)
while open(f'/proc/{child.pid}/comm').read() != 'sleep\\n': pass
",
        "(\"sleep\") runs beside the runtime",
    );
    refused(
        "
pid = os.fork()
if pid == 0: os._exit(0)
time.sleep(0.1)
",
        "has ended but has not been waited for",
    );
}

#[test]
fn descriptors_to_the_outside() {
    refused(
        "a = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)",
        "is the device /dev/ptmx",
    );
    refused(
        "os.pidfd_open(os.getpid())",
        "descriptor 3 refers to a process",
    );
    refused("os.dup2(0, 950)", "descriptor 950 has a number over 899");
    refused("f = open('/proc/self/ns/net')", "is net:[");
    refused(
        "f = open('/tmp/firn-freeze-outside', 'w')",
        "writes to /tmp/firn-freeze-outside",
    );
    let _ = std::fs::remove_file("/tmp/firn-freeze-outside");
    refused(
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "is a socket of domain 17",
    );
    refused(
        "os.mkfifo(SCRATCH + '/f'); f = os.open(SCRATCH + '/f', os.O_RDWR)",
        "is the named pipe",
    );
    refused(
        "d = os.open(SCRATCH, os.O_RDONLY); os.rename(SCRATCH, SCRATCH + '2'); os.mkdir(SCRATCH); os.rmdir(SCRATCH + '2')",
        "which has been deleted",
    );
}

#[test]
fn kernel_objects_without_a_portable_state() {
    refused(
        "
params = ctypes.create_string_buffer(120)
check(libc.syscall(425, 4, params))
",
        "io_uring",
    );
    refused(
        "check(libc.syscall(298, struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 0).ljust(112, b'\\0'), 0, -1, -1, 0))",
        "is a perf_event",
    );
    refused("check(libc.syscall(300, 0, 0))", "fanotify");
    refused("check(libc.syscall(323, 1))", "is a userfaultfd");
    refused(
        "
context = ctypes.c_ulong()
check(libc.syscall(206, 8, ctypes.byref(context)))
",
        "asynchronous I/O",
    );
    refused(
        "
shm = check(libc.shmget(0, 4096, 0o1600))
libc.shmat.restype = ctypes.c_void_p
libc.shmat(shm, None, 0); libc.shmctl(shm, 0, None)
",
        "System V shared memory",
    );
}

#[test]
fn files_in_a_state_of_their_own() {
    refused(
        "f = open(SCRATCH + '/f', 'w'); fcntl.flock(f, fcntl.LOCK_EX)",
        "holds a lock on",
    );
    refused(
        "f = open(SCRATCH + '/f', 'w'); fcntl.lockf(f, fcntl.LOCK_EX)",
        "holds a lock on",
    );
    refused(
        "
fd = os.memfd_create('sealed', os.MFD_ALLOW_SEALING)
fcntl.fcntl(fd, 1033, 8)
",
        "is a sealed memfd",
    );
    refused(
        "
open(SCRATCH + '/f', 'w').write('x'); f = open(SCRATCH + '/f')
os.unlink(SCRATCH + '/f'); open(SCRATCH + '/f (deleted)', 'w'); os.link
g = open(SCRATCH + '/g', 'w'); os.rename(SCRATCH + '/g', SCRATCH + '/h'); os.replace
h = open(SCRATCH + '/i', 'w'); os.rename(SCRATCH + '/f (deleted)', SCRATCH + '/i')
os.link('/proc/self/fd/%d' % h.fileno(), SCRATCH + '/j') if False else None
w = os.inotify_init() if hasattr(os, 'inotify_init') else check(libc.inotify_init())
check(libc.inotify_add_watch(w, SCRATCH.encode(), 0x100)); open(SCRATCH + '/k', 'w')
",
        "is an inotify with unread events",
    );
}

#[test]
fn watches_of_closed_descriptors() {
    refused(
        "
r, w = os.pipe()
keep = os.dup(r)
e = select.epoll(); e.register(r, select.EPOLLIN)
os.close(r)
",
        "and is no longer",
    );
}

#[test]
fn pipes_and_sockets_to_other_processes() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    use std::os::fd::AsRawFd;
    let own = std::process::id();
    let open = |fd: i32, mode: &str| format!("f = os.open('/proc/{own}/fd/{fd}', os.{mode})");
    refused(
        &open(reader.as_raw_fd(), "O_RDONLY"),
        "is a pipe from another process",
    );
    refused(
        &open(writer.as_raw_fd(), "O_WRONLY"),
        "is a pipe to another process",
    );
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let code = format!(
        "s = socket.socket(socket.AF_UNIX); s.connect({:?})",
        path.to_str().unwrap()
    );
    let (program, _) = Program::python(&code);
    let _peer = listener.accept().unwrap();
    program.refused("is a unix socket connected to another process");
}

#[test]
fn signals_on_their_way() {
    refused(
        "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
",
        "it has the signal 10 pending",
    );
    refused(
        "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
",
        "has the signal 12 pending",
    );
}

#[test]
fn odd_memory() {
    refused(
        "
block = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(block))
if libc.madvise(ctypes.c_void_p(at), 4096, 102) < 0:
    fcntl.flock(open(SCRATCH), fcntl.LOCK_EX); say('x')
    f = open(SCRATCH + '/guard region', 'w'); fcntl.flock(f, fcntl.LOCK_EX)
",
        "guard region",
    );
    refused(
        "
f = open('/var/tmp/firn-freeze-mapped', 'w+b'); f.truncate(4096)
libc.mmap(None, ctypes.c_size_t(4096), 3, 1, f.fileno(), ctypes.c_long(0)); f.close()
",
        "is mapped for writing",
    );
    let _ = std::fs::remove_file("/var/tmp/firn-freeze-mapped");
    refused(
        "
key = libc.pkey_alloc(0, 0)
block = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(block))
if key < 0:
    f = open(SCRATCH + '/has a protection key', 'w'); fcntl.flock(f, fcntl.LOCK_EX)
else:
    check(libc.pkey_mprotect(ctypes.c_void_p(at), 4096, 3, key))
",
        "has a protection key",
    );
    refused(
        "
block = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(block))
if libc.syscall(462, ctypes.c_void_p(at), 4096, 0) < 0:
    f = open(SCRATCH + '/is sealed', 'w'); fcntl.flock(f, fcntl.LOCK_EX)
",
        "is sealed",
    );
}

#[test]
fn a_process_that_is_stopped_or_traced() {
    let (mut program, _) = Program::python("");
    let pid = program.pid();
    let signal = |signal| {
        // SAFETY: takes numbers only; the process is this test's own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    };
    signal(libc::SIGSTOP);
    while !stat(pid).contains(") T") {
        std::thread::yield_now();
    }
    let (frozen, _) = program.freeze_with(|_| ());
    signal(libc::SIGCONT);
    program.must_be_refused(frozen, "stopped by a signal");
}

fn stat(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()
}

#[test]
fn too_many_scratch_files() {
    let (mut program, _) =
        Program::python("for i in range(10): open(SCRATCH + '/%d' % i, 'w').write('x' * 1000)");
    let (frozen, _) = program.freeze_with(|options| options.scratch_max_entries = 9);
    program.must_be_refused(frozen, "more than 9 files");
    let (frozen, _) = program.freeze_with(|options| options.scratch_max_bytes = 9999);
    program.must_be_refused(frozen, "more than 9999 bytes");
    let (frozen, _) = program.freeze_with(|options| {
        options.scratch_max_entries = 10;
        options.scratch_max_bytes = 10_000;
    });
    assert_eq!(frozen.unwrap().image.scratch.len(), 10);
}

#[test]
fn a_thread_that_cannot_be_stopped() {
    // The kernel lets no thread go on, or stop, whose child has not begun its program; this one
    // first waits for somebody who writes.
    let (mut program, said) = Program::python(
        "
os.mkfifo(SCRATCH + '/fifo')
actions = ctypes.create_string_buffer(256)
check(libc.posix_spawn_file_actions_init(actions))
check(libc.posix_spawn_file_actions_addopen(actions, 0, (SCRATCH + '/fifo').encode(), os.O_RDONLY, 0))
argv = (ctypes.c_char_p * 2)(b'true', None)
child = ctypes.c_int(0)
def start():
    check(libc.posix_spawnp(ctypes.byref(child), b'true', actions, None, argv, argv))
    os.waitpid(child.value, 0)
    say('started')
for i in range(3): threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
starter = threading.Thread(target=start)
starter.start()
children = lambda: open(f'/proc/self/task/{starter.native_id}/children').read()
while not children(): pass
say(children())
",
    );
    let child: &[i32] = vec![said[0].trim().parse().unwrap()].leak();
    let (frozen, _) = program.freeze_with(|options| {
        options.beside = child;
        options.timeout = std::time::Duration::from_millis(300);
    });
    let refused = frozen.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("wait for thread"), "{refused}");
    program.runs_on();
    std::fs::write(program.scratch.path().join("fifo"), "").unwrap();
    while program.line() != "started" {}
    program.runs_on();
}

#[test]
fn a_frozen_cgroup() {
    let Some(group) = cgroup() else {
        eprintln!("SKIPPED: no cgroup v2 to make a group in");
        return;
    };
    let (mut program, _) = Program::python("");
    std::fs::write(group.join("cgroup.procs"), program.pid().to_string()).unwrap();
    std::fs::write(group.join("cgroup.freeze"), "1").unwrap();
    let events = || std::fs::read_to_string(group.join("cgroup.events")).unwrap();
    while !events().contains("frozen 1") {
        std::thread::yield_now();
    }
    let (frozen, _) = program.freeze_with(|_| ());
    std::fs::write(group.join("cgroup.freeze"), "0").unwrap();
    program.must_be_refused(frozen, "is frozen");
    // At any moment of being looked at.
    let mut refused = 0;
    for round in 0..20 {
        let freezer = std::thread::spawn({
            let group = group.clone();
            move || {
                std::thread::sleep(std::time::Duration::from_micros(100 * round));
                std::fs::write(group.join("cgroup.freeze"), "1").unwrap();
            }
        });
        let (frozen, _) = program.freeze_with(|options| {
            options.keep = true;
            options.timeout = std::time::Duration::from_millis(200);
        });
        freezer.join().unwrap();
        std::fs::write(group.join("cgroup.freeze"), "0").unwrap();
        if frozen.is_err() {
            program.must_be_refused(frozen, "is frozen");
            refused += 1;
        } else {
            program.runs_on();
        }
    }
    assert!(refused > 0);
    drop(program);
    std::fs::remove_dir(&group).unwrap();
}

fn cgroup() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let path = std::path::Path::new(mount.split(' ').nth(1)?);
    let group = path.join(format!("firn-freeze-test-{}", std::process::id()));
    std::fs::create_dir(&group).ok()?;
    Some(group)
}

#[test]
fn a_main_thread_that_never_rests() {
    let (program, _) = Program::python(
        "
import ssl
say('ready')
while True:
    until = time.monotonic() + 1
    while time.monotonic() < until: pass
    say('tick')
",
    );
    // Until it is done with saying so, which is a system call.
    std::thread::sleep(std::time::Duration::from_millis(100));
    // Where OpenSSL is, it could not be reseeded in the clones.
    program.refused("its main thread never rests");
}
