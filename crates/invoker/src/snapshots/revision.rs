//! What is known about the snapshot of one function revision.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clock::Timestamp;
use tokio::sync::watch;

use super::live::LiveImage;
use super::metrics::Histogram;
use super::{
    Identity, SnapshotError, SnapshotOutcome, SnapshotState, SnapshotStatus, SnapshotTier,
};
use crate::runtimes::Resolved;
use crate::{Function, FunctionKey};

pub(super) type Answer = Option<Result<SnapshotOutcome, SnapshotError>>;

/// The snapshot of one function revision, whether there is one or not.
#[derive(Debug)]
pub(crate) struct Revision {
    pub key: FunctionKey,
    pub function: Arc<Function>,
    /// How it is run, and what its image is called.
    plan: Mutex<Option<Arc<Plan>>>,
    state: Mutex<State>,
    /// Held while the image is looked up and opened.
    pub opening: tokio::sync::Mutex<()>,
    /// It was replaced or deleted.
    pub forgotten: AtomicBool,
    pub restores: Histogram,
    pub restored: AtomicU64,
    pub parked_hits: AtomicU64,
    pub cold: AtomicU64,
    pub parked: AtomicUsize,
}

/// What follows from a function and this machine.
#[derive(Debug)]
pub(crate) struct Plan {
    pub resolved: Resolved,
    pub identity: Identity,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    live: Option<Arc<LiveImage>>,
    stored: Option<Stored>,
    making: Option<watch::Receiver<Answer>>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// What the store says about an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub created: Timestamp,
    pub bytes: u64,
    pub stored_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// The store does not have it.
    Absent,
    Ready,
    Unfit(String),
    Failed(String),
}

/// Time until a snapshot that could not be made is tried again, doubled with each failure.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;

impl Revision {
    pub fn new(function: Arc<Function>) -> Self {
        Self {
            key: function.key(),
            function,
            plan: Mutex::default(),
            state: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            forgotten: AtomicBool::new(false),
            restores: Histogram::default(),
            restored: AtomicU64::new(0),
            parked_hits: AtomicU64::new(0),
            cold: AtomicU64::new(0),
            parked: AtomicUsize::new(0),
        }
    }

    pub fn plan(&self) -> Option<Arc<Plan>> {
        self.lock_plan().clone()
    }

    /// The first one that is set stays.
    pub fn set_plan(&self, plan: Plan) -> Arc<Plan> {
        Arc::clone(self.lock_plan().get_or_insert_with(|| Arc::new(plan)))
    }

    /// What it was made from has changed on this machine.
    pub fn forget_plan(&self) {
        *self.lock_plan() = None;
    }

    fn lock_plan(&self) -> MutexGuard<'_, Option<Arc<Plan>>> {
        // Nothing panics under the lock.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Acquire)
    }

    /// The image, if it is in memory.
    pub fn live(&self) -> Option<Arc<LiveImage>> {
        self.lock().live.clone()
    }

    pub fn set_live(&self, live: Arc<LiveImage>) {
        let mut state = self.lock();
        state.stage = Stage::Ready;
        state.failures = 0;
        state.retry_at = None;
        state.live = Some(live);
    }

    /// Takes the image out of memory: this one, or whichever it is.
    pub fn drop_live(&self, which: Option<&Arc<LiveImage>>) -> Option<Arc<LiveImage>> {
        let mut state = self.lock();
        let same = match (&state.live, which) {
            (Some(live), Some(which)) => Arc::ptr_eq(live, which),
            (Some(_), None) => true,
            (None, _) => false,
        };
        state.live.take_if(|_| same)
    }

    pub fn stage(&self) -> Stage {
        self.lock().stage.clone()
    }

    pub fn set_stage(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    pub fn set_stored(&self, stored: Stored) {
        self.lock().stored = Some(stored);
    }

    /// The store has it; whether it is usable shows when it is opened.
    pub fn found(&self, stored: Stored) {
        let mut state = self.lock();
        if state.stage == Stage::Unknown {
            state.stage = Stage::Ready;
            state.stored = Some(stored);
        }
    }

    /// A try to make it failed: the next one has to wait.
    pub fn failed(&self, reason: String) {
        let mut state = self.lock();
        let doublings = state.failures.min(MAX_DOUBLINGS);
        state.failures += 1;
        state.retry_at = Some(Instant::now() + FIRST_RETRY * 2_u32.pow(doublings));
        state.stage = Stage::Failed(reason);
    }

    /// Whether it is worth making it now without being asked to.
    pub fn may_be_made(&self) -> bool {
        let state = self.lock();
        if self.is_forgotten() || state.making.is_some() {
            return false;
        }
        match state.stage {
            Stage::Unknown | Stage::Absent => true,
            Stage::Ready | Stage::Unfit(_) => false,
            Stage::Failed(_) => state.retry_at.is_none_or(|at| at <= Instant::now()),
        }
    }

    /// Joins those who wait for it to be made; the first one gets the sender and has to make it.
    pub fn join_making(&self) -> (Option<watch::Sender<Answer>>, watch::Receiver<Answer>) {
        let mut state = self.lock();
        if let Some(making) = &state.making {
            return (None, making.clone());
        }
        let (sender, receiver) = watch::channel(None);
        state.making = Some(receiver.clone());
        (Some(sender), receiver)
    }

    pub fn made(&self) {
        self.lock().making = None;
    }

    pub fn is_being_made(&self) -> bool {
        self.lock().making.is_some()
    }

    /// As it is `now`; `store` is where images are that are not in memory.
    pub fn status(&self, now: Timestamp, store: SnapshotTier) -> SnapshotStatus {
        let state = self.lock();
        let (name, reason) = match &state.stage {
            _ if state.making.is_some() => (SnapshotState::Creating, None),
            Stage::Unknown | Stage::Absent => (SnapshotState::Unknown, None),
            Stage::Ready => (SnapshotState::Ready, None),
            Stage::Unfit(reason) => (SnapshotState::Unfit, Some(reason.clone())),
            Stage::Failed(reason) => (SnapshotState::Failed, Some(reason.clone())),
        };
        let tier = match &state.live {
            _ if name != SnapshotState::Ready => None,
            Some(live) if live.is_complete() => Some(SnapshotTier::Memory),
            _ => Some(store),
        };
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (restores, hits, cold) = (
            counted(&self.restored),
            counted(&self.parked_hits),
            counted(&self.cold),
        );
        let starts = restores + hits + cold;
        let working_set = state.live.as_ref().and_then(|live| live.working_set());
        SnapshotStatus {
            function_arn: self.function.arn.clone(),
            version: self.function.version.clone(),
            runtime: self.function.runtime.clone(),
            id: self.plan().map(|plan| plan.identity.id.to_string()),
            state: name,
            reason,
            created: state.stored.map(|stored| stored.created),
            age_s: state
                .stored
                .map(|stored| now.duration_since(stored.created).as_secs()),
            bytes: state.stored.map(|stored| stored.bytes),
            stored_bytes: state.stored.map(|stored| stored.stored_bytes),
            tier,
            restores,
            cold_fallbacks: cold,
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 starts")]
            hit_rate: (starts > 0).then(|| (restores + hits) as f64 / starts as f64),
            parked_hits: hits,
            parked: self.parked.load(Ordering::Relaxed),
            restore_p50_ms: self.restores.quantile_ms(0.5),
            restore_p99_ms: self.restores.quantile_ms(0.99),
            working_set_bytes: working_set
                .map(|set| set.touched.iter().map(|(_, length)| length).sum()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
