//! A queue with a bound, whose sender never waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

/// What was not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Batches of log lines, each of what one execution did in one go.
    pub log_batches: u64,
    /// Changes of status.
    pub events: u64,
}

/// How much memory something in the queue takes.
pub(super) trait Weigh {
    fn bytes(&self) -> usize;
}

struct Shared {
    max_bytes: usize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    closed: Notify,
    /// What the queue holds, for the log.
    of: &'static str,
}

pub(super) struct Sender<T> {
    items: mpsc::Sender<T>,
    shared: Arc<Shared>,
}

pub(super) struct Receiver<T> {
    items: mpsc::Receiver<T>,
    shared: Arc<Shared>,
}

/// A queue for at most `max_items` of at most `max_bytes` together.
pub(super) fn bounded<T: Weigh>(
    max_items: usize,
    max_bytes: usize,
    of: &'static str,
) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(max_items);
    let shared = Arc::new(Shared {
        max_bytes,
        bytes: AtomicUsize::new(0),
        dropped: AtomicU64::new(0),
        closed: Notify::new(),
        of,
    });
    let sender = Sender {
        items: sender,
        shared: Arc::clone(&shared),
    };
    let receiver = Receiver {
        items: receiver,
        shared,
    };
    (sender, receiver)
}

impl<T: Weigh> Sender<T> {
    /// Puts an item into the queue, or drops it if there is no room.
    pub(super) fn offer(&self, item: T) {
        let bytes = item.bytes();
        let shared = &self.shared;
        let before = shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One item alone is always taken, however large.
        let fits = before == 0 || before + bytes <= shared.max_bytes;
        if fits && self.items.try_send(item).is_ok() {
            return;
        }
        shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let dropped = shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // Each power of two, so that the log says it early and is not flooded.
        if dropped.is_power_of_two() {
            tracing::warn!(
                dropped,
                "dropped {} of executions: the queue is full",
                shared.of
            );
        }
    }
}

impl<T> Sender<T> {
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Lets the receiver end once it has taken what is there.
    pub(super) fn close(&self) {
        self.shared.closed.notify_one();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("bytes", &self.shared.bytes)
            .field("dropped", &self.shared.dropped)
            .finish_non_exhaustive()
    }
}

impl<T: Weigh> Receiver<T> {
    /// Waits for items and takes at most `limit` of them. `None` at the end.
    pub(super) async fn take(&mut self, limit: usize) -> Option<Vec<T>> {
        let mut taken = Vec::new();
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            count = self.items.recv_many(&mut taken, limit) => {
                if count == 0 {
                    return None;
                }
            }
            () = shared.closed.notified() => {
                self.items.close();
                if self.items.recv_many(&mut taken, limit).await == 0 {
                    return None;
                }
            }
        }
        let bytes = taken.iter().map(T::bytes).sum();
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(taken)
    }
}
