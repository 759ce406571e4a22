//! What an invocation may carry, and how AWS refuses the rest.
//!
//! AWS parses payloads with Jackson and passes its complaints on. A valid payload is only scanned,
//! nothing is built from it; only for an invalid one does [`complaint`] look for the words that
//! Jackson would have found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use crate::error::{Constraint, Error};

/// Limit of a synchronous payload, both ways.
pub const MAX_PAYLOAD_BYTES: usize = 6_291_456;
const MAX_CLIENT_CONTEXT_BYTES: usize = 3583;
const EXPECTED: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// Refuses a payload that is too large or not JSON. No payload at all is fine.
pub fn check(payload: &[u8]) -> Result<(), Error> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::PayloadTooLarge {
            size: payload.len(),
            invocation_type: "RequestResponse",
            limit: MAX_PAYLOAD_BYTES,
        });
    }
    // The scan skips over strings without looking at their encoding.
    let valid = std::str::from_utf8(payload).is_ok()
        && serde_json::from_slice::<IgnoredAny>(payload).is_ok();
    if valid || payload.is_empty() {
        return Ok(());
    }
    let reason = format!("Could not parse payload into json: {}", complaint(payload));
    Err(Error::InvalidRequestContent { reason })
}

/// Decodes the client context, which a header carries as base64 of a JSON object.
pub fn client_context(header: Option<&str>) -> Result<Option<String>, Constraint> {
    let Some(header) = header.filter(|header| !header.is_empty()) else {
        return Ok(None);
    };
    if header.len() > MAX_CLIENT_CONTEXT_BYTES {
        return Err(Constraint::ClientContextTooLong);
    }
    let bytes = STANDARD
        .decode(header)
        .map_err(|_| Constraint::ClientContext)?;
    let text = String::from_utf8(bytes).map_err(|_| Constraint::ClientContext)?;
    let is_object = text.trim_start().starts_with('{');
    if !is_object || serde_json::from_str::<IgnoredAny>(&text).is_err() {
        return Err(Constraint::ClientContext);
    }
    Ok(Some(text))
}

/// Jackson's words for what is wrong, exact for a bad first token and approximate further in.
fn complaint(payload: &[u8]) -> String {
    let start = payload
        .iter()
        .position(|byte| !b" \t\r\n".contains(byte))
        .unwrap_or(payload.len());
    let Some(first) = payload.get(start).copied() else {
        return at("No content to map due to end-of-input", payload, start);
    };
    match first {
        b'a'..=b'z' | b'A'..=b'Z' | b'$' | b'_' => {
            bad_word(payload, start).unwrap_or_else(|| further_in(payload))
        }
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' => further_in(payload),
        other => at(
            &format!(
                "Unexpected character ({}): expected a valid value {EXPECTED}",
                shown(other)
            ),
            payload,
            start,
        ),
    }
}

/// A word that is none of JSON's three, or that ends in a broken character.
fn bad_word(payload: &[u8], start: usize) -> Option<String> {
    let rest = &payload[start..];
    let length = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"$_".contains(byte))
        .unwrap_or(rest.len());
    let word = String::from_utf8_lossy(&rest[..length]);
    let next = rest.get(length).copied();
    if let Some(byte) = next.filter(|byte| matches!(byte, 0x80..=0xc1 | 0xf8..)) {
        return Some(at(
            &format!("Invalid UTF-8 start byte 0x{byte:x}"),
            payload,
            start + length + 1,
        ));
    }
    if matches!(&*word, "null" | "true" | "false") {
        return None;
    }
    let message = format!("Unrecognized token '{word}': was expecting {EXPECTED}");
    Some(at(&message, payload, start + length))
}

fn further_in(payload: &[u8]) -> String {
    if let Err(error) = std::str::from_utf8(payload) {
        let position = error.valid_up_to();
        let byte = payload.get(position).copied().unwrap_or_default();
        let which = if matches!(byte, 0x80..=0xc1 | 0xf8..) {
            "start"
        } else {
            "middle"
        };
        let offset = usize::from(which == "middle");
        let byte = payload.get(position + offset).copied().unwrap_or(byte);
        let message = format!("Invalid UTF-8 {which} byte 0x{byte:x}");
        return at(&message, payload, position + offset + 1);
    }
    match serde_json::from_slice::<IgnoredAny>(payload) {
        Err(error) if error.is_eof() => at(
            "Unexpected end-of-input: expected close marker",
            payload,
            payload.len(),
        ),
        Err(error) => {
            let position = offset_of(payload, error.line(), error.column());
            let byte = payload.get(position).copied().unwrap_or_default();
            let message = format!(
                "Unexpected character ({}): expected a valid value {EXPECTED}",
                shown(byte)
            );
            at(&message, payload, position)
        }
        Ok(_) => at("Unexpected content", payload, 0),
    }
}

/// serde counts columns from one, and names the byte it stumbled over.
fn offset_of(payload: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        let rest = payload.get(start..).unwrap_or_default();
        start += rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |at| at + 1);
    }
    start + column.saturating_sub(1)
}

fn shown(byte: u8) -> String {
    if !(0x20..0x7f).contains(&byte) {
        format!("(CTRL-CHAR, code {byte})")
    } else {
        format!("'{}' (code {byte})", char::from(byte))
    }
}

fn at(message: &str, payload: &[u8], position: usize) -> String {
    let before = &payload[..position.min(payload.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = position - line_start + 1;
    format!(
        "{message}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` \
         disabled); line: {line}, column: {column}]"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(payload: &[u8]) -> String {
        check(payload).unwrap_err().to_string()
    }

    #[test]
    fn json_of_any_kind_and_nothing_at_all_are_accepted() {
        for payload in ["", "{}", " [1, 2] ", "\"text\"", "null", "-1.5e3", "true"] {
            assert!(check(payload.as_bytes()).is_ok(), "{payload}");
        }
        let deep = "[".repeat(900) + &"]".repeat(900);
        assert!(check(deep.as_bytes()).is_ok());
    }

    #[test]
    fn recorded_refusals_are_given_word_for_word() {
        assert_eq!(
            refusal(b"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt"),
            "Could not parse request body into json: Could not parse payload into json: Invalid \
             UTF-8 start byte 0x87\n at [Source: REDACTED \
             (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 3]"
        );
        assert_eq!(
            refusal(b"\x99\xeb,j\x07\xa1zYh"),
            "Could not parse request body into json: Could not parse payload into json: \
             Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, \
             Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: REDACTED \
             (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 1]"
        );
    }

    #[test]
    fn words_and_broken_documents_are_refused() {
        assert!(refusal(b"hello").contains("Unrecognized token 'hello': was expecting"));
        assert!(refusal(b"{\"a\":").contains("Unexpected end-of-input"));
        assert!(refusal(b"{\"a\": x}").contains("Unexpected character ('x' (code 120))"));
        assert!(refusal(b"\"\xff\"").contains("Invalid UTF-8 start byte 0xff"));
        assert!(matches!(
            check(b"{} {}"),
            Err(Error::InvalidRequestContent { .. })
        ));
    }

    #[test]
    fn payloads_beyond_6_mb_are_refused() {
        let payload = format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES - 2));
        assert!(check(payload.as_bytes()).is_ok());
        let payload = format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES - 1));
        assert_eq!(
            refusal(payload.as_bytes()),
            "6291457 byte payload is too large for the RequestResponse invocation type (limit \
             6291456 bytes)"
        );
    }

    #[test]
    fn the_client_context_is_a_json_object_in_base64() {
        let encode = |text: &str| STANDARD.encode(text);
        assert_eq!(client_context(None), Ok(None));
        let object = r#"{"custom": {"foo": "bar"}}"#;
        assert_eq!(
            client_context(Some(&encode(object))),
            Ok(Some(object.to_owned()))
        );
        for bad in ["%%%", &encode("[1]"), &encode("{"), &"A".repeat(3584)] {
            assert!(client_context(Some(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn refusing_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&payload);
        }

        #[test]
        fn nearly_json_never_panics(payload in "[\\[\\]{}\",:a-z0-9\\n\\\\ é-]{0,60}") {
            let _ = check(payload.as_bytes());
        }
    }
}
