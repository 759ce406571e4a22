//! The descriptor table that a playing tape will have, simulated.

use super::TapeError;
use crate::slot;

/// Which numbers are in use below the thaw's own.
#[derive(Debug)]
pub struct Table {
    used: Vec<bool>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            used: vec![false; usize::try_from(slot::FIRST).unwrap_or(0)],
        }
    }
}

impl Table {
    /// The number that the kernel will give out next.
    pub fn open(&mut self) -> Result<i32, TapeError> {
        let free = self.used.iter().position(|used| !used);
        let fd = free.ok_or(TapeError::Image("too many descriptors"))?;
        self.used[fd] = true;
        i32::try_from(fd).map_err(|_| TapeError::TooLarge)
    }

    /// A number that the tape chose.
    pub fn place(&mut self, fd: i32) {
        self.set(fd, true);
    }

    pub fn close(&mut self, fd: i32) {
        self.set(fd, false);
    }

    fn set(&mut self, fd: i32, used: bool) {
        let entry = usize::try_from(fd)
            .ok()
            .and_then(|fd| self.used.get_mut(fd));
        if let Some(entry) = entry {
            *entry = used;
        }
    }
}
