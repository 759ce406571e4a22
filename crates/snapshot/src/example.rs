//! An image made by hand, for tests and for fuzzing: a process that says "hi" and exits with 7.

use crate::{
    Advice, Backing, Description, Descriptor, External, FORMAT, Host, Image, Kind, Layout,
    MappedFile, Mapping, Object, Pipe, PipeEnd, PosixTimer, ScratchContent, ScratchEntry, Segment,
    SignalAction, Socket, SocketState, Special, Thread, Watch,
};

/// `write(1, "hi\n", 3); exit_group(7)`, the first page of the page file.
pub const CODE: &[u8] = &[
    0xb8, 1, 0, 0, 0, // mov eax, 1
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0x48, 0x8d, 0x35, 0x13, 0, 0, 0, // lea rsi, [rip + 0x13]
    0xba, 3, 0, 0, 0, // mov edx, 3
    0x0f, 0x05, // syscall
    0xb8, 231, 0, 0, 0, // mov eax, 231
    0xbf, 7, 0, 0, 0, // mov edi, 7
    0x0f, 0x05, // syscall
    b'h', b'i', b'\n',
];
const CODE_AT: u64 = 0x7e00_0000_0000;
const STACK_AT: u64 = 0x7e00_1000_0000;
const SHARED_AT: u64 = 0x7e00_2000_0000;
const SPECIAL_AT: u64 = 0x7e00_3000_0000;
const PROGRAM: u64 = 0x10_0000;
const PAGES_LEN: u64 = 0x3000;

/// The image; its page file is [`CODE`] and zeroes.
pub fn image() -> Image {
    let description = |flags, kind| Description { flags, kind };
    let descriptions = vec![
        description(1, Kind::External(External::Output)),
        description(
            0,
            Kind::Pipe {
                pipe: 0,
                end: PipeEnd::Read,
            },
        ),
        description(
            1,
            Kind::Pipe {
                pipe: 0,
                end: PipeEnd::Write,
            },
        ),
        description(2, epoll()),
        description(
            2,
            Kind::Event {
                count: 3,
                semaphore: false,
            },
        ),
        description(
            2,
            Kind::Object {
                object: 0,
                offset: 5,
            },
        ),
        description(
            0,
            Kind::Path {
                path: b"/dev/null".to_vec(),
                offset: 0,
            },
        ),
        description(2, Kind::Socket(socket())),
        description(2, timer()),
        description(2, pair(0, b"hello")),
        description(2, Kind::Signal { mask: 1 << 11 }),
        description(
            2,
            Kind::Inotify {
                watches: vec![(2, b"/tmp".to_vec(), 0x100)],
            },
        ),
    ];
    let descriptors = (1..13).map(|fd| Descriptor {
        fd,
        close_on_exec: fd % 2 == 0,
        description: fd.cast_unsigned() - 1,
    });
    Image {
        format: FORMAT,
        host: Host {
            machine: "x86_64".into(),
            kernel: "none".into(),
            vdso: 0,
            cpu: 0,
        },
        pid: 20,
        threads: vec![thread()],
        mappings: mappings(),
        special: special(),
        files: vec![MappedFile {
            path: b"/usr/bin/env".to_vec(),
            writable: false,
            size: 0,
            modified_ns: 0,
        }],
        objects: vec![Object {
            name: b"shared".to_vec(),
            len: 100,
            segments: vec![segment(0, 0x1000)],
        }],
        descriptions,
        descriptors: descriptors.collect(),
        pipes: vec![Pipe {
            capacity: 65_536,
            content: b"in the pipe".to_vec(),
        }],
        signals: vec![
            SignalAction {
                handler: 0,
                flags: 0,
                restorer: 0,
                mask: 0
            };
            64
        ],
        layout: layout(),
        auxv: Vec::new(),
        exe: b"/usr/bin/env".to_vec(),
        cwd: b"/tmp".to_vec(),
        umask: 0o22,
        monotonic_ns: 1_000_000_000_000,
        boottime_ns: 1_000_000_000_000,
        membarrier: 0,
        timers: vec![PosixTimer {
            id: 3,
            clock: 1,
            notify: 0,
            signal: 10,
            value: 0,
            tid: 0,
            value_ns: 1_000_000_000,
            interval_ns: 0,
        }],
        interval_timers: Vec::new(),
        reseed: Vec::new(),
        scratch: vec![ScratchEntry {
            path: b"/tmp/file".to_vec(),
            mode: 0o644,
            modified_ns: 0,
            content: ScratchContent::File {
                len: 10,
                offset: 0x2000,
            },
        }],
        pages_len: PAGES_LEN,
    }
}

fn thread() -> Thread {
    const RIP: usize = 16;
    const CS: usize = 17;
    const EFLAGS: usize = 18;
    const RSP: usize = 19;
    const SS: usize = 20;
    let mut registers = vec![0; 27];
    registers[RIP] = CODE_AT;
    registers[CS] = 0x33;
    registers[EFLAGS] = 0x202;
    registers[RSP] = STACK_AT + 0x1000;
    registers[SS] = 0x2b;
    let mut extended = vec![0; 576];
    extended[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    extended[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    extended[512] = 3;
    Thread {
        tid: 20,
        registers,
        extended,
        signal_mask: 0,
        alternate_stack: (0, 2, 0),
        clear_tid: 0,
        robust_list: (0, 0),
        rseq: (0, 0, 0),
        name: b"tiny".to_vec(),
    }
}

fn mappings() -> Vec<Mapping> {
    let mapping = |start, pages: u64, protection, backing, segments, grows_down| Mapping {
        start,
        end: start + pages * 0x1000,
        protection,
        backing,
        segments,
        advice: Advice {
            grows_down,
            ..Advice::default()
        },
    };
    let code = vec![segment(CODE_AT, 0)];
    let shared = Backing::Object {
        object: 0,
        offset: 0,
    };
    vec![
        mapping(CODE_AT, 1, 5, Backing::Anonymous, code, false),
        mapping(STACK_AT, 2, 3, Backing::Anonymous, Vec::new(), true),
        mapping(SHARED_AT, 1, 3, shared, Vec::new(), false),
    ]
}

fn segment(start: u64, offset: u64) -> Segment {
    Segment {
        start,
        len: 0x1000,
        offset,
    }
}

fn special() -> Vec<Special> {
    let special = |name: &str, start: u64, pages: u64| Special {
        name: name.into(),
        start,
        end: start + pages * 0x1000,
    };
    vec![
        special("[vvar]", SPECIAL_AT, 4),
        special("[vdso]", SPECIAL_AT + 0x4000, 2),
    ]
}

fn layout() -> Layout {
    Layout {
        start_code: PROGRAM,
        end_code: PROGRAM + 1,
        start_data: PROGRAM,
        end_data: PROGRAM,
        start_brk: PROGRAM,
        brk: PROGRAM,
        start_stack: STACK_AT,
        arg_start: PROGRAM,
        arg_end: PROGRAM,
        env_start: PROGRAM,
        env_end: PROGRAM,
    }
}

fn epoll() -> Kind {
    Kind::Epoll {
        watches: vec![Watch {
            fd: 2,
            events: 1,
            data: 2,
        }],
    }
}

fn timer() -> Kind {
    Kind::Timer {
        clock: 1,
        value_ns: 5_000_000_000,
        interval_ns: 1_000_000_000,
        ticks: 2,
    }
}

fn pair(end: u8, content: &[u8]) -> Kind {
    Kind::SocketPair {
        pair: 0,
        end,
        socket_type: libc::SOCK_STREAM,
        content: content.to_vec(),
    }
}

fn socket() -> Socket {
    let mut local = vec![0; 16];
    local[0] = 2;
    local[4..8].copy_from_slice(&[127, 0, 0, 1]);
    let mut peer = local.clone();
    peer[3] = 80;
    Socket {
        domain: libc::AF_INET,
        socket_type: libc::SOCK_STREAM,
        protocol: 0,
        state: SocketState::Reset { local, peer },
        options: vec![(libc::IPPROTO_TCP, libc::TCP_NODELAY, vec![1, 0, 0, 0])],
    }
}
