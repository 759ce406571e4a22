//! Loading an image into a file (a memfd that processes map).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::image::StoredImage;
use crate::tiers::{Failures, Sink};
use crate::{Error, Result};

/// Chunks that a task of the background takes at a time: few enough that it stops soon after
/// [`Fill`] is dropped, enough that the trip to a blocking thread does not matter.
const BACKGROUND_GROUP: usize = 8;

/// What a [`Fill`] loads without being asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Ranges, in bytes, that [`Fill::first`] waits for. Whole chunks are loaded.
    pub first: &'a [Range<u64>],
    /// Whether to load the rest after them.
    pub rest: bool,
}

/// An image being loaded. A chunk is present only after all of its verified bytes are in the
/// target. Dropping this cancels what is not loaded yet.
#[derive(Debug)]
pub struct Fill {
    shared: Arc<Shared>,
    /// Everything that was spawned for this; aborted on drop.
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    image: Arc<StoredImage>,
    target: Arc<File>,
    first: Vec<u32>,
    /// A bit per chunk that is present. Set after the bytes are written, hence the release order.
    present: Vec<AtomicU64>,
    state: Mutex<State>,
    /// Told whenever chunks became present or failed.
    progress: Notify,
    cancelled: AtomicBool,
}

struct State {
    chunks: Vec<Chunk>,
    /// Where to look for the background's next chunk; all before it are taken care of.
    cursor: usize,
    missing: usize,
    failed: usize,
}

#[derive(Clone)]
enum Chunk {
    Missing,
    Loading,
    Present,
    Failed(Box<Error>),
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("image", &self.image)
            .field("missing", &self.state().missing)
            .finish_non_exhaustive()
    }
}

impl Fill {
    pub(crate) fn start(image: Arc<StoredImage>, target: Arc<File>, plan: Plan<'_>) -> Self {
        let count = image.chunk_count() as usize;
        let mut first = Vec::new();
        for range in plan.first {
            // Advice, often recorded long ago: what is outside of the image is left out.
            let range = range.start..range.end.min(image.len());
            first.extend(image.chunks_of(&range).into_iter().flatten());
        }
        first.sort_unstable();
        first.dedup();
        let shared = Arc::new(Shared {
            target,
            first,
            present: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(State {
                chunks: vec![Chunk::Missing; count],
                cursor: 0,
                missing: count,
                failed: 0,
            }),
            progress: Notify::new(),
            cancelled: AtomicBool::new(false),
            image,
        });
        let mut tasks = JoinSet::new();
        let config = shared.image.chunks.config();
        let claimed = shared.claim(shared.first.iter().copied());
        let group = claimed.len().div_ceil(config.read_parallelism).max(1);
        for group in claimed.chunks(group) {
            tasks.spawn(Arc::clone(&shared).load(group.to_vec()));
        }
        if plan.rest {
            for _ in 0..config.background_parallelism {
                tasks.spawn(Arc::clone(&shared).load_rest());
            }
        }
        Self {
            shared,
            tasks: Mutex::new(tasks),
        }
    }

    /// Waits for the first ranges of the plan.
    pub async fn first(&self) -> Result<()> {
        self.shared.wait(&self.shared.first).await
    }

    /// Waits for the whole image, and loads what the plan leaves out.
    pub async fn all(&self) -> Result<()> {
        let all: Vec<_> = (0..self.shared.image.chunk_count()).collect();
        let spawn = |tasks: &mut JoinSet<()>| {
            tasks.spawn(Arc::clone(&self.shared).load_rest());
        };
        spawn(&mut self.tasks());
        self.shared.wait(&all).await
    }

    /// Loads a range (in bytes) now, ahead of everything that is queued, and waits for it. What
    /// failed before is tried again.
    pub async fn demand(&self, range: Range<u64>) -> Result<()> {
        let wanted = self.shared.image.chunks_of(&range)?;
        let claimed = self.shared.claim_again(wanted.clone());
        if !claimed.is_empty() {
            let mut tasks = self.tasks();
            while tasks.try_join_next().is_some() {}
            // A task of its own: another caller may wait for the same chunks when this one is
            // cancelled. Not a place in a queue: whoever waits here is a process in a page fault.
            tasks.spawn(Arc::clone(&self.shared).load(claimed));
        }
        self.shared.wait(&wanted.collect::<Vec<_>>()).await
    }

    /// Whether every byte of the image is in the target.
    pub fn is_complete(&self) -> bool {
        self.shared.state().missing == 0
    }

    /// Whether every byte of the range is in the target. False for a range outside of the image.
    pub fn present(&self, range: Range<u64>) -> bool {
        match self.shared.image.chunks_of(&range) {
            Ok(mut chunks) => chunks.all(|index| self.shared.is_present(index)),
            Err(_) => false,
        }
    }

    /// Bytes of the image that are in the target.
    pub fn present_bytes(&self) -> u64 {
        let image = &self.shared.image;
        (0..image.chunk_count())
            .filter(|index| self.shared.is_present(*index))
            .map(|index| image.reading.manifest.plain_len(index) as u64)
            .sum()
    }

    pub fn image(&self) -> &Arc<StoredImage> {
        &self.shared.image
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // The tasks end with the set; what runs on a blocking thread sees this before each chunk.
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }
}

impl StoredImage {
    /// The chunks that hold a range of bytes.
    fn chunks_of(&self, range: &Range<u64>) -> Result<Range<u32>> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::OutOfRange {
                start: range.start,
                end: range.end,
                len: self.len(),
            });
        }
        let size = u64::from(self.chunk_bytes());
        let index = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
        if range.is_empty() {
            return Ok(0..0);
        }
        Ok(index(range.start / size)..index(range.end.div_ceil(size)))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_present(&self, index: u32) -> bool {
        let word = self.present.get(index as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (index % 64)) != 0)
    }

    /// Those of `wanted` that nobody loads yet; the caller has to.
    fn claim(&self, wanted: impl Iterator<Item = u32>) -> Vec<u32> {
        self.claim_if(wanted, |chunk| matches!(chunk, Chunk::Missing))
    }

    fn claim_again(&self, wanted: impl Iterator<Item = u32>) -> Vec<u32> {
        self.claim_if(wanted, |chunk| {
            matches!(chunk, Chunk::Missing | Chunk::Failed(_))
        })
    }

    fn claim_if(
        &self,
        wanted: impl Iterator<Item = u32>,
        free: impl Fn(&Chunk) -> bool,
    ) -> Vec<u32> {
        let mut state = self.state();
        let State { chunks, failed, .. } = &mut *state;
        wanted
            .filter(|index| match chunks.get_mut(*index as usize) {
                Some(chunk) if free(chunk) => {
                    *failed -= usize::from(matches!(chunk, Chunk::Failed(_)));
                    *chunk = Chunk::Loading;
                    true
                }
                _ => false,
            })
            .collect()
    }

    fn claim_next(&self) -> Vec<u32> {
        let mut state = self.state();
        let mut claimed = Vec::new();
        while claimed.len() < BACKGROUND_GROUP {
            let at = state.cursor;
            let Some(chunk) = state.chunks.get_mut(at) else {
                break;
            };
            if matches!(chunk, Chunk::Missing) {
                *chunk = Chunk::Loading;
                claimed.extend(u32::try_from(at));
            }
            state.cursor = at + 1;
        }
        claimed
    }

    async fn load(self: Arc<Self>, claimed: Vec<u32>) {
        let sink: Sink = {
            let shared = Arc::clone(&self);
            Arc::new(move |index, plain| shared.write(index, plain))
        };
        let failures = self.image.reading.load(claimed, &sink).await;
        if let Some((_, err)) = failures.first() {
            self.image.distrust(err).await;
            self.fail(failures);
        }
    }

    async fn load_rest(self: Arc<Self>) {
        // The first ranges have the machine to themselves. If they failed, the rest still may be
        // of use to a process that runs already.
        let _ = self.wait(&self.first).await;
        loop {
            let claimed = self.claim_next();
            if claimed.is_empty() {
                return;
            }
            Arc::clone(&self).load(claimed).await;
        }
    }

    /// Called on a blocking thread with verified bytes.
    fn write(&self, index: u32, plain: &[u8]) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let at = u64::from(index) * u64::from(self.image.chunk_bytes());
        self.target
            .write_all_at(plain, at)
            .map_err(Error::io("write pages to", Path::new("memory")))?;
        if let Some(word) = self.present.get(index as usize / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Release);
        }
        {
            let mut state = self.state();
            if let Some(chunk) = state.chunks.get_mut(index as usize)
                && !matches!(chunk, Chunk::Present)
            {
                *chunk = Chunk::Present;
                state.missing -= 1;
            }
        }
        self.progress.notify_waiters();
        Ok(())
    }

    fn fail(&self, failures: Failures) {
        {
            let mut state = self.state();
            let State { chunks, failed, .. } = &mut *state;
            for (index, err) in failures {
                if let Some(chunk) = chunks.get_mut(index as usize)
                    && matches!(chunk, Chunk::Loading)
                {
                    *failed += 1;
                    *chunk = Chunk::Failed(Box::new(err));
                }
            }
        }
        self.progress.notify_waiters();
    }

    /// Waits until these chunks are present, or one of them has failed.
    async fn wait(&self, wanted: &[u32]) -> Result<()> {
        let mut wanted = wanted;
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            while let [index, rest @ ..] = wanted
                && self.is_present(*index)
            {
                wanted = rest;
            }
            if wanted.is_empty() {
                return Ok(());
            }
            {
                let state = self.state();
                for index in wanted.iter().filter(|_| state.failed > 0) {
                    if let Some(Chunk::Failed(err)) = state.chunks.get(*index as usize) {
                        return Err((**err).clone());
                    }
                }
            }
            progress.await;
        }
    }
}
