//! Layers: archives that functions see unpacked at `/opt`.
//!
//! A layer is a name with numbered, immutable versions; numbers are never given again. All of them
//! are in memory for reading and in a table for keeps: a record for each name, which holds the next
//! number, and one for each version. The content lies with the code of functions and stays there
//! for as long as a layer version or a function refers to it, so that a function goes on with a
//! version that has been deleted.
//!
//! What a function uses of layers is checked when it is configured ([`usage`]) and kept with its
//! settings ([`LayerUse`]).
//! <https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html>

mod answer;
mod error;
mod name;
mod policy;
mod record;
mod usage;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Batch, Digest, Expect, Table};

use crate::error::Error;
use crate::function::{Code, Scope};

pub use answer::{in_list, of, published};
pub use error::LayerError;
pub use name::{LayerId, VersionId, any, denied, resolve, version_number};
pub use policy::{Policy, Statement};
pub use usage::{Held, LayerUse};

const PAGE: usize = 1_000;

/// One version of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerVersion {
    pub description: String,
    pub license: Option<String>,
    /// None and empty are different to clients.
    pub runtimes: Option<Vec<String>>,
    pub architectures: Option<Vec<String>>,
    pub code: Code,
    pub created: Timestamp,
    pub policy: Option<Policy>,
}

/// A layer version with its number.
pub type Numbered = (u64, Arc<LayerVersion>);

/// All layers of all accounts.
#[derive(Debug)]
pub struct Layers {
    table: Table,
    shelf: RwLock<HashMap<Scope, BTreeMap<String, Layer>>>,
    /// Changes are rare and go one after the other, so that what is shown is what was written last.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Layer {
    next_version: u64,
    versions: BTreeMap<u64, Arc<LayerVersion>>,
}

impl Layers {
    /// Reads everything from the table.
    pub fn open(table: Table) -> Result<Self, Error> {
        let layers = Self {
            table,
            shelf: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
        };
        layers.read_all()?;
        Ok(layers)
    }

    pub fn get(&self, id: &VersionId) -> Option<Arc<LayerVersion>> {
        let shelf = self.read();
        let layer = shelf.get(&id.layer.scope)?.get(&id.layer.name)?;
        layer.versions.get(&id.number).cloned()
    }

    /// Up to `limit` layers whose names come after `after`, each with the newest of its versions
    /// that `fits`. Those without one are left out.
    pub fn list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
        fits: impl Fn(&LayerVersion) -> bool,
    ) -> Vec<(String, Numbered)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelf = self.read();
        let Some(names) = shelf.get(scope) else {
            return Vec::new();
        };
        let newest = |(name, layer): (&String, &Layer)| {
            let mut versions = layer.versions.iter().rev();
            let (number, version) = versions.find(|(_, version)| fits(version))?;
            Some((name.clone(), (*number, Arc::clone(version))))
        };
        names
            .range::<str, _>((start, Bound::Unbounded))
            .filter_map(newest)
            .take(limit)
            .collect()
    }

    /// Up to `limit` versions with numbers below `before` that `fits`, the newest first.
    pub fn versions(
        &self,
        id: &LayerId,
        before: Option<u64>,
        limit: usize,
        fits: impl Fn(&LayerVersion) -> bool,
    ) -> Vec<Numbered> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let shelf = self.read();
        let layer = shelf.get(&id.scope).and_then(|names| names.get(&id.name));
        let Some(layer) = layer else {
            return Vec::new();
        };
        layer
            .versions
            .range((Bound::Unbounded, end))
            .rev()
            .filter(|(_, version)| fits(version))
            .take(limit)
            .map(|(number, version)| (*number, Arc::clone(version)))
            .collect()
    }

    /// The content that any version refers to.
    pub fn used_digests(&self) -> HashSet<Digest> {
        let shelf = self.read();
        let layers = shelf.values().flat_map(BTreeMap::values);
        layers
            .flat_map(|layer| layer.versions.values())
            .map(|version| version.code.digest)
            .collect()
    }

    /// Size of the archives of all versions, as the account's quota counts it.
    pub fn usage(&self, scope: &Scope) -> u64 {
        let shelf = self.read();
        let layers = shelf.get(scope).into_iter().flat_map(BTreeMap::values);
        layers
            .flat_map(|layer| layer.versions.values())
            .map(|version| version.code.size)
            .sum()
    }

    /// Adds a version under the next number, which it returns.
    pub async fn publish(
        self: &Arc<Self>,
        id: LayerId,
        version: LayerVersion,
    ) -> Result<Numbered, Error> {
        let layers = Arc::clone(self);
        complete(async move {
            let _turn = layers.turn.lock().await;
            let number = layers.next_version(&id);
            let next_version = number + 1;
            let batch = Batch::new()
                .put(
                    record::head_key(&id),
                    record::encode(&record::Head { next_version }, &id)?,
                    Expect::Any,
                )
                .put(
                    record::version_key(&id, number),
                    record::encode(&version, &id)?,
                    Expect::Absent,
                );
            layers.store(batch).await?;
            let version = Arc::new(version);
            let shown = Arc::clone(&version);
            layers.layer(id, |layer| {
                layer.next_version = next_version;
                layer.versions.insert(number, shown);
            });
            Ok((number, version))
        })
        .await
    }

    /// Removes a version; returns it, or `None` if there was none.
    pub async fn delete(
        self: &Arc<Self>,
        id: VersionId,
    ) -> Result<Option<Arc<LayerVersion>>, Error> {
        let layers = Arc::clone(self);
        complete(async move {
            let _turn = layers.turn.lock().await;
            if layers.get(&id).is_none() {
                return Ok(None);
            }
            let key = record::version_key(&id.layer, id.number);
            layers.store(Batch::new().delete(key, Expect::Any)).await?;
            Ok(layers.layer(id.layer, |layer| layer.versions.remove(&id.number)))
        })
        .await
    }

    /// Changes a version's policy; nothing else of a version ever changes.
    pub async fn change_policy<T: Send + 'static>(
        self: &Arc<Self>,
        id: VersionId,
        apply: impl FnOnce(&mut Option<Policy>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let layers = Arc::clone(self);
        complete(async move {
            let _turn = layers.turn.lock().await;
            let found = layers.get(&id).ok_or_else(|| id.not_found())?;
            let mut version = LayerVersion::clone(&found);
            let result = apply(&mut version.policy)?;
            let key = record::version_key(&id.layer, id.number);
            let bytes = record::encode(&version, &id.layer)?;
            layers
                .store(Batch::new().put(key, bytes, Expect::Any))
                .await?;
            layers.layer(id.layer, |layer| {
                layer.versions.insert(id.number, Arc::new(version));
            });
            Ok(result)
        })
        .await
    }

    async fn store(&self, batch: Batch) -> Result<(), Error> {
        let written = self.table.write(batch).await;
        written.map(drop).map_err(|cause| Error::Store {
            action: "store a layer",
            cause,
        })
    }

    fn next_version(&self, id: &LayerId) -> u64 {
        let shelf = self.read();
        let layer = shelf.get(&id.scope).and_then(|names| names.get(&id.name));
        layer.map_or(1, |layer| layer.next_version.max(1))
    }

    fn layer<T>(&self, id: LayerId, change: impl FnOnce(&mut Layer) -> T) -> T {
        let mut shelf = self.write();
        let names = shelf.entry(id.scope).or_default();
        change(names.entry(id.name).or_default())
    }

    fn read_all(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.table.scan("", after.as_deref(), PAGE);
            let page = page.map_err(|cause| Error::Store {
                action: "read the layers",
                cause,
            })?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for stored in &page {
                match record::parse_key(&stored.key) {
                    Some((id, None)) => {
                        let head: record::Head = record::decode(&stored.value, &id)?;
                        self.layer(id, |layer| layer.next_version = head.next_version);
                    }
                    Some((id, Some(number))) => {
                        let version = Arc::new(record::decode(&stored.value, &id)?);
                        self.layer(id, |layer| layer.versions.insert(number, version));
                    }
                    None => {}
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Scope, BTreeMap<String, Layer>>> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Scope, BTreeMap<String, Layer>>> {
        self.shelf.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a write to its end even if the caller goes away: what is on disk must be shown.
async fn complete<T: Send + 'static>(
    write: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(write).await.map_err(Error::Task)?
}

#[cfg(test)]
impl LayerVersion {
    pub fn sample() -> Self {
        Self {
            description: String::new(),
            license: None,
            runtimes: Some(vec!["python3.12".to_owned()]),
            architectures: None,
            code: Code {
                digest: Digest::from_bytes([7; 32]),
                size: 100,
            },
            created: Timestamp::from_secs(1),
            policy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clock::Clock;
    use store::Store;

    use super::*;

    struct Fixture {
        _directory: tempfile::TempDir,
        store: Store,
        layers: Arc<Layers>,
    }

    fn open(store: &Store) -> Arc<Layers> {
        Arc::new(Layers::open(store.table("layers").unwrap()).unwrap())
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Clock::system()).unwrap();
        let layers = open(&store);
        Fixture {
            _directory: directory,
            store,
            layers,
        }
    }

    fn id(name: &str) -> LayerId {
        LayerId {
            scope: crate::function::tests::function("f").id.scope,
            name: name.to_owned(),
        }
    }

    fn version(number: u64) -> VersionId {
        VersionId {
            layer: id("l"),
            number,
        }
    }

    #[tokio::test]
    async fn numbers_are_never_given_again() {
        let fixture = fixture();
        let publish = |layers: Arc<Layers>| async move {
            let published = layers.publish(id("l"), LayerVersion::sample()).await;
            published.unwrap().0
        };
        assert_eq!(publish(Arc::clone(&fixture.layers)).await, 1);
        assert_eq!(publish(Arc::clone(&fixture.layers)).await, 2);
        assert!(fixture.layers.delete(version(2)).await.unwrap().is_some());
        assert!(fixture.layers.delete(version(1)).await.unwrap().is_some());
        assert!(fixture.layers.delete(version(1)).await.unwrap().is_none());
        let anew = open(&fixture.store);
        assert_eq!(publish(anew).await, 3);
    }

    #[tokio::test]
    async fn what_is_published_is_there_after_a_restart() {
        let fixture = fixture();
        let layers = &fixture.layers;
        layers
            .publish(id("l"), LayerVersion::sample())
            .await
            .unwrap();
        let changed = layers.change_policy(version(1), |policy| {
            Policy::add(policy, Statement::sample("s1"), None)
        });
        changed.await.unwrap();
        let anew = open(&fixture.store);
        assert_eq!(anew.get(&version(1)), layers.get(&version(1)));
        assert!(anew.get(&version(1)).unwrap().policy.is_some());
        assert_eq!(
            anew.used_digests(),
            HashSet::from([Digest::from_bytes([7; 32])])
        );
        assert_eq!(anew.usage(&id("l").scope), 100);
    }

    #[tokio::test]
    async fn lists_give_the_newest_version_that_fits() {
        let fixture = fixture();
        let layers = &fixture.layers;
        for (name, runtime) in [("a", "python3.12"), ("b", "nodejs22.x"), ("a", "java21")] {
            let version = LayerVersion {
                runtimes: Some(vec![runtime.to_owned()]),
                ..LayerVersion::sample()
            };
            layers.publish(id(name), version).await.unwrap();
        }
        let scope = id("a").scope;
        let list = |after, limit| {
            let found = layers.list(&scope, after, limit, |_| true);
            let short = |(name, (number, _)): (String, Numbered)| format!("{name}:{number}");
            found.into_iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(list(None, 9), ["a:2", "b:1"]);
        assert_eq!(list(None, 1), ["a:2"]);
        assert_eq!(list(Some("a"), 9), ["b:1"]);
        let python = |version: &LayerVersion| version.fits(Some("python3.12"), None);
        let found = layers.list(&scope, None, 9, python);
        assert_eq!((found.len(), found[0].1.0), (1, 1));
        assert_eq!(layers.versions(&id("a"), None, 9, |_| true).len(), 2);
        assert_eq!(layers.versions(&id("a"), Some(2), 9, |_| true)[0].0, 1);
        assert!(layers.versions(&id("c"), None, 9, |_| true).is_empty());
    }

    #[tokio::test]
    async fn publications_at_once_get_different_numbers() {
        let fixture = fixture();
        let publications = (0..20).map(|_| {
            let layers = Arc::clone(&fixture.layers);
            tokio::spawn(async move { layers.publish(id("l"), LayerVersion::sample()).await })
        });
        let mut numbers = HashSet::new();
        for publication in publications.collect::<Vec<_>>() {
            numbers.insert(publication.await.unwrap().unwrap().0);
        }
        assert_eq!(numbers, (1..=20).collect());
    }
}
