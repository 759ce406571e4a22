//! The snapshots of the functions that this invoker runs.

use std::sync::Arc;

use super::Invoker;
use crate::{Function, PhaseMetrics, SnapshotError, SnapshotOutcome, SnapshotStatus};

impl Invoker {
    /// Whether invocations of this function are meant to be served from a snapshot, by the mode and
    /// the function's configuration.
    pub fn wants_snapshot(&self, function: &Function) -> bool {
        self.snapshots
            .as_ref()
            .is_some_and(|snapshots| snapshots.wants(function))
    }

    /// Makes the snapshot of a function revision, or adopts the one that the store has. Everybody
    /// who asks for the same one gets the same answer.
    pub async fn snapshot(
        self: &Arc<Self>,
        function: Arc<Function>,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        match &self.snapshots {
            Some(snapshots) if self.check_open().is_ok() => snapshots.make(self, &function).await,
            Some(_) => Err(SnapshotError::ShuttingDown),
            None => Err(SnapshotError::Disabled),
        }
    }

    /// Deletes the snapshot of a function revision that was replaced or deleted, in the
    /// background, and ends its parked environments.
    pub fn forget_snapshot(self: &Arc<Self>, function: &Function) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.forget(self, function);
        }
    }

    /// Tells at the start of the server which function revisions there are. Images of others that
    /// have not been used for long are deleted in the background.
    pub fn retain_snapshots(self: &Arc<Self>, functions: &[Arc<Function>]) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.retain(self, functions.to_vec());
        }
    }

    /// The snapshots of all function revisions that were asked for, and their numbers.
    pub fn snapshots(&self) -> Vec<SnapshotStatus> {
        self.snapshots
            .as_ref()
            .map(|snapshots| snapshots.statuses(self.clock.now()))
            .unwrap_or_default()
    }

    /// How long the phases of making snapshots and restoring from them took.
    pub fn phase_metrics(&self) -> PhaseMetrics {
        self.snapshots
            .as_ref()
            .map(|snapshots| snapshots.metrics().snapshot())
            .unwrap_or_default()
    }

    /// Forgets the images in memory, so that the next restore of each reads from the store, and
    /// ends parked environments. Says how many images were dropped.
    pub fn drop_live_images(&self) -> usize {
        self.snapshots
            .as_ref()
            .map_or(0, |snapshots| snapshots.drop_live_images(self))
    }
}
