use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

/// What an environment is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentState {
    Starting,
    Busy,
    Idle,
    Frozen,
    /// Thawed from a snapshot up to its last step, and frozen there.
    Parked,
    Ending,
}

/// One environment, for status displays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvironmentStatus {
    pub id: u64,
    pub function_arn: String,
    pub version: String,
    pub memory_mb: u32,
    pub log_stream: String,
    pub started: Timestamp,
    pub state: EnvironmentState,
}

/// The entry of one environment; removed from the registry when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    state: Arc<AtomicU8>,
    registry: Registry,
}

/// All environments there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Entries>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    all: BTreeMap<u64, (EnvironmentStatus, Arc<AtomicU8>)>,
}

const STATES: [EnvironmentState; 6] = [
    EnvironmentState::Starting,
    EnvironmentState::Busy,
    EnvironmentState::Idle,
    EnvironmentState::Frozen,
    EnvironmentState::Parked,
    EnvironmentState::Ending,
];

impl Registry {
    /// Enters an environment that starts; the id in `status` is assigned here.
    pub fn enter(&self, mut status: EnvironmentStatus) -> Entry {
        let mut entries = self.lock();
        entries.last_id += 1;
        let id = entries.last_id;
        status.id = id;
        let state = Arc::new(AtomicU8::new(status.state as u8));
        entries.all.insert(id, (status, Arc::clone(&state)));
        drop(entries);
        Entry {
            id,
            state,
            registry: self.clone(),
        }
    }

    pub fn snapshot(&self) -> Vec<EnvironmentStatus> {
        let entries = self.lock();
        entries
            .all
            .values()
            .map(|(status, state)| EnvironmentStatus {
                state: load(state),
                ..status.clone()
            })
            .collect()
    }

    /// Resolves when there is no environment.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.lock().all.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    pub fn state(&self, id: u64) -> Option<EnvironmentState> {
        self.lock().all.get(&id).map(|(_, state)| load(state))
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics under the lock, so the entries are whole.
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn set(&self, state: EnvironmentState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        entries.all.remove(&self.id);
        if entries.all.is_empty() {
            self.registry.0.emptied.notify_waiters();
        }
    }
}

fn load(state: &AtomicU8) -> EnvironmentState {
    STATES
        .get(usize::from(state.load(Ordering::Relaxed)))
        .copied()
        .unwrap_or(EnvironmentState::Ending)
}
