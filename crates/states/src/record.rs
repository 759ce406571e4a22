//! How things are stored: a byte that says the format, and JSON behind it.
//!
//! Records that have been written as one JSON object, with the format and the record as its members,
//! are read as well.

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use store::{Record, Table};

use crate::Error;

/// Never that of `{`, by which an [`Envelope`] is known.
const FORMAT: u8 = 1;
const PAGE: usize = 1_000;

/// The form in which machines, activities and map runs were written first.
#[derive(Deserialize)]
struct Envelope<T> {
    format: u8,
    body: T,
}

pub(crate) fn encode<T: Serialize>(what: &'static str, body: &T) -> Result<Bytes, Error> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    serde_json::to_writer(&mut bytes, body).map_err(|source| Error::Record { what, source })?;
    Ok(bytes.into())
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, Error> {
    read(value).map_err(|source| Error::Record { what, source })
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, serde_json::Error> {
    let format = match value {
        [] => return Err(serde_json::Error::custom("it is empty")),
        [FORMAT, json @ ..] => return serde_json::from_slice(json),
        [b'{', ..] => {
            let Envelope { format, body } = serde_json::from_slice(value)?;
            if format == FORMAT {
                return Ok(body);
            }
            format
        }
        [format, ..] => *format,
    };
    let text = format!("its format is {format}, not {FORMAT}");
    Err(serde_json::Error::custom(text))
}

/// All records whose keys begin with `prefix`, by key.
pub(crate) fn scan(
    table: &Table,
    prefix: &str,
    mut each: impl FnMut(Record) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut after: Option<Bytes> = None;
    loop {
        let records = table.scan(prefix, after.as_deref(), PAGE)?;
        let done = records.len() < PAGE;
        after = records.last().map(|record| record.key.clone());
        records.into_iter().try_for_each(&mut each)?;
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(stored: &[u8]) -> String {
        let error = decode::<String>("machine", stored).unwrap_err();
        assert_eq!(error.to_string(), "the stored machine cannot be read");
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn a_record_is_read_in_each_form_that_was_ever_written() {
        let stored = encode("machine", &"a").unwrap();
        assert_eq!(&stored[..], b"\x01\"a\"");
        for stored in [&stored[..], br#"{"format":1,"body":"a"}"#] {
            assert_eq!(decode::<String>("machine", stored).unwrap(), "a");
        }
    }

    #[test]
    fn a_record_of_another_format_is_refused_by_name() {
        for newer in [&br#"{"format":2,"body":"a"}"#[..], b"\x02\"a\""] {
            assert_eq!(refusal(newer), "its format is 2, not 1");
        }
        assert_eq!(refusal(b""), "it is empty");
        assert!(refusal(b"\x01\"a").starts_with("EOF while parsing"));
        assert!(refusal(b"{").starts_with("EOF while parsing"));
    }
}
