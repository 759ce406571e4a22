//! Filter patterns of CloudWatch Logs, and their matches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logs::filter::Pattern;

fuzz_target!(|input: (&str, &str)| {
    let (pattern, message) = input;
    if let Ok(pattern) = Pattern::parse(pattern) {
        pattern.matches(message);
    }
});
