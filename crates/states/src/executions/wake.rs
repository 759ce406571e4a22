//! Waking executions whose moment has come.

use std::sync::{Arc, Weak};

use asl::machine::Input;
use clock::Timestamp;
use tokio::sync::oneshot;

use super::Executions;
use crate::Error;
use crate::lock::lock;

/// So many are woken at once; the next ones wait until these have taken a turn. Bounds the memory
/// of a million that wake in the same second.
const AT_ONCE: usize = 2_048;

impl Executions {
    /// Notes what an execution waits for now.
    pub(super) fn reschedule(&self, number: u64, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        let mut due = lock(&self.due);
        if let Some(before) = before {
            due.remove(&(before, number));
        }
        if let Some(after) = after {
            due.insert((after, number));
            if due.first() == Some(&(after, number)) {
                self.due_earlier.notify_one();
            }
        }
    }

    /// Lets time go on, for as long as somebody holds the executions.
    pub(super) fn wake_in_background(self: &Arc<Self>) {
        let waking = tokio::spawn(run(Arc::downgrade(self), self.clock.clone()));
        if let Some(former) = lock(&self.waker).replace(waking.abort_handle()) {
            former.abort();
        }
    }

    fn take_due(&self, now_ms: i64) -> Vec<(i64, u64)> {
        let mut due = lock(&self.due);
        let mut taken = Vec::new();
        while taken.len() < AT_ONCE
            && let Some(&(at_ms, number)) = due.first()
            && at_ms <= now_ms
        {
            due.pop_first();
            taken.push((at_ms, number));
        }
        taken
    }

    /// Tells an execution which of its moments have come. Gives what is told once it is on disk.
    fn wake(
        self: &Arc<Self>,
        number: u64,
        now_ms: i64,
    ) -> Result<Option<oneshot::Receiver<Result<bool, Error>>>, Error> {
        let Some(live) = self.find(number)? else {
            return Ok(None);
        };
        let timers = {
            let mut state = live.state();
            // It is not in the index any more, until its next turn puts it there.
            state.due_ms = None;
            state.due(now_ms)
        };
        let mut last = None;
        for timer in timers {
            let (told, done) = oneshot::channel();
            if self.send(number, Input::Timer(timer), Some(told))? {
                last = Some(done);
            }
        }
        if last.is_none() {
            // Its moment has been moved while this one was taken out.
            let mut state = live.state();
            let next = state.next_moment();
            state.due_ms = next;
            drop(state);
            self.reschedule(number, None, next);
            self.settle(&live);
        }
        Ok(last)
    }
}

impl Drop for Executions {
    fn drop(&mut self) {
        for task in [&self.waker, &self.clearer] {
            if let Some(task) = lock(task).take() {
                task.abort();
            }
        }
    }
}

async fn run(executions: Weak<Executions>, clock: clock::Clock) {
    loop {
        let Some(this) = executions.upgrade() else {
            return;
        };
        let earlier = {
            let now_ms = clock.now().as_millis();
            let taken = this.take_due(now_ms);
            if !taken.is_empty() {
                let mut turns = Vec::with_capacity(taken.len());
                for (_, number) in taken {
                    match this.wake(number, now_ms) {
                        Ok(turn) => turns.extend(turn),
                        Err(err) => {
                            tracing::error!(number, "cannot wake an execution: {err}");
                        }
                    }
                }
                for turn in turns {
                    // One that failed has said so.
                    let _ = turn.await;
                }
                continue;
            }
            let next = lock(&this.due).first().map(|(at_ms, _)| *at_ms);
            let due_earlier = Arc::clone(&this.due_earlier);
            drop(this);
            (next, due_earlier)
        };
        let (next, due_earlier) = earlier;
        match next {
            Some(at_ms) => tokio::select! {
                () = clock.sleep_until(Timestamp::from_millis(at_ms)) => {}
                () = due_earlier.notified() => {}
            },
            None => due_earlier.notified().await,
        }
    }
}
