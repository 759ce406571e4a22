use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::{Error, Result};

const KEY_BYTES: usize = 32;

/// The master key: 32 bytes that every account's keys are derived from. Without it no image can be
/// read. Never printed.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads the key at `path`; makes one of random bytes where there is none. The file belongs to
    /// the server's user and is readable by nobody else, or it is refused.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        loop {
            match File::open(path) {
                Ok(file) => return load(path, file),
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                Err(err) => return Err(Error::io("open", path)(err)),
            }
            if create(path)? {
                tracing::info!(path = %path.display(), "made a key for images");
            }
        }
    }
}

fn load(path: &Path, file: File) -> Result<Key> {
    let refuse = |reason: String| Error::Key {
        path: path.to_owned(),
        reason,
    };
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(refuse("is not a file".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "can be read or written by others (mode {:04o}): chmod 600 it, or replace it if it was exposed",
            metadata.mode() & 0o7777
        )));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse(format!(
            "belongs to another user ({})",
            metadata.uid()
        )));
    }
    let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| {
        refuse(format!(
            "does not hold {KEY_BYTES} bytes ({found} or more were found)"
        ))
    })?;
    Ok(Key(bytes))
}

/// False if another process was faster.
fn create(path: &Path) -> Result<bool> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|err| Error::Key {
        path: path.to_owned(),
        reason: format!("cannot be made: {err}"),
    })?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|err| Error::Key {
        path: path.to_owned(),
        reason: format!("cannot be made: {err}"),
    })?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", hex::encode(suffix)));
    let temporary = Path::new(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(Error::io("create", temporary))?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    // A link, not a rename: it never replaces a key that another process has made meanwhile.
    let made = written.and_then(|()| fs::hard_link(temporary, path));
    let _ = fs::remove_file(temporary);
    match made {
        Ok(()) => {}
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(err) => return Err(Error::io("create", path)(err)),
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/key");
        let key = Key::load_or_create(&path).unwrap();
        assert_eq!(key.bytes(), Key::load_or_create(&path).unwrap().bytes());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(format!("{key:?}"), "Key(..)");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("0640"), "{error}");
    }

    #[test]
    fn a_key_of_another_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 31, 33, 1000] {
            let path = dir.path().join(size.to_string());
            fs::write(&path, vec![7; size]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Key::load_or_create(&path).unwrap_err();
            assert!(matches!(error, Error::Key { .. }), "{error}");
        }
    }
}
