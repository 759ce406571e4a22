//! How things are stored: JSON with a format number.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Record, Table};

use crate::Error;

const FORMAT: u32 = 1;
const PAGE: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    body: T,
}

pub(crate) fn encode<T: Serialize>(what: &'static str, body: &T) -> Result<Bytes, Error> {
    let format = FORMAT;
    serde_json::to_vec(&Envelope { format, body })
        .map(Bytes::from)
        .map_err(|source| Error::Record { what, source })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, Error> {
    let damaged = |source| Error::Record { what, source };
    let envelope: Envelope<T> = serde_json::from_slice(value).map_err(damaged)?;
    if envelope.format != FORMAT {
        let text = format!("its format is {}, not {FORMAT}", envelope.format);
        return Err(damaged(serde::de::Error::custom(text)));
    }
    Ok(envelope.body)
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

    #[test]
    fn a_record_of_another_format_is_refused_by_name() {
        let stored = encode("machine", &"a").unwrap();
        assert_eq!(decode::<String>("machine", &stored).unwrap(), "a");
        let newer = br#"{"format":2,"body":"a"}"#;
        let error = decode::<String>("machine", newer).unwrap_err();
        assert_eq!(error.to_string(), "the stored machine cannot be read");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "its format is 2, not 1");
    }
}
