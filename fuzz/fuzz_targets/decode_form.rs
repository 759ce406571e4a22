//! Bodies of the Query protocol.
#![no_main]

use bytes::Bytes;
use http::Request;
use libfuzzer_sys::fuzz_target;
use model::cloudwatch::operation::{GetMetricData, ListMetrics, PutMetricData};
use model::{Operation, Protocol, form};

fn read<O: Operation>(body: &Bytes) {
    let (request, ()) = Request::post("/").body(()).unwrap().into_parts();
    let _ = O::decode_in(Protocol::AwsQuery, &request, body.clone());
}

fuzz_target!(|body: &[u8]| {
    let _ = form::parameter(body, "Action");
    let body = Bytes::copy_from_slice(body);
    read::<PutMetricData>(&body);
    read::<GetMetricData>(&body);
    read::<ListMetrics>(&body);
});
