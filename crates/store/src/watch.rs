//! The change feed: who watches a prefix hears of every later change below it, in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::record::Revision;

/// Commits a slow watcher may be behind before it has to start over.
const BACKLOG: usize = 1024;

/// One record that was written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Bytes,
    /// The new value; `None` if the record was deleted.
    pub value: Option<Bytes>,
    pub revision: Revision,
}

/// What a [`Watch`] delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Change(Change),
    /// The watcher was too slow and changes were dropped: read the records anew.
    Lagged,
}

/// Delivers the changes below a prefix that were acknowledged after it was created.
#[derive(Debug)]
pub struct Watch {
    prefix: Bytes,
    receiver: broadcast::Receiver<Arc<[Change]>>,
    current: Arc<[Change]>,
    next: usize,
}

impl Watch {
    /// The next change; `None` once the store is closed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(change) = self.current.get(self.next) {
                self.next += 1;
                if change.key.starts_with(&self.prefix) {
                    return Some(Event::Change(change.clone()));
                }
            }
            match self.receiver.recv().await {
                Ok(changes) => {
                    self.current = changes;
                    self.next = 0;
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Event::Lagged),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// All watchers, by table prefix.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<HashMap<Bytes, broadcast::Sender<Arc<[Change]>>>>);

impl Watchers {
    pub(crate) fn watch(&self, table: &Bytes, prefix: &[u8]) -> Watch {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders
            .entry(table.clone())
            .or_insert_with(|| broadcast::Sender::new(BACKLOG));
        Watch {
            prefix: Bytes::copy_from_slice(prefix),
            receiver: sender.subscribe(),
            current: Arc::new([]),
            next: 0,
        }
    }

    /// Whether the record with this full key may be watched.
    pub(crate) fn any(&self) -> bool {
        !self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Hands out changes, whose keys still carry their table's prefix.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|_, sender| sender.receiver_count() > 0);
        for (table, sender) in &*senders {
            let below: Arc<[Change]> = changes
                .iter()
                .filter(|change| change.key.starts_with(table))
                .map(|change| Change {
                    key: change.key.slice(table.len()..),
                    ..change.clone()
                })
                .collect();
            if !below.is_empty() {
                // Nobody listening is fine.
                let _ = sender.send(below);
            }
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
