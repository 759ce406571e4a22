//! Stops a process and writes down what it consists of.
//!
//! The process belongs to an environment: it has its own namespaces, and this process, the server,
//! is outside of them. Ids are translated by what `/proc` says, paths are opened below
//! `/proc/PID/root`. Nothing in the process can be trusted; what it maps and opens is only read.
//!
//! # Order
//!
//! 1. What can be refused without touching the process is refused ([`census`]).
//! 2. Every thread is stopped by `ptrace`. Signals that are on their way are let through first.
//! 3. Registers are read. What only the process itself can ask (signal actions, timers, ...) it is
//!    made to ask, by system calls injected into its threads.
//! 4. Descriptors are described, from `/proc/PID/fdinfo` and by asking copies of them.
//! 5. Memory is described and its private pages are written.
//! 6. The process is killed, or goes on as if nothing had been.
//!
//! If any step fails, it goes on as well.
//!
//! # What is not kept
//!
//! Scheduling policy and affinity, resource limits (the environment sets them), file leases,
//! extended attributes and hard links of scratch files, names of memory
//! (`PR_SET_VMA_ANON_NAME`), advice to read ahead, multicast memberships.

mod census;
mod descriptors;
mod elf;
mod error;
mod events;
mod memory;
mod objects;
pub(crate) mod pagemap;
mod pages;
mod pipes;
mod proc;
mod process;
mod registers;
mod root;
mod scratch;
mod socket_options;
mod sockets;
mod sys;
mod threads;
mod tracee;
mod unix_sockets;

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use self::census::Pending;
pub use self::error::FreezeError;
use self::error::{Doing, Result, unsupported};
pub use self::memory::SPECIAL;
use self::objects::Objects;
use self::pages::Pages;
use self::proc::Vma;
use self::registers::Snapshot;
use self::root::Root;
use self::scratch::Limits;
use self::tracee::Tracee;
use crate::{External, FORMAT, Image};

/// What the caller knows of the process.
#[derive(Debug, Clone)]
pub struct FreezeOptions<'a> {
    /// Pipes that go to the server, by inode.
    pub externals: &'a [(External, u64)],
    /// Ports on 127.0.0.1 of the environment at which the server listens.
    pub local_listeners: &'a [u16],
    /// Processes, as this process numbers them, that may run in the same pid namespace.
    pub beside: &'a [i32],
    /// Directories whose files belong to the image.
    pub scratch: &'a [&'a str],
    pub scratch_max_bytes: u64,
    pub scratch_max_entries: usize,
    /// Longest time to wait for a thread to stop.
    pub timeout: Duration,
    /// Let the process run on afterwards.
    pub keep: bool,
}

impl Default for FreezeOptions<'_> {
    fn default() -> Self {
        Self {
            externals: &[],
            local_listeners: &[],
            beside: &[],
            scratch: &["/tmp", "/dev/shm"],
            scratch_max_bytes: 512 << 20,
            scratch_max_entries: 64 << 10,
            timeout: Duration::from_secs(5),
            keep: false,
        }
    }
}

/// A process at rest, and what was found out on the way.
#[derive(Debug)]
pub struct Frozen {
    pub image: Image,
    /// Mapped programs that hold an allocator which may rely on memory being zero after
    /// `MADV_DONTNEED`, as `path: name`. Such a process must get back its memory exactly.
    pub allocators: Vec<String>,
    pub stats: FreezeStats,
}

#[derive(Debug, Clone, Default)]
pub struct FreezeStats {
    pub threads: usize,
    pub mappings: usize,
    /// Length of the page file.
    pub page_bytes: u64,
    /// Of it, scratch files.
    pub scratch_bytes: u64,
    /// How long the process stood still.
    pub stopped: Duration,
}

/// Freezes the process `pid`, as this process numbers it. Its memory is written to `pages`, from
/// the beginning.
///
/// Blocks, for some tens of milliseconds and more if there is much memory. On success the process
/// has been killed, unless [`FreezeOptions::keep`]; on failure it runs on. If the caller is its
/// parent, it has been waited for as well.
pub fn freeze(pid: i32, options: &FreezeOptions<'_>, pages: &File) -> Result<Frozen> {
    if cfg!(not(target_arch = "x86_64")) {
        return unsupported("freezing needs an x86-64 processor");
    }
    census::refuse_before(pid, options.beside)?;
    // In a thread of its own, with whose end the kernel lets go of whatever may still be traced.
    let frozen = thread::scope(|scope| {
        let freeze = || freeze_running(pid, options, pages);
        let tracer = thread::Builder::new().name("freeze".into());
        let tracer = tracer
            .spawn_scoped(scope, freeze)
            .doing(|| "start a thread".into())?;
        tracer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    // What a process that is ending shows of itself looks like something that cannot be frozen.
    frozen.map_err(|err| match census::has_ended(pid) {
        true => FreezeError::Gone,
        false => err,
    })
}

fn freeze_running(pid: i32, options: &FreezeOptions<'_>, pages: &File) -> Result<Frozen> {
    let mut tries = 0..TRIES;
    loop {
        let begun = Instant::now();
        let mut tracee = stop(pid, options.timeout)?;
        let (mut frozen, programs, repeating) = describe(&mut tracee, options, pages)?;
        // A signal that has arrived meanwhile would be lost, unless a timer sends it again.
        if tries.next().is_some() && census::pending(&tracee, repeating)? != Pending::None {
            continue;
        }
        if options.keep {
            drop(tracee);
        } else {
            tracee.kill()?;
        }
        frozen.stats.stopped = begun.elapsed();
        frozen.allocators = programs.allocators();
        return Ok(frozen);
    }
}

/// How often to wait for signals to be taken.
const TRIES: u32 = 5;

/// How long to wait for the main thread to come to rest, and how often to look: a program that waits
/// for an event may have timers.
const BUSY: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// Stops the process at a moment when no signal is on its way, and its main thread waits for
/// something, if it does at all.
fn stop(pid: i32, timeout: Duration) -> Result<Tracee> {
    let mut last = Pending::None;
    let mut attempt = 0;
    let begun = Instant::now();
    while attempt < TRIES {
        let tracee = Tracee::seize(pid, timeout)?;
        last = census::pending(&tracee, 0)?;
        if last == Pending::None {
            if !census::being_thawed(&tracee)? {
                if is_at_rest(&tracee) || begun.elapsed() > BUSY {
                    return Ok(tracee);
                }
                drop(tracee);
                thread::sleep(LOOK_AGAIN);
                continue;
            }
            last = Pending::Blocked("it is not done with being thawed".to_owned());
        }
        drop(tracee);
        thread::sleep(Duration::from_millis(1 << attempt));
        attempt += 1;
    }
    match last {
        Pending::Blocked(what) => unsupported(what),
        _ => unsupported("signals keep arriving"),
    }
}

/// The main thread is in a system call, so that functions can be called on top of what it does.
fn is_at_rest(tracee: &Tracee) -> bool {
    Snapshot(tracee.main().registers).syscall().is_some()
}

fn describe(
    tracee: &mut Tracee,
    options: &FreezeOptions<'_>,
    file: &File,
) -> Result<(Frozen, Programs, u64)> {
    let pid = tracee.pid;
    // Again, now that nothing can appear any more.
    let vmas = proc::smaps(pid)?;
    let root = Root::open(pid)?;
    tracee.prepare(&vmas)?;
    let process = process::collect(tracee)?;
    let repeating = process.repeating();
    let threads = threads::collect(tracee)?;
    let mut objects = Objects::default();
    let descriptors = descriptors::collect(tracee, &root, options, &mut objects)?;
    tracee.restore()?;
    // The pages that injected calls dirtied are zero again, but there; they are left out.
    let mut pages = Pages::new(file);
    let scratch_dirs = options.scratch;
    let memory = memory::collect(tracee, &vmas, &root, scratch_dirs, &mut objects, &mut pages)?;
    let objects = objects.save(tracee, &mut pages)?;
    let limits = Limits {
        bytes: options.scratch_max_bytes,
        entries: options.scratch_max_entries,
    };
    let before_scratch = pages.position();
    let scratch = scratch::collect(&root, scratch_dirs, &limits, &mut pages)?;
    let pages_len = pages.finish()?;

    let programs = Programs::look(&vmas, &root);
    let reseed = programs.reseed(&vmas);
    if !reseed.is_empty() && !is_at_rest(tracee) {
        return unsupported("its main thread never rests, so that OpenSSL could not be reseeded");
    }
    let stats = FreezeStats {
        threads: threads.len(),
        mappings: memory.mappings.len(),
        page_bytes: pages_len,
        scratch_bytes: pages_len - before_scratch,
        stopped: Duration::ZERO,
    };
    let image = Image {
        format: FORMAT,
        host: crate::host::host().doing(|| "look at this machine".into())?,
        pid: tracee.main().inner,
        threads,
        mappings: memory.mappings,
        special: memory.special,
        files: memory.files,
        objects,
        descriptions: descriptors.descriptions,
        descriptors: descriptors.descriptors,
        pipes: descriptors.pipes,
        signals: process.signals,
        layout: process.layout,
        auxv: process.auxv,
        exe: process.exe,
        cwd: process.cwd,
        umask: process.umask,
        monotonic_ns: process.monotonic_ns,
        boottime_ns: process.boottime_ns,
        membarrier: process.membarrier,
        timers: process.timers,
        interval_timers: process.interval_timers,
        reseed,
        scratch,
        pages_len,
    };
    // Limits that are checked before a thaw are better met now.
    if let Err(err) = image.validate() {
        return unsupported(format!("its image would not be accepted: {err}"));
    }
    let frozen = Frozen {
        image,
        allocators: Vec::new(),
        stats,
    };
    Ok((frozen, programs, repeating))
}

/// The mapped programs and libraries.
struct Programs(Vec<Program>);

struct Program {
    path: String,
    file: File,
    /// Where a piece of its code is mapped, and from where in the file.
    start: u64,
    offset: u64,
}

impl Programs {
    /// A file that cannot be opened tells nothing.
    fn look(vmas: &[Vma], root: &Root) -> Self {
        let mut programs: Vec<Program> = Vec::new();
        for vma in vmas.iter().filter(|vma| vma.execute && vma.inode != 0) {
            let path = root::show(&vma.name);
            if programs.iter().any(|program| program.path == path) {
                continue;
            }
            if let Ok(Some(file)) = root.read_file(&vma.name) {
                programs.push(Program {
                    path: path.into_owned(),
                    file,
                    start: vma.start,
                    offset: vma.offset,
                });
            }
        }
        Self(programs)
    }

    /// Addresses of the functions that reseed OpenSSL.
    fn reseed(&self, vmas: &[Vma]) -> Vec<u64> {
        let address = |program: &Program| {
            let elf = elf::Elf::open(&program.file)?;
            let function = elf.function("RAND_poll")?;
            let bias = elf.bias(program.start, program.offset)?;
            Some(bias.wrapping_add(function.address))
        };
        let is_code = |address: &u64| {
            let mut code = vmas.iter().filter(|vma| vma.execute);
            code.any(|vma| (vma.start..vma.end).contains(address))
        };
        self.0.iter().filter_map(address).filter(is_code).collect()
    }

    /// Reads all of the files, for which the process need not wait.
    fn allocators(&self) -> Vec<String> {
        let evidence = |program: &Program| {
            let words = elf::mentions(&program.file, &["jemalloc", "mimalloc"]);
            let words = words.unwrap_or_default().into_iter();
            words
                .map(|word| format!("{}: {word}", program.path))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(evidence).collect()
    }
}
