//! Registers of a stopped thread on x86-64.

use super::sys::Registers;

/// Places in `user_regs_struct`.
pub const R10: usize = 7;
pub const RAX: usize = 10;
pub const RDX: usize = 12;
pub const RSI: usize = 13;
pub const RDI: usize = 14;
pub const ORIG_RAX: usize = 15;
pub const RIP: usize = 16;
pub const CS: usize = 17;
pub const RSP: usize = 19;

/// Errors with which a system call leaves when a signal comes; the kernel makes the call again
/// unless a handler runs. User space never sees them.
const RESTART: [i64; 4] = [-512, -513, -514, -516];

/// Calls that the kernel does not make again, but lets fail with `EINTR` even when only a tracer
/// came by. Nothing has happened yet when they do, so that making them again is harmless.
const NOT_RESTARTED: &[i64] = &[
    0,   // read, of a socket with a timeout
    20,  // writev, as read
    1,   // write, as read
    19,  // readv
    43,  // accept
    44,  // sendto
    45,  // recvfrom
    46,  // sendmsg
    47,  // recvmsg
    65,  // semop
    70,  // msgrcv
    128, // rt_sigtimedwait
    208, // io_getevents
    220, // semtimedop
    232, // epoll_wait
    281, // epoll_pwait
    288, // accept4
    299, // recvmmsg
    441, // epoll_pwait2
];

/// The registers as they were when a thread stopped.
#[derive(Clone, Copy)]
pub struct Snapshot(pub Registers);

impl Snapshot {
    /// The system call in which it stopped.
    pub fn syscall(&self) -> Option<i64> {
        let number = self.0[ORIG_RAX].cast_signed();
        (number >= 0).then_some(number)
    }

    /// Registers with which a new thread goes on: an interrupted call is made again.
    pub fn wound_back(&self) -> Registers {
        let mut registers = self.0;
        let result = registers[RAX].cast_signed();
        if let Some(number) = self.syscall()
            && (RESTART.contains(&result) || self.fails_for_no_reason())
        {
            registers[RIP] = registers[RIP].wrapping_sub(2);
            registers[RAX] = number.cast_unsigned();
        }
        registers[ORIG_RAX] = u64::MAX;
        registers
    }

    /// Registers with which the same thread goes on. The kernel still knows how to go on with the
    /// calls that it restarts itself.
    pub fn to_continue(self) -> Registers {
        if self.fails_for_no_reason() {
            self.wound_back()
        } else {
            self.0
        }
    }

    fn fails_for_no_reason(&self) -> bool {
        let interrupted = self.0[RAX].cast_signed() == -i64::from(libc::EINTR);
        interrupted
            && self
                .syscall()
                .is_some_and(|number| NOT_RESTARTED.contains(&number))
    }
}

/// Arranges a system call by the `syscall` instruction at `instruction`.
pub fn call(registers: &mut Registers, instruction: u64, number: u64, arguments: [u64; 4]) {
    registers[RIP] = instruction;
    registers[RAX] = number;
    // Otherwise the kernel would take it for an interrupted call, and wind it back.
    registers[ORIG_RAX] = u64::MAX;
    let [a, b, c, d] = arguments;
    (
        registers[RDI],
        registers[RSI],
        registers[RDX],
        registers[R10],
    ) = (a, b, c, d);
}

#[cfg(test)]
mod tests {
    use super::{ORIG_RAX, RAX, RIP, Snapshot};

    fn stopped(number: i64, result: i64) -> Snapshot {
        let mut registers = [7; 27];
        registers[ORIG_RAX] = number.cast_unsigned();
        registers[RAX] = result.cast_unsigned();
        registers[RIP] = 1002;
        Snapshot(registers)
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        for result in [-512, -513, -514, -516] {
            let registers = stopped(202, result).wound_back();
            assert_eq!((registers[RIP], registers[RAX]), (1000, 202));
            assert_eq!(registers[ORIG_RAX], u64::MAX);
        }
        assert_eq!(stopped(232, -4).wound_back()[RIP], 1000);
    }

    #[test]
    fn a_finished_call_is_not_made_again() {
        assert_eq!(stopped(232, 0).wound_back()[RIP], 1002);
        // connect, which goes on in the background
        assert_eq!(stopped(42, -4).wound_back()[RIP], 1002);
        // in user mode, where the number in rax means nothing
        assert_eq!(stopped(-1, -512).wound_back()[RIP], 1002);
    }

    #[test]
    fn the_thread_itself_goes_on_as_the_kernel_left_it() {
        assert_eq!(stopped(202, -516).to_continue(), stopped(202, -516).0);
        assert_eq!(stopped(232, -4).to_continue()[RIP], 1000);
    }
}
