//! Stored chunks: the head before decryption, the compressed content after it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    chunks::fuzzing::chunk(u16::from_le_bytes(*len), bytes);
});
