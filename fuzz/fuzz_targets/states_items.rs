//! Datasets of distributed maps: JSON, JSON Lines and CSV in pieces of any size, and manifests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use states::map_runs::source::fuzzing;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece_bytes, text) = input;
    fuzzing::read(text, usize::from(piece_bytes));
    fuzzing::read_manifest(text);
});
