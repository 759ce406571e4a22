use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the image store refused or failed. Cheap to clone, because several readers may wait for
/// the same chunk.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something read back is not what was written under that name with this key.
    #[error("{what} is damaged or not this account's: {reason}")]
    Corrupt { what: String, reason: String },
    /// A chunk that a manifest names is in no tier.
    #[error("{what} is missing")]
    Missing { what: String },
    #[error("{name:?} is not a valid {what} name")]
    InvalidName { what: &'static str, name: String },
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge { what: String, size: u64, limit: u64 },
    #[error("the range {start}..{end} is not within the image of {len} bytes")]
    OutOfRange { start: u64, end: u64, len: u64 },
    #[error("configuration of the image store: {reason}")]
    Config { reason: String },
    #[error("the key file {} {reason}", path.display())]
    Key { path: PathBuf, reason: String },
    #[error("the directory {} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    /// The object store failed, after its retries.
    #[error("cannot {action} {path} in the object store")]
    ObjectStore {
        action: &'static str,
        path: String,
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The fill was dropped, or the runtime is shutting down.
    #[error("loading was cancelled")]
    Cancelled,
}

impl Error {
    /// Whether what is stored is at fault. Else another try may succeed.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Missing { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn random(err: getrandom::Error) -> Self {
        Self::io("get random bytes from", Path::new("the system"))(std::io::Error::other(
            err.to_string(),
        ))
    }

    pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
