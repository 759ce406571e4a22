//! Multipart uploads. Their parts stay where they are when an upload is completed: the object only
//! refers to them.

use std::sync::Arc;

use bytes::Bytes;
use store::{Batch, Expect};

use crate::access::Who;
use crate::checksum::{Expected, Sum, Summing, etag_of_parts};
use crate::contents::{Body, Held};
use crate::events::EventName;
use crate::janitor::{self, release, remove_files};
use crate::keys::{self, Id};
use crate::objects::{Beside, Condition, Write, check_key};
use crate::record::{self, Garbage, Part, Piece, Place, Upload};
use crate::service::{Bucket, MAX_ATTEMPTS, S3};
use crate::{Error, Result};

pub(crate) const MAX_PARTS: u16 = 10_000;

/// A part as a client names it to complete an upload.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) number: u16,
    pub(crate) etag: Option<String>,
    pub(crate) sum: Option<Sum>,
}

/// What a client says of the object as a whole.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) sum: Option<Sum>,
    pub(crate) size: Option<u64>,
    pub(crate) condition: Condition,
}

pub(crate) fn part_number(number: i32) -> Result<u16> {
    let number = u16::try_from(number).ok();
    number
        .filter(|number| (1..=MAX_PARTS).contains(number))
        .ok_or_else(|| {
            Error::argument("Part number must be an integer between 1 and 10000, inclusive")
        })
}

impl S3 {
    pub(crate) async fn create_upload(
        &self,
        bucket: &Bucket,
        key: &str,
        upload: &Upload,
    ) -> Result<Id> {
        check_key(key)?;
        let id = self.next_id();
        let full = keys::upload(bucket.record.id, key, id);
        let batch = Batch::new().put(full, record::encode(upload)?, Expect::Absent);
        self.commit(bucket, batch).await?;
        Ok(id)
    }

    pub(crate) fn find_upload(&self, bucket: &Bucket, key: &str, id: &str) -> Result<(Id, Upload)> {
        let id = Id::parse(id).ok_or(Error::NoSuchUpload)?;
        if self.with_closing(|closing| closing.contains(&id)) {
            return Err(Error::NoSuchUpload);
        }
        let found = self.table().get(keys::upload(bucket.record.id, key, id))?;
        let found = found.ok_or(Error::NoSuchUpload)?;
        Ok((id, record::decode(&found.value)?))
    }

    pub(crate) async fn upload_part(
        &self,
        (id, upload, upload_key): (Id, &Upload, &[u8]),
        number: u16,
        body: Body,
        mut expected: Expected,
    ) -> Result<Part> {
        let algorithm = upload.summing.algorithm;
        let differs =
            expected.sum.is_some() || expected.trailer.is_some() || expected.algorithm.is_some();
        if upload.summing.asked && differs && expected.algorithm() != algorithm {
            return Err(Error::request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum \
                 Type: {}",
                algorithm.name().to_ascii_lowercase(),
                expected.algorithm().name().to_ascii_lowercase()
            )));
        }
        if !differs {
            expected.algorithm = Some(algorithm);
        }
        let limit = self.config().max_put_bytes;
        let (mut held, digests) = self.receive(body, limit, &expected).await?;
        let part = Part {
            size: digests.size,
            etag: hex::encode(&digests.md5),
            modified: self.clock().now(),
            place: held.place(),
            sum: digests.sum,
        };
        self.store_part((id, upload_key), number, &part, &mut held)
            .await?;
        Ok(part)
    }

    async fn store_part(
        &self,
        (id, upload_key): (Id, &[u8]),
        number: u16,
        part: &Part,
        held: &mut Held,
    ) -> Result<()> {
        let full = keys::part(id, number);
        let encoded = record::encode(part)?;
        for _ in 0..MAX_ATTEMPTS {
            let there = self.table().get(&full)?;
            let expect = match &there {
                None => Expect::Absent,
                Some(there) => Expect::Revision(there.revision),
            };
            let old = match &there {
                None => Place::Empty,
                Some(there) => record::decode::<Part>(&there.value)?.place,
            };
            let mut batch = Batch::new().put(&full, encoded.clone(), expect);
            match &*held {
                Held::Empty => {}
                Held::Inline(content, bytes) => {
                    batch = batch.put(keys::inline(*content), bytes.clone(), Expect::Any);
                }
                Held::File(kept) => {
                    batch = batch.put(keys::file(kept.id()), Bytes::new(), Expect::Any);
                }
            }
            batch = release(batch, old)?;
            if let Held::File(kept) = held {
                kept.set_keep(true);
            }
            // Queued while the upload cannot begin to end, so that its end comes behind this part.
            let queued = self.with_closing(|closing| {
                if closing.contains(&id) || self.table().get(upload_key)?.is_none() {
                    return Err(Error::NoSuchUpload);
                }
                Ok(self.table().begin_write(batch)?)
            });
            let written = match queued {
                Ok(writing) => writing.finish().await.map_err(Error::from),
                Err(error) => Err(error),
            };
            let error = match written {
                Ok(_) => return remove_files(self, vec![old]).await,
                Err(error) => error,
            };
            let conflict = matches!(error, Error::Store(store::Error::Conflict { .. }));
            if let Held::File(kept) = held {
                let unwritten =
                    conflict || matches!(error, Error::SlowDown(_) | Error::NoSuchUpload);
                kept.set_keep(!unwritten);
            }
            if !conflict {
                return Err(error);
            }
        }
        Err(Error::OperationAborted)
    }

    pub(crate) async fn abort_upload(&self, bucket: &Bucket, key: &str, id: &str) -> Result<()> {
        let (id, _) = self.close_upload(bucket, key, id)?;
        let full = keys::upload(bucket.record.id, key, id);
        let batch = janitor::abandon(Batch::new(), &full, id)?;
        let aborted = self.commit(bucket, batch).await;
        self.reopen_unless(id, &aborted);
        self.garbage().notify_one();
        aborted.map(drop)
    }

    /// From now on the upload takes no more parts, and nobody else ends it.
    fn close_upload(&self, bucket: &Bucket, key: &str, id: &str) -> Result<(Id, Upload)> {
        let (id, upload) = self.find_upload(bucket, key, id)?;
        if !self.with_closing(|closing| closing.insert(id)) {
            return Err(Error::NoSuchUpload);
        }
        // It may have ended between the look and the closing.
        match self.table().get(keys::upload(bucket.record.id, key, id)) {
            Ok(Some(_)) => Ok((id, upload)),
            Ok(None) => {
                self.with_closing(|closing| closing.remove(&id));
                Err(Error::NoSuchUpload)
            }
            Err(error) => {
                self.with_closing(|closing| closing.remove(&id));
                Err(error.into())
            }
        }
    }

    /// An upload that could not be ended can be gone on with. The janitor takes the others off.
    fn reopen_unless<T>(&self, id: Id, ended: &Result<T>) {
        if ended.is_err() {
            self.with_closing(|closing| closing.remove(&id));
        }
    }

    pub(crate) async fn complete_upload(
        &self,
        who: &Who,
        bucket: &Arc<Bucket>,
        key: &str,
        id: &str,
        named: &[Named],
        whole: Whole,
    ) -> Result<record::Object> {
        let (id, upload) = self.close_upload(bucket, key, id)?;
        let completed = self
            .complete_closed(who, bucket, key, (id, upload), named, whole)
            .await;
        self.reopen_unless(id, &completed);
        self.garbage().notify_one();
        completed
    }

    async fn complete_closed(
        &self,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        (id, upload): (Id, Upload),
        named: &[Named],
        whole: Whole,
    ) -> Result<record::Object> {
        let parts = self.chosen(id, named)?;
        let size: u64 = parts.iter().map(|(_, part)| part.size).sum();
        if size > self.config().max_object_bytes {
            return Err(Error::EntityTooLarge);
        }
        if whole.size.is_some_and(|said| said != size) {
            return Err(Error::request(
                "The provided 'x-amz-mp-object-size' header does not match what was computed.",
            ));
        }
        let sum = whole_sum(upload.summing, &parts, whole.sum.as_ref())?;
        let etag = etag_of_parts(parts.iter().map(|(_, part)| part.etag.as_str()))?;
        let manifest = self.next_id();
        let pieces: Vec<Piece> = parts
            .into_iter()
            .map(|(number, part)| Piece {
                number,
                size: part.size,
                place: part.place,
                sum: part.sum,
            })
            .collect();
        let object = record::Object {
            size,
            etag,
            modified: self.clock().now(),
            place: Place::Parts(manifest),
            parts: u16::try_from(pieces.len()).unwrap_or(MAX_PARTS),
            about: upload.about,
            tags: upload.tags,
            sum,
        };
        let garbage = Garbage::Upload {
            kept: Some(manifest),
        };
        let beside = vec![
            Beside::Put(keys::manifest(manifest), record::encode(&pieces)?),
            Beside::Put(keys::garbage(id), record::encode(&garbage)?),
            Beside::Delete(keys::upload(bucket.record.id, key, id)),
        ];
        let write = Write {
            object,
            held: Held::Empty,
            condition: whole.condition,
            event: EventName::CreatedComplete,
            beside,
        };
        self.write_object(who, bucket, key, write).await
    }

    /// The parts that a client names, if they are as it says.
    fn chosen(&self, id: Id, named: &[Named]) -> Result<Vec<(u16, Part)>> {
        if named.is_empty() {
            return Err(Error::MalformedXml);
        }
        let ascending = named.windows(2).all(|pair| pair[0].number < pair[1].number);
        if !ascending {
            return Err(Error::InvalidPartOrder);
        }
        let mut parts = Vec::with_capacity(named.len());
        for (index, named) in named.iter().enumerate() {
            let found = self.table().get(keys::part(id, named.number))?;
            let part: Part = record::decode(&found.ok_or(Error::InvalidPart)?.value)?;
            let other_etag = named.etag.as_ref().is_some_and(|etag| *etag != part.etag);
            let other_sum = named.sum.as_ref().is_some_and(|sum| *sum != part.sum);
            if other_etag || other_sum {
                return Err(Error::InvalidPart);
            }
            let last = index + 1 == parts.capacity();
            if !last && part.size < self.config().min_part_bytes {
                return Err(Error::EntityTooSmall);
            }
            parts.push((named.number, part));
        }
        Ok(parts)
    }

    /// The parts of an upload with numbers beyond `after`, by number.
    pub(crate) fn parts_of(&self, id: Id, after: u16, limit: usize) -> Result<Vec<(u16, Part)>> {
        let after = keys::part(id, after);
        let found = self.table().scan(keys::parts(id), Some(&after), limit)?;
        found
            .iter()
            .map(|found| {
                let number = keys::part_number(&found.key);
                let number = number.ok_or_else(|| Error::Damaged("a part's key".to_owned()))?;
                Ok((number, record::decode(&found.value)?))
            })
            .collect()
    }

    /// Uploads by key, of one key in the order in which they began.
    pub(crate) fn uploads_of(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Upload)>> {
        let mut within = keys::uploads(bucket.record.id);
        within.extend_from_slice(prefix.as_bytes());
        let found = self.table().scan(within, after.as_deref(), limit)?;
        found
            .into_iter()
            .map(|found| Ok((found.key, record::decode(&found.value)?)))
            .collect()
    }
}

/// The checksum of the object. If the client summed the parts otherwise than it had announced, the
/// object has none.
fn whole_sum(summing: Summing, parts: &[(u16, Part)], given: Option<&Sum>) -> Result<Option<Sum>> {
    let mut summing = summing;
    if !summing.asked {
        // Clients that never named an algorithm may still have sent one with each part.
        let first = parts.first().map(|(_, part)| part.sum.algorithm);
        if let Some(algorithm) = first {
            summing = Summing::new(Some(algorithm.name()), None)?;
        }
    }
    let fits = |part: &&(u16, Part)| part.1.sum.algorithm == summing.algorithm;
    if !parts.iter().all(|part| fits(&part)) {
        return Ok(None);
    }
    let sum = summing.of_parts(parts.iter().map(|(_, part)| (&part.sum, part.size)))?;
    if let Some(given) = given {
        let value = given.value.split('-').next().unwrap_or_default();
        let computed = sum.value.split('-').next().unwrap_or_default();
        if given.algorithm == sum.algorithm && value != computed {
            return Err(Error::BadDigest(sum.algorithm.name()));
        }
    }
    Ok(Some(sum))
}
