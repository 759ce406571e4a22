//! Files are flipped, cut and removed: opening or reading must name the file, or lose only what
//! was never acknowledged. It must never answer with something that was not written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clock::Clock;
use store::{Batch, Config, Error, Expect, Store};

fn config() -> Config {
    Config {
        memtable_bytes: 32 << 10,
        ..Config::default()
    }
}

/// What must be found in a store: records and log entries.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    records: BTreeMap<Bytes, Bytes>,
    entries: Vec<Bytes>,
}

/// Makes a store that has sorted tables, journals and a blob, and says what is in it.
async fn build(dir: &Path) -> Contents {
    let mut contents = Contents::default();
    let store = Store::open_with(dir, Clock::system(), config()).unwrap();
    let (table, log) = (store.table("t").unwrap(), store.log("l").unwrap());
    for n in 0..60u32 {
        let mut batch = Batch::new();
        for part in 0..10 {
            let key = format!("{n:04}/{part}");
            let value = Bytes::from(key.repeat(10));
            contents.records.insert(key.clone().into(), value.clone());
            batch = batch.put(key, value, Expect::Any);
        }
        table.write(batch).await.unwrap();
        let entry = Bytes::from(format!("entry {n} ").repeat(100));
        contents.entries.push(entry.clone());
        log.append("k", vec![entry]).await.unwrap();
    }
    store
        .blobs()
        .put("the content of a blob".into())
        .await
        .unwrap();
    contents
}

/// Everything in the store, or the first error met.
fn read(dir: &Path) -> Result<Contents, Error> {
    let store = Store::open_with(dir, Clock::system(), config())?;
    let mut contents = Contents::default();
    for record in store.table("t")?.scan("", None, usize::MAX)? {
        contents.records.insert(record.key, record.value);
    }
    let entries = store.log("l")?.read("k", 0, usize::MAX)?;
    contents.entries = entries.into_iter().map(|entry| entry.value).collect();
    Ok(contents)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The files of a store, without the zeroes that journals end with.
struct Snapshot {
    files: Vec<(PathBuf, Vec<u8>, u64)>,
    expected: Contents,
}

impl Snapshot {
    fn take(dir: &Path, expected: Contents) -> Self {
        let read = |path: PathBuf| {
            let mut content = fs::read(&path).unwrap();
            let len = content.len() as u64;
            let zeroes = content
                .rchunks(4096)
                .take_while(|chunk| chunk == &&[0; 4096][..chunk.len()]);
            content.truncate(content.len() - zeroes.map(<[u8]>::len).sum::<usize>());
            (path.strip_prefix(dir).unwrap().to_owned(), content, len)
        };
        Self {
            files: files(dir).into_iter().map(read).collect(),
            expected,
        }
    }

    fn restore(&self, to: &Path) {
        for (file, content, len) in &self.files {
            let target = to.join(file);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, content).unwrap();
            fs::File::options()
                .write(true)
                .open(&target)
                .unwrap()
                .set_len(*len)
                .unwrap();
        }
        for keyspace in ["0", "1", "2"] {
            fs::create_dir_all(to.join("db/keyspaces").join(keyspace).join("tables")).unwrap();
        }
    }

    /// The database's files: all that cannot be verified by itself.
    fn database(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let files = self
            .files
            .iter()
            .filter(|(file, ..)| file.starts_with("db"));
        files.map(|(file, content, _)| (file.as_path(), content.as_slice()))
    }

    /// Damages a copy of the store and checks the outcome; returns whether it was noticed.
    fn check(&self, file: &Path, what: &str, damage: impl FnOnce(&Path)) -> bool {
        let scratch = tempfile::tempdir().unwrap();
        self.restore(scratch.path());
        let target = scratch.path().join(file);
        damage(&target);
        let file = file.display();
        match read(scratch.path()) {
            Ok(contents) => {
                assert!(
                    contents == self.expected,
                    "{file} {what}: silently other contents"
                );
                false
            }
            Err(Error::Corrupt {
                file: named,
                reason,
            }) => {
                // The pointer to a version file and the version file vouch for each other.
                let blamed = named == target
                    || (target.ends_with("current") && named.parent() == target.parent())
                    || (what == "removed" && target.parent() == Some(&named));
                assert!(
                    blamed,
                    "{file} {what}: {} was blamed: {reason}",
                    named.display()
                );
                true
            }
            Err(Error::UnknownFormat { file: named, .. }) => {
                assert_eq!(named, target);
                true
            }
            Err(err) => panic!("{file} {what}: {err:?}"),
        }
    }
}

/// Positions to damage: all around the ends, some in between.
fn positions(len: usize) -> Vec<usize> {
    let step = (len / 8).max(1);
    let mut positions: Vec<_> = (0..len.min(4)).chain((0..len).step_by(step)).collect();
    positions.extend(len.saturating_sub(4)..len);
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[tokio::test]
async fn damage_to_any_file_is_named_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let expected = build(dir.path()).await;
    damage_each_file(&Snapshot::take(dir.path(), expected));
    // Opened once more, journals and tables have changed.
    let expected = read(dir.path()).unwrap();
    damage_each_file(&Snapshot::take(dir.path(), expected));
}

fn damage_each_file(snapshot: &Snapshot) {
    let mut tables = 0;
    for (file, content) in snapshot.database() {
        tables += u32::from(file.components().any(|part| part.as_os_str() == "tables"));
        for at in positions(content.len()) {
            snapshot.check(file, &format!("flipped at {at}"), |target| {
                let mut damaged = content.to_owned();
                damaged[at] ^= 0x41;
                fs::write(target, damaged).unwrap();
            });
            snapshot.check(file, &format!("cut at {at}"), |target| {
                fs::write(target, &content[..at]).unwrap();
            });
        }
    }
    assert!(tables >= 3, "the store under test has only {tables} tables");
}

#[tokio::test]
async fn removing_a_file_that_is_needed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let expected = build(dir.path()).await;
    let snapshot = Snapshot::take(dir.path(), expected);
    for (file, _) in snapshot.database() {
        let noticed = snapshot.check(file, "removed", |target| fs::remove_file(target).unwrap());
        // Version files that are not current any more are cleaned up behind.
        let needed = !file.ends_with("lock") && !is_old_version(&dir.path().join(file));
        assert_eq!(noticed, needed, "{}", file.display());
    }
}

fn is_old_version(path: &Path) -> bool {
    let current = fs::read(path.with_file_name("current")).unwrap_or_default();
    let Some(current) = current.first_chunk::<8>() else {
        return false;
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with('v')
        && name != "version"
        && name != format!("v{}", u64::from_le_bytes(*current))
}

#[tokio::test]
async fn a_large_store_is_checked_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path()).await;
    let lazy = Config {
        verify_at_open_bytes: 0,
        ..config()
    };
    for keyspace in ["1", "2"] {
        let folder = dir
            .path()
            .join("db/keyspaces")
            .join(keyspace)
            .join("tables");
        for path in files(&folder) {
            let content = fs::read(&path).unwrap();
            let mut damaged = content.clone();
            let middle = damaged.len() / 3;
            damaged[middle] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            let store = Store::open_with(dir.path(), Clock::system(), lazy.clone());
            let outcome = store.and_then(|store| {
                store.table("t")?.scan("", None, usize::MAX)?;
                store.log("l")?.read("k", 0, usize::MAX)?;
                store.verify()
            });
            assert!(
                matches!(&outcome, Err(Error::Corrupt { file, .. }) if *file == path),
                "{}: {outcome:?}",
                path.display()
            );
            fs::write(&path, content).unwrap();
        }
    }
}
