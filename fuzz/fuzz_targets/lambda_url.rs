//! Answers of functions behind URLs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| lambda::fuzzing::url_answer(bytes));
