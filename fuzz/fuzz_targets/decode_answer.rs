//! Answers as a client reads them.
#![no_main]

use bytes::Bytes;
use http::Response;
use libfuzzer_sys::fuzz_target;
use model::Operation;
use model::lambda::operation::GetFunction;
use model::logs::operation::GetLogEvents;

fuzz_target!(|bytes: &[u8]| {
    let Some((selector, body)) = bytes.split_first() else {
        return;
    };
    let status = if selector & 1 == 0 { 200 } else { 400 };
    let (response, ()) = Response::builder()
        .status(status)
        .body(())
        .unwrap()
        .into_parts();
    let _ = GetFunction::decode_output(&response, Bytes::copy_from_slice(body));
    let _ = GetLogEvents::decode_output(&response, Bytes::copy_from_slice(body));
});
