//! What services answer, in each protocol, and the parameters that workflows give: nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, bytes) = input;
    integrations::fuzzing::answer(status, bytes);
    if let Ok(parameters) = serde_json::from_slice(bytes) {
        integrations::fuzzing::request(&parameters);
    }
});
