//! Filter patterns of CloudWatch Logs, and their matches. The pattern is the first line, the message
//! follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logs::filter::Pattern;

fuzz_target!(|text: &str| {
    let (pattern, message) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(pattern) = Pattern::parse(pattern) {
        pattern.matches(message);
    }
});
