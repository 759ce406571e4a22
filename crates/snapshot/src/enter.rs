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
//! An order ([`order`]) is written by init, where ordinary code can run: it places the descriptors that come
//! with it, sets the clocks, maps the tape, and goes on there. So whatever takes time, above all
//! giving up the memory of the process that the stub is a copy of, is over before anybody waits.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;

use crate::tape::{ENTRY_BYTES, Expect, HIGHEST, Preamble, REPORT, Step, Stream, code};
use crate::{MappedFile, PAGE, slot};

mod sys;

/// Directories whose content the identity of a snapshot covers; the times of files in them differ
/// between machines.
const CONTENT_KNOWN: [&[u8]; 2] = [b"/var/task/", b"/opt/"];

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
/// Where the constants of an order begin; before are at most so many entries.
const CONSTANTS: usize = 64 * ENTRY_BYTES as usize;

/// The stub's own descriptors, above those that a tape knows.
const ORDERS: RawFd = 910;
const CLOCKS: RawFd = 911;
const TIME_NAMESPACE: RawFd = 912;

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

/// Looks up, once for this process and its copies, where the kernel's own mappings are.
pub fn rehearse() {
    let _ = special();
    let Ok(sample) = Preamble::sample().and_then(|bytes| crate::tape::sealed_file(&bytes)) else {
        return;
    };
    if let Ok(sample) = sys::read_preamble(sample.as_raw_fd()) {
        let _ = sample.files.iter().map(check).filter(Result::is_ok).count();
        let _ = write_order(&sample, &[slot::REPORT], &[]);
    }
    sys::find_restartable_sequence();
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
    // The offsets of its clocks can be set until something is in it.
    doing("make a time namespace", sys::new_time_namespace())?;
    let open = |path, flags, to| doing("open the clocks", sys::open(path, flags, to));
    open(c"/proc/self/timens_offsets", libc::O_WRONLY, CLOCKS)?;
    open(c"/proc/self/ns/time_for_children", libc::O_RDONLY, TIME_NAMESPACE)?;
    let special = doing("find the kernel's mappings", special())?;
    let image = lobby();
    // SAFETY: the place is free or the kernel refuses it.
    doing("map the interpreter", unsafe { sys::map_lobby(BASE, SPECIAL, &image) })?;
    // SAFETY: all that is closed is the caller's, who has no use for it.
    doing("close descriptors", unsafe { sys::close_but(ORDERS, TIME_NAMESPACE) })?;
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

/// What makes a stub the process of the image whose tape this is. To be sent together with descriptors:
/// the stub puts each under the number that `slots` has for it. `limits` are its resource limits
/// (`RLIMIT_*`, for both values) from then on.
///
/// To be called where the stub's files are seen, and in a process that has the memory layout that the
/// stub had, as one that it is a copy of does.
///
/// The stub ends with status 99 when an answer is not as expected, after a line about it to
/// [`slot::REPORT`].
pub fn order(
    tape: BorrowedFd<'_>,
    pid: i32,
    slots: &[RawFd],
    limits: &[(u32, u64)],
) -> Result<Vec<u8>, EnterError> {
    let tape = sys::read_preamble(tape.as_raw_fd()).map_err(EnterError::Tape)?;
    if pid != tape.pid {
        return Err(EnterError::Pid {
            is: pid,
            wanted: tape.pid,
        });
    }
    for file in tape.files.iter().filter(|file| !file.writable) {
        check(file)?;
    }
    write_order(&tape, slots, limits)
}

/// What makes a stub end with this status, after writing a text to the first of the descriptors that
/// it comes with.
pub fn dismissal(text: &str, status: i32) -> Vec<u8> {
    let mut order = Script::default();
    let text = &text.as_bytes()[..text.len().min(ORDER_BYTES / 2)];
    let at = order.constant(text);
    let args = [0, at, text.len() as u64];
    order.entries.call(libc::SYS_write, &args, Expect::Anything);
    let status = number(status);
    order
        .entries
        .call(libc::SYS_exit_group, &[status], Expect::Anything);
    order.finish().unwrap_or_default()
}

fn write_order(
    tape: &Preamble,
    slots: &[RawFd],
    limits: &[(u32, u64)],
) -> Result<Vec<u8>, EnterError> {
    let mut order = Script::default();
    order.about("place descriptors");
    // They have come under the lowest numbers, as all were free.
    for (fd, slot) in (0..).zip(slots) {
        let args = [fd, number(*slot), 0];
        order
            .entries
            .call(libc::SYS_dup3, &args, Expect::Is(number(*slot)));
    }
    order.about("limit resources");
    for (resource, most) in limits {
        let limit = order.constant(&bytes_of(&[*most, *most]));
        let args = [0, u64::from(*resource), limit, 0];
        order
            .entries
            .call(libc::SYS_prlimit64, &args, Expect::Is(0));
    }
    if tape.userfault {
        order.hand_over_userfault(slots.len() as u64);
    }
    order.about("set the clocks");
    let offsets = doing("read the clocks", offsets(tape))?;
    let at = order.constant(offsets.as_bytes());
    let len = offsets.len() as u64;
    // One write: the kernel takes it as a whole.
    order.entries.call(
        libc::SYS_write,
        &[number(CLOCKS), at, len],
        Expect::Is(len),
    );
    let namespace = libc::CLONE_NEWTIME.cast_unsigned().into();
    order.entries.call(
        libc::SYS_setns,
        &[number(TIME_NAMESPACE), namespace],
        Expect::Is(0),
    );
    order.map_tape(tape);
    order.about("move the kernel's mappings");
    let special = doing("find the kernel's mappings", special())?;
    let (Some((first, _)), Some((vdso, _))) = (special.first(), special.last()) else {
        let source = io::ErrorKind::Unsupported.into();
        let action = "find the kernel's mappings";
        return Err(EnterError::Prepare { action, source });
    };
    let vdso = SPECIAL + (vdso - first);
    for (offset, len, place) in &tape.special {
        let start = vdso.wrapping_add_signed(*offset);
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED).cast_unsigned();
        let args = [start, *len, *len, flags.into(), *place];
        order
            .entries
            .call(libc::SYS_mremap, &args, Expect::Is(*place));
    }
    order.entries.step(Step::Goto {
        code: tape.base,
        entry: tape.entry,
    });
    order.finish()
}

/// An order in the making.
#[derive(Default)]
struct Script {
    entries: Stream,
    constants: Vec<u8>,
}

impl Script {
    fn constant(&mut self, bytes: &[u8]) -> u64 {
        self.constants
            .resize(self.constants.len().next_multiple_of(8), 0);
        let address = ORDER + CONSTANTS as u64 + self.constants.len() as u64;
        self.constants.extend(bytes);
        address
    }

    fn about(&mut self, text: &str) {
        let at = self.constant(text.as_bytes());
        self.entries.label((at, text.len() as u64));
    }

    /// Makes a userfaultfd for this process, hands it over, and leaves it under the device's number,
    /// where the tape looks for it.
    ///
    /// Its features are chosen by the receiver: the kernel lets only a privileged process ask for
    /// word of forks, and this one may be privileged in its user namespace only. The receiver answers
    /// with a byte once that is done.
    fn hand_over_userfault(&mut self, lowest: u64) {
        const USERFAULTFD_IOC_NEW: u64 = 0xaa00;
        let device = number(slot::USERFAULT_DEVICE);
        let socket = number(slot::USERFAULT_SOCKET);
        self.about("make a userfaultfd");
        let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK).cast_unsigned();
        let args = [device, USERFAULTFD_IOC_NEW, flags.into()];
        self.entries
            .call(libc::SYS_ioctl, &args, Expect::Is(lowest));
        let byte = self.constant(&[0]);
        let vector = self.constant(&bytes_of(&[byte, 1]));
        // A cmsghdr: its length without padding, SOL_SOCKET and SCM_RIGHTS, the descriptor.
        const LENGTH: u64 = 20;
        let kind = (libc::SCM_RIGHTS.cast_unsigned() as u64) << 32
            | libc::SOL_SOCKET.cast_unsigned() as u64;
        let control = self.constant(&bytes_of(&[LENGTH, kind, lowest]));
        let header = self.constant(&bytes_of(&[0, 0, vector, 1, control, 24, 0]));
        let quietly = libc::MSG_NOSIGNAL.cast_unsigned().into();
        self.entries.call(
            libc::SYS_sendmsg,
            &[socket, header, quietly],
            Expect::Is(1),
        );
        let closed = libc::O_CLOEXEC.cast_unsigned().into();
        self.entries.call(
            libc::SYS_dup3,
            &[lowest, device, closed],
            Expect::Is(device),
        );
        self.entries
            .call(libc::SYS_close, &[lowest], Expect::Is(0));
        let args = [socket, byte, 1, 0, 0, 0];
        self.entries
            .call(libc::SYS_recvfrom, &args, Expect::Is(1));
    }

    /// The whole hole is free: a stub has nothing below its own place.
    fn map_tape(&mut self, tape: &Preamble) {
        self.about("map the tape");
        let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE).cast_unsigned();
        let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let args = [
            tape.base,
            tape.len,
            number(read),
            flags.into(),
            number(slot::TAPE),
            0,
        ];
        self.entries
            .call(libc::SYS_mmap, &args, Expect::Is(tape.base));
        for (start, len, protection) in [
            (tape.base, PAGE, read | execute),
            (tape.base + PAGE, tape.writable_len, read | write),
        ] {
            let args = [start, len, number(protection)];
            self.entries
                .call(libc::SYS_mprotect, &args, Expect::Is(0));
        }
    }

    fn finish(self) -> Result<Vec<u8>, EnterError> {
        let mut bytes = self.entries.bytes();
        if bytes.len() > CONSTANTS || CONSTANTS + self.constants.len() > ORDER_BYTES {
            return Err(EnterError::TooLarge);
        }
        bytes.resize(CONSTANTS, 0);
        bytes.extend(self.constants);
        Ok(bytes)
    }
}

/// As the kernel takes it in a register.
fn number(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
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

/// What the image's clocks are ahead of this machine's, as the kernel reads it: they go on from
/// where the image's process saw them. A jump would expire all its timers at once, and make V8
/// collect all garbage.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_too_small_to_be_split_and_too_large_to_be_sent_in_silence() {
        let sample = Preamble::decode(&sample()).unwrap();
        let order = write_order(&sample, &[slot::REPORT, slot::TAPE], &[(6, 100)]).unwrap();
        assert!(order.len() > CONSTANTS && order.len() <= ORDER_BYTES);
        let many = vec![slot::TAPE; 100];
        assert!(matches!(
            write_order(&sample, &many, &[]),
            Err(EnterError::TooLarge)
        ));
    }

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

    #[test]
    fn a_dismissal_says_why() {
        let order = dismissal("no such file", 98);
        let text = &order[CONSTANTS..];
        assert_eq!(text, b"no such file");
    }

    fn sample() -> Vec<u8> {
        let bytes = Preamble::sample().unwrap();
        let trailer = bytes[bytes.len() - 16..].try_into().unwrap();
        let (start, len) = Preamble::find(bytes.len() as u64, trailer).unwrap();
        let start = usize::try_from(start).unwrap();
        bytes[start..start + len].to_vec()
    }
}
