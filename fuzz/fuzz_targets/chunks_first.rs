//! Records of the pages that an image needs first, after decryption.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, bytes)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    chunks::fuzzing::first(u32::from_le_bytes(*len).into(), bytes);
});
