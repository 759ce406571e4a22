//! What groups and streams look like on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;

/// The version of both forms. A later one reads this one too.
const VERSION: u8 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    version: u8,
    /// Begins the keys of the group's streams. A group that is made anew gets another, so nothing
    /// of the deleted one can show up in it.
    pub(crate) id: Uuid,
    pub(crate) created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention_days: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kms_key_id: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) deletion_protection: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StreamRecord {
    version: u8,
    /// The key of the stream's events.
    pub(crate) id: Uuid,
    pub(crate) created: Timestamp,
}

impl GroupRecord {
    pub(crate) fn new(created: Timestamp) -> Self {
        Self {
            version: VERSION,
            id: Uuid::new_v4(),
            created,
            retention_days: None,
            class: None,
            kms_key_id: None,
            tags: BTreeMap::new(),
            deletion_protection: false,
        }
    }
}

impl StreamRecord {
    pub(crate) fn new(created: Timestamp) -> Self {
        Self {
            version: VERSION,
            id: Uuid::new_v4(),
            created,
        }
    }
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(record)
        .map(Bytes::from)
        .map_err(|_| Error::Record { what: "record" })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|_| Error::Record { what })
}
