use clock::Timestamp;

use super::{LogLevel, MAX_EVENT_BYTES};

const HEADER_BYTES: usize = 16;
/// The upper half of every frame type; the lower half says text or JSON and the level.
const MAGIC: u32 = 0xa55a_0000;
/// The largest frame that is read. Nothing is allocated before its bytes arrive.
const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Parses what runtime clients write to `_LAMBDA_TELEMETRY_LOG_FD`: messages that keep their line
/// breaks, each behind a header of 16 bytes, big-endian: `u32` type, `u32` length, `u64`
/// microseconds since the epoch.
///
/// Bytes that are no frame are not lost: they are passed on as text, up to the next header.
#[derive(Debug, Default)]
pub struct FrameParser {
    buffer: Vec<u8>,
}

/// What a frame says. One that does not fit into a log event is told in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub time: Option<Timestamp>,
    pub level: Option<LogLevel>,
    pub text: String,
}

impl FrameParser {
    /// Takes more bytes and emits every message they complete.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(Message)) {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            match parse(&self.buffer[start..]) {
                Parsed::Frame {
                    time,
                    level,
                    message,
                    size,
                } => {
                    emit_message((Some(time), level), message, &mut emit);
                    start += size;
                }
                Parsed::Garbage(size) => {
                    emit_message((None, None), &self.buffer[start..start + size], &mut emit);
                    start += size;
                }
                Parsed::Incomplete => break,
            }
        }
        self.buffer.drain(..start);
    }

    /// Emits what is left when the other end has closed.
    pub fn flush(&mut self, mut emit: impl FnMut(Message)) {
        emit_message((None, None), &std::mem::take(&mut self.buffer), &mut emit);
    }
}

enum Parsed<'a> {
    Frame {
        time: Timestamp,
        level: Option<LogLevel>,
        message: &'a [u8],
        size: usize,
    },
    Garbage(usize),
    Incomplete,
}

fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return match garbage(bytes) {
            0 => Parsed::Incomplete,
            size => Parsed::Garbage(size),
        };
    };
    let kind = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if kind & 0xffff_0000 != MAGIC || length > MAX_FRAME_BYTES {
        // At least one byte, or a false header would be looked at for ever.
        return Parsed::Garbage(garbage(bytes).max(1));
    }
    let Some(message) = body.get(..length) else {
        return Parsed::Incomplete;
    };
    let micros = u64::from_be_bytes([
        header[8], header[9], header[10], header[11], header[12], header[13], header[14],
        header[15],
    ]);
    let time = Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
    Parsed::Frame {
        time,
        level: LogLevel::of_frame(kind),
        message,
        size: HEADER_BYTES + length,
    }
}

/// The number of bytes before the next possible beginning of a header.
fn garbage(bytes: &[u8]) -> usize {
    let magic = MAGIC.to_be_bytes();
    (0..bytes.len())
        .find(|&at| {
            let rest = &bytes[at..];
            let seen = rest.len().min(2);
            rest[..seen] == magic[..seen]
        })
        .unwrap_or(bytes.len())
}

fn emit_message(
    (time, level): (Option<Timestamp>, Option<LogLevel>),
    message: &[u8],
    emit: &mut impl FnMut(Message),
) {
    let whole = String::from_utf8_lossy(message);
    let mut rest = &*whole;
    while !rest.is_empty() {
        // Room for the line break that ends each.
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(MAX_EVENT_BYTES - 1));
        rest = tail;
        let mut text = piece.to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        emit(Message { time, level, text });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u32, micros: u64, message: &str) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(micros.to_be_bytes());
        bytes.extend(message.as_bytes());
        bytes
    }

    fn parse_all<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<(Option<Timestamp>, String)> {
        let mut parser = FrameParser::default();
        let mut events = Vec::new();
        for part in parts {
            parser.push(part, |message| events.push((message.time, message.text)));
        }
        parser.flush(|message| events.push((message.time, message.text)));
        events
    }

    #[test]
    fn multi_line_message_stays_whole_and_keeps_its_time() {
        let bytes = frame(
            0xa55a_0017,
            1_700_000_000_000_001,
            "Traceback\n  File\nError",
        );
        let expected = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(
            parse_all([&bytes[..]]),
            [(Some(expected), "Traceback\n  File\nError\n".to_owned())]
        );
    }

    #[test]
    fn garbage_is_passed_on_and_the_next_frame_is_found() {
        let mut bytes = b"oops ".to_vec();
        bytes.extend(frame(0xa55a_0003, 7, "fine"));
        let events = parse_all([&bytes[..]]);
        assert_eq!(
            events.last().unwrap(),
            &(Some(Timestamp::from_micros(7)), "fine\n".to_owned())
        );
        assert_eq!(events[0], (None, "oops \n".to_owned()));
    }

    #[test]
    fn announced_length_beyond_the_limit_is_no_frame() {
        let mut bytes = 0xa55a_0003_u32.to_be_bytes().to_vec();
        bytes.extend(u32::MAX.to_be_bytes());
        bytes.extend([0; 8]);
        assert!(
            parse_all([&bytes[..]])
                .iter()
                .all(|(time, _)| time.is_none())
        );
    }

    #[test]
    fn long_message_is_cut_between_characters_and_keeps_its_level() {
        let bytes = frame(0xa55a_0016, 5, &"ä".repeat(MAX_EVENT_BYTES));
        let mut messages = Vec::new();
        FrameParser::default().push(&bytes, |message| messages.push(message));
        assert_eq!(messages.len(), 3);
        for message in &messages {
            assert!(message.text.len() <= MAX_EVENT_BYTES);
            assert_eq!(message.level, Some(LogLevel::Error));
            assert!(message.text.trim_end().chars().all(|c| c == 'ä'));
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_back_wherever_the_pipe_cuts_them(
            messages in prop::collection::vec("[a-z\n]{0,30}[a-z]", 0..8),
            cut in 1usize..40,
        ) {
            let bytes: Vec<u8> =
                messages.iter().flat_map(|message| frame(0xa55a_0003, 5, message)).collect();
            let events = parse_all(bytes.chunks(cut));
            let read: Vec<String> =
                events.into_iter().map(|(_, text)| text.trim_end_matches('\n').to_owned()).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_stall(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_all(bytes.chunks(7));
        }
    }
}
