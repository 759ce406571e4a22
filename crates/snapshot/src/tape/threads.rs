//! Threads: signal frames that hold their registers, and the entries that each plays.

use super::objects::number;
use super::writer::{Expect, Step, Stream};
use super::{Compiler, ExtendedState, TapeError, capabilities};
use crate::Thread;

/// Places of registers in the kernel's `user_regs_struct`.
pub const RSP: usize = 19;
const REGISTERS: usize = 27;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;
/// In the order of the kernel's `sigcontext`: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp,
/// rip.
const CONTEXT: [usize; 17] = [9, 8, 7, 6, 3, 2, 1, 0, 14, 13, 4, 5, 12, 10, 11, RSP, 16];
const EFLAGS: usize = 18;
/// What a program can change: carry, parity, adjust, zero, sign, direction, overflow, alignment.
const USER_FLAGS: u64 = 0x0004_0cd5;
/// Interrupts are on, and a bit that always is.
const FIXED_FLAGS: u64 = 0x202;
const CODE_SEGMENT: u64 = 0x33;
const STACK_SEGMENT: u64 = 0x2b;
/// The sizes of a `robust_list_head`.
const ROBUST_LIST_LEN: u64 = 24;

/// Where the threads wait.
pub struct Gate {
    /// Counts the threads that are done with what needs rights.
    pub arrived: u64,
    pub threads: u32,
    /// Set when all may go on.
    pub open: u64,
    /// The main thread's registers.
    pub frame: u64,
}

impl Compiler<'_> {
    pub(super) fn set_signal_actions(&mut self) {
        self.tape.about("set signal actions");
        let mut known: Vec<(crate::SignalAction, u64)> = Vec::new();
        for (signal, action) in (1_i32..).zip(&self.image.signals) {
            if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
                continue;
            }
            let address = match known.iter().find(|(known, _)| known == action) {
                Some((_, address)) => *address,
                None => {
                    let words = [action.handler, action.flags, action.restorer, action.mask];
                    let address = self.tape.words(&words);
                    known.push((*action, address));
                    address
                }
            };
            let args = [number(signal), address, 0, 8];
            self.tape.call(libc::SYS_rt_sigaction, &args, Expect::Is(0));
        }
    }

    /// `helpers`: how many threads there will be that the image knows nothing of.
    pub(super) fn make_gate(&mut self, helpers: usize) -> Result<Gate, TapeError> {
        let (main, others) = self.main_and_others()?;
        Ok(Gate {
            arrived: self.tape.word(0)?,
            threads: u32::try_from(others.len() + helpers).map_err(|_| TapeError::TooLarge)?,
            open: self.tape.word(0)?,
            frame: self.frame(main)?,
        })
    }

    fn main_and_others<'i>(&self) -> Result<(&'i Thread, &'i [Thread]), TapeError>
    where
        Self: 'i,
    {
        let threads = self.image.threads.split_first();
        threads.ok_or(TapeError::Image("no threads"))
    }

    pub(super) fn start_threads(&mut self, gate: &Gate) -> Result<(), TapeError> {
        let (main, others) = self.main_and_others()?;
        self.tape.about("set the main thread up");
        let mut stream = std::mem::take(&mut self.tape.main);
        let fs = register(main, FS_BASE)?;
        const ARCH_SET_FS: u64 = 0x1002;
        stream.call(libc::SYS_arch_prctl, &[ARCH_SET_FS, fs], Expect::Is(0));
        let tid = Expect::Is(number(main.tid));
        stream.call(libc::SYS_set_tid_address, &[main.clear_tid], tid);
        self.set_up_thread(&mut stream, main)?;
        self.tape.main = stream;
        // A batch thread that wakes takes the processor from nobody: what the main thread does next
        // is waited for, and most of the others only go to sleep again. They inherit it.
        let parameter = self.tape.words(&[0]);
        let policy = |policy| [0, number(policy), parameter];
        let (batch, normal) = (policy(libc::SCHED_BATCH), policy(libc::SCHED_OTHER));
        let set = libc::SYS_sched_setscheduler;
        self.tape.call(set, &batch, Expect::Anything);
        for thread in others {
            self.start_thread(thread, gate, &normal)?;
        }
        self.tape.call(set, &normal, Expect::Anything);
        Ok(())
    }

    /// A thread that prepares pages by such advice, and ends. Nobody waits for that, unless there is
    /// time: it has no more rights than code of the image has, and like the other threads it has
    /// arrived once it has given them up.
    pub(super) fn start_helper(
        &mut self,
        gate: &Gate,
        preparations: &[((u64, u64), libc::c_int)],
    ) -> Result<(), TapeError> {
        // The highest that any kernel has and the image has not: low ones belong to other processes.
        let taken = |id: &i32| self.image.threads.iter().any(|thread| thread.tid == *id);
        let id = (2..32_768).rev().find(|id| !taken(id));
        let id = id.ok_or(TapeError::TooLarge)?;
        self.tape.about("prepare pages");
        let mut stream = Stream::default();
        if self.options.confinement.is_some() {
            let (header, none) = capabilities(&mut self.tape, 0);
            stream.call(libc::SYS_capset, &[header, none], Expect::Is(0));
        }
        let arrive = Step::Arrive {
            word: gate.arrived,
            all: gate.threads,
        };
        if !self.options.unhurried {
            stream.step(arrive);
        }
        let parameter = self.tape.words(&[0]);
        let batch = [0, number(libc::SCHED_BATCH), parameter];
        stream.call(libc::SYS_sched_setscheduler, &batch, Expect::Anything);
        for ((start, len), advice) in preparations {
            let args = [*start, *len, number(*advice)];
            stream.call(libc::SYS_madvise, &args, Expect::Anything);
        }
        if self.options.unhurried {
            stream.step(arrive);
        }
        stream.call(libc::SYS_exit, &[0], Expect::Anything);
        self.clone_thread(stream, id, 0, None)
    }

    /// Whole-process barriers that code of the image relies on. Registering is cheap while there
    /// is one thread.
    pub(super) fn register_membarrier(&mut self) {
        const REGISTER: [u64; 4] = [1 << 2, 1 << 4, 1 << 6, 1 << 8];
        for command in REGISTER {
            if u64::from(self.image.membarrier) & command != 0 {
                self.tape
                    .call(libc::SYS_membarrier, &[command, 0, 0], Expect::Is(0));
            }
        }
    }

    fn start_thread(
        &mut self,
        thread: &Thread,
        gate: &Gate,
        policy: &[u64; 3],
    ) -> Result<(), TapeError> {
        let text = format!("start thread {}", thread.tid);
        self.tape.about(&text);
        let text = (self.tape.text(text.as_bytes()), text.len() as u64);
        let mut stream = Stream::default();
        stream.label(text);
        self.set_up_thread(&mut stream, thread)?;
        if self.options.confinement.is_some() {
            let (header, none) = capabilities(&mut self.tape, 0);
            stream.call(libc::SYS_capset, &[header, none], Expect::Is(0));
        }
        stream.step(Step::Arrive {
            word: gate.arrived,
            all: gate.threads,
        });
        stream.step(Step::Wait { word: gate.open });
        if !works_ahead(thread) {
            let set = libc::SYS_sched_setscheduler;
            stream.call(set, policy, Expect::Anything);
        }
        let frame = self.frame(thread)?;
        stream.step(Step::Return { frame });
        let local = register(thread, FS_BASE)?;
        self.clone_thread(stream, thread.tid, thread.clear_tid, Some(local))
    }

    /// Makes the thread with this id that plays these entries.
    fn clone_thread(
        &mut self,
        stream: Stream,
        id: i32,
        clear_tid: u64,
        local: Option<u64>,
    ) -> Result<(), TapeError> {
        let slot = self.tape.stream(stream);
        let mut flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        if local.is_some() {
            flags |= libc::CLONE_SETTLS;
        }
        if clear_tid != 0 {
            flags |= libc::CLONE_CHILD_CLEARTID;
        }
        let ids = self.tape.words(&[number(id)]);
        // The new thread's stack pointer is at the slot, from which it learns what it is to play.
        const STACK: u64 = 16;
        let arguments = self.tape.words(&[
            number(flags),
            0,
            clear_tid,
            0,
            0,
            slot - STACK,
            STACK,
            local.unwrap_or(0),
            ids,
            1,
            0,
        ]);
        let args = [arguments, 88];
        self.tape
            .call(libc::SYS_clone3, &args, Expect::Is(number(id)));
        Ok(())
    }

    /// What every thread does for itself.
    fn set_up_thread(&mut self, stream: &mut Stream, thread: &Thread) -> Result<(), TapeError> {
        let name = self.tape.text(&thread.name);
        let set_name = number(libc::PR_SET_NAME);
        stream.call(libc::SYS_prctl, &[set_name, name, 0, 0, 0], Expect::Is(0));
        // Also when there is none: the stub's own would stay with the main thread.
        let (head, len) = thread.robust_list;
        let len = if head == 0 { ROBUST_LIST_LEN } else { len };
        stream.call(libc::SYS_set_robust_list, &[head, len], Expect::Is(0));
        let (area, len, signature) = thread.rseq;
        if area != 0 {
            let args = [area, len.into(), 0, signature.into()];
            stream.call(libc::SYS_rseq, &args, Expect::Is(0));
        }
        let gs = register(thread, GS_BASE)?;
        if gs != 0 {
            const ARCH_SET_GS: u64 = 0x1001;
            stream.call(libc::SYS_arch_prctl, &[ARCH_SET_GS, gs], Expect::Is(0));
        }
        Ok(())
    }

    /// The frame that `rt_sigreturn` loads a thread from; returns the stack pointer to call it with.
    fn frame(&mut self, thread: &Thread) -> Result<u64, TapeError> {
        let extended = extended_frame(&thread.extended)?;
        let extended = self.tape.constant(&extended, 64);
        // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.
        const UC_FLAGS: u64 = 7;
        let (stack, stack_flags, stack_len) = thread.alternate_stack;
        let mut words = vec![0, UC_FLAGS, 0, stack, stack_flags.into(), stack_len];
        for index in CONTEXT {
            words.push(register(thread, index)?);
        }
        words.push(register(thread, EFLAGS)? & USER_FLAGS | FIXED_FLAGS);
        words.push(CODE_SEGMENT | STACK_SEGMENT << 48);
        // Error code, trap number, old mask, fault address.
        words.extend([0; 4]);
        words.push(extended);
        words.extend([0; 8]);
        words.push(thread.signal_mask);
        // A frame begins with the return address, which the handler's `ret` would have taken.
        Ok(self.tape.words(&words) + 8)
    }
}

/// A thread of HotSpot that compiles, or that does periodic work: nothing waits for it. It stays a
/// batch thread, so that it does not take the processor from the thread whose code it compiles.
fn works_ahead(thread: &Thread) -> bool {
    const NAMES: [&[u8]; 3] = [b"C1 Compiler", b"C2 Compiler", b"VM Periodic"];
    NAMES.iter().any(|name| thread.name.starts_with(name))
}

fn register(thread: &Thread, index: usize) -> Result<u64, TapeError> {
    if thread.registers.len() != REGISTERS {
        return Err(TapeError::Image("registers"));
    }
    let register = thread.registers.get(index).copied();
    register.ok_or(TapeError::Image("registers"))
}

/// The extended state with the marks that say to the kernel what it contains.
fn extended_frame(state: &[u8]) -> Result<Vec<u8>, TapeError> {
    const HEADER: std::ops::Range<usize> = 512..520;
    const SOFTWARE: usize = 464;
    const MAGIC_1: u32 = 0x4650_5853;
    const MAGIC_2: u32 = 0x4650_5845;
    let here = ExtendedState::here();
    let mut bytes = state.to_vec();
    bytes.resize(here.len, 0);
    let header = bytes.get(HEADER).and_then(|header| header.try_into().ok());
    let present = header.map(u64::from_le_bytes);
    let present = present.ok_or(TapeError::Image("extended state"))?;
    // A feature that is named and not present gets its initial state.
    let features = here.features | 3;
    if present & !features != 0 {
        return Err(TapeError::Image("extended state"));
    }
    let len = u32::try_from(here.len).map_err(|_| TapeError::TooLarge)?;
    let mut marks = Vec::with_capacity(48);
    marks.extend(MAGIC_1.to_le_bytes());
    marks.extend((len + 4).to_le_bytes());
    marks.extend(features.to_le_bytes());
    marks.extend(len.to_le_bytes());
    marks.resize(48, 0);
    bytes[SOFTWARE..SOFTWARE + 48].copy_from_slice(&marks);
    bytes.extend(MAGIC_2.to_le_bytes());
    Ok(bytes)
}
