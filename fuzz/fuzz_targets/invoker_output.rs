//! What a function's processes write to their pipes: lines, and frames of runtime clients.
#![no_main]

use invoker::output::{FrameParser, LineSplitter, MAX_EVENT_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, output)) = bytes.split_first() else {
        return;
    };
    let (mut lines, mut frames) = (LineSplitter::default(), FrameParser::default());
    // Lossy decoding may replace one byte by three.
    let check = |event: String| assert!(event.len() <= 3 * MAX_EVENT_BYTES + 1);
    for piece in output.chunks(usize::from(*cut).max(1)) {
        lines.push(piece, check);
        frames.push(piece, |message| check(message.text));
    }
    lines.flush(check);
    frames.flush(|message| check(message.text));
});
