//! Writing to a store that may have too much to write already.
//!
//! What a client asks for is refused then, and the client tries again. What executions do by
//! themselves has nobody who would, so it waits here until the store takes it.

use std::time::Duration;

use store::{Batch, Table};

use crate::Error;

/// How long to wait before a store is asked again that has too much to write.
const PAUSE: Duration = Duration::from_millis(5);

/// Tries something as often as needed until the store takes what it writes. What fails otherwise
/// has failed.
pub(crate) async fn until_taken<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match attempt().await {
            Err(Error::Store(store::Error::Overloaded { .. })) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Writes a batch, however long the store needs until it takes it.
pub(crate) async fn write(table: &Table, batch: Batch) -> Result<(), Error> {
    until_taken(|| async {
        table.write(batch.clone()).await?;
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overloaded() -> Error {
        let what = "journal";
        Error::Store(store::Error::Overloaded { what, limit: 1 })
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_store_that_is_busy_is_asked_again() {
        let mut attempts = 0;
        let taken = until_taken(|| {
            attempts += 1;
            let outcome = if attempts < 4 {
                Err(overloaded())
            } else {
                Ok(7)
            };
            async { outcome }
        });
        assert_eq!(taken.await.unwrap(), 7);
        assert_eq!(attempts, 4);

        let mut attempts = 0;
        let failed = until_taken(|| {
            attempts += 1;
            async { Err::<(), _>(Error::Stopping) }
        });
        assert!(matches!(failed.await, Err(Error::Stopping)));
        assert_eq!(attempts, 1);
    }
}
