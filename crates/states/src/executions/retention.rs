//! Histories are kept for 90 days after the end of an execution.
//! <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use clock::{Clock, Timestamp};
use store::{Batch, Expect};

use super::record::{self, Express, Head};
use super::{About, Executions};
use crate::Error;
use crate::lock::lock;
use crate::machines::arn::machine_of;

const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
const EVERY: Duration = Duration::from_secs(24 * 3600);
const PAGE: usize = 500;

impl Executions {
    /// Clears once a day what is too old, for as long as somebody holds the executions.
    pub(super) fn clear_in_background(self: &Arc<Self>) {
        let clearing = tokio::spawn(run(Arc::downgrade(self), self.clock.clone()));
        if let Some(former) = lock(&self.clearer).replace(clearing.abort_handle()) {
            former.abort();
        }
    }

    /// Drops what ended too long ago, and the revisions of machines that nobody needs any more.
    pub async fn clear(&self) -> Result<(), Error> {
        *lock(&self.begun) = Some(HashSet::new());
        let swept = match self.clear_old().await {
            Err(err) => Err(err),
            Ok(used) => {
                let in_use = |revision: &str| {
                    let begun = lock(&self.begun);
                    used.contains(revision)
                        || begun.as_ref().is_some_and(|begun| begun.contains(revision))
                };
                self.machines.sweep(in_use).await.map(drop)
            }
        };
        *lock(&self.begun) = None;
        swept
    }

    /// Notes that an execution has begun with a revision, while revisions are being counted.
    pub(super) fn note_begin(&self, about: &About) {
        if let Some(begun) = lock(&self.begun).as_mut() {
            begun.insert(base(&about.revision.id));
        }
    }

    /// Gives the revisions of all executions that stay.
    async fn clear_old(&self) -> Result<HashSet<String>, Error> {
        let before = self.clock.now() - KEPT;
        let mut used = HashSet::new();
        let mut after: Option<bytes::Bytes> = None;
        loop {
            let page = self.table.scan(record::HEADS, after.as_deref(), PAGE)?;
            for stored in &page {
                let head: Head = record::decode(&stored.value)?;
                let stop = head.end.as_ref().map(|end| end.stop);
                if stop.is_some_and(|stop| Timestamp::from_micros(stop) < before) {
                    self.forget(&stored.key, &head).await?;
                } else {
                    used.insert(base(&head.revision));
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
                break;
            };
            after = Some(last.key.clone());
            // Others have something to do, too.
            tokio::task::yield_now().await;
        }
        for stored in self.table.scan(record::EXPRESS, None, usize::MAX)? {
            let Express { head, .. } = record::decode(&stored.value)?;
            used.insert(base(&head.revision));
        }
        Ok(used)
    }

    /// The history goes first: whatever happens, nothing is left that no head names.
    async fn forget(&self, key: &[u8], head: &Head) -> Result<(), Error> {
        let turns = record::turns_of(head.number);
        loop {
            let keys = self.table.keys(&turns, None, PAGE)?;
            if keys.is_empty() {
                break;
            }
            let batch = keys
                .iter()
                .fold(Batch::new(), |batch, key| batch.delete(key, Expect::Any));
            self.table.write(batch).await?;
        }
        let arn = String::from_utf8_lossy(&key[record::HEADS.len()..]);
        if let Some(forgets) = self.forgets.get() {
            forgets(arn.to_string()).await?;
        }
        let machine = machine_of(&arn);
        let scope = head.map_run_arn.as_deref().unwrap_or(&machine);
        let line = record::line_key(scope, head.start, head.number);
        let batch = Batch::new()
            .delete(key, Expect::Any)
            .delete(line, Expect::Any);
        self.table.write(batch).await?;
        Ok(())
    }
}

/// Revisions of the children of a map are made from their machine's.
fn base(revision: &str) -> String {
    let machine = revision.split('/').next().unwrap_or(revision);
    machine.to_owned()
}

async fn run(executions: Weak<Executions>, clock: Clock) {
    loop {
        clock.sleep(EVERY).await;
        let Some(this) = executions.upgrade() else {
            return;
        };
        if let Err(err) = this.clear().await {
            tracing::error!("cannot clear old executions: {err}");
        }
    }
}
