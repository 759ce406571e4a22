//! Journals as they are read before the store is opened.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| store::fuzzing::scan_journal(bytes));
