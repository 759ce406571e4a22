//! Signatures in headers and queries: URI, authorization, date and token, one a line.
#![no_main]

use clock::Timestamp;
use http::Request;
use libfuzzer_sys::fuzz_target;
use protocol::sigv4::Authorization;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let request = Request::get(line())
        .header("authorization", line())
        .header("x-amz-date", line())
        .header("x-amz-security-token", line())
        .header("host", line());
    let Ok((mut request, ())) = request.body(()).map(Request::into_parts) else {
        return;
    };
    let now = Timestamp::from_secs(1_440_938_160);
    for presigned in [false, true] {
        if presigned {
            request.headers.remove("authorization");
        }
        if let Ok(Some(authorization)) = Authorization::parse(&request) {
            let _ = authorization.verify(&request, b"", "secret", now);
        }
    }
});
