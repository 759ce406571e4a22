//! Numbers of executions: never used twice, also after a crash.

use std::sync::atomic::{AtomicU64, Ordering};

use store::{Expect, Table};

use super::record::NUMBERS;
use crate::Error;

/// So many numbers are set aside with one write.
const LEASE: u64 = 1 << 20;

#[derive(Debug)]
pub struct Numbers {
    table: Table,
    next: AtomicU64,
    /// The first number that is not set aside.
    end: AtomicU64,
    extending: tokio::sync::Mutex<()>,
}

impl Numbers {
    pub fn open(table: &Table) -> Result<Self, Error> {
        let stored = table.get(NUMBERS)?;
        let start = stored
            .and_then(|record| {
                record
                    .value
                    .first_chunk()
                    .map(|end| u64::from_be_bytes(*end))
            })
            .unwrap_or(1);
        Ok(Self {
            table: table.clone(),
            next: AtomicU64::new(start),
            end: AtomicU64::new(start),
            extending: tokio::sync::Mutex::default(),
        })
    }

    pub async fn next(&self) -> Result<u64, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        while number >= self.end.load(Ordering::Acquire) {
            // Held across the write on purpose: who comes meanwhile waits for it.
            let _extending = self.extending.lock().await;
            let end = self.end.load(Ordering::Acquire);
            if number >= end {
                let longer = end.max(number).saturating_add(LEASE);
                self.table
                    .put(NUMBERS, longer.to_be_bytes().to_vec(), Expect::Any)
                    .await?;
                self.end.store(longer, Ordering::Release);
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_number_is_given_twice_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(dir.path(), clock::Clock::system()).unwrap();
        let table = store.table("t").unwrap();
        let first = Numbers::open(&table).unwrap();
        let a = first.next().await.unwrap();
        let b = first.next().await.unwrap();
        let second = Numbers::open(&table).unwrap();
        let c = second.next().await.unwrap();
        assert!(a < b && b < c, "{a} {b} {c}");
    }
}
