//! Reads the engine's journals before the engine does.
//!
//! The engine treats the first thing in a journal that it cannot parse as the torn end of the last
//! write, and cuts the file there. That is right after a crash and wrong for a damaged file, where
//! it would drop acknowledged writes without a word. So the journals are read here first, without
//! changing them. Every batch carries a [`CommitRecord`], numbered without gaps; together with the
//! witness they tell a torn end from a lost one.
//!
//! The format is that of fjall 3, which promises to keep it within the major version:
//! `1 count:u32 seqno:u64`, then per item `2 type:u8 compression:u8 keyspace:u64 key:u16 value:u32
//! stored:u32 KEY VALUE`, then `3 xxh3-of-items:u64 "FJL" 3`; little endian.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use crate::commit::{COMMIT_KEY, CommitRecord};
use crate::{Error, Result, record};

const TRAILER: &[u8; 4] = b"FJL\x03";
/// The engine hands out one sequence number per write and a few per table it makes, so a jump
/// between two batches is small. A damaged number is not.
const SEQNO_JUMP: u64 = 1 << 32;

/// What a journal holds, up to the first byte that is not part of a whole and lawful batch.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) first: Option<CommitRecord>,
    pub(crate) last: Option<CommitRecord>,
    last_seqno: u64,
    /// Where the last whole batch ends.
    pub(crate) end: u64,
    /// Why reading stopped there; `None` at the end of the file or where its zeroes begin.
    pub(crate) damage: Option<&'static str>,
}

/// Checks all journals in `db`, and cuts the torn end off the newest one.
///
/// Returns the number of the last commit in them, if they hold any.
pub(crate) fn check(db: &Path, acked: u64) -> Result<Option<u64>> {
    let journals = list(db)?;
    if journals.is_empty() {
        // The engine makes one with the database, and a new one before it removes the last.
        return Err(Error::corrupt(db, "it has no journal"));
    }
    let mut last: Option<(CommitRecord, u64)> = None;
    for (index, path) in journals.iter().enumerate() {
        let newest = index + 1 == journals.len();
        let file = File::open(path).map_err(Error::io("open", path))?;
        let len = file.metadata().map_err(Error::io("read", path))?.len();
        let scan = scan(&mut BufReader::with_capacity(1 << 16, file), len)
            .map_err(Error::io("read", path))?;
        if let (Some(first), Some((last, last_seqno))) = (&scan.first, &last)
            && (first.commit != last.commit + 1 || first.seqno_floor <= *last_seqno)
        {
            let reason = format!(
                "it begins with commit {}, but the journal before it ends with {}",
                first.commit, last.commit
            );
            return Err(Error::corrupt(path, reason));
        }
        if scan.first.is_none() && !newest {
            // The engine begins a new journal only when the one before is full.
            return Err(Error::corrupt(
                path,
                "it is empty, but followed by a newer journal",
            ));
        }
        if let Some(scanned) = scan.last {
            last = Some((scanned, scan.last_seqno));
        }
        let Some(damage) = scan.damage else { continue };
        let known = last.as_ref().map_or(0, |(last, _)| last.commit);
        let corrupt =
            |lost: &str| Error::corrupt(path, format!("{damage} at offset {}, {lost}", scan.end));
        if !newest {
            return Err(corrupt("followed by a newer journal"));
        }
        if last.is_some() && known < acked {
            return Err(corrupt(&format!("but commit {acked} was acknowledged")));
        }
        if later_batch_was_durable(path, scan.end, known)? {
            return Err(corrupt("followed by acknowledged commits"));
        }
        // What lies behind was never acknowledged: the process or the machine died writing it.
        tracing::warn!(
            journal = %path.display(), offset = scan.end, reason = damage,
            "cut off a write that was never finished"
        );
        truncate(path, scan.end)?;
    }
    let last = last.map(|(last, _)| last.commit);
    match (last, journals.last()) {
        (Some(commit), Some(newest)) if commit < acked => Err(Error::corrupt(
            newest,
            format!("it ends with commit {commit}, but commit {acked} was acknowledged"),
        )),
        _ => Ok(last),
    }
}

/// The newest journal, which is to blame when the store as a whole lacks its last commits.
pub(crate) fn newest(db: &Path) -> Result<PathBuf> {
    Ok(list(db)?.pop().unwrap_or_else(|| db.join("0.jnl")))
}

fn list(db: &Path) -> Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(db).map_err(Error::io("list", db))? {
        let path = entry.map_err(Error::io("list", db))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("jnl"))
        {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let number =
                number.ok_or_else(|| Error::corrupt(&path, "its name is not a journal's"))?;
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn truncate(path: &Path, len: u64) -> Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(Error::io("open", path))?;
    file.set_len(len)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("truncate", path))
}

/// Whether a batch beyond `from` was written after commit `known + 1` had been acknowledged.
///
/// This catches damage in the middle of a journal when the witness is behind, as it may be after a
/// power failure.
fn later_batch_was_durable(path: &Path, from: u64, known: u64) -> Result<bool> {
    let stored = fs::read(path).map_err(Error::io("read", path))?;
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let mut rest = stored.get(from..).unwrap_or_default();
    while let Some((_, next)) = rest.split_first() {
        rest = next;
        if rest.first() != Some(&1) {
            continue;
        }
        let mut input = Input {
            reader: &mut &*rest,
            left: rest.len() as u64,
        };
        if let Ok(Ok(Some((commit, _)))) = input.batch()
            && commit.durable > known
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads batches until the first byte that is not one.
pub(crate) fn scan(reader: &mut impl Read, len: u64) -> std::io::Result<Scan> {
    let mut scan = Scan::default();
    let mut input = Input { reader, left: len };
    loop {
        let (commit, seqno) = match input.batch()? {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(scan),
            Err(damage) => {
                scan.damage = Some(damage);
                return Ok(scan);
            }
        };
        let lawful = seqno >= commit.seqno_floor
            && seqno - commit.seqno_floor < SEQNO_JUMP
            && scan.last.as_ref().is_none_or(|last| {
                commit.commit == last.commit + 1 && commit.seqno_floor > scan.last_seqno
            });
        if !lawful {
            scan.damage = Some("a batch out of sequence");
            return Ok(scan);
        }
        scan.first.get_or_insert_with(|| commit.clone());
        scan.last = Some(commit);
        scan.last_seqno = seqno;
        scan.end = len - input.left;
    }
}

/// A reader that knows how much is left, so that no length field makes it allocate more.
struct Input<'a, R> {
    reader: &'a mut R,
    left: u64,
}

type Parsed<T> = std::io::Result<std::result::Result<T, &'static str>>;

/// Ends the enclosing function with the damage found.
macro_rules! parsed {
    ($step:expr) => {
        match $step? {
            Ok(value) => value,
            Err(damage) => return Ok(Err(damage)),
        }
    };
}

impl<R: Read> Input<'_, R> {
    /// The next batch's commit record and sequence number; `None` where nothing was ever written.
    fn batch(&mut self) -> Parsed<Option<(CommitRecord, u64)>> {
        if self.left == 0 {
            return Ok(Ok(None));
        }
        match parsed!(self.array::<1>()) {
            // The engine extends a new journal with zeroes.
            [0] => return Ok(Ok(None)),
            [1] => {}
            _ => return Ok(Err("an unknown entry")),
        }
        let count = u32::from_le_bytes(parsed!(self.array()));
        let seqno = u64::from_le_bytes(parsed!(self.array()));
        let mut hasher = Xxh3Default::new();
        let mut commit = None;
        for _ in 0..count {
            let [tag] = parsed!(self.array::<1>());
            if tag != 2 {
                return Ok(Err("a batch that lacks an item"));
            }
            if let Some(found) = parsed!(self.item(&mut hasher)) {
                commit = Some(found);
            }
        }
        if parsed!(self.array::<1>()) != [3] {
            return Ok(Err("a batch without an end"));
        }
        let expected = u64::from_le_bytes(parsed!(self.array()));
        if parsed!(self.array::<4>()) != *TRAILER {
            return Ok(Err("a batch whose end is cut short"));
        }
        if hasher.digest() != expected {
            return Ok(Err("a batch whose checksum does not match"));
        }
        Ok(commit
            .map(|commit| Some((commit, seqno)))
            .ok_or("a batch without a commit record"))
    }

    /// Reads an item after its tag, and the commit record if it is one.
    fn item(&mut self, hasher: &mut Xxh3Default) -> Parsed<Option<CommitRecord>> {
        let header = parsed!(self.array::<20>());
        hasher.update(&[2]);
        hasher.update(&header);
        let [_, compression, .., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = header;
        let key_len = u16::from_le_bytes([k0, k1]);
        let value_len = u32::from_le_bytes([v0, v1, v2, v3]);
        let stored_len = u32::from_le_bytes([s0, s1, s2, s3]);
        if compression != 0 || value_len != stored_len {
            return Ok(Err("an item of an unknown compression"));
        }
        let key = parsed!(self.bytes(u64::from(key_len)));
        let value = parsed!(self.bytes(u64::from(stored_len)));
        hasher.update(&key);
        hasher.update(&value);
        if key != COMMIT_KEY {
            return Ok(Ok(None));
        }
        let decoded = record::decode(&key, &value).ok();
        let decoded = decoded.and_then(|(_, body)| CommitRecord::decode(body));
        Ok(decoded.map(Some).ok_or("a damaged commit record"))
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut array = [0; N];
        if self.left < N as u64 {
            return Ok(Err("a batch cut short"));
        }
        self.reader.read_exact(&mut array)?;
        self.left -= N as u64;
        Ok(Ok(array))
    }

    fn bytes(&mut self, len: u64) -> Parsed<Vec<u8>> {
        if self.left < len {
            return Ok(Err("a batch cut short"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        self.reader.by_ref().take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= len;
        Ok(Ok(bytes))
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;
    use crate::record::Revision;

    fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut item = vec![2, 0, 0];
        item.extend(1u64.to_le_bytes());
        item.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        item.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        item.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        item.extend(key);
        item.extend(value);
        item
    }

    fn batch(commit: u64, seqno: u64) -> Vec<u8> {
        let record = CommitRecord {
            commit,
            durable: commit - 1,
            log_ids: 0,
            seqno_floor: seqno,
        };
        let stored = record::encode(&COMMIT_KEY, Revision(commit), &record.encode());
        let items = [item(b"key", b"value"), item(&COMMIT_KEY, &stored)].concat();
        let mut batch = vec![1];
        batch.extend(2u32.to_le_bytes());
        batch.extend(seqno.to_le_bytes());
        batch.extend(&items);
        batch.push(3);
        batch.extend(xxh3_64(&items).to_le_bytes());
        batch.extend(TRAILER);
        batch
    }

    fn scan_bytes(bytes: &[u8]) -> Scan {
        scan(&mut &*bytes, bytes.len() as u64).unwrap()
    }

    #[test]
    fn whole_batches_are_counted_and_zeroes_end_them() {
        let mut journal = [batch(1, 10), batch(2, 11)].concat();
        let len = journal.len() as u64;
        journal.extend([0; 100]);
        let scan = scan_bytes(&journal);
        assert_eq!(scan.damage, None);
        assert_eq!(
            (
                scan.end,
                scan.first.unwrap().commit,
                scan.last.unwrap().commit
            ),
            (len, 1, 2)
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let journal = [batch(1, 10), batch(2, 11), batch(3, 12)].concat();
        for bit in 0..journal.len() * 8 {
            let mut damaged = journal.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let scan = scan_bytes(&damaged);
            let last = scan.last.map_or(0, |last| last.commit);
            // Flips upwards in the last sequence number change nothing: it only has to be larger
            // than the ones before.
            let upwards = last == 3 && scan.last_seqno > 12 && scan.last_seqno < 12 + SEQNO_JUMP;
            assert!(last < 3 || upwards, "bit {bit}");
        }
        for len in 0..journal.len() {
            assert!(
                scan_bytes(&journal[..len])
                    .last
                    .map_or(0, |last| last.commit)
                    < 3
            );
        }
    }

    #[test]
    fn a_missing_batch_is_noticed() {
        let scan = scan_bytes(&[batch(1, 10), batch(3, 12)].concat());
        assert_eq!(scan.damage, Some("a batch out of sequence"));
        assert_eq!(scan.last.unwrap().commit, 1);
    }

    #[test]
    fn damage_before_an_acknowledged_commit_is_found_without_the_witness() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        let mut journal = [batch(1, 10), batch(2, 11), batch(3, 12)].concat();
        let at = batch(1, 10).len() + 40;
        journal[at] ^= 1;
        fs::write(&path, &journal).unwrap();
        let err = check(dir.path(), 0).unwrap_err();
        assert!(
            matches!(&err, Error::Corrupt { file, .. } if *file == path),
            "{err}"
        );
        assert_eq!(
            fs::read(&path).unwrap(),
            journal,
            "a damaged journal is left as it is"
        );
    }

    #[test]
    fn a_torn_end_is_cut_off_if_it_was_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        let whole = batch(1, 10);
        let mut journal = [whole.clone(), batch(2, 11)].concat();
        journal.truncate(journal.len() - 3);
        fs::write(&path, &journal).unwrap();
        assert!(
            check(dir.path(), 2)
                .unwrap_err()
                .to_string()
                .contains("commit 2")
        );
        assert_eq!(check(dir.path(), 1).unwrap(), Some(1));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
