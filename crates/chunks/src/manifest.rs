//! What an image consists of. The parser takes bytes that have been decrypted and authenticated,
//! and still trusts none of them.

use clock::Timestamp;

use crate::name::ChunkName;
use crate::{Account, ImageId};

const VERSION: u8 = 1;
/// Most pages that one image may have, in bytes: 64 GiB.
pub(crate) const MAX_LEN: u64 = 64 << 30;
/// Most chunks of one image. With the largest chunks that is far over `MAX_LEN`.
pub(crate) const MAX_CHUNKS: u64 = 1 << 20;
/// Most that the caller's part may have.
pub(crate) const MAX_META: u64 = 64 << 20;

const ZERO: u8 = 0;
const STORED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) account: Account,
    pub(crate) id: ImageId,
    pub(crate) created: Timestamp,
    pub(crate) len: u64,
    pub(crate) chunk_bytes: u32,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) meta: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// All zeros; stored nowhere.
    Zero,
    Stored {
        name: ChunkName,
        stored_bytes: u32,
    },
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

impl Manifest {
    pub(crate) fn chunk_count(len: u64, chunk_bytes: u32) -> u64 {
        len.div_ceil(u64::from(chunk_bytes))
    }

    /// Length of the chunk at `index`, which is less than that of the others at the end.
    pub(crate) fn plain_len(&self, index: u32) -> usize {
        let start = u64::from(index) * u64::from(self.chunk_bytes);
        let len = self
            .len
            .saturating_sub(start)
            .min(u64::from(self.chunk_bytes));
        // At most `chunk_bytes`, a u32.
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = ChunkName> + '_ {
        self.chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Zero => None,
            Chunk::Stored { name, .. } => Some(*name),
        })
    }

    /// What the image's distinct chunks take, shared with other images or not.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let mut chunks: Vec<_> = self
            .chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Zero => None,
                Chunk::Stored { name, stored_bytes } => Some((*name, *stored_bytes)),
            })
            .collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.chunks.len() * 37 + self.meta.len());
        out.push(VERSION);
        for name in [self.account.as_str(), self.id.as_str()] {
            // Names have at most 128 bytes.
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.created.as_millis().to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        for chunk in &self.chunks {
            match chunk {
                Chunk::Zero => out.push(ZERO),
                Chunk::Stored { name, stored_bytes } => {
                    out.push(STORED);
                    out.extend_from_slice(&name.0);
                    out.extend_from_slice(&stored_bytes.to_le_bytes());
                }
            }
        }
        out.extend_from_slice(&(self.meta.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.meta);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        if from.array::<1>()? != [VERSION] {
            return Err(Malformed("its version is unknown"));
        }
        let account =
            Account::new(from.name()?).map_err(|_| Malformed("its account is no name"))?;
        let id = ImageId::new(from.name()?).map_err(|_| Malformed("its image is no name"))?;
        let created = Timestamp::from_millis(checked_millis(i64::from_le_bytes(from.array()?))?);
        let len = u64::from_le_bytes(from.array()?);
        let chunk_bytes = u32::from_le_bytes(from.array()?);
        if !chunk_bytes.is_power_of_two() || !(4 << 10..=4 << 20).contains(&chunk_bytes) {
            return Err(Malformed("its chunk size is not one"));
        }
        let count = Self::chunk_count(len, chunk_bytes);
        // Each chunk takes a byte at least, so nothing is allocated beyond a multiple of the input.
        if len > MAX_LEN || count > MAX_CHUNKS || count > from.0.len() as u64 {
            return Err(Malformed("its length is over the limit"));
        }
        let mut chunks = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for _ in 0..count {
            chunks.push(match from.array::<1>()? {
                [ZERO] => Chunk::Zero,
                [STORED] => Chunk::Stored {
                    name: ChunkName(from.array()?),
                    stored_bytes: u32::from_le_bytes(from.array()?),
                },
                _ => return Err(Malformed("it has an unknown kind of chunk")),
            });
        }
        let meta_len = u64::from_le_bytes(from.array()?);
        if meta_len > MAX_META || meta_len != from.0.len() as u64 {
            return Err(Malformed("its end is not where it says"));
        }
        Ok(Self {
            account,
            id,
            created,
            len,
            chunk_bytes,
            chunks,
            meta: from.0.to_vec(),
        })
    }
}

/// Far enough from the limits of the type that arithmetic with the clock cannot overflow.
fn checked_millis(millis: i64) -> Result<i64, Malformed> {
    const YEAR_9999: i64 = 253_402_300_799_999;
    if (0..=YEAR_9999).contains(&millis) {
        Ok(millis)
    } else {
        Err(Malformed("its time is not one"))
    }
}

/// Takes from the front of bytes that are not trusted.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let [len] = self.array()?;
        let (name, rest) = self
            .0
            .split_at_checked(usize::from(len))
            .ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        std::str::from_utf8(name).map_err(|_| Malformed("a name is not text"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> impl Strategy<Value = Manifest> {
        let chunk = prop_oneof![
            Just(Chunk::Zero),
            (any::<[u8; 32]>(), any::<u32>()).prop_map(|(name, stored_bytes)| Chunk::Stored {
                name: ChunkName(name),
                stored_bytes
            }),
        ];
        (
            "[a-z0-9]{1,128}",
            "[a-z0-9]{1,128}",
            0..10_000_000_000_000_i64,
            proptest::collection::vec(chunk, 0..50),
            12..22_u32,
            0..4096_u64,
            proptest::collection::vec(any::<u8>(), 0..500),
        )
            .prop_map(
                |(account, id, created, chunks, shift, cut, meta)| Manifest {
                    account: Account::new(&account).unwrap(),
                    id: ImageId::new(&id).unwrap(),
                    created: Timestamp::from_millis(created),
                    len: ((chunks.len() as u64) << shift).saturating_sub(cut),
                    chunk_bytes: 1 << shift,
                    chunks,
                    meta,
                },
            )
    }

    proptest! {
        #[test]
        fn a_manifest_decodes_to_what_was_encoded(manifest in manifest()) {
            let bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
            for cut in 0..bytes.len() {
                prop_assert!(Manifest::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::decode(&bytes);
        }
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_is_refused_before_anything_is_allocated() {
        let mut bytes = Manifest {
            account: Account::new("a").unwrap(),
            id: ImageId::new("b").unwrap(),
            created: Timestamp::from_secs(0),
            len: 0,
            chunk_bytes: 4096,
            chunks: Vec::new(),
            meta: Vec::new(),
        }
        .encode();
        let len_at = 1 + 2 + 2 + 8;
        bytes[len_at..len_at + 8].copy_from_slice(&(4096_u64 << 20).to_le_bytes());
        assert_eq!(
            Manifest::decode(&bytes),
            Err(Malformed("its length is over the limit"))
        );
    }
}
