//! How the end of a runtime process is worded. The texts are Go's, because AWS's supervisor is
//! written in Go and its messages are compared word for word by tools.

use sandbox::Exit;

pub(crate) fn describe(exit: &Exit) -> String {
    match exit {
        Exit::Code(0) => "Runtime exited without providing a reason".to_owned(),
        Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {}", name(*signal)),
    }
}

pub(crate) fn name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_read_as_aws_words_them() {
        assert_eq!(
            describe(&Exit::Code(0)),
            "Runtime exited without providing a reason"
        );
        assert_eq!(
            describe(&Exit::Code(127)),
            "Runtime exited with error: exit status 127"
        );
        assert_eq!(
            describe(&Exit::Signal(9)),
            "Runtime exited with error: signal: killed"
        );
        assert_eq!(
            describe(&Exit::Signal(11)),
            "Runtime exited with error: signal: segmentation fault"
        );
    }
}
