//! What was done, and why.

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::target::TargetId;

/// As on AWS.
pub(crate) const KEPT: std::time::Duration = std::time::Duration::from_secs(42 * 24 * 3_600);
/// More are not kept; the oldest go.
pub(crate) const MAX_ACTIVITIES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Activity {
    pub(crate) id: Uuid,
    pub(crate) target: TargetId,
    pub(crate) description: String,
    pub(crate) cause: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) status: Status,
    pub(crate) message: String,
    /// Set for what was wanted and could not be.
    #[serde(default)]
    pub(crate) not_scaled: Option<NotScaled>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Successful,
    Failed,
    Unfulfilled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotScaled {
    pub(crate) code: String,
    pub(crate) limit: u32,
    pub(crate) current: u32,
}

impl Activity {
    /// Orders activities by time.
    pub(crate) fn key(&self) -> String {
        format!("{:020}/{}", self.start.as_micros().max(0), self.id)
    }
}
