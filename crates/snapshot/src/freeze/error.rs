//! Why a process was not frozen.

use std::io;

/// The process runs on as before, unless it is [`FreezeError::Gone`].
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// It uses something that an image cannot hold. The text is for the function's operator and
    /// names the thing.
    #[error("cannot be frozen: {what}")]
    Unsupported { what: String },
    /// It ended in the middle.
    #[error("the process ended while it was being frozen")]
    Gone,
    /// Something that should work did not.
    #[error("freeze: {doing}")]
    Failed { doing: String, source: io::Error },
}

pub type Result<T> = std::result::Result<T, FreezeError>;

/// A refusal.
pub fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(FreezeError::Unsupported { what: what.into() })
}

/// Says what was being done when a system call failed. A process that is no longer there is not a
/// failure of the call.
pub trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| {
            let source = err.into();
            if source.raw_os_error() == Some(libc::ESRCH) {
                FreezeError::Gone
            } else {
                let doing = doing();
                FreezeError::Failed { doing, source }
            }
        })
    }
}
