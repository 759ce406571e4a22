//! Starting an environment from a snapshot.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use snapshot::WorkingSet;

use super::envelope;
use super::live::{self, Filling, LiveError, LiveImage, Pages, Turn, WORKING_SET};
use super::revision::{Plan, Revision, Stage, Stored};
use super::{Phase, SnapshotError, Snapshots};
use crate::environment::{Environment, Origin};
use crate::invoker::Invoker;
use crate::start::{Raised, Source, Start, StartFailure, ThawError, Unleased};
use crate::{FunctionKey, InvokeError};

/// How the engine begins to say that a mapped file has changed since the freeze, for instance
/// because the interpreter was updated.
const CHANGED: &str = "is not the file that the image was made with";

/// What came of the wish to start from a snapshot.
pub(crate) enum Restoration {
    Environment(Box<Environment>),
    /// There is none that works: the start has to be a cold one.
    Cold(Box<Start>),
    /// Another start would fail the same way.
    Failed(StartFailure),
}

/// After this many restores in a row that failed, an image is not used any more.
const MAX_FAILURES: u32 = 3;

impl Snapshots {
    /// Starts an environment from its function's snapshot: a parked one if there is one.
    pub async fn restore(self: &Arc<Self>, start: Start) -> Restoration {
        let revision = self.revision(&start.function);
        if let Some(environment) = self.wake_parked(&start, &revision).await {
            return match environment {
                Ok(woken) => self.restored(start, &revision, woken),
                Err(failure) => Restoration::Failed(failure),
            };
        }
        let (plan, live) = match self.usable(&start.invoker, &revision).await {
            Ok(usable) => usable,
            Err(reason) => {
                self.metrics.count_because("cold_fallbacks", reason);
                revision.cold.fetch_add(1, Ordering::Relaxed);
                return Restoration::Cold(Box::new(start));
            }
        };
        let began = Instant::now();
        let error = match self.thaw(&start, &revision, plan, &live).await {
            Ok(raised) => {
                live.failures.store(0, Ordering::Relaxed);
                self.metrics.lap(Phase::Restore, began);
                self.metrics.count("restores");
                revision.restores.record(began.elapsed());
                revision.restored.fetch_add(1, Ordering::Relaxed);
                return self.restored(start, &revision, raised);
            }
            Err(error) => error,
        };
        match error {
            ThawError::Reported(fault) => {
                self.metrics.count_because("failed_restores", "hook");
                Restoration::Failed(hook_failed(&fault))
            }
            ThawError::TimedOut => {
                self.metrics.count_because("failed_restores", "timeout");
                Restoration::Failed(StartFailure::Unable(InvokeError::SnapStartTimeout))
            }
            error => {
                self.fell_back(&revision, &live, &error);
                Restoration::Cold(Box::new(start))
            }
        }
    }

    async fn thaw(
        self: &Arc<Self>,
        start: &Start,
        revision: &Arc<Revision>,
        plan: Arc<Plan>,
        live: &Arc<LiveImage>,
    ) -> Result<Unleased, ThawError> {
        let source = Source {
            snapshots: Arc::clone(self),
            revision: Arc::clone(revision),
            plan,
            live: Arc::clone(live),
        };
        let raised = Raised::raise(&start.invoker, source, true).await?;
        Box::new(raised).release(&start.invoker, self).await
    }

    /// Wakes an environment that was parked, if there is one that can be woken.
    async fn wake_parked(
        self: &Arc<Self>,
        start: &Start,
        revision: &Arc<Revision>,
    ) -> Option<Result<Unleased, StartFailure>> {
        while let Some(mut raised) = self.parking.take(&start.key) {
            revision.parked.fetch_sub(1, Ordering::Relaxed);
            let began = Instant::now();
            if raised.has_ended() || raised.wake().is_err() {
                raised.end(&start.invoker, false);
                continue;
            }
            match raised.release(&start.invoker, self).await {
                Ok(unleased) => {
                    self.metrics.lap(Phase::Wake, began);
                    self.metrics.count("parked_hits");
                    revision.parked_hits.fetch_add(1, Ordering::Relaxed);
                    return Some(Ok(unleased));
                }
                Err(ThawError::Reported(fault)) => return Some(Err(hook_failed(&fault))),
                Err(ThawError::TimedOut) => {
                    let timed_out = StartFailure::Unable(InvokeError::SnapStartTimeout);
                    return Some(Err(timed_out));
                }
                Err(error) => {
                    self.metrics.count_because("lost_parked", error.reason());
                    tracing::warn!(function = %start.key, error = %error, "a parked environment was lost");
                }
            }
        }
        None
    }

    /// Gives it the memory that was promised to the start, and sees to it that the next one goes
    /// faster.
    fn restored(
        self: &Arc<Self>,
        start: Start,
        revision: &Arc<Revision>,
        unleased: Unleased,
    ) -> Restoration {
        self.replenish(&start.invoker, revision);
        let mut environment = unleased.lease(start.lease);
        // Of the ordinary pool, or of the provisioned one.
        environment.key = start.key;
        Restoration::Environment(environment)
    }

    /// The image of a revision, ready to be thawed; else a word for the metrics.
    async fn usable(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
    ) -> Result<(Arc<Plan>, Arc<LiveImage>), &'static str> {
        if self.confinement.is_none() {
            return Err("host");
        }
        if let (Some(plan), Some(live)) = (revision.plan(), revision.live()) {
            live.touch();
            return Ok((plan, live));
        }
        match revision.stage() {
            Stage::Unknown | Stage::Ready => {}
            Stage::Absent => return Err("absent"),
            Stage::Unfit(_) => return Err("unfit"),
            Stage::Failed(_) => return Err("failed"),
        }
        if revision.is_being_made() {
            return Err("creating");
        }
        match self.open(invoker, revision).await {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => Err("absent"),
            Err(err) => {
                tracing::warn!(
                    function = %revision.key,
                    error = &err as &dyn std::error::Error,
                    "cannot open a snapshot: this start is a cold one",
                );
                Err("open")
            }
        }
    }

    /// Opens a revision's image from the store; at most one does so at a time. Images that are
    /// damaged, or of a form that this server does not read, are deleted.
    pub(super) async fn open(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
    ) -> Result<Option<(Arc<Plan>, Arc<LiveImage>)>, SnapshotError> {
        let plan = self.plan(invoker, revision).await?;
        let opening = revision.opening.lock().await;
        if let Some(live) = revision.live() {
            return Ok(Some((plan, live)));
        }
        let began = Instant::now();
        let opened = self.open_stored(revision, &plan).await;
        let live = match opened {
            Ok(Some(live)) => live,
            Ok(None) => {
                revision.set_stage(Stage::Absent);
                return Ok(None);
            }
            Err(Unusable::Damaged(reason)) => {
                tracing::warn!(function = %revision.key, reason, "a stored snapshot is not usable and is deleted");
                self.discard_stored(revision, &plan, "damaged").await;
                return Ok(None);
            }
            Err(Unusable::Store(err)) => return Err(SnapshotError::Store(err)),
            Err(Unusable::Failed(err)) => return Err(SnapshotError::Freeze(Arc::new(err))),
        };
        self.metrics.lap(Phase::Open, began);
        revision.set_live(Arc::clone(&live));
        drop(opening);
        self.await_completion(revision, &live);
        self.evict(&live);
        Ok(Some((plan, live)))
    }

    async fn open_stored(
        self: &Arc<Self>,
        revision: &Revision,
        plan: &Plan,
    ) -> Result<Option<Arc<LiveImage>>, Unusable> {
        let (account, id) = (&plan.identity.account, &plan.identity.id);
        let stored = match self.images.image(account, id).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(None),
            Err(err) => return Err(err.into()),
        };
        revision.set_stored(Stored {
            created: stored.created(),
            bytes: stored.len(),
            stored_bytes: stored.stored_bytes(),
        });
        let Some(confinement) = self.confinement.clone() else {
            return Ok(None);
        };
        let pages = Pages::new().map_err(LiveError::Memory)?;
        let sized = pages.file().set_len(stored.len());
        sized.map_err(LiveError::Memory)?;
        let described = Arc::clone(&stored);
        let decoding = tokio::task::spawn_blocking(move || envelope::open(described.meta()));
        // What is known to be needed first lies together. Without that, it is in chunks. Without
        // knowing it a restore is slower, nothing else.
        let (working_set, packed) =
            tokio::join!(stored.side(WORKING_SET), stored.load_first(pages.file()));
        let working_set: Option<WorkingSet> = working_set
            .ok()
            .flatten()
            .and_then(|record| serde_json::from_slice(&record).ok());
        let decoded = decoding.await.map_err(failed)?;
        let (header, image) = decoded.map_err(Unusable::Damaged)?;
        let snapshots = Arc::clone(self);
        let opening = tokio::task::spawn_blocking(move || {
            if image.pages_len != stored.len() {
                return Err(Unusable::Damaged("its pages are of another length".into()));
            }
            if snapshots.host.get() != Some(&image.host) {
                return Err(Unusable::Damaged("it was made on another machine".into()));
            }
            let first = match (&packed, &working_set) {
                (None, Some(set)) => live::touched(set, stored.len()),
                _ => Vec::new(),
            };
            let plan = chunks::Plan {
                first: &first,
                // Whoever has its first pages needs the machine for itself.
                rest: packed.is_none(),
            };
            let fill = Arc::new(stored.fill_with(Arc::clone(pages.file()), plan));
            let live = LiveImage::filling(
                (header, image),
                &confinement,
                pages,
                Filling { fill, packed },
                working_set,
                &snapshots,
            )?;
            Ok(Some(Arc::new(live)))
        });
        opening.await.unwrap_or_else(|err| Err(failed(err)))
    }

    /// Follows the loading of an image to its end.
    fn await_completion(self: &Arc<Self>, revision: &Arc<Revision>, live: &Arc<LiveImage>) {
        let (snapshots, revision, live) =
            (Arc::clone(self), Arc::clone(revision), Arc::clone(live));
        tokio::spawn(async move {
            let completed = tokio::select! {
                completed = live.completed(&snapshots) => completed,
                () = snapshots.closed() => return,
            };
            if let Err(err) = completed {
                snapshots.lost_image(&revision, &live, &err);
                return;
            }
            if let Some(plan) = revision.plan().filter(|_| live.scattered) {
                snapshots.keep_first(&plan, &live).await;
            }
        });
    }

    /// Pages of an image cannot be had: nobody is thawed from it any more. One that is damaged is
    /// deleted; where the store is out of reach, the next start opens it again.
    pub(crate) fn lost_image(
        self: &Arc<Self>,
        revision: &Arc<Revision>,
        live: &Arc<LiveImage>,
        err: &LiveError,
    ) {
        if revision.drop_live(Some(live)).is_none() {
            return;
        }
        let damaged = err.is_damage();
        tracing::warn!(
            function = %revision.key,
            error = err as &dyn std::error::Error,
            damaged,
            "a snapshot cannot be read",
        );
        if damaged {
            self.discard_in_background(revision, "pages");
        } else {
            self.metrics.count_because("images_dropped", "store");
        }
    }

    fn fell_back(
        self: &Arc<Self>,
        revision: &Arc<Revision>,
        live: &Arc<LiveImage>,
        error: &ThawError,
    ) {
        tracing::warn!(
            function = %revision.key,
            error = error as &dyn std::error::Error,
            "a restore failed: this start is a cold one",
        );
        self.metrics.count_because("cold_fallbacks", error.reason());
        revision.cold.fetch_add(1, Ordering::Relaxed);
        match error {
            ThawError::Image(err @ LiveError::Pages(_)) => self.lost_image(revision, live, err),
            ThawError::Environment(_) => {}
            ThawError::Engine(reason) if reason.contains(CHANGED) => {
                if revision.drop_live(Some(live)).is_some() {
                    self.discard_in_background(revision, "changed");
                    revision.forget_plan();
                }
            }
            _ => {
                let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if failures >= MAX_FAILURES && revision.drop_live(Some(live)).is_some() {
                    // Made again at once it would most likely fail again.
                    revision.failed(error.to_string());
                    self.discard_in_background(revision, "restores");
                }
            }
        }
    }

    /// The first answer of a restored environment is there: now it shows which pages that took.
    pub async fn answered(self: &Arc<Self>, environment: &Environment) {
        let Some(Origin { live, turn, .. }) = &environment.origin else {
            return;
        };
        let turn = turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        if environment.deliveries != 1 {
            return;
        }
        self.metrics.lap(Phase::FirstAnswer, environment.woken());
        live.has_answered();
        if let Some(set) = live.grown() {
            if let Ok(record) = serde_json::to_vec(&*set) {
                self.keep_working_set(&environment.key, live, record);
            }
            return;
        }
        let (Some(mut turn), Ok(pid)) = (
            turn.or_else(|| Turn::take(live)),
            environment.process().host_pid(),
        ) else {
            return;
        };
        let began = Instant::now();
        let recorder = turn.recorder().await;
        let (scanned, snapshots) = (Arc::clone(live), Arc::clone(self));
        let scanning = tokio::task::spawn_blocking(move || {
            let set = snapshot::scan(pid, &scanned.image)?;
            // From here on it is an environment like any other.
            drop(recorder);
            let record = serde_json::to_vec(&set)?;
            scanned.recorded(set, &snapshots.metrics);
            Ok::<_, std::io::Error>(record)
        });
        let record = match scanning.await {
            Ok(Ok(record)) => record,
            Ok(Err(err)) => {
                tracing::warn!(function = %environment.key, error = %err, "cannot tell what an environment has touched");
                return;
            }
            Err(_) => return,
        };
        drop(turn);
        self.metrics.lap(Phase::WorkingSet, began);
        self.keep_working_set(&environment.key, live, record);
    }

    /// Stores what a first answer needs, in the background.
    fn keep_working_set(
        self: &Arc<Self>,
        key: &FunctionKey,
        live: &Arc<LiveImage>,
        record: Vec<u8>,
    ) {
        let plan = self.known(key).and_then(|revision| revision.plan());
        let Some(plan) = plan else {
            return;
        };
        let (snapshots, live) = (Arc::clone(self), Arc::clone(live));
        tokio::spawn(async move {
            let (account, id) = (&plan.identity.account, &plan.identity.id);
            let kept = snapshots
                .images
                .put_side(account, id, WORKING_SET, &record)
                .await;
            if let Err(err) = kept {
                tracing::warn!(
                    error = &err as &dyn std::error::Error,
                    "cannot keep a working set"
                );
                return;
            }
            snapshots.keep_first(&plan, &live).await;
        });
    }

    /// Stores what is needed first once more, together.
    async fn keep_first(&self, plan: &Plan, live: &LiveImage) {
        let Some(set) = live.working_set() else {
            return;
        };
        let (account, id) = (&plan.identity.account, &plan.identity.id);
        let keeping = async {
            let Some(stored) = self.images.image(account, id).await? else {
                return Ok(false);
            };
            let ranges = live::touched(&set, stored.len());
            stored.keep_first(&ranges).await
        };
        if let Err::<_, chunks::Error>(err) = keeping.await {
            tracing::warn!(
                error = &err as &dyn std::error::Error,
                "cannot keep the pages of a working set"
            );
        }
    }
}

/// Why a stored image cannot be opened.
enum Unusable {
    /// It will never be.
    Damaged(String),
    Store(chunks::Error),
    Failed(LiveError),
}

impl From<chunks::Error> for Unusable {
    fn from(err: chunks::Error) -> Self {
        if err.is_damage() {
            Self::Damaged(err.to_string())
        } else {
            Self::Store(err)
        }
    }
}

impl From<LiveError> for Unusable {
    fn from(err: LiveError) -> Self {
        match err {
            LiveError::Compile(err) => Self::Damaged(err.to_string()),
            LiveError::Pages(err) => err.into(),
            err @ LiveError::Memory(_) => Self::Failed(err),
        }
    }
}

/// A task did not come to its end.
fn failed(err: tokio::task::JoinError) -> Unusable {
    LiveError::Memory(std::io::Error::other(err)).into()
}

/// What the caller of an invocation is told when an after-restore hook failed.
fn hook_failed(fault: &crate::runtime_api::RuntimeFault) -> StartFailure {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        error_message: Option<String>,
        error_type: Option<String>,
    }
    let body = serde_json::from_slice::<Body>(&fault.body).ok();
    let (message, named) = body.map_or((None, None), |body| (body.error_message, body.error_type));
    StartFailure::Unable(InvokeError::SnapStart {
        error_type: named
            .or_else(|| fault.error_type.clone())
            .unwrap_or_else(|| "Runtime.Unknown".into()),
        message: message.unwrap_or_default(),
    })
}
