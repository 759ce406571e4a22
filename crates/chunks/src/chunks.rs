use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use clock::{Clock, Timestamp};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::config::Config;
use crate::dir::Dir;
use crate::garbage::{self, Collected};
use crate::image::StoredImage;
use crate::manifest::Manifest;
use crate::name;
use crate::objects::{Objects, blocking};
use crate::put;
use crate::registry::Registry;
use crate::seal::{AccountKeys, MAX_STORED_RECORD, Record};
use crate::tiers::{Reading, Tiers, manifest_key, side_key};
use crate::valkey::Valkey;
use crate::{Account, Error, ImageId, Key, Result, Stats};

/// Most that a side record may hold.
const MAX_SIDE: usize = 16 << 20;
/// How exact [`Listed::last_used`] is.
const USED_EXACT_TO: Duration = Duration::from_secs(60);

/// The image store. Clones share it.
#[derive(Clone)]
pub struct Chunks(Arc<Inner>);

struct Inner {
    config: Config,
    key: Key,
    clock: Clock,
    tiers: Arc<Tiers>,
    registry: Arc<Registry>,
    keys: Mutex<HashMap<Account, Arc<AccountKeys>>>,
    live: Mutex<HashMap<(Account, ImageId), Weak<StoredImage>>>,
    /// What this machine remembers of images beside L1: when they were last used.
    local: Arc<Dir>,
    collecting: tokio::sync::Mutex<()>,
    /// Held while the store is open.
    _lock: File,
}

/// What [`Chunks::put`] has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Length of the pages.
    pub bytes: u64,
    /// What the image's chunks take, shared with other images or not.
    pub stored_bytes: u64,
    /// Chunks that the pages were cut into, zero ones included.
    pub chunks: u32,
    /// Chunks that were written, because L3 did not have them.
    pub new_chunks: u32,
}

/// What [`Chunks::list`] has found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub images: Vec<Listed>,
    pub damaged: Vec<Damaged>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub account: Account,
    pub id: ImageId,
    pub created: Timestamp,
    /// Length of the pages.
    pub bytes: u64,
    /// What the image's chunks take, shared with other images or not.
    pub stored_bytes: u64,
    /// When this machine last opened it, to the minute; `None` if it never did.
    pub last_used: Option<Timestamp>,
}

/// An image whose manifest cannot be read.
#[derive(Clone, Debug)]
pub struct Damaged {
    pub account: Account,
    pub id: ImageId,
    pub error: Error,
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Chunks {
    /// Opens the store; lists L1, and contacts no server. Blocking, but short.
    pub fn open(config: Config, key: Key, clock: Clock) -> Result<Self> {
        config.check()?;
        let local = Dir::open(&config.dir)?;
        let lock = lock(&config.dir)?;
        let l1 = match config.has_l1() {
            true => Some(Cache::open(&config.dir, config.l1_bytes, clock.clone())?),
            false => None,
        };
        let l2 = config
            .l2
            .as_ref()
            .map(Valkey::open)
            .transpose()?
            .map(Arc::new);
        let l3 = Objects::open(&config, clock.clone())?;
        Ok(Self(Arc::new(Inner {
            config,
            key,
            clock,
            tiers: Arc::new(Tiers {
                l1,
                l2,
                l3,
                promotions: Mutex::default(),
                promoting: Semaphore::new(1),
            }),
            registry: Arc::default(),
            keys: Mutex::default(),
            live: Mutex::default(),
            local: Arc::new(local),
            collecting: tokio::sync::Mutex::default(),
            _lock: lock,
        })))
    }

    /// Stores an image: `len` bytes of `pages`, from its start, and what the caller wants to know
    /// when it opens the image. Durable in L3 when this returns; replaces an image of that name
    /// and drops its side records.
    pub async fn put(
        &self,
        account: &Account,
        id: &ImageId,
        meta: Vec<u8>,
        pages: File,
        len: u64,
    ) -> Result<Stored> {
        put::put(self, account, id, meta, pages, len).await
    }

    /// Opens an image; `None` if there is none of that name.
    pub async fn image(&self, account: &Account, id: &ImageId) -> Result<Option<Arc<StoredImage>>> {
        let name = (account.clone(), id.clone());
        let open = self.live().get(&name).and_then(Weak::upgrade);
        if let Some(image) = open {
            self.mark_used(account, id).await;
            return Ok(Some(image));
        }
        let Some(manifest) = self.read_manifest(account, id).await? else {
            return Ok(None);
        };
        let manifest = Arc::new(manifest);
        self.0.registry.add_image(&manifest);
        let image = Arc::new(StoredImage {
            chunks: self.clone(),
            reading: Reading {
                tiers: Arc::clone(&self.0.tiers),
                keys: self.keys(account),
                manifest,
            },
        });
        {
            let mut live = self.live();
            live.retain(|_, image| image.strong_count() > 0);
            live.insert(name, Arc::downgrade(&image));
        }
        self.mark_used(account, id).await;
        Ok(Some(image))
    }

    /// Writes a small record that belongs to an image, such as its working set; replaces one of
    /// that name. At most 16 MiB. The image itself is not looked for.
    pub async fn put_side(
        &self,
        account: &Account,
        id: &ImageId,
        name: &str,
        bytes: &[u8],
    ) -> Result<()> {
        name::check("side record", name)?;
        if bytes.len() > MAX_SIDE {
            return Err(Error::TooLarge {
                what: "a side record".to_owned(),
                size: bytes.len() as u64,
                limit: MAX_SIDE as u64,
            });
        }
        let record = Record {
            account,
            id,
            kind: "side",
            name,
        };
        let sealed = self
            .keys(account)
            .seal_record(&record, bytes)
            .map_err(Error::random)?;
        let key = side_key(account, id, name);
        self.0.tiers.l3.put(&key, sealed.clone()).await?;
        self.cache(key, sealed).await;
        Ok(())
    }

    /// Reads a side record.
    pub async fn side(
        &self,
        account: &Account,
        id: &ImageId,
        name: &str,
    ) -> Result<Option<Vec<u8>>> {
        name::check("side record", name)?;
        let record = Record {
            account,
            id,
            kind: "side",
            name,
        };
        self.read_record(&record, &side_key(account, id, name))
            .await
    }

    /// A side record that this machine's disk has. Blocking. Whatever is wrong with it shows when it
    /// is read by [`Self::side`].
    pub(crate) fn side_near(&self, account: &Account, id: &ImageId, name: &str) -> Option<Vec<u8>> {
        let (key, tiers) = (side_key(account, id, name), &self.0.tiers);
        let mut stored = Vec::new();
        if let Some(l1) = &tiers.l1 {
            let held = l1.holds(&key) && l1.read_into(&key, MAX_STORED_RECORD, &mut stored);
            held.then_some(())?;
        } else {
            stored = tiers.l3.near()?.read(&key, MAX_STORED_RECORD).ok()??;
            tiers.l3.counters.hit(stored.len());
        }
        let record = Record {
            account,
            id,
            kind: "side",
            name,
        };
        self.open_record(&record, stored).ok()
    }

    /// Deletes an image and its side records; its chunks go with the next
    /// [`Self::collect_garbage`]. Who has it open can go on reading. False if there was none.
    pub async fn delete(&self, account: &Account, id: &ImageId) -> Result<bool> {
        let key = manifest_key(account, id);
        let l3 = &self.0.tiers.l3;
        let found = l3.stat(&key).await?.is_some();
        // The manifest first: from here on there is no such image, whatever happens next.
        l3.remove(&key).await?;
        self.forget(account, id).await;
        self.remove_sides(account, id).await?;
        let (local, key) = (Arc::clone(&self.0.local), used_key(account, id));
        blocking(move || local.remove(&key)).await?;
        Ok(found)
    }

    /// All images of all accounts.
    pub async fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for (account, id) in self.list_manifests().await? {
            match self.read_manifest(&account, &id).await {
                Ok(Some(manifest)) => {
                    let (local, key) = (Arc::clone(&self.0.local), used_key(&account, &id));
                    let used = blocking(move || local.stat(&key)).await?;
                    listing.images.push(Listed {
                        account,
                        id,
                        created: manifest.created,
                        bytes: manifest.len,
                        stored_bytes: manifest.stored_bytes(),
                        last_used: used.map(|used| used.modified),
                    });
                }
                // Deleted meanwhile.
                Ok(None) => {}
                Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => {
                    listing.damaged.push(Damaged { account, id, error });
                }
                Err(err) => return Err(err),
            }
        }
        Ok(listing)
    }

    /// Removes chunks that no manifest in L3 refers to, that nothing in this process relies on, and
    /// that are older than the configured grace.
    pub async fn collect_garbage(&self) -> Result<Collected> {
        let _one = self.0.collecting.lock().await;
        garbage::collect(self).await
    }

    pub fn stats(&self) -> Stats {
        let tiers = &self.0.tiers;
        Stats {
            l1: tiers.l1.as_ref().map(Cache::stats).unwrap_or_default(),
            l2: tiers.l2.as_deref().map(Valkey::stats).unwrap_or_default(),
            l3: tiers.l3.stats(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn tiers(&self) -> &Tiers {
        &self.0.tiers
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    pub(crate) fn keys(&self, account: &Account) -> Arc<AccountKeys> {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let derive = || Arc::new(AccountKeys::derive(&self.0.key, account));
        Arc::clone(keys.entry(account.clone()).or_insert_with(derive))
    }

    fn live(&self) -> MutexGuard<'_, HashMap<(Account, ImageId), Weak<StoredImage>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next open of this image asks L3.
    pub(crate) async fn forget(&self, account: &Account, id: &ImageId) {
        self.live().remove(&(account.clone(), id.clone()));
        self.uncache(vec![manifest_key(account, id)]).await;
    }

    pub(crate) async fn remove_sides(&self, account: &Account, id: &ImageId) -> Result<()> {
        let entries = self
            .0
            .tiers
            .l3
            .list(&format!("images/{account}/{id}/side/"))
            .await?;
        let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
        self.uncache(keys.clone()).await;
        for key in keys {
            self.0.tiers.l3.remove(&key).await?;
        }
        Ok(())
    }

    /// Removes chunks from every tier.
    pub(crate) async fn remove_chunks(&self, keys: Vec<String>) -> Result<()> {
        self.uncache(keys.clone()).await;
        if let Some(l2) = &self.0.tiers.l2 {
            for key in &keys {
                l2.remove(key).await;
            }
        }
        self.0.tiers.l3.remove_all(keys).await
    }

    pub(crate) async fn list_manifests(&self) -> Result<BTreeSet<(Account, ImageId)>> {
        let entries = self.0.tiers.l3.list("images/").await?;
        Ok(entries
            .iter()
            .filter_map(|entry| parse_manifest_key(&entry.key))
            .collect())
    }

    async fn read_manifest(&self, account: &Account, id: &ImageId) -> Result<Option<Manifest>> {
        let plain = self
            .read_record(&manifest_record(account, id), &manifest_key(account, id))
            .await?;
        plain
            .map(|plain| parse_manifest(account, id, &plain))
            .transpose()
    }

    /// The manifest as it is in L3, whatever L1 remembers.
    pub(crate) async fn read_manifest_l3(
        &self,
        account: &Account,
        id: &ImageId,
    ) -> Result<Option<Manifest>> {
        let key = manifest_key(account, id);
        let Some(stored) = self.0.tiers.l3.get(&key, MAX_STORED_RECORD).await? else {
            return Ok(None);
        };
        let record = manifest_record(account, id);
        let plain = self.open_record(&record, stored)?;
        parse_manifest(account, id, &plain).map(Some)
    }

    /// Reads a record from L1, or else from L3 and keeps it in L1. L2 holds chunks only: what they
    /// are called says what they are, whereas a record may be replaced.
    async fn read_record(&self, record: &Record<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        if let Some(stored) = self.cached(key).await {
            if let Ok(plain) = self.open_record(record, stored) {
                return Ok(Some(plain));
            }
            tracing::warn!(key, "a record in L1 is damaged; fetching it again");
            let (tiers, key) = (Arc::clone(&self.0.tiers), key.to_owned());
            blocking(move || {
                tiers.l1.iter().for_each(|l1| l1.drop_corrupt(&key));
                Ok(())
            })
            .await?;
        }
        let Some(stored) = self.0.tiers.l3.get(key, MAX_STORED_RECORD).await? else {
            return Ok(None);
        };
        let copy = self.0.tiers.l1.is_some().then(|| stored.clone());
        let plain = self.open_record(record, stored).inspect_err(|_| {
            self.0.tiers.l3.counters.corrupt();
        })?;
        if let Some(copy) = copy {
            self.cache(key.to_owned(), copy).await;
        }
        Ok(Some(plain))
    }

    fn open_record(&self, record: &Record<'_>, stored: Vec<u8>) -> Result<Vec<u8>> {
        self.keys(record.account)
            .open_record(record, stored)
            .map_err(|refused| {
                let what = match record.name {
                    "" => record.kind.to_owned(),
                    name => format!("{} record {name}", record.kind),
                };
                Error::corrupt(format!("the {what} of image {}", record.id), refused.0)
            })
    }

    async fn cached(&self, key: &str) -> Option<Vec<u8>> {
        self.0.tiers.l1.as_ref()?;
        let (tiers, key) = (Arc::clone(&self.0.tiers), key.to_owned());
        let read = move || {
            let mut bytes = Vec::new();
            let l1 = tiers.l1.as_ref();
            Ok(l1
                .filter(|l1| l1.read_into(&key, MAX_STORED_RECORD, &mut bytes))
                .map(|_| bytes))
        };
        blocking(read).await.ok().flatten()
    }

    async fn cache(&self, key: String, bytes: Vec<u8>) {
        if self.0.tiers.l1.is_none() {
            return;
        }
        let tiers = Arc::clone(&self.0.tiers);
        let insert = move || {
            tiers.l1.iter().for_each(|l1| l1.insert(&key, &bytes));
            Ok(())
        };
        // Fails only when the runtime is shutting down; L1 may do without.
        let _ = blocking(insert).await;
    }

    async fn uncache(&self, keys: Vec<String>) {
        if self.0.tiers.l1.is_none() || keys.is_empty() {
            return;
        }
        let tiers = Arc::clone(&self.0.tiers);
        let remove = move || {
            if let Some(l1) = &tiers.l1 {
                keys.iter().for_each(|key| l1.remove(key));
            }
            Ok(())
        };
        // Fails only when the runtime is shutting down; what stays is found to be stale later.
        let _ = blocking(remove).await;
    }

    /// Remembers that an image was used. Not worth failing for.
    async fn mark_used(&self, account: &Account, id: &ImageId) {
        let (local, key, now) = (
            Arc::clone(&self.0.local),
            used_key(account, id),
            self.0.clock.now(),
        );
        let mark = move || match local.stat(&key)? {
            Some(used) if now.duration_since(used.modified) < USED_EXACT_TO => Ok(()),
            Some(_) => local.touch(&key, now),
            None => local.write(&key, b"", now),
        };
        if let Err(err) = blocking(mark).await {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "cannot note the use of an image"
            );
        }
    }
}

fn manifest_record<'a>(account: &'a Account, id: &'a ImageId) -> Record<'a> {
    Record {
        account,
        id,
        kind: "manifest",
        name: "",
    }
}

fn parse_manifest(account: &Account, id: &ImageId, plain: &[u8]) -> Result<Manifest> {
    let what = || format!("the manifest of image {id}");
    let manifest =
        Manifest::decode(plain).map_err(|malformed| Error::corrupt(what(), malformed.0))?;
    if manifest.account != *account || manifest.id != *id {
        return Err(Error::corrupt(what(), "it is of another image"));
    }
    Ok(manifest)
}

fn parse_manifest_key(key: &str) -> Option<(Account, ImageId)> {
    match key.split('/').collect::<Vec<_>>()[..] {
        ["images", account, id, "manifest"] => {
            Some((Account::new(account).ok()?, ImageId::new(id).ok()?))
        }
        _ => None,
    }
}

fn used_key(account: &Account, id: &ImageId) -> String {
    format!("used/{account}/{id}")
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked {
            dir: dir.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(err)) => Err(Error::io("lock", &path)(err)),
    }
}
