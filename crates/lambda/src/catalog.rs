//! Things that belong to an account and a region but to no single function: code signing
//! configurations and event source mappings.
//!
//! All of a kind are in memory for reading, and each has a record in a table of the kind's own:
//! `account/region/id`, JSON with a format number.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Expect, Table};

use crate::error::Error;
use crate::function::Scope;

const FORMAT: u32 = 1;
const PAGE: usize = 1_000;

/// All things of one kind.
#[derive(Debug)]
pub struct Catalog<T> {
    table: Table,
    shelves: RwLock<HashMap<Scope, BTreeMap<String, Arc<T>>>>,
    /// Changes are rare and go one after the other, so that what is shown is what was written last.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    body: T,
}

impl<T> Catalog<T>
where
    T: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Reads everything from the table.
    pub fn open(table: Table) -> Result<Self, Error> {
        let catalog = Self {
            table,
            shelves: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
        };
        catalog.read_all()?;
        Ok(catalog)
    }

    pub fn get(&self, scope: &Scope, id: &str) -> Option<Arc<T>> {
        self.read().get(scope)?.get(id).cloned()
    }

    /// Up to `limit` things that `fit` and whose ids come after `after`, in the order of their ids.
    pub fn list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
        fits: impl Fn(&T) -> bool,
    ) -> Vec<(String, Arc<T>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shelves = self.read();
        let Some(shelf) = shelves.get(scope) else {
            return Vec::new();
        };
        shelf
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, thing)| fits(thing))
            .take(limit)
            .map(|(id, thing)| (id.clone(), Arc::clone(thing)))
            .collect()
    }

    pub fn all(&self) -> Vec<(Scope, String, Arc<T>)> {
        let shelves = self.read();
        shelves
            .iter()
            .flat_map(|(scope, shelf)| {
                let of_scope = |(id, thing): (&String, &Arc<T>)| {
                    (scope.clone(), id.clone(), Arc::clone(thing))
                };
                shelf.iter().map(of_scope)
            })
            .collect()
    }

    /// Adds a thing, unless `refuse` finds among those of its scope what forbids it.
    pub async fn add(
        self: &Arc<Self>,
        scope: &Scope,
        id: &str,
        thing: T,
        refuse: impl Fn(&str, &T) -> Option<Error> + Send + 'static,
    ) -> Result<Arc<T>, Error> {
        let (catalog, scope, id) = (Arc::clone(self), scope.clone(), id.to_owned());
        complete(async move {
            let _turn = catalog.turn.lock().await;
            let refused = catalog
                .read()
                .get(&scope)
                .and_then(|shelf| shelf.iter().find_map(|(id, other)| refuse(id, other)));
            match refused {
                Some(error) => Err(error),
                None => catalog.put(&scope, &id, thing).await,
            }
        })
        .await
    }

    /// Changes a thing; `None` if it is not there.
    pub async fn change(
        self: &Arc<Self>,
        scope: &Scope,
        id: &str,
        apply: impl FnOnce(&mut T) -> Result<(), Error> + Send + 'static,
    ) -> Result<Option<Arc<T>>, Error> {
        let (catalog, scope, id) = (Arc::clone(self), scope.clone(), id.to_owned());
        complete(async move {
            let _turn = catalog.turn.lock().await;
            let Some(current) = catalog.get(&scope, &id) else {
                return Ok(None);
            };
            let mut next = T::clone(&current);
            apply(&mut next)?;
            catalog.put(&scope, &id, next).await.map(Some)
        })
        .await
    }

    /// Deletes a thing if `allowed`; `None` if it is not there.
    pub async fn delete(
        self: &Arc<Self>,
        scope: &Scope,
        id: &str,
        allowed: impl FnOnce(&T) -> Result<(), Error> + Send + 'static,
    ) -> Result<Option<Arc<T>>, Error> {
        let (catalog, scope, id) = (Arc::clone(self), scope.clone(), id.to_owned());
        complete(async move {
            let _turn = catalog.turn.lock().await;
            let Some(current) = catalog.get(&scope, &id) else {
                return Ok(None);
            };
            allowed(&current)?;
            let deleted = catalog.table.delete(key(&scope, &id), Expect::Any).await;
            deleted.map_err(store_error("delete a record"))?;
            if let Some(shelf) = catalog.write().get_mut(&scope) {
                shelf.remove(&id);
            }
            Ok(Some(current))
        })
        .await
    }

    async fn put(&self, scope: &Scope, id: &str, thing: T) -> Result<Arc<T>, Error> {
        let envelope = Envelope {
            format: FORMAT,
            body: &thing,
        };
        let bytes = serde_json::to_vec(&envelope).map_err(unreadable(id))?;
        let written = self.table.put(key(scope, id), bytes, Expect::Any).await;
        written.map_err(store_error("store a record"))?;
        let thing = Arc::new(thing);
        let mut shelves = self.write();
        let shelf = shelves.entry(scope.clone()).or_default();
        shelf.insert(id.to_owned(), Arc::clone(&thing));
        Ok(thing)
    }

    fn read_all(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.table.scan("", after.as_deref(), PAGE);
            let page = page.map_err(store_error("read records"))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for record in &page {
                if let Some((scope, id)) = parse_key(&record.key) {
                    let thing = Arc::new(decode(&record.value, &id)?);
                    self.write().entry(scope).or_default().insert(id, thing);
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Scope, BTreeMap<String, Arc<T>>>> {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Scope, BTreeMap<String, Arc<T>>>> {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids hold no slash, so keys of different things never run into one another.
fn key(scope: &Scope, id: &str) -> String {
    format!("{}/{}/{id}", scope.account, scope.region)
}

fn parse_key(key: &[u8]) -> Option<(Scope, String)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '/');
    let scope = Scope {
        account: parts.next()?.parse().ok()?,
        region: parts.next()?.parse().ok()?,
    };
    Some((scope, parts.next()?.to_owned()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], id: &str) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable(id))?;
    if format != FORMAT {
        let of = id.to_owned();
        return Err(Error::RecordFormat { of, format });
    }
    serde_json::from_slice::<Envelope<T>>(bytes)
        .map(|read| read.body)
        .map_err(unreadable(id))
}

/// Runs a change to its end, whatever happens to the caller: what reached the disk must reach the
/// readers, too.
async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await.map_err(Error::Task)?
}

fn unreadable(of: &str) -> impl FnOnce(serde_json::Error) -> Error + use<> {
    let of = of.to_owned();
    move |cause| Error::Record { of, cause }
}

fn store_error(action: &'static str) -> impl FnOnce(store::Error) -> Error {
    move |cause| Error::Store { action, cause }
}

#[cfg(test)]
mod tests {
    use store::Store;

    use super::*;

    fn scope(account: &str) -> Scope {
        Scope {
            account: account.parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        }
    }

    async fn catalog(store: &Store) -> Arc<Catalog<u32>> {
        Arc::new(Catalog::open(store.table("things").unwrap()).unwrap())
    }

    #[tokio::test]
    async fn things_are_there_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(directory.path(), clock::Clock::system()).unwrap();
        let (one, other) = (scope("123456789012"), scope("210987654321"));
        {
            let catalog = catalog(&store).await;
            for (id, thing) in [("a", 1), ("b", 2), ("c", 3)] {
                catalog.add(&one, id, thing, |_, _| None).await.unwrap();
            }
            let doubled = catalog.change(&one, "b", |thing| {
                *thing *= 2;
                Ok(())
            });
            assert_eq!(doubled.await.unwrap().as_deref(), Some(&4));
            let deleted = catalog.delete(&one, "c", |_| Ok(()));
            assert_eq!(deleted.await.unwrap().as_deref(), Some(&3));
        }
        let catalog = catalog(&store).await;
        let listed = catalog.list(&one, Some("a"), 10, |_| true);
        assert_eq!(listed, [("b".to_owned(), Arc::new(4))]);
        assert_eq!(catalog.get(&other, "a"), None);
        assert_eq!(catalog.all().len(), 2);
    }

    #[tokio::test]
    async fn what_is_refused_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store::Store::open(directory.path(), clock::Clock::system()).unwrap();
        let (catalog, scope) = (catalog(&store).await, scope("123456789012"));
        catalog.add(&scope, "a", 1, |_, _| None).await.unwrap();
        let taken = |_: &str, other: &u32| (*other == 1).then_some(Error::ResourceNotFound);
        assert!(catalog.add(&scope, "b", 1, taken).await.is_err());
        let refuse = |_: &mut u32| Err(Error::ResourceNotFound);
        assert!(catalog.change(&scope, "a", refuse).await.is_err());
        assert!(
            catalog
                .delete(&scope, "a", |_| Err(Error::ResourceNotFound))
                .await
                .is_err()
        );
        assert_eq!(catalog.list(&scope, None, 10, |_| true).len(), 1);
        assert!(
            catalog
                .change(&scope, "x", |_| Ok(()))
                .await
                .unwrap()
                .is_none()
        );
    }
}
