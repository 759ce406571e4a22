//! Objects as files of a directory: blocking, shared by L1 and a local L3.
//!
//! A file gets its name by a rename, so there is never half an object under a name. Whether the
//! rename waits for the disk is up to the caller: a cache can lose a file, L3 cannot.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clock::Timestamp;

use crate::{Error, Result};

const INCOMING: &str = "incoming";

#[derive(Debug)]
pub(crate) struct Dir {
    root: PathBuf,
}

/// A file that has its content, but not yet its name.
pub(crate) struct Staged {
    from: PathBuf,
    to: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// The last time it was written, or touched.
    pub(crate) modified: Timestamp,
}

impl Dir {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let incoming = root.join(INCOMING);
        fs::create_dir_all(&incoming).map_err(Error::io("create", &incoming))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    pub(crate) fn read(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        Ok(self.read_into(key, limit, &mut bytes)?.then_some(bytes))
    }

    /// Replaces `bytes` by the object's; false if there is no such object.
    pub(crate) fn read_into(&self, key: &str, limit: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        let path = self.path(key);
        bytes.clear();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(Error::io("open", &path)(err)),
        };
        let metadata = file.metadata().map_err(Error::io("read", &path))?;
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if !metadata.is_file() || len > limit {
            return Err(Error::corrupt(
                path.display().to_string(),
                format!("it is not a file of at most {limit} bytes"),
            ));
        }
        // One read call takes it all: `read_to_end` would need a second one to see the end.
        bytes.resize(len, 0);
        let mut filled = 0;
        while filled < len {
            match file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(Error::io("read", &path)(err)),
            }
        }
        bytes.truncate(filled);
        Ok(true)
    }

    /// Asks the kernel to read these objects ahead, so that they come from the disk in parallel.
    pub(crate) fn read_ahead<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            if let Ok(file) = File::open(self.path(key)) {
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
            }
        }
    }

    pub(crate) fn stat(&self, key: &str) -> Result<Option<Entry>> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(entry(key.to_owned(), &metadata))),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(Error::io("look at", &path)(err)),
        }
    }

    /// Makes the object look as if it had been written at `now`.
    pub(crate) fn touch(&self, key: &str, now: Timestamp) -> Result<()> {
        let path = self.path(key);
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_times(FileTimes::new().set_modified(system_time(now))))
            .map_err(Error::io("touch", &path))
    }

    /// Writes the content of a future object.
    pub(crate) fn stage(&self, key: &str, bytes: &[u8], now: Timestamp) -> Result<Staged> {
        let mut suffix = [0; 16];
        getrandom::fill(&mut suffix).map_err(Error::random)?;
        let from = self.root.join(INCOMING).join(hex::encode(suffix));
        let staged = Staged {
            to: self.path(key),
            from,
        };
        let write = || {
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .open(&staged.from)?;
            file.write_all(bytes)?;
            file.set_times(FileTimes::new().set_modified(system_time(now)))
        };
        write().map_err(|err| {
            let _ = fs::remove_file(&staged.from);
            Error::io("write", &staged.from)(err)
        })?;
        Ok(staged)
    }

    /// Gives staged objects their names, without waiting for the disk.
    pub(crate) fn name(&self, staged: &Staged) -> Result<()> {
        let mut renamed = fs::rename(&staged.from, &staged.to);
        // Directories are made when something first goes there. Several tries, because one that is
        // empty may be pruned in between.
        for _ in 0..8 {
            match &renamed {
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                _ => break,
            }
            let parent = staged.to.parent().unwrap_or(&self.root);
            renamed =
                fs::create_dir_all(parent).and_then(|()| fs::rename(&staged.from, &staged.to));
        }
        renamed.map_err(|err| {
            let _ = fs::remove_file(&staged.from);
            Error::io("name", &staged.to)(err)
        })
    }

    /// Writes one object without waiting for the disk.
    pub(crate) fn write(&self, key: &str, bytes: &[u8], now: Timestamp) -> Result<()> {
        let staged = self.stage(key, bytes, now)?;
        self.name(&staged)
    }

    /// Writes one object; it is on disk when this returns, with the directories that lead to it.
    pub(crate) fn write_durable(&self, key: &str, bytes: &[u8], now: Timestamp) -> Result<()> {
        let staged = self.stage(key, bytes, now)?;
        self.commit(&[staged])
    }

    /// Gives staged objects their names; all are on disk when this returns, with the directories
    /// that lead to them.
    ///
    /// Everything is written before the first fsync, which then takes the rest along. Not `syncfs`:
    /// that would wait for whatever else the machine is writing.
    pub(crate) fn commit(&self, staged: &[Staged]) -> Result<()> {
        for file in staged {
            if let Err(err) = File::open(&file.from).and_then(|file| file.sync_all()) {
                self.discard(staged);
                return Err(Error::io("sync", &file.from)(err));
            }
        }
        let mut dirs = BTreeSet::new();
        for file in staged {
            self.name(file)?;
            let up_to_root = file.to.ancestors().skip(1);
            dirs.extend(up_to_root.take_while(|dir| dir.starts_with(&self.root)));
        }
        for dir in dirs {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(Error::io("sync", dir))?;
        }
        Ok(())
    }

    pub(crate) fn discard(&self, staged: &[Staged]) {
        for staged in staged {
            let _ = fs::remove_file(&staged.from);
        }
    }

    /// True if there was something to remove.
    pub(crate) fn remove(&self, key: &str) -> Result<bool> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
            Err(err) => Err(Error::io("remove", &path)(err)),
        }
    }

    /// Waits until the removal of an object is on disk.
    pub(crate) fn sync_parent(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        match File::open(parent) {
            Ok(dir) => dir.sync_all().map_err(Error::io("sync", parent)),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            Err(err) => Err(Error::io("sync", parent)(err)),
        }
    }

    /// Removes directories that are empty, from that of `key` upwards.
    pub(crate) fn prune(&self, key: &str) {
        let mut key = Path::new(key);
        while let Some(parent) = key.parent().filter(|parent| *parent != Path::new("")) {
            if fs::remove_dir(self.root.join(parent)).is_err() {
                return;
            }
            key = parent;
        }
    }

    /// All objects whose keys begin with the directory `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut open = vec![prefix.trim_end_matches('/').to_owned()];
        while let Some(dir) = open.pop() {
            let path = self.root.join(&dir);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(err) if err.kind() == ErrorKind::NotFound => continue,
                Err(err) => return Err(Error::io("list", &path)(err)),
            };
            for item in entries {
                let item = item.map_err(Error::io("list", &path))?;
                // Only names that this store makes; a stranger's file is none of its objects.
                let Some(name) = item.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                let key = format!("{dir}/{name}");
                match item.metadata() {
                    Ok(metadata) if metadata.is_dir() => open.push(key),
                    Ok(metadata) if metadata.is_file() => found.push(entry(key, &metadata)),
                    Ok(_) => {}
                    Err(err) if err.kind() == ErrorKind::NotFound => {}
                    Err(err) => return Err(Error::io("list", &path)(err)),
                }
            }
        }
        Ok(found)
    }

    /// Removes what was staged before `before` and never named: its writer has died.
    pub(crate) fn clear_incoming(&self, before: Timestamp) -> Result<()> {
        for entry in self.list(INCOMING)? {
            if entry.modified < before {
                self.remove(&entry.key)?;
            }
        }
        Ok(())
    }
}

fn entry(key: String, metadata: &fs::Metadata) -> Entry {
    let since = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    Entry {
        key,
        bytes: metadata.len(),
        modified: Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}
