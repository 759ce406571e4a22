//! What happens in the background: values are rolled up as they age, and metrics without values go.

use std::sync::Weak;
use std::time::Duration;

use clock::Clock;

use crate::record::Tier;
use crate::service::CloudWatch;
use crate::{Error, MetricKey};

const INTERVAL: Duration = Duration::from_secs(60);
/// Rolling up looks at every metric, so it is done less often.
const ROLL_UP_EVERY: u32 = 30;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// How long aggregates of each length are kept, in seconds, and what becomes of them then.
const AGES: [(Tier, i64, Option<Tier>); 4] = [
    (Tier::Second, 3 * HOUR, Some(Tier::Minute)),
    (Tier::Minute, 15 * DAY, Some(Tier::FiveMinutes)),
    (Tier::FiveMinutes, 63 * DAY, Some(Tier::Hour)),
    (Tier::Hour, RETENTION, None),
];
/// How long anything is kept.
pub(crate) const RETENTION: i64 = 455 * DAY;

/// Sweeps now and then, until the service is gone.
pub(crate) async fn run(service: Weak<CloudWatch>, clock: Clock) {
    let mut round = 0_u32;
    loop {
        clock.sleep(INTERVAL).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        round = round.wrapping_add(1);
        service.book().forget_settled(clock.now());
        if round.is_multiple_of(ROLL_UP_EVERY)
            && let Err(err) = service.roll_up().await
        {
            tracing::warn!(error = %err, "cannot roll up metrics");
        }
    }
}

impl CloudWatch {
    /// Rolls up what is old enough, and drops what is too old. The service does so by itself every
    /// half hour.
    pub async fn roll_up(&self) -> Result<(), Error> {
        let metrics = self.book().ids();
        for (scope, key, metric) in metrics {
            let now = self.clock().now();
            for (tier, age, into) in AGES {
                let until = into.unwrap_or(tier).start_of(now.as_secs() - age);
                let writing = {
                    let mut book = self.book();
                    let batch = book.roll_up(metric.id, tier, into, until, now)?;
                    if batch.is_empty() {
                        continue;
                    }
                    book.table().begin_write(batch)?
                };
                writing.finish().await?;
            }
            if now.as_secs() - metric.active.as_secs() > RETENTION {
                self.forget(&scope, &key).await?;
            }
            // There may be very many metrics; others want to run as well.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn forget(&self, scope: &str, key: &MetricKey) -> Result<(), Error> {
        let writing = {
            let mut book = self.book();
            let batch = book.forget(scope, key);
            if batch.is_empty() {
                return Ok(());
            }
            book.table().begin_write(batch)?
        };
        writing.finish().await?;
        Ok(())
    }
}
