//! Encryption: what leaves this process for any tier goes through here, and so does what comes
//! back.
//!
//! HKDF-SHA256 derives four keys per account from the master key. A **chunk** is called by a keyed
//! hash of its plaintext, and encrypted with a key of its own that is derived from that name: equal
//! chunks of one account become equal objects, and two accounts share neither content nor names.
//! The nonce is a keyed hash of what is encrypted. The same plaintext compressed in another way (by
//! a later version of the compressor) gets another nonce, so no key and nonce ever meet twice with
//! different input.
//!
//! A **record** (manifest, side record) has a fresh random salt, from which its key is derived
//! together with what the record is: account, image and kind. A record that was moved elsewhere
//! does not decrypt.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::codec::{self, Codec};
use crate::name::ChunkName;
use crate::{Account, ImageId, Key};

/// Magic, version, codec and plaintext length of a chunk or record.
const HEADER: usize = 8;
const NONCE: usize = 12;
const TAG: usize = 16;
const SALT: usize = 32;
const CHUNK_MAGIC: [u8; 3] = *b"FC\x01";
const RECORD_MAGIC: [u8; 3] = *b"FR\x01";

/// What sealing adds to a chunk that does not shrink.
pub(crate) const CHUNK_OVERHEAD: usize = HEADER + NONCE + TAG;
/// Most that a record holds.
pub(crate) const MAX_RECORD: usize = 128 << 20;
pub(crate) const MAX_STORED_RECORD: usize = MAX_RECORD + HEADER + SALT + TAG;

/// Why something did not open. Says nothing that depends on the key, beyond that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub &'static str);

/// The keys of one account.
pub(crate) struct AccountKeys {
    names: [u8; 32],
    chunks: [u8; 32],
    nonces: [u8; 32],
    records: [u8; 32],
}

impl AccountKeys {
    pub(crate) fn derive(master: &Key, account: &Account) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"firn image store 1"), master.bytes());
        let key = |purpose: &str| {
            let mut key = [0; 32];
            let info = [purpose.as_bytes(), b"\0", account.as_str().as_bytes()];
            #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
            hkdf.expand_multi_info(&info, &mut key).expect("32 bytes");
            key
        };
        Self {
            names: key("names"),
            chunks: key("chunks"),
            nonces: key("nonces"),
            records: key("records"),
        }
    }

    pub(crate) fn name(&self, plain: &[u8]) -> ChunkName {
        ChunkName(*blake3::keyed_hash(&self.names, plain).as_bytes())
    }

    fn chunk_cipher(&self, name: &ChunkName) -> Aes256Gcm {
        let key = blake3::keyed_hash(&self.chunks, &name.0);
        Aes256Gcm::new(key.as_bytes().into())
    }

    /// Compresses and encrypts one chunk that `name` was computed from.
    pub(crate) fn seal_chunk(&self, name: &ChunkName, plain: &[u8]) -> Vec<u8> {
        let (codec, packed) = codec::pack(plain);
        let header = header(CHUNK_MAGIC, codec, plain.len());
        let nonce = {
            let mut hasher = blake3::Hasher::new_keyed(&self.nonces);
            hasher.update(&name.0).update(&header).update(&packed);
            let mut nonce = [0; NONCE];
            nonce.copy_from_slice(&hasher.finalize().as_bytes()[..NONCE]);
            nonce
        };
        let mut stored = Vec::with_capacity(CHUNK_OVERHEAD + packed.len());
        stored.extend_from_slice(&header);
        stored.extend_from_slice(&nonce);
        stored.extend_from_slice(&packed);
        encrypt(
            &self.chunk_cipher(name),
            &nonce,
            &header,
            stored,
            HEADER + NONCE,
        )
    }

    /// Decrypts (in place), decompresses and verifies what is stored under `name`, into `plain`,
    /// which must have the length that the manifest gives.
    pub(crate) fn open_chunk(
        &self,
        name: &ChunkName,
        stored: &mut [u8],
        plain: &mut [u8],
    ) -> Result<(), Refused> {
        let chunk = split_chunk(stored, plain.len())?;
        decrypt(
            &self.chunk_cipher(name),
            chunk.nonce,
            chunk.header,
            chunk.body,
            chunk.tag,
        )?;
        codec::unpack(chunk.codec, chunk.body, plain)?;
        if self.name(plain) != *name {
            return Err(Refused("the content does not match the name"));
        }
        Ok(())
    }

    fn record_cipher(&self, record: &Record<'_>, salt: &[u8; SALT]) -> Aes256Gcm {
        let mut hasher = blake3::Hasher::new_keyed(&self.records);
        hasher.update(salt);
        // Names contain no zero byte, so no two records have the same input.
        for part in [
            record.account.as_str(),
            record.id.as_str(),
            record.kind,
            record.name,
        ] {
            hasher.update(part.as_bytes()).update(&[0]);
        }
        Aes256Gcm::new(hasher.finalize().as_bytes().into())
    }

    /// Compresses and encrypts a record. One that hardly shrinks is opened faster as it is.
    pub(crate) fn seal_record(
        &self,
        record: &Record<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let (codec, packed) = match codec::pack(plain) {
            (_, packed) if packed.len() > plain.len() / 8 * 7 => (Codec::Raw, plain.to_vec()),
            packed => packed,
        };
        let header = header(RECORD_MAGIC, codec, plain.len());
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let mut stored = Vec::with_capacity(HEADER + SALT + packed.len() + TAG);
        stored.extend_from_slice(&header);
        stored.extend_from_slice(&salt);
        stored.extend_from_slice(&packed);
        let cipher = self.record_cipher(record, &salt);
        // The salt makes the key unique, so the nonce need not be.
        Ok(encrypt(
            &cipher,
            &[0; NONCE],
            &header,
            stored,
            HEADER + SALT,
        ))
    }

    /// Decrypts in place, and leaves what was not compressed there.
    pub(crate) fn open_record(
        &self,
        record: &Record<'_>,
        mut stored: Vec<u8>,
    ) -> Result<Vec<u8>, Refused> {
        let (codec, plain_len) = parse_header(RECORD_MAGIC, &stored, MAX_RECORD)?;
        let (header, rest) = stored.split_at_mut(HEADER);
        let Some((salt, rest)) = rest.split_first_chunk_mut::<SALT>() else {
            return Err(Refused("it is too short"));
        };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG>() else {
            return Err(Refused("it is too short"));
        };
        let cipher = self.record_cipher(record, salt);
        decrypt(&cipher, &[0; NONCE], header, body, tag)?;
        if codec == Codec::Raw && body.len() == plain_len {
            stored.truncate(HEADER + SALT + plain_len);
            stored.drain(..HEADER + SALT);
            return Ok(stored);
        }
        let mut plain = vec![0; plain_len];
        codec::unpack(codec, body, &mut plain)?;
        Ok(plain)
    }
}

/// What a record is. It opens as nothing else.
pub(crate) struct Record<'a> {
    pub(crate) account: &'a Account,
    pub(crate) id: &'a ImageId,
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
}

struct SplitChunk<'a> {
    header: &'a [u8],
    codec: Codec,
    nonce: &'a [u8; NONCE],
    body: &'a mut [u8],
    tag: &'a [u8; TAG],
}

fn split_chunk(stored: &mut [u8], plain_len: usize) -> Result<SplitChunk<'_>, Refused> {
    let (codec, len) = parse_header(CHUNK_MAGIC, stored, plain_len)?;
    if len != plain_len {
        return Err(Refused("it has another length than the manifest says"));
    }
    let (header, rest) = stored.split_at_mut(HEADER);
    let Some((nonce, rest)) = rest.split_first_chunk_mut::<NONCE>() else {
        return Err(Refused("it is too short"));
    };
    let Some((body, tag)) = rest.split_last_chunk_mut::<TAG>() else {
        return Err(Refused("it is too short"));
    };
    Ok(SplitChunk {
        header,
        codec,
        nonce,
        body,
        tag,
    })
}

fn header(magic: [u8; 3], codec: Codec, plain_len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..3].copy_from_slice(&magic);
    header[3] = codec as u8;
    let plain_len = u32::try_from(plain_len).unwrap_or(u32::MAX);
    header[4..].copy_from_slice(&plain_len.to_le_bytes());
    header
}

fn parse_header(magic: [u8; 3], stored: &[u8], limit: usize) -> Result<(Codec, usize), Refused> {
    let Some((header, _)) = stored.split_first_chunk::<HEADER>() else {
        return Err(Refused("it is too short"));
    };
    let [a, b, c, codec, len @ ..] = *header;
    if [a, b, c] != magic {
        return Err(Refused("it is not of a format that this version knows"));
    }
    let codec = Codec::from_byte(codec).ok_or(Refused("its codec is unknown"))?;
    let len = u32::from_le_bytes(len) as usize;
    if len > limit {
        return Err(Refused("it is longer than it may be"));
    }
    Ok((codec, len))
}

/// Encrypts `stored[from..]` and appends the tag.
fn encrypt(
    cipher: &Aes256Gcm,
    nonce: &[u8; NONCE],
    header: &[u8],
    mut stored: Vec<u8>,
    from: usize,
) -> Vec<u8> {
    let body = &mut stored[from..];
    #[expect(
        clippy::expect_used,
        reason = "GCM takes up to 64 GiB; callers' limits are far below"
    )]
    let tag = cipher
        .encrypt_inout_detached(nonce.into(), header, body.into())
        .expect("within GCM's limits");
    stored.extend_from_slice(&tag);
    stored
}

fn decrypt(
    cipher: &Aes256Gcm,
    nonce: &[u8; NONCE],
    header: &[u8],
    body: &mut [u8],
    tag: &[u8; TAG],
) -> Result<(), Refused> {
    cipher
        .decrypt_inout_detached(nonce.into(), header, body.into(), tag.into())
        .map_err(|_| Refused("it does not decrypt with this account's key"))
}

/// The parsers of a chunk on bytes that nobody has authenticated.
pub(crate) fn fuzz_chunk(plain_len: usize, bytes: &[u8]) {
    let mut plain = vec![0; plain_len];
    let mut stored = bytes.to_vec();
    if let Ok(chunk) = split_chunk(&mut stored, plain_len) {
        // As if it had decrypted.
        let _ = codec::unpack(chunk.codec, chunk.body, &mut plain);
    }
    for codec in [Codec::Raw, Codec::Lz4] {
        let _ = codec::unpack(codec, bytes, &mut plain);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(master: u8, account: &str) -> AccountKeys {
        AccountKeys::derive(
            &Key::from_bytes([master; 32]),
            &Account::new(account).unwrap(),
        )
    }

    fn open(
        keys: &AccountKeys,
        name: &ChunkName,
        stored: &[u8],
        len: usize,
    ) -> Result<Vec<u8>, Refused> {
        let mut plain = vec![0; len];
        keys.open_chunk(name, &mut stored.to_vec(), &mut plain)?;
        Ok(plain)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plain in proptest::collection::vec(any::<u8>(), 1..20_000), repeat in 1..10_usize) {
            let plain = plain.repeat(repeat);
            let keys = keys(1, "a");
            let name = keys.name(&plain);
            let stored = keys.seal_chunk(&name, &plain);
            prop_assert!(stored.len() <= plain.len() + CHUNK_OVERHEAD);
            prop_assert_eq!(open(&keys, &name, &stored, plain.len()), Ok(plain.clone()));
            prop_assert_eq!(keys.seal_chunk(&name, &plain), stored);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_chunk_is_noticed() {
        let keys = keys(1, "a");
        for plain in [b"firn ".repeat(40), (0..=255).collect::<Vec<u8>>()] {
            let name = keys.name(&plain);
            let stored = keys.seal_chunk(&name, &plain);
            for bit in 0..stored.len() * 8 {
                let mut damaged = stored.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    open(&keys, &name, &damaged, plain.len()).is_err(),
                    "bit {bit}"
                );
            }
            for cut in 0..stored.len() {
                assert!(
                    open(&keys, &name, &stored[..cut], plain.len()).is_err(),
                    "cut {cut}"
                );
            }
            assert!(open(&keys, &name, &stored, plain.len() + 1).is_err());
        }
    }

    #[test]
    fn accounts_share_neither_names_nor_bytes_nor_keys() {
        let plain = vec![42; 4096];
        let (one, two) = (keys(1, "one"), keys(1, "two"));
        assert_ne!(one.name(&plain), two.name(&plain));
        let stored = one.seal_chunk(&one.name(&plain), &plain);
        assert_ne!(stored, two.seal_chunk(&two.name(&plain), &plain));
        assert!(open(&two, &one.name(&plain), &stored, plain.len()).is_err());
        assert!(open(&two, &two.name(&plain), &stored, plain.len()).is_err());
        assert!(open(&keys(2, "one"), &one.name(&plain), &stored, plain.len()).is_err());
    }

    #[test]
    fn a_chunk_under_another_name_does_not_open() {
        let keys = keys(1, "a");
        let (one, two) = (vec![1; 100], vec![2; 100]);
        let stored = keys.seal_chunk(&keys.name(&one), &one);
        assert!(open(&keys, &keys.name(&two), &stored, 100).is_err());
        // Even if somebody with the key put wrong content under a name.
        let forged = keys.seal_chunk(&keys.name(&one), &two);
        assert_eq!(
            open(&keys, &keys.name(&one), &forged, 100),
            Err(Refused("the content does not match the name"))
        );
    }

    #[test]
    fn a_record_opens_only_as_what_it_is() {
        let (one, two) = (Account::new("one").unwrap(), Account::new("two").unwrap());
        let (a, b) = (ImageId::new("a").unwrap(), ImageId::new("b").unwrap());
        let record = |account, id, kind, name| Record {
            account,
            id,
            kind,
            name,
        };
        let keys_one = keys(1, "one");
        let it = record(&one, &a, "side", "x");
        let raw: Vec<u8> = (0..=255).collect();
        let stored = keys_one.seal_record(&it, &raw).unwrap();
        assert_eq!(keys_one.open_record(&it, stored).unwrap(), raw);
        let stored = keys_one
            .seal_record(&it, b"hello hello hello hello hello")
            .unwrap();
        assert_eq!(
            keys_one.open_record(&it, stored.clone()).unwrap(),
            b"hello hello hello hello hello"
        );
        for other in [
            record(&two, &a, "side", "x"),
            record(&one, &b, "side", "x"),
            record(&one, &a, "manifest", "x"),
            record(&one, &a, "side", "y"),
        ] {
            assert!(keys_one.open_record(&other, stored.clone()).is_err());
        }
        assert!(keys(1, "two").open_record(&it, stored.clone()).is_err());
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(keys_one.open_record(&it, damaged).is_err(), "bit {bit}");
        }
        assert_ne!(
            stored,
            keys_one
                .seal_record(&it, b"hello hello hello hello hello")
                .unwrap()
        );
    }
}
