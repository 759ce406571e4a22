//! What can go wrong, as the server sees it.

use std::io;
use std::path::PathBuf;

/// Failure of an operation on environments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host lacks a feature that the operator did not declare dispensable.
    #[error("this host lacks {feature}: {detail} (relaxation: `{flag}`)")]
    Missing {
        /// What is missing.
        feature: String,
        /// What was tried and how it failed.
        detail: String,
        /// The setting that accepts its absence.
        flag: String,
    },
    /// A step of the server itself failed.
    #[error("{action}")]
    Io {
        /// What was being done, beginning with a verb.
        action: String,
        /// The cause.
        source: io::Error,
    },
    /// A step inside the spawner or the environment failed.
    #[error("{action}: {cause}")]
    Remote {
        /// What was being done, beginning with a verb.
        action: String,
        /// The cause, as text because it crossed a process boundary.
        cause: String,
        /// The error number, 0 when there is none.
        errno: i32,
    },
    /// The program could not be started.
    #[error("start {}: {source}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// Why: not found, not executable, ...
        source: io::Error,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// All environments that the configuration permits exist.
    #[error("{0} environments exist already, the configured maximum")]
    Exhausted(u32),
    /// The environment, the spawner or the whole service has ended.
    #[error("{0} has ended")]
    Ended(&'static str),
}

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action: action.into(),
            source: source.into(),
        }
    }
}
