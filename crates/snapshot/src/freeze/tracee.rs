//! A process that has been stopped, thread by thread.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::error::{Doing, FreezeError, Result, unsupported};
use super::registers::{self, RAX};
use super::sys::{self, Registers, Request};
use super::{proc, registers::Snapshot};

/// Stop signal of a trap that `PTRACE_INTERRUPT` caused, in the upper bits of the wait status.
const EVENT_STOP: i32 = 128;
/// Entry to or exit from a system call, with `OPTION_SYSGOOD`.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// A thread that stands.
pub struct Thread {
    /// As this process numbers it.
    pub tid: i32,
    /// As its own namespace numbers it.
    pub inner: i32,
    /// As they were when it stopped.
    pub registers: Registers,
    pub signal_mask: u64,
}

/// A process of which every thread stands still. Dropping it lets it run on as if nothing had
/// been.
///
/// All tracing is done by the operating system thread that seized it; the type cannot leave it.
/// Threads that could not be made to stand and be let go are the kernel's when that thread ends.
pub struct Tracee {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub memory: File,
    /// The main one first.
    pub threads: Vec<Thread>,
    /// Threads that are traced, whether they stand or not.
    seized: Vec<i32>,
    deadline: Instant,
    /// Address of a `syscall` instruction, and of memory for its results.
    gadget: Option<Gadget>,
    ended: bool,
    not_send: std::marker::PhantomData<*mut ()>,
}

#[derive(Debug, Clone)]
struct Gadget {
    instruction: u64,
    scratch: u64,
    saved: Vec<u8>,
}

/// Waiting this long, it is time to look why; and the longest pause between two looks.
const LONG: Duration = Duration::from_millis(5);

/// Bytes that an injected call may use for its results.
pub const SCRATCH: usize = 256;

impl Tracee {
    /// Stops all threads.
    pub fn seize(pid: i32, timeout: Duration) -> Result<Self> {
        let pidfd = sys::pidfd_open(pid).doing(|| format!("open process {pid}"))?;
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(&path);
        let mut tracee = Self {
            pid,
            pidfd,
            memory: memory.doing(|| format!("open {path}"))?,
            threads: Vec::new(),
            seized: Vec::new(),
            deadline: deadline(timeout),
            gadget: None,
            ended: false,
            not_send: std::marker::PhantomData,
        };
        // Threads that run can start others; when all that are there stand still, nobody can.
        loop {
            let mut new = proc::threads(pid)?;
            new.retain(|tid| !tracee.seized.contains(tid));
            if new.is_empty() {
                break;
            }
            for tid in new {
                tracee.seize_thread(tid)?;
            }
        }
        if !tracee.seized.contains(&pid) {
            return Err(FreezeError::Gone);
        }
        for at in 0..tracee.seized.len() {
            let thread = tracee.look_at(tracee.seized[at])?;
            tracee.threads.push(thread);
        }
        tracee
            .threads
            .sort_by_key(|thread| (thread.tid != pid, thread.inner));
        // From here on threads may be made to do what they would not have done: none of that may
        // go on without this process. Before, all may.
        for thread in &tracee.threads {
            let set = set_options(thread.tid, sys::OPTION_EXITKILL, |options| {
                Request::SetOptions { options }
            });
            set.doing(|| format!("set options of tracing thread {}", thread.inner))?;
        }
        Ok(tracee)
    }

    fn look_at(&self, tid: i32) -> Result<Thread> {
        let status = proc::Status::read(self.pid, &format!("task/{tid}/status"))?;
        let inner = status.innermost();
        let Some(registers) = sys::registers(tid).doing(|| "read registers".into())? else {
            return unsupported(format!("thread {inner} is not a 64-bit one"));
        };
        Ok(Thread {
            tid,
            inner,
            registers,
            signal_mask: sys::signal_mask(tid).doing(|| "read the signal mask".into())?,
        })
    }

    fn seize_thread(&mut self, tid: i32) -> Result<()> {
        match set_options(tid, 0, |options| Request::Seize { options }) {
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            result => result.doing(|| format!("trace thread {tid}"))?,
        }
        // From here on it is ours to let go.
        self.seized.push(tid);
        sys::ptrace(tid, Request::Interrupt).doing(|| format!("interrupt thread {tid}"))?;
        match self.stop(tid) {
            // A thread may end at any moment; the process does if it was the main one.
            Err(FreezeError::Gone) if tid != self.pid => {
                self.seized.pop();
                Ok(())
            }
            result => result,
        }
    }

    /// Waits until an interrupted thread stands, delivering signals that come first.
    fn stop(&self, tid: i32) -> Result<()> {
        loop {
            let status = self.wait(tid)?;
            let signal = (status >> 8) & 0xff;
            match status >> 16 {
                EVENT_STOP if signal == libc::SIGTRAP => return Ok(()),
                // Of a call that was injected and did not get as far in time.
                0 if signal == SYSCALL_STOP => return Ok(()),
                EVENT_STOP => {
                    return unsupported(format!("it has been stopped by signal {signal}"));
                }
                _ => {
                    let go_on = Request::Continue { signal };
                    sys::ptrace(tid, go_on).doing(|| "deliver a signal".into())?;
                }
            }
        }
    }

    /// The next stop of a thread, as a wait status.
    fn wait(&self, tid: i32) -> Result<i32> {
        let mut pause = Duration::from_micros(5);
        loop {
            match sys::wait_now(tid) {
                Ok(Some(status)) if libc::WIFSTOPPED(status) => return Ok(status),
                Ok(Some(_)) => return Err(FreezeError::Gone),
                Err(err) if err.raw_os_error() == Some(libc::ECHILD) => {
                    return Err(FreezeError::Gone);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err).doing(|| format!("wait for thread {tid}")),
                Ok(None) => {}
            }
            if Instant::now() > self.deadline {
                // It may have been on its way into the freezer when it was first looked at.
                super::census::refuse_frozen(self.pid, tid)?;
                let err = io::Error::from(io::ErrorKind::TimedOut);
                return Err(err).doing(|| format!("wait for thread {tid}"));
            }
            // Of a process that ends, the main thread's end is told last of all, those included
            // that nobody waits for now.
            if pause >= LONG && !self.ended && tid == self.pid && super::census::has_ended(tid) {
                return Err(FreezeError::Gone);
            }
            // Mostly it takes microseconds.
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONG);
        }
    }

    pub fn main(&self) -> &Thread {
        &self.threads[0]
    }

    /// Ids as this process numbers them, with those inside.
    pub fn inner_ids(&self) -> HashMap<i32, i32> {
        let pair = |thread: &Thread| (thread.tid, thread.inner);
        self.threads.iter().map(pair).collect()
    }

    pub fn read(&self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    pub fn read_u64(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Finds what injected calls need: an instruction, and a writable place.
    pub fn prepare(&mut self, vmas: &[proc::Vma]) -> Result<()> {
        let code = vmas.iter().find(|vma| vma.name == b"[vdso]");
        let Some(code) = code else {
            return unsupported("it has no vDSO");
        };
        let len = usize::try_from(code.len().min(1 << 20)).unwrap_or(0);
        let bytes = self
            .read(code.start, len)
            .doing(|| "read the vDSO".into())?;
        let Some(at) = bytes.windows(2).position(|two| two == [0x0f, 0x05]) else {
            return unsupported("its vDSO has no system call instruction");
        };
        let plain = |vma: &&proc::Vma| vma.read && vma.write && !vma.shared && vma.inode == 0;
        let stack = vmas.iter().find(|vma| vma.name == b"[stack]");
        let place = stack.filter(plain).or_else(|| {
            let resident = |vma: &&proc::Vma| plain(vma) && vma.resident > 0 && !vma.has(b"wf");
            vmas.iter().find(resident)
        });
        let Some(place) = place else {
            return unsupported("it has no writable memory");
        };
        // The low end of a stack is the part used last.
        let saved = self
            .read(place.start, SCRATCH)
            .doing(|| "read memory".into())?;
        self.gadget = Some(Gadget {
            instruction: code.start + at as u64,
            scratch: place.start,
            saved,
        });
        Ok(())
    }

    /// Makes thread number `at` do a system call, which may write results to the address that
    /// `arguments` is given. Returns what the call returned and the results.
    pub fn inject(
        &self,
        at: usize,
        number: libc::c_long,
        arguments: impl FnOnce(u64) -> [u64; 4],
    ) -> Result<(i64, Vec<u8>)> {
        let gadget = self.gadget.as_ref();
        let gadget = gadget
            .ok_or_else(|| io::Error::other("not prepared"))
            .doing(String::new)?;
        let thread = &self.threads[at];
        let zeroes = [0; SCRATCH];
        let clear = self.memory.write_all_at(&zeroes, gadget.scratch);
        clear.doing(|| "write memory".into())?;
        let mut registers = thread.registers;
        registers::call(
            &mut registers,
            gadget.instruction,
            number.cast_unsigned(),
            arguments(gadget.scratch),
        );
        let tid = thread.tid;
        // A handler must not get in between.
        sys::set_signal_mask(tid, u64::MAX).doing(|| "block signals".into())?;
        sys::set_registers(tid, &registers).doing(|| "set registers".into())?;
        for _ in 0..2 {
            sys::ptrace(tid, Request::ToSyscall).doing(|| "inject a system call".into())?;
            let status = self.wait(tid)?;
            if (status >> 8) & 0xff != SYSCALL_STOP {
                let err = io::Error::other(format!("unexpected stop {status:x}"));
                return Err(err).doing(|| "inject a system call".into());
            }
        }
        let after = sys::registers(tid).doing(|| "read registers".into())?;
        let result = after.map_or(i64::MIN, |registers| registers[RAX].cast_signed());
        let read = self.read(gadget.scratch, SCRATCH);
        let bytes = read.doing(|| "read memory".into())?;
        Ok((result, bytes))
    }

    /// Like [`Tracee::inject`] for calls that must succeed.
    pub fn ask(
        &self,
        at: usize,
        number: libc::c_long,
        arguments: impl FnOnce(u64) -> [u64; 4],
    ) -> Result<Vec<u8>> {
        match self.inject(at, number, arguments)? {
            (0.., bytes) => Ok(bytes),
            (errno, _) => {
                let errno = i32::try_from(-errno).unwrap_or(libc::EINVAL);
                let err = io::Error::from_raw_os_error(errno);
                Err(err).doing(|| format!("system call {number} in the process"))
            }
        }
    }

    /// Puts memory and registers back to what they were.
    pub fn restore(&mut self) -> Result<()> {
        self.restore_memory()?;
        self.threads.iter().try_for_each(Thread::restore)
    }

    fn restore_memory(&mut self) -> Result<()> {
        let Some(gadget) = self.gadget.take() else {
            return Ok(());
        };
        let put_back = self.memory.write_all_at(&gadget.saved, gadget.scratch);
        put_back.doing(|| "put memory back".into())
    }

    /// Ends the process. Its threads stay zombies, and its pid namespace alive, until the tracer
    /// has seen the end of each; the main one's comes last.
    pub fn kill(mut self) -> Result<()> {
        sys::pidfd_kill(self.pidfd.as_fd()).doing(|| "end the process".into())?;
        self.deadline = deadline(Duration::from_secs(30));
        self.ended = true;
        for thread in self.threads.iter().rev() {
            while self.wait(thread.tid).is_ok() {}
        }
        Ok(())
    }

    /// Lets threads run on as they were, and forgets those that have ended.
    fn release(&mut self) {
        self.deadline = deadline(Duration::from_secs(1));
        // Errors here mean that a thread is ending, or will not stand (which is why stopping the
        // process has failed): the others go on all the same.
        let mut seized = mem::take(&mut self.seized);
        // The end of a process is told by its main thread, and when the others have been seen to end.
        seized.reverse();
        seized.retain(|tid| self.stands(*tid));
        let _ = self.restore_memory();
        for tid in seized {
            if let Some(thread) = self.threads.iter().find(|thread| thread.tid == tid) {
                let _ = thread.restore();
            }
            let _ = sys::ptrace(tid, Request::Detach { signal: 0 });
        }
    }

    /// Whether a thread stands, if need be after it has been asked to once more.
    fn stands(&self, tid: i32) -> bool {
        // This can be asked only of those that do.
        if sys::signal_mask(tid).is_ok() {
            return true;
        }
        let _ = sys::ptrace(tid, Request::Interrupt);
        self.stop(tid).is_ok()
    }
}

impl Thread {
    /// Gives it back the registers with which it stopped.
    fn restore(&self) -> Result<()> {
        let registers = Snapshot(self.registers).to_continue();
        let set = sys::set_registers(self.tid, &registers);
        set.doing(|| "put registers back".into())?;
        let set = sys::set_signal_mask(self.tid, self.signal_mask);
        set.doing(|| "put the signal mask back".into())
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if !self.ended {
            self.release();
        }
    }
}

/// Makes a request with options of tracing: `more`, and those that it always has.
fn set_options(tid: i32, more: u64, request: impl Fn(u64) -> Request) -> io::Result<()> {
    let options = sys::OPTION_SYSGOOD | more;
    // So that a filter does not see injected calls. Only root may.
    let unfiltered = options | sys::OPTION_SUSPEND_SECCOMP;
    sys::ptrace(tid, request(unfiltered)).or_else(|_| sys::ptrace(tid, request(options)))
}

fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout
}
