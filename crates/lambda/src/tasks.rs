//! The background work of the service, owned so that it can be ended.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

#[derive(Debug, Default)]
pub struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// Starts a task; it is aborted when the service shuts down or is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Collects those that ended, so that the set does not grow with every task ever run.
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }

    /// Aborts all tasks and waits for their end. What they were doing is done again at the next
    /// start.
    pub async fn shutdown(&self) {
        let mut running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        running.shutdown().await;
    }
}
