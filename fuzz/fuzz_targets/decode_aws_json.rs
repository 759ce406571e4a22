//! Bodies of the JSON protocols: whatever decodes must encode and decode to the same.
#![no_main]

use bytes::Bytes;
use http::Request;
use libfuzzer_sys::fuzz_target;
use model::Operation;
use model::logs::operation::{DescribeLogGroups, FilterLogEvents, PutLogEvents};

fn round_trip<O: Operation>(body: &[u8])
where
    O::Input: PartialEq + std::fmt::Debug,
{
    let (request, ()) = Request::post("/").body(()).unwrap().into_parts();
    if let Ok(input) = O::decode(&request, Bytes::copy_from_slice(body)) {
        let (request, body) = O::encode_input(&input).into_parts();
        assert_eq!(O::decode(&request, body).unwrap(), input);
    }
}

fuzz_target!(|body: &[u8]| {
    round_trip::<PutLogEvents>(body);
    round_trip::<FilterLogEvents>(body);
    round_trip::<DescribeLogGroups>(body);
});
