use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clock::Timestamp;

use crate::chunks::Chunks;
use crate::fill::{Fill, Plan};
use crate::tiers::{Reading, Sink};
use crate::{Account, Error, ImageId, Result};

/// An image that was opened: its manifest is verified and in memory. As long as it is held, its
/// chunks are not collected as garbage by this process, even if the image is deleted.
pub struct StoredImage {
    pub(crate) chunks: Chunks,
    pub(crate) reading: Reading,
}

impl std::fmt::Debug for StoredImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImage")
            .field("account", self.account())
            .field("id", self.id())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl StoredImage {
    pub fn account(&self) -> &Account {
        &self.reading.manifest.account
    }

    pub fn id(&self) -> &ImageId {
        &self.reading.manifest.id
    }

    pub fn created(&self) -> Timestamp {
        self.reading.manifest.created
    }

    /// What was given to [`Chunks::put`] beside the pages.
    pub fn meta(&self) -> &[u8] {
        &self.reading.manifest.meta
    }

    /// Length of the pages, in bytes.
    pub fn len(&self) -> u64 {
        self.reading.manifest.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn chunk_bytes(&self) -> u32 {
        self.reading.manifest.chunk_bytes
    }

    /// Number of chunks, zero ones included.
    pub fn chunk_count(&self) -> u32 {
        // Bounded by `MAX_CHUNKS`.
        u32::try_from(self.reading.manifest.chunks.len()).unwrap_or(u32::MAX)
    }

    /// What the image's chunks take where they are stored, shared with other images or not.
    pub fn stored_bytes(&self) -> u64 {
        self.reading.manifest.stored_bytes()
    }

    /// The plaintext of one chunk, from the nearest tier that has it, verified.
    pub async fn read(&self, chunk: u32) -> Result<Bytes> {
        if chunk >= self.chunk_count() {
            let start = u64::from(chunk) * u64::from(self.chunk_bytes());
            return Err(Error::OutOfRange {
                start,
                end: start + u64::from(self.chunk_bytes()),
                len: self.len(),
            });
        }
        let read = Arc::new(Mutex::new(None));
        let sink: Sink = {
            let read = Arc::clone(&read);
            Arc::new(move |_, plain| {
                *read.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Bytes::copy_from_slice(plain));
                Ok(())
            })
        };
        let failures = self.reading.load(vec![chunk], &sink).await;
        if let Some((_, err)) = failures.into_iter().next() {
            self.distrust(&err).await;
            return Err(err);
        }
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        read.take().ok_or(Error::Cancelled)
    }

    /// Begins to load the image into `target`, a file of at least [`Self::len`] bytes: the ranges
    /// (in bytes) of `first` at once, the rest in the background. Every byte is written, zeros
    /// too. Call it within a tokio runtime.
    pub fn fill(self: &Arc<Self>, target: Arc<File>, first: &[Range<u64>]) -> Fill {
        self.fill_with(target, Plan { first, rest: true })
    }

    /// Like [`Self::fill`]; the plan says what is loaded without being asked for.
    pub fn fill_with(self: &Arc<Self>, target: Arc<File>, plan: Plan<'_>) -> Fill {
        Fill::start(Arc::clone(self), target, plan)
    }

    /// A side record of this image; see [`Chunks::put_side`].
    pub async fn side(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.chunks.side(self.account(), self.id(), name).await
    }

    /// Writes a side record of this image; see [`Chunks::put_side`].
    pub async fn put_side(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.chunks
            .put_side(self.account(), self.id(), name, bytes)
            .await
    }

    /// A chunk was missing or damaged in L3. The copy of the manifest that L1 holds may be of an
    /// image that another machine has replaced or deleted, so the next open asks L3.
    pub(crate) async fn distrust(&self, err: &Error) {
        if matches!(err, Error::Missing { .. } | Error::Corrupt { .. }) {
            self.chunks.forget(self.account(), self.id()).await;
        }
    }
}
