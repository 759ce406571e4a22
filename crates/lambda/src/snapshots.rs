//! When a version gets its snapshot, and what the outcome means for its state.
//!
//! A published version that asks for a snapshot is `Pending` until there is one. With
//! `snapstart.mode = "eager"` every version and `$LATEST` get one too, in the background: nobody
//! waits for those. How a snapshot is made, found again and used is the invoker's business.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use invoker::{FunctionKey, SnapStartMode, SnapshotError, SnapshotOutcome};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::function::{Failure, Function, FunctionId, Snapshot, Version};
use crate::functions::Functions;
use crate::package::CodeStore;
use crate::service::runnable;
use crate::workers::Workers;

/// What AWS says of a version whose init failed; the log has more.
const INIT_FAILED: &str = "An error occurred during function initialization.";
const MAX_REASON_CHARS: usize = 1000;

/// Asks the workers for snapshots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    mode: SnapStartMode,
    functions: Arc<Functions>,
    code: CodeStore,
    workers: Workers,
    /// Builds whose snapshot is being made.
    under_way: Arc<Mutex<HashSet<FunctionKey>>>,
    /// Snapshots that nobody waits for are made one by one, so that they do not hold up those that
    /// somebody does wait for.
    background: Arc<Semaphore>,
}

/// What came of one try.
enum Settled {
    As(Snapshot, Option<Failure>),
    /// Another will try again, or nobody needs it any more.
    Open,
}

impl Snapshots {
    pub fn new(
        mode: SnapStartMode,
        functions: Arc<Functions>,
        code: CodeStore,
        workers: Workers,
    ) -> Self {
        Self {
            mode,
            functions,
            code,
            workers,
            under_way: Arc::default(),
            background: Arc::new(Semaphore::new(1)),
        }
    }

    /// Has all snapshots made that a function is due, and waits for them. Ends at once where
    /// another call is at it.
    pub async fn make(&self, id: &FunctionId) {
        self.make_where(id, |version| self.is_due(version)).await;
    }

    /// As [`Snapshots::make`], with those that could not be made before the server was restarted.
    pub async fn make_again(&self, id: &FunctionId) {
        self.make_where(id, |version| {
            self.is_due(version) || matches!(version.snapshot, Snapshot::Missing { .. })
        })
        .await;
    }

    /// A snapshot that only `eager` mode asked for, in a server that is not eager any more.
    pub fn is_surplus(&self, version: &Version) -> bool {
        self.mode == SnapStartMode::Aws
            && version.snapshot != Snapshot::None
            && !version.asks_for_snapshot()
    }

    fn is_due(&self, version: &Version) -> bool {
        match version.snapshot {
            Snapshot::Wanted => true,
            Snapshot::None => self.mode == SnapStartMode::Eager && !version.is_settling(),
            Snapshot::Taken | Snapshot::Unfit { .. } | Snapshot::Missing { .. } => false,
        }
    }

    async fn make_where(&self, id: &FunctionId, due: impl Fn(&Version) -> bool) {
        // Deleted in the meantime: nothing to do.
        let Ok(function) = self.functions.get(id, None) else {
            return;
        };
        let mut making = JoinSet::new();
        for version in function.all_versions().filter(|version| due(version)) {
            let (this, function) = (self.clone(), Arc::clone(&function));
            let version = Arc::clone(version);
            making.spawn(async move { this.make_one(&function, &version).await });
        }
        while making.join_next().await.is_some() {}
    }

    async fn make_one(&self, function: &Function, version: &Version) {
        let runnable = runnable(&self.code, function, version);
        let Some(_guard) = UnderWay::enter(&self.under_way, runnable.key()) else {
            return;
        };
        let _turn = match version.waits_for_snapshot() {
            true => None,
            // Closed never.
            false => self.background.acquire().await.ok(),
        };
        if let Err(error) = self.code.ensure(version.code.digest).await {
            tracing::error!(
                function = runnable.arn,
                error = &error as &dyn std::error::Error,
                "the code of a function cannot be unpacked for its snapshot"
            );
            return;
        }
        let outcome = self.workers.snapshot(Arc::clone(&runnable)).await;
        let settled = settled(outcome, &runnable.arn, &runnable.version);
        let Settled::As(snapshot, failure) = settled else {
            return;
        };
        let (number, build) = (version.number, version.build.clone());
        let recorded = self.functions.change(function.id.clone(), move |function| {
            let version = function.version_mut(number);
            let Some(version) = version.filter(|version| version.build == build) else {
                return Err(function.id.not_found(None));
            };
            version.settle_snapshot(snapshot.clone(), failure.as_ref());
            Ok(())
        });
        match recorded.await {
            Ok(_) => {}
            // Deleted or replaced while it was made.
            Err(Error::FunctionNotFound { .. }) => self.workers.forget_snapshot(&runnable),
            Err(error) => tracing::error!(
                function = runnable.arn,
                version = runnable.version,
                error = &error as &dyn std::error::Error,
                "a snapshot is not recorded; it is found again at the next start"
            ),
        }
    }
}

fn settled(outcome: Result<SnapshotOutcome, SnapshotError>, arn: &str, version: &str) -> Settled {
    match outcome {
        Ok(SnapshotOutcome::Ready { id, adopted, .. }) => {
            tracing::info!(arn, version, image = id, adopted, "a snapshot is ready");
            Settled::As(Snapshot::Taken, None)
        }
        Ok(SnapshotOutcome::Unfit { reason }) => {
            tracing::info!(arn, version, reason, "a function cannot be frozen");
            let reason = bounded(&format!(
                "No snapshot: {reason}. The function works without."
            ));
            Settled::As(Snapshot::Unfit { reason }, None)
        }
        Err(SnapshotError::Init(failure)) => {
            tracing::info!(arn, version, error = %failure.message, "init for a snapshot failed");
            let reason = bounded(&format!(
                "{INIT_FAILED} {}: {}",
                failure.error_type, failure.message
            ));
            let code = failure.state_reason_code.to_owned();
            let unfit = Snapshot::Unfit {
                reason: reason.clone(),
            };
            Settled::As(unfit, Some(Failure { reason, code }))
        }
        Err(SnapshotError::ShuttingDown | SnapshotError::Forgotten) => Settled::Open,
        Err(error) => {
            tracing::warn!(
                arn,
                version,
                error = &error as &dyn std::error::Error,
                "a snapshot could not be made"
            );
            let why = match &error {
                // Says what to install.
                SnapshotError::Runtime(cause) => cause.to_string(),
                // The causes of the others are for the log.
                other => format!("{other}. The function works without."),
            };
            let reason = bounded(&format!("No snapshot yet: {why}"));
            Settled::As(Snapshot::Missing { reason }, None)
        }
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Marks a build as being worked on, until dropped.
struct UnderWay {
    all: Arc<Mutex<HashSet<FunctionKey>>>,
    key: FunctionKey,
}

impl UnderWay {
    fn enter(all: &Arc<Mutex<HashSet<FunctionKey>>>, key: FunctionKey) -> Option<Self> {
        let entered = lock(all).insert(key.clone());
        let all = Arc::clone(all);
        entered.then(|| Self { all, key })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.key);
    }
}

fn lock(all: &Mutex<HashSet<FunctionKey>>) -> MutexGuard<'_, HashSet<FunctionKey>> {
    // Nothing panics under the lock.
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::State;

    #[test]
    fn long_reasons_are_cut() {
        assert_eq!(bounded("short"), "short");
        assert_eq!(bounded(&"ü".repeat(2000)).chars().count(), 1003);
    }

    #[test]
    fn a_version_that_cannot_be_frozen_here_works_and_says_why() {
        let mut function = crate::function::tests::function("f");
        let version = Arc::make_mut(&mut function.latest);
        version.number = Some(1);
        version.settings.snap_start = true;
        version.state = State::Pending { restoring: false };
        version.snapshot = Snapshot::Wanted;
        let outcome = SnapshotOutcome::Unfit {
            reason: "processes cannot be thawed on this architecture".to_owned(),
        };
        let Settled::As(snapshot, failure) = settled(Ok(outcome), "arn", "1") else {
            panic!("there is nothing to wait for");
        };
        version.settle_snapshot(snapshot, failure.as_ref());
        let version = &function.latest;
        let answer = crate::configuration::of(&function, version, None, &version.state);
        assert_eq!(answer.state.unwrap().as_str(), "Active");
        let snap_start = answer.snap_start.unwrap();
        assert_eq!(snap_start.optimization_status.unwrap().as_str(), "Off");
        assert_eq!(
            answer.state_reason.unwrap(),
            "No snapshot: processes cannot be thawed on this architecture. The function works \
             without."
        );
    }

    #[test]
    fn a_build_is_worked_on_once() {
        let all = Arc::default();
        let key = || FunctionKey::new("arn", "1", "build");
        let first = UnderWay::enter(&all, key());
        assert!(first.is_some());
        assert!(UnderWay::enter(&all, key()).is_none());
        drop(first);
        assert!(UnderWay::enter(&all, key()).is_some());
    }
}
