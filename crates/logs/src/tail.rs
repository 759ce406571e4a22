//! Live tails: whoever subscribes to a group gets its events as they arrive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clock::Timestamp;
use tokio::sync::broadcast;

/// Batches that a slow subscriber may be behind before it misses some.
const BACKLOG: usize = 1024;

/// Events that arrived together in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailBatch {
    pub stream: String,
    pub events: Vec<TailEvent>,
}

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailEvent {
    pub timestamp: Timestamp,
    pub message: String,
}

/// The subscribers, by group.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<String, broadcast::Sender<Arc<TailBatch>>>>);

impl Tails {
    pub(crate) fn subscribe(&self, group: &str) -> broadcast::Receiver<Arc<TailBatch>> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders
            .entry(group.to_owned())
            .or_insert_with(|| broadcast::Sender::new(BACKLOG))
            .subscribe()
    }

    /// Hands a batch to the group's subscribers; makes it only if there are any.
    pub(crate) fn publish(&self, group: &str, batch: impl FnOnce() -> TailBatch) {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = senders.get(group) else {
            return;
        };
        if sender.receiver_count() == 0 {
            senders.remove(group);
        } else {
            // The last subscriber may just have gone.
            let _ = sender.send(Arc::new(batch()));
        }
    }
}
