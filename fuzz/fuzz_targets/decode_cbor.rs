//! Bodies of the CBOR protocol, and what an input in it encodes to as JSON.
#![no_main]

use bytes::Bytes;
use http::Request;
use libfuzzer_sys::fuzz_target;
use model::cloudwatch::operation::{GetMetricData, PutMetricData};
use model::{Operation, Protocol};

fn read<O: Operation>(body: &[u8])
where
    O::Input: PartialEq + std::fmt::Debug,
{
    let (request, ()) = Request::post("/").body(()).unwrap().into_parts();
    let body = Bytes::copy_from_slice(body);
    if let Ok(input) = O::decode_in(Protocol::RpcV2Cbor, &request, body) {
        let (request, body) = O::encode_input(&input).into_parts();
        // NaN is not itself.
        if let Ok(again) = O::decode(&request, body)
            && !format!("{input:?}").contains("NaN")
        {
            assert_eq!(again, input);
        }
    }
}

fuzz_target!(|body: &[u8]| {
    read::<PutMetricData>(body);
    read::<GetMetricData>(body);
});
