//! Objects: put, get, delete; and what the rest of the server may call without the protocol.

mod opened;
mod writes;

use std::ops::Range;

use bytes::Bytes;
use clock::Timestamp;
use futures_util::{Stream, StreamExt as _};
use model::AccountId;
use store::Revision;

use crate::access::Who;
use crate::checksum::Expected;
use crate::contents::{self, Body, Contents};
use crate::keys;
use crate::record::{self, About};
use crate::service::{Bucket, S3};
use crate::{Error, Result};

pub(crate) use self::opened::Opened;
pub(crate) use self::writes::{Beside, Condition, New, Write, check_metadata};

/// An object without its content.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    pub key: String,
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    pub modified: Timestamp,
    pub content_type: Option<String>,
    pub storage_class: String,
    /// What a client stored with it, names without `x-amz-meta-`.
    pub metadata: Vec<(String, String)>,
}

/// What to put.
pub struct Put {
    body: Body,
    size: Option<u64>,
    about: About,
}

impl Put {
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            size: Some(bytes.len() as u64),
            body: contents::body_of(bytes),
            about: About::default(),
        }
    }

    /// What a stream produces. An error of the stream is that of the put, and nothing is stored.
    pub fn stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self {
            size: None,
            body: Box::pin(stream.map(|chunk| chunk.map_err(|error| Error::Body(error.into())))),
            about: About::default(),
        }
    }

    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.about.content_type = Some(content_type.into());
        self
    }

    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.about.metadata.push((name.into(), value.into()));
        self
    }
}

impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Put")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// In process: no signatures, but the same permissions as through the protocol, for the account
/// that the caller acts for.
impl S3 {
    /// An object and its content, or the bytes of it in `range`.
    pub async fn get_object(
        &self,
        account: &AccountId,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Object, Contents)> {
        let bucket = self.bucket(bucket)?;
        let who = Who::account(account, &bucket.record.region);
        self.authorise(&who, &bucket, "s3:GetObject", Some(key))?;
        let opened = self.open_object(&bucket, key).await?;
        let size = opened.record.size;
        let range = match range {
            None => 0..size,
            Some(range) if range.start <= range.end && range.end <= size => range,
            Some(_) => return Err(Error::InvalidRange { size }),
        };
        let object = Object::new(key, &opened.record);
        Ok((object, opened.contents(self, range)))
    }

    /// Stores an object; it is on disk when this returns.
    pub async fn put_object(
        &self,
        account: &AccountId,
        bucket: &str,
        key: &str,
        put: Put,
    ) -> Result<Object> {
        let bucket = self.bucket(bucket)?;
        let who = Who::account(account, &bucket.record.region);
        self.authorise(&who, &bucket, "s3:PutObject", Some(key))?;
        let (s3, key) = (self.clone(), key.to_owned());
        // A write that has begun goes on when nobody waits for it any more.
        let work = tokio::spawn(async move {
            let Put { body, size, about } = put;
            let expected = Expected {
                size,
                ..Expected::default()
            };
            let new = New {
                about,
                ..New::default()
            };
            let limit = s3.config().max_object_bytes;
            let stored = s3
                .take(&who, &bucket, &key, new, body, limit, &expected)
                .await?;
            Ok(Object::new(&key, &stored))
        });
        work.await.unwrap_or(Err(Error::Stopping))
    }

    /// Up to `limit` objects whose keys begin with `prefix` and come after `after`, by key. At most
    /// 10,000 at once.
    pub fn list(
        &self,
        account: &AccountId,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Object>> {
        let bucket = self.bucket(bucket)?;
        let who = Who::account(account, &bucket.record.region);
        self.authorise(&who, &bucket, "s3:ListBucket", None)?;
        let found = self.scan(&bucket, prefix, after, limit.min(10_000))?;
        Ok(found
            .into_iter()
            .map(|(key, record)| Object::new(&key, &record))
            .collect())
    }
}

impl Object {
    fn new(key: &str, record: &record::Object) -> Self {
        Self {
            key: key.to_owned(),
            size: record.size,
            etag: record.etag.clone(),
            modified: record.modified,
            content_type: record.about.content_type.clone(),
            storage_class: record.storage_class().to_owned(),
            metadata: record.about.metadata.clone(),
        }
    }
}

impl record::Object {
    pub(crate) fn storage_class(&self) -> &str {
        self.about.storage_class.as_deref().unwrap_or("STANDARD")
    }
}

impl S3 {
    pub(crate) fn find_object(
        &self,
        bucket: &Bucket,
        key: &str,
    ) -> Result<Option<(record::Object, Revision)>> {
        if key.len() > keys::MAX_KEY_BYTES {
            return Err(Error::KeyTooLong);
        }
        let found = self.table().get(keys::object(bucket.record.id, key))?;
        found
            .map(|found| Ok((record::decode(&found.value)?, found.revision)))
            .transpose()
    }
}

pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.len() > keys::MAX_KEY_BYTES {
        return Err(Error::KeyTooLong);
    }
    if key.is_empty() {
        return Err(Error::argument("Object key must not be empty"));
    }
    Ok(())
}

/// Reads `x-amz-copy-source-range`: `bytes=first-last`, within an object of `size` bytes.
pub(crate) fn parse_copy_range(text: &str, size: u64) -> Result<Range<u64>> {
    let invalid = || {
        Error::argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
             and last are the zero-based offsets of the first and last bytes to copy",
        )
    };
    let (first, last) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or_else(invalid)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| invalid());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(invalid());
    }
    if last >= size {
        return Err(Error::argument(format!(
            "Range specified is not valid for source object of size: {size}"
        )));
    }
    Ok(first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_range_lies_within_the_source() {
        assert_eq!(parse_copy_range("bytes=0-9", 10).unwrap(), 0..10);
        for bad in [
            "bytes=0-10",
            "bytes=5-4",
            "bytes=-5",
            "0-9",
            "bytes=0-",
            "bytes=a-b",
        ] {
            assert!(parse_copy_range(bad, 10).is_err(), "{bad}");
        }
    }
}
