//! Ways for debuggers into environments.
//!
//! A function that is being debugged is not frozen between invocations, has a day for its init, and
//! no snapshot is taken of it. Its runtime's debugger listens in the environment's own network;
//! whoever wants to talk to it gets the way into the newest environment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox::Connector;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{FunctionKey, Invoker};

/// What stands for no limit, of an init or an invocation that somebody steps through.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Of a function whose code somebody is working on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Development {
    /// A debugger may look into its environments.
    pub debugged: bool,
}

/// The newest environment of each function that is being debugged.
#[derive(Debug, Default)]
pub(crate) struct Debuggers {
    connectors: Mutex<HashMap<FunctionKey, Connector>>,
    /// So that nobody locks for functions that nobody debugs.
    count: AtomicUsize,
    came: Notify,
}

impl Debuggers {
    pub fn put(&self, key: FunctionKey, connector: Connector) {
        let mut connectors = self.lock();
        connectors.insert(key, connector);
        self.count.store(connectors.len(), Ordering::Release);
        drop(connectors);
        self.came.notify_waiters();
    }

    pub fn forget(&self, key: &FunctionKey) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut connectors = self.lock();
            connectors.remove(key);
            self.count.store(connectors.len(), Ordering::Release);
        }
    }

    pub fn holds(&self, key: &FunctionKey) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().contains_key(key)
    }

    async fn wait(&self, key: &FunctionKey) -> Connector {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            // Before the look, so that what comes after it is not missed.
            came.as_mut().enable();
            if let Some(connector) = self.lock().get(key) {
                return connector.clone();
            }
            came.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Connector>> {
        let connectors = self.connectors.lock();
        connectors.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invoker {
    /// The way into the newest environment of a function that is being debugged, as soon as there is
    /// one.
    pub async fn debugged(&self, key: &FunctionKey) -> Connector {
        self.debuggers().wait(key).await
    }
}
