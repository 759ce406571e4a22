//! Ordered logs: entries appended under a key, read back by sequence.
//!
//! A log is a record (its id and first readable sequence) and its entries, stored under the id. So
//! deleting or trimming a log of any length is one small atomic write; the entries that nobody can
//! read any more are cleared behind, and the record of what remains to be cleared survives a crash.

use std::collections::{HashMap, VecDeque};
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::commit::{Core, Done, Garbage, Op, Request, answered};
use crate::record::checksum;
use crate::store::Store;
use crate::table::{Expect, check_name, limit};
use crate::{Error, Result};

const MAX_KEY_BYTES: usize = 4 << 10;
const MAX_ENTRY_BYTES: usize = 4 << 20;
const MAX_APPEND_BYTES: usize = 8 << 20;
const MAX_APPEND_LEN: usize = 10_000;

/// Logs whose state is kept in memory; idle ones beyond this are read again when needed.
const CACHED_LOGS: usize = 8192;
const GARBAGE_PREFIX: &[u8] = b"\x01garbage\0";
const GARBAGE_CHUNK: usize = 1000;
const ENTRY_FORMAT: u8 = 1;

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    pub value: Bytes,
}

/// A named family of logs, one per key. Cheap to clone.
///
/// Sequences begin at 0 and grow by one with each entry. A key that was deleted begins anew.
#[derive(Clone, Debug)]
pub struct Log {
    store: Store,
    prefix: Bytes,
}

impl Log {
    pub(crate) fn open(store: Store, name: &str) -> Result<Self> {
        check_name("log", name)?;
        Ok(Self {
            store,
            prefix: [b"\x01log/", name.as_bytes(), b"\0"].concat().into(),
        })
    }

    /// Appends entries that become readable, all together, once they are on disk. Returns the
    /// sequence of the first.
    pub async fn append(&self, key: impl AsRef<[u8]>, values: Vec<Bytes>) -> Result<u64> {
        self.begin_append(key, &values)?.finish().await
    }

    /// Gives the entries their place in the log now; they are on disk once the returned append is
    /// finished. For callers that must not wait while they hold a lock.
    pub fn begin_append(&self, key: impl AsRef<[u8]>, values: &[Bytes]) -> Result<Appending> {
        let (reply, answer) = oneshot::channel();
        let first = self.queue(key.as_ref(), values, Some(reply))?;
        Ok(Appending { first, answer })
    }

    /// Appends entries that are readable at once and on disk within the sync interval. Never
    /// waits: beyond the configured backlog the entries are refused.
    pub fn append_relaxed(&self, key: impl AsRef<[u8]>, values: &[Bytes]) -> Result<u64> {
        self.queue(key.as_ref(), values, None)
    }

    fn queue(
        &self,
        key: &[u8],
        values: &[Bytes],
        reply: Option<oneshot::Sender<Result<crate::Revision>>>,
    ) -> Result<u64> {
        limit("a log key", key.len(), MAX_KEY_BYTES)?;
        limit(
            "an append",
            values.iter().map(Bytes::len).sum(),
            MAX_APPEND_BYTES,
        )?;
        if values.len() > MAX_APPEND_LEN {
            let (size, limit) = (values.len(), MAX_APPEND_LEN);
            return Err(Error::TooLarge {
                what: "an append",
                size,
                limit,
            });
        }
        for value in values {
            limit("a log entry", value.len(), MAX_ENTRY_BYTES)?;
        }
        let core = self.store.core();
        let log = self.full(key);
        let mut logs = lock(core);
        let mut ops = Vec::with_capacity(values.len() + 1);
        let (id, first) = match logs.state(core, &log)? {
            Some(state) => (state.id, state.next),
            None => {
                logs.ids += 1;
                let meta = Meta {
                    id: logs.ids,
                    first: 0,
                };
                ops.push(Op::Put {
                    key: log.clone(),
                    value: meta.encode(),
                    expect: Expect::Any,
                });
                (logs.ids, 0)
            }
        };
        for (sequence, value) in (first..).zip(values) {
            let key = entry_key(id, sequence);
            let stored = encode_entry(&key, value);
            ops.push(Op::Append {
                key: key.to_vec().into(),
                stored,
            });
        }
        let next = first + values.len() as u64;
        let durable = reply.is_some();
        let kind = if durable {
            ChangeKind::Durable
        } else {
            ChangeKind::Relaxed { next }
        };
        let change = LogChange {
            log: log.clone(),
            id,
            kind,
        };
        // Submitting under the lock keeps the queue in the order of the sequences.
        core.submit(Request {
            ops,
            done: Done::Log { change, reply },
        })?;
        let state = logs.fresh(log, id);
        state.next = next;
        state.in_flight += 1;
        if durable {
            state.unacknowledged.push_back(first);
        } else {
            state.pending.extend((first..).zip(values.iter().cloned()));
        }
        Ok(first)
    }

    /// Up to `limit` entries from sequence `from` on, in order.
    pub fn read(&self, key: impl AsRef<[u8]>, from: u64, limit: usize) -> Result<Vec<Entry>> {
        let core = self.store.core();
        let Some(view) = self.view(key.as_ref())? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let range = entry_key(view.id, from.max(view.first))..entry_key(view.id, view.stored);
        if range.start < range.end {
            for item in core.entries.range(range).take(limit) {
                found.push(entry(core, item)?);
            }
        }
        let pending = view
            .pending
            .into_iter()
            .filter(|entry| entry.sequence >= from);
        let missing = limit - found.len();
        found.extend(pending.take(missing));
        Ok(found)
    }

    /// Up to `limit` entries before sequence `before`, the latest first.
    pub fn read_back(
        &self,
        key: impl AsRef<[u8]>,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let core = self.store.core();
        let Some(view) = self.view(key.as_ref())? else {
            return Ok(Vec::new());
        };
        let pending = view
            .pending
            .into_iter()
            .rev()
            .filter(|entry| entry.sequence < before);
        let mut found: Vec<_> = pending.take(limit).collect();
        let range = entry_key(view.id, view.first)..entry_key(view.id, before.min(view.stored));
        if range.start < range.end {
            let missing = limit - found.len();
            for item in core.entries.range(range).rev().take(missing) {
                found.push(entry(core, item)?);
            }
        }
        Ok(found)
    }

    /// The first readable sequence and the one after the last; `None` if there is no such log.
    pub fn bounds(&self, key: impl AsRef<[u8]>) -> Result<Option<(u64, u64)>> {
        Ok(self.view(key.as_ref())?.map(|view| (view.first, view.end)))
    }

    /// Whether no change of this log is on its way to the disk.
    pub fn is_at_rest(&self, key: impl AsRef<[u8]>) -> bool {
        let logs = lock(self.store.core());
        let state = logs.states.get(&self.full(key.as_ref()));
        state.is_none_or(|state| state.in_flight == 0)
    }

    /// Deletes a log; resolves to whether there was one, once that is on disk.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let log = self.full(key.as_ref());
        let answer = {
            let core = self.store.core();
            let mut logs = lock(core);
            let Some(state) = logs.state(core, &log)? else {
                return Ok(false);
            };
            let id = state.id;
            let ops = vec![
                Op::Delete {
                    key: log.clone(),
                    expect: Expect::Any,
                },
                collect(id, u64::MAX),
            ];
            let (reply, answer) = oneshot::channel();
            let change = LogChange {
                log: log.clone(),
                id,
                kind: ChangeKind::Deleted,
            };
            core.submit(Request {
                ops,
                done: Done::Log {
                    change,
                    reply: Some(reply),
                },
            })?;
            let state = logs.fresh(log, id);
            state.deleted = true;
            state.in_flight += 1;
            answer
        };
        answered(answer).await?;
        Ok(true)
    }

    /// Drops all entries before sequence `before`; resolves once that is on disk.
    pub async fn trim(&self, key: impl AsRef<[u8]>, before: u64) -> Result<()> {
        let log = self.full(key.as_ref());
        let answer = {
            let core = self.store.core();
            let mut logs = lock(core);
            let Some(state) = logs.state(core, &log)? else {
                return Ok(());
            };
            let (id, first) = (state.id, before.min(state.next));
            if first <= state.first {
                return Ok(());
            }
            let meta = Meta { id, first };
            let ops = vec![
                Op::Put {
                    key: log.clone(),
                    value: meta.encode(),
                    expect: Expect::Any,
                },
                collect(id, first),
            ];
            let (reply, answer) = oneshot::channel();
            let change = LogChange {
                log: log.clone(),
                id,
                kind: ChangeKind::Trimmed,
            };
            core.submit(Request {
                ops,
                done: Done::Log {
                    change,
                    reply: Some(reply),
                },
            })?;
            let state = logs.fresh(log, id);
            state.first = first;
            state.in_flight += 1;
            answer
        };
        answered(answer).await.map(drop)
    }

    fn view(&self, key: &[u8]) -> Result<Option<View>> {
        let core = self.store.core();
        let log = self.full(key);
        let mut logs = lock(core);
        let Some(state) = logs.state(core, &log)? else {
            return Ok(None);
        };
        // Entries that are not acknowledged yet hide all behind them, so that a reader who goes
        // on from the last sequence seen misses nothing.
        let end = state.unacknowledged.front().copied().unwrap_or(state.next);
        let pending: Vec<_> = state
            .pending
            .iter()
            .filter(|(sequence, _)| (state.first..end).contains(sequence))
            .map(|(sequence, value)| Entry {
                sequence: *sequence,
                value: value.clone(),
            })
            .collect();
        let stored = pending.first().map_or(end, |entry| entry.sequence);
        Ok(Some(View {
            id: state.id,
            first: state.first,
            stored,
            end,
            pending,
        }))
    }

    fn full(&self, key: &[u8]) -> Bytes {
        [&*self.prefix, key].concat().into()
    }
}

/// A durable append under way. Dropping it does not undo the append.
#[derive(Debug)]
pub struct Appending {
    first: u64,
    answer: oneshot::Receiver<Result<crate::Revision>>,
}

impl Appending {
    /// Waits until the entries are on disk; returns the sequence of the first.
    pub async fn finish(self) -> Result<u64> {
        answered(self.answer).await?;
        Ok(self.first)
    }
}

/// What of a log can be read: entries on disk up to `stored`, then those pending.
struct View {
    id: u64,
    first: u64,
    stored: u64,
    end: u64,
    pending: Vec<Entry>,
}

/// A change to a log on its way through the committer.
#[derive(Debug)]
pub(crate) struct LogChange {
    log: Bytes,
    id: u64,
    kind: ChangeKind,
}

#[derive(Debug)]
enum ChangeKind {
    Durable,
    Relaxed { next: u64 },
    Trimmed,
    Deleted,
}

/// The logs in use, by full key.
#[derive(Debug)]
pub(crate) struct LogStates {
    states: HashMap<Bytes, LogState>,
    /// The highest id handed out.
    ids: u64,
}

#[derive(Debug, Default)]
struct LogState {
    id: u64,
    first: u64,
    next: u64,
    deleted: bool,
    /// Requests queued and not committed yet; until then the disk does not know what we know.
    in_flight: usize,
    /// First sequences of durable appends in flight.
    unacknowledged: VecDeque<u64>,
    /// Relaxed entries that the engine does not have yet.
    pending: VecDeque<(u64, Bytes)>,
}

impl LogStates {
    pub(crate) fn new(ids: u64) -> Self {
        Self {
            states: HashMap::new(),
            ids,
        }
    }

    pub(crate) fn ids(&self) -> u64 {
        self.ids
    }

    /// The state of a log that exists.
    fn state(&mut self, core: &Core, log: &Bytes) -> Result<Option<&mut LogState>> {
        if !self.states.contains_key(log) {
            let Some((_, meta)) = core.get(log)? else {
                return Ok(None);
            };
            let meta = Meta::decode(&meta)
                .ok_or("a log record of an unknown form")
                .map_err(core.damage(&core.records))?;
            let all = entry_key(meta.id, 0)..=entry_key(meta.id, u64::MAX);
            let last = core.entries.range(all).next_back();
            let after_last = match last {
                Some(item) => {
                    let key = item.key().map_err(core.read_error(&core.entries))?;
                    sequence(&key).map_or(0, |last| last + 1)
                }
                None => 0,
            };
            let (id, first) = (meta.id, meta.first);
            self.make_room();
            let next = after_last.max(first);
            self.states.insert(
                log.clone(),
                LogState {
                    id,
                    first,
                    next,
                    ..LogState::default()
                },
            );
        }
        Ok(self.states.get_mut(log).filter(|state| !state.deleted))
    }

    /// The state of the log with this id, which takes the place of a deleted one.
    fn fresh(&mut self, log: Bytes, id: u64) -> &mut LogState {
        if !self.states.contains_key(&log) {
            self.make_room();
        }
        let state = self.states.entry(log).or_default();
        if state.id != id {
            *state = LogState {
                id,
                ..LogState::default()
            };
        }
        state
    }

    fn make_room(&mut self) {
        if self.states.len() >= CACHED_LOGS {
            self.states.retain(|_, state| state.in_flight > 0);
        }
    }

    pub(crate) fn committed(&mut self, change: &LogChange) {
        let Some(state) = self.states.get_mut(&change.log) else {
            return;
        };
        if state.id != change.id {
            return;
        }
        state.in_flight = state.in_flight.saturating_sub(1);
        match change.kind {
            ChangeKind::Durable => drop(state.unacknowledged.pop_front()),
            ChangeKind::Relaxed { next } => {
                while state
                    .pending
                    .front()
                    .is_some_and(|(sequence, _)| *sequence < next)
                {
                    state.pending.pop_front();
                }
                if state.pending.is_empty() {
                    // Most logs of an earlier moment get nothing any more, and there are many.
                    state.pending = VecDeque::new();
                }
            }
            ChangeKind::Trimmed => {}
            ChangeKind::Deleted => drop(self.states.remove(&change.log)),
        }
    }
}

/// The record of a log.
struct Meta {
    id: u64,
    first: u64,
}

impl Meta {
    fn encode(&self) -> Bytes {
        [self.id.to_be_bytes(), self.first.to_be_bytes()]
            .concat()
            .into()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (id, rest) = value.split_first_chunk()?;
        let first = rest.try_into().ok()?;
        Some(Self {
            id: u64::from_be_bytes(*id),
            first: u64::from_be_bytes(first),
        })
    }
}

fn lock(core: &Core) -> MutexGuard<'_, LogStates> {
    core.logs.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry_key(id: u64, sequence: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&sequence.to_be_bytes());
    key
}

fn sequence(key: &[u8]) -> Option<u64> {
    key.last_chunk()
        .map(|sequence| u64::from_be_bytes(*sequence))
}

fn encode_entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(5 + value.len());
    stored.push(ENTRY_FORMAT);
    stored.extend_from_slice(&checksum(&[key, value]).to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

fn entry(core: &Core, item: fjall::Guard) -> Result<Entry> {
    let (key, stored) = item.into_inner().map_err(core.read_error(&core.entries))?;
    let value = stored
        .split_first_chunk::<5>()
        .filter(|([format, sum @ ..], value)| {
            *format == ENTRY_FORMAT && *sum == checksum(&[&key, value]).to_be_bytes()
        })
        .map(|(_, value)| value)
        .ok_or("a log entry whose checksum does not match")
        .map_err(core.damage(&core.entries))?;
    let sequence = sequence(&key).unwrap_or_default();
    Ok(Entry {
        sequence,
        value: Bytes::copy_from_slice(value),
    })
}

pub(crate) fn garbage_key(id: u64) -> Bytes {
    [GARBAGE_PREFIX, &id.to_be_bytes()].concat().into()
}

/// Has the entries of `id` before `below` cleared, now or after a crash.
fn collect(id: u64, below: u64) -> Op {
    let value = Bytes::copy_from_slice(&below.to_be_bytes());
    Op::Put {
        key: garbage_key(id),
        value,
        expect: Expect::Any,
    }
}

/// What a record about garbage says, if it is one.
pub(crate) fn garbage(key: &[u8], value: Option<&[u8]>) -> Option<Garbage> {
    let id = key.strip_prefix(GARBAGE_PREFIX)?.try_into().ok()?;
    let below = value?.try_into().ok()?;
    Some(Garbage {
        id: u64::from_be_bytes(id),
        below: u64::from_be_bytes(below),
    })
}

/// What an earlier run of the store has left to clear.
pub(crate) fn remaining_garbage(core: &Core) -> Result<VecDeque<Garbage>> {
    let mut remaining = VecDeque::new();
    for item in core.records.prefix(GARBAGE_PREFIX) {
        let (key, stored) = item.into_inner().map_err(core.read_error(&core.records))?;
        let (_, value) =
            crate::record::decode(&key, &stored).map_err(core.damage(&core.records))?;
        remaining.extend(garbage(&key, Some(value)));
    }
    Ok(remaining)
}

/// The next changes that clear garbage, and whether they are the last.
pub(crate) fn clear(core: &Core, garbage: Garbage) -> Result<(Vec<Op>, bool)> {
    let range = entry_key(garbage.id, 0)..entry_key(garbage.id, garbage.below);
    let mut ops = Vec::new();
    for item in core.entries.range(range).take(GARBAGE_CHUNK) {
        let key = item.key().map_err(core.read_error(&core.entries))?;
        ops.push(Op::Clear {
            key: Bytes::copy_from_slice(&key),
        });
    }
    let finished = ops.len() < GARBAGE_CHUNK;
    Ok((ops, finished))
}
