//! Deployment packages: what an uploaded zip may contain, and where its content lives.
//!
//! A package is stored once as it came (a blob, for downloads and as the source of truth) and
//! once unpacked (a directory named by its SHA-256, mounted into environments). Functions and
//! versions with equal code share both.

pub mod archive;
mod code_store;
mod unpack;

use std::io;

pub use code_store::{CodeStore, Pin};
pub use unpack::{MAX_UNZIPPED_BYTES, unpack, unzipped_bytes};

/// AWS's limit for a package in the request itself.
pub const MAX_ZIPPED_BYTES: u64 = 52_428_800;

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("the package cannot be unzipped")]
    Archive(#[from] archive::ArchiveError),
    #[error("the package is refused: {0}")]
    Hostile(&'static str),
    #[error("the package holds no file")]
    Empty,
    #[error("the package is larger than {MAX_UNZIPPED_BYTES} bytes when unzipped")]
    TooLarge,
    #[error("the package is not valid base64")]
    NotBase64,
    #[error("cannot {action}")]
    Io {
        action: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("cannot use the blob of a package")]
    Store(#[source] store::Error),
}

impl PackageError {
    /// A blocking task that panicked or was shut down.
    fn from_panic(cause: tokio::task::JoinError) -> Self {
        Self::Io {
            action: "finish unpacking",
            cause: io::Error::other(cause),
        }
    }
}
