//! Access keys for `--auth enforce`: a versioned JSON file that only its owner can read.
//!
//! SigV4 needs the secret itself, not a hash of it, so the file holds secrets in clear. Whoever can
//! read the data directory can read everything else as well.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use model::AccountId;
use serde::{Deserialize, Serialize};

use crate::Secret;

const VERSION: u32 = 1;
const MAX_FILE_BYTES: u64 = 16 << 20;

/// How stale the server's view of the file may be.
const RELOAD_AFTER: Duration = Duration::from_secs(1);

/// One access key.
#[derive(Clone, Debug)]
pub struct Key {
    pub access_key: String,
    pub secret_key: Secret<String>,
    pub account: AccountId,
    /// RFC 3339.
    pub created: String,
}

/// Why keys could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a keys file", path.display())]
    Format {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} has version {found}; this firn reads version {VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("cannot get random bytes for a key")]
    Random { source: std::io::Error },
    #[error("there is no key {0}")]
    NoSuchKey(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    version: u32,
    keys: Vec<KeyRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    access_key: String,
    secret_key: String,
    account: AccountId,
    created: String,
}

/// The file, for the commands that change it.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The keys of a data directory. The file need not exist.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("keys.json"),
        }
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(KeysError::Read {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|source| KeysError::Read {
                path: self.path.clone(),
                source,
            })?;
        let record: FileRecord =
            serde_json::from_str(&text).map_err(|source| KeysError::Format {
                path: self.path.clone(),
                source,
            })?;
        if record.version != VERSION {
            return Err(KeysError::Version {
                path: self.path.clone(),
                found: record.version,
            });
        }
        Ok(record.keys.into_iter().map(Key::from).collect())
    }

    /// Makes a key for an account and stores it.
    pub fn create(&self, account: AccountId, created: String) -> Result<Key, KeysError> {
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        let key = Key {
            access_key: format!(
                "FIRN{}",
                random_text::<16>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")?
            ),
            secret_key: Secret::new(random_text::<40>(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            )?),
            account,
            created,
        };
        keys.push(key.clone());
        self.save(keys)?;
        Ok(key)
    }

    /// Removes a key.
    pub fn delete(&self, access_key: &str) -> Result<(), KeysError> {
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        let before = keys.len();
        keys.retain(|key| key.access_key != access_key);
        if keys.len() == before {
            return Err(KeysError::NoSuchKey(access_key.to_owned()));
        }
        self.save(keys)
    }

    /// Two commands at once must not lose each other's key.
    fn lock(&self) -> Result<File, KeysError> {
        let path = self.path.with_extension("lock");
        let open = || {
            let file = private().create(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|source| KeysError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Writes a new file beside the old one and renames it, so that a reader or a crash sees
    /// either all of the old or all of the new.
    fn save(&self, keys: Vec<Key>) -> Result<(), KeysError> {
        let keys = keys.into_iter().map(KeyRecord::from).collect();
        let record = FileRecord {
            version: VERSION,
            keys,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|source| KeysError::Format {
            path: self.path.clone(),
            source,
        })?;
        let new = self.path.with_extension("new");
        let write = || {
            // A leftover of a crash may have any mode.
            match std::fs::remove_file(&new) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            let mut file = private().create_new(true).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|source| KeysError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Text of `N` characters of an alphabet whose size is a power of two, so that none is likelier.
fn random_text<const N: usize>(alphabet: &[u8]) -> Result<String, KeysError> {
    debug_assert!(alphabet.len().is_power_of_two());
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|source| KeysError::Random { source })?;
    let mask = alphabet.len() - 1;
    Ok(bytes
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) & mask]))
        .collect())
}

impl From<KeyRecord> for Key {
    fn from(record: KeyRecord) -> Self {
        Self {
            access_key: record.access_key,
            secret_key: Secret::new(record.secret_key),
            account: record.account,
            created: record.created,
        }
    }
}

impl From<Key> for KeyRecord {
    fn from(key: Key) -> Self {
        Self {
            access_key: key.access_key,
            secret_key: key.secret_key.reveal().clone(),
            account: key.account,
            created: key.created,
        }
    }
}

/// The server's view: looks keys up, and sees changes of the file within a second, so that a
/// deleted key stops working without a restart.
#[derive(Debug)]
pub struct Keys {
    file: KeyFile,
    loaded: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    at: Instant,
    modified: Option<std::time::SystemTime>,
    keys: Arc<HashMap<String, Key>>,
}

impl Keys {
    /// Reads the file; a file that is absent holds no keys yet.
    pub fn open(file: KeyFile) -> Result<Self, KeysError> {
        let modified = file.modified();
        let loaded = RwLock::new(Loaded {
            at: Instant::now(),
            modified,
            keys: file.load()?,
        });
        Ok(Self { file, loaded })
    }

    /// The key with this id.
    pub fn find(&self, access_key: &str) -> Option<Key> {
        self.current().get(access_key).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.current().is_empty()
    }

    fn current(&self) -> Arc<HashMap<String, Key>> {
        {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            if loaded.at.elapsed() < RELOAD_AFTER {
                return Arc::clone(&loaded.keys);
            }
        }
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        let modified = self.file.modified();
        loaded.at = Instant::now();
        if modified != loaded.modified {
            match self.file.load() {
                Ok(keys) => (loaded.keys, loaded.modified) = (keys, modified),
                // A broken file must not lock everybody out of a running server.
                Err(err) => tracing::error!(error = %err, "cannot reload keys, keeping the old"),
            }
        }
        Arc::clone(&loaded.keys)
    }
}

impl KeyFile {
    fn modified(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .ok()
    }

    fn load(&self) -> Result<Arc<HashMap<String, Key>>, KeysError> {
        let keys = self
            .list()?
            .into_iter()
            .map(|key| (key.access_key.clone(), key));
        Ok(Arc::new(keys.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn account() -> AccountId {
        "123456789012".parse().unwrap()
    }

    #[test]
    fn created_key_is_found_and_deleted_key_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let first = file
            .create(account(), "2026-01-01T00:00:00Z".into())
            .unwrap();
        let second = file
            .create(account(), "2026-01-02T00:00:00Z".into())
            .unwrap();
        assert_ne!(first.access_key, second.access_key);
        let found = Keys::open(file.clone())
            .unwrap()
            .find(&first.access_key)
            .unwrap();
        assert_eq!(found.secret_key, first.secret_key);
        file.delete(&first.access_key).unwrap();
        assert!(
            Keys::open(file.clone())
                .unwrap()
                .find(&first.access_key)
                .is_none()
        );
        assert!(matches!(
            file.delete(&first.access_key),
            Err(KeysError::NoSuchKey(_))
        ));
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        KeyFile::in_dir(dir.path())
            .create(account(), "t".into())
            .unwrap();
        let mode = std::fs::metadata(dir.path().join("keys.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn file_of_another_version_or_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        std::fs::write(dir.path().join("keys.json"), r#"{"version":2,"keys":[]}"#).unwrap();
        assert!(matches!(
            file.list(),
            Err(KeysError::Version { found: 2, .. })
        ));
        std::fs::write(dir.path().join("keys.json"), "{").unwrap();
        assert!(matches!(file.list(), Err(KeysError::Format { .. })));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyFile::in_dir(dir.path())
            .create(account(), "t".into())
            .unwrap();
        assert!(!format!("{key:?}").contains(key.secret_key.reveal().as_str()));
    }
}
