//! What is stored: a record per target, with its policies and scheduled actions, and one per
//! activity. JSON with a format number.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

const FORMAT: u32 = 1;
pub(crate) const TARGETS: &str = "t/";
pub(crate) const ACTIVITIES: &str = "a/";

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    body: T,
}

pub(crate) fn encode<T: Serialize>(body: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(&Envelope {
        format: FORMAT,
        body,
    })
    .map(Bytes::from)
    .map_err(|_| Error::Record { what: "record" })
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, Error> {
    let damaged = || Error::Record { what: "record" };
    let envelope: Envelope<T> = serde_json::from_slice(value).map_err(|_| damaged())?;
    if envelope.format != FORMAT {
        return Err(damaged());
    }
    Ok(envelope.body)
}
