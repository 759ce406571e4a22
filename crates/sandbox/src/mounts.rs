//! Detached mounts opened ahead of time.
//!
//! Opening the mounts of an environment is a round trip to the spawner. Functions are started again
//! and again with the same ones, so that after each start the next set is opened while nobody waits.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::fs::Stat;

/// Sets kept; the least recently used is closed first. Each holds as many descriptors as it has
/// mounts.
const MOST_SETS: usize = 32;

/// Sets of mounts by the host paths they show.
#[derive(Debug, Default)]
pub struct Spare {
    sets: VecDeque<(Vec<String>, Vec<OwnedFd>)>,
}

impl Spare {
    /// A set that shows exactly these paths, if there is one and the paths still lead to the same
    /// files: a directory may have been removed and made again since.
    pub fn take(&mut self, sources: &[String]) -> Option<Vec<OwnedFd>> {
        let found = self.sets.iter().position(|(known, _)| known == sources)?;
        let (_, mounts) = self.sets.remove(found)?;
        let current = |(source, mount): (&String, &OwnedFd)| {
            let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
            let now = rustix::fs::stat(source.as_str()).map(identity);
            now.is_ok() && now.ok() == rustix::fs::fstat(mount).map(identity).ok()
        };
        sources.iter().zip(&mounts).all(current).then_some(mounts)
    }

    pub fn put(&mut self, sources: Vec<String>, mounts: Vec<OwnedFd>) {
        if self.sets.iter().any(|(known, _)| *known == sources) {
            return;
        }
        if self.sets.len() >= MOST_SETS {
            self.sets.pop_front();
        }
        self.sets.push_back((sources, mounts));
    }

    pub fn clear(&mut self) {
        self.sets.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(path: &str) -> Vec<OwnedFd> {
        vec![fs::File::open(path).unwrap().into()]
    }

    #[test]
    fn a_set_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let sources = vec![dir.path().to_str().unwrap().to_owned()];
        let mut spare = Spare::default();
        spare.put(sources.clone(), open(&sources[0]));
        assert!(spare.take(&sources).is_some());
        assert!(spare.take(&sources).is_none());
    }

    #[test]
    fn a_directory_that_was_made_again_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        fs::create_dir(&path).unwrap();
        let sources = vec![path.to_str().unwrap().to_owned()];
        let mut spare = Spare::default();
        spare.put(sources.clone(), open(&sources[0]));
        fs::remove_dir(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(spare.take(&sources).is_none());
    }

    #[test]
    fn the_number_of_sets_is_bounded() {
        let mut spare = Spare::default();
        for number in 0..100 {
            spare.put(vec![format!("/{number}")], open("/"));
        }
        assert_eq!(spare.sets.len(), MOST_SETS);
    }
}
