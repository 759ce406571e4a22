//! Reading chunks: from the nearest tier that has them, verified, kept nearer for the next time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::manifest::{Chunk, Manifest};
use crate::name::ChunkName;
use crate::objects::{Objects, blocking};
use crate::seal::{AccountKeys, CHUNK_OVERHEAD};
use crate::valkey::Valkey;
use crate::{Account, Error, ImageId, Result};

pub(crate) struct Tiers {
    pub(crate) l1: Option<Cache>,
    pub(crate) l2: Option<Arc<Valkey>>,
    pub(crate) l3: Objects,
    /// Writes to L1 and L2. They go on when the read that caused them is done or dropped.
    pub(crate) promotions: Mutex<JoinSet<()>>,
    pub(crate) promoting: Semaphore,
}

/// Chunks that are kept in memory before they are written to nearer tiers, because reading goes
/// first.
const MAX_KEEP: usize = 64;
/// Times that many may wait to be written.
const MAX_PROMOTIONS: usize = 16;

/// Takes verified chunks. Called on a blocking thread, once per chunk.
pub(crate) type Sink = Arc<dyn Fn(u32, &[u8]) -> Result<()> + Send + Sync>;

/// Chunks that could not be read, and why.
pub(crate) type Failures = Vec<(u32, Error)>;

/// What reading chunks of one image takes.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) tiers: Arc<Tiers>,
    pub(crate) keys: Arc<AccountKeys>,
    pub(crate) manifest: Arc<Manifest>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    L2,
    L3,
}

struct Fetched {
    index: u32,
    from: From,
    stored: Vec<u8>,
}

enum Step {
    Fetched(Fetched),
    Failed(u32, Error),
}

/// A chunk to be kept in nearer tiers, as it is stored.
struct Keep {
    key: String,
    stored: Vec<u8>,
    from: From,
}

/// Chunks of one load that are to be kept. That begins when the load is over, or was dropped,
/// because reading goes first.
struct Keeping {
    tiers: Arc<Tiers>,
    keep: Mutex<Vec<Keep>>,
}

impl Keeping {
    fn add(&self, more: Vec<Keep>) {
        let mut keep = self.keep.lock().unwrap_or_else(PoisonError::into_inner);
        keep.extend(more);
        if keep.len() >= MAX_KEEP {
            self.tiers.promote(std::mem::take(&mut keep));
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let keep = self.keep.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.tiers.promote(std::mem::take(keep));
    }
}

/// What came of decoding fetched chunks.
#[derive(Default)]
struct Decoded {
    failures: Failures,
    /// Damaged in L2; L3 may have them whole.
    again: Vec<u32>,
}

pub(crate) fn chunk_key(account: &Account, name: &ChunkName) -> String {
    let name = name.to_string();
    let (first, rest) = name.split_at(2);
    format!("chunks/{account}/{first}/{rest}")
}

/// The chunk that a key names, if it names one.
pub(crate) fn parse_chunk_key(key: &str) -> Option<ChunkName> {
    let mut parts = key.rsplit('/');
    let (rest, first) = (parts.next()?, parts.next()?);
    let mut name = [0; 32];
    hex::decode_to_slice(format!("{first}{rest}"), &mut name).ok()?;
    Some(ChunkName(name))
}

pub(crate) fn manifest_key(account: &Account, id: &ImageId) -> String {
    format!("images/{account}/{id}/manifest")
}

pub(crate) fn side_key(account: &Account, id: &ImageId, name: &str) -> String {
    format!("images/{account}/{id}/side/{name}")
}

impl Tiers {
    /// Keeps chunks in L1 and L2, without anybody waiting for it.
    fn promote(self: &Arc<Self>, keep: Vec<Keep>) {
        let mut promotions = self
            .promotions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while promotions.try_join_next().is_some() {}
        // Copies are a convenience; that many waiting means that the disk or L2 cannot keep up.
        if keep.is_empty() || promotions.len() >= MAX_PROMOTIONS {
            return;
        }
        // There is none when the server ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let tiers = Arc::clone(self);
        let promotion = async move {
            // One at a time: the processors have chunks to decode that somebody waits for.
            let Ok(_turn) = tiers.promoting.acquire().await else {
                return;
            };
            let inserted = {
                let tiers = Arc::clone(&tiers);
                blocking(move || {
                    if let Some(l1) = &tiers.l1 {
                        keep.iter()
                            .for_each(|keep| l1.insert(&keep.key, &keep.stored));
                    }
                    Ok(keep)
                })
                .await
            };
            if let (Some(l2), Ok(kept)) = (&tiers.l2, inserted) {
                for keep in kept.iter().filter(|keep| keep.from == From::L3) {
                    l2.set(&keep.key, &keep.stored).await;
                }
            }
        };
        promotions.spawn_on(promotion, &runtime);
    }
}

impl Reading {
    fn key(&self, name: &ChunkName) -> String {
        chunk_key(&self.manifest.account, name)
    }

    fn what(&self, name: &ChunkName) -> String {
        format!("chunk {name} of image {}", self.manifest.id)
    }

    fn limit(&self) -> usize {
        self.manifest.chunk_bytes as usize + CHUNK_OVERHEAD
    }

    /// Gives the chunks at `wanted` to `sink`, those that are near first. A chunk that fails does
    /// not keep the others from being loaded.
    pub(crate) async fn load(&self, wanted: Vec<u32>, sink: &Sink) -> Failures {
        let all = wanted.clone();
        let near = {
            let (reading, sink) = (self.clone(), Arc::clone(sink));
            blocking(move || Ok(reading.load_near(wanted, &sink))).await
        };
        let (missing, mut failures) = match near {
            Ok(near) => near,
            Err(err) => return all.into_iter().map(|index| (index, err.clone())).collect(),
        };
        if !missing.is_empty() {
            self.load_far(missing, sink, &mut failures).await;
        }
        failures
    }

    /// What the disk of this machine has. Returns what is to be fetched from further away, and what
    /// failed. Blocking.
    fn load_near(&self, wanted: Vec<u32>, sink: &Sink) -> (Vec<u32>, Failures) {
        let mut missing = Vec::new();
        let mut failures = Vec::new();
        let mut stored = Vec::new();
        let mut plain = vec![0; self.manifest.chunk_bytes as usize];
        self.read_ahead(&wanted);
        for index in wanted {
            let Some(chunk) = self.manifest.chunks.get(index as usize) else {
                continue;
            };
            let plain = &mut plain[..self.manifest.plain_len(index)];
            let taken = match chunk {
                Chunk::Zero => {
                    plain.fill(0);
                    sink(index, plain).map(|()| true)
                }
                Chunk::Stored { name, .. } => {
                    self.read_near(name, &mut stored, plain).and_then(|found| {
                        if found {
                            sink(index, plain).map(|()| true)
                        } else {
                            Ok(false)
                        }
                    })
                }
            };
            match taken {
                Ok(true) => {}
                Ok(false) => missing.push(index),
                Err(Error::Cancelled) => break,
                Err(err) => failures.push((index, err)),
            }
        }
        (missing, failures)
    }

    fn read_ahead(&self, wanted: &[u32]) {
        if wanted.len() < 2 {
            return;
        }
        let keys: Vec<_> = wanted
            .iter()
            .filter_map(|index| match self.manifest.chunks.get(*index as usize) {
                Some(Chunk::Stored { name, .. }) => Some(self.key(name)),
                _ => None,
            })
            .collect();
        let keys = keys.iter().map(String::as_str);
        if let Some(l1) = &self.tiers.l1 {
            l1.read_ahead(keys.filter(|key| l1.holds(key)));
        } else if let Some(dir) = self.tiers.l3.near() {
            dir.read_ahead(keys);
        }
    }

    /// Reads a chunk into `plain`; false if it has to be fetched.
    fn read_near(&self, name: &ChunkName, stored: &mut Vec<u8>, plain: &mut [u8]) -> Result<bool> {
        let key = self.key(name);
        if let Some(l1) = &self.tiers.l1 {
            if !l1.read_into(&key, self.limit(), stored) {
                return Ok(false);
            }
            if self.keys.open_chunk(name, stored, plain).is_err() {
                tracing::warn!(chunk = %name, "a chunk in L1 is damaged; fetching it again");
                l1.drop_corrupt(&key);
                return Ok(false);
            }
            return Ok(true);
        }
        let Some(dir) = self.tiers.l3.near() else {
            return Ok(false);
        };
        let counters = &self.tiers.l3.counters;
        match dir.read_into(&key, self.limit(), stored) {
            Ok(true) => counters.hit(stored.len()),
            Ok(false) => {
                counters.miss();
                return Err(Error::Missing {
                    what: self.what(name),
                });
            }
            Err(err) => {
                counters.error();
                return Err(err);
            }
        }
        self.keys
            .open_chunk(name, stored, plain)
            .map_err(|refused| {
                counters.corrupt();
                Error::corrupt(self.what(name), refused.0)
            })?;
        Ok(true)
    }

    async fn load_far(&self, missing: Vec<u32>, sink: &Sink, failures: &mut Failures) {
        let mut steps = JoinSet::new();
        let keeping = Arc::new(Keeping {
            tiers: Arc::clone(&self.tiers),
            keep: Mutex::default(),
        });
        for index in missing {
            self.fetch(&mut steps, index, true);
        }
        while let Some(step) = steps.join_next().await {
            let mut fetched = Vec::new();
            let mut next = Some(step);
            // What has arrived meanwhile shares one trip to a blocking thread.
            while let Some(step) = next {
                match step {
                    Ok(Step::Fetched(chunk)) => fetched.push(chunk),
                    Ok(Step::Failed(index, err)) => failures.push((index, err)),
                    Err(err) => {
                        if let Ok(panic) = err.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
                next = if fetched.len() < 8 {
                    steps.try_join_next()
                } else {
                    None
                };
            }
            if fetched.is_empty() {
                continue;
            }
            let indices: Vec<_> = fetched.iter().map(|chunk| chunk.index).collect();
            let decoded = {
                let (reading, sink) = (self.clone(), Arc::clone(sink));
                let keeping = Arc::clone(&keeping);
                blocking(move || Ok(reading.decode(fetched, &sink, &keeping))).await
            };
            match decoded {
                Ok(decoded) => {
                    failures.extend(decoded.failures);
                    for index in decoded.again {
                        self.fetch(&mut steps, index, false);
                    }
                }
                Err(err) => failures.extend(indices.into_iter().map(|index| (index, err.clone()))),
            }
        }
    }

    fn name_at(&self, index: u32) -> Option<ChunkName> {
        match self.manifest.chunks.get(index as usize) {
            Some(Chunk::Stored { name, .. }) => Some(*name),
            _ => None,
        }
    }

    /// Begins to get a chunk from L2, if that is to be asked, or else L3.
    fn fetch(&self, steps: &mut JoinSet<Step>, index: u32, ask_l2: bool) {
        let Some(name) = self.name_at(index) else {
            return;
        };
        let reading = self.clone();
        steps.spawn(async move {
            let key = reading.key(&name);
            let tiers = &reading.tiers;
            if let Some(l2) = tiers.l2.as_ref().filter(|_| ask_l2)
                && let Some(stored) = l2.get(&key).await
            {
                return Step::Fetched(Fetched {
                    index,
                    from: From::L2,
                    stored,
                });
            }
            match tiers.l3.get(&key, reading.limit()).await {
                Ok(Some(stored)) => Step::Fetched(Fetched {
                    index,
                    from: From::L3,
                    stored,
                }),
                Ok(None) => Step::Failed(
                    index,
                    Error::Missing {
                        what: reading.what(&name),
                    },
                ),
                Err(err) => Step::Failed(index, err),
            }
        });
    }

    /// Verifies what was fetched, hands it on, and keeps it in L1. Blocking.
    fn decode(&self, fetched: Vec<Fetched>, sink: &Sink, keeping: &Keeping) -> Decoded {
        let mut keep = Vec::new();
        let mut decoded = Decoded::default();
        let mut plain = vec![0; self.manifest.chunk_bytes as usize];
        for Fetched {
            index,
            from,
            mut stored,
        } in fetched
        {
            let Some(name) = self.name_at(index) else {
                continue;
            };
            // Decrypting happens in place, so what is kept has to be copied before.
            let wanted = self.tiers.l1.is_some() || (from == From::L3 && self.tiers.l2.is_some());
            let copy = wanted.then(|| stored.clone());
            let plain = &mut plain[..self.manifest.plain_len(index)];
            match self.keys.open_chunk(&name, &mut stored, plain) {
                Ok(()) => {
                    if let Err(err) = sink(index, plain) {
                        decoded.failures.push((index, err));
                    }
                    let key = self.key(&name);
                    keep.extend(copy.map(|stored| Keep { key, stored, from }));
                }
                Err(_) if from == From::L2 => {
                    tracing::warn!(chunk = %name, "a chunk in L2 is damaged; fetching it from L3");
                    if let Some(l2) = &self.tiers.l2 {
                        l2.counters.corrupt();
                    }
                    decoded.again.push(index);
                }
                Err(refused) => {
                    self.tiers.l3.counters.corrupt();
                    let error = Error::corrupt(self.what(&name), refused.0);
                    decoded.failures.push((index, error));
                }
            }
        }
        keeping.add(keep);
        decoded
    }
}
