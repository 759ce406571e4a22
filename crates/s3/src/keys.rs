//! Keys of the one table: a letter for the kind, then what orders the records of that kind.
//!
//! ```text
//! r                            how often the directory was opened
//! b NAME                       a bucket
//! o BUCKET KEY                 an object
//! c CONTENT                    the bytes of a small content
//! f CONTENT                    nothing; says that the file of this number is in use
//! m CONTENT                    the parts that an object was put together from
//! u BUCKET KEY 0 UPLOAD        a multipart upload
//! p UPLOAD NUMBER              one of its parts
//! g CONTENT                    what is left to be taken apart
//! n CONTENT                    an event on its way to its destination
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) const RUN: &[u8] = b"r";
pub(crate) const BUCKETS: &[u8] = b"b";
pub(crate) const GARBAGE: &[u8] = b"g";
pub(crate) const OUTBOX: &[u8] = b"n";
pub(crate) const UPLOADS: &[u8] = b"u";

/// No byte of UTF-8: behind a prefix, it comes after every key that begins with the prefix.
pub(crate) const AFTER_ALL: u8 = 0xFF;

/// Keys are at most this long, as on AWS.
pub(crate) const MAX_KEY_BYTES: usize = 1024;

/// The number of a content, an upload or an event: the run of the server that made it, and a count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) run: u64,
    pub(crate) count: u64,
}

impl Id {
    pub(crate) fn bytes(self) -> [u8; 16] {
        let number = u128::from(self.run) << 64 | u128::from(self.count);
        number.to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (run, count) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            run: u64::from_be_bytes(*run),
            count: u64::from_be_bytes(count.try_into().ok()?),
        })
    }

    /// Reads what [`Id`]'s `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes()))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn bucket(name: &str) -> Vec<u8> {
    [BUCKETS, name.as_bytes()].concat()
}

/// The prefix of all objects of a bucket; an object's key comes behind it.
pub(crate) fn objects(bucket: u64) -> Vec<u8> {
    [b"o".as_slice(), &bucket.to_be_bytes()].concat()
}

pub(crate) fn object(bucket: u64, key: &str) -> Vec<u8> {
    [b"o".as_slice(), &bucket.to_be_bytes(), key.as_bytes()].concat()
}

/// How long the part of [`object`] before the object's key is.
pub(crate) const OBJECT_PREFIX_BYTES: usize = 9;

pub(crate) fn inline(id: Id) -> Vec<u8> {
    [b"c".as_slice(), &id.bytes()].concat()
}

pub(crate) fn file(id: Id) -> Vec<u8> {
    [b"f".as_slice(), &id.bytes()].concat()
}

pub(crate) fn manifest(id: Id) -> Vec<u8> {
    [b"m".as_slice(), &id.bytes()].concat()
}

pub(crate) fn uploads(bucket: u64) -> Vec<u8> {
    [UPLOADS, &bucket.to_be_bytes()].concat()
}

pub(crate) fn upload(bucket: u64, key: &str, id: Id) -> Vec<u8> {
    let mut full = uploads(bucket);
    full.extend_from_slice(key.as_bytes());
    full.push(0);
    full.extend_from_slice(&id.bytes());
    full
}

/// The object key and the upload in a key of [`upload`].
pub(crate) fn parse_upload(full: &[u8]) -> Option<(&str, Id)> {
    let rest = full.get(OBJECT_PREFIX_BYTES..)?;
    let (rest, id) = rest.split_last_chunk::<16>()?;
    let (_zero, key) = rest.split_last()?;
    Some((std::str::from_utf8(key).ok()?, Id::from_bytes(id)?))
}

/// The prefix of all parts of an upload.
pub(crate) fn parts(upload: Id) -> Vec<u8> {
    [b"p".as_slice(), &upload.bytes()].concat()
}

pub(crate) fn part(upload: Id, number: u16) -> Vec<u8> {
    let mut full = parts(upload);
    full.extend_from_slice(&number.to_be_bytes());
    full
}

/// The number in a key of [`part`].
pub(crate) fn part_number(full: &[u8]) -> Option<u16> {
    full.split_last_chunk::<2>()
        .map(|(_, number)| u16::from_be_bytes(*number))
}

pub(crate) fn garbage(id: Id) -> Vec<u8> {
    [GARBAGE, &id.bytes()].concat()
}

pub(crate) fn event(id: Id) -> Vec<u8> {
    [OUTBOX, &id.bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_were_made_of() {
        let id = Id { run: 7, count: 900 };
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse("../../etc"), None);
        for key in ["", "a", "a/b", "\0", "ü"] {
            assert_eq!(parse_upload(&upload(3, key, id)), Some((key, id)));
            assert_eq!(&object(3, key)[OBJECT_PREFIX_BYTES..], key.as_bytes());
        }
        assert_eq!(part_number(&part(id, 10_000)), Some(10_000));
    }

    #[test]
    fn a_prefix_ends_before_what_comes_after_all() {
        let mut after = object(1, "a/");
        after.push(AFTER_ALL);
        assert!(object(1, "a/\u{10FFFF}") < after);
        assert!(object(1, "a0") > after);
    }
}
