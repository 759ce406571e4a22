//! Environments between invocations: back to the pool, frozen, ended.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{EXPECTED_BACK, Invoker};
use crate::environment::Environment;
use crate::extensions::Reason;
use crate::janitor::Janitor;
use crate::runtime_api::Back;
use crate::status::EnvironmentState;
use crate::{FunctionKey, provisioned};

impl Invoker {
    /// A runtime's process ended. If its environment is idle nobody else would notice.
    pub(crate) fn runtime_ended(&self, key: &FunctionKey, id: u64) {
        let kept = key.provisioned();
        let idle = self.with_placement(|placement| {
            // A restored one does not know in which of the two pools it is.
            [key, &kept].into_iter().find_map(|key| {
                let taken = placement.take_idle(key, id)?;
                placement.lost(key, true);
                Some(taken)
            })
        });
        if let Some((environment, _)) = idle {
            let clock = self.clock.clone();
            self.tasks
                .spawn(async move { environment.shut_down(Reason::Failure, &clock).await });
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.parked_ended(self, key, id);
        }
    }

    /// After its answer, brings an environment back to the pool, or ends it.
    pub(crate) async fn settle(self: Arc<Self>, environment: Box<Environment>, keep: bool) {
        let key = environment.key.clone();
        if !keep {
            self.lost(&key, false);
            environment.kill().await;
            return;
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.answered(&environment).await;
        }
        let mut back = environment.exchange.back();
        let mut returning = true;
        let expected = match key.is_provisioned() {
            true => provisioned::EXPECTED_BACK,
            false => EXPECTED_BACK,
        };
        let mut came = tokio::time::timeout(expected, &mut back).await;
        if came.is_err() {
            returning = false;
            self.late(&key);
            // AWS lets the time after the answer count as the invocation's own.
            came = tokio::time::timeout(environment.function.timeout, back).await;
        }
        if matches!(came, Ok(Ok(Back::Ready))) {
            self.release(environment, returning);
        } else {
            self.lost(&key, returning);
            environment.kill().await;
        }
    }

    /// It was expected back and is not yet.
    pub(crate) fn late(&self, key: &FunctionKey) {
        self.with_placement(|placement| placement.late(key));
    }

    pub(crate) fn release(&self, environment: Box<Environment>, returning: bool) {
        let (key, id, now) = (environment.key.clone(), environment.id(), Instant::now());
        environment.entry.set(EnvironmentState::Idle);
        let unwanted = self.with_placement(|placement| {
            if returning {
                placement.returned(&key, id, environment, now)
            } else {
                placement.release(&key, id, environment, now)
            }
        });
        match unwanted {
            Some(environment) => self.end_all([environment]),
            None => self
                .janitor
                .list(now + self.config.freeze_grace(), id, &key),
        }
    }

    pub(crate) fn lost(&self, key: &FunctionKey, was_returning: bool) {
        self.with_placement(|placement| placement.lost(key, was_returning));
    }

    pub(crate) fn end_all(&self, environments: impl IntoIterator<Item = Box<Environment>>) {
        for environment in environments {
            self.tasks
                .spawn(environment.end(self.config.shutdown_grace(), self.clock.clone()));
        }
    }

    /// Freezes an environment that stayed idle, and ends one that stayed idle for long.
    fn tend(&self, key: &FunctionKey, id: u64) {
        let Some(since) = self.lock_placement().idle_since(key, id) else {
            return;
        };
        // A debugger talks to its environment at any time, so that one rests as it is.
        let frozen =
            self.registry.state(id) == Some(EnvironmentState::Frozen) || self.debuggers.holds(key);
        let due = since
            + if frozen {
                self.config.idle_timeout()
            } else {
                self.config.freeze_grace()
            };
        if Instant::now() < due {
            self.janitor.list(due, id, key);
            return;
        }
        if frozen && key.is_provisioned() {
            // It stays as it is, however long that is.
            return;
        }
        let taken = self.with_placement(|placement| placement.take_idle(key, id));
        let Some((mut environment, since)) = taken else {
            return;
        };
        if frozen {
            self.lost(key, true);
            self.end_all([environment]);
            return;
        }
        environment.forget_oom_kills();
        environment.freeze();
        let unwanted =
            self.with_placement(|placement| placement.returned(key, id, environment, since));
        match unwanted {
            Some(environment) => self.end_all([environment]),
            None => self
                .janitor
                .list(since + self.config.idle_timeout(), id, key),
        }
    }

    /// Ends the idle environments of functions whose ARN contains `name`, and says how many. Parked
    /// ones stay.
    pub fn end_idle_environments(&self, name: &str) -> usize {
        let ended = self.with_placement(|placement| placement.take_all_idle(name));
        let count = ended.len();
        self.end_all(ended);
        count
    }
}

/// Does what is due for idle environments, for as long as the invoker is there.
pub(super) async fn tend_idle_environments(janitor: Arc<Janitor>, invoker: Weak<Invoker>) {
    loop {
        let (key, id) = janitor.next().await;
        let Some(invoker) = invoker.upgrade() else {
            return;
        };
        invoker.tend(&key, id);
    }
}
