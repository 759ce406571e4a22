//! Answers in the form in which they leave: AWS's headers, and errors in full.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use protocol::Body as Answer;
use sha2::{Digest as _, Sha256};

use crate::host::Host;

pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// What a request names, for errors to repeat.
pub(crate) struct Names {
    bucket: String,
    key: String,
    resource: String,
    /// GetObjectAttributes alone answers entity tags without quotes; the library writes them.
    bare_etag: bool,
}

impl Names {
    pub(crate) fn of(parts: &http::request::Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let bare_etag = query.split('&').any(|pair| pair.starts_with("attributes"));
        let host = parts.headers.get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        let path = percent_decode_str(parts.uri.path()).decode_utf8_lossy();
        let rest = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match Host::parse(host.unwrap_or_default()) {
            Host::Bucket(bucket) => (bucket, rest),
            Host::Service | Host::Other => rest.split_once('/').unwrap_or((rest, "")),
        };
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            resource: path.clone().into_owned(),
            bare_etag,
        }
    }

    /// What an error of this code says beside its text.
    fn details(&self, code: &str) -> String {
        let element = |name: &str, value: &str| format!("<{name}>{}</{name}>", escaped(value));
        match code {
            "NoSuchKey" | "KeyTooLongError" => element("Key", &self.key),
            "NoSuchBucket"
            | "BucketAlreadyExists"
            | "BucketAlreadyOwnedByYou"
            | "BucketNotEmpty"
            | "InvalidBucketName"
            | "NoSuchBucketPolicy"
            | "NoSuchTagSet"
            | "NoSuchLifecycleConfiguration"
            | "NoSuchCORSConfiguration"
            | "NoSuchPublicAccessBlockConfiguration"
            | "ObjectLockConfigurationNotFoundError"
            | "NoSuchWebsiteConfiguration"
            | "ReplicationConfigurationNotFoundError" => element("BucketName", &self.bucket),
            _ => element("Resource", &self.resource),
        }
    }
}

/// The texts of what the library refuses without one.
fn default_message(code: &str) -> &'static str {
    match code {
        "InvalidURI" => "Couldn't parse the specified URI.",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "KeyTooLongError" => "Your key is too long",
        "MalformedXML" => {
            "The XML you provided was not well-formed or did not validate against our published schema"
        }
        "MissingRequestBodyError" => "Request Body is empty",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "IncompleteBody" => {
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        }
        "MaxMessageLengthExceeded" => "Your request was too big.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "NotImplemented" => "A header you provided implies functionality that is not implemented",
        "InternalError" => "We encountered an internal error. Please try again.",
        _ => "",
    }
}

pub(crate) fn host_id(request_id: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(request_id))
}

/// Puts the answer into the form that leaves: with AWS's headers, and errors in full.
pub(crate) async fn finish(
    response: http::Response<s3s::Body>,
    method: &Method,
    request_id: &str,
    names: &Names,
) -> Response<Answer> {
    let (mut parts, body) = response.into_parts();
    let id = request_id.replace('-', "").to_ascii_uppercase();
    let id = id.get(..16).unwrap_or_default().to_owned();
    let host_id = host_id(request_id);
    for (name, value) in [("x-amz-request-id", &id), ("x-amz-id-2", &host_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            parts.headers.insert(HeaderName::from_static(name), value);
        }
    }
    let server = HeaderValue::from_static("AmazonS3");
    parts.headers.insert(http::header::SERVER, server);
    let failed = parts.status.is_client_error() || parts.status.is_server_error();
    if parts.status == StatusCode::NOT_MODIFIED || (failed && *method == Method::HEAD) {
        parts.headers.remove(CONTENT_TYPE);
        return Response::from_parts(parts, Answer::empty());
    }
    let body = match body.bytes() {
        Some(bytes) if failed => Answer::from(in_full(&bytes, &id, &host_id, names)),
        Some(bytes) if names.bare_etag => Answer::from(without_quotes(&bytes)),
        Some(bytes) => Answer::from(bytes),
        None => Answer::stream(body),
    };
    if failed {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Response::from_parts(parts, body)
}

fn without_quotes(answer: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(answer);
    let found = between(&text, "<ETag>", "</ETag>").unwrap_or_default();
    let bare = found.trim_matches('"');
    let bare = bare.trim_start_matches("&quot;").trim_end_matches("&quot;");
    let text = text.replace(
        &format!("<ETag>{found}</ETag>"),
        &format!("<ETag>{bare}</ETag>"),
    );
    Bytes::from(text)
}

/// An error with its default text, what it is about, and the request's numbers.
fn in_full(error: &[u8], id: &str, host_id: &str, names: &Names) -> Bytes {
    let text = String::from_utf8_lossy(error);
    let code = between(&text, "<Code>", "</Code>").unwrap_or("InternalError");
    let message = match between(&text, "<Message>", "</Message>") {
        Some(message) if !message.is_empty() => message.to_owned(),
        _ => escaped(default_message(code)),
    };
    let details = names.details(code);
    Bytes::from(format!(
        "{DECLARATION}<Error><Code>{code}</Code><Message>{message}</Message>{details}\
         <RequestId>{id}</RequestId><HostId>{host_id}</HostId></Error>"
    ))
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// Text for XML. Characters that XML cannot carry are left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(character),
            character if character < ' ' => {}
            '\u{FFFE}' | '\u{FFFF}' => {}
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> http::request::Parts {
        let request = http::Request::builder().uri(uri).body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn attributes_have_entity_tags_without_quotes() {
        for quoted in ["\"abc\"", "&quot;abc&quot;"] {
            let answer = format!("<A><ETag>{quoted}</ETag><B/></A>");
            assert_eq!(
                without_quotes(answer.as_bytes()),
                "<A><ETag>abc</ETag><B/></A>"
            );
        }
        assert_eq!(without_quotes(b"<A/>"), "<A/>");
        assert!(Names::of(&parts("http://h/b/k?attributes")).bare_etag);
        assert!(!Names::of(&parts("http://h/b/k?versionId=attributes")).bare_etag);
    }

    #[test]
    fn errors_say_what_they_are_about() {
        let names = Names::of(&parts("http://127.0.0.1/bucket/a%3Cb"));
        let short = b"<Error><Code>NoSuchKey</Code></Error>";
        let full = in_full(short, "ID", "HOST", &names);
        let text = String::from_utf8(full.to_vec()).unwrap();
        assert!(
            text.contains("<Key>a&lt;b</Key><RequestId>ID</RequestId>"),
            "{text}"
        );
        let names = Names::of(&parts("http://bucket.s3.localhost/a/b"));
        assert_eq!(
            (names.bucket.as_str(), names.key.as_str()),
            ("bucket", "a/b")
        );
    }
}
