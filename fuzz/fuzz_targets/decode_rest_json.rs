//! REST requests: path, query and body from one input, separated by NUL bytes.
#![no_main]

use bytes::Bytes;
use http::Request;
use libfuzzer_sys::fuzz_target;
use model::Operation;
use model::lambda::operation::{
    CreateFunction, Invoke, UntagResource, UpdateAlias, UpdateFunctionConfiguration,
};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let uri = parts.next().unwrap_or_default();
    let body = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let Ok((request, ())) = Request::post(uri).body(()).map(Request::into_parts) else {
        return;
    };
    let _ = UpdateAlias::decode(&request, body.clone());
    let _ = UpdateFunctionConfiguration::decode(&request, body.clone());
    let _ = UntagResource::decode(&request, body.clone());
    let _ = Invoke::decode(&request, body.clone());
    if let Ok(input) = CreateFunction::decode(&request, body) {
        let _ = input.code.zip_file.map(|zip| zip.decode());
    }
});
