//! The objects that map runs read and write: S3, whoever serves it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use model::{AccountId, Region};
use protocol::BoxFuture;

use super::source::Unreadable;

/// For whom objects are read and written.
#[derive(Clone, Debug)]
pub struct Who {
    pub account: AccountId,
    pub region: Region,
    pub role_arn: String,
}

/// The content of an object.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, ObjectError>> + Send + Sync>>;

/// What a list of objects says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub size: u64,
    /// With its quotation marks.
    pub etag: String,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    pub storage_class: String,
}

/// What S3 answered instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (Service: Amazon S3; Status Code: {status}; Error Code: {code})")]
pub struct ObjectError {
    pub code: String,
    pub message: String,
    pub status: u16,
}

impl From<ObjectError> for Unreadable {
    fn from(error: ObjectError) -> Self {
        Self::new(error.to_string())
    }
}

/// An object to read: bucket, key and version.
#[derive(Clone, Debug)]
pub struct Get {
    pub who: Who,
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

/// Objects to list, by key.
#[derive(Clone, Debug)]
pub struct List {
    pub who: Who,
    pub bucket: String,
    pub prefix: String,
    pub after: Option<String>,
    pub limit: usize,
}

/// An object to write.
#[derive(Clone, Debug)]
pub struct Put {
    pub who: Who,
    pub bucket: String,
    pub key: String,
    pub body: Bytes,
}

type Answer<T> = BoxFuture<'static, Result<T, ObjectError>>;

/// How objects are reached; the assembly says it.
#[derive(Clone)]
pub struct Objects {
    pub get: Arc<dyn Fn(Get) -> Answer<Body> + Send + Sync>,
    /// Fewer than `limit` objects are the last ones.
    pub list: Arc<dyn Fn(List) -> Answer<Vec<Found>> + Send + Sync>,
    pub put: Arc<dyn Fn(Put) -> Answer<()> + Send + Sync>,
}

impl Objects {
    /// No S3 at all: everything is refused with the setting that would help.
    pub fn none() -> Self {
        fn refused<T: Send + 'static>() -> Answer<T> {
            let refused = ObjectError {
                code: "ServiceUnavailable".into(),
                message: "There is no S3: set [s3] or [upstream] s3 in the configuration".into(),
                status: 503,
            };
            Box::pin(async move { Err(refused) })
        }
        Self {
            get: Arc::new(|_| refused()),
            list: Arc::new(|_| refused()),
            put: Arc::new(|_| refused()),
        }
    }

    pub(super) async fn get(
        &self,
        who: &Who,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Body, ObjectError> {
        (self.get)(Get {
            who: who.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: version.map(str::to_owned),
        })
        .await
    }

    pub(super) async fn list(
        &self,
        who: &Who,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, ObjectError> {
        (self.list)(List {
            who: who.clone(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
        })
        .await
    }

    pub(super) async fn put(
        &self,
        who: &Who,
        bucket: &str,
        key: &str,
        body: Bytes,
    ) -> Result<(), ObjectError> {
        (self.put)(Put {
            who: who.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            body,
        })
        .await
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::none()
    }
}

/// Objects in memory.
#[cfg(test)]
pub mod memory {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    pub type Kept = Arc<Mutex<BTreeMap<(String, String), Vec<u8>>>>;

    /// Objects that are kept in a map, by bucket and key, given in pieces of `piece_bytes`.
    pub fn objects(kept: &Kept, piece_bytes: usize) -> Objects {
        let missing = |code: &str| ObjectError {
            code: code.into(),
            message: "The specified key does not exist.".into(),
            status: 404,
        };
        let (get, list, put) = (Arc::clone(kept), Arc::clone(kept), Arc::clone(kept));
        Objects {
            get: Arc::new(move |wanted: Get| {
                let found = get
                    .lock()
                    .unwrap()
                    .get(&(wanted.bucket, wanted.key))
                    .cloned();
                let pieces = found.ok_or_else(|| missing("NoSuchKey")).map(|bytes| {
                    let pieces: Vec<_> = bytes
                        .chunks(piece_bytes)
                        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
                        .collect();
                    Box::pin(futures_util::stream::iter(pieces)) as Body
                });
                Box::pin(async move { pieces })
            }),
            list: Arc::new(move |wanted: List| {
                let after = wanted.after.unwrap_or_default();
                let found: Vec<Found> = list
                    .lock()
                    .unwrap()
                    .iter()
                    .filter(|((bucket, key), _)| {
                        *bucket == wanted.bucket && key.starts_with(&wanted.prefix) && *key > after
                    })
                    .take(wanted.limit)
                    .map(|((_, key), bytes)| Found {
                        key: key.clone(),
                        size: bytes.len() as u64,
                        etag: "\"e\"".into(),
                        modified_ms: 1_789_180_622_345,
                        storage_class: "STANDARD".into(),
                    })
                    .collect();
                Box::pin(async move { Ok(found) })
            }),
            put: Arc::new(move |given: Put| {
                let key = (given.bucket, given.key);
                put.lock().unwrap().insert(key, given.body.to_vec());
                Box::pin(async move { Ok(()) })
            }),
        }
    }
}
