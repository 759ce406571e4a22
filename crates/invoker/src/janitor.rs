//! When to look after an idle environment: to freeze it, and later to end it.
//!
//! An environment's entry is not moved to a later time when the environment is used: when its time
//! comes and the environment was busy meanwhile, a new entry is made. So a hot loop pays for one
//! timer per grace period, not for one per invocation.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::FunctionKey;
use crate::status::Registry;

/// Fewer entries than this are not worth a look at what has ended meanwhile.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Janitor {
    agenda: Mutex<Agenda>,
    earlier: Notify,
    /// Knows which environments there still are.
    registry: Registry,
}

#[derive(Debug, Default)]
struct Agenda {
    /// Entries that were replaced by earlier ones are still in here, and skipped.
    due: BinaryHeap<Reverse<(Instant, u64, FunctionKey)>>,
    listed: HashMap<u64, Instant>,
    /// So many were listed, and still there, at the last look.
    alive: usize,
}

impl Janitor {
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// Lists an environment, unless it is listed for an earlier time already.
    pub fn list(&self, at: Instant, id: u64, key: &FunctionKey) {
        let mut agenda = self.lock();
        if agenda.listed.get(&id).is_some_and(|listed| *listed <= at) {
            return;
        }
        agenda.forget_ended(|id| self.registry.state(id).is_some());
        agenda.listed.insert(id, at);
        let is_earliest = agenda
            .due
            .peek()
            .is_none_or(|Reverse((first, ..))| at < *first);
        agenda.due.push(Reverse((at, id, key.clone())));
        agenda.forget_replaced();
        drop(agenda);
        if is_earliest {
            self.earlier.notify_one();
        }
    }

    /// Waits for the next environment to look after. It is no longer listed then.
    pub async fn next(&self) -> (FunctionKey, u64) {
        loop {
            let first = match self.take_due(Instant::now()) {
                Ok(due) => return due,
                Err(first) => first,
            };
            match first {
                None => self.earlier.notified().await,
                Some(at) => {
                    let sleep = tokio::time::sleep_until(at.into());
                    tokio::select! {
                        () = sleep => {}
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn take_due(&self, now: Instant) -> Result<(FunctionKey, u64), Option<Instant>> {
        let mut agenda = self.lock();
        while let Some(Reverse((at, ..))) = agenda.due.peek() {
            if *at > now {
                return Err(Some(*at));
            }
            let Some(Reverse((at, id, key))) = agenda.due.pop() else {
                break;
            };
            if agenda.listed.get(&id) == Some(&at) {
                agenda.listed.remove(&id);
                return Ok((key, id));
            }
        }
        Err(None)
    }

    fn lock(&self) -> MutexGuard<'_, Agenda> {
        // Nothing panics under the lock, so the agenda is whole.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agenda {
    /// Environments that were ended early, by an update or for want of memory, stay listed until their
    /// time comes, which may be hours. Those must not become many beside the ones that live.
    fn forget_ended(&mut self, is_there: impl Fn(u64) -> bool) {
        if self.listed.len() >= 2 * self.alive + FEW {
            self.listed.retain(|id, _| is_there(*id));
            self.alive = self.listed.len();
        }
    }

    /// An environment that is often frozen and woken leaves a replaced entry behind each time.
    fn forget_replaced(&mut self) {
        if self.due.len() > 2 * self.listed.len() + FEW {
            let listed = &self.listed;
            self.due
                .retain(|Reverse((at, id, _))| listed.get(id) == Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::{Entry, EnvironmentState, EnvironmentStatus};

    #[tokio::test(start_paused = true)]
    async fn earliest_is_next_and_nobody_is_due_twice() {
        let janitor = Janitor::default();
        let key = FunctionKey::new("f", "1", "r");
        let now = Instant::now();
        janitor.list(now + Duration::from_millis(2), 1, &key);
        janitor.list(now + Duration::from_millis(3), 1, &key);
        janitor.list(now + Duration::from_millis(1), 2, &key);
        assert_eq!(
            janitor.take_due(now).unwrap_err(),
            Some(now + Duration::from_millis(1))
        );
        let later = now + Duration::from_millis(5);
        assert_eq!(janitor.take_due(later).unwrap().1, 2);
        assert_eq!(janitor.take_due(later).unwrap().1, 1);
        assert_eq!(janitor.take_due(later).unwrap_err(), None);
        janitor.list(now, 1, &key);
        assert_eq!(janitor.next().await.1, 1);
    }

    #[test]
    fn environments_that_ended_early_are_forgotten() {
        let registry = Registry::default();
        let janitor = Janitor::new(registry.clone());
        let key = FunctionKey::new("f", "1", "r");
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let enter = || {
            registry.enter(EnvironmentStatus {
                id: 0,
                function_arn: String::new(),
                version: String::new(),
                memory_mb: 128,
                log_stream: String::new(),
                started: clock::Timestamp::from_millis(0),
                state: EnvironmentState::Idle,
            })
        };
        let living: Vec<_> = (0..10).map(|_| enter()).collect();
        for entry in &living {
            janitor.list(now + hour, entry.id(), &key);
        }
        for _ in 0..10_000 {
            let ended = enter();
            janitor.list(now + hour, ended.id(), &key);
        }
        let agenda = janitor.lock();
        let listed = agenda.listed.len();
        assert!(listed <= 3 * living.len() + FEW, "{listed}");
        assert!(agenda.due.len() <= 2 * listed + FEW);
        let is_listed = |entry: &Entry| agenda.listed.contains_key(&entry.id());
        assert!(living.iter().all(is_listed));
    }

    #[test]
    fn earlier_time_replaces_a_later_one() {
        let janitor = Janitor::default();
        let key = FunctionKey::new("f", "1", "r");
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        janitor.list(now + hour, 1, &key);
        janitor.list(now, 1, &key);
        assert_eq!(janitor.take_due(now).unwrap().1, 1);
        assert!(
            janitor.take_due(now + hour).is_err(),
            "the later one is void"
        );
    }
}
