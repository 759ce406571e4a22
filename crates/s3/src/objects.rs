//! Objects: put, get, delete; and what the rest of the server may call without the protocol.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use clock::Timestamp;
use futures_util::{Stream, StreamExt as _};
use model::AccountId;
use store::{Batch, Expect, Revision};

use crate::access::Who;
use crate::checksum::Expected;
use crate::contents::{self, Body, Contents, Held, Segment, Source};
use crate::events::{EventName, Happened};
use crate::janitor::{Pin, release, remove_files};
use crate::keys;
use crate::record::{self, About, Pairs, Place};
use crate::service::{Bucket, MAX_ATTEMPTS, S3};
use crate::{Error, Result};

/// Names and values of user metadata together, as on AWS.
const MAX_METADATA_BYTES: usize = 2 << 10;

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

/// What must be so for a write to go through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// An entity tag, or `*` for any.
    pub(crate) matches: Option<String>,
    /// Only if there is no object, or none with this entity tag.
    pub(crate) none_match: Option<String>,
}

impl Condition {
    pub(crate) fn check(&self, there: Option<&record::Object>) -> Result<()> {
        if let Some(wanted) = &self.matches {
            match there {
                None => return Err(Error::NoSuchKey),
                Some(object) if wanted == "*" || *wanted == object.etag => {}
                Some(_) => return Err(Error::PreconditionFailed),
            }
        }
        if let Some(unwanted) = &self.none_match {
            let met = there.is_some_and(|object| unwanted == "*" || *unwanted == object.etag);
            if met {
                return Err(Error::PreconditionFailed);
            }
        }
        Ok(())
    }
}

/// How a new object comes about, beside its content.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    pub(crate) about: About,
    pub(crate) tags: Pairs,
    pub(crate) condition: Condition,
    pub(crate) event: EventName,
}

/// A write of one object.
pub(crate) struct Write {
    pub(crate) object: record::Object,
    pub(crate) held: Held,
    pub(crate) condition: Condition,
    pub(crate) event: EventName,
    /// What else belongs into the same write.
    pub(crate) beside: Vec<Beside>,
}

/// A change of another record in the same write.
#[derive(Clone, Debug)]
pub(crate) enum Beside {
    Put(Vec<u8>, Bytes),
    Delete(Vec<u8>),
}

impl S3 {
    /// Takes a body in and stores it as an object.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another thing, and two callers give all"
    )]
    pub(crate) async fn take(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        new: New,
        body: Body,
        limit: u64,
        expected: &Expected,
    ) -> Result<record::Object> {
        check_key(key)?;
        check_metadata(&new.about)?;
        if new.condition != Condition::default() {
            // Nothing needs to be received for a write that cannot go through.
            let there = self.find_object(bucket, key)?;
            new.condition
                .check(there.as_ref().map(|(object, _)| object))?;
        }
        let (held, digests) = self.receive(body, limit, expected).await?;
        let object = record::Object {
            size: digests.size,
            etag: hex::encode(&digests.md5),
            modified: self.clock().now(),
            place: held.place(),
            parts: 0,
            about: new.about,
            tags: new.tags,
            sum: Some(digests.sum),
        };
        let write = Write {
            object,
            held,
            condition: new.condition,
            event: new.event,
            beside: Vec::new(),
        };
        self.write_object(who, bucket, key, write).await
    }

    /// Stores an object in place of what is there.
    pub(crate) async fn write_object(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        write: Write,
    ) -> Result<record::Object> {
        let Write {
            object,
            mut held,
            condition,
            event,
            beside,
        } = write;
        let full = keys::object(bucket.record.id, key);
        let encoded = record::encode(&object)?;
        for _ in 0..MAX_ATTEMPTS {
            let there = self.find_object(bucket, key)?;
            condition.check(there.as_ref().map(|(object, _)| object))?;
            let expect = expect(there.as_ref());
            let mut batch = Batch::new().put(&full, encoded.clone(), expect);
            match &held {
                Held::Empty => {}
                Held::Inline(id, bytes) => {
                    batch = batch.put(keys::inline(*id), bytes.clone(), Expect::Any);
                }
                Held::File(kept) => {
                    batch = batch.put(keys::file(kept.id()), Bytes::new(), Expect::Any);
                }
            }
            let old = there.map_or(Place::Empty, |(object, _)| object.place);
            batch = release(batch, old)?;
            for beside in beside.iter().cloned() {
                batch = match beside {
                    Beside::Put(key, value) => batch.put(key, value, Expect::Any),
                    Beside::Delete(key) => batch.delete(key, Expect::Any),
                };
            }
            let happened = Happened {
                event,
                key,
                object: Some(&object),
            };
            batch = self.announce(batch, who, bucket, &happened)?;
            // From here on the record may be on disk, even if nobody comes to know.
            if let Held::File(kept) = &mut held {
                kept.set_keep(true);
            }
            match self.commit(bucket, batch).await {
                Ok(_) => {
                    self.after_write(vec![old]).await?;
                    return Ok(object);
                }
                Err(error) => {
                    let unwritten = matches!(
                        error,
                        Error::Store(store::Error::Conflict { .. })
                            | Error::SlowDown(_)
                            | Error::OperationAborted
                    );
                    if let Held::File(kept) = &mut held {
                        kept.set_keep(!unwritten);
                    }
                    if !matches!(error, Error::Store(store::Error::Conflict { .. })) {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::OperationAborted)
    }

    /// Stores what is said about an object whose content stays where it is.
    pub(crate) async fn write_same(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        object: record::Object,
        event: EventName,
    ) -> Result<record::Object> {
        for _ in 0..MAX_ATTEMPTS {
            let (there, revision) = self.find_object(bucket, key)?.ok_or(Error::NoSuchKey)?;
            if there.place != object.place {
                return Err(Error::OperationAborted);
            }
            let full = keys::object(bucket.record.id, key);
            let encoded = record::encode(&object)?;
            let batch = Batch::new().put(full, encoded, Expect::Revision(revision));
            let happened = Happened {
                event,
                key,
                object: Some(&object),
            };
            let batch = self.announce(batch, who, bucket, &happened)?;
            match self.commit(bucket, batch).await {
                Ok(_) => {
                    self.after_write(Vec::new()).await?;
                    return Ok(object);
                }
                Err(Error::Store(store::Error::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::OperationAborted)
    }

    /// Deletes objects in one write; those that are not there are no error.
    pub(crate) async fn delete_objects(
        &self,
        who: &Who,
        bucket: &Bucket,
        keys: &[&str],
        condition: &Condition,
    ) -> Result<()> {
        let distinct: HashSet<&str> = keys.iter().copied().collect();
        for _ in 0..MAX_ATTEMPTS {
            let mut batch = Batch::new();
            let mut places = Vec::new();
            for key in &distinct {
                let there = self.find_object(bucket, key)?;
                condition.check(there.as_ref().map(|(object, _)| object))?;
                let Some((object, revision)) = there else {
                    continue;
                };
                let full = keys::object(bucket.record.id, key);
                batch = batch.delete(full, Expect::Revision(revision));
                batch = release(batch, object.place)?;
                places.push(object.place);
                let happened = Happened {
                    event: EventName::RemovedDelete,
                    key,
                    object: None,
                };
                batch = self.announce(batch, who, bucket, &happened)?;
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.commit(bucket, batch).await {
                Ok(_) => return self.after_write(places).await,
                Err(Error::Store(store::Error::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::OperationAborted)
    }

    /// Changes the tags of an object.
    pub(crate) async fn retag(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        tags: Pairs,
        event: EventName,
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let (mut object, revision) = self.find_object(bucket, key)?.ok_or(Error::NoSuchKey)?;
            object.tags.clone_from(&tags);
            let full = keys::object(bucket.record.id, key);
            let encoded = record::encode(&object)?;
            let batch = Batch::new().put(full, encoded, Expect::Revision(revision));
            let happened = Happened {
                event,
                key,
                object: Some(&object),
            };
            let batch = self.announce(batch, who, bucket, &happened)?;
            match self.commit(bucket, batch).await {
                Ok(_) => return self.after_write(Vec::new()).await,
                Err(Error::Store(store::Error::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::OperationAborted)
    }

    /// Does what follows from a write, after it.
    async fn after_write(&self, gone: Vec<Place>) -> Result<()> {
        if gone.iter().any(|place| matches!(place, Place::Parts(_))) {
            self.garbage().notify_one();
        }
        self.outbox().notify_one();
        remove_files(self, gone).await
    }

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

    /// Opens an object, so that its content can be read even if it is replaced meanwhile.
    pub(crate) async fn open_object(&self, bucket: &Bucket, key: &str) -> Result<Opened> {
        for _ in 0..MAX_ATTEMPTS {
            let (record, _) = self.find_object(bucket, key)?.ok_or(Error::NoSuchKey)?;
            let opened = match record.place {
                Place::Parts(id) => {
                    let pin = self.pins().pin(self, id);
                    // Pinned first, looked up then: what is found now stays.
                    self.manifest(id)?.map(|pieces| {
                        let segments = pieces.into_iter().map(|piece| Segment {
                            source: Source::Place(piece.place),
                            offset: 0,
                            length: piece.size,
                        });
                        (segments.collect(), Some(pin))
                    })
                }
                place => self.source(place).await?.map(|source| {
                    let length = record.size;
                    let whole = Segment {
                        source,
                        offset: 0,
                        length,
                    };
                    (vec![whole], None)
                }),
            };
            if let Some((segments, pin)) = opened {
                return Ok(Opened {
                    record,
                    segments,
                    pin,
                });
            }
            // It was replaced between the two looks.
        }
        Err(Error::OperationAborted)
    }
}

fn expect(there: Option<&(record::Object, Revision)>) -> Expect {
    there.map_or(Expect::Absent, |(_, revision)| Expect::Revision(*revision))
}

/// An object whose content stays as long as this does.
pub(crate) struct Opened {
    pub(crate) record: record::Object,
    /// One, or one per part.
    segments: Vec<Segment>,
    pin: Option<Pin>,
}

impl Opened {
    /// The range of a part, counted from 1; an object that came whole is its only part.
    pub(crate) fn part(&self, number: u16) -> Result<Range<u64>> {
        let index = usize::from(number).checked_sub(1);
        let index = index.filter(|index| *index < self.segments.len());
        let index = index.ok_or(Error::InvalidPartNumber)?;
        let before = self.segments[..index].iter();
        let from = before.map(|segment| segment.length).sum();
        Ok(from..from + self.segments[index].length)
    }

    /// The bytes in `range`, which must lie within the object.
    pub(crate) fn contents(self, s3: &S3, range: Range<u64>) -> Contents {
        let mut wanted = VecDeque::new();
        let mut from = 0;
        for segment in self.segments {
            let to = from + segment.length;
            let (first, last) = (range.start.max(from), range.end.min(to));
            if first < last {
                wanted.push_back(part_of(segment, first - from, last - first));
            }
            from = to;
        }
        Contents::new(s3, wanted, self.pin)
    }
}

fn part_of(segment: Segment, offset: u64, length: u64) -> Segment {
    if let Source::Bytes(bytes) = &segment.source {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let to = usize::try_from(offset + length)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        return Segment {
            source: Source::Bytes(bytes.slice(from..to)),
            offset: 0,
            length,
        };
    }
    Segment {
        source: segment.source,
        offset: segment.offset + offset,
        length,
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

pub(crate) fn check_metadata(about: &About) -> Result<()> {
    let size: usize = about
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MAX_METADATA_BYTES {
        return Err(Error::MetadataTooLarge);
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
    fn conditions_are_about_what_is_there() {
        let there = record::Object {
            size: 0,
            etag: "a".into(),
            modified: Timestamp::default(),
            place: Place::Empty,
            parts: 0,
            about: About::default(),
            tags: Vec::new(),
            sum: None,
        };
        let code = |matches: Option<&str>, none_match: Option<&str>, there: bool, object| {
            let condition = Condition {
                matches: matches.map(str::to_owned),
                none_match: none_match.map(str::to_owned),
            };
            condition
                .check(Some(object).filter(|_| there))
                .map_err(|error| error.code())
        };
        assert_eq!(code(None, Some("*"), false, &there), Ok(()));
        assert_eq!(
            code(None, Some("*"), true, &there),
            Err("PreconditionFailed")
        );
        assert_eq!(code(None, Some("b"), true, &there), Ok(()));
        assert_eq!(code(Some("a"), None, true, &there), Ok(()));
        assert_eq!(code(Some("*"), None, true, &there), Ok(()));
        assert_eq!(
            code(Some("b"), None, true, &there),
            Err("PreconditionFailed")
        );
        assert_eq!(code(Some("a"), None, false, &there), Err("NoSuchKey"));
    }

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
