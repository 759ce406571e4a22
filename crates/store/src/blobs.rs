//! Content-addressed blobs: files named by the SHA-256 of what they hold.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::layout::sync_dir;
use crate::{Error, Result};

/// The SHA-256 of a blob, which is its name. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-256 digest: {text:?}")]
pub struct ParseDigestError {
    text: String,
}

impl Digest {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(ParseDigestError {
                text: text.to_owned(),
            }),
        }
    }
}

/// The blobs of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    incoming: PathBuf,
    /// Numbers the files being written; leftovers of earlier runs are removed at open.
    next: AtomicU64,
}

impl Blobs {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let incoming = dir.join("incoming");
        fs::create_dir_all(&incoming).map_err(Error::io("create", &incoming))?;
        for entry in fs::read_dir(&incoming).map_err(Error::io("list", &incoming))? {
            let path = entry.map_err(Error::io("list", &incoming))?.path();
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        let inner = Inner {
            dir: dir.to_owned(),
            incoming,
            next: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Begins a new blob.
    pub async fn writer(&self) -> Result<BlobWriter> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let path = self.0.incoming.join(number.to_string());
        let partial = blocking(move || {
            let file = File::create_new(&path).map_err(Error::io("create", &path))?;
            Ok(Partial {
                file,
                path,
                hasher: Sha256::new(),
                len: 0,
                moved: false,
            })
        })
        .await?;
        Ok(BlobWriter {
            blobs: self.clone(),
            partial: Some(partial),
        })
    }

    /// Stores bytes that are in memory anyway.
    pub async fn put(&self, content: Bytes) -> Result<Digest> {
        let mut writer = self.writer().await?;
        writer.write(content).await?;
        writer.finish().await
    }

    /// Where a blob is, or would be. The file must not be changed.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, rest) = name.split_at(2);
        self.0.dir.join(folder).join(rest)
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Opens a blob for reading, without verifying its content.
    pub fn open_file(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|err| missing(digest, &path, err))
    }

    /// Reads a whole blob and verifies it. Meant for small ones.
    pub async fn read(&self, digest: &Digest) -> Result<Bytes> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || {
            let content = fs::read(&path).map_err(|err| missing(&digest, &path, err))?;
            check(&path, &digest, Sha256::digest(&content).into())?;
            Ok(content.into())
        })
        .await
    }

    /// Verifies that a blob holds what its name says.
    pub async fn verify(&self, digest: &Digest) -> Result<()> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || {
            let mut file = File::open(&path).map_err(|err| missing(&digest, &path, err))?;
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer).map_err(Error::io("read", &path))? {
                    0 => return check(&path, &digest, hasher.finalize().into()),
                    len => hasher.update(&buffer[..len]),
                }
            }
        })
        .await
    }

    /// Deletes a blob; deleting none is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => path.parent().map_or(Ok(()), sync_dir),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(Error::io("remove", &path)(err)),
        })
        .await
    }

    /// The digests of all blobs, in no particular order.
    pub async fn list(&self) -> Result<Vec<Digest>> {
        let blobs = self.clone();
        blocking(move || {
            let mut found = Vec::new();
            for folder in names(&blobs.0.dir)?.iter().filter(|name| name.len() == 2) {
                for rest in names(&blobs.0.dir.join(folder))? {
                    found.extend(format!("{folder}{rest}").parse::<Digest>());
                }
            }
            Ok(found)
        })
        .await
    }
}

/// Writes one blob. Dropped without [`BlobWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    /// Absent only while a write is under way or after one was cancelled.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    len: u64,
    moved: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.moved {
            // At worst it is removed when the store is opened again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl BlobWriter {
    /// Appends a chunk. If this future is dropped before it resolves, the blob is lost.
    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        let mut partial = self.partial.take().ok_or(Error::Closed)?;
        let written = blocking(move || {
            partial
                .file
                .write_all(&chunk)
                .map_err(Error::io("write", &partial.path))?;
            partial.hasher.update(&chunk);
            partial.len += chunk.len() as u64;
            Ok(partial)
        });
        self.partial = Some(written.await?);
        Ok(())
    }

    /// How many bytes have been written.
    pub fn len(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| partial.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the blob in its place; resolves once it is on disk under its name.
    pub async fn finish(mut self) -> Result<Digest> {
        let partial = self.partial.take().ok_or(Error::Closed)?;
        let blobs = self.blobs.clone();
        blocking(move || partial.finish(&blobs)).await
    }
}

impl Partial {
    fn finish(mut self, blobs: &Blobs) -> Result<Digest> {
        let digest = Digest(self.hasher.finalize_reset().into());
        self.file
            .sync_all()
            .map_err(Error::io("sync", &self.path))?;
        let path = blobs.path(&digest);
        let folder = path.parent().unwrap_or(&blobs.0.dir);
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            sync_dir(&blobs.0.dir)?;
        }
        // If the blob exists, this replaces it with the same content, and heals a damaged one.
        fs::rename(&self.path, &path).map_err(Error::io("rename", &self.path))?;
        self.moved = true;
        sync_dir(folder)?;
        Ok(digest)
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

fn missing(digest: &Digest, path: &Path, err: std::io::Error) -> Error {
    if err.kind() == std::io::ErrorKind::NotFound {
        Error::NotFound {
            digest: digest.to_string(),
        }
    } else {
        Error::io("open", path)(err)
    }
}

fn check(path: &Path, expected: &Digest, found: [u8; 32]) -> Result<()> {
    if expected.0 == found {
        return Ok(());
    }
    Err(Error::corrupt(
        path,
        format!("its SHA-256 is {}", Digest(found)),
    ))
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    // A join error means that the runtime is shutting down.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Error::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[tokio::test]
    async fn a_blob_is_found_under_the_digest_of_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut writer = blobs.writer().await.unwrap();
        for chunk in ["one ", "two ", "three"] {
            writer.write(Bytes::from(chunk)).await.unwrap();
        }
        assert_eq!(writer.len(), 13);
        let digest = writer.finish().await.unwrap();
        assert_eq!(digest, Digest(Sha256::digest("one two three").into()));
        assert_eq!(blobs.read(&digest).await.unwrap(), "one two three");
        assert_eq!(blobs.list().await.unwrap(), [digest]);
        assert_eq!(blobs.put(Bytes::new()).await.unwrap().to_string(), EMPTY);
        blobs.delete(&digest).await.unwrap();
        assert!(matches!(
            blobs.read(&digest).await,
            Err(Error::NotFound { .. })
        ));
        assert!(!blobs.contains(&digest));
    }

    #[tokio::test]
    async fn a_damaged_blob_is_named_and_healed_by_writing_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = blobs.put(Bytes::from("content")).await.unwrap();
        let path = blobs.path(&digest);
        fs::write(&path, "contend").unwrap();
        for damaged in [
            blobs.verify(&digest).await,
            blobs.read(&digest).await.map(drop),
        ] {
            assert!(matches!(damaged, Err(Error::Corrupt { file, .. }) if file == path));
        }
        blobs.put(Bytes::from("content")).await.unwrap();
        blobs.verify(&digest).await.unwrap();
    }

    #[tokio::test]
    async fn an_unfinished_blob_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut writer = blobs.writer().await.unwrap();
        writer.write(Bytes::from("part")).await.unwrap();
        drop(writer);
        assert!(names(&dir.path().join("incoming")).unwrap().is_empty());
        // As after a kill.
        fs::write(dir.path().join("incoming/7"), "part").unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert!(names(&dir.path().join("incoming")).unwrap().is_empty());
        assert!(blobs.list().await.unwrap().is_empty());
    }
}
