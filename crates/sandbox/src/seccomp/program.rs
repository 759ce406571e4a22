//! Compiling a table of system calls into the kernel's filter language.
//!
//! The table becomes a binary search over call numbers. The kernel runs a new filter once for
//! every call there is, to learn which need no filtering, so that a chain of comparisons, which is
//! what general-purpose compilers emit, would cost over a millisecond at every process start.

use std::collections::BTreeMap;

use libc::sock_filter;

/// A compiled filter.
pub type Filter = Vec<sock_filter>;

/// What happens on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It fails.
    Errno(i32),
    /// It is made, unless all tests of one of the rules hold.
    AllowUnless(Vec<Rule>),
}

/// A combination of arguments that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub when: Vec<Test>,
    pub errno: i32,
}

/// A test of one argument; all but the last look at its lower 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Equal(u32, u32),
    Differs(u32, u32),
    AnyBit(u32, u32),
    /// All 64 bits.
    NotNull(u32),
}

#[cfg(target_arch = "x86_64")]
pub const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub const ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Compiles a table; to calls that are not in it happens `otherwise`. Of several entries for one
/// call the last counts.
pub fn compile(actions: Vec<(i64, Action)>, otherwise: Action) -> Filter {
    let table: BTreeMap<u32, Action> = actions
        .into_iter()
        .filter_map(|(number, action)| Some((u32::try_from(number).ok()?, action)))
        .collect();
    // Where the action changes, going up; neighbours with one action share a range.
    let mut ranges: Vec<(u32, &Action)> = vec![(0, &otherwise)];
    let mut put = |start: u32, action| {
        ranges.retain(|(known, _)| *known != start);
        if ranges.last().is_none_or(|(_, before)| *before != action) {
            ranges.push((start, action));
        }
    };
    for (number, action) in &table {
        put(*number, action);
        put(number + 1, &otherwise);
    }
    let mut program = vec![
        step(LOAD, ARCHITECTURE),
        branch(JUMP_EQUAL, ARCH, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NUMBER),
    ];
    search(&ranges, &mut program);
    program
}

fn step(code: u16, value: u32) -> sock_filter {
    branch(code, value, 0, 0)
}

fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter {
        code,
        jt: if_true,
        jf: if_false,
        k: value,
    }
}

/// Binary search for the range of the loaded number.
fn search(ranges: &[(u32, &Action)], program: &mut Filter) {
    match ranges {
        [] => {}
        [(_, action)] => act(action, program),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let mut below = Filter::new();
            search(low, &mut below);
            // Conditional jumps reach 255 steps, unconditional ones any distance.
            match u8::try_from(below.len()) {
                Ok(distance) => program.push(branch(JUMP_AT_LEAST, high[0].0, distance, 0)),
                Err(_) => {
                    program.push(branch(JUMP_AT_LEAST, high[0].0, 0, 1));
                    let distance = u32::try_from(below.len()).unwrap_or(u32::MAX);
                    program.push(step(JUMP, distance));
                }
            }
            program.extend(below);
            search(high, program);
        }
    }
}

fn act(action: &Action, program: &mut Filter) {
    match action {
        Action::Allow => program.push(step(RETURN, libc::SECCOMP_RET_ALLOW)),
        Action::Errno(errno) => program.push(fail(*errno)),
        Action::AllowUnless(rules) => {
            rules.iter().for_each(|rule| refuse(rule, program));
            program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
        }
    }
}

fn fail(errno: i32) -> sock_filter {
    step(
        RETURN,
        libc::SECCOMP_RET_ERRNO | (errno.cast_unsigned() & 0xffff),
    )
}

/// Fails if all tests hold, else goes on behind.
fn refuse(rule: &Rule, program: &mut Filter) {
    let mut code = Filter::new();
    // Steps that leave the rule, and whether they do so when their condition holds.
    let mut leave = Vec::new();
    for test in &rule.when {
        match *test {
            Test::Equal(index, value) => {
                code.extend([step(LOAD, low(index)), branch(JUMP_EQUAL, value, 0, 0)]);
                leave.push((code.len() - 1, false));
            }
            Test::Differs(index, value) => {
                code.extend([step(LOAD, low(index)), branch(JUMP_EQUAL, value, 0, 0)]);
                leave.push((code.len() - 1, true));
            }
            Test::AnyBit(index, bits) => {
                code.extend([step(LOAD, low(index)), branch(JUMP_ANY_BIT, bits, 0, 0)]);
                leave.push((code.len() - 1, false));
            }
            Test::NotNull(index) => {
                // A lower half other than zero settles it; otherwise the upper one decides.
                code.extend([step(LOAD, low(index)), branch(JUMP_EQUAL, 0, 0, 2)]);
                code.extend([step(LOAD, low(index) + 4), branch(JUMP_EQUAL, 0, 0, 0)]);
                leave.push((code.len() - 1, true));
            }
        }
    }
    code.push(fail(rule.errno));
    for (position, when_true) in leave {
        // Rules are a few dozen steps at most; the tests run every one of them.
        let distance = u8::try_from(code.len() - position - 1).unwrap_or(u8::MAX);
        *(if when_true {
            &mut code[position].jt
        } else {
            &mut code[position].jf
        }) = distance;
    }
    program.extend(code);
}

/// The lower half of an argument; both supported architectures are little-endian.
fn low(index: u32) -> u32 {
    ARGUMENTS + 8 * index
}

/// What the kernel would answer.
#[cfg(test)]
pub fn run(filter: &Filter, arch: u32, number: i64, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(u32::try_from(number).unwrap().to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend([0; 8]);
    args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
    let (mut at, mut loaded) = (0, 0);
    loop {
        let step = &filter[at];
        at += 1;
        let mut jump = |holds| at += usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            LOAD => {
                let from = step.k as usize;
                loaded = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            JUMP => at += step.k as usize,
            JUMP_EQUAL => jump(loaded == step.k),
            JUMP_AT_LEAST => jump(loaded >= step.k),
            JUMP_ANY_BIT => jump(loaded & step.k != 0),
            RETURN => return step.k,
            other => panic!("unknown step {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_numbers_share_a_range() {
        let dense = (0..100).map(|number| (number, Action::Allow)).collect();
        let sparse = (0..100).map(|number| (number * 2, Action::Allow)).collect();
        assert!(compile(dense, Action::Errno(38)).len() < 12);
        assert!(compile(sparse, Action::Errno(38)).len() > 200);
    }

    #[test]
    fn the_last_entry_of_a_call_counts() {
        let actions = vec![
            (5, Action::Allow),
            (5, Action::Errno(1)),
            (6, Action::Allow),
        ];
        let filter = compile(actions, Action::Errno(38));
        let answer = |number| run(&filter, ARCH, number, [0; 6]);
        assert_eq!(answer(4), libc::SECCOMP_RET_ERRNO | 38);
        assert_eq!(answer(5), libc::SECCOMP_RET_ERRNO | 1);
        assert_eq!(answer(6), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(7), libc::SECCOMP_RET_ERRNO | 38);
    }

    #[test]
    fn a_rule_needs_all_of_its_tests() {
        let rule = Rule {
            when: vec![Test::Equal(0, 7), Test::NotNull(1)],
            errno: 1,
        };
        let filter = compile(
            vec![(9, Action::AllowUnless(vec![rule]))],
            Action::Errno(38),
        );
        let answer = |a, b| run(&filter, ARCH, 9, [a, b, 0, 0, 0, 0]);
        assert_eq!(answer(7, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(8, 1), libc::SECCOMP_RET_ALLOW);
        assert_eq!(answer(7, 1), libc::SECCOMP_RET_ERRNO | 1);
        assert_eq!(answer(7, 1 << 63), libc::SECCOMP_RET_ERRNO | 1);
    }
}
