//! Contents in files, named by numbers.
//!
//! ```text
//! objects/RUN/HIGH/COUNT     all in hexadecimal; HIGH is COUNT without its last three digits
//! ```
//!
//! A file is in use if the table has a record that says so, written together with the record of the
//! object or part. What an earlier run of the server left without one was never acknowledged, and
//! is swept.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checksum::{Digests, Hasher};
use crate::keys::Id;
use crate::{Error, Result};

/// The directory of all contents. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<PathBuf>);

/// A file in the making. Dropped before [`Writer::finish`], it leaves nothing behind.
pub(crate) struct Writer {
    file: File,
    kept: Kept,
    hasher: Hasher,
}

/// A whole file that nothing refers to yet: dropped, it goes.
#[derive(Debug)]
pub(crate) struct Kept {
    id: Id,
    path: PathBuf,
    keep: bool,
}

impl Kept {
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Whether a write that refers to the file is on its way.
    pub(crate) fn set_keep(&mut self, keep: bool) {
        self.keep = keep;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.keep {
            // At worst it is swept by the next run of the server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Files {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let objects = dir.join("objects");
        create_dirs(&objects)?;
        Ok(Self(Arc::new(objects)))
    }

    fn path(&self, id: Id) -> PathBuf {
        let Id { run, count } = id;
        let mut path = self.0.join(format!("{run:x}"));
        path.push(format!("{:x}", count >> 12));
        path.push(format!("{count:x}"));
        path
    }

    /// Begins a file. Blocks.
    pub(crate) fn create(&self, id: Id, hasher: Hasher) -> Result<Writer> {
        let path = self.path(id);
        let parent = path.parent().unwrap_or(&self.0);
        let create = || {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
        };
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dirs(parent)?;
                create()
            }
            created => created,
        };
        let file = file.map_err(Error::io("create", &path))?;
        Ok(Writer {
            file,
            kept: Kept {
                id,
                path,
                keep: false,
            },
            hasher,
        })
    }

    /// Opens a file; `None` if there is none. Blocks.
    pub(crate) fn read(&self, id: Id) -> Result<Option<File>> {
        let path = self.path(id);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path)(error)),
        }
    }

    /// Removes files that nothing refers to any more. Blocks.
    pub(crate) fn remove(&self, ids: &[Id]) {
        for id in ids {
            let path = self.path(*id);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove a content");
            }
        }
    }

    /// Removes the files of runs before `run` that are not in use. Blocks.
    pub(crate) fn sweep(&self, run: u64, in_use: impl Fn(Id) -> Result<bool>) -> Result<usize> {
        let mut removed = 0;
        for (run, dir) in numbered(&self.0)?.into_iter().filter(|(of, _)| *of < run) {
            for (_, folder) in numbered(&dir)? {
                for (count, path) in numbered(&folder)? {
                    if !in_use(Id { run, count })? {
                        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                        removed += 1;
                    }
                }
                // Succeeds when nothing is left in it.
                let _ = fs::remove_dir(&folder);
            }
            let _ = fs::remove_dir(&dir);
        }
        Ok(removed)
    }
}

impl Writer {
    /// Appends. Blocks.
    pub(crate) fn write(&mut self, data: &[Bytes]) -> Result<()> {
        for chunk in data {
            self.hasher.update(chunk);
            self.file
                .write_all(chunk)
                .map_err(Error::io("write", &self.kept.path))?;
        }
        Ok(())
    }

    /// Resolves once the content is on disk under its name. Blocks.
    pub(crate) fn finish(self) -> Result<(Kept, Digests)> {
        let path = &self.kept.path;
        self.file.sync_all().map_err(Error::io("sync", path))?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
        Ok((self.kept, self.hasher.finish()))
    }
}

/// Reads up to `limit` bytes at `offset`. Blocks.
pub(crate) fn read_at(file: &File, offset: u64, limit: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; limit];
    let mut filled = 0;
    while filled < limit {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

/// Makes a directory and what leads to it, on disk.
fn create_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    create_dirs(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(parent),
        // Another upload was faster; its directory counts once it is on disk.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_dir(parent),
        Err(error) => Err(Error::io("create", dir)(error)),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

/// The entries of a directory whose names are numbers.
fn numbered(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| u64::from_str_radix(name, 16).ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    Ok(found)
}

/// Runs file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // A join error means that the runtime is shutting down.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Error::Stopping))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Algorithm;

    fn hasher() -> Hasher {
        Hasher::new(Algorithm::Crc32)
    }

    #[test]
    fn a_file_is_there_once_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let id = Id { run: 1, count: 5 };
        let mut writer = files.create(id, hasher()).unwrap();
        writer
            .write(&[Bytes::from("con"), Bytes::from("tent")])
            .unwrap();
        let (mut kept, digests) = writer.finish().unwrap();
        assert_eq!(digests.size, 7);
        kept.set_keep(true);
        drop(kept);
        let file = files.read(id).unwrap().unwrap();
        assert_eq!(read_at(&file, 3, 100).unwrap(), "tent");
        files.remove(&[id]);
        assert!(files.read(id).unwrap().is_none());
        // An open file can be read to its end.
        assert_eq!(read_at(&file, 0, 3).unwrap(), "con");
    }

    #[test]
    fn what_is_not_finished_or_not_kept_goes() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let id = |count| Id { run: 1, count };
        drop(files.create(id(1), hasher()).unwrap());
        drop(files.create(id(2), hasher()).unwrap().finish().unwrap());
        assert!(files.read(id(1)).unwrap().is_none());
        assert!(files.read(id(2)).unwrap().is_none());
    }

    #[test]
    fn the_sweep_takes_what_earlier_runs_left_and_nobody_uses() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let ids = [(1, 1), (1, 5000), (2, 1)].map(|(run, count)| Id { run, count });
        for id in ids {
            let (mut kept, _) = files.create(id, hasher()).unwrap().finish().unwrap();
            kept.set_keep(true);
        }
        let used = Id { run: 1, count: 1 };
        assert_eq!(files.sweep(2, |id| Ok(id == used)).unwrap(), 1);
        let there = ids.map(|id| files.read(id).unwrap().is_some());
        assert_eq!(there, [true, false, true]);
    }
}
