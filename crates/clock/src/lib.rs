//! The one source of wall time.
//!
//! Everything that asks "what time is it" or waits for a wall-clock moment (waits, schedules,
//! visibility, retention, timestamps in answers) takes a [`Clock`], so that a test or a user can
//! move time. How long a running thing took is measured with [`std::time::Instant`] instead.
#![forbid(unsafe_code)]

mod timestamp;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use timestamp::{ParseTimestampError, Timestamp};

/// A shareable clock: the system's, or a manual one that moves only when told to.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(start))))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => timestamp::system_now(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Moves a manual clock forward and wakes every sleeper whose moment has come.
    /// Returns false, and does nothing, on the system clock.
    pub fn advance(&self, by: Duration) -> bool {
        match &self.0 {
            Source::System => false,
            Source::Manual(now) => {
                now.send_modify(|now| *now = *now + by);
                true
            }
        }
    }

    /// Waits until `moment`; returns at once if it has passed.
    pub async fn sleep_until(&self, moment: Timestamp) {
        match &self.0 {
            Source::System => loop {
                // The wall clock may be set back while we wait, so look again before returning.
                let wait = moment.duration_since(self.now());
                if wait.is_zero() {
                    return;
                }
                tokio::time::sleep(wait).await;
            },
            Source::Manual(now) => {
                let mut now = now.subscribe();
                // The sender lives in `self`, so the channel cannot close while we wait.
                let _ = now.wait_for(|now| *now >= moment).await;
            }
        }
    }

    /// Waits for `duration` from now.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_sleepers_when_advanced() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(86_400)).await }
        });
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        assert!(clock.advance(Duration::from_secs(86_400)));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Timestamp::from_secs(87_400));
    }

    #[tokio::test]
    async fn system_clock_cannot_be_advanced() {
        assert!(!Clock::system().advance(Duration::from_secs(1)));
        assert!(Clock::system().now() > Timestamp::from_secs(1_700_000_000));
    }
}
