//! Writes of objects: one stored in place of another, changed or deleted, under conditions and with
//! the event that tells of it.

use std::collections::HashSet;

use bytes::Bytes;
use store::{Batch, Expect, Revision};

use super::check_key;
use crate::access::Who;
use crate::checksum::Expected;
use crate::contents::{Body, Held};
use crate::events::{EventName, Happened};
use crate::janitor::{release, remove_files};
use crate::keys;
use crate::record::{self, About, Pairs, Place};
use crate::service::{Bucket, MAX_ATTEMPTS, S3};
use crate::{Error, Result};

/// Names and values of user metadata together, as on AWS.
const MAX_METADATA_BYTES: usize = 2 << 10;

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
        self.rewrite(who, bucket, key, event, |there| {
            if there.place != object.place {
                return Err(Error::OperationAborted);
            }
            Ok(object.clone())
        })
        .await
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
        self.rewrite(who, bucket, key, event, |there| {
            let tags = tags.clone();
            Ok(record::Object { tags, ..there })
        })
        .await?;
        Ok(())
    }

    /// Stores another record of an object in place of the one that is there.
    async fn rewrite(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        event: EventName,
        change: impl Fn(record::Object) -> Result<record::Object>,
    ) -> Result<record::Object> {
        for _ in 0..MAX_ATTEMPTS {
            let (there, revision) = self.find_object(bucket, key)?.ok_or(Error::NoSuchKey)?;
            let object = change(there)?;
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

    /// Does what follows from a write, after it.
    async fn after_write(&self, gone: Vec<Place>) -> Result<()> {
        if gone.iter().any(|place| matches!(place, Place::Parts(_))) {
            self.garbage().notify_one();
        }
        self.outbox().notify_one();
        remove_files(self, gone).await
    }
}

fn expect(there: Option<&(record::Object, Revision)>) -> Expect {
    there.map_or(Expect::Absent, |(_, revision)| Expect::Revision(*revision))
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

#[cfg(test)]
mod tests {
    use clock::Timestamp;

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
}
