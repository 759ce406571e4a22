//! Named tables of revisioned records.

use std::collections::HashSet;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::commit::{Done, Op, Request, answered};
use crate::error::printable;
use crate::record::{self, Record, Revision};
use crate::store::Store;
use crate::watch::Watch;
use crate::{Error, Result};

const MAX_KEY_BYTES: usize = 8 << 10;
const MAX_VALUE_BYTES: usize = 16 << 20;
const MAX_BATCH_BYTES: usize = 32 << 20;
const MAX_BATCH_LEN: usize = 10_000;

/// What a record must be for a write to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Any,
    Absent,
    Revision(Revision),
}

/// A named set of records, ordered by key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Table {
    store: Store,
    /// The table's name and a zero byte; begins the key of each of its records.
    prefix: Bytes,
}

/// Changes to one table that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<(Bytes, Option<Bytes>, Expect)>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn put(mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>, expect: Expect) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.changes.push((key, Some(value.into()), expect));
        self
    }

    #[must_use]
    pub fn delete(mut self, key: impl AsRef<[u8]>, expect: Expect) -> Self {
        self.changes
            .push((Bytes::copy_from_slice(key.as_ref()), None, expect));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.changes.len()
    }
}

impl Table {
    pub(crate) fn open(store: Store, name: &str) -> Result<Self> {
        check_name("table", name)?;
        let mut prefix = name.as_bytes().to_vec();
        prefix.push(0);
        Ok(Self {
            store,
            prefix: prefix.into(),
        })
    }

    /// A table of the store's own, in a name space that no user can reach.
    pub(crate) fn internal(store: Store, kind: &str, name: &str) -> Result<Self> {
        check_name(kind_name(kind), name)?;
        let prefix = [b"\x01", kind.as_bytes(), b"/", name.as_bytes(), b"\0"].concat();
        Ok(Self {
            store,
            prefix: prefix.into(),
        })
    }

    /// The record with this key, as last acknowledged.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Record>> {
        let key = key.as_ref();
        let found = self.store.core().get(&self.full(key))?;
        Ok(found.map(|(revision, value)| Record {
            key: Bytes::copy_from_slice(key),
            value,
            revision,
        }))
    }

    /// Up to `limit` records whose keys begin with `prefix` and come after `after`, by key.
    pub fn scan(
        &self,
        prefix: impl AsRef<[u8]>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        use std::ops::Bound;
        let core = self.store.core();
        let prefix = self.full(prefix.as_ref());
        let start = match after.map(|after| self.full(after)) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for item in core
            .records
            .range::<Bytes, _>((start, Bound::Unbounded))
            .take(limit)
        {
            let (key, stored) = item.into_inner().map_err(core.read_error(&core.records))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let (revision, value) =
                record::decode(&key, &stored).map_err(core.damage(&core.records))?;
            found.push(Record {
                key: Bytes::copy_from_slice(&key[self.prefix.len()..]),
                value: Bytes::copy_from_slice(value),
                revision,
            });
        }
        Ok(found)
    }

    /// Up to `limit` records whose keys begin with `prefix` and come before `before`, the last first.
    pub fn scan_back(
        &self,
        prefix: impl AsRef<[u8]>,
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let core = self.store.core();
        let prefix = self.full(prefix.as_ref());
        let end = match before {
            Some(before) => self.full(before).to_vec(),
            // Keys of users are text or numbers under a prefix, and never so high.
            None => [&prefix[..], &[0xff; 32]].concat(),
        };
        let mut found = Vec::new();
        if end <= prefix.to_vec() {
            return Ok(found);
        }
        let range = prefix..Bytes::from(end);
        for item in core.records.range(range).rev().take(limit) {
            let (key, stored) = item.into_inner().map_err(core.read_error(&core.records))?;
            let (revision, value) =
                record::decode(&key, &stored).map_err(core.damage(&core.records))?;
            found.push(Record {
                key: Bytes::copy_from_slice(&key[self.prefix.len()..]),
                value: Bytes::copy_from_slice(value),
                revision,
            });
        }
        Ok(found)
    }

    /// The keys that [`Table::scan`] would find, without reading the values.
    pub fn keys(
        &self,
        prefix: impl AsRef<[u8]>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Bytes>> {
        use std::ops::Bound;
        let core = self.store.core();
        let prefix = self.full(prefix.as_ref());
        let start = match after.map(|after| self.full(after)) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let range = (start, Bound::Unbounded);
        let mut found = Vec::new();
        for item in core.records.range::<Bytes, _>(range).take(limit) {
            let key = item.key().map_err(core.read_error(&core.records))?;
            if !key.starts_with(&prefix) {
                break;
            }
            found.push(Bytes::copy_from_slice(&key[self.prefix.len()..]));
        }
        Ok(found)
    }

    /// Writes a record; resolves once it is on disk.
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        expect: Expect,
    ) -> Result<Revision> {
        self.write(Batch::new().put(key, value, expect)).await
    }

    /// Deletes a record; resolves once that is on disk. Deleting none is no error with
    /// [`Expect::Any`].
    pub async fn delete(&self, key: impl AsRef<[u8]>, expect: Expect) -> Result<()> {
        self.write(Batch::new().delete(key, expect)).await.map(drop)
    }

    /// Applies a batch if all its expectations hold; resolves once it is on disk.
    ///
    /// All expectations are about the records before the batch. If the future is dropped, the
    /// batch may still be written.
    pub async fn write(&self, batch: Batch) -> Result<Revision> {
        self.begin_write(batch)?.finish().await
    }

    /// Gives a batch its place among all writes now; it is on disk once the returned write is
    /// finished. For callers that must not wait while they hold a lock.
    pub fn begin_write(&self, batch: Batch) -> Result<Writing> {
        let ops = self.ops(batch)?;
        let (reply, answer) = oneshot::channel();
        self.store.core().submit(Request {
            ops,
            done: Done::Reply(reply),
        })?;
        Ok(Writing(answer))
    }

    /// Queues a batch without waiting: it is applied in order with all other writes, if its
    /// expectations hold then, and on disk within the sync interval. It is readable once the
    /// committer has taken it, a moment later.
    pub fn write_relaxed(&self, batch: Batch) -> Result<()> {
        let ops = self.ops(batch)?;
        self.store.core().submit(Request {
            ops,
            done: Done::Nobody,
        })
    }

    /// The changes below `prefix` from now on.
    pub fn watch(&self, prefix: impl AsRef<[u8]>) -> Watch {
        self.store
            .core()
            .watchers
            .watch(&self.prefix, prefix.as_ref())
    }

    fn ops(&self, batch: Batch) -> Result<Vec<Op>> {
        if batch.len() > MAX_BATCH_LEN {
            let (size, limit) = (batch.len(), MAX_BATCH_LEN);
            return Err(Error::TooLarge {
                what: "a batch",
                size,
                limit,
            });
        }
        let mut keys = HashSet::with_capacity(batch.len());
        let mut total = 0;
        for (key, value, _) in &batch.changes {
            let len = value.as_ref().map_or(0, Bytes::len);
            limit("a key", key.len(), MAX_KEY_BYTES)?;
            limit("a value", len, MAX_VALUE_BYTES)?;
            total += key.len() + len;
            if !keys.insert(key) {
                return Err(Error::DuplicateKey {
                    key: printable(key),
                });
            }
        }
        limit("a batch", total, MAX_BATCH_BYTES)?;
        drop(keys);
        let op = |(key, value, expect): (Bytes, Option<Bytes>, Expect)| {
            let key = self.full(&key);
            match value {
                Some(value) => Op::Put { key, value, expect },
                None => Op::Delete { key, expect },
            }
        };
        Ok(batch.changes.into_iter().map(op).collect())
    }

    fn full(&self, key: &[u8]) -> Bytes {
        let mut full = Vec::with_capacity(self.prefix.len() + key.len());
        full.extend_from_slice(&self.prefix);
        full.extend_from_slice(key);
        full.into()
    }
}

/// A batch on its way to the disk. Dropping it does not undo the write.
#[derive(Debug)]
pub struct Writing(oneshot::Receiver<Result<Revision>>);

impl Writing {
    /// Waits until the batch is on disk, or refused.
    pub async fn finish(self) -> Result<Revision> {
        answered(self.0).await
    }
}

fn kind_name(kind: &str) -> &'static str {
    if kind == "timers" { "timers" } else { "log" }
}

pub(crate) fn limit(what: &'static str, size: usize, limit: usize) -> Result<()> {
    if size > limit {
        Err(Error::TooLarge { what, size, limit })
    } else {
        Ok(())
    }
}

/// Names are part of keys on disk, so they are short and plain.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Error::InvalidName {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}
