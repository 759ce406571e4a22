use std::path::{Path, PathBuf};

use crate::record::Revision;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An [`Expect`](crate::Expect) did not hold; nothing of the batch was written.
    #[error("the record {key:?} is not at the expected revision")]
    Conflict {
        key: String,
        /// The revision that the record has; `None` if there is no such record.
        actual: Option<Revision>,
    },
    #[error("no blob {digest}")]
    NotFound { digest: String },
    /// A file does not hold what was written to it.
    #[error("{} is damaged: {reason}", file.display())]
    Corrupt { file: PathBuf, reason: String },
    #[error("{} was written by a version of the store that this one does not know ({found})", file.display())]
    UnknownFormat { file: PathBuf, found: String },
    #[error("the data directory {} is in use by another process{holder}", dir.display())]
    Locked { dir: PathBuf, holder: String },
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        what: &'static str,
        size: usize,
        limit: usize,
    },
    #[error("{name:?} is not a valid {what} name")]
    InvalidName { what: &'static str, name: String },
    #[error("the batch names the record {key:?} twice")]
    DuplicateKey { key: String },
    #[error("{limit} bytes of {what} are waiting for the disk already")]
    Overloaded { what: &'static str, limit: usize },
    /// An earlier write or fsync failed. What is on disk is not known, so no write is accepted
    /// until the store is opened anew.
    #[error("the store takes no more writes, because an earlier one failed: {reason}")]
    Failed { reason: String },
    #[error("the store is closed")]
    Closed,
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot {action}")]
    Engine {
        action: &'static str,
        source: fjall::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn corrupt(file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.into(),
            reason: reason.into(),
        }
    }
}

/// Keys are bytes, but mostly text; this is how they appear in messages.
pub(crate) fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
