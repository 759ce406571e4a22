//! Where code lives: zips as blobs, unpacked packages as directories, both named by their SHA-256.
//!
//! A directory appears under its final name only when it is complete and on disk, so whatever has
//! that name can be used, also after a crash. Leftovers of an interrupted unpacking have other
//! names and go at the next start. Removal is the reverse: first the name, then the content.
//!
//! Code goes when no function refers to it any more and nobody has it pinned. A pin bridges the
//! time between storing a package and writing the function that refers to it. A table names the
//! packages, because the blobs of the store are not Lambda's alone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::Blob;
use sha2::{Digest as _, Sha256};
use store::{Blobs, Digest, Expect, Record, Table};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{PackageError, unpack, unzipped_bytes};

/// Zips travel to the blob store in pieces of this size.
const CHUNK_BYTES: usize = 1 << 20;
const INCOMPLETE: &str = ".new-";
const DISCARDED: &str = ".old-";

/// A package that has been stored and unpacked, and stays so while this exists.
#[derive(Debug)]
pub struct Package {
    pub digest: Digest,
    /// Size of the zip.
    pub size: u64,
    /// Held, never read: what it does, it does when it is dropped.
    _pin: Pin,
}

/// The digests that functions refer to.
pub type UsedDigests = Arc<dyn Fn() -> HashSet<Digest> + Send + Sync>;

/// The code of all functions. Cheap to clone.
#[derive(Clone)]
pub struct CodeStore(Arc<Inner>);

struct Inner {
    root: PathBuf,
    blobs: Blobs,
    /// One record per stored package, keyed by its digest in hexadecimal.
    packages: Table,
    used: UsedDigests,
    pins: Mutex<HashMap<Digest, usize>>,
}

/// Keeps a package from being removed.
#[derive(Debug)]
pub struct Pin {
    code: CodeStore,
    digest: Digest,
}

impl fmt::Debug for CodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeStore")
            .field("root", &self.0.root)
            .finish_non_exhaustive()
    }
}

impl CodeStore {
    /// Opens the directory, creating it if need be, and removes what a crash left behind.
    pub fn open(
        root: PathBuf,
        blobs: Blobs,
        packages: Table,
        used: UsedDigests,
    ) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(INCOMPLETE) || name.starts_with(DISCARDED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self(Arc::new(Inner {
            root,
            blobs,
            packages,
            used,
            pins: Mutex::default(),
        })))
    }

    /// The directory that holds, or will hold, the unpacked package.
    pub fn directory(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(digest.to_string())
    }

    /// The file that holds the zip as it was uploaded.
    pub fn zip(&self, digest: &Digest) -> PathBuf {
        self.0.blobs.path(digest)
    }

    /// Stores and unpacks a zip. Nothing is kept of a zip that is refused.
    pub async fn add(&self, zip: Blob) -> Result<Package, PackageError> {
        let package = self.store(zip).await?;
        match self.ensure(package.digest).await {
            Ok(()) => Ok(package),
            Err(error) => {
                let digest = package.digest;
                drop(package);
                if let Err(error) = self.collect(vec![digest]).await {
                    tracing::warn!(%digest, error = &error as &dyn std::error::Error,
                        "a refused package stays until the next start");
                }
                Err(error)
            }
        }
    }

    /// Makes sure that the unpacked package is there, unpacking it from its zip if it is not.
    pub async fn ensure(&self, digest: Digest) -> Result<(), PackageError> {
        let code = self.clone();
        spawn_blocking(move || code.unpack(&digest))
            .await
            .map_err(PackageError::from_panic)?
    }

    /// Size of what the package holds.
    pub async fn unzipped_bytes(&self, digest: Digest) -> Result<u64, PackageError> {
        let path = self.zip(&digest);
        spawn_blocking(move || {
            let zip = File::open(path).map_err(|cause| PackageError::Io {
                action: "open a stored package",
                cause,
            })?;
            unzipped_bytes(zip)
        })
        .await
        .map_err(PackageError::from_panic)?
    }

    /// Removes those of `candidates` that nobody refers to; returns how many.
    pub async fn collect(&self, candidates: Vec<Digest>) -> Result<usize, PackageError> {
        let mut records = Vec::new();
        for digest in &candidates {
            let record = self
                .0
                .packages
                .get(digest.to_string())
                .map_err(PackageError::Store)?;
            records.extend(record);
        }
        let code = self.clone();
        let removed = spawn_blocking(move || code.remove_unused(&candidates))
            .await
            .map_err(PackageError::from_panic)??;
        for Record { key, revision, .. } in records {
            let gone = removed
                .iter()
                .any(|digest| digest.to_string().as_bytes() == key);
            if gone {
                // Conflict: the package was stored anew in the meantime, so the record stays.
                match self
                    .0
                    .packages
                    .delete(&key, Expect::Revision(revision))
                    .await
                {
                    Ok(()) | Err(store::Error::Conflict { .. }) => {}
                    Err(cause) => return Err(PackageError::Store(cause)),
                }
            }
        }
        Ok(removed.len())
    }

    /// Removes every stored package that nobody refers to; returns how many.
    pub async fn collect_all(&self) -> Result<usize, PackageError> {
        const PAGE: usize = 1000;
        let mut total = 0;
        let mut after: Option<Bytes> = None;
        loop {
            let page = self.0.packages.scan(b"", after.as_deref(), PAGE);
            let page = page.map_err(PackageError::Store)?;
            let Some(last) = page.last() else {
                return Ok(total);
            };
            after = Some(last.key.clone());
            let digest = |record: &Record| std::str::from_utf8(&record.key).ok()?.parse().ok();
            total += self
                .collect(page.iter().filter_map(digest).collect())
                .await?;
        }
    }

    async fn store(&self, zip: Blob) -> Result<Package, PackageError> {
        // Decoding runs on a blocking thread, at most two chunks ahead of the disk.
        let (sender, mut chunks) = mpsc::channel(2);
        let decoder = spawn_blocking(move || send_chunks(&zip, &sender));
        let mut writer = self.0.blobs.writer().await.map_err(PackageError::Store)?;
        while let Some(chunk) = chunks.recv().await {
            writer.write(chunk).await.map_err(PackageError::Store)?;
        }
        let digest = decoder.await.map_err(PackageError::from_panic)??;
        // The blob gets its name only when it is pinned and recorded, so that it is neither
        // collected under our hands nor forgotten after a crash.
        let package = Package {
            digest,
            size: writer.len(),
            _pin: self.pin(digest),
        };
        let record = self.0.packages.put(digest.to_string(), "{}", Expect::Any);
        record.await.map_err(PackageError::Store)?;
        writer.finish().await.map_err(PackageError::Store)?;
        Ok(package)
    }

    fn unpack(&self, digest: &Digest) -> Result<(), PackageError> {
        let target = self.directory(digest);
        if target.is_dir() {
            return Ok(());
        }
        let io = |action| move |cause| PackageError::Io { action, cause };
        let zip = File::open(self.zip(digest)).map_err(io("open a stored package"))?;
        let new = self
            .0
            .root
            .join(format!("{INCOMPLETE}{}", uuid::Uuid::new_v4()));
        fs::create_dir(&new).map_err(io("create a code directory"))?;
        let unpacked = unpack(zip, &new)
            .and_then(|()| publish(&new, &target).map_err(io("complete a code directory")));
        if unpacked.is_err() {
            // Best effort: what stays goes at the next start.
            let _ = fs::remove_dir_all(&new);
        }
        unpacked
    }

    fn remove_unused(&self, candidates: &[Digest]) -> Result<Vec<Digest>, PackageError> {
        let mut discarded = Vec::new();
        let mut removed = Vec::new();
        {
            // Nobody can pin a package while the lock is held, so each one is either pinned, used
            // or gone.
            let pins = self.pins();
            let used = (self.0.used)();
            for digest in candidates.iter().filter(|digest| !used.contains(digest)) {
                if !pins.contains_key(digest) {
                    discarded.extend(self.discard(digest).map_err(|cause| PackageError::Io {
                        action: "discard a package",
                        cause,
                    })?);
                    removed.push(*digest);
                }
            }
        }
        for directory in discarded {
            fs::remove_dir_all(directory).map_err(|cause| PackageError::Io {
                action: "remove a code directory",
                cause,
            })?;
        }
        Ok(removed)
    }

    /// Takes the names away; the directory's content is left, under another name, to the caller.
    fn discard(&self, digest: &Digest) -> io::Result<Option<PathBuf>> {
        let absent = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
        let discarded = self
            .0
            .root
            .join(format!("{DISCARDED}{}", uuid::Uuid::new_v4()));
        let renamed = match fs::rename(self.directory(digest), &discarded) {
            Ok(()) => Some(discarded),
            Err(cause) if absent(&cause) => None,
            Err(cause) => return Err(cause),
        };
        match fs::remove_file(self.zip(digest)) {
            Err(cause) if !absent(&cause) => Err(cause),
            _ => Ok(renamed),
        }
    }

    pub fn pin(&self, digest: Digest) -> Pin {
        *self.pins().entry(digest).or_default() += 1;
        Pin {
            code: self.clone(),
            digest,
        }
    }

    fn pins(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.0.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.code.pins();
        if let Some(count) = pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.digest);
            }
        }
    }
}

/// Returns the digest of all that was sent.
fn send_chunks(zip: &Blob, chunks: &mpsc::Sender<Bytes>) -> Result<Digest, PackageError> {
    let mut reader = zip.reader();
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(zip.len() + 1));
        (&mut reader)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            // Reading from memory fails only if the base64 is invalid.
            .map_err(|_| PackageError::NotBase64)?;
        hasher.update(&chunk);
        if chunk.is_empty() || chunks.blocking_send(chunk.into()).is_err() {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
    }
}

/// Gives a complete directory its final name.
fn publish(new: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(new, target) {
        Ok(()) => {}
        // Somebody else unpacked the same package first.
        Err(_) if target.is_dir() => return fs::remove_dir_all(new),
        Err(cause) => return Err(cause),
    }
    match target.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clock::Clock;
    use store::Store;
    use zip::write::SimpleFileOptions;

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        store: Store,
        code: CodeStore,
        used: Arc<Mutex<HashSet<Digest>>>,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), Clock::system()).unwrap();
        let used = Arc::new(Mutex::new(HashSet::new()));
        let code = open(&directory, &store, &used);
        Fixture {
            directory,
            store,
            code,
            used,
        }
    }

    fn open(
        directory: &tempfile::TempDir,
        store: &Store,
        used: &Arc<Mutex<HashSet<Digest>>>,
    ) -> CodeStore {
        let used = Arc::clone(used);
        CodeStore::open(
            directory.path().join("code"),
            store.blobs(),
            store.table("packages").unwrap(),
            Arc::new(move || used.lock().unwrap().clone()),
        )
        .unwrap()
    }

    fn zip_of(content: &[u8]) -> Blob {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        writer
            .start_file("app.py", SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap().into_inner().into()
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_package_is_stored_once_for_all_who_upload_it() {
        let fixture = fixture();
        let code = &fixture.code;
        let (one, two) = tokio::join!(code.add(zip_of(b"x")), code.add(zip_of(b"x")));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.digest, two.digest);
        assert_eq!(names(&code.0.root), [one.digest.to_string()]);
        assert_eq!(
            fs::read(code.directory(&one.digest).join("app.py")).unwrap(),
            b"x"
        );
        assert_eq!(fs::metadata(code.zip(&one.digest)).unwrap().len(), one.size);
    }

    #[tokio::test]
    async fn the_base64_form_of_a_large_package_gives_the_same_blob() {
        use base64::Engine as _;
        let fixture = fixture();
        let code = &fixture.code;
        let random =
            (0..400_000_u64).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let raw = zip_of(&random.collect::<Vec<u8>>());
        let text = base64::engine::general_purpose::STANDARD.encode(raw.decode().unwrap());
        let encoded = code.add(Blob::from_base64(text.into())).await.unwrap();
        assert_eq!(encoded.digest, code.add(raw).await.unwrap().digest);
        let broken = Blob::from_base64(Bytes::from_static(b"%%%%"));
        assert!(matches!(
            code.add(broken).await,
            Err(PackageError::NotBase64)
        ));
    }

    #[tokio::test]
    async fn a_package_goes_only_when_nobody_needs_it() {
        let Fixture {
            code,
            used,
            directory: _directory,
            ..
        } = fixture();
        let package = code.add(zip_of(b"x")).await.unwrap();
        let digest = package.digest;
        assert_eq!(code.collect(vec![digest]).await.unwrap(), 0, "pinned");
        used.lock().unwrap().insert(digest);
        drop(package);
        assert_eq!(code.collect(vec![digest]).await.unwrap(), 0, "used");
        used.lock().unwrap().clear();
        assert_eq!(code.collect(vec![digest]).await.unwrap(), 1);
        assert!(names(&code.0.root).is_empty() && !code.zip(&digest).exists());
        assert_eq!(code.collect_all().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nothing_stays_of_a_refused_package() {
        let fixture = fixture();
        let code = &fixture.code;
        let bytes = Blob::from(b"no zip at all".to_vec());
        assert!(matches!(
            code.add(bytes).await,
            Err(PackageError::Archive(_))
        ));
        assert!(names(&code.0.root).is_empty());
        assert!(code.0.blobs.list().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn leftovers_go_and_lost_directories_are_unpacked_again() {
        let Fixture {
            directory,
            store,
            code,
            used,
        } = fixture();
        let package = code.add(zip_of(b"x")).await.unwrap();
        let digest = package.digest;
        used.lock().unwrap().insert(digest);
        fs::create_dir_all(code.0.root.join(".new-1/deep")).unwrap();
        fs::rename(code.directory(&digest), code.0.root.join(".old-1")).unwrap();
        let orphan = code.add(zip_of(b"orphan")).await.unwrap().digest;

        let code = open(&directory, &store, &used);
        assert_eq!(code.collect_all().await.unwrap(), 1);
        assert!(!code.zip(&orphan).exists());
        code.ensure(digest).await.unwrap();
        assert_eq!(names(&code.0.root), [digest.to_string()]);
    }
}
