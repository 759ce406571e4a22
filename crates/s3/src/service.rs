//! Opening the service, and how it writes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use clock::Clock;
use policy::Document;
use store::{Batch, Expect, Store, Table};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::files::Files;
use crate::janitor::Pins;
use crate::keys::{self, Id};
use crate::outbox::Hooks;
use crate::record;
use crate::{Config, Error, Result};

/// How often a write that meets another of the same object begins anew.
pub(crate) const MAX_ATTEMPTS: usize = 1000;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    store: Store,
    table: Table,
    files: Files,
    config: Config,
    clock: Clock,
    hooks: Hooks,
    run: u64,
    next: AtomicU64,
    next_bucket: AtomicU64,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    /// One change of a bucket's configuration after the other.
    configuring: tokio::sync::Mutex<()>,
    /// Uploads that are being completed or aborted take no more parts.
    closing: Mutex<HashSet<Id>>,
    pins: Pins,
    /// Wakes the janitor.
    garbage: Notify,
    /// Wakes the delivery of events.
    outbox: Notify,
    tasks: Mutex<JoinSet<()>>,
}

/// A bucket as it is now. Changes make a new one.
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) record: record::Bucket,
    pub(crate) revision: store::Revision,
    /// The policy in the form that requests are held against.
    pub(crate) policy: Option<Document>,
    gate: Arc<Gate>,
}

/// Lets writes into a bucket unless it is being deleted.
#[derive(Default)]
pub(crate) struct Gate(RwLock<bool>);

impl Gate {
    /// Queues a write while the bucket cannot begin to be deleted.
    fn enter<T>(&self, queue: impl FnOnce() -> Result<T, store::Error>) -> Result<T> {
        let deleting = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *deleting {
            return Err(Error::OperationAborted);
        }
        Ok(queue()?)
    }

    /// Shuts the gate; tells whether it was open.
    pub(crate) fn shut(&self) -> bool {
        let mut deleting = self.0.write().unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut *deleting, true)
    }

    pub(crate) fn open(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Bucket {
    pub(crate) fn new(
        name: &str,
        record: record::Bucket,
        revision: store::Revision,
        gate: Arc<Gate>,
    ) -> Self {
        let policy = record.policy.as_deref();
        Self {
            name: name.to_owned(),
            policy: policy.and_then(|text| match Document::parse(text) {
                Ok(document) => Some(document),
                Err(error) => {
                    tracing::error!(bucket = name, %error, "a stored policy cannot be read, and allows nothing");
                    None
                }
            }),
            record,
            revision,
            gate,
        }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition(), self.name)
    }

    pub(crate) fn partition(&self) -> &'static str {
        let region = self.record.region.parse::<model::Region>();
        region.map_or("aws", |region| region.partition())
    }
}

impl S3 {
    /// Opens what `dir` and the table hold. [`S3::start`] begins the work in the background.
    pub fn open(
        config: Config,
        dir: &Path,
        store: &Store,
        clock: Clock,
        hooks: Hooks,
    ) -> Result<Self> {
        let table = store.table("s3")?;
        let files = Files::open(dir)?;
        let buckets = load_buckets(&table)?;
        let before = table.get(keys::RUN)?;
        let run = match &before {
            None => 0,
            Some(record) => record::decode::<u64>(&record.value)?,
        } + 1;
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            table,
            files,
            config,
            clock,
            hooks,
            run,
            next: AtomicU64::new(1),
            next_bucket: AtomicU64::new(1),
            buckets: RwLock::new(buckets),
            configuring: tokio::sync::Mutex::default(),
            closing: Mutex::default(),
            pins: Pins::default(),
            garbage: Notify::new(),
            outbox: Notify::new(),
            tasks: Mutex::default(),
        })))
    }

    /// Takes down that a new run begins, then begins to tidy up and to deliver events. To be awaited
    /// before the first write.
    pub async fn start(&self) -> Result<()> {
        let run = record::encode(&self.0.run)?;
        self.0.table.put(keys::RUN, run, Expect::Any).await?;
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(crate::janitor::run(self.clone()));
        tasks.spawn(crate::outbox::run(self.clone()));
        Ok(())
    }

    /// Ends the work in the background. What is left of it is done after the next start.
    pub async fn shutdown(&self) {
        let mut tasks = {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn table(&self) -> &Table {
        &self.0.table
    }

    pub(crate) fn files(&self) -> &Files {
        &self.0.files
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.0.hooks
    }

    pub(crate) fn configuring(&self) -> &tokio::sync::Mutex<()> {
        &self.0.configuring
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.0.pins
    }

    pub(crate) fn garbage(&self) -> &Notify {
        &self.0.garbage
    }

    pub(crate) fn outbox(&self) -> &Notify {
        &self.0.outbox
    }

    pub(crate) fn run(&self) -> u64 {
        self.0.run
    }

    /// A number that was never used and never will be.
    pub(crate) fn next_id(&self) -> Id {
        Id {
            run: self.0.run,
            count: self.0.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// As [`S3::next_id`], for buckets: the run is in the upper half.
    pub(crate) fn next_bucket(&self) -> u64 {
        self.0.run << 32 | self.0.next_bucket.fetch_add(1, Ordering::Relaxed)
    }

    /// Looks at the buckets, or changes them, without waiting for anything.
    pub(crate) fn with_buckets<T>(
        &self,
        look: impl FnOnce(&mut BTreeMap<String, Arc<Bucket>>) -> T,
    ) -> T {
        let mut buckets = self
            .0
            .buckets
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        look(&mut buckets)
    }

    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<Bucket>> {
        let buckets = self
            .0
            .buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or(Error::NoSuchBucket)
    }

    /// Whether there is a bucket of this name.
    pub fn has_bucket(&self, name: &str) -> bool {
        self.bucket(name).is_ok()
    }

    pub(crate) fn with_closing<T>(&self, look: impl FnOnce(&mut HashSet<Id>) -> T) -> T {
        let mut closing = self
            .0
            .closing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        look(&mut closing)
    }

    /// Writes into a bucket; resolves once it is on disk.
    pub(crate) async fn commit(&self, bucket: &Bucket, batch: Batch) -> Result<store::Revision> {
        let writing = bucket.gate.enter(|| self.0.table.begin_write(batch))?;
        Ok(writing.finish().await?)
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3")
    }
}

fn load_buckets(table: &Table) -> Result<BTreeMap<String, Arc<Bucket>>> {
    const PAGE: usize = 1000;
    let mut buckets = BTreeMap::new();
    let mut after: Option<bytes::Bytes> = None;
    loop {
        let page = table.scan(keys::BUCKETS, after.as_deref(), PAGE)?;
        for found in &page {
            let name = std::str::from_utf8(&found.key[keys::BUCKETS.len()..])
                .map_err(|_| Error::Damaged("a bucket's name".to_owned()))?;
            let record = record::decode(&found.value)?;
            let bucket = Bucket::new(name, record, found.revision, Arc::default());
            buckets.insert(name.to_owned(), Arc::new(bucket));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(buckets),
        }
    }
}
