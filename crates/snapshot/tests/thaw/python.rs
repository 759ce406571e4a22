//! Python.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use snapshot::{CompileOptions, Memory, Pager, PagerEvent, Recorder, WorkingSet, compile, scan};

use crate::cage::{Cage, Job, Peer, page_file};
use crate::programs::Program;
use crate::tiny::confinement;

/// Runs lines of code that it is sent, and answers with their values.
const LOOP: &str = r#"
import socket, sys
server = socket.create_connection(("127.0.0.1", 9001))
env = {}
exec(sys.argv[1], env)
server.sendall(b"ready\n")
rest = b""
while True:
    while b"\n" not in rest:
        more = server.recv(65536)
        if not more:
            sys.exit(0)
        rest += more
    line, rest = rest.split(b"\n", 1)
    code = line.decode()
    try:
        try:
            code = compile(code, "line", "eval")
        except SyntaxError:
            exec(code, env)
            value = "ok"
        else:
            value = eval(code, env)
    except BaseException as error:
        value = "%s: %s" % (type(error).__name__, error)
    server.sendall((str(value) + "\n").encode())
"#;

fn python(setup: &str) -> Result<Program> {
    Program::freeze(&["/usr/bin/python3", "-c", LOOP, setup])
}

fn thaw(program: &Program) -> Result<(Cage, Peer)> {
    program.thaw_shared()
}

fn expect(peer: &mut Peer, question: &str, answer: &str) -> Result<()> {
    let is = peer.ask(question)?;
    ensure!(is == answer, "{question}: {is}, not {answer}");
    Ok(())
}

pub fn computes() -> Result<()> {
    let program = python("import gc, json, ctypes\ndata = [{'n': i} for i in range(50000)]")?;
    for _ in 0..5 {
        let (mut cage, mut peer) = thaw(&program)?;
        expect(&mut peer, "sum(d['n'] for d in data)", "1249975000")?;
        expect(&mut peer, "gc.collect() >= 0", "True")?;
        expect(&mut peer, "len(json.dumps(data))", "688890")?;
        expect(&mut peer, "import zlib, decimal", "ok")?;
        expect(&mut peer, "__import__('os').getpid()", "17")?;
        expect(&mut peer, "print('hello', flush=True)", "None")?;
        drop(peer);
        ensure!(cage.wait()? == 0);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut cage.output.take().context("no pipe")?, &mut output)?;
        ensure!(output == "hello\n", "{output:?}");
    }
    Ok(())
}

pub fn threads_go_on() -> Result<()> {
    let program = python(
        r#"
import threading, time, select, signal, os
event, counts, hits = threading.Event(), [0, 0, 0], []
def busy():
    while True: counts[0] += 1
def sleepy():
    while True:
        time.sleep(0.01)
        counts[1] += 1
def polling():
    epoll = select.epoll()
    while True:
        epoll.poll(0.01)
        counts[2] += 1
def waiting():
    event.wait()
    hits.append("event")
local = threading.local()
local.value = 5
threads = [threading.Thread(target=f, daemon=True) for f in (busy, sleepy, polling, waiting)]
for thread in threads: thread.start()
signal.signal(signal.SIGUSR1, lambda *_: hits.append("signal"))
time.sleep(0.2)
"#,
    )?;
    ensure!(program.image.threads.len() == 5);
    for _ in 0..5 {
        let (_cage, mut peer) = thaw(&program)?;
        expect(&mut peer, "before = list(counts)", "ok")?;
        expect(&mut peer, "time.sleep(0.2)", "None")?;
        expect(
            &mut peer,
            "[a > b for a, b in zip(counts, before)]",
            "[True, True, True]",
        )?;
        expect(&mut peer, "event.set(); threads[3].join(5)", "ok")?;
        expect(&mut peer, "os.kill(os.getpid(), signal.SIGUSR1)", "None")?;
        expect(&mut peer, "hits", "['event', 'signal']")?;
        expect(&mut peer, "local.value", "5")?;
        expect(
            &mut peer,
            "more = threading.Thread(target=lambda: hits.append(1)); more.start(); more.join()",
            "ok",
        )?;
        expect(&mut peer, "hits[-1]", "1")?;
        // All but the one that waited for the event have their old ids.
        let tids = program.image.threads.iter().map(|thread| thread.tid);
        let tids = Vec::from_iter(tids);
        let tasks =
            format!("len(set(map(int, os.listdir('/proc/self/task'))) & set({tids:?})) >= 4");
        expect(&mut peer, &tasks, "True")?;
    }
    Ok(())
}

pub fn descriptors_are_kept() -> Result<()> {
    let program = python(
        r#"
import os, fcntl, select, socket, ctypes, tempfile
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe()
os.write(w, b"in the pipe")
os.set_blocking(r, False)
rr, ww = os.pipe()
os.close(ww)
big_r, big_w = os.pipe()
fcntl.fcntl(big_w, 1031, 1 << 20)
os.write(big_w, b"x" * 500000)
e = os.eventfd(5)
a, b = socket.socketpair()
a.send(b"to b")
c, d = socket.socketpair()
d.close()
f = open("/tmp/file", "w+b", buffering=0)
f.write(b"0123456789")
f.seek(4)
g = os.dup(f.fileno())
h = os.dup2(f.fileno(), 100)
app = os.open("/tmp/file", os.O_WRONLY | os.O_APPEND)
gone = open("/tmp/gone", "w+b", buffering=0)
gone.write(b"deleted")
gone.seek(0)
os.unlink("/tmp/gone")
ep = select.epoll()
ep.register(r, select.EPOLLIN)
ep.register(e, select.EPOLLIN | select.EPOLLET)
mask = ctypes.c_uint64(1 << 11)
sfd = libc.signalfd(-1, ctypes.byref(mask), 0o4000)
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
ino = libc.inotify_init1(0o4000)
os.mkdir("/tmp/watched")
first = libc.inotify_add_watch(ino, b"/tmp", 0x100)
libc.inotify_rm_watch(ino, first)
os.read(ino, 4096)
second = libc.inotify_add_watch(ino, b"/tmp/watched", 0x100)
class Spec(ctypes.Structure):
    _fields_ = [(n, ctypes.c_long) for n in ("is_", "in_", "vs", "vn")]
tfd = libc.timerfd_create(1, 0o4000)
spec = Spec(0, 50000000, 0, 200000000)
libc.timerfd_settime(tfd, 0, ctypes.byref(spec), None)
listening = socket.create_server(("127.0.0.1", 7777))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 5555))
directory = os.open("/usr", os.O_RDONLY | os.O_DIRECTORY)
null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
"#,
    )?;
    for _ in 0..3 {
        let (_cage, mut peer) = thaw(&program)?;
        for (question, answer) in [
            ("os.read(r, 100)", "b'in the pipe'"),
            ("os.write(w, b'more'), os.read(r, 100)", "(4, b'more')"),
            ("os.get_blocking(r), os.get_blocking(w)", "(False, True)"),
            ("os.read(rr, 10)", "b''"),
            (
                "len(os.read(big_r, 1 << 20)), fcntl.fcntl(big_r, 1032)",
                "(500000, 1048576)",
            ),
            ("os.eventfd_write(e, 2), os.eventfd_read(e)", "(None, 7)"),
            ("b.recv(10)", "b'to b'"),
            ("b.send(b'answer'), a.recv(10)", "(6, b'answer')"),
            ("c.recv(10)", "b''"),
            (
                "f.read(2), os.read(g, 2), os.read(100, 2)",
                "(b'45', b'67', b'89')",
            ),
            (
                "os.write(app, b'!'), os.pread(g, 20, 0)",
                "(1, b'0123456789!')",
            ),
            (
                "gone.read(), os.fstat(gone.fileno()).st_size",
                "(b'deleted', 7)",
            ),
            ("os.write(w, b'x')", "1"),
            ("sorted(fd for fd, _ in ep.poll(0)) == [r]", "True"),
            ("os.eventfd_write(e, 1)", "None"),
            (
                "sorted(fd for fd, _ in ep.poll(0)) == sorted([r, e])",
                "True",
            ),
            (
                "os.kill(os.getpid(), signal.SIGUSR2), len(os.read(sfd, 1000))",
                "(None, 128)",
            ),
            ("open('/tmp/watched/new', 'w').close()", "None"),
            (
                "int.from_bytes(os.read(ino, 1000)[:4], 'little') == second",
                "True",
            ),
            (
                "int.from_bytes(os.read(tfd, 8), 'little') if select.select([tfd], [], [], 5)[0] else 0",
                "1",
            ),
            (
                "s = socket.create_connection(('127.0.0.1', 7777)); t = listening.accept()[0]",
                "ok",
            ),
            ("s.send(b'hi'), t.recv(10)", "(2, b'hi')"),
            ("udp.getsockname()", "('127.0.0.1', 5555)"),
            ("'bin' in os.listdir(directory)", "True"),
            (
                "os.get_inheritable(null), os.write(null, b'x')",
                "(False, 1)",
            ),
            (
                "fcntl.fcntl(app, fcntl.F_GETFL) & (os.O_APPEND | os.O_ACCMODE) == os.O_APPEND | os.O_WRONLY",
                "True",
            ),
            // Nothing of the thaw is left.
            (
                "[n for n in map(int, os.listdir('/proc/self/fd')) if n > 100]",
                "[]",
            ),
        ] {
            expect(&mut peer, question, answer)?;
        }
    }
    Ok(())
}

pub fn timers_go_on() -> Result<()> {
    let program = python(
        r#"
import signal, time, ctypes, threading
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append("alarm"))
signal.signal(signal.SIGUSR1, lambda *_: hits.append("timer"))
libc = ctypes.CDLL(None)
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_byte * 48)]
class Spec(ctypes.Structure):
    _fields_ = [(n, ctypes.c_long) for n in ("is_", "in_", "vs", "vn")]
ids = []
for _ in range(3):
    event, timer = Event(None, signal.SIGUSR1, 0), ctypes.c_int()
    assert libc.syscall(222, 1, ctypes.byref(event), ctypes.byref(timer)) == 0
    ids.append(timer.value)
libc.syscall(226, ids[0])
libc.syscall(226, ids[1])
assert libc.syscall(223, ids[2], 0, ctypes.byref(Spec(0, 0, 0, 600000000)), None) == 0
signal.setitimer(signal.ITIMER_REAL, 0.5, 0)
"#,
    )?;
    ensure!(program.image.timers.len() == 1 && program.image.interval_timers.len() == 1);
    for _ in 0..2 {
        let (_cage, mut peer) = thaw(&program)?;
        expect(&mut peer, "hits", "[]")?;
        expect(&mut peer, "time.sleep(0.9)", "None")?;
        expect(&mut peer, "sorted(hits)", "['alarm', 'timer']")?;
        expect(&mut peer, "libc.syscall(226, ids[2])", "0")?;
    }
    Ok(())
}

pub fn shared_memory_is_shared() -> Result<()> {
    let program = python(
        r#"
import mmap, os
fd = os.memfd_create("twice")
os.ftruncate(fd, 16384)
one, two = mmap.mmap(fd, 16384), mmap.mmap(fd, 16384)
one[5000:5005] = b"hello"
anonymous = mmap.mmap(-1, 8192)
anonymous[:4] = b"anon"
private = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE)
private[:4] = b"priv"
"#,
    )?;
    for _ in 0..2 {
        let (_cage, mut peer) = thaw(&program)?;
        expect(
            &mut peer,
            "two[5000:5005], os.pread(fd, 5, 5000)",
            "(b'hello', b'hello')",
        )?;
        expect(&mut peer, "one[0:3] = b'new'", "ok")?;
        expect(
            &mut peer,
            "two[0:3], os.pread(fd, 3, 0)",
            "(b'new', b'new')",
        )?;
        expect(
            &mut peer,
            "anonymous[:4], private[:4]",
            "(b'anon', b'priv')",
        )?;
        let child = "pid = os.fork(); (anonymous.__setitem__(slice(0, 4), b'fork'), private.__setitem__(slice(0, 4), b'fork'), os._exit(3)) if pid == 0 else os.waitpid(pid, 0)";
        expect(&mut peer, child, "ok")?;
        expect(
            &mut peer,
            "anonymous[:4], private[:4]",
            "(b'fork', b'priv')",
        )?;
    }
    Ok(())
}

pub fn dead_connections_are_reset() -> Result<()> {
    let program = python(
        r#"
import socket, select
listening = socket.create_server(("127.0.0.1", 7000))
near = socket.create_connection(("127.0.0.1", 7000))
far = listening.accept()[0]
six = socket.create_server(("::ffff:127.0.0.1", 7001), family=socket.AF_INET6, dualstack_ipv6=True)
mapped = socket.socket(socket.AF_INET6)
mapped.connect(("::ffff:127.0.0.1", 7001))
mapped_far = six.accept()[0]
mapped.setblocking(False)
"#,
    )?;
    for _ in 0..2 {
        let (_cage, mut peer) = thaw(&program)?;
        let reset = "ConnectionResetError: [Errno 104] Connection reset by peer";
        expect(
            &mut peer,
            "len(select.select([near, far, mapped], [], [], 1)[0])",
            "3",
        )?;
        expect(&mut peer, "near.recv(10)", reset)?;
        expect(&mut peer, "far.send(b'x')", reset)?;
        expect(&mut peer, "mapped.recv(10)", reset)?;
        expect(&mut peer, "near.recv(10)", "b''")?;
        expect(
            &mut peer,
            "near2 = socket.create_connection(('127.0.0.1', 7000))",
            "ok",
        )?;
    }
    Ok(())
}

pub fn starts_programs() -> Result<()> {
    let program = python("import subprocess, os, multiprocessing")?;
    let (_cage, mut peer) = thaw(&program)?;
    let run = "subprocess.run(['/bin/sh', '-c', 'echo $((6*7)); exit 4'], capture_output=True)";
    expect(
        &mut peer,
        &format!("(lambda r: (r.returncode, r.stdout))({run})"),
        "(4, b'42\\n')",
    )?;
    expect(
        &mut peer,
        "os.readlink('/proc/self/exe').startswith('/usr/bin/python3')",
        "True",
    )?;
    expect(
        &mut peer,
        "open('/proc/self/cmdline').read().split('\\0')[1]",
        "-c",
    )?;
    expect(
        &mut peer,
        "open('/proc/self/environ').read().startswith('PATH=')",
        "True",
    )?;
    expect(&mut peer, "os.getcwd()", "/tmp")?;
    Ok(())
}

pub fn clocks_go_on() -> Result<()> {
    let program = python("import time\nthen = time.monotonic()\nboot = time.clock_gettime(7)")?;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let (_cage, mut peer) = thaw(&program)?;
    expect(&mut peer, "0 < time.monotonic() - then < 1", "True")?;
    expect(&mut peer, "0 < time.clock_gettime(7) - boot < 1", "True")?;
    expect(
        &mut peer,
        "abs(time.time() - __import__('os').stat('/proc/self').st_mtime) < 5",
        "True",
    )?;
    Ok(())
}

pub fn randomness_is_fresh() -> Result<()> {
    let program = python("import ssl, os, uuid, secrets\nssl.RAND_bytes(8)")?;
    ensure!(!program.image.reseed.is_empty(), "no RAND_poll was found");
    let tape = program.tape(Memory::Shared, None)?;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let (_cage, mut peer) = program.thaw(&tape)?;
        for source in [
            "ssl.RAND_bytes(16).hex()",
            "os.urandom(16).hex()",
            "uuid.uuid4()",
        ] {
            let value = peer.ask(source)?;
            ensure!(value.len() >= 32, "{value}");
            ensure!(seen.insert(value), "{source} repeats");
        }
    }
    Ok(())
}

pub fn memory_may_be_exact() -> Result<()> {
    let setup = r#"
import mmap, ctypes
area = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE)
area[:] = b"x" * (1 << 20)
data = {i: str(i) for i in range(20000)}
"#;
    let program = python(setup)?;
    for (memory, discarded) in [
        (Memory::Exact, "b'\\x00\\x00\\x00'"),
        (Memory::Shared, "b'xxx'"),
    ] {
        let (_cage, mut peer) = program.thaw(&program.tape(memory, None)?)?;
        expect(
            &mut peer,
            "len(data), data[777], area[-1:]",
            "(20000, '777', b'x')",
        )?;
        expect(&mut peer, "area.madvise(mmap.MADV_DONTNEED)", "None")?;
        expect(&mut peer, "area[:3]", discarded)?;
    }
    Ok(())
}

pub fn rights_are_gone() -> Result<()> {
    let setup = "import os, ctypes, threading, time\nlibc = ctypes.CDLL(None, use_errno=True)\nfor _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()";
    let program = python(setup)?;
    let (cage, mut peer) = thaw(&program)?;
    expect(
        &mut peer,
        "os.getresuid(), os.getresgid(), os.getgroups()",
        "((993, 993, 993), (990, 990, 990), [])",
    )?;
    expect(&mut peer, "libc.acct(None), ctypes.get_errno()", "(-1, 77)")?;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", cage.host_pid))?;
    let mut count = 0;
    for task in tasks {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        for field in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let none = status
                .lines()
                .any(|line| line == format!("{field}:\t0000000000000000"));
            ensure!(none, "{status}");
        }
        let line = |text: &str| status.lines().any(|line| line == text);
        ensure!(line("Seccomp:\t2") && line("NoNewPrivs:\t1"), "{status}");
        count += 1;
    }
    ensure!(count == 4);
    // The clone may be looked at by its own user, as any process.
    expect(&mut peer, "os.stat('/proc/self/environ').st_uid", "993")?;
    Ok(())
}

pub fn a_clone_can_be_frozen() -> Result<()> {
    let mut program = python("import gc, threading, time\ncount = 0\ndata = list(range(1000))")?;
    for generation in 1..4 {
        let (cage, mut peer) = thaw(&program)?;
        expect(&mut peer, "count += 1", "ok")?;
        expect(
            &mut peer,
            "count, sum(data)",
            &format!("({generation}, 499500)"),
        )?;
        expect(&mut peer, "data.append(0); gc.collect()", "ok")?;
        program = Program::freeze_cage(&cage)?;
    }
    let (_cage, mut peer) = thaw(&program)?;
    expect(&mut peer, "count, len(data)", "(3, 1003)")?;
    Ok(())
}

pub fn a_hundred_clones_leave_nothing() -> Result<()> {
    let program = python("import json")?;
    let tape = program.tape(Memory::Shared, None)?;
    let open = || -> Result<usize> { Ok(std::fs::read_dir("/proc/self/fd")?.count()) };
    let before = open()?;
    for _ in 0..100 {
        let (mut cage, mut peer) = program.thaw(&tape)?;
        expect(&mut peer, "json.dumps([1])", "[1]")?;
        drop(peer);
        ensure!(cage.wait()? == 0);
    }
    ensure!(open()? == before);
    Ok(())
}

/// What an earlier clone touched is there when the next one begins, and nothing else has changed.
pub fn pages_are_prepared() -> Result<()> {
    let setup = "import os, resource, time\n\
                 data = [{'n': i} for i in range(20000)]\n\
                 def work():\n \
                 faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt\n \
                 for d in data[::100]: d['m'] = str(d['n'])\n \
                 return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - faults\n\
                 def threads(): return len(os.listdir('/proc/self/task'))\n\
                 def alone():\n \
                 while threads() > 1: time.sleep(0.001)\n\
                 def things(): return threads(), \
                 sorted(os.listdir('/proc/self/fd'), key=int)";
    let program = python(setup)?;
    let clone = |working_set, unhurried| -> Result<(Cage, Peer)> {
        let options = CompileOptions {
            memory: Memory::Shared,
            working_set,
            unhurried,
            confinement: Some(confinement()),
            ..CompileOptions::default()
        };
        let tape = compile(&program.image, &options)?;
        program.thaw(&tape)
    };
    let (cage, mut peer) = clone(None, false)?;
    let things = peer.ask("things()")?;
    ensure!(things.starts_with("(1, "), "{things}");
    let unprepared: u64 = peer.ask("work()")?.parse()?;
    let set = scan(cage.host_pid, &program.image)?;
    ensure!(!set.written.is_empty() && !set.touched.is_empty() && !set.files.is_empty());
    drop((cage, peer));
    for unhurried in [false, true] {
        for _ in 0..20 {
            let (_cage, mut peer) = clone(Some(&set), unhurried)?;
            // Pages are prepared while the image's code runs; and a thread that was waited for is
            // listed for a moment longer.
            expect(&mut peer, "alone()", "None")?;
            expect(&mut peer, "things()", &things)?;
            let faults: u64 = peer.ask("work()")?.parse()?;
            ensure!(
                faults < unprepared / 2,
                "{faults} faults, {unprepared} unprepared"
            );
            expect(&mut peer, "sum(len(d) for d in data)", "20200")?;
        }
    }
    Ok(())
}

/// Pages around those that are used do not count, and what does count is enough for the next clone.
pub fn a_recording_is_exact() -> Result<()> {
    use std::os::fd::AsFd;
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd");
    let Some(device) = device
        .ok()
        .filter(|device| Recorder::is_possible(device.as_fd()))
    else {
        eprintln!("SKIPPED: pages cannot be recorded one by one here");
        return Ok(());
    };
    let setup = "import os\ndata = [{'n': i} for i in range(30000)]\n\
                 def work():\n \
                 for d in data[::3000]: d['m'] = str(d['n'])\n \
                 return len(data)";
    let program = python(setup)?;
    let options = CompileOptions {
        memory: Memory::Shared,
        page_by_page: true,
        confinement: Some(confinement()),
        ..CompileOptions::default()
    };
    let tape = compile(&program.image, &options)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let job = Job::Tape {
        tape: &tape,
        pages: &program.pages,
        scratch: &[],
        userfault: Some((&device, &theirs)),
    };
    let mut cage = Cage::start(program.image.pid, &job)?;
    let recorder = Recorder::receive(ours.as_fd())?;
    let mut peer = cage.accept_clone()?;
    expect(&mut peer, "work()", "30000")?;
    let exact = scan(cage.host_pid, &program.image)?;
    // A child is not watched, and neither is it itself afterwards.
    let fork = "pid = os.fork(); os._exit(len(data) // 10000) if pid == 0 else None";
    expect(&mut peer, fork, "ok")?;
    expect(&mut peer, "os.waitpid(pid, 0)[1]", "768")?;
    drop(recorder);
    expect(&mut peer, "sum(d['n'] for d in data)", "449985000")?;
    drop((cage, peer));

    let (cage, mut peer) = program.thaw_shared()?;
    expect(&mut peer, "work()", "30000")?;
    let around = scan(cage.host_pid, &program.image)?;
    drop((cage, peer));
    let bytes = |set: &WorkingSet| set.touched.iter().map(|(_, len)| len).sum::<u64>();
    let (exact_bytes, around_bytes) = (bytes(&exact), bytes(&around));
    ensure!(exact_bytes > 0, "nothing was used");
    ensure!(
        2 * exact_bytes < around_bytes,
        "{exact_bytes} bytes were used, {around_bytes} with those around them"
    );

    let options = CompileOptions {
        userfault: true,
        page_by_page: false,
        working_set: Some(&exact),
        ..options
    };
    let (faults, _) = late(&program, &options, &device, &exact.touched, |peer| {
        expect(peer, "work()", "30000")
    })?;
    // Of each clone's own: where its threads were interrupted, what the kernel puts on its stacks.
    ensure!(faults < 20, "{faults} pages were missing");
    Ok(())
}

/// Only what the tape reads is there at first; everything else is fetched when it is touched.
pub fn pages_come_late() -> Result<()> {
    let Ok(device) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd")
    else {
        eprintln!("SKIPPED: no /dev/userfaultfd");
        return Ok(());
    };
    let program = python("import gc, os\ndata = [{'n': i} for i in range(30000)]")?;
    let options = CompileOptions {
        memory: Memory::Shared,
        userfault: true,
        confinement: Some(confinement()),
        ..CompileOptions::default()
    };
    // The same where what is used is to be recorded.
    for page_by_page in [false, true] {
        let options = CompileOptions {
            page_by_page,
            ..options
        };
        let (faults, set) = late(&program, &options, &device, &[], |peer| {
            expect(peer, "sum(d['n'] for d in data)", "449985000")?;
            expect(peer, "gc.collect() >= 0", "True")?;
            let fork = "pid = os.fork(); os._exit(len(data) // 10000) if pid == 0 else None";
            expect(peer, fork, "ok")?;
            expect(peer, "os.waitpid(pid, 0)[1]", "768")
        })?;
        ensure!(faults > 100 && !set.touched.is_empty());
    }
    Ok(())
}

/// A clone of whose pages only those are there that its tape reads, and `first`. How many others were
/// missed in `work`, and what was used.
fn late(
    program: &Program,
    options: &CompileOptions<'_>,
    device: &std::fs::File,
    first: &[(u64, u64)],
    work: impl FnOnce(&mut Peer) -> Result<()>,
) -> Result<(usize, WorkingSet)> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    let tape = compile(&program.image, options)?;
    let late = page_file()?;
    late.set_len(program.image.pages_len)?;
    let copy = |offset: u64, len: u64| -> std::io::Result<()> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        program.pages.read_exact_at(&mut bytes, offset)?;
        late.write_all_at(&bytes, offset)
    };
    for (offset, len) in tape.required().iter().chain(first) {
        copy(*offset, *len)?;
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let job = Job::Tape {
        tape: &tape,
        pages: &late,
        scratch: &[],
        userfault: Some((device, &theirs)),
    };
    let mut cage = Cage::start(program.image.pid, &job)?;
    let pager = Pager::receive(ours.as_fd(), &program.image)?;
    let done = std::sync::atomic::AtomicBool::new(false);
    use std::sync::atomic::Ordering::Relaxed;
    let (asked, faults) = std::thread::scope(|scope| {
        let serve = scope.spawn(|| -> std::io::Result<usize> {
            let (mut pagers, mut faults) = (vec![pager], 0);
            while !done.load(Relaxed) {
                for index in 0..pagers.len() {
                    for event in pagers[index].events()? {
                        match event {
                            PagerEvent::Fault(fault) => {
                                faults += 1;
                                copy(fault.pages.start, fault.pages.end - fault.pages.start)?;
                                pagers[index].wake(&fault)?;
                            }
                            PagerEvent::Forked(pager) => pagers.push(pager),
                        }
                    }
                }
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            Ok(faults)
        });
        let asked = cage
            .accept_clone()
            .and_then(|mut peer| work(&mut peer).map(|()| peer))
            .and_then(|peer| Ok((scan(cage.host_pid, &program.image)?, peer)));
        done.store(true, Relaxed);
        (asked, serve.join())
    });
    let faults = faults.map_err(|_| anyhow::anyhow!("the pager panicked"))?;
    let (set, _peer) = asked?;
    Ok((faults?, set))
}
