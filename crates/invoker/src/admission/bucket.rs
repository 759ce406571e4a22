//! A token bucket in one word, so that taking a token is one atomic exchange.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    tokens: u64,
    period: Duration,
}

impl Rate {
    /// A bucket that holds `tokens` and fills from empty to full in `period`.
    pub const fn new(tokens: u64, period: Duration) -> Self {
        Self { tokens, period }
    }
}

/// The moment at which the bucket will be full again, in nanoseconds of a clock of the caller's
/// choice. It starts full.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token, if there is one. `now` is the time since some moment that stays the same.
    pub fn take(&self, now: Duration, rate: Rate) -> bool {
        if rate.tokens == 0 {
            return false;
        }
        let (now, depth) = (nanos(now), nanos(rate.period));
        let each = (depth / rate.tokens).max(1);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |full_at| {
                let then = full_at.max(now).saturating_add(each);
                // Rounding must not cost the last token.
                (then <= now.saturating_add(depth)).then_some(then)
            })
            .is_ok()
    }

    /// Nothing was taken of late: it is as good as a new one.
    pub fn is_full(&self, now: Duration) -> bool {
        self.0.load(Ordering::Relaxed) <= nanos(now)
    }
}

/// Five hundred years of them fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(bucket: &Bucket, now: Duration, rate: Rate) -> u64 {
        let mut taken = 0;
        while bucket.take(now, rate) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn burst_is_limited_to_what_the_bucket_holds() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, 10 * SECOND));
        assert_eq!(drain(&bucket, SECOND, rate), 1000);
        assert!(!bucket.take(SECOND, rate));
        assert!(!bucket.is_full(SECOND));
    }

    #[test]
    fn bucket_fills_continuously_and_never_beyond_its_size() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, 10 * SECOND));
        drain(&bucket, Duration::ZERO, rate);
        assert_eq!(drain(&bucket, SECOND / 100, rate), 1, "one each 10 ms");
        assert_eq!(drain(&bucket, SECOND + SECOND / 100, rate), 100);
        // Unused tokens of an hour are not saved up.
        assert_eq!(drain(&bucket, 3600 * SECOND, rate), 1000);
    }

    #[test]
    fn bucket_without_tokens_gives_none() {
        assert!(!Bucket::default().take(SECOND, Rate::new(0, SECOND)));
    }

    #[test]
    fn clock_that_does_not_advance_gives_nothing_twice() {
        let (bucket, rate) = (Bucket::default(), Rate::new(3, SECOND));
        assert_eq!(drain(&bucket, Duration::ZERO, rate), 3);
        assert_eq!(drain(&bucket, Duration::ZERO, rate), 0);
    }
}
