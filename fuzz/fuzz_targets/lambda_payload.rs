//! Payloads and client contexts of invocations.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| lambda::fuzzing::check_payload(bytes));
