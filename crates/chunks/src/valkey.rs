//! L2: a Valkey or Redis that several machines share. A cache: when it is slow, full or gone,
//! reads go on without it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::time::timeout;

use crate::config::L2;
use crate::counters::Counters;
use crate::{Error, Result, TierStats};

/// After a failure L2 is left alone for this long, so that a dead server does not cost every chunk
/// its timeout.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Valkey {
    connection: tokio::sync::OnceCell<ConnectionManager>,
    client: redis::Client,
    prefix: String,
    ttl: u64,
    timeout: Duration,
    paused_until: Mutex<Option<Instant>>,
    pub(crate) counters: Counters,
}

impl Valkey {
    /// Connects when first used.
    pub(crate) fn open(config: &L2) -> Result<Self> {
        let client = redis::Client::open(config.url.as_str()).map_err(|err| Error::Config {
            // The URL may hold a password, and redis' error does not repeat it.
            reason: format!("the URL of L2 is not one: {err}"),
        })?;
        Ok(Self {
            connection: tokio::sync::OnceCell::new(),
            client,
            prefix: config.prefix.clone(),
            ttl: config.ttl_seconds,
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
            paused_until: Mutex::new(None),
            counters: Counters::default(),
        })
    }

    /// What is stored under `key`, if the server has it and says so in time.
    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let found = self
            .run(async |connection| connection.get::<_, Option<Vec<u8>>>(self.key(key)).await)
            .await
            .flatten();
        match &found {
            Some(bytes) => self.counters.hit(bytes.len()),
            None => self.counters.miss(),
        }
        found
    }

    pub(crate) async fn set(&self, key: &str, bytes: &[u8]) {
        let written = self
            .run(async |connection| match self.ttl {
                0 => connection.set::<_, _, ()>(self.key(key), bytes).await,
                ttl => {
                    connection
                        .set_ex::<_, _, ()>(self.key(key), bytes, ttl)
                        .await
                }
            })
            .await;
        if written.is_some() {
            self.counters.written(bytes.len());
        }
    }

    pub(crate) async fn remove(&self, key: &str) {
        self.run(async |connection| connection.del::<_, ()>(self.key(key)).await)
            .await;
    }

    pub(crate) fn stats(&self) -> TierStats {
        self.counters.stats(None)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut ConnectionManager) -> redis::RedisResult<T>,
    ) -> Option<T> {
        if self.is_paused() {
            return None;
        }
        let answer = timeout(self.timeout, async {
            let connection = self
                .connection
                .get_or_try_init(|| {
                    let config = ConnectionManagerConfig::new()
                        .set_number_of_retries(0)
                        .set_connection_timeout(Some(self.timeout))
                        .set_response_timeout(Some(self.timeout));
                    ConnectionManager::new_with_config(self.client.clone(), config)
                })
                .await?;
            command(&mut connection.clone()).await
        })
        .await;
        let error = match answer {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(err)) => err.to_string(),
            Err(_) => format!("no answer within {} ms", self.timeout.as_millis()),
        };
        self.counters.error();
        if self.pause() {
            tracing::warn!(error, "L2 failed; reading on without it");
        }
        None
    }

    fn is_paused(&self) -> bool {
        let paused = self.paused_until.lock();
        matches!(paused.as_deref(), Ok(Some(until)) if Instant::now() < *until)
    }

    /// False if it was paused already.
    fn pause(&self) -> bool {
        let Ok(mut paused) = self.paused_until.lock() else {
            return false;
        };
        let now = Instant::now();
        let first = paused.is_none_or(|until| until <= now);
        *paused = Some(now + PAUSE);
        first
    }
}
