//! What is stored: records in postcard, behind a format number.

use bytes::Bytes;
use clock::Timestamp;
use model::AccountId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checksum::Sum;
use crate::keys::Id;
use crate::notifications::Notification;
use crate::{Error, Result};

const FORMAT: u8 = 1;

pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Bytes> {
    let encoded = postcard::to_extend(record, vec![FORMAT]);
    encoded
        .map(Bytes::from)
        .map_err(|error| Error::Damaged(error.to_string()))
}

pub(crate) fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T> {
    match stored.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body)
            .map_err(|error| Error::Damaged(format!("a record of S3: {error}"))),
        Some((format, _)) => Err(Error::Damaged(format!("a record of S3 of format {format}"))),
        None => Err(Error::Damaged("an empty record of S3".to_owned())),
    }
}

/// Names and values, in the order in which they came.
pub(crate) type Pairs = Vec<(String, String)>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bucket {
    /// Never used again, so that a new bucket of the same name begins empty.
    pub(crate) id: u64,
    pub(crate) owner: AccountId,
    pub(crate) region: String,
    pub(crate) created: Timestamp,
    pub(crate) tags: Pairs,
    pub(crate) policy: Option<String>,
    pub(crate) public_access: PublicAccess,
    pub(crate) notifications: Vec<Notification>,
}

/// What public policies count for. All is blocked in a new bucket, as on AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicAccess {
    pub(crate) block_public_acls: bool,
    pub(crate) ignore_public_acls: bool,
    pub(crate) block_public_policy: bool,
    pub(crate) restrict_public_buckets: bool,
}

impl PublicAccess {
    pub(crate) const fn all(blocked: bool) -> Self {
        Self {
            block_public_acls: blocked,
            ignore_public_acls: blocked,
            block_public_policy: blocked,
            restrict_public_buckets: blocked,
        }
    }
}

/// Where the bytes of an object or a part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// There are none.
    Empty,
    /// In the store.
    Inline(Id),
    /// In a file.
    File(Id),
    /// In parts, which a manifest of this number lists.
    Parts(Id),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) size: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    pub(crate) place: Place,
    /// How many parts it was put together from; 0 if it came whole.
    pub(crate) parts: u16,
    pub(crate) about: About,
    pub(crate) tags: Pairs,
    pub(crate) sum: Option<Sum>,
}

/// What a client says about an object, and gets back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) website_redirect: Option<String>,
    /// `None` is `STANDARD`.
    pub(crate) storage_class: Option<String>,
    pub(crate) metadata: Pairs,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) initiated: Timestamp,
    pub(crate) initiator: String,
    pub(crate) about: About,
    pub(crate) tags: Pairs,
    /// The checksum of the parts, and of the whole; a client may leave it to S3.
    pub(crate) summing: crate::checksum::Summing,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) size: u64,
    /// The MD5 in hexadecimal.
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    pub(crate) place: Place,
    pub(crate) sum: Sum,
}

/// One part of an object that was put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) number: u16,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) sum: Sum,
}

/// What is left to be taken apart, one step after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Garbage {
    /// The parts of an object that is gone; its number is the manifest's.
    Manifest,
    /// The parts of an upload that is over; its number is the upload's. What the manifest lists
    /// belongs to an object now.
    Upload { kept: Option<Id> },
}

/// An event on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) destination: String,
    pub(crate) account: AccountId,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) payload: String,
}
