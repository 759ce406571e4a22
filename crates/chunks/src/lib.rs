//! The image store: where the pages of frozen processes are kept, and come from again.
//!
//! An image is a large file of pages and a small part that describes them (`meta`). The pages are
//! cut into chunks of a fixed size. Chunks of zeros are stored as nothing; others once per account
//! and content, compressed and encrypted (`seal`). A manifest says which chunks an image has.
//!
//! # Promises
//! - **Durable means in L3.** When [`Chunks::put`] returns, the image is in L3: chunks were written
//!   first, the manifest last. Killed in between, there is no such image, and garbage that
//!   [`Chunks::collect_garbage`] finds.
//! - **Nobody gets wrong bytes.** What comes back from any tier is decrypted with authentication, and
//!   compared with the hash that it is called by, before anybody sees it. Damage in L1 or L2 is
//!   repaired from L3; damage there is [`Error::Corrupt`].
//! - **Accounts share nothing.** Keys, names and content of chunks differ per account. A manifest,
//!   chunk or side record under another name or account does not open.
//!
//! # Tiers
//! L1 is a directory of this machine, within a budget. L2 is a Valkey or Redis that machines share;
//! it may be missing, slow or empty at any time. L3 is a directory or an S3 bucket. Reads ask the
//! nearest first, and keep in nearer tiers what came from further away.
//!
//! # Objects
//! ```text
//! chunks/ACCOUNT/ab/cdef…           a chunk, by the keyed hash of its plaintext
//! images/ACCOUNT/IMAGE/manifest     what the image consists of
//! images/ACCOUNT/IMAGE/side/NAME    what was recorded about it later
//! incoming/…                        a local tier's files that have no name yet
//! ```
//!
//! The store knows nothing of processes, functions or what `meta` says. It reads time only from the
//! clock that it is given.
#![forbid(unsafe_code)]

mod cache;
mod chunks;
mod codec;
mod config;
mod counters;
mod dir;
mod error;
mod fill;
mod first;
mod garbage;
mod image;
mod key;
mod manifest;
mod name;
mod objects;
mod put;
mod registry;
#[cfg(feature = "s3")]
mod s3;
mod seal;
mod stats;
mod tiers;
mod valkey;

pub use chunks::{Chunks, Damaged, Listed, Listing, Stored};
pub use config::{Config, L2, L3, S3};
pub use error::Error;
pub use fill::{Fill, Plan};
pub use garbage::Collected;
pub use image::StoredImage;
pub use key::Key;
pub use name::{Account, ImageId};
pub use stats::{Stats, TierStats};

/// For fuzz targets only: parsers of bytes that come from outside.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads `bytes` as a decrypted manifest, which must come out of the encoder the same.
    pub fn manifest(bytes: &[u8]) {
        if let Ok(manifest) = crate::manifest::Manifest::decode(bytes) {
            assert!(
                manifest.encode() == bytes,
                "the encoder disagrees with the parser"
            );
            let _ = (manifest.stored_bytes(), manifest.names().count());
        }
    }

    /// Reads `bytes` as a decrypted record of the pages that are needed first, of an image of this
    /// length: all that it names lies within.
    pub fn first(image_len: u64, bytes: &[u8]) {
        crate::first::fuzz(image_len, bytes);
    }

    /// Reads `bytes` as what is stored for a chunk of this length, and as a decrypted one.
    pub fn chunk(plain_len: u16, bytes: &[u8]) {
        crate::seal::fuzz_chunk(usize::from(plain_len), bytes);
    }
}

/// For the benchmark only.
#[doc(hidden)]
pub mod measuring {
    /// Seals and opens chunks, without any tier.
    pub struct Sealer(crate::seal::AccountKeys);

    pub struct Name(crate::name::ChunkName);

    impl Sealer {
        #[expect(clippy::new_without_default, reason = "nobody else makes one")]
        #[expect(clippy::expect_used, reason = "the name is a valid one")]
        pub fn new() -> Self {
            let account = crate::Account::new("bench").expect("valid");
            Self(crate::seal::AccountKeys::derive(
                &crate::Key::from_bytes([1; 32]),
                &account,
            ))
        }

        pub fn seal(&self, plain: &[u8]) -> (Name, Vec<u8>) {
            let name = self.0.name(plain);
            let sealed = self.0.seal_chunk(&name, plain);
            (Name(name), sealed)
        }

        /// False if it does not open.
        pub fn open(&self, name: &Name, stored: &mut [u8], plain: &mut [u8]) -> bool {
            self.0.open_chunk(&name.0, stored, plain).is_ok()
        }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
