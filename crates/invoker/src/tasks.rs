use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Background work that must be done before the server is: it is counted, so that a shutdown can
/// wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    live: Arc<Live>,
}

#[derive(Debug, Default)]
struct Live {
    count: AtomicUsize,
    none: Notify,
}

struct Counted(Arc<Live>);

impl Tasks {
    /// Must be called inside a tokio runtime, which then runs the tasks.
    pub fn new() -> Self {
        Self {
            runtime: Handle::current(),
            live: Arc::default(),
        }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.live.count.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(Arc::clone(&self.live));
        self.runtime.spawn(async move {
            task.await;
            drop(counted);
        });
    }

    /// Resolves when nothing is running.
    pub async fn idle(&self) {
        loop {
            let none = self.live.none.notified();
            if self.live.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_waits_for_every_task() {
        let tasks = Tasks::new();
        tasks.idle().await;
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let done = Arc::clone(&done);
            tasks.spawn(async move {
                tokio::task::yield_now().await;
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        tasks.idle().await;
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }
}
