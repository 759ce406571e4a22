//! Session tokens from strangers.
#![no_main]

use clock::Timestamp;
use libfuzzer_sys::fuzz_target;
use protocol::credentials::{ServerKey, TemporaryCredentials};

fuzz_target!(|token: &str| {
    let key = ServerKey::from_bytes([7; 32]);
    assert!(TemporaryCredentials::verify(&key, token, Timestamp::from_secs(0)).is_err());
});
