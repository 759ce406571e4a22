//! Brings events to their destinations. Each is on disk with the change that it tells of, and stays
//! there until its destination has it: delivered at least once, mostly in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use model::AccountId;
use store::{Batch, Expect};

use crate::keys;
use crate::record::{self, Pending};
use crate::service::S3;
use crate::{Error, Result};

/// Events on their way at once.
const AT_ONCE: usize = 64;
/// Events read at once, and taken off in one write.
const PAGE: usize = 256;
/// How long the first attempt that failed is followed by none, and how long at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the rest of the server does for S3.
#[derive(Clone)]
pub struct Hooks {
    /// Brings an event to a function.
    pub deliver: Arc<dyn Fn(Delivery) -> Answer<Result<(), DeliveryError>> + Send + Sync>,
    /// Tells whether a destination is there and may be used by the bucket of the delivery, whose
    /// payload is empty; otherwise why not.
    pub check: Arc<dyn Fn(Delivery) -> Answer<Result<(), String>> + Send + Sync>,
}

/// An event for a destination.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The function's ARN.
    pub destination: String,
    /// The bucket's ARN, and the account that owns it.
    pub source_arn: String,
    pub account: AccountId,
    pub region: String,
    pub payload: Bytes,
}

/// Why an event did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It may arrive later.
    #[error("{0}")]
    Later(String),
    /// It never will: the function is gone, or does not let the bucket in.
    #[error("{0}")]
    Never(String),
}

impl Default for Hooks {
    /// Without the rest of a server, no destination can be used.
    fn default() -> Self {
        Self {
            deliver: Arc::new(|_| {
                let error = DeliveryError::Never("there is nobody to deliver to".to_owned());
                Box::pin(std::future::ready(Err(error)))
            }),
            check: Arc::new(|_| {
                let error = "there are no destinations".to_owned();
                Box::pin(std::future::ready(Err(error)))
            }),
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// Works until it is cancelled.
pub(crate) async fn run(s3: S3) {
    let mut pause = FIRST_PAUSE;
    loop {
        match deliver_all(&s3).await {
            Ok(true) => {
                pause = FIRST_PAUSE;
                s3.outbox().notified().await;
            }
            Ok(false) => {
                tokio::select! {
                    () = s3.outbox().notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot read or take off events of buckets"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Tells whether nothing is left.
async fn deliver_all(s3: &S3) -> Result<bool> {
    let mut after: Option<Bytes> = None;
    let mut all = true;
    loop {
        let page = s3.table().scan(keys::OUTBOX, after.as_deref(), PAGE)?;
        let full = page.len() == PAGE;
        let last = page.last().map(|found| found.key.clone());
        let deliveries = futures_util::stream::iter(page).map(|found| async move {
            let pending: Pending = record::decode(&found.value)?;
            Ok::<_, Error>((found.key, deliver(s3, pending).await))
        });
        let done: Vec<_> = deliveries.buffered(AT_ONCE).collect().await;
        let mut batch = Batch::new();
        for done in done {
            match done? {
                (key, true) => batch = batch.delete(key, Expect::Any),
                (_, false) => all = false,
            }
        }
        if !batch.is_empty() {
            s3.table().write(batch).await?;
        }
        match last {
            Some(last) if full => after = Some(last),
            _ => return Ok(all),
        }
    }
}

/// Tells whether the event is done with.
async fn deliver(s3: &S3, pending: Pending) -> bool {
    let delivery = Delivery {
        source_arn: format!("arn:aws:s3:::{}", pending.bucket),
        destination: pending.destination,
        account: pending.account,
        region: pending.region,
        payload: pending.payload.into(),
    };
    let (bucket, destination) = (pending.bucket, delivery.destination.clone());
    match (s3.hooks().deliver)(delivery).await {
        Ok(()) => true,
        Err(DeliveryError::Later(reason)) => {
            tracing::warn!(bucket, destination, reason, "an event has to wait");
            false
        }
        Err(DeliveryError::Never(reason)) => {
            tracing::warn!(bucket, destination, reason, "an event cannot be delivered");
            true
        }
    }
}
