//! The server's own secret, from which the temporary credentials of functions are made. Kept in the
//! data directory, so that credentials outlive a restart.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use protocol::credentials::ServerKey;

const KEY_BYTES: usize = 32;
const VERSION: &str = "firn-server-key-1 ";

/// Reads the key, or makes one.
pub fn load(data: &Path) -> Result<ServerKey> {
    let path = data.join("server.key");
    match File::open(&path) {
        Ok(file) => read(file).with_context(|| format!("cannot read {}", path.display())),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            create(&path).with_context(|| format!("cannot write {}", path.display()))
        }
        Err(err) => Err(err).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read(file: File) -> Result<ServerKey> {
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text)?;
    let Some(encoded) = text.trim_end().strip_prefix(VERSION) else {
        bail!("it is not a server key of this version");
    };
    let mut key = [0; KEY_BYTES];
    hex::decode_to_slice(encoded, &mut key).context("it does not hold a key")?;
    Ok(ServerKey::from_bytes(key))
}

/// Written beside its place and renamed, so that a crash leaves no half of a key.
fn create(path: &Path) -> Result<ServerKey> {
    let key = ServerKey::generate().context("cannot get random bytes")?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    writeln!(file, "{VERSION}{}", hex::encode(key.as_bytes()))?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let key = load(dir.path()).unwrap();
        assert_eq!(load(dir.path()).unwrap().as_bytes(), key.as_bytes());
        let mode = std::fs::metadata(dir.path().join("server.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path()).unwrap();
        std::fs::write(dir.path().join("server.key"), "firn-server-key-1 abc").unwrap();
        assert!(load(dir.path()).is_err());
        std::fs::write(dir.path().join("server.key"), "").unwrap();
        assert!(load(dir.path()).is_err());
    }
}
