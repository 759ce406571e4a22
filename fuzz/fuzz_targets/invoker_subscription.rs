//! What extensions send to subscribe to telemetry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Err(faults) = invoker::check_subscription(body) {
        assert!(!faults.is_empty());
    }
});
