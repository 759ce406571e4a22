//! Stored images, and the tapes that come of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot::{CompileOptions, Image, Memory, compile, example};

/// What decodes must compile or be refused, and a second round must not change it.
fn check(bytes: &[u8]) {
    let Ok(image) = Image::decode(bytes) else {
        return;
    };
    let encoded = image.encode();
    assert!(Image::decode(&encoded).is_ok_and(|again| again == image));
    for (memory, userfault) in [(Memory::Shared, true), (Memory::Exact, false)] {
        let options = CompileOptions {
            memory,
            userfault,
            page_by_page: userfault,
            ..CompileOptions::default()
        };
        if let Ok(tape) = compile(&image, &options) {
            assert!(tape.required().iter().all(|(offset, len)| offset + len <= image.pages_len));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Most inputs are no image at all; a few bytes changed in a good one often are.
    let mut image = example::image().encode();
    for change in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % image.len();
        image[at] = change[2];
    }
    check(&image);
});
