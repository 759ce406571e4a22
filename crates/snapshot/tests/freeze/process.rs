//! Threads, memory, signals, timers.

use snapshot::{Backing, Image};

use crate::program::{Program, memory};

const ORIG_RAX: usize = 15;
const RAX: usize = 10;

/// Text of the shared C library, in which threads wait.
fn names(image: &Image) -> Vec<String> {
    let name = |thread: &snapshot::Thread| String::from_utf8_lossy(&thread.name).into_owned();
    image.threads.iter().map(name).collect()
}

#[test]
fn threads_are_wound_back_to_the_call_they_wait_in() {
    let (program, _) = Program::python(
        "
r, w = os.pipe()
lock = threading.Lock(); lock.acquire()
epoll = select.epoll()
def named(name, call):
    def run():
        libc.prctl(15, name.encode(), 0, 0, 0)
        call()
    threading.Thread(target=run).start()
named('reads', lambda: os.read(r, 1))
named('locks', lock.acquire)
named('sleeps', lambda: time.sleep(1e6))
named('polls', lambda: epoll.poll())
time.sleep(0.1)
",
    );
    let (frozen, pages) = program.freeze();
    let image = &frozen.image;
    assert_eq!(names(image)[1..], ["reads", "locks", "sleeps", "polls"]);
    let calls: Vec<u64> = image.threads[1..]
        .iter()
        .map(|thread| thread.registers[RAX])
        .collect();
    let expected = [
        libc::SYS_read,
        libc::SYS_futex,
        libc::SYS_clock_nanosleep,
        libc::SYS_epoll_wait,
    ];
    assert_eq!(calls, expected.map(i64::cast_unsigned));
    for thread in &image.threads {
        assert_eq!(thread.registers[ORIG_RAX], u64::MAX);
        assert!(thread.extended.len() >= 576);
        // glibc's restartable sequences and robust list; where it keeps the thread id.
        assert_eq!((thread.rseq.1, thread.rseq.2), (32, 0x5305_3053));
        assert_eq!(thread.robust_list.1, 24);
        let tid = memory(image, &pages, thread.clear_tid, 4);
        assert_eq!(i32::from_ne_bytes(tid.try_into().unwrap()), thread.tid);
    }
    let mut tids: Vec<i32> = image.threads.iter().map(|thread| thread.tid).collect();
    tids.dedup();
    assert_eq!(tids.len(), 5);
}

#[test]
fn memory_is_what_the_process_has_written() {
    let (program, said) = Program::python(
        "
block = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block[:8] = b'at start'
block[5 << 20:(5 << 20) + 6] = b'in mid'
block[9 << 20] = 1; block[9 << 20] = 0
address = ctypes.addressof(ctypes.c_char.from_buffer(block))
say(address)
fork = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
fork[:6] = b'secret'
at = ctypes.addressof(ctypes.c_char.from_buffer(fork))
check(libc.madvise(ctypes.c_void_p(at), 4096, 18))
say(at)
",
    );
    let (frozen, pages) = program.freeze();
    let image = &frozen.image;
    let (block, fork): (u64, u64) = (said[0].parse().unwrap(), said[1].parse().unwrap());
    assert_eq!(memory(image, &pages, block, 10), b"at start\0\0");
    assert_eq!(memory(image, &pages, block + (5 << 20), 6), b"in mid");
    let holds = |address: u64| {
        let mut segments = image.mappings.iter().flat_map(|mapping| &mapping.segments);
        segments.any(|s| (s.start..s.start + s.len).contains(&address))
    };
    assert!(holds(block) && !holds(block + (2 << 20)));
    assert!(
        !holds(block + (9 << 20)),
        "pages of zeroes need not be kept"
    );
    let wiped = image
        .mappings
        .iter()
        .find(|mapping| (mapping.start..mapping.end).contains(&fork));
    let wiped = wiped.unwrap();
    assert!(wiped.advice.wipe_on_fork && wiped.segments.is_empty());
    // Code is not copied.
    assert!(image.pages_len < 16 << 20, "{}", image.pages_len);
    let code = |m: &&snapshot::Mapping| {
        matches!(m.backing, Backing::Private { .. }) && m.protection & 4 != 0
    };
    assert!(
        image
            .mappings
            .iter()
            .filter(code)
            .all(|mapping| mapping.segments.is_empty())
    );
    assert!(
        image
            .mappings
            .iter()
            .any(|mapping| mapping.advice.grows_down)
    );
}

#[test]
fn files_are_mapped_again_unless_they_are_gone() {
    let (program, said) = Program::python(
        "
path = SCRATCH + '/mapped'
open(path, 'wb').write(b'shared'.ljust(8192, b'.'))
file = open(path, 'r+b')
shared = mmap.mmap(file.fileno(), 8192)
shared[0:1] = b'S'
gone = SCRATCH + '/gone'
open(gone, 'wb').write(b'library'.ljust(8192, b'.'))
file2 = open(gone, 'r+b')
private = mmap.mmap(file2.fileno(), 8192, flags=mmap.MAP_PRIVATE)
os.unlink(gone)
say(ctypes.addressof(ctypes.c_char.from_buffer(private)))
file.close(); file2.close()
",
    );
    let path = program.scratch.path().join("mapped");
    let (frozen, pages) = program.freeze();
    let image = &frozen.image;
    let file = image
        .files
        .iter()
        .find(|file| file.path == path.to_str().unwrap().as_bytes());
    assert!(file.unwrap().writable);
    assert!(image.files.iter().filter(|file| file.writable).count() == 1);
    let gone: u64 = said[0].parse().unwrap();
    let mapping = image
        .mappings
        .iter()
        .find(|mapping| (mapping.start..mapping.end).contains(&gone));
    assert_eq!(mapping.unwrap().backing, Backing::Anonymous);
    assert_eq!(memory(image, &pages, gone, 8), b"library.");
}

#[test]
fn signals_and_timers_are_kept() {
    let (program, said) = Program::python(
        "
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.setitimer(signal.ITIMER_REAL, 500, 2.5)
class Event(ctypes.Structure):
    _fields_ = [('value', ctypes.c_void_p), ('signo', ctypes.c_int), ('notify', ctypes.c_int),
                ('tid', ctypes.c_int), ('pad', ctypes.c_char * 44)]
timer = ctypes.c_int()
event = Event(0x1234, 40, 4, threading.get_native_id())
check(libc.syscall(222, 1, ctypes.byref(event), ctypes.byref(timer)))
check(libc.syscall(223, timer.value, 0, struct.pack('qqqq', 0, 0, 700, 0), None))
os.umask(0o27)
os.chdir('/usr')
say(timer.value)
",
    );
    let (frozen, _) = program.freeze();
    let image = &frozen.image;
    let action = |signal: i32| image.signals[usize::try_from(signal).unwrap() - 1];
    assert!(action(libc::SIGUSR1).handler > 1);
    // What the kernel calls SA_RESTORER.
    assert_ne!(action(libc::SIGUSR1).flags & 0x0400_0000, 0);
    assert_eq!(action(libc::SIGUSR2).handler, 1);
    assert_eq!(action(libc::SIGTERM).handler, 0);
    assert_eq!(image.threads[0].signal_mask, 1 << (libc::SIGTERM - 1));
    let [timer] = &*image.interval_timers else {
        panic!("{:?}", image.interval_timers);
    };
    assert_eq!(
        (timer.which, timer.interval_ns),
        (libc::ITIMER_REAL, 2_500_000_000)
    );
    assert!((400_000_000_000..=500_000_000_000).contains(&timer.value_ns));
    let [timer] = &*image.timers else {
        panic!("{:?}", image.timers);
    };
    assert_eq!(
        (timer.id.to_string(), timer.clock, timer.signal),
        (said[0].clone(), 1, 40)
    );
    assert_eq!(
        (timer.value, timer.tid, timer.notify),
        (0x1234, image.pid, libc::SIGEV_THREAD_ID)
    );
    assert!((600_000_000_000..=700_000_000_000).contains(&timer.value_ns));
    assert_eq!((image.umask, &*image.cwd), (0o27, &b"/usr"[..]));
    assert!(image.exe.starts_with(b"/"));
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = u64::try_from(now.tv_sec).unwrap();
    assert!(now.abs_diff(image.monotonic_ns / 1_000_000_000) < 60);
    assert!(image.layout.brk >= image.layout.start_brk && image.layout.start_stack > 0);
}

#[test]
fn openssl_is_found_for_reseeding() {
    let (program, _) = Program::python("import ssl; ssl.RAND_bytes(4)");
    let (frozen, _) = program.freeze();
    let [address] = *frozen.image.reseed else {
        // A Python that holds its own copy of OpenSSL without exporting it.
        let dynamic = frozen
            .image
            .files
            .iter()
            .any(|f| f.path.windows(9).any(|w| w == b"libcrypto"));
        assert!(!dynamic, "{:?}", frozen.image.reseed);
        eprintln!("SKIPPED: this Python does not use a shared OpenSSL");
        return;
    };
    let code = frozen
        .image
        .mappings
        .iter()
        .find(|m| (m.start..m.end).contains(&address));
    assert_ne!(
        code.unwrap().protection & libc::PROT_EXEC.cast_unsigned(),
        0
    );
}

#[test]
fn a_process_that_is_kept_runs_on_and_its_pages_can_be_told() {
    let (mut program, _) = Program::python(
        "
epoll = select.epoll()
threading.Thread(target=lambda: (epoll.poll(), say('epoll came back'))).start()
threading.Thread(target=lambda: (time.sleep(1e6), say('sleep came back'))).start()
time.sleep(0.1)
",
    );
    for _ in 0..5 {
        let (frozen, pages) = program.freeze_with(|options| options.keep = true);
        let image = frozen.unwrap().image;
        crate::program::check(&image, &pages);
        program.runs_on();
        let working_set = snapshot::scan(program.pid(), &image).unwrap();
        let pages: u64 = working_set
            .written
            .iter()
            .map(|(_, len)| len / snapshot::PAGE)
            .sum();
        assert!(pages > 100, "{pages}");
        let in_image = |start: u64, len: u64| {
            let mut segments = image.mappings.iter().flat_map(|mapping| &mapping.segments);
            segments.any(|s| s.start <= start && start + len <= s.start + s.len)
        };
        assert!(
            working_set
                .written
                .iter()
                .all(|(start, len)| in_image(*start, *len))
        );
        let inside = |(offset, len): &(u64, u64)| offset + len <= image.pages_len;
        assert!(!working_set.touched.is_empty() && working_set.touched.iter().all(inside));
        for range in snapshot::required(&image) {
            let covers = |(at, len): &(u64, u64)| *at <= range.start && range.end <= at + len;
            assert!(working_set.touched.iter().any(covers), "{range:?}");
        }
    }
}
