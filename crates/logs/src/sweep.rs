//! What happens in the background: expiry, clearing of what was deleted, sizes of groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;

use crate::event::Event;
use crate::registry::Tables;
use crate::service::Logs;
use crate::token::Place;
use crate::view::View;
use crate::{Error, record::GroupRecord};

/// AWS takes up to days to let events go; readers do not see expired ones meanwhile.
const INTERVAL: Duration = Duration::from_secs(300);
/// Streams that are looked at in one go.
const PAGE: usize = 500;
const DAY_MS: i64 = 86_400_000;

/// Sweeps now and then, until the service is gone.
pub(crate) async fn run(logs: std::sync::Weak<Logs>, clock: Clock) {
    loop {
        // Not at once: a server that starts has better things to do.
        clock.sleep(INTERVAL).await;
        let Some(logs) = logs.upgrade() else { return };
        if let Err(err) = logs.sweep().await {
            tracing::warn!(error = %err, "cannot sweep the logs");
        }
    }
}

/// The time before which a group's events have expired.
pub(crate) fn horizon(record: &GroupRecord, now_ms: i64) -> i64 {
    record
        .retention_days
        .map_or(i64::MIN, |days| now_ms - i64::from(days) * DAY_MS)
}

impl Logs {
    /// Expires events, clears what was deleted, and adds up the sizes of groups.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        let tables = self.tables().clone();
        tables.clear_doomed().await?;
        self.registry().forget_idle();
        let now = self.clock().now().as_millis();
        let mut sizes = HashMap::new();
        for (key, record) in self.groups("")? {
            // There may be more streams than should be in memory at once. Of one that was created or
            // deleted just now the next sweep knows.
            let (mut size, mut after) = (0, None);
            loop {
                let (streams, last) = tables.streams_after(record.id, after.as_deref(), PAGE)?;
                for stream in streams {
                    expire(&tables, stream.id, horizon(&record, now)).await?;
                    size += stored_bytes(&tables, stream.id)?;
                    // Others want to run as well.
                    tokio::task::yield_now().await;
                }
                after = last;
                if after.is_none() {
                    break;
                }
            }
            sizes.insert(key, size);
        }
        self.set_sizes(Arc::new(sizes));
        Ok(())
    }
}

/// Drops the events at the head of a stream that are all before `horizon`.
async fn expire(tables: &Tables, stream: uuid::Uuid, horizon: i64) -> Result<(), Error> {
    if horizon == i64::MIN {
        return Ok(());
    }
    let Some((first, end)) = tables.events.bounds(stream)? else {
        return Ok(());
    };
    let (mut low, mut high) = (first, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let entries = tables.events.read(stream, middle, 1)?;
        let old = match entries.first() {
            Some(entry) => Event::decode(entry)?.high < horizon,
            None => false,
        };
        if old {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low > first {
        tables.events.trim(stream, low).await?;
    }
    Ok(())
}

fn stored_bytes(tables: &Tables, stream: uuid::Uuid) -> Result<u64, Error> {
    let Some((first, end)) = tables.events.bounds(stream)? else {
        return Ok(0);
    };
    let head = tables.events.read(stream, first, 1)?;
    let tail = tables.events.read_back(stream, end, 1)?;
    let (Some(head), Some(tail)) = (head.first(), tail.first()) else {
        return Ok(0);
    };
    let (head, tail) = (Event::decode(head)?, Event::decode(tail)?);
    Ok((tail.total_bytes + head.size() as u64).saturating_sub(head.total_bytes))
}

/// Where in a stream the events begin that have not expired.
pub(crate) fn first_alive(view: &View, horizon: i64) -> Result<usize, Error> {
    if horizon == i64::MIN {
        Ok(0)
    } else {
        view.find(Place {
            timestamp: horizon,
            sequence: 0,
        })
    }
}
