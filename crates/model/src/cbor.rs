//! CBOR documents, read as the JSON that says the same.
//!
//! CBOR names the kind of every value, so no schema is needed on the way in: a tagged moment
//! becomes a number of seconds, bytes become base64, and what JSON has no number for becomes its
//! AWS name. From there on [`crate::json`] reads it, and refuses it in the same words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cbor4ii::core::Value;
use cbor4ii::core::dec::Decode as _;
use cbor4ii::core::utils::SliceReader;

use crate::DecodeError;
use crate::json::Writer;

/// Seconds since the epoch. The only tag that the AWS protocols use.
const EPOCH: u64 = 1;

/// The JSON text of a CBOR document.
pub(crate) fn to_json(body: &[u8]) -> Result<Bytes, DecodeError> {
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let mut reader = SliceReader::new(body);
    let value = Value::decode(&mut reader)
        .map_err(|_| DecodeError::serialization("Could not parse the CBOR document"))?;
    let mut writer = Writer::new();
    write(&mut writer, &value)?;
    Ok(writer.into_bytes())
}

fn write(writer: &mut Writer, value: &Value) -> Result<(), DecodeError> {
    match value {
        Value::Null => writer.raw("null"),
        Value::Bool(value) => writer.boolean(*value),
        Value::Integer(value) => writer.raw(&value.to_string()),
        Value::Float(value) => writer.float(*value),
        Value::Text(text) => writer.string(text),
        Value::Bytes(bytes) => writer.string(&STANDARD.encode(bytes)),
        Value::Tag(EPOCH, moment) if is_number(moment) => write(writer, moment)?,
        Value::Array(values) => {
            writer.raw("[");
            for (index, value) in values.iter().enumerate() {
                writer.raw(if index == 0 { "" } else { "," });
                write(writer, value)?;
            }
            writer.raw("]");
        }
        Value::Map(entries) => {
            writer.raw("{");
            for (index, (key, value)) in entries.iter().enumerate() {
                let Value::Text(key) = key else {
                    return Err(DecodeError::serialization("A key must be a string"));
                };
                writer.raw(if index == 0 { "" } else { "," });
                writer.string(key);
                writer.raw(":");
                write(writer, value)?;
            }
            writer.raw("}");
        }
        _ => return Err(DecodeError::serialization("Unexpected kind of CBOR value")),
    }
    Ok(())
}

const fn is_number(value: &Value) -> bool {
    matches!(value, Value::Integer(_) | Value::Float(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(hex: &str) -> Result<String, DecodeError> {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        to_json(&bytes).map(|json| String::from_utf8(json.to_vec()).unwrap())
    }

    #[test]
    fn every_kind_of_value_has_its_json() {
        for (cbor, expected) in [
            ("", ""),
            ("f6", "null"),
            ("f5", "true"),
            ("1a000f4240", "1000000"),
            ("3903e7", "-1000"),
            ("fb3ff199999999999a", "1.1"),
            ("f93e00", "1.5"),
            ("f97e00", "\"NaN\""),
            ("6161", "\"a\""),
            ("4401020304", "\"AQIDBA==\""),
            ("c11a514b67b0", "1363896240"),
            ("c1fb41d452d9ec200000", "1363896240.5"),
            ("83010203", "[1,2,3]"),
            ("9f0102ff", "[1,2]"),
            ("a26161016162820203", "{\"a\":1,\"b\":[2,3]}"),
            ("bf6161f4ff", "{\"a\":false}"),
        ] {
            assert_eq!(json(cbor).as_deref(), Ok(expected), "{cbor}");
        }
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        for cbor in [
            "ff",
            "a1",
            "a10102",
            "c249010000000000000000",
            "5b7fffffffffffffff",
        ] {
            assert!(json(cbor).is_err(), "{cbor}");
        }
        assert!(to_json(&[0x81; 1 << 20]).is_err());
    }
}
