//! Requests to services of AWS, and their answers, by what the catalog says of them.
//!
//! A workflow's parameters are first read into a [`Node`], which shows what does not belong there;
//! the protocols write nodes. Answers are read into JSON with the names that workflows use.

mod answer;
mod input;
mod json;
mod query;
mod request;
mod rest;
mod time;
mod xml;

pub use answer::{Rejected, Style, read};
pub use input::{Invalid, check};
pub use request::{Call, Message, write, write_around};
pub use time::http_date;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// What forms and queries leave as it is.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What a path leaves as it is where a parameter may span segments.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// An operation of each protocol.
const SAMPLES: [(&str, &str); 5] = [
    ("dynamodb", "getItem"),
    ("lambda", "listFunctions"),
    ("s3", "listObjectsV2"),
    ("iam", "listUsers"),
    ("ec2", "describeInstances"),
];

/// See [`crate::fuzzing`].
pub fn fuzz_answer(status: u16, body: &[u8]) {
    for (service, action) in SAMPLES {
        let found = crate::catalog::find(service);
        let found = found.and_then(|entry| Some((entry, entry.operation(action)?.1)));
        let mut response = http::Response::new(bytes::Bytes::copy_from_slice(body));
        if let Ok(status) = http::StatusCode::from_u16(status) {
            *response.status_mut() = status;
        }
        if let Some((entry, operation)) = found {
            let _ = read(entry, operation, Style::One, &response);
        }
    }
}

/// See [`crate::fuzzing`].
pub fn fuzz_request(parameters: &serde_json::Value) {
    for (service, action) in SAMPLES {
        let found = crate::catalog::find(service);
        let found = found.and_then(|entry| Some((entry, entry.operation(action)?)));
        if let Some((entry, (name, operation))) = found {
            let token = "";
            let _ = write(&Call {
                entry,
                name,
                operation,
                parameters,
                token,
            });
        }
    }
}

#[cfg(test)]
mod tests;
