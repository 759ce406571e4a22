//! The last ordinary code of a stub: it prepares its process for the tape, and starts it.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use crate::tape::Preamble;
use crate::{MappedFile, slot};

mod sys;

/// Where the tape writes why it failed.
pub(crate) const REPORT: i32 = 907;
/// Directories whose content the identity of a snapshot covers; the times of files in them differ
/// between machines.
const CONTENT_KNOWN: [&[u8]; 2] = [b"/var/task/", b"/opt/"];

/// Why a stub did not become the image's process. It has given up nothing, but is of no use any
/// more: its clocks or its descriptors may have changed.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("cannot read the tape")]
    Tape(#[source] io::Error),
    #[error("this process has id {is}, the image's has {wanted}")]
    Pid { is: i32, wanted: i32 },
    #[error("{} is not the file that the image was made with", String::from_utf8_lossy(.0))]
    FileChanged(Vec<u8>),
    #[error("cannot {action}: {source}")]
    Prepare {
        action: &'static str,
        source: io::Error,
    },
}

fn doing<T>(action: &'static str, result: io::Result<T>) -> Result<T, EnterError> {
    result.map_err(|source| EnterError::Prepare { action, source })
}

/// Turns this process into the image's whose tape is at [`slot::TAPE`]. Returns only on failure.
///
/// Once the tape plays, failure ends the process with status 99, after a line about the cause to
/// what standard error was.
///
/// # Safety
/// The process must have one thread and be disposable: everything in it is overwritten. The
/// descriptors of [`slot`] must be what they are said to be, and nothing else that is open may be
/// needed.
pub unsafe fn enter() -> EnterError {
    // SAFETY: the caller's promises are the same.
    match unsafe { prepare_and_play() } {
        Ok(never) => match never {},
        Err(err) => err,
    }
}

/// Goes through the motions of [`enter`], without any effect. A fork pays for memory that it writes
/// and code that it runs for the first time; one that does this first pays before it is asked for.
pub fn rehearse() {
    let Ok(sample) = Preamble::sample().and_then(|bytes| crate::tape::sealed_file(&bytes)) else {
        return;
    };
    if let Ok(sample) = sys::read_preamble(sample.as_raw_fd()) {
        let _ = sample.files.iter().map(check).filter(Result::is_ok).count();
        let _ = offsets(&sample);
    }
    for path in [OFFSETS, sys::TIME_FOR_CHILDREN.to_bytes()] {
        let _ = std::fs::File::open(std::ffi::OsStr::from_bytes(path));
    }
    sys::find_restartable_sequence();
}

enum Never {}

/// # Safety
/// As [`enter`].
unsafe fn prepare_and_play() -> Result<Never, EnterError> {
    sys::block_signals();
    // Else its files in /proc would belong to another user than it is, with an environment's own
    // user namespace.
    doing("become dumpable", sys::set_dumpable())?;
    let tape = sys::read_preamble(slot::TAPE).map_err(EnterError::Tape)?;
    let is = sys::process_id();
    if is != tape.pid {
        return Err(EnterError::Pid {
            is,
            wanted: tape.pid,
        });
    }
    for file in tape.files.iter().filter(|file| !file.writable) {
        check(file)?;
    }
    doing("keep the report", sys::duplicate(2, REPORT))?;
    if tape.userfault {
        let made = sys::hand_over_userfault(slot::USERFAULT_DEVICE, slot::USERFAULT_SOCKET);
        doing("make a userfaultfd", made)?;
    }
    doing("set the clocks", set_clocks(&tape))?;
    // SAFETY: the place is free or the kernel refuses it, and the file is a tape.
    doing("map the tape", unsafe { sys::map_tape(slot::TAPE, &tape) })?;
    // SAFETY: the process ends or is replaced; nothing uses restartable sequences from here on.
    unsafe { sys::forget_restartable_sequence() };
    // SAFETY: no code of this process reads the clock from here on.
    let parked = unsafe { sys::park(&tape.special) };
    doing("move the kernel's mappings", parked)?;
    // SAFETY: a tape is mapped there, which leaves nothing of this process.
    unsafe { sys::play(&tape) }
}

/// Memory of the image shows these files, so that another content would be another program.
fn check(file: &MappedFile) -> Result<(), EnterError> {
    let path = CString::new(file.path.as_slice()).ok();
    let found = path.and_then(|path| sys::size_and_time(&path));
    let timeless = CONTENT_KNOWN
        .iter()
        .any(|prefix| file.path.starts_with(prefix));
    match found {
        Some((size, time)) if size == file.size && (timeless || time == file.modified_ns) => Ok(()),
        _ => Err(EnterError::FileChanged(file.path.clone())),
    }
}

const OFFSETS: &[u8] = b"/proc/self/timens_offsets";

/// Makes the clocks go on from where the image's process saw them: a jump would expire all its
/// timers at once, and make V8 collect all garbage.
fn set_clocks(tape: &Preamble) -> io::Result<()> {
    let offsets = offsets(tape)?;
    sys::new_time_namespace()?;
    let file = std::ffi::OsStr::from_bytes(OFFSETS);
    // One write: the kernel takes it as a whole.
    let mut open = std::fs::OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut open, offsets.as_bytes())?;
    sys::enter_time_namespace()
}

/// What the image's clocks are ahead of this machine's, as the kernel reads it.
fn offsets(tape: &Preamble) -> io::Result<String> {
    let offset = |name: &str, clock, then: u64| -> io::Result<String> {
        let offset = i128::from(then) - i128::from(sys::clock(clock)?);
        let (seconds, nanoseconds) = (
            offset.div_euclid(1_000_000_000),
            offset.rem_euclid(1_000_000_000),
        );
        Ok(format!("{name} {seconds} {nanoseconds}\n"))
    };
    Ok(
        offset("monotonic", libc::CLOCK_MONOTONIC, tape.monotonic_ns)?
            + &offset("boottime", libc::CLOCK_BOOTTIME, tape.boottime_ns)?,
    )
}
