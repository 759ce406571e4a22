//! From the library's types and back.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use s3s::dto::*;

use crate::checksum::{Algorithm, Expected, Sum, given, given_md5};
use crate::contents::{self, Body};
use crate::front::Context;
use crate::objects::Condition;
use crate::record::{self, Pairs};
use crate::service::Bucket;
use crate::tags::check_tags;
use crate::{Error, Result};

/// What every object is said to be encrypted with, as on AWS. It is not: the disk is the operator's.
pub(crate) const ENCRYPTION: &str = ServerSideEncryption::AES256;

/// Whole seconds, as S3 counts them.
pub(crate) fn timestamp(moment: clock::Timestamp) -> Timestamp {
    let seconds = u64::try_from(moment.as_secs()).unwrap_or_default();
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A moment that a client names.
pub(crate) fn moment(timestamp: &Timestamp) -> Option<clock::Timestamp> {
    let mut text = Vec::new();
    timestamp
        .format(TimestampFormat::DateTime, &mut text)
        .ok()?;
    String::from_utf8(text).ok()?.parse().ok()
}

pub(crate) fn body(blob: Option<StreamingBlob>) -> Body {
    match blob {
        None => contents::body_of(bytes::Bytes::new()),
        Some(blob) => Box::pin(blob.map(|chunk| {
            chunk.map_err(|error| match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::Body(error),
            })
        })),
    }
}

/// The tags of a request's body.
pub(crate) fn tags(tagging: Tagging, most: usize) -> Result<Pairs> {
    let pair = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
    let tags: Pairs = tagging.tag_set.into_iter().map(pair).collect();
    check_tags(&tags, most)?;
    Ok(tags)
}

pub(crate) fn tag_set(tags: &Pairs) -> TagSet {
    let tag = |(key, value): &(String, String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

pub(crate) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

fn tag_of(condition: ETagCondition) -> String {
    match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.into_value(),
    }
}

pub(crate) fn condition(
    matches: Option<ETagCondition>,
    none_match: Option<ETagCondition>,
) -> Condition {
    Condition {
        matches: matches.map(tag_of),
        none_match: none_match.map(tag_of),
    }
}

/// The conditions of a read.
#[derive(Debug, Default)]
pub(crate) struct ReadCondition {
    pub(crate) matches: Option<ETagCondition>,
    pub(crate) none_match: Option<ETagCondition>,
    pub(crate) modified_since: Option<Timestamp>,
    pub(crate) unmodified_since: Option<Timestamp>,
}

impl ReadCondition {
    /// `If-Match` outweighs `If-Unmodified-Since`, and `If-None-Match` outweighs
    /// `If-Modified-Since`.
    pub(crate) fn check(self, object: &record::Object) -> Result<()> {
        let fits = |condition: ETagCondition| {
            let tag = tag_of(condition);
            tag == "*" || tag == object.etag
        };
        let since = |timestamp: &Timestamp| {
            let moment = moment(timestamp)?;
            Some(object.modified.as_secs() > moment.as_secs())
        };
        let was_modified = self.unmodified_since.as_ref().and_then(since);
        match (self.matches.map(fits), was_modified) {
            (Some(false), _) | (None, Some(true)) => return Err(Error::PreconditionFailed),
            _ => {}
        }
        let is_newer = self.modified_since.as_ref().and_then(since);
        match (self.none_match.map(fits), is_newer) {
            (Some(true), _) | (None, Some(false)) => Err(Error::NotModified {
                etag: object.etag.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// For the source of a copy, where nothing is "not modified".
    pub(crate) fn check_source(self, object: &record::Object) -> Result<()> {
        self.check(object).map_err(|error| match error {
            Error::NotModified { .. } => Error::PreconditionFailed,
            error => error,
        })
    }
}

/// The checksums that members of a request carry.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) crc32: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc64nvme: Option<String>,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
}

/// Collects the checksums of a type of the library.
macro_rules! sums {
    ($from:expr) => {
        $crate::api::wire::Sums {
            crc32: $from.checksum_crc32.take(),
            crc32c: $from.checksum_crc32c.take(),
            crc64nvme: $from.checksum_crc64nvme.take(),
            sha1: $from.checksum_sha1.take(),
            sha256: $from.checksum_sha256.take(),
        }
    };
}

/// Puts a checksum into an output of the library.
macro_rules! put_sum {
    ($into:expr, $sum:expr) => {
        if let Some(sum) = $sum {
            let value = Some(sum.value.clone());
            match sum.algorithm {
                $crate::checksum::Algorithm::Crc32 => $into.checksum_crc32 = value,
                $crate::checksum::Algorithm::Crc32c => $into.checksum_crc32c = value,
                $crate::checksum::Algorithm::Crc64Nvme => $into.checksum_crc64nvme = value,
                $crate::checksum::Algorithm::Sha1 => $into.checksum_sha1 = value,
                $crate::checksum::Algorithm::Sha256 => $into.checksum_sha256 = value,
            }
        }
    };
}

pub(crate) use {put_sum, sums};

impl Sums {
    /// The one that is there; composite ones are taken as they are.
    pub(crate) fn one(self) -> Result<Option<Sum>> {
        let all = [
            (Algorithm::Crc32, self.crc32),
            (Algorithm::Crc32c, self.crc32c),
            (Algorithm::Crc64Nvme, self.crc64nvme),
            (Algorithm::Sha1, self.sha1),
            (Algorithm::Sha256, self.sha256),
        ];
        let mut there = all
            .into_iter()
            .filter_map(|(algorithm, value)| Some((algorithm, value?)));
        let Some((algorithm, value)) = there.next() else {
            return Ok(None);
        };
        if there.next().is_some() {
            return Err(Error::request(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
        if value.contains('-') {
            return Ok(Some(Sum {
                algorithm,
                value,
                composite: true,
            }));
        }
        given(algorithm, &value).map(Some)
    }
}

/// What a request says of its body.
pub(crate) fn expected(
    context: &Context,
    length: Option<i64>,
    md5: Option<&str>,
    sums: Sums,
    algorithm: Option<&ChecksumAlgorithm>,
) -> Result<Expected> {
    let size = length.map(|length| u64::try_from(length).unwrap_or_default());
    Ok(Expected {
        size: Some(size.ok_or(Error::MissingContentLength)?),
        md5: md5.map(given_md5).transpose()?,
        sum: sums.one()?,
        trailer: context.trailer.clone(),
        algorithm: algorithm
            .map(|algorithm| Algorithm::parse(algorithm.as_str()))
            .transpose()?,
    })
}

/// Refuses what was asked for and cannot be given.
pub(crate) fn refuse(features: &[(&'static str, bool)]) -> Result<()> {
    match features.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(Error::NotSupported(what)),
        None => Ok(()),
    }
}

/// There are no versions but the one that is not versioned.
pub(crate) fn check_version(version: Option<&str>) -> Result<()> {
    match version {
        None | Some("" | "null") => Ok(()),
        Some(_) => Err(Error::argument("Invalid version id specified")),
    }
}

/// Lists of grants are off, as in every new bucket of AWS; these two say nothing else.
pub(crate) fn check_acl(acl: Option<&str>, grants: bool) -> Result<()> {
    match acl {
        None | Some("private" | "bucket-owner-full-control") if !grants => Ok(()),
        _ => Err(Error::AclNotSupported),
    }
}

pub(crate) fn check_encryption(
    algorithm: Option<&ServerSideEncryption>,
    key: Option<&String>,
    customer: bool,
) -> Result<()> {
    let other = algorithm.is_some_and(|algorithm| algorithm.as_str() != ENCRYPTION);
    refuse(&[
        ("encryption with keys of KMS", other || key.is_some()),
        ("encryption with keys of the client", customer),
    ])
}

/// Classes whose objects can be read at once differ in nothing but their name here.
pub(crate) fn check_storage_class(class: Option<&str>) -> Result<Option<String>> {
    match class {
        None | Some("STANDARD") => Ok(None),
        Some(
            class @ ("REDUCED_REDUNDANCY"
            | "STANDARD_IA"
            | "ONEZONE_IA"
            | "INTELLIGENT_TIERING"
            | "GLACIER_IR"),
        ) => Ok(Some(class.to_owned())),
        Some("GLACIER" | "DEEP_ARCHIVE" | "OUTPOSTS" | "SNOW" | "EXPRESS_ONEZONE") => {
            Err(Error::NotSupported("this storage class"))
        }
        Some(_) => Err(Error::InvalidStorageClass),
    }
}

pub(crate) fn owner(bucket: &Bucket) -> Owner {
    Owner {
        display_name: None,
        id: Some(canonical_id(bucket.record.owner.as_str())),
    }
}

/// AWS names owners by 64 hexadecimal digits; here they follow from the account.
pub(crate) fn canonical_id(account: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(Sha256::digest(format!("canonical user of {account}")))
}

pub(crate) fn size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// How many entries a page may have.
pub(crate) fn page_size(asked: Option<i32>, most: usize, name: &str) -> Result<usize> {
    match asked.map(usize::try_from) {
        None => Ok(most),
        Some(Ok(asked)) => Ok(asked.min(most)),
        Some(Err(_)) => Err(Error::argument(format!(
            "Argument {name} must be an integer between 0 and 2147483647"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> record::Object {
        record::Object {
            size: 3,
            etag: "abc".into(),
            modified: clock::Timestamp::from_millis(1_000_900),
            place: record::Place::Empty,
            parts: 0,
            about: record::About::default(),
            tags: Vec::new(),
            sum: None,
        }
    }

    fn at(seconds: u64) -> Option<Timestamp> {
        Some(Timestamp::from(
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        ))
    }

    fn tag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(etag(value)))
    }

    fn code(condition: ReadCondition) -> Result<(), &'static str> {
        condition.check(&object()).map_err(|error| error.code())
    }

    #[test]
    fn reads_hold_to_their_conditions() {
        let with = ReadCondition::default;
        let (matches, none_match) = (tag("abc"), tag("abc"));
        assert_eq!(code(with()), Ok(()));
        assert_eq!(code(ReadCondition { matches, ..with() }), Ok(()));
        assert_eq!(
            code(ReadCondition {
                none_match,
                ..with()
            }),
            Err("NotModified")
        );
        let other = || ReadCondition {
            matches: tag("x"),
            ..with()
        };
        assert_eq!(code(other()), Err("PreconditionFailed"));
        let unmodified_since = at(999);
        assert_eq!(
            code(ReadCondition {
                unmodified_since,
                ..with()
            }),
            Err("PreconditionFailed")
        );
        let modified_since = at(1000);
        assert_eq!(
            code(ReadCondition {
                modified_since,
                ..with()
            }),
            Err("NotModified")
        );
        // The entity tag outweighs the time.
        let condition = ReadCondition {
            matches: tag("abc"),
            unmodified_since: at(1),
            ..with()
        };
        assert_eq!(code(condition), Ok(()));
    }

    #[test]
    fn moments_survive_the_way() {
        let moment_there = clock::Timestamp::from_secs(1_700_000_000);
        assert_eq!(moment(&timestamp(moment_there)), Some(moment_there));
    }

    #[test]
    fn one_checksum_is_enough() {
        let both = Sums {
            crc32: Some("AAAAAA==".into()),
            crc32c: Some("AAAAAA==".into()),
            ..Sums::default()
        };
        assert!(both.one().is_err());
        assert!(Sums::default().one().unwrap().is_none());
    }
}
