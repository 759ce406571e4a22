//! The committer: one thread through which every write goes.
//!
//! Writers queue requests and wait. The committer takes whatever is queued, checks expectations in
//! order, writes one batch of the engine, syncs the journal once, and answers everybody. While it
//! syncs, the next group gathers, so the cost of an fsync is shared by all who wait for one.
//!
//! Requests without anybody waiting (relaxed appends, clearing of deleted logs) ride along; if
//! there is nothing else, they are written without an fsync, which follows within the sync interval.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::oneshot;

use crate::error::printable;
use crate::layout::Witness;
use crate::log::{LogChange, LogStates};
use crate::record::{self, Revision};
use crate::table::Expect;
use crate::watch::{Change, Watchers};
use crate::{Config, Error, Result, trees};

/// Where the commit record lives. Table names cannot begin like this, and log ids never get there.
pub(crate) const COMMIT_KEY: [u8; 7] = *b"\0commit";

/// A group ends at this many bytes, so that no one waits for a giant write of others.
const GROUP_BYTES: usize = 8 << 20;

/// Written with every batch: what the store has to know about itself when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    /// Numbers the batches without gaps.
    pub(crate) commit: u64,
    /// The last commit that was on disk when this one was written.
    pub(crate) durable: u64,
    /// How many log ids have been handed out.
    pub(crate) log_ids: u64,
    /// The engine's next sequence number just before this commit.
    pub(crate) seqno_floor: u64,
}

impl CommitRecord {
    pub(crate) fn encode(&self) -> [u8; 32] {
        let mut body = [0; 32];
        let fields = [self.commit, self.durable, self.log_ids, self.seqno_floor];
        for (chunk, field) in body.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_be_bytes());
        }
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let body: &[u8; 32] = body.try_into().ok()?;
        let mut fields = body.chunks_exact(8).map(|chunk| {
            chunk
                .iter()
                .fold(0u64, |field, &byte| field << 8 | u64::from(byte))
        });
        let (commit, durable) = (fields.next()?, fields.next()?);
        Some(Self {
            commit,
            durable,
            log_ids: fields.next()?,
            seqno_floor: fields.next()?,
        })
    }
}

/// One change of a request. Keys are full keys, with the prefix of their table or log.
#[derive(Debug)]
pub(crate) enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        expect: Expect,
    },
    Delete {
        key: Bytes,
        expect: Expect,
    },
    /// A log entry. Its key is new by construction.
    Append {
        key: Bytes,
        stored: Vec<u8>,
    },
    /// Drops a log entry that nobody can read any more.
    Clear {
        key: Bytes,
    },
}

impl Op {
    fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Append { key, stored } => key.len() + stored.len(),
            Self::Delete { key, .. } | Self::Clear { key } => key.len(),
        }
    }
}

/// Whom to tell once a request has been committed.
#[derive(Debug)]
pub(crate) enum Done {
    /// Somebody waits for it to be on disk.
    Reply(Reply),
    /// A log keeps account of it, and maybe somebody waits too.
    Log {
        change: LogChange,
        reply: Option<Reply>,
    },
    Nobody,
}

pub(crate) type Reply = oneshot::Sender<Result<Revision>>;

impl Done {
    /// Whether an fsync has to cover the request before it counts as done.
    fn durable(&self) -> bool {
        match self {
            Self::Reply(_) => true,
            Self::Log { reply, .. } => reply.is_some(),
            Self::Nobody => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ops: Vec<Op>,
    pub(crate) done: Done,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Request>,
    waiting_bytes: usize,
    relaxed_bytes: usize,
    closed: bool,
}

/// What the committer shares with everybody else.
pub(crate) struct Core {
    pub(crate) db: Database,
    /// Records, by table name, zero byte, key.
    pub(crate) records: Keyspace,
    /// Log entries, by log id and sequence.
    pub(crate) entries: Keyspace,
    pub(crate) config: Config,
    pub(crate) watchers: Watchers,
    pub(crate) logs: Mutex<LogStates>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Set once, when a write failed.
    failed: OnceLock<String>,
}

impl Core {
    pub(crate) fn new(
        db: Database,
        records: Keyspace,
        entries: Keyspace,
        config: Config,
        logs: LogStates,
    ) -> Self {
        Self {
            db,
            records,
            entries,
            config,
            watchers: Watchers::default(),
            logs: Mutex::new(logs),
            queue: Mutex::default(),
            wake: Condvar::new(),
            failed: OnceLock::new(),
        }
    }

    /// Queues a request; it is committed after all that were queued before.
    pub(crate) fn submit(&self, request: Request) -> Result<()> {
        let size = request.ops.iter().map(Op::size).sum::<usize>();
        let relaxed = !request.done.durable();
        let mut queue = self.queue();
        if let Some(reason) = self.failed.get() {
            return Err(Error::Failed {
                reason: reason.clone(),
            });
        }
        if queue.closed {
            return Err(Error::Closed);
        }
        let (what, bytes, limit) = if relaxed {
            (
                "relaxed appends",
                &mut queue.relaxed_bytes,
                self.config.relaxed_bytes,
            )
        } else {
            ("writes", &mut queue.waiting_bytes, self.config.queue_bytes)
        };
        if *bytes > 0 && *bytes + size > limit {
            return Err(Error::Overloaded { what, limit });
        }
        *bytes += size;
        queue.requests.push_back(request);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// The committed value under a full key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<(Revision, Bytes)>> {
        let stored = self
            .records
            .get(key)
            .map_err(self.read_error(&self.records))?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let (revision, value) = record::decode(key, &stored).map_err(self.damage(&self.records))?;
        Ok(Some((revision, Bytes::copy_from_slice(value))))
    }

    /// Turns an error of the engine into one that names the damaged file, if one is damaged.
    pub(crate) fn read_error(&self, keyspace: &Keyspace) -> impl Fn(fjall::Error) -> Error {
        let path = keyspace.path().to_owned();
        move |source| match &source {
            fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => {
                trees::find_damage(&path).unwrap_or(Error::Engine {
                    action: "read",
                    source,
                })
            }
            fjall::Error::Storage(reason) => trees::find_damage(&path)
                .unwrap_or_else(|| Error::corrupt(&path, reason.to_string())),
            _ => Error::Engine {
                action: "read",
                source,
            },
        }
    }

    /// An error for a stored value that is not what was written.
    pub(crate) fn damage(&self, keyspace: &Keyspace) -> impl Fn(&'static str) -> Error {
        let path = keyspace.path().to_owned();
        move |reason| trees::find_damage(&path).unwrap_or_else(|| Error::corrupt(&path, reason))
    }

    /// Lets the committer finish what is queued and end.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the committer's answer.
pub(crate) async fn answered(answer: oneshot::Receiver<Result<Revision>>) -> Result<Revision> {
    answer.await.unwrap_or(Err(Error::Closed))
}

/// A log id whose entries below a sequence are to be dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Garbage {
    pub(crate) id: u64,
    pub(crate) below: u64,
}

/// State of the committer thread.
pub(crate) struct Committer {
    pub(crate) core: Arc<Core>,
    pub(crate) witness: Witness,
    pub(crate) commit: u64,
    pub(crate) durable: u64,
    pub(crate) revision: u64,
    pub(crate) garbage: VecDeque<Garbage>,
    /// Since when there are commits that no fsync covers.
    pub(crate) unsynced_since: Option<Instant>,
}

/// A record as the group leaves it: the last write wins.
struct Staged {
    revision: Option<Revision>,
    stored: Option<Vec<u8>>,
}

impl Committer {
    /// Commits groups until the store is closed and the queue empty.
    pub(crate) fn run(mut self) {
        while let Some(group) = self.next_group() {
            let outcome = if group.is_empty() {
                self.idle()
            } else {
                self.commit_group(group)
            };
            if let Err(err) = outcome {
                self.fail(&err);
            }
        }
        if self.core.failed.get().is_none()
            && let Err(err) = self.sync().and_then(|()| self.witness.sync())
        {
            tracing::error!(error = %err, "cannot sync the store on closing");
        }
        self.core.watchers.close();
    }

    /// Waits for work. An empty group means that it is time for housekeeping; `None`, to end.
    fn next_group(&self) -> Option<Vec<Request>> {
        let mut queue = self.core.queue();
        loop {
            if !queue.requests.is_empty() {
                return Some(take_group(&mut queue));
            }
            if queue.closed {
                return None;
            }
            if !self.garbage.is_empty() {
                return Some(Vec::new());
            }
            let Some(since) = self.unsynced_since else {
                queue = self
                    .core
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self
                .core
                .config
                .sync_interval()
                .saturating_sub(since.elapsed());
            if left.is_zero() {
                return Some(Vec::new());
            }
            queue = self
                .core
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn idle(&mut self) -> Result<()> {
        let overdue = self
            .unsynced_since
            .is_some_and(|since| since.elapsed() >= self.core.config.sync_interval());
        if overdue {
            self.sync()
        } else {
            self.clear_some_garbage()
        }
    }

    fn commit_group(&mut self, group: Vec<Request>) -> Result<()> {
        let mut staged: HashMap<Bytes, Staged> = HashMap::new();
        let mut entries: Vec<(Bytes, Option<Vec<u8>>)> = Vec::new();
        let mut changes = Vec::new();
        let mut answers: Vec<(Done, Result<Revision>)> = Vec::with_capacity(group.len());
        let watched = self.core.watchers.any();
        let mut durable = false;
        for request in group {
            durable |= request.done.durable();
            match self.check(&staged, &request.ops) {
                Ok(()) => {
                    self.revision += 1;
                    let revision = Revision(self.revision);
                    for op in request.ops {
                        let changes = watched.then_some(&mut changes);
                        self.stage(&mut staged, &mut entries, changes, op, revision);
                    }
                    answers.push((request.done, Ok(revision)));
                }
                // A conflict may be with a write of this very group, so it is told only when
                // that write is on disk.
                Err(err) => answers.push((request.done, Err(err))),
            }
        }
        let outcome = if staged.is_empty() && entries.is_empty() {
            // Only conflicts, all with what is on disk already, or with a relaxed write.
            if durable && self.unsynced_since.is_some() {
                self.sync()
            } else {
                Ok(())
            }
        } else {
            self.write(staged, entries, durable)
        };
        if let Err(err) = outcome {
            let reason = describe(&err);
            self.fail(&err);
            for (done, _) in answers {
                answer(
                    &self.core,
                    done,
                    Err(Error::Failed {
                        reason: reason.clone(),
                    }),
                );
            }
            return Ok(());
        }
        if !changes.is_empty() {
            self.core.watchers.publish(changes);
        }
        for (done, result) in answers {
            answer(&self.core, done, result);
        }
        Ok(())
    }

    /// Checks a request's expectations against the records as the group leaves them so far.
    fn check(&self, staged: &HashMap<Bytes, Staged>, ops: &[Op]) -> Result<()> {
        for op in ops {
            let (Op::Put { key, expect, .. } | Op::Delete { key, expect }) = op else {
                continue;
            };
            if *expect == Expect::Any {
                continue;
            }
            let actual = match staged.get(key) {
                Some(staged) => staged.revision,
                None => self.core.get(key)?.map(|(revision, _)| revision),
            };
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => actual.is_none(),
                Expect::Revision(revision) => actual == Some(*revision),
            };
            if !holds {
                return Err(Error::Conflict {
                    key: printable(user_key(key)),
                    actual,
                });
            }
        }
        Ok(())
    }

    fn stage(
        &mut self,
        staged: &mut HashMap<Bytes, Staged>,
        entries: &mut Vec<(Bytes, Option<Vec<u8>>)>,
        changes: Option<&mut Vec<Change>>,
        op: Op,
        revision: Revision,
    ) {
        let (key, value) = match op {
            Op::Append { key, stored } => return entries.push((key, Some(stored))),
            Op::Clear { key } => return entries.push((key, None)),
            Op::Put { key, value, .. } => (key, Some(value)),
            Op::Delete { key, .. } => (key, None),
        };
        if let Some(garbage) = crate::log::garbage(&key, value.as_deref()) {
            self.garbage.push_back(garbage);
        }
        let new = Staged {
            revision: value.is_some().then_some(revision),
            stored: value
                .as_ref()
                .map(|value| record::encode(&key, revision, value)),
        };
        if let Some(changes) = changes {
            changes.push(Change {
                key: key.clone(),
                value,
                revision,
            });
        }
        staged.insert(key, new);
    }

    /// Writes one batch of the engine.
    fn write(
        &mut self,
        staged: HashMap<Bytes, Staged>,
        entries: Vec<(Bytes, Option<Vec<u8>>)>,
        durable: bool,
    ) -> Result<()> {
        let core = &self.core;
        let mode = if durable {
            PersistMode::SyncAll
        } else {
            PersistMode::Buffer
        };
        let mut batch = core.db.batch().durability(Some(mode));
        for (key, staged) in staged {
            match staged.stored {
                Some(stored) => batch.insert(&core.records, &*key, stored),
                None => batch.remove(&core.records, &*key),
            }
        }
        for (key, stored) in entries {
            match stored {
                Some(stored) => batch.insert(&core.entries, &*key, stored),
                None => batch.remove(&core.entries, &*key),
            }
        }
        let commit = self.commit + 1;
        let body = CommitRecord {
            commit,
            durable: self.durable,
            log_ids: core
                .logs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .ids(),
            seqno_floor: core.db.seqno(),
        };
        let stored = record::encode(&COMMIT_KEY, Revision(self.revision), &body.encode());
        // In both keyspaces, which reach the disk apart from each other: if one lacks writes that
        // the other has, their commit records differ.
        batch.insert(&core.entries, COMMIT_KEY, stored.as_slice());
        batch.insert(&core.records, COMMIT_KEY, stored);
        batch.commit().map_err(|source| Error::Engine {
            action: "commit",
            source,
        })?;
        self.commit = commit;
        if durable {
            self.synced()
        } else {
            self.unsynced_since.get_or_insert_with(Instant::now);
            Ok(())
        }
    }

    fn sync(&mut self) -> Result<()> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        self.core
            .db
            .persist(PersistMode::SyncAll)
            .map_err(|source| Error::Engine {
                action: "sync the journal",
                source,
            })?;
        self.synced()
    }

    fn synced(&mut self) -> Result<()> {
        self.durable = self.commit;
        self.unsynced_since = None;
        self.witness.advance(self.commit)
    }

    /// Drops some entries of deleted and trimmed logs.
    fn clear_some_garbage(&mut self) -> Result<()> {
        let Some(&garbage) = self.garbage.front() else {
            return Ok(());
        };
        let (mut ops, finished) = crate::log::clear(&self.core, garbage)?;
        if finished {
            self.garbage.pop_front();
            // A later trim of the same log has replaced the record, and is queued itself.
            if !self.garbage.iter().any(|other| other.id == garbage.id) {
                ops.push(Op::Delete {
                    key: crate::log::garbage_key(garbage.id),
                    expect: Expect::Any,
                });
            }
        }
        self.commit_group(vec![Request {
            ops,
            done: Done::Nobody,
        }])
    }

    fn fail(&mut self, err: &Error) {
        tracing::error!(error = describe(err), "the store cannot write any more");
        let _ = self.core.failed.set(describe(err));
        self.garbage.clear();
        self.unsynced_since = None;
    }
}

fn take_group(queue: &mut Queue) -> Vec<Request> {
    let mut group = Vec::new();
    let mut bytes = 0;
    while let Some(request) = queue.requests.pop_front() {
        let size = request.ops.iter().map(Op::size).sum::<usize>();
        if request.done.durable() {
            queue.waiting_bytes -= size;
        } else {
            queue.relaxed_bytes -= size;
        }
        group.push(request);
        bytes += size;
        if bytes >= GROUP_BYTES {
            break;
        }
    }
    group
}

fn answer(core: &Core, done: Done, result: Result<Revision>) {
    let reply = match done {
        Done::Nobody => None,
        Done::Reply(reply) => Some(reply),
        Done::Log { change, reply } => {
            core.logs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .committed(&change);
            reply
        }
    };
    if let Some(reply) = reply {
        // The writer may have given up waiting; the write stands.
        let _ = reply.send(result);
    }
}

/// A full key without the name of its table.
fn user_key(key: &[u8]) -> &[u8] {
    key.iter()
        .position(|&byte| byte == 0)
        .map_or(key, |end| &key[end + 1..])
}

fn describe(err: &Error) -> String {
    let mut text = err.to_string();
    let mut source = std::error::Error::source(err);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
