//! Short texts of S3's requests: tags, ranges, hosts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    s3::fuzzing::tagging(text);
    s3::fuzzing::range_and_host(text);
});
