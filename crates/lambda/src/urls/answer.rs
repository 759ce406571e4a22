//! From what a function returns to an HTTP response.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::head::{Head, Malformed, Wanted};
use super::stream;

/// The body of a formatted answer.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Formatted<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    is_base64_encoded: Option<bool>,
}

/// Reads a whole answer. One without a status is taken as it is, as JSON.
pub fn read(payload: &Bytes, content_type: Option<&str>) -> Result<(Head, Bytes), Malformed> {
    if content_type == Some(stream::INTEGRATION) {
        let mut prelude = stream::Prelude::default();
        let (head, rest) = prelude.push(payload)?.ok_or(Malformed("prelude"))?;
        return Ok((head, rest));
    }
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{') => {
            let wanted: Wanted =
                serde_json::from_slice(payload).map_err(|_| Malformed("object"))?;
            if wanted.is_formatted() {
                return formatted(wanted, payload);
            }
            Ok((Head::json(), compact(payload)?))
        }
        Some(b'"') => {
            let text: String = serde_json::from_slice(payload).map_err(|_| Malformed("text"))?;
            Ok((Head::json(), text.into()))
        }
        _ => Ok((Head::json(), compact(payload)?)),
    }
}

fn formatted(wanted: Wanted, payload: &[u8]) -> Result<(Head, Bytes), Malformed> {
    let Formatted {
        body,
        is_base64_encoded,
    } = serde_json::from_slice(payload).map_err(|_| Malformed("body"))?;
    let head = wanted.check()?;
    let raw = body.map_or("null", RawValue::get);
    let text: Cow<'_, str> = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|_| Malformed("body"))?,
        _ if raw == "null" => Cow::Borrowed(""),
        _ => {
            let bytes = compact(raw.as_bytes())?;
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    let body = match is_base64_encoded {
        Some(true) => {
            let bytes = STANDARD.decode(text.as_bytes());
            Bytes::from(bytes.map_err(|_| Malformed("base64"))?)
        }
        _ => Bytes::from(text.into_owned()),
    };
    let body = if head.has_body() { body } else { Bytes::new() };
    Ok((head, body))
}

/// JSON without the spaces between its tokens, as AWS sends it on.
fn compact(json: &[u8]) -> Result<Bytes, Malformed> {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).map_err(|_| Malformed("no JSON"))?;
    let mut out = Vec::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for &byte in json {
        if in_text {
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_text = byte == b'"';
        }
        out.push(byte);
    }
    Ok(out.into())
}

/// The kind of error that a function's error document names.
pub fn error_type(document: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(document).ok()?;
    Some(document.get("errorType")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str) -> (u16, String, String) {
        let (head, body) = read(&Bytes::from(payload.to_owned()), None).unwrap();
        let content_type = head.headers["content-type"].to_str().unwrap().to_owned();
        (
            head.status.as_u16(),
            content_type,
            String::from_utf8(body.into()).unwrap(),
        )
    }

    /// From answers recorded on AWS.
    #[test]
    fn answers_without_a_status_are_json() {
        for (payload, body) in [
            (r#"{"hello": "world"}"#, r#"{"hello":"world"}"#),
            (r#"["hello", 3, true]"#, r#"["hello",3,true]"#),
            (r#""hello""#, "hello"),
            ("3", "3"),
            ("3.1", "3.1"),
            ("true", "true"),
            ("null", "null"),
            (r#"{"a b": "c \" d  e\\"}"#, r#"{"a b":"c \" d  e\\"}"#),
        ] {
            assert_eq!(
                answer(payload),
                (200, "application/json".into(), body.into())
            );
        }
    }

    #[test]
    fn formatted_answers_say_everything_themselves() {
        for (payload, expected) in [
            (
                r#"{"statusCode": 200, "body": "body123"}"#,
                (200, "application/json", "body123"),
            ),
            (
                r#"{"statusCode": 200, "body": "{\"hello\": \"world\"}"}"#,
                (200, "application/json", "{\"hello\": \"world\"}"),
            ),
            (
                r#"{"statusCode":404,"headers":{"Content-Type":"text/html"},"body":"<p>"}"#,
                (404, "text/html", "<p>"),
            ),
            (
                r#"{"statusCode":200,"body":"aGVsbG8=","isBase64Encoded":true}"#,
                (200, "application/json", "hello"),
            ),
            (
                r#"{"statusCode":204,"body":"x"}"#,
                (204, "application/json", ""),
            ),
            (r#"{"statusCode":200}"#, (200, "application/json", "")),
            (
                r#"{"statusCode":200,"body":{"a": 1}}"#,
                (200, "application/json", r#"{"a":1}"#),
            ),
        ] {
            let (status, content_type, body) = expected;
            assert_eq!(answer(payload), (status, content_type.into(), body.into()));
        }
    }

    #[test]
    fn answers_that_mean_nothing_are_refused() {
        for payload in [
            "{",
            "",
            "not json",
            r#"{"statusCode": "abc"}"#,
            r#"{"statusCode": 200, "headers": []}"#,
            r#"{"statusCode": 200, "body": "%%", "isBase64Encoded": true}"#,
            "\"\u{0}\"",
        ] {
            assert!(read(&Bytes::from(payload), None).is_err(), "{payload}");
        }
    }
}
