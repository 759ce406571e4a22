//! Embedded durable storage: revisioned records, ordered logs, timers and content-addressed blobs.
//!
//! # Promises
//! - **Acknowledged means on disk.** A write resolves after an fsync that covers it. Writers that
//!   wait at the same time share one fsync (`commit`).
//! - **Whole or not at all.** A [`Batch`] is applied atomically, whatever happens to the process.
//! - **Compare-and-put is linearizable.** [`Expect`] is checked by the one committer thread, also
//!   between writes that end up in the same group.
//! - **Damage is named, never served.** Every file is covered by a checksum. What can be checked
//!   cheaply is checked by [`Store::open`], before the engine sees it; the rest when it is read. An
//!   error says which file is damaged.
//!
//! # On disk
//! ```text
//! lock               held while a process has the store open
//! db/format          version of everything below
//! db/acked           number of the last acknowledged commit: what the journal must still hold
//! db/*.jnl           journals of the engine (fjall)
//! db/keyspaces/*     its sorted tables
//! blobs/ab/cdef…     blobs by their SHA-256
//! blobs/incoming/    blobs being written; emptied at open
//! ```
//!
//! The store knows nothing of what its users keep in it: values are bytes, and each service
//! versions its own records.
#![forbid(unsafe_code)]

mod blobs;
mod commit;
mod config;
mod error;
mod journal;
mod layout;
mod log;
mod record;
mod store;
mod table;
mod timers;
mod trees;
mod watch;

pub use blobs::{BlobWriter, Blobs, Digest, ParseDigestError};
pub use config::Config;
pub use error::Error;
pub use log::{Appending, Entry, Log};
pub use record::{Record, Revision};
pub use store::Store;
pub use table::{Batch, Expect, Table, Writing};
pub use timers::{Due, Timers};
pub use watch::{Change, Event, Watch};

/// For fuzz targets only: parsers of bytes that come from the disk.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads `bytes` as a journal; must neither panic nor allocate beyond its input.
    pub fn scan_journal(bytes: &[u8]) {
        let _ = crate::journal::scan(&mut std::io::Cursor::new(bytes), bytes.len() as u64);
    }

    /// Reads `bytes` as a stored record.
    pub fn decode_record(bytes: &[u8]) {
        let _ = crate::record::decode(b"key", bytes);
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
