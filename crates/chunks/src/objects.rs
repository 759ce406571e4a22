//! L3: where objects are durable. A directory, or a bucket.

use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, Timestamp};
use tokio::sync::Semaphore;

use crate::config::{Config, L3};
use crate::counters::Counters;
use crate::dir::{Dir, Entry, Staged};
use crate::{Error, Result, TierStats};

pub(crate) struct Objects {
    backend: Backend,
    latency: Duration,
    requests: Semaphore,
    clock: Clock,
    pub(crate) counters: Counters,
}

enum Backend {
    Local(Arc<Dir>),
    #[cfg(feature = "s3")]
    S3(crate::s3::Bucket),
}

impl Objects {
    pub(crate) fn open(config: &Config, clock: Clock) -> Result<Self> {
        let backend = match &config.l3 {
            L3::Local(dir) => {
                let dir = Dir::open(dir)?;
                Backend::Local(Arc::new(dir))
            }
            #[cfg(feature = "s3")]
            L3::S3(s3) => Backend::S3(crate::s3::Bucket::open(s3)?),
            #[cfg(not(feature = "s3"))]
            L3::S3(_) => {
                return Err(Error::Config {
                    reason: "this build has no support for S3 (feature `s3`)".to_owned(),
                });
            }
        };
        Ok(Self {
            backend,
            latency: config.latency(),
            requests: Semaphore::new(config.requests),
            clock,
            counters: Counters::default(),
        })
    }

    /// The directory, if objects are as near as files of this machine.
    pub(crate) fn near(&self) -> Option<&Arc<Dir>> {
        match &self.backend {
            Backend::Local(dir) if self.latency.is_zero() => Some(dir),
            _ => None,
        }
    }

    pub(crate) async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let _permit = self.begin().await?;
        let found = match &self.backend {
            Backend::Local(dir) => {
                let (dir, key) = (Arc::clone(dir), key.to_owned());
                blocking(move || dir.read(&key, limit)).await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.get(key, limit).await,
        };
        match &found {
            Ok(Some(bytes)) => self.counters.hit(bytes.len()),
            Ok(None) => self.counters.miss(),
            Err(_) => self.counters.error(),
        }
        found
    }

    /// Writes an object; it is durable when this returns.
    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let _permit = self.begin().await?;
        let len = bytes.len();
        let written = match &self.backend {
            Backend::Local(dir) => {
                let (dir, key, now) = (Arc::clone(dir), key.to_owned(), self.clock.now());
                blocking(move || dir.write_durable(&key, &bytes, now)).await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.put(key, bytes).await,
        };
        self.count(written, |counters| counters.written(len))
    }

    /// Writes an object that [`Self::commit`] makes durable, with others.
    pub(crate) async fn stage(&self, key: &str, bytes: Vec<u8>) -> Result<Option<Staged>> {
        let _permit = self.begin().await?;
        let len = bytes.len();
        let staged = match &self.backend {
            Backend::Local(dir) => {
                let (dir, key, now) = (Arc::clone(dir), key.to_owned(), self.clock.now());
                blocking(move || dir.stage(&key, &bytes, now))
                    .await
                    .map(Some)
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.put(key, bytes).await.map(|()| None),
        };
        self.count(staged, |counters| counters.written(len))
    }

    pub(crate) async fn commit(&self, staged: Vec<Staged>) -> Result<()> {
        match &self.backend {
            Backend::Local(dir) => {
                let dir = Arc::clone(dir);
                let committed = blocking(move || dir.commit(&staged)).await;
                self.count(committed, |_| ())
            }
            #[cfg(feature = "s3")]
            Backend::S3(_) => Ok(()),
        }
    }

    /// Gives up on what was staged.
    pub(crate) fn discard(&self, staged: &[Staged]) {
        match &self.backend {
            Backend::Local(dir) => dir.discard(staged),
            #[cfg(feature = "s3")]
            Backend::S3(_) => {}
        }
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<Option<Entry>> {
        let _permit = self.begin().await?;
        let found = match &self.backend {
            Backend::Local(dir) => {
                let (dir, key) = (Arc::clone(dir), key.to_owned());
                blocking(move || dir.stat(&key)).await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.stat(key).await,
        };
        self.count(found, |_| ())
    }

    /// True if there was something to remove (a bucket does not say, and is believed to have had
    /// it). Gone for good when this returns.
    pub(crate) async fn remove(&self, key: &str) -> Result<bool> {
        let _permit = self.begin().await?;
        let removed = match &self.backend {
            Backend::Local(dir) => {
                let (dir, key) = (Arc::clone(dir), key.to_owned());
                blocking(move || {
                    let removed = dir.remove(&key)?;
                    dir.sync_parent(&key)?;
                    dir.prune(&key);
                    Ok(removed)
                })
                .await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.remove(key).await.map(|()| true),
        };
        self.count(removed, |_| ())
    }

    /// Removes objects that nothing refers to. Whether that is durable does not matter.
    pub(crate) async fn remove_all(&self, keys: Vec<String>) -> Result<()> {
        let removed = match &self.backend {
            Backend::Local(dir) => {
                let _permit = self.begin().await?;
                let dir = Arc::clone(dir);
                blocking(move || {
                    for key in keys {
                        dir.remove(&key)?;
                        dir.prune(&key);
                    }
                    Ok(())
                })
                .await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.remove_all(keys).await,
        };
        self.count(removed, |_| ())
    }

    /// All objects below the directory `prefix`.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let _permit = self.begin().await?;
        let found = match &self.backend {
            Backend::Local(dir) => {
                let (dir, prefix) = (Arc::clone(dir), prefix.to_owned());
                blocking(move || dir.list(&prefix)).await
            }
            #[cfg(feature = "s3")]
            Backend::S3(bucket) => bucket.list(prefix).await,
        };
        self.count(found, |_| ())
    }

    /// Removes what writers that died before `before` have left unnamed.
    pub(crate) async fn clear_incoming(&self, before: Timestamp) -> Result<()> {
        match &self.backend {
            Backend::Local(dir) => {
                let dir = Arc::clone(dir);
                blocking(move || dir.clear_incoming(before)).await
            }
            // A bucket drops an upload that was not finished by itself.
            #[cfg(feature = "s3")]
            Backend::S3(_) => Ok(()),
        }
    }

    pub(crate) fn stats(&self) -> TierStats {
        self.counters.stats(None)
    }

    async fn begin(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let permit = self
            .requests
            .acquire()
            .await
            .map_err(|_| Error::Cancelled)?;
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        Ok(permit)
    }

    fn count<T>(&self, result: Result<T>, done: impl FnOnce(&Counters)) -> Result<T> {
        match &result {
            Ok(_) => done(&self.counters),
            Err(_) => self.counters.error(),
        }
        result
    }
}

/// Runs what blocks (disk, compression, cryptography) away from the asynchronous tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(err) => match err.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Cancelled),
        },
    }
}
