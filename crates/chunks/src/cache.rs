//! L1: objects on this machine's disk, up to a budget. Blocking.
//!
//! Eviction is second chance: a read only sets a flag in memory, so reading costs no write. After a
//! restart the order is rebuilt from the files' times. Nothing waits for the disk; a file that a
//! power cut tore does not open, is dropped and fetched again.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::{Clock, Timestamp};

use crate::counters::Counters;
use crate::dir::Dir;
use crate::{Result, TierStats};

#[derive(Debug)]
pub(crate) struct Cache {
    dir: Dir,
    budget: u64,
    clock: Clock,
    state: Mutex<State>,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Arc<str>, Held>,
    /// Oldest first. May name what is no longer held, or twice what came back.
    ring: VecDeque<Arc<str>>,
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    used: bool,
}

impl Cache {
    pub(crate) fn open(root: &Path, budget: u64, clock: Clock) -> Result<Self> {
        let dir = Dir::open(root)?;
        // The directory is locked by this process, so what is staged is from a dead one.
        dir.clear_incoming(Timestamp::from_secs(i64::from(u32::MAX)))?;
        let mut files = dir.list("chunks")?;
        files.extend(dir.list("images")?);
        files.sort_by_key(|entry| entry.modified);
        let cache = Self {
            dir,
            budget,
            clock,
            state: Mutex::default(),
            counters: Counters::default(),
        };
        {
            let mut state = cache.state();
            for file in files {
                state.add(file.key.into(), file.bytes);
            }
        }
        cache.evict();
        Ok(cache)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can happen between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holds(&self, key: &str) -> bool {
        self.state().entries.contains_key(key)
    }

    /// Reads an object; false if it is not here. A failing disk counts as a miss.
    pub(crate) fn read_into(&self, key: &str, limit: usize, bytes: &mut Vec<u8>) -> bool {
        let held = match self.state().entries.get_mut(key) {
            Some(held) => {
                held.used = true;
                true
            }
            None => false,
        };
        if held {
            match self.dir.read_into(key, limit, bytes) {
                Ok(true) => {
                    self.counters.hit(bytes.len());
                    return true;
                }
                Ok(false) => self.forget(key),
                Err(err) => {
                    tracing::warn!(
                        error = &err as &dyn std::error::Error,
                        "reading from L1 failed"
                    );
                    self.counters.error();
                    self.remove(key);
                }
            }
        }
        self.counters.miss();
        false
    }

    pub(crate) fn read_ahead<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        self.dir.read_ahead(keys);
    }

    /// Keeps an object. A full or failing disk is counted and otherwise ignored.
    pub(crate) fn insert(&self, key: &str, bytes: &[u8]) {
        if bytes.len() as u64 > self.budget {
            return;
        }
        if let Err(err) = self.dir.write(key, bytes, self.clock.now()) {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "writing to L1 failed"
            );
            self.counters.error();
            return;
        }
        self.counters.written(bytes.len());
        self.state().add(key.into(), bytes.len() as u64);
        self.evict();
    }

    /// Drops an object that turned out to be damaged.
    pub(crate) fn drop_corrupt(&self, key: &str) {
        self.counters.corrupt();
        self.remove(key);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.forget(key);
        if let Err(err) = self.dir.remove(key) {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "removing from L1 failed"
            );
            self.counters.error();
        }
    }

    pub(crate) fn stats(&self) -> TierStats {
        let resident = self.state().bytes;
        self.counters.stats(Some(resident))
    }

    fn forget(&self, key: &str) {
        let mut state = self.state();
        if let Some(held) = state.entries.remove(key) {
            state.bytes -= held.bytes;
        }
    }

    fn evict(&self) {
        loop {
            let Some(key) = self.state().next_to_go(self.budget) else {
                return;
            };
            self.counters.evicted();
            if let Err(err) = self.dir.remove(&key) {
                tracing::warn!(
                    error = &err as &dyn std::error::Error,
                    "removing from L1 failed"
                );
                self.counters.error();
            }
        }
    }
}

impl State {
    fn add(&mut self, key: Arc<str>, bytes: u64) {
        let held = Held { bytes, used: false };
        if let Some(old) = self.entries.insert(Arc::clone(&key), held) {
            self.bytes -= old.bytes;
        } else {
            self.ring.push_back(key);
        }
        self.bytes += bytes;
        if self.ring.len() > 2 * self.entries.len() + 64 {
            let mut seen = std::collections::HashSet::new();
            let entries = &self.entries;
            self.ring
                .retain(|key| entries.contains_key(key) && seen.insert(Arc::clone(key)));
        }
    }

    /// Takes out one object, if more is held than may be.
    fn next_to_go(&mut self, budget: u64) -> Option<Arc<str>> {
        while self.bytes > budget {
            let key = self.ring.pop_front()?;
            match self.entries.get_mut(&key) {
                None => {}
                Some(held) if held.used => {
                    held.used = false;
                    self.ring.push_back(key);
                }
                Some(held) => {
                    self.bytes -= held.bytes;
                    self.entries.remove(&key);
                    return Some(key);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, budget: u64, clock: &Clock) -> Cache {
        Cache::open(dir, budget, clock.clone()).unwrap()
    }

    fn held(cache: &Cache) -> Vec<String> {
        let mut bytes = Vec::new();
        (0..20)
            .map(|i| format!("chunks/a/{i}"))
            .filter(|key| cache.dir.read_into(key, 1000, &mut bytes).unwrap())
            .collect()
    }

    #[test]
    fn what_was_not_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), 1000, &Clock::system());
        for i in 0..10 {
            cache.insert(&format!("chunks/a/{i}"), &[0; 100]);
        }
        let mut bytes = Vec::new();
        assert!(cache.read_into("chunks/a/0", 1000, &mut bytes));
        assert_eq!(bytes.len(), 100);
        for i in 10..13 {
            cache.insert(&format!("chunks/a/{i}"), &[0; 100]);
        }
        let held = held(&cache);
        assert_eq!(held.len(), 10);
        assert!(held.contains(&"chunks/a/0".to_owned()), "{held:?}");
        assert!(!held.contains(&"chunks/a/1".to_owned()), "{held:?}");
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.resident_bytes), (3, Some(1000)));
    }

    #[test]
    fn a_restart_finds_everything_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_000_000));
        {
            let cache = open(dir.path(), 1000, &clock);
            for i in (0..10).rev() {
                cache.insert(&format!("chunks/a/{i}"), &[0; 100]);
                clock.advance(std::time::Duration::from_secs(1));
            }
        }
        std::fs::write(dir.path().join("incoming/left-over"), b"x").unwrap();
        let cache = open(dir.path(), 500, &clock);
        let mut held = held(&cache);
        held.sort();
        assert_eq!(
            held,
            (0..5).map(|i| format!("chunks/a/{i}")).collect::<Vec<_>>()
        );
        assert_eq!(
            std::fs::read_dir(dir.path().join("incoming"))
                .unwrap()
                .count(),
            0
        );
        assert_eq!(cache.stats().resident_bytes, Some(500));
    }

    #[test]
    fn a_file_that_vanished_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), 1000, &Clock::system());
        cache.insert("chunks/a/0", &[0; 100]);
        std::fs::remove_file(dir.path().join("chunks/a/0")).unwrap();
        assert!(!cache.read_into("chunks/a/0", 1000, &mut Vec::new()));
        assert_eq!(cache.stats().resident_bytes, Some(0));
        cache.insert("chunks/a/0", &[0; 100]);
        assert!(cache.read_into("chunks/a/0", 1000, &mut Vec::new()));
    }
}
