//! What is configured of a function beside its versions, aliases and tags: stored with them, in
//! one record, because it changes together with them or not at all.
//!
//! A member is keyed by qualifier where AWS lets versions and aliases have their own; `$LATEST` is
//! written out. A member that is absent in an older record takes its default.

use serde::{Deserialize, Serialize};

use crate::concurrency::Concurrency;
use crate::events::EventInvokes;
use crate::policies::Policies;
use crate::recursion::RecursiveLoop;
use crate::runtime_management::RuntimeModes;
use crate::urls::Urls;

/// The configuration of a function that no version holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    pub concurrency: Concurrency,
    pub event_invoke: EventInvokes,
    /// The ARN of the configuration that new code has to satisfy.
    pub code_signing: Option<String>,
    pub policies: Policies,
    pub runtime_management: RuntimeModes,
    pub recursion: RecursiveLoop,
    pub urls: Urls,
}
