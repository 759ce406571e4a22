//! What a stub is told.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::{
    CLOCKS, CONSTANTS, EnterError, ORDER, ORDER_BYTES, OWN_TIME_NAMESPACE, SPECIAL, TIME_NAMESPACE,
    bytes_of, doing, special, sys,
};
use crate::tape::{self, Expect, Preamble, Step, Stream, number};
use crate::{MappedFile, PAGE, slot};

/// Directories whose content the identity of a snapshot covers; the times of files in them differ
/// between machines.
const CONTENT_KNOWN: [&[u8]; 2] = [b"/var/task/", b"/opt/"];

/// Calls for a stub to make, one after the other, and what they point to.
///
/// The descriptors that are sent with it the stub has under the numbers from 0 on. An answer other than
/// the expected one ends the stub with status 99, after a line such as `set the clocks: call 0001
/// answered -0009` to [`slot::REPORT`].
#[derive(Debug, Default)]
pub struct Order {
    entries: Stream,
    constants: Vec<u8>,
}

impl Order {
    /// To become the process of the image whose tape this is. The descriptors that come with the order
    /// go to `slots`. `limits` are resource limits (`RLIMIT_*`, for both values).
    ///
    /// To be written where the stub's files are seen, by a process that the stub is a copy of.
    pub fn to_thaw(
        file: BorrowedFd<'_>,
        pid: i32,
        slots: &[RawFd],
        limits: &[(u32, u64)],
    ) -> Result<Self, EnterError> {
        let tape = sys::read_preamble(file.as_raw_fd()).map_err(EnterError::Tape)?;
        if pid != tape.pid {
            return Err(EnterError::Pid {
                is: pid,
                wanted: tape.pid,
            });
        }
        for file in tape.files.iter().filter(|file| !file.writable) {
            check(file)?;
        }
        Self::of(&tape, slots, limits)
    }

    /// To write a text to the first descriptor that comes with the order, and end.
    pub fn to_end(text: &str, status: i32) -> Self {
        let mut order = Self::default();
        let text = &text.as_bytes()[..text.len().min(ORDER_BYTES / 2)];
        let at = order.constant(text);
        let args = [0, at, text.len() as u64];
        order.entries.call(libc::SYS_write, &args, Expect::Anything);
        let args = [number(status)];
        order
            .entries
            .call(libc::SYS_exit_group, &args, Expect::Anything);
        order
    }

    fn of(tape: &Preamble, slots: &[RawFd], limits: &[(u32, u64)]) -> Result<Self, EnterError> {
        let mut order = Self::default();
        order.about(b"place descriptors");
        for (slot, fd) in slots.iter().zip(0..) {
            order.place(fd, *slot, 0);
        }
        order.about(b"limit resources");
        for (resource, most) in limits {
            order.limit(*resource, *most);
        }
        if tape.userfault {
            order.hand_over_userfault(RawFd::try_from(slots.len()).unwrap_or(RawFd::MAX));
        }
        order.set_clocks(tape)?;
        order.map_tape(tape);
        order.move_special(tape)?;
        order.entries.step(Step::Goto {
            code: tape.base,
            entry: tape.entry,
        });
        Ok(order)
    }

    /// What the next calls are about.
    pub fn about(&mut self, text: &[u8]) {
        let at = self.constant(text);
        self.entries.label((at, text.len() as u64));
    }

    /// A call that must answer 0. Arguments that point somewhere are constants of this order.
    pub fn call(&mut self, call: i64, args: &[u64]) {
        self.entries.call(call, args, Expect::Is(0));
    }

    /// A call that may answer anything but an error.
    pub fn call_for(&mut self, call: i64, args: &[u64]) {
        self.entries.call(call, args, Expect::Success);
    }

    /// Puts a descriptor under a number, with `O_CLOEXEC` or without.
    pub fn place(&mut self, fd: RawFd, target: RawFd, flags: i32) {
        let args = [number(fd), number(target), number(flags)];
        self.entries
            .call(libc::SYS_dup3, &args, Expect::Is(number(target)));
    }

    /// Closes the descriptors between the two, both included.
    pub fn close(&mut self, first: RawFd, last: RawFd) {
        self.call(libc::SYS_close_range, &[number(first), number(last), 0]);
    }

    /// Gives up every capability.
    pub fn drop_capabilities(&mut self) {
        let header = self.words(&[tape::CAPABILITY_VERSION]);
        let none = self.words(&[0; 3]);
        self.call(libc::SYS_capset, &[header, none]);
    }

    /// Installs a system call filter.
    pub fn filter(&mut self, filter: &[libc::sock_filter]) {
        let lines = self.constant(&tape::filter_bytes(filter));
        let program = self.words(&[filter.len() as u64, lines]);
        let mode = libc::SECCOMP_SET_MODE_FILTER.into();
        self.call(libc::SYS_seccomp, &[mode, 0, program]);
    }

    /// Executes a program, with no signal blocked.
    pub fn execute(&mut self, program: &CStr, args: &[CString], env: &[CString]) {
        let none = self.words(&[0]);
        let set = number(libc::SIG_SETMASK);
        self.call(libc::SYS_rt_sigprocmask, &[set, none, 0, 8]);
        let program = self.text(program);
        let mut list = |texts: &[CString]| {
            let mut list: Vec<_> = texts.iter().map(|text| self.text(text)).collect();
            list.push(0);
            self.words(&list)
        };
        let (args, env) = (list(args), list(env));
        self.call(libc::SYS_execve, &[program, args, env]);
    }

    /// As [`Order::constant`].
    pub fn text(&mut self, text: &CStr) -> u64 {
        self.constant(text.to_bytes_with_nul())
    }

    /// Sets both values of a resource limit.
    pub fn limit(&mut self, resource: u32, most: u64) {
        let limit = self.words(&[most, most]);
        self.call(libc::SYS_prlimit64, &[0, u64::from(resource), limit, 0]);
    }

    /// Has what is executed run in the time namespace that the stub has been in all along.
    pub fn keep_time(&mut self) {
        let namespace = number(libc::CLONE_NEWTIME);
        let args = [number(OWN_TIME_NAMESPACE), namespace];
        // It fails where there are no such namespaces.
        self.entries.call(libc::SYS_setns, &args, Expect::Anything);
    }

    /// Where in the stub's memory these bytes will be.
    pub fn constant(&mut self, bytes: &[u8]) -> u64 {
        self.constants
            .resize(self.constants.len().next_multiple_of(8), 0);
        let address = ORDER + CONSTANTS as u64 + self.constants.len() as u64;
        self.constants.extend(bytes);
        address
    }

    /// As [`Order::constant`].
    pub fn words(&mut self, words: &[u64]) -> u64 {
        self.constant(&bytes_of(words))
    }

    /// The packet to be sent.
    pub fn finish(self) -> Result<Vec<u8>, EnterError> {
        let mut bytes = self.entries.bytes();
        if bytes.len() > CONSTANTS || CONSTANTS + self.constants.len() > ORDER_BYTES {
            return Err(EnterError::TooLarge);
        }
        bytes.resize(CONSTANTS, 0);
        bytes.extend(self.constants);
        Ok(bytes)
    }

    /// Makes a userfaultfd for this process, hands it over, and leaves it under the device's number,
    /// where the tape looks for it.
    ///
    /// Its features are chosen by the receiver: the kernel lets only a privileged process ask for
    /// word of forks, and this one may be privileged in its user namespace only. The receiver answers
    /// with a byte once that is done.
    fn hand_over_userfault(&mut self, lowest: RawFd) {
        const USERFAULTFD_IOC_NEW: u64 = 0xaa00;
        let device = number(slot::USERFAULT_DEVICE);
        let socket = number(slot::USERFAULT_SOCKET);
        self.about(b"make a userfaultfd");
        let flags = number(libc::O_CLOEXEC | libc::O_NONBLOCK);
        let args = [device, USERFAULTFD_IOC_NEW, flags];
        self.entries
            .call(libc::SYS_ioctl, &args, Expect::Is(number(lowest)));
        let byte = self.constant(&[0]);
        let vector = self.words(&[byte, 1]);
        // A cmsghdr: its length without padding, SOL_SOCKET and SCM_RIGHTS, the descriptor.
        let kind = number(libc::SCM_RIGHTS) << 32 | number(libc::SOL_SOCKET);
        let control = self.words(&[20, kind, number(lowest)]);
        let header = self.words(&[0, 0, vector, 1, control, 24, 0]);
        let args = [socket, header, number(libc::MSG_NOSIGNAL)];
        self.entries.call(libc::SYS_sendmsg, &args, Expect::Is(1));
        self.place(lowest, slot::USERFAULT_DEVICE, libc::O_CLOEXEC);
        self.close(lowest, lowest);
        let args = [socket, byte, 1, 0, 0, 0];
        self.entries.call(libc::SYS_recvfrom, &args, Expect::Is(1));
    }

    /// The clocks go on from where the image's process saw them. A jump would expire all its timers
    /// at once, and make V8 collect all garbage.
    fn set_clocks(&mut self, tape: &Preamble) -> Result<(), EnterError> {
        self.about(b"set the clocks");
        let offsets = doing("read the clocks", offsets(tape))?;
        let at = self.constant(offsets.as_bytes());
        let len = offsets.len() as u64;
        // One write: the kernel takes it as a whole.
        let args = [number(CLOCKS), at, len];
        self.entries.call(libc::SYS_write, &args, Expect::Is(len));
        let namespace = number(libc::CLONE_NEWTIME);
        self.call(libc::SYS_setns, &[number(TIME_NAMESPACE), namespace]);
        Ok(())
    }

    /// The whole hole is free: a stub has nothing below its own place.
    fn map_tape(&mut self, tape: &Preamble) {
        self.about(b"map the tape");
        let flags = number(libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE);
        let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let file = number(slot::TAPE);
        let args = [tape.base, tape.len, number(read), flags, file, 0];
        self.entries
            .call(libc::SYS_mmap, &args, Expect::Is(tape.base));
        for (start, len, protection) in [
            (tape.base, PAGE, read | execute),
            (tape.base + PAGE, tape.writable_len, read | write),
        ] {
            self.call(libc::SYS_mprotect, &[start, len, number(protection)]);
        }
    }

    /// The kernel's own mappings, to where the tape expects them.
    fn move_special(&mut self, tape: &Preamble) -> Result<(), EnterError> {
        self.about(b"move the kernel's mappings");
        let special = doing("find the kernel's mappings", special())?;
        let (Some((first, _)), Some((vdso, _))) = (special.first(), special.last()) else {
            let none = Err(io::ErrorKind::Unsupported.into());
            return doing("find the kernel's mappings", none);
        };
        let vdso = SPECIAL + (vdso - first);
        for (offset, len, place) in &tape.special {
            let start = vdso.wrapping_add_signed(*offset);
            let flags = number(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
            let args = [start, *len, *len, flags, *place];
            self.entries
                .call(libc::SYS_mremap, &args, Expect::Is(*place));
        }
        Ok(())
    }
}

/// Writes an order for nobody: memory that a process writes for the first time, and code that it runs
/// for the first time, cost it a page fault each. What is looked up is known to its copies as well.
pub fn rehearse() {
    let Ok(sample) = Preamble::sample().and_then(|bytes| tape::sealed_file(&bytes)) else {
        return;
    };
    if let Ok(sample) = sys::read_preamble(sample.as_raw_fd()) {
        let _ = sample.files.iter().map(check).filter(Result::is_ok).count();
        let _ = Order::of(&sample, &[slot::REPORT], &[]).map(Order::finish);
    }
    sys::find_restartable_sequence();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Preamble {
        let bytes = Preamble::sample().unwrap();
        let trailer = bytes[bytes.len() - 16..].try_into().unwrap();
        let (start, len) = Preamble::find(bytes.len() as u64, trailer).unwrap();
        let start = usize::try_from(start).unwrap();
        Preamble::decode(&bytes[start..start + len]).unwrap()
    }

    #[test]
    fn an_order_is_refused_when_the_stub_has_no_room_for_it() {
        let order = |slots: &[i32]| Order::of(&sample(), slots, &[(6, 100)]).unwrap().finish();
        let fits = order(&[slot::REPORT, slot::TAPE]).unwrap();
        assert!(fits.len() > CONSTANTS && fits.len() <= ORDER_BYTES);
        assert!(matches!(
            order(&[slot::TAPE; 300]),
            Err(EnterError::TooLarge)
        ));
        let mut order = Order::default();
        order.constant(&[1; ORDER_BYTES]);
        assert!(matches!(order.finish(), Err(EnterError::TooLarge)));
    }

    #[test]
    fn an_order_to_end_says_why() {
        let order = Order::to_end("no such file", 98).finish().unwrap();
        assert_eq!(&order[CONSTANTS..], b"no such file");
    }
}
