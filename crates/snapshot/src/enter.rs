//! The process that becomes a clone: it waits until it is told what to become.
//!
//! [`wait`] turns a copy of the environment's init into a *stub*: a process with next to no memory.
//! What is left is the interpreter of tapes, on a page of its own, and a few entries for it:
//!
//! ```text
//! BASE              interpreter
//! BASE + 4096       what it writes; at the end its entries: unmap all else, receive an order
//! BASE + 8192       the order: more entries, then what they point to
//! BASE + 1 MiB      the kernel's own mappings
//! ```
//!
//! An order ([`Order`]) is written by init, where ordinary code can run. To become a clone it places the
//! descriptors that come with it, sets the clocks, maps the tape, and goes on there; to become a program it
//! executes it. So whatever takes time, above all giving up the memory of the process that the stub is a
//! copy of, is over before anybody waits.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use crate::PAGE;
use crate::tape::{ENTRY_BYTES, Expect, HIGHEST, REPORT, Stream, code, number};

mod order;
mod sys;

pub use order::{Order, rehearse};

/// Above all holes that tapes are put into, below all position-independent programs.
const BASE: u64 = HIGHEST;
const DATA: u64 = BASE + PAGE;
const ORDER: u64 = DATA + PAGE;
const ORDER_BYTES: usize = 64 << 10;
const SPECIAL: u64 = BASE + (1 << 20);
const END: u64 = BASE + (2 << 20);
/// The entries that come before an order.
const ENTRIES: u64 = 3;
const ENTRY: u64 = ORDER - ENTRIES * ENTRY_BYTES;
/// Where the constants of an order begin; before them is room for the entries.
const CONSTANTS: usize = 96 * 64;
const _: () = assert!(
    ENTRY_BYTES == 64 && PAGE == 4096,
    "the interpreter's layout"
);

/// The stub's own descriptors, above those that a tape knows.
const ORDERS: RawFd = 910;
const CLOCKS: RawFd = 911;
/// For its children, until it enters it.
const TIME_NAMESPACE: RawFd = 912;
const OWN_TIME_NAMESPACE: RawFd = 913;

/// Why a process cannot become an image's.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("cannot read the tape")]
    Tape(#[source] io::Error),
    #[error("this process has id {is}, the image's has {wanted}")]
    Pid { is: i32, wanted: i32 },
    #[error("{} is not the file that the image was made with", String::from_utf8_lossy(.0))]
    FileChanged(Vec<u8>),
    #[error("an order has no room for all of it")]
    TooLarge,
    #[error("cannot {action}: {source}")]
    Prepare {
        action: &'static str,
        source: io::Error,
    },
}

fn doing<T>(action: &'static str, result: io::Result<T>) -> Result<T, EnterError> {
    result.map_err(|source| EnterError::Prepare { action, source })
}

/// Makes this process a stub that waits for an order on `orders`, a packet socket. Returns only on
/// failure. The stub ends with status 99 when the other end is closed.
///
/// # Safety
/// The process must have one thread and be disposable: everything in it is given up, and every
/// descriptor but this one closed.
pub unsafe fn wait(orders: RawFd) -> EnterError {
    // SAFETY: the caller's promises are the same.
    match unsafe { settle(orders) } {
        Ok(never) => match never {},
        Err(err) => err,
    }
}

enum Never {}

/// # Safety
/// As [`wait`].
unsafe fn settle(orders: RawFd) -> Result<Never, EnterError> {
    if code().is_empty() {
        return doing("wait", Err(io::ErrorKind::Unsupported.into()));
    }
    sys::block_signals();
    // Else its files in /proc would belong to another user than it is, with an environment's own
    // user namespace.
    doing("become dumpable", sys::set_dumpable())?;
    doing("keep the socket", sys::duplicate(orders, ORDERS))?;
    // Without one, no order that needs it works.
    let _ = make_time_namespace();
    let special = doing("find the kernel's mappings", special())?;
    let image = lobby();
    // SAFETY: the place is free or the kernel refuses it.
    doing("map the interpreter", unsafe {
        sys::map_lobby(BASE, SPECIAL, &image)
    })?;
    // SAFETY: all that is closed is the caller's, who has no use for it.
    doing("close descriptors", unsafe {
        sys::close_but(ORDERS, OWN_TIME_NAMESPACE)
    })?;
    // SAFETY: the process ends or is replaced; nothing uses restartable sequences from here on.
    unsafe { sys::forget_restartable_sequence() };
    let first = special.first().map_or(0, |(start, _)| *start);
    for (start, len) in special {
        // SAFETY: no code of this process reads the clock from here on.
        let moved = unsafe { sys::move_mapping(*start, *len, SPECIAL + (start - first)) };
        doing("move the kernel's mappings", moved)?;
    }
    // SAFETY: the interpreter is mapped there, and its entries leave nothing of this process.
    unsafe { sys::play(BASE, ENTRY) }
}

/// The offsets of its clocks can be set until something is in it.
fn make_time_namespace() -> io::Result<()> {
    sys::open(c"/proc/self/ns/time", libc::O_RDONLY, OWN_TIME_NAMESPACE)?;
    sys::new_time_namespace()?;
    sys::open(c"/proc/self/timens_offsets", libc::O_WRONLY, CLOCKS)?;
    let namespace = c"/proc/self/ns/time_for_children";
    sys::open(namespace, libc::O_RDONLY, TIME_NAMESPACE)
}

/// Interpreter and data, up to where orders go.
fn lobby() -> Vec<u8> {
    const HEADER: u64 = DATA + 64;
    const VECTOR: u64 = HEADER + 64;
    const CONTROL: u64 = VECTOR + 64;
    const CONTROL_BYTES: u64 = 1024;
    let mut image = code().to_vec();
    let mut put = |address: u64, bytes: &[u8]| {
        let at = usize::try_from(address - BASE).unwrap_or(0);
        image.resize(image.len().max(at + bytes.len()), 0);
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(DATA, REPORT);
    let header = [0, 0, VECTOR, 1, CONTROL, CONTROL_BYTES, 0];
    put(HEADER, &bytes_of(&header));
    put(VECTOR, &bytes_of(&[ORDER, ORDER_BYTES as u64]));
    let mut entries = Stream::default();
    let everything = 0x7fff_ffff_f000;
    for (start, end) in [(0, BASE), (END, everything)] {
        entries.call(libc::SYS_munmap, &[start, end - start], Expect::Is(0));
    }
    // Once the other end is closed it answers 0. What comes next is then an order of zeroes: a read
    // from a descriptor that is not there, which fails.
    entries.call(
        libc::SYS_recvmsg,
        &[number(ORDERS), HEADER, 0],
        Expect::Success,
    );
    put(ENTRY, &entries.bytes());
    image
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Start and length of the kernel's own mappings, the vDSO last. Copies of this process have them at
/// the same places.
fn special() -> io::Result<&'static [(u64, u64)]> {
    static SPECIAL_MAPPINGS: OnceLock<Vec<(u64, u64)>> = OnceLock::new();
    if let Some(known) = SPECIAL_MAPPINGS.get() {
        return Ok(known);
    }
    let found = sys::special_mappings()?;
    Ok(SPECIAL_MAPPINGS.get_or_init(|| found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreters_entries_end_where_orders_begin() {
        let image = lobby();
        assert_eq!(image.len() as u64, ORDER - BASE);
        let last = &image[image.len() - 64..];
        let number = i64::from_ne_bytes(last[..8].try_into().unwrap());
        assert_eq!(number, libc::SYS_recvmsg);
    }

    #[test]
    fn the_vdso_is_the_last_of_the_kernels_mappings() {
        let found = special().unwrap();
        // SAFETY: the call takes a number only.
        let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
        assert_eq!(found.last().map(|(start, _)| *start), Some(vdso));
        assert!(found.is_sorted());
    }
}
