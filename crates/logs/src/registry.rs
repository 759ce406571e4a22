//! The groups and streams that exist.
//!
//! All changes are made here, under one lock, and queued for the store in that order. So a group
//! that the invoker has just brought into being without waiting exists for a client at once, and
//! two who create the same stream agree on which it is. What is not in memory is read from disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clock::{Clock, Timestamp};
use store::{Appending, Batch, Expect, Log, Store, Table, Writing};
use uuid::Uuid;

use crate::Error;
use crate::event::{Event, OVERHEAD_BYTES};
use crate::record::{self, GroupRecord, StreamRecord};

/// What has not been used for this long is dropped from memory. By far longer than a write can be
/// under way.
const IDLE: Duration = Duration::from_secs(120);
/// Streams that are kept in memory although nobody uses them. Each environment of a function has one
/// of its own, so there are always more of them.
const KNOWN_STREAMS: usize = 2048;

/// Where the store keeps all of it.
///
/// One table, so that what belongs together is written together: groups under `g`, streams under
/// `s`, and under `d` the ids of deleted groups and streams whose remains are to be cleared.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    table: Table,
    pub(crate) events: Log,
}

#[derive(Debug)]
pub(crate) struct Registry {
    tables: Tables,
    clock: Clock,
    /// By scope and name. `None`: known not to exist, whatever the disk still says.
    groups: HashMap<String, Option<Group>>,
    /// Group keys and names of the streams in memory, those that came first in front. Some may have
    /// gone since.
    arrivals: VecDeque<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) record: GroupRecord,
    streams: HashMap<String, Option<Stream>>,
    used: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) record: StreamRecord,
    /// The first event and the latest, as far as they matter.
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<Last>,
    used: Instant,
    /// Used since it came, or since it was last kept for that reason.
    wanted: bool,
}

/// A stream in a list.
#[derive(Debug)]
pub(crate) enum Listed {
    OnDisk(StreamRecord),
    Known(Stream),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) timestamp: i64,
    pub(crate) ingested: i64,
    high: i64,
    pub(crate) total_bytes: u64,
    disordered: bool,
}

impl Tables {
    pub(crate) fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self {
            table: store.table("logs")?,
            events: store.log("logs-events")?,
        })
    }

    /// The names of a group's streams on disk, with their records.
    pub(crate) fn streams(
        &self,
        group: Uuid,
        prefix: &str,
    ) -> Result<Vec<(String, StreamRecord)>, Error> {
        let records = self
            .table
            .scan(stream_key(group, prefix), None, usize::MAX)?;
        let name_at = stream_key(group, "").len();
        records
            .iter()
            .map(|found| {
                let name = String::from_utf8_lossy(&found.key[name_at..]).into_owned();
                Ok((name, record::decode("stream", &found.value)?))
            })
            .collect()
    }

    /// Up to `limit` records of a group's streams on disk, by name, that come behind the key `after`;
    /// and the key of the last, if there may be more.
    pub(crate) fn streams_after(
        &self,
        group: Uuid,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<StreamRecord>, Option<Bytes>), Error> {
        let found = self.table.scan(stream_key(group, ""), after, limit)?;
        let last = found.last().filter(|_| found.len() == limit);
        let last = last.map(|last| last.key.clone());
        let decode = |one: &store::Record| record::decode("stream", &one.value);
        let records = found.iter().map(decode).collect::<Result<_, Error>>()?;
        Ok((records, last))
    }

    /// Whether what is known of a stream can be read again: nothing of it is being written.
    fn has_all_of(&self, group: Uuid, name: &str, stream: &Stream) -> Result<bool, Error> {
        let Some(stored) = self.table.get(stream_key(group, name))? else {
            return Ok(false);
        };
        let record: StreamRecord = record::decode("stream", &stored.value)?;
        Ok(record.id == stream.record.id && self.events.is_at_rest(record.id))
    }

    /// Groups whose keys begin with `prefix`, with their whole keys.
    pub(crate) fn groups(&self, prefix: &str) -> Result<Vec<(String, GroupRecord)>, Error> {
        let records = self
            .table
            .scan(group_record_key(prefix), None, usize::MAX)?;
        records
            .iter()
            .map(|found| {
                let key = String::from_utf8_lossy(&found.key[1..]).into_owned();
                Ok((key, record::decode("group", &found.value)?))
            })
            .collect()
    }

    /// Clears what deleted groups and streams have left behind.
    pub(crate) async fn clear_doomed(&self) -> Result<(), Error> {
        for doomed in self.table.scan("d", None, usize::MAX)? {
            let (Some(kind), Some(Ok(id))) =
                (doomed.key.get(1), doomed.key.get(2..).map(Uuid::from_slice))
            else {
                continue;
            };
            if *kind == b'g' {
                for (name, stream) in self.streams(id, "")? {
                    self.events.delete(stream.id).await?;
                    self.table
                        .delete(stream_key(id, &name), Expect::Any)
                        .await?;
                }
            } else {
                self.events.delete(id).await?;
            }
            self.table.delete(&doomed.key, Expect::Any).await?;
        }
        Ok(())
    }
}

impl Registry {
    pub(crate) fn new(tables: Tables, clock: Clock) -> Self {
        Self {
            tables,
            clock,
            groups: HashMap::new(),
            arrivals: VecDeque::new(),
        }
    }

    /// The group with this key, if it exists.
    pub(crate) fn group(&mut self, key: &str) -> Result<Option<&mut Group>, Error> {
        if !self.groups.contains_key(key) {
            let Some(found) = self.tables.table.get(group_record_key(key))? else {
                return Ok(None);
            };
            let record = record::decode("group", &found.value)?;
            self.groups.insert(key.to_owned(), Some(Group::new(record)));
        }
        let Some(group) = self.groups.get_mut(key).and_then(Option::as_mut) else {
            return Ok(None);
        };
        group.used = Instant::now();
        Ok(Some(group))
    }

    /// Begins to create a group.
    pub(crate) fn create_group(
        &mut self,
        key: &str,
        record: GroupRecord,
    ) -> Result<Writing, Error> {
        if self.group(key)?.is_some() {
            return Err(Error::GroupExists);
        }
        let writing = self.tables.table.begin_write(put_group(key, &record)?)?;
        self.groups.insert(key.to_owned(), Some(Group::new(record)));
        Ok(writing)
    }

    /// Begins to change a group's record.
    pub(crate) fn update_group(
        &mut self,
        key: &str,
        change: impl FnOnce(&mut GroupRecord),
    ) -> Result<Writing, Error> {
        let table = self.tables.table.clone();
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        let mut record = group.record.clone();
        change(&mut record);
        let writing = table.begin_write(put_group(key, &record)?)?;
        group.record = record;
        Ok(writing)
    }

    /// Begins to delete a group; once that is done, the caller calls [`Registry::forget_group`].
    pub(crate) fn delete_group(&mut self, key: &str) -> Result<Writing, Error> {
        let table = self.tables.table.clone();
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        if group.record.deletion_protection {
            return Err(Error::Validation(
                "Log group deletion protection is enabled. Disable it to delete the log group.",
            ));
        }
        let doomed = doomed_key(b'g', group.record.id);
        let batch = Batch::new().delete(group_record_key(key), Expect::Any).put(
            doomed,
            Bytes::new(),
            Expect::Any,
        );
        let writing = table.begin_write(batch)?;
        self.groups.insert(key.to_owned(), None);
        Ok(writing)
    }

    /// Lets the disk speak for a deleted group again.
    pub(crate) fn forget_group(&mut self, key: &str) {
        if self.groups.get(key).is_some_and(Option::is_none) {
            self.groups.remove(key);
        }
    }

    /// The stream with this name in this group. The group must exist.
    pub(crate) fn stream(&mut self, key: &str, name: &str) -> Result<Option<&mut Stream>, Error> {
        let tables = self.tables.clone();
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        if !group.streams.contains_key(name) {
            let stored = tables.table.get(stream_key(group.record.id, name))?;
            let Some(stored) = stored else {
                return Ok(None);
            };
            let stream = Stream::load(&tables.events, record::decode("stream", &stored.value)?)?;
            self.know(key, name, stream)?;
        }
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        let Some(stream) = group.streams.get_mut(name).and_then(Option::as_mut) else {
            return Ok(None);
        };
        stream.used = Instant::now();
        stream.wanted = true;
        Ok(Some(stream))
    }

    /// Takes a stream into memory, and lets others go for it.
    fn know(&mut self, key: &str, name: &str, stream: Stream) -> Result<(), Error> {
        self.make_room();
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        group.streams.insert(name.to_owned(), Some(stream));
        self.arrivals.push_back((key.to_owned(), name.to_owned()));
        Ok(())
    }

    /// Two may go for each that comes, so that a surplus of streams that were in use shrinks later.
    fn make_room(&mut self) {
        for _ in 0..2 {
            if self.arrivals.len() < KNOWN_STREAMS {
                break;
            }
            let Some((key, name)) = self.arrivals.pop_front() else {
                break;
            };
            let Some(Some(group)) = self.groups.get_mut(&key) else {
                continue;
            };
            let Some(Some(stream)) = group.streams.get_mut(&name) else {
                continue;
            };
            let was_wanted = std::mem::take(&mut stream.wanted);
            // A disk that cannot be read is not the fault of the stream that comes.
            let may_go = !was_wanted
                && self
                    .tables
                    .has_all_of(group.record.id, &name, stream)
                    .unwrap_or(false);
            if may_go {
                group.streams.remove(&name);
            } else {
                self.arrivals.push_back((key, name));
            }
        }
    }

    /// How many streams are in memory.
    #[cfg(test)]
    pub(crate) fn known_streams(&self) -> usize {
        let groups = self.groups.values().flatten();
        groups.map(|group| group.streams.len()).sum()
    }

    /// Begins to create a stream.
    pub(crate) fn create_stream(&mut self, key: &str, name: &str) -> Result<Writing, Error> {
        if self.stream(key, name)?.is_some() {
            return Err(Error::StreamExists);
        }
        let batch = self.new_stream(key, name)?;
        Ok(self.tables.table.begin_write(batch)?)
    }

    fn new_stream(&mut self, key: &str, name: &str) -> Result<Batch, Error> {
        let record = StreamRecord::new(self.clock.now());
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        let stored = record::encode(&record)?;
        let batch = Batch::new().put(stream_key(group.record.id, name), stored, Expect::Any);
        self.know(key, name, Stream::new(record))?;
        Ok(batch)
    }

    /// Begins to delete a stream; once that is done, the caller calls [`Registry::forget_stream`].
    pub(crate) fn delete_stream(&mut self, key: &str, name: &str) -> Result<Writing, Error> {
        let stream = self
            .stream(key, name)?
            .ok_or(Error::StreamNotFound)?
            .record
            .id;
        let table = self.tables.table.clone();
        let group = self.group(key)?.ok_or(Error::GroupNotFound)?;
        let batch = Batch::new()
            .delete(stream_key(group.record.id, name), Expect::Any)
            .put(doomed_key(b's', stream), Bytes::new(), Expect::Any);
        let writing = table.begin_write(batch)?;
        group.streams.insert(name.to_owned(), None);
        Ok(writing)
    }

    /// Lets the disk speak for a deleted stream again.
    pub(crate) fn forget_stream(&mut self, key: &str, name: &str) {
        if let Some(Some(group)) = self.groups.get_mut(key)
            && group.streams.get(name).is_some_and(Option::is_none)
        {
            group.streams.remove(name);
        }
    }

    /// Makes sure that group and stream exist, without waiting for the disk.
    pub(crate) fn ensure_stream(&mut self, key: &str, name: &str) -> Result<(), Error> {
        if self.group(key)?.is_none() {
            let record = GroupRecord::new(self.clock.now());
            self.tables.table.write_relaxed(put_group(key, &record)?)?;
            self.groups.insert(key.to_owned(), Some(Group::new(record)));
        }
        if self.stream(key, name)?.is_none() {
            let batch = self.new_stream(key, name)?;
            self.tables.table.write_relaxed(batch)?;
        }
        Ok(())
    }

    /// Appends events that are on disk once the returned append is finished.
    pub(crate) fn append(
        &mut self,
        key: &str,
        name: &str,
        events: &[(i64, Bytes)],
    ) -> Result<Appending, Error> {
        let (log, now) = (self.tables.events.clone(), self.clock.now());
        let stream = self.stream(key, name)?.ok_or(Error::StreamNotFound)?;
        let (values, first, last) = stream.prepare(now, events);
        let appending = log.begin_append(stream.record.id, &values)?;
        (stream.first, stream.last) = (first, last);
        Ok(appending)
    }

    /// Appends events without waiting for the disk.
    pub(crate) fn append_relaxed(
        &mut self,
        key: &str,
        name: &str,
        events: &[(i64, Bytes)],
    ) -> Result<(), Error> {
        let (log, now) = (self.tables.events.clone(), self.clock.now());
        let stream = self.stream(key, name)?.ok_or(Error::StreamNotFound)?;
        let (values, first, last) = stream.prepare(now, events);
        log.append_relaxed(stream.record.id, &values)?;
        (stream.first, stream.last) = (first, last);
        Ok(())
    }

    /// Corrects groups read from disk by what is known here. Keys begin with `prefix`.
    pub(crate) fn overlay_groups(
        &self,
        prefix: &str,
        found: Vec<(String, GroupRecord)>,
    ) -> BTreeMap<String, GroupRecord> {
        let mut groups: BTreeMap<_, _> = found.into_iter().collect();
        for (key, group) in self
            .groups
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
        {
            match group {
                Some(group) => groups.insert(key.clone(), group.record.clone()),
                None => groups.remove(key),
            };
        }
        groups
    }

    /// Corrects a group's streams read from disk by what is known here.
    pub(crate) fn overlay_streams(
        &self,
        key: &str,
        prefix: &str,
        found: Vec<(String, StreamRecord)>,
    ) -> BTreeMap<String, Listed> {
        let mut streams: BTreeMap<_, _> = found
            .into_iter()
            .map(|(name, record)| (name, Listed::OnDisk(record)))
            .collect();
        let Some(Some(group)) = self.groups.get(key) else {
            return streams;
        };
        for (name, stream) in group
            .streams
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
        {
            match stream {
                Some(stream) => streams.insert(name.clone(), Listed::Known(stream.clone())),
                None => streams.remove(name),
            };
        }
        streams
    }

    /// Drops from memory what has not been used for a while.
    pub(crate) fn forget_idle(&mut self) {
        for group in self.groups.values_mut().flatten() {
            group.streams.retain(|_, stream| {
                stream
                    .as_ref()
                    .is_none_or(|stream| stream.used.elapsed() < IDLE)
            });
        }
        self.groups.retain(|_, group| {
            group
                .as_ref()
                .is_none_or(|group| !group.streams.is_empty() || group.used.elapsed() < IDLE)
        });
        let groups = &self.groups;
        self.arrivals.retain(|(key, name)| {
            let group = groups.get(key).and_then(Option::as_ref);
            group.is_some_and(|group| matches!(group.streams.get(name), Some(Some(_))))
        });
        self.arrivals.shrink_to(KNOWN_STREAMS);
    }
}

impl Group {
    fn new(record: GroupRecord) -> Self {
        Self {
            record,
            streams: HashMap::new(),
            used: Instant::now(),
        }
    }
}

impl Stream {
    fn new(record: StreamRecord) -> Self {
        Self {
            record,
            first: None,
            last: None,
            used: Instant::now(),
            wanted: false,
        }
    }

    fn load(events: &Log, record: StreamRecord) -> Result<Self, Error> {
        let mut stream = Self::new(record);
        let Some((first, end)) = events.bounds(stream.record.id)? else {
            return Ok(stream);
        };
        if let Some(entry) = events.read(stream.record.id, first, 1)?.first() {
            stream.first = Some(Event::decode(entry)?.timestamp);
        }
        if let Some(entry) = events.read_back(stream.record.id, end, 1)?.first() {
            stream.last = Some(Last::of(&Event::decode(entry)?));
        }
        Ok(stream)
    }

    /// What to store for new events, and what the stream is like behind them.
    fn prepare(
        &self,
        now: Timestamp,
        events: &[(i64, Bytes)],
    ) -> (Vec<Bytes>, Option<i64>, Option<Last>) {
        let mut last = self.last;
        let encode = |(timestamp, message): &(i64, Bytes)| {
            let event = Event {
                sequence: 0,
                timestamp: *timestamp,
                ingested: now.as_millis(),
                high: last.map_or(*timestamp, |last| last.high.max(*timestamp)),
                total_bytes: last.map_or(0, |last| last.total_bytes)
                    + (message.len() + OVERHEAD_BYTES) as u64,
                disordered: last.is_some_and(|last| last.disordered || *timestamp < last.high),
                message: message.clone(),
            };
            last = Some(Last::of(&event));
            event.encode()
        };
        let values = events.iter().map(encode).collect();
        let first = self
            .first
            .or(events.first().map(|(timestamp, _)| *timestamp));
        (values, first, last)
    }
}

impl Listed {
    pub(crate) fn record(&self) -> &StreamRecord {
        match self {
            Self::OnDisk(record) => record,
            Self::Known(stream) => &stream.record,
        }
    }

    /// With the stream's events looked up, on disk if need be.
    pub(crate) fn load(self, events: &Log) -> Result<Stream, Error> {
        match self {
            Self::OnDisk(record) => Stream::load(events, record),
            Self::Known(stream) => Ok(stream),
        }
    }
}

impl Last {
    fn of(event: &Event) -> Self {
        Self {
            timestamp: event.timestamp,
            ingested: event.ingested,
            high: event.high,
            total_bytes: event.total_bytes,
            disordered: event.disordered,
        }
    }
}

/// The key of a group: its scope and its name. Group names cannot hold a zero byte.
pub(crate) fn group_key(scope: &str, name: &str) -> String {
    format!("{scope}\0{name}")
}

fn group_record_key(key: &str) -> String {
    format!("g{key}")
}

fn put_group(key: &str, record: &GroupRecord) -> Result<Batch, Error> {
    Ok(Batch::new().put(group_record_key(key), record::encode(record)?, Expect::Any))
}

fn stream_key(group: Uuid, name: &str) -> Vec<u8> {
    [b"s", group.as_bytes().as_slice(), name.as_bytes()].concat()
}

fn doomed_key(kind: u8, id: Uuid) -> Vec<u8> {
    [&[b'd', kind], id.as_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Logs;

    fn ingest(logs: &Logs, stream: &str) {
        let events = vec![(Timestamp::from_millis(1_000), "line".to_owned())];
        logs.ingest("000000000000", "us-east-1", "g", stream, events);
    }

    #[tokio::test]
    async fn memory_does_not_grow_with_the_streams_that_ever_were() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let logs = Logs::open(store, clock).unwrap();
        let key = group_key("000000000000/us-east-1", "g");
        ingest(&logs, "old");
        let first = logs
            .registry()
            .stream(&key, "old")
            .unwrap()
            .unwrap()
            .clone();

        let mut most = 0;
        for round in 0..8 {
            for n in 0..KNOWN_STREAMS / 2 {
                ingest(&logs, &format!("{round}-{n}"));
                ingest(&logs, "busy");
            }
            // One that is on disk shows that all before it are.
            let written = logs.registry().create_stream(&key, &format!("{round}"));
            written.unwrap().finish().await.unwrap();
            most = most.max(logs.registry().known_streams());
        }
        assert!(
            most < 2 * KNOWN_STREAMS,
            "{most} of {} streams",
            4 * KNOWN_STREAMS
        );

        {
            let mut registry = logs.registry();
            let Some(Some(group)) = registry.groups.get(&key) else {
                panic!("the group is in use");
            };
            assert!(group.streams.contains_key("busy"), "what is in use stays");
            assert!(!group.streams.contains_key("old"));
            assert!(registry.arrivals.len() < 2 * KNOWN_STREAMS);
            let again = registry.stream(&key, "old").unwrap().unwrap().clone();
            assert_eq!(again.record.id, first.record.id);
        }
        ingest(&logs, "old");
        let last = logs.registry().stream(&key, "old").unwrap().unwrap().last;
        let bytes = |last: Option<Last>| last.unwrap().total_bytes;
        assert_eq!(
            bytes(last),
            2 * bytes(first.last),
            "it goes on where it was"
        );

        logs.sweep().await.unwrap();
        let events = 2 + 2 * 4 * KNOWN_STREAMS;
        let all = events as u64 * bytes(first.last);
        assert_eq!(logs.size(&key), all, "of all streams");
    }

    #[tokio::test]
    async fn what_is_not_on_disk_stays_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let logs = Logs::open(store, clock).unwrap();
        let key = group_key("000000000000/us-east-1", "g");
        ingest(&logs, "s");
        let (tables, group, stream, appending) = {
            let mut registry = logs.registry();
            let stream = registry.stream(&key, "s").unwrap().unwrap().clone();
            let group = registry.group(&key).unwrap().unwrap().record.id;
            let tables = registry.tables.clone();
            let appending = registry
                .append(&key, "s", &[(1, Bytes::from("x"))])
                .unwrap();
            (tables, group, stream, appending)
        };
        appending.finish().await.unwrap();
        assert!(tables.has_all_of(group, "s", &stream).unwrap());
        let other = Stream::new(StreamRecord::new(Timestamp::from_millis(1_000)));
        assert!(
            !tables.has_all_of(group, "s", &other).unwrap(),
            "of a stream that was deleted"
        );
        assert!(!tables.has_all_of(group, "t", &other).unwrap());
    }
}
