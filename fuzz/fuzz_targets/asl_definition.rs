//! Definitions: whatever the text, it is told what is wrong with it, or it is a machine.
#![no_main]

use asl::Definition;
use asl::definition::Severity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let found = Definition::diagnose(text);
    let is_wrong = found.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(Definition::parse(text).is_err(), is_wrong);
    if let Err(refused) = Definition::of_state("StateName", text) {
        let _ = refused.message(text);
    }
});
