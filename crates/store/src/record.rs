//! How values are stored: a format byte, the revision, a checksum over key and value, the value.
//!
//! The engine checks blocks and journal batches; this checksum ties a value to its key, so that a
//! block that ends up in the wrong place is noticed too.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

/// The version of a record: larger for every later write, anywhere in the store. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key, its value, and the revision of the write that put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Bytes,
    pub revision: Revision,
}

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 8 + 4;

pub(crate) fn encode(key: &[u8], revision: Revision, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER + value.len());
    stored.push(FORMAT);
    stored.extend_from_slice(&revision.0.to_be_bytes());
    stored.extend_from_slice(&checksum(&[key, &revision.0.to_be_bytes(), value]).to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

/// The revision and value stored under `key`, or what is wrong with the bytes.
pub(crate) fn decode<'a>(
    key: &[u8],
    stored: &'a [u8],
) -> std::result::Result<(Revision, &'a [u8]), &'static str> {
    let (&format, rest) = stored.split_first().ok_or("an empty record")?;
    if format != FORMAT {
        return Err("a record of an unknown format");
    }
    let (revision, rest) = rest.split_first_chunk::<8>().ok_or("a record cut short")?;
    let (expected, value) = rest.split_first_chunk::<4>().ok_or("a record cut short")?;
    if checksum(&[key, revision, value]) != u32::from_be_bytes(*expected) {
        return Err("a record whose checksum does not match");
    }
    Ok((Revision(u64::from_be_bytes(*revision)), value))
}

/// A short checksum over the lengths and contents of `parts`.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = Xxh3Default::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let [a, b, c, d, ..] = hasher.digest().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_only_under_its_own_key() {
        let stored = encode(b"key", Revision(7), b"value");
        assert_eq!(
            decode(b"key", &stored),
            Ok((Revision(7), b"value".as_slice()))
        );
        assert!(decode(b"kez", &stored).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let stored = encode(b"key", Revision(7), b"value");
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(b"key", &damaged).is_err(), "bit {bit}");
        }
        for len in 0..stored.len() {
            assert!(decode(b"key", &stored[..len]).is_err(), "length {len}");
        }
    }
}
