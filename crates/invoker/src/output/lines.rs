use super::MAX_EVENT_BYTES;

/// Cuts a process's output into log events: one per line, where `\r` inside a line stands for a
/// line break inside the event (runtime clients join the lines of a stack trace that way).
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Takes more output and emits every event it completes. An event keeps its final line break.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.take(piece, &mut emit);
        }
    }

    /// Emits what has no line break yet, as at the end of an invocation.
    pub fn flush(&mut self, mut emit: impl FnMut(String)) {
        if !self.partial.is_empty() {
            emit(event(&std::mem::take(&mut self.partial)));
        }
    }

    fn take(&mut self, mut piece: &[u8], emit: &mut impl FnMut(String)) {
        loop {
            let room = MAX_EVENT_BYTES - self.partial.len();
            if piece.len() <= room {
                break;
            }
            let (head, rest) = piece.split_at(room);
            self.partial.extend_from_slice(head);
            emit(event(&self.partial));
            self.partial.clear();
            piece = rest;
        }
        if piece.last() != Some(&b'\n') {
            self.partial.extend_from_slice(piece);
        } else if self.partial.is_empty() {
            emit(event(piece));
        } else {
            self.partial.extend_from_slice(piece);
            emit(event(&self.partial));
            self.partial.clear();
        }
    }
}

fn event(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut events = Vec::new();
        for part in parts {
            splitter.push(part, |event| events.push(event));
        }
        splitter.flush(|event| events.push(event));
        events
    }

    #[test]
    fn lines_become_events_wherever_the_pipe_cuts_them() {
        assert_eq!(split(&[b"a\nb", b"c\n", b"d"]), ["a\n", "bc\n", "d"]);
        assert_eq!(split(&[b"\n\n"]), ["\n", "\n"]);
    }

    #[test]
    fn carriage_returns_are_line_breaks_inside_one_event() {
        assert_eq!(
            split(&[b"Traceback\r  File\rError\r\nnext\n"]),
            ["Traceback\n  File\nError\n", "next\n"]
        );
    }

    #[test]
    fn endless_line_is_cut_at_the_size_of_an_event() {
        let line = vec![b'x'; 2 * MAX_EVENT_BYTES + 5];
        let sizes: Vec<_> = split(&[&line]).iter().map(String::len).collect();
        assert_eq!(sizes, [MAX_EVENT_BYTES, MAX_EVENT_BYTES, 5]);
    }

    proptest! {
        #[test]
        fn no_text_is_lost_and_no_event_spans_two_lines(
            parts in prop::collection::vec("[a-zä\n ]{0,40}", 0..20)
        ) {
            let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
            let events = split(&bytes);
            prop_assert_eq!(events.concat(), parts.concat());
            for event in events {
                prop_assert!(!event.trim_end_matches('\n').contains('\n'));
            }
        }
    }
}
