//! What the stub must know before it can play the tape, at the end of the tape's file.

use serde::{Deserialize, Serialize};

use super::TapeError;
use crate::{MappedFile, PAGE};

const MAGIC: &[u8; 8] = b"firntape";
/// Magic, length of the preamble, at the very end of the file.
pub const TRAILER: usize = 16;
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Preamble {
    pub pid: i32,
    /// Where the tape must lie.
    pub base: u64,
    /// Bytes to map.
    pub len: u64,
    /// Bytes of the writable part, one page after the base.
    pub writable_len: u64,
    /// Address of the first entry.
    pub entry: u64,
    pub monotonic_ns: u64,
    pub boottime_ns: u64,
    /// The kernel's own mappings: offset from the vDSO's start, length, parking place.
    pub special: Vec<(i64, u64, u64)>,
    /// What must be as it was.
    pub files: Vec<MappedFile>,
    /// Make a userfaultfd and hand it over.
    pub userfault: bool,
}

impl Preamble {
    /// Appends itself to a tape.
    pub fn append(&self, tape: &mut Vec<u8>) -> Result<(), TapeError> {
        let bytes = postcard::to_allocvec(self).map_err(|_| TapeError::TooLarge)?;
        tape.extend(&bytes);
        tape.extend(MAGIC);
        tape.extend((bytes.len() as u64).to_le_bytes());
        Ok(())
    }

    /// A file with nothing but a preamble, of the size that they usually have.
    pub fn sample() -> std::io::Result<Vec<u8>> {
        let file = MappedFile {
            path: b"/var/task/none/x86_64-linux-gnu/libsample.so.1.2.3".to_vec(),
            writable: false,
            size: 1 << 20,
            modified_ns: 1 << 60,
        };
        let sample = Self {
            pid: 2,
            base: 1 << 25,
            len: PAGE,
            writable_len: PAGE,
            entry: 1 << 25,
            monotonic_ns: 1 << 50,
            boottime_ns: 1 << 50,
            special: vec![(0, PAGE, 1 << 25); 3],
            files: vec![file; 40],
            userfault: false,
        };
        let mut bytes = Vec::new();
        sample.append(&mut bytes).map_err(std::io::Error::other)?;
        Ok(bytes)
    }

    /// Where the preamble is, from a file's length and its last bytes.
    pub fn find(file_len: u64, trailer: &[u8; TRAILER]) -> Option<(u64, usize)> {
        let (magic, len) = trailer.split_at(8);
        let len = u64::from_le_bytes(len.try_into().ok()?);
        if magic != MAGIC || len > MAX_BYTES {
            return None;
        }
        let start = file_len.checked_sub(TRAILER as u64)?.checked_sub(len)?;
        Some((start, usize::try_from(len).ok()?))
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}
