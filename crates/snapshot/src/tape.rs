//! A process as a list of system calls.
//!
//! [`compile`] turns an image into a *tape*: a file with a small interpreter, a list of entries,
//! and everything that they point to. A stub maps it where neither its own nor the image's memory
//! is, and jumps into it; see `enter.rs`. The interpreter makes one call per entry and compares
//! the answer with what the entry expects. It ends in `rt_sigreturn` from a prepared frame, which
//! loads all registers of a thread, its extended state and its signal mask at once.
//!
//! A tape is the same for all clones of an image: everything in it is deterministic, down to the
//! numbers of descriptors, which are simulated here (`table.rs`) and checked when it plays.
//!
//! The order matters:
//!
//! 1. Give up the stub's descriptors and memory.
//! 2. Become the function's user; keep of all capabilities the one that setting thread ids needs.
//!    From here on the tape can do little that the function could not.
//! 3. Objects and memory. From then on one more thread makes the pages that will be written anyway.
//!    The kernel's record of the layout, which refuses a program whose predecessor is still mapped.
//! 4. Signal actions, descriptors, epoll watches (which need the descriptors).
//! 5. Threads; each gives up the capability and waits. Timers (which may name threads).
//! 6. Once all threads have arrived: the filter, for all of them. Only then code of the image may
//!    run: until then it could change the tape and with it what a privileged thread does.
//! 7. Release the threads, reseed random number generators, and go on.

mod blob;
mod descriptors;
mod memory;
mod objects;
mod place;
mod preamble;
mod sockets;
mod sys;
mod table;
mod threads;
mod timers;
mod writer;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use preamble::{Preamble, TRAILER};
pub(crate) use sys::{ExtendedState, sealed_file};

use crate::{Image, PAGE, WorkingSet};
pub(crate) use blob::{REPORT, code};
pub(crate) use objects::number;
pub(crate) use place::HIGHEST;
use writer::Writer;
pub(crate) use writer::{ENTRY_BYTES, Expect, Step, Stream};

/// How a process gets its memory back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Private mappings of the page file: fast, and clones share what they do not write. What
    /// a clone discards by `MADV_DONTNEED` shows the image's content again, not zeroes, which
    /// some allocators (jemalloc) cannot stand.
    Shared,
    /// Anonymous memory with a copy of the content, as the original had.
    #[default]
    Exact,
}

/// What takes the rights of the stub away.
#[derive(Debug, Clone, Copy)]
pub struct Confinement<'a> {
    pub uid: u32,
    pub gid: u32,
    /// Whether supplementary groups are to be given up; cannot be where the user namespace has
    /// only one user.
    pub drop_groups: bool,
    /// The system call filter; none if empty.
    pub filter: &'a [libc::sock_filter],
}

#[derive(Debug, Clone, Copy, Default)]
pub struct CompileOptions<'a> {
    pub memory: Memory,
    /// Serve pages that the page file does not have yet; see [`crate::slot::USERFAULT_DEVICE`].
    pub userfault: bool,
    /// Map pages of the image one at a time, as they are used, so that [`scan`](crate::scan) finds
    /// no others. Asks for a userfaultfd as well; [`Recorder`](crate::Recorder) takes it, or the pager.
    pub page_by_page: bool,
    /// What a clone will write is made ready at once.
    pub working_set: Option<&'a WorkingSet>,
    /// Nobody waits for the clone yet, so that what it will read is made ready, too: it takes longer
    /// than letting the clone fault on the part that it needs, but later the clone is faster.
    pub unhurried: bool,
    /// `None` leaves the clone the stub's user and capabilities.
    pub confinement: Option<Confinement<'a>>,
    /// Write the time of each phase to the report; see [`Tape::phases`].
    pub stamps: bool,
}

impl CompileOptions<'_> {
    fn asks_for_userfaultfd(&self) -> bool {
        self.userfault || self.page_by_page
    }
}

/// Why an image cannot be thawed here.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    #[error("processes cannot be thawed on this architecture")]
    Architecture,
    #[error("the image was not validated: {0}")]
    Image(&'static str),
    #[error("the image leaves no room for the tape in its address space")]
    NoRoom,
    #[error("the tape would be too large")]
    TooLarge,
    #[error("the kernel cannot create a timer with id {0}")]
    TimerId(i32),
    #[error("create the tape's file")]
    File(#[source] io::Error),
}

/// A compiled image.
#[derive(Debug)]
pub struct Tape {
    file: OwnedFd,
    pid: i32,
    len: u64,
    required: Vec<(u64, u64)>,
    phases: Vec<&'static str>,
    entries: usize,
}

impl Tape {
    /// The sealed file, for [`crate::slot::TAPE`] of a stub.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The process id that the stub must have.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a tape has at least its interpreter.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of entries of the main thread.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Ranges (offset, length) of the page file that the tape reads by system calls. They must be
    /// there before a stub starts, also with a userfaultfd, which such reads do not wake.
    pub fn required(&self) -> &[(u64, u64)] {
        &self.required
    }

    /// From the report of a tape with stamps: when each phase had ended, on the clone's monotonic
    /// clock, in nanoseconds; the first is the tape's beginning.
    pub fn phases(&self, report: &[u8]) -> Vec<(&'static str, u64)> {
        let stamps = report.chunks_exact(16).map(|stamp| {
            let word = |at: usize| {
                let bytes = stamp[at..at + 8].try_into().unwrap_or_default();
                u64::from_le_bytes(bytes)
            };
            word(0) * 1_000_000_000 + word(8)
        });
        self.phases.iter().copied().zip(stamps).collect()
    }
}

/// Compiles an image that [`Image::decode`] or a freeze has returned.
pub fn compile(image: &Image, options: &CompileOptions<'_>) -> Result<Tape, TapeError> {
    if blob::code().is_empty() {
        return Err(TapeError::Architecture);
    }
    let place = place::find(image)?;
    let words = 256 + 8 * image.descriptions.len() + image.timers.len();
    let mut writable = words.saturating_add(objects::segments(image));
    if options.asks_for_userfaultfd() {
        let segments = image.mappings.iter().map(|mapping| mapping.segments.len());
        writable = segments
            .map(|count| 4 * count)
            .fold(writable, usize::saturating_add);
    }
    let mut compiler = Compiler {
        image,
        options,
        place,
        tape: Writer::new(place.base, writable),
        table: table::Table::default(),
        objects: Vec::new(),
        required: Vec::new(),
        stamps: Vec::new(),
        stamps_at: 0,
    };
    compiler.compile()?;
    compiler.finish()
}

/// How many phases can be timed.
const MAX_STAMPS: usize = 32;

struct Compiler<'a> {
    image: &'a Image,
    options: &'a CompileOptions<'a>,
    place: place::Place,
    tape: Writer,
    table: table::Table,
    /// Descriptors under which the objects are open while the tape plays.
    objects: Vec<i32>,
    required: Vec<(u64, u64)>,
    /// The phases that are timed, and where their times go.
    stamps: Vec<&'static str>,
    stamps_at: u64,
}

impl Compiler<'_> {
    fn compile(&mut self) -> Result<(), TapeError> {
        self.stamp("start")?;
        self.give_up_stub();
        self.stamp("give up the stub")?;
        self.confine();
        self.create_objects()?;
        self.map_memory()?;
        self.stamp("map memory")?;
        self.register_membarrier();
        let preparations = self.preparations();
        let helps = !preparations.is_empty();
        let gate = self.make_gate(helps.into())?;
        if !self.options.unhurried && helps {
            self.start_helper(&gate, &preparations)?;
        }
        self.place_special()?;
        self.set_layout()?;
        self.stamp("layout")?;
        self.set_signal_actions();
        self.stamp("signals")?;
        self.open_descriptors()?;
        self.stamp("descriptors")?;
        self.start_threads(&gate)?;
        if self.options.unhurried && helps {
            self.start_helper(&gate, &preparations)?;
        }
        self.create_timers()?;
        self.stamp("threads")?;
        self.go_on(&gate)
    }

    /// Descriptors, and memory around the tape and the parked mappings.
    fn give_up_stub(&mut self) {
        let tape = &mut self.tape;
        tape.about("close descriptors");
        tape.call(libc::SYS_close_range, &[0, 899, 0], Expect::Is(0));
        tape.call(
            libc::SYS_close_range,
            &[908, u64::from(u32::MAX), 0],
            Expect::Is(0),
        );
        tape.about("give up the stub's memory");
        // How long the tape is shows only when it is written. Up to the parking place there can
        // be nothing else: it is mapped at a place that was free, as the parking place was.
        let Self { place, .. } = self;
        for (start, end) in [(0, place.base), (place.end(), place::ADDRESS_END)] {
            self.tape
                .call(libc::SYS_munmap, &[start, end - start], Expect::Is(0));
        }
    }

    fn confine(&mut self) {
        let Some(confinement) = self.options.confinement else {
            return;
        };
        let tape = &mut self.tape;
        tape.about("become the function's user");
        if confinement.drop_groups {
            tape.call(libc::SYS_setgroups, &[0, 0], Expect::Is(0));
        }
        let (uid, gid) = (u64::from(confinement.uid), u64::from(confinement.gid));
        tape.call(libc::SYS_setresgid, &[gid, gid, gid], Expect::Is(0));
        tape.call(libc::SYS_setresuid, &[uid, uid, uid], Expect::Is(0));
        let dumpable = libc::PR_SET_DUMPABLE.cast_unsigned().into();
        tape.call(libc::SYS_prctl, &[dumpable, 1, 0, 0, 0], Expect::Is(0));
        tape.about("drop capabilities");
        let (header, kept) = capabilities(tape, 1 << CAP_CHECKPOINT_RESTORE);
        tape.call(libc::SYS_capset, &[header, kept], Expect::Is(0));
    }

    /// Takes the time, for the phase that ends here.
    fn stamp(&mut self, name: &'static str) -> Result<(), TapeError> {
        if !self.options.stamps {
            return Ok(());
        }
        // All in one piece, so that one call can report them.
        if self.stamps.is_empty() {
            self.stamps_at = self.tape.word(0)?;
            for _ in 1..2 * MAX_STAMPS {
                self.tape.word(0)?;
            }
        }
        if self.stamps.len() < MAX_STAMPS {
            let at = self.stamps_at + self.stamps.len() as u64 * 16;
            let monotonic = libc::CLOCK_MONOTONIC.cast_unsigned().into();
            self.tape
                .call(libc::SYS_clock_gettime, &[monotonic, at], Expect::Is(0));
            self.stamps.push(name);
        }
        Ok(())
    }

    /// The last steps: from the release on, code of the image runs.
    fn go_on(&mut self, gate: &threads::Gate) -> Result<(), TapeError> {
        self.tape.about("wait for the threads");
        let (word, all) = (gate.arrived, gate.threads);
        if all > 0 {
            self.tape.main.step(Step::Gather { word, all });
        }
        self.stamp("gather threads")?;
        if !self.stamps.is_empty() {
            let len = self.stamps.len() as u64 * 16;
            let report = u64::from(crate::slot::REPORT.cast_unsigned());
            let args = [report, self.stamps_at, len];
            self.tape.call(libc::SYS_write, &args, Expect::Success);
        }
        self.tape.about("close the thaw's descriptors");
        let first = u64::from(crate::slot::FIRST.cast_unsigned());
        // The report stays for what follows; it closes when the filter is in place.
        let report = u64::from(crate::slot::REPORT.cast_unsigned());
        self.tape.call(
            libc::SYS_close_range,
            &[first, report - 1, 0],
            Expect::Is(0),
        );
        self.give_up_rights();
        self.tape.call(libc::SYS_close, &[report], Expect::Is(0));
        self.tape.main.step(Step::Release { word: gate.open });
        let stack = self.image.threads[0]
            .registers
            .get(threads::RSP)
            .copied()
            .ok_or(TapeError::Image("registers"))?;
        // As a signal handler would: below what leaf functions may use without asking.
        let stack = stack.wrapping_sub(128) & !15;
        for function in &self.image.reseed {
            let function = *function;
            self.tape.main.step(Step::Call { function, stack });
        }
        self.tape.main.step(Step::Return { frame: gate.frame });
        Ok(())
    }

    fn give_up_rights(&mut self) {
        let Some(confinement) = self.options.confinement else {
            return;
        };
        let tape = &mut self.tape;
        tape.about("drop capabilities");
        let (header, none) = capabilities(tape, 0);
        tape.call(libc::SYS_capset, &[header, none], Expect::Is(0));
        if confinement.filter.is_empty() {
            return;
        }
        tape.about("install the system call filter");
        let no_new = libc::PR_SET_NO_NEW_PRIVS.cast_unsigned().into();
        tape.call(libc::SYS_prctl, &[no_new, 1, 0, 0, 0], Expect::Is(0));
        let filter = filter_bytes(confinement.filter);
        let lines = filter.len() as u64 / 8;
        let filter = tape.constant(&filter, 8);
        let program = tape.words(&[lines, filter]);
        let args = [
            libc::SECCOMP_SET_MODE_FILTER.into(),
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            program,
        ];
        tape.call(libc::SYS_seccomp, &args, Expect::Is(0));
    }

    fn finish(self) -> Result<Tape, TapeError> {
        let entries = self.tape.main.entries();
        let written = self.tape.finish()?;
        let mut bytes = written.bytes;
        let preamble = Preamble {
            pid: self.image.pid,
            base: self.place.base,
            len: (bytes.len() as u64).next_multiple_of(PAGE),
            writable_len: written.writable_len,
            entry: written.entry,
            monotonic_ns: self.image.monotonic_ns,
            boottime_ns: self.image.boottime_ns,
            special: self.place.special(self.image),
            files: self.image.files.clone(),
            userfault: self.options.asks_for_userfaultfd(),
        };
        preamble.append(&mut bytes)?;
        let file = sys::sealed_file(&bytes).map_err(TapeError::File)?;
        Ok(Tape {
            file,
            pid: self.image.pid,
            len: bytes.len() as u64,
            required: self.required,
            phases: self.stamps,
            entries,
        })
    }
}

/// A filter as the kernel reads it.
pub(crate) fn filter_bytes(filter: &[libc::sock_filter]) -> Vec<u8> {
    let lines = filter.iter().flat_map(|line| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&line.code.to_le_bytes());
        (bytes[2], bytes[3]) = (line.jt, line.jf);
        bytes[4..].copy_from_slice(&line.k.to_le_bytes());
        bytes
    });
    lines.collect()
}

/// Lets an otherwise unprivileged process choose thread ids and name its program.
const CAP_CHECKPOINT_RESTORE: u64 = 40;

/// Of the structures that `capset` takes: version 3, followed by thread id 0.
pub(crate) const CAPABILITY_VERSION: u64 = 0x2008_0522;

/// Arguments of `capset` for this thread: `set` permitted and in force, nothing inheritable.
fn capabilities(tape: &mut Writer, set: u64) -> (u64, u64) {
    let (low, high) = (set & 0xffff_ffff, set >> 32);
    // Effective, permitted, inheritable; the lower halves first.
    let data = [low | low << 32, high << 32, high];
    (tape.words(&[CAPABILITY_VERSION]), tape.words(&data))
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::example;

    fn bytes(tape: &Tape) -> Vec<u8> {
        let file = std::fs::File::from(tape.file().try_clone_to_owned().unwrap());
        let mut bytes = vec![0; usize::try_from(tape.len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn a_tape_cannot_be_changed() {
        let tape = compile(&example::image(), &CompileOptions::default()).unwrap();
        let file = std::fs::File::from(tape.file().try_clone_to_owned().unwrap());
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn one_image_gives_one_tape() {
        let compile = || compile(&example::image(), &CompileOptions::default()).unwrap();
        assert_eq!(bytes(&compile()), bytes(&compile()));
    }

    #[test]
    fn what_is_read_must_be_there_before() {
        let image = example::image();
        let required = |memory| {
            let options = CompileOptions {
                memory,
                ..CompileOptions::default()
            };
            compile(&image, &options).unwrap().required().to_vec()
        };
        // The shared object; the code as well if memory is to be exact.
        assert_eq!(required(Memory::Shared), [(0x1000, 0x1000)]);
        assert_eq!(required(Memory::Exact), [(0x1000, 0x1000), (0, 0x1000)]);
    }

    #[test]
    fn only_memory_that_may_be_written_is_prepared() {
        let image = example::image();
        let entries = |written: Vec<(u64, u64)>| {
            let working_set = WorkingSet {
                written,
                ..WorkingSet::default()
            };
            let options = CompileOptions {
                working_set: Some(&working_set),
                ..CompileOptions::default()
            };
            compile(&image, &options).unwrap().entries()
        };
        // Code, a stack, shared memory, and what is not there at all.
        let none = [(0x7e00_0000_0000, 0x1000), (0x7e00_1000_0000, 0x1000)];
        let none = [&none[..], &[(0x7e00_2000_0000, 0x1000), (0, u64::MAX)]].concat();
        assert_eq!(entries(none), entries(Vec::new()));
    }
}
