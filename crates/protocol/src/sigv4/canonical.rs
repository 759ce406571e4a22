//! The canonical form of a request, which both sides sign.

use std::fmt::Write as _;

use http::{HeaderMap, header, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::hex_sha256;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// The query parameter that cannot sign itself.
const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

/// The canonical request: method, path, query, headers, their names, and the payload's hash.
pub(super) fn request<S: AsRef<str>>(
    parts: &request::Parts,
    service: &str,
    signed_headers: &[S],
    payload_hash: &str,
) -> String {
    let mut out = format!(
        "{}\n{}\n{}\n",
        parts.method,
        path(parts.uri.path(), service),
        query(parts.uri.query().unwrap_or_default())
    );
    for name in signed_headers {
        let name = name.as_ref();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name}:{}", header_value(parts, name));
    }
    out.push('\n');
    for (index, name) in signed_headers.iter().enumerate() {
        if index > 0 {
            out.push(';');
        }
        out.push_str(name.as_ref());
    }
    out.push('\n');
    out.push_str(payload_hash);
    out
}

/// The hash that stands for the body. S3 sends it in a header, or says that it signs none; the other
/// services need not send it.
pub(super) fn payload_hash(headers: &HeaderMap, body: &[u8]) -> String {
    let sent = headers
        .get("x-amz-content-sha256")
        .and_then(|value| value.to_str().ok());
    sent.map_or_else(|| hex_sha256(body), str::to_owned)
}

fn path(wire: &str, service: &str) -> String {
    if service == "s3" {
        return wire.to_owned();
    }
    let normal = without_dot_segments(wire);
    utf8_percent_encode(&normal, PATH).to_string()
}

/// Resolves `.` and `..` and joins repeated slashes, as clients do before they sign.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut normal = format!("/{}", kept.join("/"));
    if path.ends_with('/') && !kept.is_empty() {
        normal.push('/');
    }
    normal
}

/// All parameters in one encoding, sorted by name and then by value.
fn query(wire: &str) -> String {
    let mut parameters: Vec<(String, String)> = wire
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != SIGNATURE_PARAMETER)
        .map(|(name, value)| (reencoded(name), reencoded(value)))
        .collect();
    parameters.sort();
    let pairs: Vec<String> = parameters
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn reencoded(text: &str) -> String {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    percent_encoding::percent_encode(&bytes, UNRESERVED).to_string()
}

/// All values of a header, trimmed, with runs of spaces made one.
fn header_value(parts: &request::Parts, name: &str) -> String {
    let mut out = String::new();
    for (index, value) in parts.headers.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    if out.is_empty() && name == header::HOST.as_str() {
        // HTTP/2 has the host in the URI.
        out.extend(parts.uri.authority().map(http::uri::Authority::as_str));
    }
    out
}
