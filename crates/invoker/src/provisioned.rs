//! Provisioned concurrency: environments of a version that are initialised before anybody asks for
//! them, and kept.
//!
//! They form a pool of their own beside the one that invocations start environments for, under a
//! key of its own ([`FunctionKey::provisioned`]). [`crate::placement`] keeps the pool at its size:
//! neither idle time nor memory that others want ends them, and one that dies is replaced. An
//! invocation of the version takes one that is idle, waits a moment for one that has just answered,
//! and otherwise goes to the ordinary pool: it spills over.
//!
//! What is wanted, what is there and what went wrong is a [`Stand`]; it is shared by the pool, by
//! the function's gate and by whoever asks.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html>.

mod supply;

pub(crate) use supply::pause_after;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::admission::{Gate, Tally};
use crate::{Function, FunctionKey};

/// What a version of a function is to have.
#[derive(Clone, Debug)]
pub struct Share {
    pub function: Arc<Function>,
    /// So many environments are kept initialised.
    pub wanted: u32,
    /// They take from the function's reserved concurrency, or the account's. While an alias moves
    /// from one version to another both have environments, and only one of them counts.
    pub counted: bool,
}

/// How far the provisioned environments of a version are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvisionedStatus {
    pub wanted: u32,
    /// Environments that are there and have finished their init.
    pub allocated: u32,
    /// Of these, how many run an invocation.
    pub running: u32,
    /// Why there are fewer than wanted, in the form of AWS's `StatusReason`. Another try follows.
    pub failure: Option<Arc<str>>,
    /// Invocations that they have served.
    pub invocations: u64,
    /// Invocations of the version for which none of them was free.
    pub spillovers: u64,
}

impl ProvisionedStatus {
    pub fn is_ready(&self) -> bool {
        self.allocated >= self.wanted
    }
}

/// A function and what it uses of its account's concurrency.
#[derive(Clone, Debug)]
pub struct FunctionCapacity {
    /// Without a qualifier.
    pub arn: String,
    pub reserved: Option<u32>,
    /// Running invocations.
    pub running: u32,
    /// By version.
    pub provisioned: Vec<(String, ProvisionedStatus)>,
}

/// AWS's word for a function whose init fails.
pub(crate) const INIT_FAILURE: &str = "FUNCTION_ERROR_INIT_FAILURE";
/// Ours: AWS does not run out of memory.
pub(crate) const NO_MEMORY: &str = "INSUFFICIENT_HOST_MEMORY";

/// An invocation waits this long for a provisioned environment that has answered and has not yet
/// asked for more. A cold start would take longer where the processors are that busy.
pub(crate) const EXPECTED_BACK: Duration = Duration::from_secs(1);

/// AWS gives the init of provisioned environments more time than others, and at least as long as
/// an invocation has.
pub(crate) fn init_limit(function: &Function) -> Duration {
    Duration::from_secs(130).max(function.timeout)
}

/// The provisioned environments of one version.
#[derive(Debug)]
pub(crate) struct Stand {
    pub function: Arc<Function>,
    /// Of their pool.
    pub key: FunctionKey,
    pub running: AtomicU32,
    pub invocations: Tally,
    pub spillovers: Tally,
    gate: Weak<Gate>,
    counted: AtomicBool,
    /// As how many the gate counts them.
    counted_as: Mutex<u32>,
    condition: watch::Sender<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Condition {
    wanted: u32,
    allocated: u32,
    failure: Option<Arc<str>>,
}

impl Stand {
    pub fn new(function: Arc<Function>, gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            key: function.key().provisioned(),
            function,
            running: AtomicU32::new(0),
            invocations: Tally::new(0),
            spillovers: Tally::new(0),
            gate: Arc::downgrade(gate),
            counted: AtomicBool::new(false),
            counted_as: Mutex::new(0),
            condition: watch::Sender::default(),
        })
    }

    pub fn is_of(&self, function: &Function) -> bool {
        self.function.version == function.version
            && self.function.revision_id == function.revision_id
    }

    pub fn want(&self, wanted: u32, counted: bool) {
        self.counted.store(counted, Ordering::Relaxed);
        self.change(|condition| condition.wanted = wanted);
    }

    /// So many are there now.
    pub fn set_allocated(&self, allocated: usize) {
        let allocated = u32::try_from(allocated).unwrap_or(u32::MAX);
        self.change(|condition| condition.allocated = allocated);
    }

    pub fn set_failure(&self, failure: Option<Arc<str>>) {
        self.change(|condition| condition.failure = failure);
    }

    fn change(&self, change: impl FnOnce(&mut Condition)) {
        self.condition.send_if_modified(|condition| {
            let before = condition.clone();
            change(condition);
            *condition != before
        });
        self.recount();
    }

    fn recount(&self) {
        let Some(gate) = self.gate.upgrade() else {
            return;
        };
        let mut counted_as = self
            .counted_as
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = {
            let condition = self.condition.borrow();
            match self.counted.load(Ordering::Relaxed) {
                true => condition.allocated.min(condition.wanted),
                false => 0,
            }
        };
        let before = std::mem::replace(&mut *counted_as, now);
        if before != now {
            gate.count_provisioned(before, now);
        }
    }

    pub fn allocated(&self) -> u32 {
        self.condition.borrow().allocated
    }

    pub fn status(&self) -> ProvisionedStatus {
        let Condition {
            wanted,
            allocated,
            failure,
        } = self.condition.borrow().clone();
        ProvisionedStatus {
            wanted,
            allocated,
            running: self.running.load(Ordering::Relaxed),
            failure: failure.filter(|_| allocated < wanted),
            invocations: self.invocations.load(Ordering::Relaxed),
            spillovers: self.spillovers.load(Ordering::Relaxed),
        }
    }

    /// Waits until all that are wanted are there. False if none are wanted any more.
    pub async fn ready(&self) -> bool {
        let mut condition = self.condition.subscribe();
        let settled = condition
            .wait_for(|now| now.wanted == 0 || now.allocated >= now.wanted)
            .await;
        settled.is_ok_and(|now| now.wanted > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, Place};
    use crate::{Config, testing};

    fn stand() -> (Arc<Gate>, Arc<Stand>) {
        let admission = Admission::new(&Config::default());
        let function = Arc::new(testing::function());
        let gate = admission.gate(Place::from(&*function));
        let stand = Stand::new(function, &gate);
        (gate, stand)
    }

    #[tokio::test]
    async fn stand_is_ready_when_all_are_there() {
        let (_gate, stand) = stand();
        stand.want(2, true);
        stand.set_allocated(1);
        let waiting = stand.ready();
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("one is missing"),
            () = std::future::ready(()) => {}
        }
        stand.set_allocated(2);
        assert!(waiting.await);
        stand.want(0, true);
        assert!(!stand.ready().await);
    }

    #[test]
    fn failure_shows_only_while_some_are_missing() {
        let (_gate, stand) = stand();
        stand.want(1, true);
        stand.set_failure(Some(INIT_FAILURE.into()));
        assert_eq!(stand.status().failure.as_deref(), Some(INIT_FAILURE));
        assert!(!stand.status().is_ready());
        stand.set_allocated(1);
        assert_eq!(stand.status().failure, None);
        assert!(stand.status().is_ready());
    }

    #[test]
    fn only_counted_environments_that_are_wanted_take_places() {
        let (gate, stand) = stand();
        gate.reserve(Some(3));
        stand.want(2, true);
        stand.set_allocated(3);
        let free = |gate: &Arc<Gate>| {
            std::iter::from_fn(|| Admission::new(&Config::default()).admit(gate).ok())
                .collect::<Vec<_>>()
                .len()
        };
        assert_eq!(free(&gate), 1);
        stand.want(2, false);
        assert_eq!(free(&gate), 3);
    }
}
