//! Trace headers, which functions and clients send: reading the lineage must not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| lambda::fuzzing::lineage(header));
