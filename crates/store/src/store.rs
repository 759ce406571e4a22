//! Opening and closing a store.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use clock::Clock;
use fjall::{Database, KeyspaceCreateOptions};

use crate::blobs::Blobs;
use crate::commit::{COMMIT_KEY, CommitRecord, Committer, Core, Done, Request, answered};
use crate::layout::{Lock, Witness, check_format, sync_dir, write_format};
use crate::log::{Log, LogStates, remaining_garbage};
use crate::table::Table;
use crate::timers::{Timers, TimersInner};
use crate::{Config, Error, Result, journal, record, trees};

/// The engine's directories: its own catalogue, the records, the log entries.
const KEYSPACES: [&str; 3] = ["0", "1", "2"];

/// A data directory, opened. Cheap to clone; the last clone to go closes it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    committer: Option<JoinHandle<()>>,
    clock: Clock,
    blobs: Blobs,
    timers: Mutex<HashMap<String, Weak<TimersInner>>>,
    dir: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Opens the store in `dir`, or makes one there.
    ///
    /// Reads the journals and, up to a budget, the sorted tables; a file that is not as it was
    /// written is an [`Error::Corrupt`] that names it, and nothing is changed then.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self> {
        Self::open_with(dir, clock, Config::default())
    }

    /// Like [`Store::open`], with another configuration than the default.
    pub fn open_with(dir: &Path, clock: Clock, config: Config) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let lock = Lock::acquire(dir)?;
        let db_dir = dir.join("db");
        if !db_dir
            .try_exists()
            .map_err(Error::io("look for", &db_dir))?
        {
            create(dir, &db_dir, &config)?;
        }
        check_format(&db_dir)?;
        let witness = Witness::open(&db_dir)?;
        let last_commit = journal::check(&db_dir, witness.acked())?;
        trees::check(&db_dir, &KEYSPACES, config.verify_at_open_bytes)?;

        // The engine's own lock holds nothing, but the engine insists that it exists.
        let engine_lock = db_dir.join("lock");
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&engine_lock)
            .map_err(Error::io("open", &engine_lock))?;

        let (db, [records, entries]) = open_engine(&db_dir, &config)?;
        let state = read_state(&records, &db_dir)?;
        let commit = state
            .record
            .commit
            .min(read_state(&entries, &db_dir)?.record.commit);
        let expected = last_commit
            .max(Some(state.record.commit))
            .max(Some(witness.acked()));
        if Some(commit) < expected {
            let expected = expected.unwrap_or_default();
            let reason = format!("it ends with commit {commit}, but commit {expected} was written");
            return Err(Error::corrupt(journal::newest(&db_dir)?, reason));
        }
        let logs = LogStates::new(state.record.log_ids);
        let core = Arc::new(Core::new(db, records, entries, config, logs));
        let committer = Committer {
            core: core.clone(),
            witness,
            commit: state.record.commit,
            durable: state.record.durable,
            revision: state.revision,
            garbage: remaining_garbage(&core)?,
            // What was found in the journal may never have been synced.
            unsynced_since: Some(std::time::Instant::now()),
        };
        let blobs = Blobs::open(&dir.join("blobs"))?;
        let committer = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(Error::io("start the committer of", dir))?;
        Ok(Self(Arc::new(Inner {
            core,
            committer: Some(committer),
            clock,
            blobs,
            timers: Mutex::default(),
            dir: dir.to_owned(),
            _lock: lock,
        })))
    }

    /// The table with this name: up to 64 letters, digits, `-`, `_` or `.`.
    pub fn table(&self, name: &str) -> Result<Table> {
        Table::open(self.clone(), name)
    }

    /// The family of logs with this name, of the same form as a table's.
    pub fn log(&self, name: &str) -> Result<Log> {
        Log::open(self.clone(), name)
    }

    /// The timers with this name, of the same form as a table's.
    pub fn timers(&self, name: &str) -> Result<Timers> {
        let mut open = self.0.timers.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, timers| timers.strong_count() > 0);
        if let Some(timers) = open.get(name).and_then(Weak::upgrade) {
            return Ok(Timers::from(timers));
        }
        let table = Table::internal(self.clone(), "timers", name)?;
        let timers = Arc::new(TimersInner::open(table, self.0.clock.clone())?);
        open.insert(name.to_owned(), Arc::downgrade(&timers));
        Ok(Timers::from(timers))
    }

    /// The content-addressed blobs.
    pub fn blobs(&self) -> Blobs {
        self.0.blobs.clone()
    }

    /// The directory that the store lives in.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Verifies every sorted table now, whatever its size; reads the whole store.
    pub fn verify(&self) -> Result<()> {
        trees::check(&self.0.dir.join("db"), &KEYSPACES, u64::MAX)
    }

    /// Waits until everything written so far, relaxed writes too, is on disk.
    pub async fn sync(&self) -> Result<()> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.core().submit(Request {
            ops: Vec::new(),
            done: Done::Reply(reply),
        })?;
        answered(answer).await.map(drop)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.dir).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.close();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer of the store panicked");
        }
    }
}

/// Makes an empty store beside its final place and moves it there when it is complete, so that
/// a half-made one is never taken for a damaged one.
fn create(dir: &Path, db_dir: &Path, config: &Config) -> Result<()> {
    let staging = dir.join("db.new");
    match fs::remove_dir_all(&staging) {
        Ok(()) => {}
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => return Err(Error::io("remove", &staging)(err)),
    }
    drop(open_engine(&staging, config)?);
    Witness::create(&staging)?;
    write_format(&staging)?;
    sync_dir(&staging)?;
    fs::rename(&staging, db_dir).map_err(Error::io("rename", &staging))?;
    sync_dir(dir)
}

fn open_engine(path: &Path, config: &Config) -> Result<(Database, [fjall::Keyspace; 2])> {
    let open = || {
        let db = Database::builder(path)
            .cache_size(config.cache_bytes)
            .max_cached_files(Some(128))
            .max_journaling_size(64 << 20)
            // One thread flushes and compacts; on a small machine more would only compete.
            .worker_threads(1)
            // Entries must be readable by `journal`, which does not decompress.
            .journal_compression(fjall::CompressionType::None)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(config.memtable_bytes)
                .manual_journal_persist(true)
        };
        let records = db.keyspace("records", options)?;
        let entries = db.keyspace("entries", options)?;
        Ok((db, [records, entries]))
    };
    // The engine asserts some of what it reads. A panic here is about the files, so it becomes
    // the same kind of error.
    match std::panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(source @ (fjall::Error::Io(_) | fjall::Error::Locked))) => Err(Error::Engine {
            action: "open the database",
            source,
        }),
        Ok(Err(source)) => Err(Error::corrupt(path, source.to_string())),
        Err(_) => Err(Error::corrupt(path, "the engine panicked while reading it")),
    }
}

struct State {
    record: CommitRecord,
    revision: u64,
}

/// Reads what the last commit in a keyspace said about the store.
fn read_state(keyspace: &fjall::Keyspace, db_dir: &Path) -> Result<State> {
    let stored = keyspace.get(COMMIT_KEY).map_err(|source| Error::Engine {
        action: "read the last commit",
        source,
    })?;
    let Some(stored) = stored else {
        return Ok(State {
            record: CommitRecord::default(),
            revision: 0,
        });
    };
    let (revision, body) =
        record::decode(&COMMIT_KEY, &stored).map_err(|reason| Error::corrupt(db_dir, reason))?;
    let record = CommitRecord::decode(body)
        .ok_or_else(|| Error::corrupt(db_dir, "its commit record is of an unknown form"))?;
    Ok(State {
        record,
        revision: revision.0,
    })
}
