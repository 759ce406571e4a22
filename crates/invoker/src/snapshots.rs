//! The life of snapshots on this server: how one is made, found again, kept in memory, restored
//! from and deleted.
//!
//! A snapshot belongs to one function revision on one kind of machine; its name in the store is a
//! hash of both ([`Identity`]). What is known about a revision is its [`Revision`]; its image, once
//! it is in memory and compiled, a [`LiveImage`]. A start that finds no usable image is a cold one,
//! always: nothing here makes a function fail that would work without snapshots, but for hooks of
//! its own that report an error.

mod config;
mod create;
mod envelope;
mod identity;
mod live;
mod metrics;
mod outcome;
mod parking;
mod priming;
mod restore;
mod revision;
mod upkeep;

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chunks::Chunks;
use clock::Timestamp;
use rustix::fs::{Mode, OFlags};
use sandbox::{Confinement, Sandboxes};
use tokio::sync::{Semaphore, watch};

use crate::invoker::Invoker;
use crate::{Function, FunctionKey};

pub use config::{SnapStart, SnapStartMode};
pub(crate) use identity::Identity;
pub(crate) use live::{LiveError, LiveImage, Turn};
pub use metrics::{Counter, PhaseMetrics, PhaseStatus};
pub(crate) use metrics::{Metrics, Phase};
pub use outcome::{
    InitFailure, SnapshotError, SnapshotOutcome, SnapshotState, SnapshotStatus, SnapshotTier,
};
pub(crate) use restore::Restoration;
pub(crate) use revision::{Plan, Revision};

use parking::Parking;

/// All snapshots of this server.
#[derive(Debug)]
pub(crate) struct Snapshots {
    config: SnapStart,
    images: Chunks,
    metrics: Metrics,
    /// `None` where environments cannot be thawed at all.
    confinement: Option<Arc<Confinement>>,
    userfault: Option<OwnedFd>,
    /// Whether clones can be made to show exactly what they use.
    records_exactly: bool,
    host: OnceLock<snapshot::Host>,
    revisions: Mutex<HashMap<FunctionKey, Arc<Revision>>>,
    making: Semaphore,
    /// Held while an image is deleted, and while a revision says that an image is its own: so none
    /// is deleted that someone has just claimed.
    claims: tokio::sync::Mutex<()>,
    cache_bytes: u64,
    parking: Parking,
    closing: watch::Sender<bool>,
}

impl Snapshots {
    pub fn new(config: SnapStart, images: Chunks, sandboxes: &Sandboxes) -> Arc<Self> {
        let confinement = sandboxes.confinement().map(Arc::new);
        if confinement.is_none() {
            tracing::warn!(
                "environments cannot be restored from snapshots here: every start is a cold one"
            );
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let userfault = rustix::fs::open("/dev/userfaultfd", flags, Mode::empty());
        if let Err(err) = &userfault {
            tracing::info!(error = %err, "no userfaultfd: a restore waits for its whole image");
        }
        let userfault = userfault.ok();
        let possible = |device: &OwnedFd| snapshot::Recorder::is_possible(device.as_fd());
        Arc::new(Self {
            cache_bytes: config.memory_cache_bytes(crate::config::host_memory_mb()),
            making: Semaphore::new(config.parallel_snapshots.max(1)),
            config,
            images,
            metrics: Metrics::default(),
            confinement,
            records_exactly: userfault.as_ref().is_some_and(possible),
            userfault,
            host: OnceLock::new(),
            revisions: Mutex::default(),
            claims: tokio::sync::Mutex::default(),
            parking: Parking::default(),
            closing: watch::channel(false).0,
        })
    }

    /// Whether invocations of this function are to be served from a snapshot.
    pub fn wants(&self, function: &Function) -> bool {
        match self.config.mode {
            SnapStartMode::Aws => function.snap_start && function.version != "$LATEST",
            SnapStartMode::Eager | SnapStartMode::Auto => true,
        }
    }

    pub fn config(&self) -> &SnapStart {
        &self.config
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where page faults of clones can be asked for, if the kernel lets us.
    pub fn userfault_device(&self) -> Option<&OwnedFd> {
        self.userfault.as_ref()
    }

    pub fn statuses(&self, now: Timestamp) -> Vec<SnapshotStatus> {
        let store = match self.images.config().l3 {
            chunks::L3::Local(_) => SnapshotTier::Disk,
            chunks::L3::S3(_) => SnapshotTier::ObjectStore,
        };
        let revisions: Vec<_> = self.lock_revisions().values().cloned().collect();
        let mut statuses: Vec<_> = revisions
            .iter()
            .filter(|revision| !revision.is_forgotten())
            .map(|revision| revision.status(now, store))
            .collect();
        statuses.sort_by(|a, b| {
            (&a.function_arn, &a.version, &a.id).cmp(&(&b.function_arn, &b.version, &b.id))
        });
        statuses
    }

    /// Forgets all images in memory.
    pub fn drop_live_images(&self, invoker: &Invoker) -> usize {
        let revisions: Vec<_> = self.lock_revisions().values().cloned().collect();
        let dropped = revisions
            .iter()
            .filter(|revision| revision.drop_live(None).is_some())
            .count();
        // Only now: one that is just being made is not parked any more.
        self.parking.end_all(invoker);
        dropped
    }

    /// Nothing new is begun, and what is under way in the background ends.
    pub fn close(&self, invoker: &Invoker) {
        self.closing.send_replace(true);
        self.parking.end_all(invoker);
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the server shuts down.
    async fn closed(&self) {
        // The sender lives in `self`, so that this cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// What is known about a function revision.
    fn revision(&self, function: &Arc<Function>) -> Arc<Revision> {
        let mut revisions = self.lock_revisions();
        let revision = revisions
            .entry(function.key())
            .or_insert_with(|| Arc::new(Revision::new(Arc::clone(function))));
        Arc::clone(revision)
    }

    fn known(&self, key: &FunctionKey) -> Option<Arc<Revision>> {
        self.lock_revisions().get(key).cloned()
    }

    /// How a revision is run and what its image is called. Claims the image.
    async fn plan(
        &self,
        invoker: &Arc<Invoker>,
        revision: &Arc<Revision>,
    ) -> Result<Arc<Plan>, SnapshotError> {
        if let Some(plan) = revision.plan() {
            return Ok(plan);
        }
        let runtimes = invoker.runtimes().clone();
        let function = Arc::clone(&revision.function);
        let known_host = self.host.get().cloned();
        let planning = tokio::task::spawn_blocking(move || {
            let resolved = runtimes
                .resolve_function(&function.runtime, &function.code_dir, &function.layer_dirs)
                .map_err(|err| SnapshotError::Runtime(Arc::new(err)))?;
            let host = match known_host {
                Some(host) => host,
                None => snapshot::host().map_err(|err| SnapshotError::Freeze(Arc::new(err)))?,
            };
            let identity =
                Identity::of(&function, &resolved, &host).map_err(SnapshotError::Store)?;
            Ok((host, Plan { resolved, identity }))
        });
        let (host, plan) = planning.await.map_err(|_| SnapshotError::ShuttingDown)??;
        let _ = self.host.set(host);
        let claim = self.claims.lock().await;
        let plan = revision.set_plan(plan);
        drop(claim);
        Ok(plan)
    }

    fn lock_revisions(&self) -> MutexGuard<'_, HashMap<FunctionKey, Arc<Revision>>> {
        // Nothing panics under the lock.
        self.revisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
