//! The files of the data directory that the store itself writes: lock, format and witness.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::record::checksum;
use crate::{Error, Result};

const FORMAT_LINE: &str = "firn store, format 1\n";
/// What the engine writes into its own version file. Without it, it would begin a new database.
const ENGINE_VERSION: &[u8] = b"FJL\x03";
const WITNESS_MAGIC: &[u8; 8] = b"firnack1";
const WITNESS_LEN: usize = 8 + 8 + 4;

/// An exclusive hold on the data directory. The kernel drops it with the process, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => String::new(),
                    pid => format!(" (pid {pid})"),
                };
                return Err(Error::Locked {
                    dir: dir.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        // Only for the message above, so a failure here does not matter.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

pub(crate) fn write_format(db: &Path) -> Result<()> {
    write_durably(&db.join("format"), FORMAT_LINE.as_bytes())
}

pub(crate) fn check_format(db: &Path) -> Result<()> {
    let version = db.join("version");
    if read_needed(&version)? != ENGINE_VERSION {
        return Err(Error::corrupt(
            version,
            "it is not the mark of fjall, version 3",
        ));
    }
    let path = db.join("format");
    let found = read_needed(&path)?;
    if found == FORMAT_LINE.as_bytes() {
        return Ok(());
    }
    match std::str::from_utf8(&found) {
        Ok(line)
            if line.starts_with("firn store, format ")
                && line
                    .trim_end()
                    .bytes()
                    .last()
                    .is_some_and(|byte| byte.is_ascii_digit()) =>
        {
            Err(Error::UnknownFormat {
                file: path,
                found: line.trim_end().to_owned(),
            })
        }
        _ => Err(Error::corrupt(path, "it is not a format line")),
    }
}

fn read_needed(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Ok(found) => Ok(found),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::corrupt(path, "the file is missing"))
        }
        Err(err) => Err(Error::io("read", path)(err)),
    }
}

/// Remembers the number of the last acknowledged commit, apart from the journal.
///
/// A journal that ends early looks like one whose last write was never finished. The witness tells
/// the two apart. It is written after each fsync of the journal but not synced itself: the death of
/// the process cannot lose it, and after a power failure it may be behind, never ahead.
#[derive(Debug)]
pub(crate) struct Witness {
    path: PathBuf,
    file: File,
    acked: u64,
}

impl Witness {
    pub(crate) fn create(db: &Path) -> Result<()> {
        write_durably(&db.join("acked"), &encode_witness(0))
    }

    pub(crate) fn open(db: &Path) -> Result<Self> {
        let path = db.join("acked");
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(path, "the file is missing"));
            }
            Err(err) => return Err(Error::io("open", &path)(err)),
        };
        let mut stored = Vec::new();
        (&mut file)
            .take(WITNESS_LEN as u64 + 1)
            .read_to_end(&mut stored)
            .map_err(Error::io("read", &path))?;
        let acked = decode_witness(&stored)
            .ok_or_else(|| Error::corrupt(&path, "its checksum does not match"))?;
        Ok(Self { path, file, acked })
    }

    /// The highest commit known to have been acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    pub(crate) fn advance(&mut self, acked: u64) -> Result<()> {
        self.file
            .write_all_at(&encode_witness(acked), 0)
            .map_err(Error::io("write", &self.path))?;
        self.acked = acked;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

fn encode_witness(acked: u64) -> [u8; WITNESS_LEN] {
    let mut stored = [0; WITNESS_LEN];
    stored[..8].copy_from_slice(WITNESS_MAGIC);
    stored[8..16].copy_from_slice(&acked.to_be_bytes());
    let sum = checksum(&[&stored[..16]]);
    stored[16..].copy_from_slice(&sum.to_be_bytes());
    stored
}

fn decode_witness(stored: &[u8]) -> Option<u64> {
    let (body, sum) = stored.split_at_checked(16)?;
    let (magic, acked) = body.split_first_chunk::<8>()?;
    let acked = u64::from_be_bytes(acked.try_into().ok()?);
    (magic == WITNESS_MAGIC && sum == checksum(&[body]).to_be_bytes()).then_some(acked)
}

fn write_durably(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(content).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Makes the names in `dir` durable: created, renamed and removed files.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_exclusive_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::acquire(dir.path()).unwrap();
        let refused = Lock::acquire(dir.path()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(held);
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn every_flipped_bit_of_the_witness_is_noticed() {
        let stored = encode_witness(42);
        assert_eq!(decode_witness(&stored), Some(42));
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_witness(&damaged), None, "bit {bit}");
        }
    }
}
