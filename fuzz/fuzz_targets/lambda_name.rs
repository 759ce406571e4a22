//! Function names and ARNs: what parses must display as something that parses to the same.
#![no_main]

use lambda::FunctionReference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<FunctionReference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
});
