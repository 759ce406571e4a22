//! The list of scratch files as it goes to the process that restores them.

use crate::{Image, ScratchEntry};

/// Encodes the list, or nothing if there is none.
pub fn encode_scratch(image: &Image) -> Option<Vec<u8>> {
    if image.scratch.is_empty() {
        return None;
    }
    // Serialising plain data into memory does not fail.
    postcard::to_allocvec(&image.scratch).ok()
}

/// Decodes what [`encode_scratch`] made of a checked image.
pub fn decode_scratch(bytes: &[u8]) -> Option<Vec<ScratchEntry>> {
    postcard::from_bytes(bytes).ok()
}
