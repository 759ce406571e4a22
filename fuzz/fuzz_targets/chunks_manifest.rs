//! Manifests of images, after decryption.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| chunks::fuzzing::manifest(bytes));
