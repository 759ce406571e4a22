//! Bodies in S3's `aws-chunked` encoding, in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| s3::fuzzing::aws_chunked(input.1, usize::from(input.0)));
