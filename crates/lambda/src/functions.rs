//! All functions: in memory for reading, in the store for keeps.
//!
//! Reading takes a snapshot and never touches the disk. A change is made to a copy, written under
//! the condition that nobody changed the stored record in the meantime, and shown to readers once
//! it is on disk; if the condition fails, the change is made again to the newer function. No lock
//! is held while anything waits for the disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use store::{Batch, Digest, Expect, Revision, Table};

use crate::error::Error;
use crate::function::{Function, FunctionId, Scope, Version};
use crate::name::Qualifier;
use crate::record::{self, Head};

/// A batch of the store may hold at most 10,000 changes.
const MAX_BATCH: usize = 5_000;
const PAGE: usize = 1_000;

#[derive(Debug)]
pub struct Functions {
    table: Table,
    slots: RwLock<HashMap<Scope, BTreeMap<String, Slot>>>,
}

/// What is known about a name: a function, or that there was one.
#[derive(Debug, Clone)]
struct Slot {
    /// The newest write that this slot shows. Writers that finish out of order must not replace
    /// what is newer, not even a deletion.
    revision: Revision,
    /// Whether the store holds a record under the name.
    stored: bool,
    function: Option<Arc<Function>>,
    next_version: u64,
}

impl Functions {
    /// Reads everything from the table, and removes versions that an interrupted deletion left.
    pub async fn open(table: Table) -> Result<Self, Error> {
        let functions = Self {
            table,
            slots: RwLock::default(),
        };
        functions.read_heads()?;
        let orphans = functions.read_versions()?;
        for keys in orphans.chunks(MAX_BATCH) {
            let batch = keys
                .iter()
                .fold(Batch::new(), |batch, key| batch.delete(key, Expect::Any));
            functions
                .table
                .write(batch)
                .await
                .map_err(store_error("remove deleted versions"))?;
        }
        Ok(functions)
    }

    /// The function as it is now.
    pub fn get(
        &self,
        id: &FunctionId,
        qualifier: Option<&Qualifier>,
    ) -> Result<Arc<Function>, Error> {
        self.read()
            .get(&id.scope)
            .and_then(|names| names.get(&id.name))
            .and_then(|slot| slot.function.clone())
            .ok_or_else(|| id.not_found(qualifier))
    }

    /// Up to `limit` functions of an account and region whose names come after `after`, by name.
    pub fn list(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Vec<Arc<Function>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.read();
        let Some(names) = slots.get(scope) else {
            return Vec::new();
        };
        names
            .range::<str, _>((start, Bound::Unbounded))
            .filter_map(|(_, slot)| slot.function.clone())
            .take(limit)
            .collect()
    }

    /// Every function of every account and region.
    pub fn all(&self) -> Vec<Arc<Function>> {
        let slots = self.read();
        slots
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|slot| slot.function.clone())
            .collect()
    }

    /// The code that any version of any function refers to.
    pub fn used_digests(&self) -> HashSet<Digest> {
        let functions = self.all();
        let versions = functions
            .iter()
            .flat_map(|function| function.all_versions());
        versions.flat_map(|version| version.digests()).collect()
    }

    /// Number of functions and size of all their code, counted per version as AWS counts it.
    pub fn usage(&self, scope: &Scope) -> (u64, u64) {
        let functions = self.list(scope, None, usize::MAX);
        let versions = functions
            .iter()
            .flat_map(|function| function.all_versions());
        (
            functions.len() as u64,
            versions.map(|version| version.code.size).sum(),
        )
    }

    /// Adds a function that `make` builds, given the number of its first version.
    pub async fn create<F>(
        self: &Arc<Self>,
        id: FunctionId,
        make: F,
    ) -> Result<Arc<Function>, Error>
    where
        F: Fn(u64) -> Function + Send + Sync + 'static,
    {
        let functions = Arc::clone(self);
        complete(async move {
            loop {
                let slot = functions.slot(&id);
                if slot.as_ref().is_some_and(|slot| slot.function.is_some()) {
                    return Err(Error::FunctionExists { name: id.name });
                }
                let first = slot.as_ref().map_or(1, |slot| slot.next_version);
                let expect = slot.filter(|slot| slot.stored);
                let expect = expect.map_or(Expect::Absent, |slot| Expect::Revision(slot.revision));
                let mut function = make(first);
                let batch = functions.batch(None, &function, expect)?;
                match functions.table.write(batch).await {
                    Ok(revision) => {
                        function.revision = revision;
                        return Ok(functions.show(function));
                    }
                    Err(store::Error::Conflict { .. }) => functions.reload(&id).await?,
                    Err(cause) => return Err(store_error("store a function")(cause)),
                }
            }
        })
        .await
    }

    /// Changes a function. `apply` may run more than once, each time on a fresh copy.
    ///
    /// The change is completed even if the caller goes away.
    pub async fn change<T, F>(
        self: &Arc<Self>,
        id: FunctionId,
        apply: F,
    ) -> Result<(Arc<Function>, T), Error>
    where
        T: Send + 'static,
        F: Fn(&mut Function) -> Result<T, Error> + Send + Sync + 'static,
    {
        let functions = Arc::clone(self);
        complete(async move {
            loop {
                let current = functions.get(&id, None)?;
                let mut next = Function::clone(&current);
                let result = apply(&mut next)?;
                let expect = Expect::Revision(current.revision);
                let batch = functions.batch(Some(&current), &next, expect)?;
                match functions.table.write(batch).await {
                    Ok(revision) => {
                        next.revision = revision;
                        return Ok((functions.show(next), result));
                    }
                    Err(store::Error::Conflict { .. }) => functions.reload(&id).await?,
                    Err(cause) => return Err(store_error("store a function")(cause)),
                }
            }
        })
        .await
    }

    /// Deletes a function with all its versions and aliases; returns it as it was.
    pub async fn delete(self: &Arc<Self>, id: FunctionId) -> Result<Arc<Function>, Error> {
        let functions = Arc::clone(self);
        complete(async move {
            loop {
                let current = functions.get(&id, None)?;
                let expect = Expect::Revision(current.revision);
                let remember = current.next_version > 1;
                let key = record::head_key(&id);
                let batch = if remember {
                    let head = Head::Deleted {
                        next_version: current.next_version,
                    };
                    Batch::new().put(key, record::encode(&head, &id)?, expect)
                } else {
                    Batch::new().delete(key, expect)
                };
                match functions.table.write(batch).await {
                    Ok(revision) => {
                        let slot = Slot {
                            revision,
                            stored: remember,
                            function: None,
                            next_version: current.next_version,
                        };
                        functions.put(&id, slot);
                        functions.delete_versions(&current).await?;
                        return Ok(current);
                    }
                    Err(store::Error::Conflict { .. }) => functions.reload(&id).await?,
                    Err(cause) => return Err(store_error("delete a function")(cause)),
                }
            }
        })
        .await
    }

    /// The function is gone with its head; what remains of the versions is only litter, which is
    /// removed in as many batches as it takes. A crash in between leaves it to the next start.
    async fn delete_versions(&self, function: &Function) -> Result<(), Error> {
        let numbers: Vec<u64> = function.versions.keys().copied().collect();
        for numbers in numbers.chunks(MAX_BATCH) {
            let batch = numbers.iter().fold(Batch::new(), |batch, number| {
                batch.delete(record::version_key(&function.id, *number), Expect::Any)
            });
            self.table
                .write(batch)
                .await
                .map_err(store_error("remove deleted versions"))?;
        }
        Ok(())
    }

    /// The head, and the versions by which `next` differs from `current`.
    fn batch(
        &self,
        current: Option<&Function>,
        next: &Function,
        expect: Expect,
    ) -> Result<Batch, Error> {
        let id = &next.id;
        let none = BTreeMap::new();
        let before = current.map_or(&none, |current| &current.versions);
        let head = record::encode(&Head::of(next), id)?;
        let mut batch = Batch::new().put(record::head_key(id), head, expect);
        for (number, version) in &next.versions {
            if before
                .get(number)
                .is_none_or(|old| !Arc::ptr_eq(old, version))
            {
                let bytes = record::encode(version.as_ref(), id)?;
                batch = batch.put(record::version_key(id, *number), bytes, Expect::Any);
            }
        }
        for number in before
            .keys()
            .filter(|number| !next.versions.contains_key(number))
        {
            batch = batch.delete(record::version_key(id, *number), Expect::Any);
        }
        Ok(batch)
    }

    fn show(&self, function: Function) -> Arc<Function> {
        let function = Arc::new(function);
        let slot = Slot {
            revision: function.revision,
            stored: true,
            function: Some(Arc::clone(&function)),
            next_version: function.next_version,
        };
        self.put(&function.id, slot);
        function
    }

    /// Puts a slot in place unless a newer one is there.
    fn put(&self, id: &FunctionId, slot: Slot) {
        let mut slots = self.write();
        let names = slots.entry(id.scope.clone()).or_default();
        match names.get_mut(&id.name) {
            Some(existing) if existing.revision >= slot.revision => {}
            Some(existing) => *existing = slot,
            None => {
                names.insert(id.name.clone(), slot);
            }
        }
    }

    /// Takes over what another writer has put on disk and will show in a moment.
    async fn reload(&self, id: &FunctionId) -> Result<(), Error> {
        let read = self
            .table
            .get(record::head_key(id))
            .map_err(store_error("read a function"))?;
        match read {
            Some(head) => {
                let mut slot = read_head(id, &head)?;
                if let Some(function) = &mut slot.function {
                    let mut versions = self.stored_versions(id)?;
                    Arc::make_mut(function).versions = versions.split_off(&function.first_version);
                }
                self.put(id, slot);
            }
            // Deleted without a trace: the writer who did it is about to show so.
            None => tokio::task::yield_now().await,
        }
        Ok(())
    }

    fn stored_versions(&self, id: &FunctionId) -> Result<BTreeMap<u64, Arc<Version>>, Error> {
        let mut versions = BTreeMap::new();
        self.scan(&record::versions_prefix(id), |id, number, value| {
            if let Some(number) = number {
                versions.insert(number, Arc::new(record::decode(value, id)?));
            }
            Ok(())
        })?;
        Ok(versions)
    }

    fn read_heads(&self) -> Result<(), Error> {
        const ACTION: &str = "read the functions";
        let mut after = None;
        loop {
            let page = self.table.scan(record::HEADS, after.as_deref(), PAGE);
            let page = page.map_err(store_error(ACTION))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for head in &page {
                if let Some((id, _)) = record::parse_key(&head.key) {
                    let slot = read_head(&id, head)?;
                    self.put(&id, slot);
                }
            }
        }
    }

    /// Adds the versions to their functions; returns the keys of those that have none.
    fn read_versions(&self) -> Result<Vec<String>, Error> {
        let mut found: HashMap<FunctionId, BTreeMap<u64, Arc<Version>>> = HashMap::new();
        self.scan(record::VERSIONS, |id, number, value| {
            if let Some(number) = number {
                let version = Arc::new(record::decode(value, id)?);
                found.entry(id.clone()).or_default().insert(number, version);
            }
            Ok(())
        })?;
        let mut orphans = Vec::new();
        let mut slots = self.write();
        for (id, mut versions) in found {
            let slot = slots
                .get_mut(&id.scope)
                .and_then(|names| names.get_mut(&id.name));
            if let Some(function) = slot.and_then(|slot| slot.function.as_mut()) {
                let function = Arc::make_mut(function);
                function.versions = versions.split_off(&function.first_version);
            }
            orphans.extend(
                versions
                    .keys()
                    .map(|number| record::version_key(&id, *number)),
            );
        }
        Ok(orphans)
    }

    fn scan(
        &self,
        prefix: &str,
        mut visit: impl FnMut(&FunctionId, Option<u64>, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.table.scan(prefix, after.as_deref(), PAGE);
            let page = page.map_err(store_error("read the versions of functions"))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for record in &page {
                if let Some((id, number)) = record::parse_key(&record.key) {
                    visit(&id, number, &record.value)?;
                }
            }
        }
    }

    fn slot(&self, id: &FunctionId) -> Option<Slot> {
        self.read().get(&id.scope)?.get(&id.name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Scope, BTreeMap<String, Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Scope, BTreeMap<String, Slot>>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_head(id: &FunctionId, record: &store::Record) -> Result<Slot, Error> {
    let (function, next_version) = match record::decode(&record.value, id)? {
        Head::Live {
            latest,
            next_version,
            first_version,
            aliases,
            tags,
            attached,
        } => {
            let function = Function {
                id: id.clone(),
                latest: Arc::new(latest),
                versions: BTreeMap::new(),
                next_version,
                first_version,
                aliases,
                tags,
                attached,
                revision: record.revision,
            };
            (Some(Arc::new(function)), next_version)
        }
        Head::Deleted { next_version } => (None, next_version),
    };
    Ok(Slot {
        revision: record.revision,
        stored: true,
        function,
        next_version,
    })
}

/// Runs a write to its end, whatever happens to the caller: a write that reached the disk must
/// reach the readers, too.
async fn complete<T: Send + 'static>(
    write: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(write).await.map_err(Error::Task)?
}

fn store_error(action: &'static str) -> impl FnOnce(store::Error) -> Error {
    move |cause| Error::Store { action, cause }
}
