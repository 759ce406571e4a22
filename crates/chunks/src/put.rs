//! Storing an image: chunks first, manifest last.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chunks::{Chunks, Stored};
use crate::dir::Staged;
use crate::manifest::{Chunk, MAX_CHUNKS, MAX_LEN, MAX_META, Manifest};
use crate::name::ChunkName;
use crate::objects::blocking;
use crate::registry::Pins;
use crate::seal::{AccountKeys, MAX_RECORD, Record};
use crate::tiers::{chunk_key, manifest_key};
use crate::{Account, Error, ImageId, Result};

/// Chunks that one task reads, names, compresses and encrypts at a time.
const GROUP: u32 = 16;

/// One image on its way into the store.
struct Put {
    chunks: Chunks,
    account: Account,
    keys: Arc<AccountKeys>,
    pages: File,
    len: u64,
    chunk_bytes: u32,
    pins: Pins,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// Stored size by name; `None` while the first task that met the name is at it.
    known: HashMap<ChunkName, Option<u32>>,
    staged: Vec<Staged>,
    new: u32,
}

impl Progress {
    /// True for the first to meet a name, which then has to see to the chunk.
    fn meet(&mut self, name: ChunkName) -> bool {
        match self.known.entry(name) {
            Entry::Occupied(_) => false,
            Entry::Vacant(slot) => {
                slot.insert(None);
                true
            }
        }
    }
}

/// One chunk that was read: nothing for zeros.
type Named = Option<(ChunkName, Vec<u8>)>;

pub(crate) async fn put(
    chunks: &Chunks,
    account: &Account,
    id: &ImageId,
    meta: Vec<u8>,
    pages: File,
    len: u64,
) -> Result<Stored> {
    let chunk_bytes = chunks.config().chunk_bytes;
    check("an image", len, MAX_LEN)?;
    check("the meta part of an image", meta.len() as u64, MAX_META)?;
    let count = Manifest::chunk_count(len, chunk_bytes);
    check("an image", len, MAX_CHUNKS * u64::from(chunk_bytes))?;
    let put = Arc::new(Put {
        account: account.clone(),
        keys: chunks.keys(account),
        pages,
        len,
        chunk_bytes,
        pins: chunks.registry().pins(),
        progress: Mutex::default(),
        chunks: chunks.clone(),
    });
    // Bounded by `MAX_CHUNKS`.
    let names = put
        .store_all(u32::try_from(count).unwrap_or(u32::MAX))
        .await;
    let staged = std::mem::take(&mut put.progress().staged);
    let names = match names {
        Ok(names) => names,
        Err(err) => {
            chunks.tiers().l3.discard(&staged);
            return Err(err);
        }
    };
    chunks.tiers().l3.commit(staged).await?;

    let (entries, new_chunks) = put.entries(&names);
    let manifest = Manifest {
        account: account.clone(),
        id: id.clone(),
        created: chunks.clock().now(),
        len,
        chunk_bytes,
        chunks: entries,
        meta,
    };
    let stored_bytes = manifest.stored_bytes();
    // What was recorded about an earlier image of this name is not true of this one.
    chunks.remove_sides(account, id).await?;
    write_manifest(chunks, &put.keys, manifest).await?;
    chunks.forget(account, id).await;
    Ok(Stored {
        bytes: len,
        stored_bytes,
        chunks: u32::try_from(count).unwrap_or(u32::MAX),
        new_chunks,
    })
}

fn check(what: &str, size: u64, limit: u64) -> Result<()> {
    if size > limit {
        return Err(Error::TooLarge {
            what: what.to_owned(),
            size,
            limit,
        });
    }
    Ok(())
}

async fn write_manifest(
    chunks: &Chunks,
    keys: &Arc<AccountKeys>,
    manifest: Manifest,
) -> Result<()> {
    let key = manifest_key(&manifest.account, &manifest.id);
    let keys = Arc::clone(keys);
    let sealed = blocking(move || {
        let plain = manifest.encode();
        check("a manifest", plain.len() as u64, MAX_RECORD as u64)?;
        let record = Record {
            account: &manifest.account,
            id: &manifest.id,
            kind: "manifest",
            name: "",
        };
        keys.seal_record(&record, &plain).map_err(Error::random)
    })
    .await?;
    chunks.tiers().l3.put(&key, sealed).await
}

impl Put {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores all chunks and returns their names in order.
    async fn store_all(self: &Arc<Self>, count: u32) -> Result<Vec<Option<ChunkName>>> {
        let cores = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let slots = Arc::new(Semaphore::new(cores));
        let mut groups = JoinSet::new();
        for start in (0..count).step_by(GROUP as usize) {
            let permit = Arc::clone(&slots).acquire_owned().await;
            let permit = permit.map_err(|_| Error::Cancelled)?;
            let put = Arc::clone(self);
            groups.spawn(async move {
                let names = put
                    .store_group(start..count.min(start.saturating_add(GROUP)))
                    .await;
                drop(permit);
                names.map(|names| (start, names))
            });
        }
        let mut all = vec![None; count as usize];
        while let Some(group) = groups.join_next().await {
            let (start, names) = group.map_err(|err| match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Error::Cancelled,
            })??;
            for (slot, name) in all[start as usize..].iter_mut().zip(names) {
                *slot = name;
            }
        }
        Ok(all)
    }

    async fn store_group(
        self: &Arc<Self>,
        indices: std::ops::Range<u32>,
    ) -> Result<Vec<Option<ChunkName>>> {
        let named = {
            let put = Arc::clone(self);
            blocking(move || put.read(indices)).await?
        };
        let names: Vec<_> = named
            .iter()
            .map(|named| named.as_ref().map(|(name, _)| *name))
            .collect();
        let fresh: Vec<_> = {
            let mut progress = self.progress();
            named
                .into_iter()
                .flatten()
                .filter(|(name, _)| progress.meet(*name))
                .collect()
        };
        // From here on a collection leaves them alone, so what is found below stays.
        let fresh_names: Vec<_> = fresh.iter().map(|(name, _)| *name).collect();
        self.pins.add(&fresh_names).await;
        let mut stores = JoinSet::new();
        for (name, plain) in fresh {
            let put = Arc::clone(self);
            stores.spawn(async move { put.store_chunk(name, plain).await });
        }
        while let Some(stored) = stores.join_next().await {
            stored.map_err(|err| match err.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Error::Cancelled,
            })??;
        }
        Ok(names)
    }

    /// Reads and names chunks. Blocking.
    fn read(&self, indices: std::ops::Range<u32>) -> Result<Vec<Named>> {
        let size = u64::from(self.chunk_bytes);
        indices
            .map(|index| {
                let start = u64::from(index) * size;
                let len = (self.len - start).min(size);
                // At most `chunk_bytes`, a u32.
                let mut plain = vec![0; usize::try_from(len).unwrap_or(0)];
                self.pages
                    .read_exact_at(&mut plain, start)
                    .map_err(Error::io("read the pages of", Path::new("an image")))?;
                if plain.iter().all(|byte| *byte == 0) {
                    return Ok(None);
                }
                Ok(Some((self.keys.name(&plain), plain)))
            })
            .collect()
    }

    async fn store_chunk(self: Arc<Self>, name: ChunkName, plain: Vec<u8>) -> Result<()> {
        let tiers = self.chunks.tiers();
        let key = chunk_key(&self.account, &name);
        let now = self.chunks.clock().now();
        // One that is no longer young is written again: another process, which knows nothing of
        // this put, may be about to collect it.
        let young = self.chunks.config().grace() / 2;
        if let Some(found) = tiers.l3.stat(&key).await?
            && (young.is_zero() || now.duration_since(found.modified) < young)
            && let Ok(bytes) = u32::try_from(found.bytes)
        {
            self.progress().known.insert(name, Some(bytes));
            return Ok(());
        }
        let sealed = {
            let put = Arc::clone(&self);
            let key = key.clone();
            blocking(move || {
                let sealed = put.keys.seal_chunk(&name, &plain);
                if let Some(l1) = &put.chunks.tiers().l1 {
                    l1.insert(&key, &sealed);
                }
                Ok(sealed)
            })
            .await?
        };
        let bytes = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        let staged = tiers.l3.stage(&key, sealed).await?;
        let mut progress = self.progress();
        progress.staged.extend(staged);
        progress.known.insert(name, Some(bytes));
        progress.new += 1;
        Ok(())
    }

    fn entries(&self, names: &[Option<ChunkName>]) -> (Vec<Chunk>, u32) {
        let progress = self.progress();
        let entries = names
            .iter()
            .map(|name| match name {
                None => Chunk::Zero,
                Some(name) => Chunk::Stored {
                    name: *name,
                    stored_bytes: progress.known.get(name).copied().flatten().unwrap_or(0),
                },
            })
            .collect();
        (entries, progress.new)
    }
}
