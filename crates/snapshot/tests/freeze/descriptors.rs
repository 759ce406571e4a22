//! Descriptors of every kind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use snapshot::{Description, External, Image, Kind, PipeEnd, SocketState};

use crate::program::Program;

/// The description of the descriptor that the program said as its `at`th word.
fn of<'a>(image: &'a Image, said: &[String], at: usize) -> &'a Description {
    let fd: i32 = said[at].parse().unwrap();
    let descriptor = image
        .descriptors
        .iter()
        .find(|descriptor| descriptor.fd == fd);
    &image.descriptions[descriptor.unwrap().description as usize]
}

fn kind<'a>(image: &'a Image, said: &[String], at: usize) -> &'a Kind {
    &of(image, said, at).kind
}

#[test]
fn standard_descriptors_go_to_the_server() {
    let (program, _) = Program::python("");
    let (frozen, _) = program.freeze();
    let kinds: Vec<&Kind> = frozen
        .image
        .descriptions
        .iter()
        .map(|it| &it.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            &Kind::Path {
                path: b"/dev/null".into(),
                offset: 0
            },
            &Kind::External(External::Output),
            &Kind::External(External::Error),
        ]
    );
}

#[test]
fn files_keep_their_position_and_sharing() {
    let (program, said) = Program::python(
        "
path = os.path.join(SCRATCH, 'a file')
open(path, 'wb').write(b'0123456789' * 1000)
fd = os.open(path, os.O_RDWR | os.O_APPEND)
os.lseek(fd, 7, os.SEEK_SET)
say(fd); say(os.dup(fd)); say(os.open(path, os.O_RDONLY))
say(os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)); say(os.open(path, os.O_PATH))
say(os.open('/dev/urandom', os.O_RDONLY)); say(os.open('/proc/self/stat', os.O_RDONLY))
os.mkdir(SCRATCH + '/d'); os.symlink('a file', SCRATCH + '/d/link')
os.mkfifo(SCRATCH + '/fifo')
",
    );
    let path = program.scratch.path().join("a file");
    let path = path.to_str().unwrap().as_bytes().to_vec();
    let pid = program.pid();
    let (frozen, pages) = program.freeze();
    let image = &frozen.image;
    assert_eq!(
        kind(image, &said, 0),
        &Kind::Path {
            path: path.clone(),
            offset: 7
        }
    );
    assert!(std::ptr::eq(of(image, &said, 0), of(image, &said, 1)));
    assert!(!std::ptr::eq(of(image, &said, 0), of(image, &said, 2)));
    let flags = (libc::O_RDWR | libc::O_APPEND).cast_unsigned();
    assert_eq!(of(image, &said, 0).flags, flags);
    assert_ne!(of(image, &said, 4).flags & libc::O_PATH.cast_unsigned(), 0);
    let stat = format!("/proc/{pid}/stat").into_bytes();
    assert_eq!(
        kind(image, &said, 6),
        &Kind::Path {
            path: stat,
            offset: 0
        }
    );
    // Python makes descriptors that a program does not inherit, but for dup's standard numbers.
    assert!(
        image
            .descriptors
            .iter()
            .all(|it| it.close_on_exec == (it.fd > 2))
    );

    use snapshot::ScratchContent;
    let entries: Vec<_> = image.scratch.iter().map(|entry| &entry.content).collect();
    let [
        ScratchContent::File { len, offset },
        ScratchContent::Directory,
        ScratchContent::Link(to),
    ] = &*entries
    else {
        panic!("{entries:?}");
    };
    assert_eq!(*to, b"a file");
    let mut content = vec![0; usize::try_from(*len).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&pages, &mut content, *offset).unwrap();
    assert_eq!(content, b"0123456789".repeat(1000));
}

#[test]
fn shared_memory_without_a_name_stays_one() {
    let (program, said) = Program::python(
        "
memfd = os.memfd_create('shared', 0)
os.ftruncate(memfd, 1 << 20)
os.lseek(memfd, 5, os.SEEK_SET)
first = mmap.mmap(memfd, 1 << 20); second = mmap.mmap(memfd, 8192, offset=4096)
first[4096:4099] = b'abc'
anonymous = mmap.mmap(-1, 1 << 16)
anonymous[100:103] = b'xyz'
gone = os.open(SCRATCH + '/gone', os.O_RDWR | os.O_CREAT)
os.write(gone, b'deleted'); os.unlink(SCRATCH + '/gone')
say(memfd); say(gone)
",
    );
    let (frozen, pages) = program.freeze();
    let image = &frozen.image;
    let Kind::Object { object, offset: 5 } = *kind(image, &said, 0) else {
        panic!("{:?}", kind(image, &said, 0));
    };
    let shows = |of: u32| {
        let mut mapped = image
            .mappings
            .iter()
            .filter_map(|mapping| match mapping.backing {
                snapshot::Backing::Object { object, offset } if object == of => {
                    Some((mapping.end - mapping.start, offset))
                }
                _ => None,
            });
        let mut found: Vec<_> = mapped.by_ref().collect();
        found.sort_unstable();
        found
    };
    assert_eq!(shows(object), [(8192, 4096), (1 << 20, 0)]);
    let content = |at: u32| {
        let object = &image.objects[at as usize];
        let segment = object.segments[0];
        let mut bytes = vec![0; usize::try_from(segment.len).unwrap()];
        std::os::unix::fs::FileExt::read_exact_at(&pages, &mut bytes, segment.offset).unwrap();
        (object.len, segment.start, bytes)
    };
    assert_eq!(image.objects[object as usize].name, b"shared");
    let (len, start, bytes) = content(object);
    assert_eq!((len, start, &bytes[..4]), (1 << 20, 4096, &b"abc\0"[..]));
    let Kind::Object {
        object: gone,
        offset: 7,
    } = *kind(image, &said, 1)
    else {
        panic!("{:?}", kind(image, &said, 1));
    };
    assert_eq!(
        (content(gone).0, &content(gone).2[..8]),
        (7, &b"deleted\0"[..])
    );
    let anonymous = (0..3).find(|at| *at != object && *at != gone).unwrap();
    assert_eq!(shows(anonymous), [(1 << 16, 0)]);
    assert_eq!(content(anonymous).2[100..103], *b"xyz");
    assert_eq!(image.objects.len(), 3);
}

#[test]
fn pipes_keep_what_is_in_them() {
    let (program, said) = Program::python(
        "
r, w = os.pipe()
os.write(w, b'one'); os.write(w, b'two')
fcntl.fcntl(w, 1031, 1 << 17)
alone, closed = os.pipe()
os.write(closed, b'last'); os.close(closed)
for fd in r, w, alone: say(fd)
",
    );
    let (frozen, _) = program.freeze();
    let image = &frozen.image;
    let Kind::Pipe {
        pipe,
        end: PipeEnd::Read,
    } = *kind(image, &said, 0)
    else {
        panic!("{:?}", kind(image, &said, 0));
    };
    assert_eq!(
        kind(image, &said, 1),
        &Kind::Pipe {
            pipe,
            end: PipeEnd::Write
        }
    );
    assert_eq!(image.pipes[pipe as usize].content, b"onetwo");
    assert_eq!(image.pipes[pipe as usize].capacity, 1 << 17);
    let Kind::Pipe {
        pipe: alone,
        end: PipeEnd::Read,
    } = *kind(image, &said, 2)
    else {
        panic!("{:?}", kind(image, &said, 2));
    };
    assert_eq!(image.pipes[alone as usize].content, b"last");
}

#[test]
fn descriptors_of_events_keep_their_state() {
    let (program, said) = Program::python(
        "
event = os.eventfd(7, os.EFD_SEMAPHORE)
r, w = os.pipe()
epoll = select.epoll()
epoll.register(event, select.EPOLLIN | select.EPOLLET)
epoll.register(r, select.EPOLLIN)
timer = check(libc.timerfd_create(1, 0))
spec = struct.pack('qqqq', 3, 500, 1000, 0)
check(libc.timerfd_settime(timer, 0, spec, None))
mask = struct.pack('Q', 1 << (signal.SIGUSR1 - 1))
signals = check(libc.signalfd(-1, mask.ljust(128, b'\\0'), 0))
watcher = check(libc.inotify_init1(0))
check(libc.inotify_add_watch(watcher, SCRATCH.encode(), 0x100))
for fd in event, epoll.fileno(), timer, signals, watcher, r: say(fd)
",
    );
    let scratch = program.scratch.path().to_str().unwrap().as_bytes().to_vec();
    let (frozen, _) = program.freeze();
    let image = &frozen.image;
    assert_eq!(
        kind(image, &said, 0),
        &Kind::Event {
            count: 7,
            semaphore: true
        }
    );
    let Kind::Epoll { watches } = kind(image, &said, 1) else {
        panic!("{:?}", kind(image, &said, 1));
    };
    let mut watches: Vec<_> = watches
        .iter()
        .map(|w| (w.fd.to_string(), w.events))
        .collect();
    watches.sort_unstable();
    let always = (libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned();
    let level = libc::EPOLLIN.cast_unsigned() | always;
    let mut expected = vec![
        (said[0].clone(), level | libc::EPOLLET.cast_unsigned()),
        (said[5].clone(), level),
    ];
    expected.sort_unstable();
    assert_eq!(watches, expected);
    let Kind::Timer {
        clock: 1,
        value_ns,
        interval_ns: 3_000_000_500,
        ticks: 0,
    } = *kind(image, &said, 2)
    else {
        panic!("{:?}", kind(image, &said, 2));
    };
    assert!(
        (900_000_000_000..1_000_000_000_000).contains(&value_ns),
        "{value_ns}"
    );
    assert_eq!(
        kind(image, &said, 3),
        &Kind::Signal {
            mask: 1 << (libc::SIGUSR1 - 1)
        }
    );
    assert_eq!(
        kind(image, &said, 4),
        &Kind::Inotify {
            watches: vec![(1, scratch, 0x100)]
        }
    );
}

#[test]
fn unix_sockets_find_their_other_end() {
    let (program, said) = Program::python(
        "
a, b = socket.socketpair()
a.send(b'to b')
lonely, other = socket.socketpair()
other.send(b'bye'); other.close()
new = socket.socket(socket.AF_UNIX)
for s in a, b, lonely, new: say(s.fileno())
",
    );
    let (frozen, _) = program.freeze();
    let image = &frozen.image;
    let pair = |at| match kind(image, &said, at) {
        Kind::SocketPair {
            pair,
            end,
            socket_type: 1,
            content,
        } => (*pair, *end, &**content),
        other => panic!("{other:?}"),
    };
    let (a, b, lonely) = (pair(0), pair(1), pair(2));
    assert_eq!((a.0, a.2), (b.0, &b""[..]));
    assert_ne!(a.1, b.1);
    assert_eq!(b.2, b"to b");
    assert_ne!(lonely.0, a.0);
    assert_eq!(lonely.2, b"bye");
    let Kind::Socket(new) = kind(image, &said, 3) else {
        panic!("{:?}", kind(image, &said, 3));
    };
    assert_eq!((new.domain, &new.state), (libc::AF_UNIX, &SocketState::New));
}

fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn sockets_are_told_apart() {
    let (platform, port) = server();
    let (outside, outside_port) = server();
    let (mut program, said) = Program::python(&format!(
        "
platform = socket.create_connection(('127.0.0.1', {port}))
platform.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
platform.send(b'GET')
mapped = socket.socket(socket.AF_INET6)
mapped.connect(('::ffff:127.0.0.1', {port}))
outside = socket.create_connection(('127.0.0.1', {outside_port}))
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('127.0.0.1', 0)); listener.listen(17)
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); bound.bind(('127.0.0.1', 0))
connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); connected.connect(('127.0.0.1', 9))
new = socket.socket()
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); route.bind((0, 0))
all = platform, mapped, outside, listener, bound, connected, new, route
for s in all: say(s.fileno())
"
    ));
    let _peers: Vec<TcpStream> = [&platform, &platform, &outside]
        .map(|l| l.accept().unwrap().0)
        .into();
    program.listeners = vec![port];
    let image = program.freeze().0.image;
    let state = |at| match kind(&image, &said, at) {
        Kind::Socket(socket) => &socket.state,
        other => panic!("{other:?}"),
    };
    let SocketState::Reconnect { local, peer } = state(0) else {
        panic!("{:?}", state(0));
    };
    assert_eq!(
        (local.len(), &peer[2..8]),
        (16, &[&port.to_be_bytes()[..], &[127, 0, 0, 1]].concat()[..])
    );
    assert!(matches!(state(1), SocketState::Reconnect { local, .. } if local.len() == 28));
    assert!(
        matches!(state(2), SocketState::Reset { .. }),
        "{:?}",
        state(2)
    );
    assert!(
        matches!(state(3), SocketState::Listening { backlog: 17, .. }),
        "{:?}",
        state(3)
    );
    assert!(matches!(state(4), SocketState::Bound { .. }));
    assert!(matches!(state(5), SocketState::Datagram { .. }));
    assert!(matches!(state(6), SocketState::New));
    assert!(matches!(state(7), SocketState::New));
    let Kind::Socket(socket) = kind(&image, &said, 0) else {
        panic!()
    };
    let no_delay = (
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        1_i32.to_ne_bytes().to_vec(),
    );
    assert!(socket.options.contains(&no_delay), "{:?}", socket.options);
}

#[test]
fn a_connection_that_was_closed_by_the_other_side_is_reset() {
    let (platform, port) = server();
    let other_side = std::thread::spawn(move || {
        let (mut peer, _) = platform.accept().unwrap();
        peer.write_all(b"x").unwrap();
    });
    let (mut program, said) = Program::python(&format!(
        "
s = socket.create_connection(('127.0.0.1', {port}))
while s.recv(100): pass
say(s.fileno())
"
    ));
    other_side.join().unwrap();
    program.listeners = vec![port];
    let image = program.freeze().0.image;
    let Kind::Socket(socket) = kind(&image, &said, 0) else {
        panic!()
    };
    assert!(
        matches!(socket.state, SocketState::Reset { .. }),
        "{:?}",
        socket.state
    );
}

#[test]
fn unread_data_of_the_platform_is_refused() {
    let (platform, port) = server();
    let (mut program, _) = Program::python(&format!(
        "s = socket.create_connection(('127.0.0.1', {port})); s.send(b'?')"
    ));
    let (mut peer, _) = platform.accept().unwrap();
    peer.read_exact(&mut [0]).unwrap();
    peer.write_all(b"answer").unwrap();
    program.listeners = vec![port];
    program.refused("with unread data");
}
