use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::subscription::Buffering;

/// Events of one subscription that wait for delivery.
#[derive(Debug)]
pub(super) struct Queue {
    buffering: Buffering,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    dropped: Dropped,
    /// Nothing should wait for a fuller batch.
    hurry: bool,
}

/// What did not fit, or could not be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub records: usize,
    pub bytes: usize,
}

/// Events that are delivered together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub events: Vec<Bytes>,
    pub bytes: usize,
    /// What was lost before them.
    pub dropped: Dropped,
}

/// While one batch is being delivered, as much again can wait.
const BATCHES: usize = 2;

impl Queue {
    pub fn new(buffering: Buffering) -> Self {
        Self {
            buffering,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds an event, or counts it as dropped when too much is waiting.
    pub fn push(&self, event: Bytes) {
        let mut state = self.lock();
        let full = state.events.len() >= BATCHES * self.buffering.max_items
            || state.bytes + event.len() > BATCHES * self.buffering.max_bytes;
        if full {
            state.dropped.records += 1;
            state.dropped.bytes += event.len();
            return;
        }
        state.bytes += event.len();
        state.events.push_back((Instant::now(), event));
        // Others only make a batch fuller; when it is due is known from the first.
        let wakes = state.events.len() == 1 || self.is_full(&state);
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Counts what could not be delivered.
    pub fn lost(&self, batch: &Batch) {
        let mut state = self.lock();
        state.dropped.records += batch.events.len() + batch.dropped.records;
        state.dropped.bytes += batch.bytes + batch.dropped.bytes;
    }

    /// Delivers what there is without waiting for more.
    pub fn hurry(&self) {
        self.lock().hurry = true;
        self.changed.notify_one();
    }

    /// The next batch, when it is due.
    pub async fn next(&self) -> Batch {
        loop {
            let due = {
                let mut state = self.lock();
                match state.events.front() {
                    None => None,
                    Some((first, _)) => {
                        let due = *first + self.buffering.timeout;
                        if state.hurry || self.is_full(&state) || due <= Instant::now() {
                            return self.take(&mut state);
                        }
                        Some(due)
                    }
                }
            };
            match due {
                None => self.changed.notified().await,
                Some(due) => {
                    let _ = tokio::time::timeout_at(due.into(), self.changed.notified()).await;
                }
            }
        }
    }

    fn is_full(&self, state: &State) -> bool {
        state.events.len() >= self.buffering.max_items || state.bytes >= self.buffering.max_bytes
    }

    fn take(&self, state: &mut State) -> Batch {
        let mut batch = Batch {
            events: Vec::new(),
            bytes: 0,
            dropped: std::mem::take(&mut state.dropped),
        };
        while let Some((_, event)) = state.events.front() {
            let fits = batch.events.is_empty()
                || batch.events.len() < self.buffering.max_items
                    && batch.bytes + event.len() <= self.buffering.max_bytes;
            if !fits {
                break;
            }
            if let Some((_, event)) = state.events.pop_front() {
                batch.bytes += event.len();
                batch.events.push(event);
            }
        }
        state.bytes = state.bytes.saturating_sub(batch.bytes);
        batch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock, so the queue is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(max_items: usize, max_bytes: usize, timeout_ms: u64) -> Queue {
        Queue::new(Buffering {
            max_items,
            max_bytes,
            timeout: Duration::from_millis(timeout_ms),
        })
    }

    const LONG: u64 = 3_600_000;

    #[tokio::test]
    async fn full_batch_is_due_at_once() {
        let queue = queue(2, 1000, LONG);
        for text in ["a", "b", "c"] {
            queue.push(Bytes::from(text));
        }
        assert_eq!(queue.next().await.events, ["a", "b"]);
        queue.hurry();
        assert_eq!(queue.next().await.events, ["c"]);
    }

    #[tokio::test]
    async fn partial_batch_is_due_after_the_timeout() {
        let queue = queue(1000, 1000, 25);
        let began = Instant::now();
        queue.push(Bytes::from("a"));
        assert_eq!(queue.next().await.events, ["a"]);
        assert!(began.elapsed() >= Duration::from_millis(25));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_told_with_the_next_batch() {
        let queue = queue(1000, 10, LONG);
        for _ in 0..5 {
            queue.push(Bytes::from("1234567"));
        }
        let batch = queue.next().await;
        assert_eq!(batch.events.len(), 1, "two would be more than 10 bytes");
        assert_eq!(
            batch.dropped,
            Dropped {
                records: 3,
                bytes: 21
            }
        );
        queue.lost(&batch);
        queue.hurry();
        assert_eq!(queue.next().await.dropped.records, 4);
    }

    #[tokio::test]
    async fn event_larger_than_a_batch_is_delivered_alone() {
        let queue = queue(1000, 10, LONG);
        queue.push(Bytes::from("123456789012"));
        assert_eq!(queue.next().await.bytes, 12);
    }
}
