//! What is done about snapshots beside the way of an invocation: deleting them, making them again,
//! keeping memory and store within their bounds.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chunks::{ImageId, Listed};

use super::live::LiveImage;
use super::revision::{Plan, Revision, Stage, Stored};
use super::{SnapshotError, SnapshotOutcome, Snapshots};
use crate::Function;
use crate::invoker::Invoker;

/// The cold start that asks for a snapshot has the processors for itself this long.
const AFTER_A_COLD_START: Duration = Duration::from_millis(250);

impl Snapshots {
    /// A cold start of a function that wants a snapshot: it is made now, unless there is a reason
    /// not to.
    pub fn after_cold_start(self: &Arc<Self>, invoker: &Arc<Invoker>, function: &Arc<Function>) {
        let revision = self.revision(function);
        if self.is_closing() || !revision.may_be_made() {
            return;
        }
        let (snapshots, invoker) = (Arc::clone(self), Arc::clone(invoker));
        let function = Arc::clone(function);
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_A_COLD_START).await;
            if snapshots.is_closing() || !revision.may_be_made() {
                return;
            }
            match snapshots.make(&invoker, &function).await {
                Ok(SnapshotOutcome::Ready { .. }) => {
                    tracing::info!(function = %revision.key, "made a snapshot");
                }
                Ok(SnapshotOutcome::Unfit { reason }) => {
                    tracing::info!(function = %revision.key, reason, "has no snapshot");
                }
                Err(SnapshotError::ShuttingDown | SnapshotError::Forgotten) => {}
                Err(err) => {
                    tracing::warn!(
                        function = %revision.key,
                        error = &err as &dyn std::error::Error,
                        "cannot make a snapshot",
                    );
                }
            }
        });
    }

    /// A function revision is gone, and its snapshot with it.
    pub fn forget(self: &Arc<Self>, invoker: &Arc<Invoker>, function: &Function) {
        let key = function.key();
        let known = self.lock_revisions().remove(&key);
        if known.is_none() && !self.wants(function) {
            return;
        }
        let revision = known.unwrap_or_else(|| Arc::new(Revision::new(Arc::new(function.clone()))));
        revision.forgotten.store(true, Ordering::Release);
        revision.drop_live(None);
        self.end_parked(invoker, &key);
        let (snapshots, invoker) = (Arc::clone(self), Arc::clone(invoker));
        tokio::spawn(async move {
            // At once, as long as its files are there.
            let plan = match snapshots.plan(&invoker, &revision).await {
                Ok(plan) => plan,
                Err(err) => {
                    tracing::debug!(function = %revision.key, error = %err, "a forgotten snapshot has no name");
                    return;
                }
            };
            // Where a new revision has the same content, it has the same image. It will have
            // claimed it by then.
            tokio::time::sleep(FORGETTING).await;
            snapshots
                .discard_stored(&revision, &plan, "forgotten")
                .await;
        });
    }

    /// Deletes an image from the store, unless another revision claims it.
    pub(super) async fn discard_stored(
        &self,
        revision: &Revision,
        plan: &Plan,
        reason: &'static str,
    ) {
        let _claims = self.claims.lock().await;
        let identity = &plan.identity;
        let claimed = self.lock_revisions().values().any(|other| {
            other.key != revision.key
                && !other.is_forgotten()
                && other.plan().is_some_and(|plan| plan.identity == *identity)
        });
        if claimed && reason == "forgotten" {
            return;
        }
        if matches!(revision.stage(), Stage::Ready | Stage::Unknown) {
            revision.set_stage(Stage::Absent);
        }
        match self.images.delete(&identity.account, &identity.id).await {
            Ok(true) => self.metrics.count_because("images_dropped", reason),
            Ok(false) => {}
            Err(err) => {
                tracing::warn!(
                    function = %revision.key,
                    error = &err as &dyn std::error::Error,
                    "cannot delete a snapshot",
                );
            }
        }
    }

    /// As [`Snapshots::discard_stored`]; the next cold start makes it anew.
    pub(super) fn discard_in_background(
        self: &Arc<Self>,
        revision: &Arc<Revision>,
        reason: &'static str,
    ) {
        let Some(plan) = revision.plan() else {
            return;
        };
        if revision.stage() == Stage::Ready {
            revision.set_stage(Stage::Absent);
        }
        let (snapshots, revision) = (Arc::clone(self), Arc::clone(revision));
        tokio::spawn(async move {
            snapshots.discard_stored(&revision, &plan, reason).await;
        });
    }

    /// Keeps the images in memory within their bound; never ends with less than this one.
    pub(super) fn evict(&self, except: &Arc<LiveImage>) {
        let revisions: Vec<_> = self.lock_revisions().values().cloned().collect();
        let mut live: Vec<_> = revisions
            .iter()
            .filter_map(|revision| Some((revision, revision.live()?)))
            .collect();
        live.sort_by_key(|(_, live)| live.last_used());
        let mut bytes: u64 = live.iter().map(|(_, live)| live.bytes()).sum();
        for (revision, image) in &live {
            if bytes <= self.cache_bytes {
                return;
            }
            if Arc::ptr_eq(image, except) {
                continue;
            }
            if revision.drop_live(Some(image)).is_some() {
                bytes = bytes.saturating_sub(image.bytes());
                self.metrics.count_because("images_dropped", "memory");
            }
        }
    }

    /// These are all function revisions there are: images of others that nobody has used for long
    /// are deleted. Those that were made on other machines, or that another server keeps in the
    /// same store, look just the same, hence the age.
    pub fn retain(self: &Arc<Self>, invoker: &Arc<Invoker>, functions: Vec<Arc<Function>>) {
        let (snapshots, invoker) = (Arc::clone(self), Arc::clone(invoker));
        tokio::spawn(async move {
            tokio::select! {
                () = snapshots.delete_orphans(&invoker, functions) => {}
                () = snapshots.closed() => {}
            }
        });
    }

    async fn delete_orphans(
        self: &Arc<Self>,
        invoker: &Arc<Invoker>,
        functions: Vec<Arc<Function>>,
    ) {
        for function in functions.iter().filter(|function| self.wants(function)) {
            let revision = self.revision(function);
            if let Err(err) = self.plan(invoker, &revision).await {
                tracing::debug!(function = %revision.key, error = %err, "has no snapshot here");
            }
        }
        let listing = match self.images.list().await {
            Ok(listing) => listing,
            Err(err) => {
                tracing::warn!(
                    error = &err as &dyn std::error::Error,
                    "cannot list the snapshots"
                );
                return;
            }
        };
        for damaged in &listing.damaged {
            tracing::warn!(
                account = %damaged.account,
                id = %damaged.id,
                error = &damaged.error as &dyn std::error::Error,
                "a snapshot in the store is damaged",
            );
        }
        self.note_stored(&listing.images);
        let now = invoker.clock().now();
        let age = Duration::from_secs(self.config.orphan_age_s);
        for image in listing.images {
            let used = image.last_used.unwrap_or(image.created).max(image.created);
            let _claims = self.claims.lock().await;
            let claimed = self.claimed();
            if claimed.contains(&image.id) || now.duration_since(used) < age {
                continue;
            }
            match self.images.delete(&image.account, &image.id).await {
                Ok(_) => self.metrics.count_because("images_dropped", "orphan"),
                Err(err) => {
                    tracing::warn!(
                        error = &err as &dyn std::error::Error,
                        "cannot delete a snapshot"
                    );
                }
            }
        }
        self.collect().await;
    }

    /// Tells the revisions that nobody has asked for yet whether they have an image.
    fn note_stored(&self, images: &[Listed]) {
        let images: HashMap<_, _> = images
            .iter()
            .map(|image| ((&image.account, &image.id), image))
            .collect();
        let revisions: Vec<_> = self.lock_revisions().values().cloned().collect();
        for revision in revisions {
            let Some(plan) = revision.plan() else {
                continue;
            };
            let identity = &plan.identity;
            if let Some(image) = images.get(&(&identity.account, &identity.id)) {
                revision.found(Stored {
                    created: image.created,
                    bytes: image.bytes,
                    stored_bytes: image.stored_bytes,
                });
            }
        }
    }

    fn claimed(&self) -> HashSet<ImageId> {
        let revisions = self.lock_revisions();
        revisions
            .values()
            .filter_map(|revision| Some(revision.plan()?.identity.id.clone()))
            .collect()
    }

    async fn collect(&self) {
        match self.images.collect_garbage().await {
            Ok(collected) => {
                tracing::debug!(
                    chunks = collected.chunks,
                    bytes = collected.bytes,
                    "collected unused chunks"
                );
            }
            Err(err) => {
                tracing::warn!(
                    error = &err as &dyn std::error::Error,
                    "cannot collect unused chunks"
                );
            }
        }
    }

    /// Collects unused chunks from time to time, until the server shuts down.
    pub async fn collect_regularly(snapshots: Weak<Self>) {
        loop {
            let Some(interval) = snapshots
                .upgrade()
                .map(|snapshots| snapshots.config.collect_interval())
            else {
                return;
            };
            tokio::time::sleep(interval).await;
            match snapshots.upgrade() {
                Some(snapshots) if !snapshots.is_closing() => snapshots.collect().await,
                _ => return,
            }
        }
    }
}

/// Time between the end of a revision and the deletion of its image.
const FORGETTING: Duration = Duration::from_secs(1);
