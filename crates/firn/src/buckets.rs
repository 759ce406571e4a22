//! S3 and what the rest of the server has to do with it: its place on the port, functions that its
//! events run, and code that lies in it.

use std::sync::{Arc, OnceLock, Weak};

use anyhow::{Context, Result};
use clock::Clock;
use gateway::{Signed, StreamRequest, StreamSite};
use http::header::HOST;
use http::request::Parts;
use lambda::{Fetch, FetchError, FromService, Lambda, Refused};
use s3::{Delivery, DeliveryError, Hooks, S3};
use store::Store;

use crate::config::Config;

const SERVICE: &str = "s3.amazonaws.com";

/// S3, which the functions are yet to be told to.
#[derive(Clone, Debug)]
pub struct Buckets {
    s3: S3,
    lambda: Arc<OnceLock<Weak<Lambda>>>,
}

impl Buckets {
    pub fn open(config: &Config, store: &Store, clock: &Clock) -> Result<Self> {
        let lambda: Arc<OnceLock<Weak<Lambda>>> = Arc::default();
        let dir = config.data.join("s3");
        let s3 = S3::open(
            config.s3.clone(),
            &dir,
            store,
            clock.clone(),
            hooks(&lambda),
        )
        .context("cannot open the buckets")?;
        Ok(Self { s3, lambda })
    }

    pub const fn s3(&self) -> &S3 {
        &self.s3
    }

    /// Makes the two known to each other, and begins what S3 does in the background.
    pub async fn connect(&self, lambda: &Arc<Lambda>) -> Result<()> {
        // Set once; nobody else can have.
        let _ = self.lambda.set(Arc::downgrade(lambda));
        let s3 = self.s3.clone();
        lambda.fetch_code_with(move |what| fetch(s3.clone(), what));
        self.s3.start().await.context("cannot start the buckets")
    }

    /// The part of the port that is S3's.
    pub fn site(&self) -> StreamSite {
        let (s3, door) = (self.s3.clone(), self.s3.service());
        StreamSite::new(
            "s3",
            move |parts| is_unsigned_request(&s3, parts),
            move |request| {
                let door = door.clone();
                async move {
                    let StreamRequest {
                        parts,
                        body,
                        peer,
                        request_id,
                        signer,
                    } = request;
                    let (signer, signing) = match signer {
                        Ok(None) => (Ok(None), None),
                        Ok(Some(Signed { caller, chunks })) => (Ok(Some(caller)), chunks),
                        Err(error) => (Err(error), None),
                    };
                    let request = s3::Request {
                        parts,
                        signer,
                        signing,
                        peer,
                        request_id,
                    };
                    door.answer(request, body).await
                }
            },
        )
    }
}

/// Requests that nobody signed are for S3 if their host says so, or if their path begins with the
/// name of a bucket.
fn is_unsigned_request(s3: &S3, parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    if let Some(bucket) = host.and_then(s3::bucket_of_host) {
        // A name under `localhost` may be meant for anybody.
        return bucket.is_none_or(|bucket| s3.has_bucket(bucket));
    }
    let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
    let first = path.split('/').next().unwrap_or_default();
    // The paths of Lambda's interface begin with a date, which could be a bucket's name, too.
    let is_date = first.len() == 10
        && first
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    !first.is_empty() && !is_date && !first.starts_with('_') && s3.has_bucket(first)
}

fn hooks(lambda: &Arc<OnceLock<Weak<Lambda>>>) -> Hooks {
    let (to_check, to_deliver) = (Arc::clone(lambda), Arc::clone(lambda));
    Hooks {
        check: Arc::new(move |delivery| {
            let lambda = to_check.get().and_then(Weak::upgrade);
            Box::pin(async move {
                let lambda = lambda.ok_or_else(|| "the server is starting".to_owned())?;
                let checked = lambda.check_service(&from(&delivery));
                checked.map_err(|error| error.to_string())
            })
        }),
        deliver: Arc::new(move |delivery| {
            let lambda = to_deliver.get().and_then(Weak::upgrade);
            Box::pin(async move {
                let starting = || DeliveryError::Later("the server is stopping".to_owned());
                let lambda = lambda.ok_or_else(starting)?;
                let from = from(&delivery);
                let taken = lambda.invoke_for_service(&from, delivery.payload).await;
                taken.map_err(|error| match error {
                    Refused::Never(error) => DeliveryError::Never(error.to_string()),
                    Refused::Now(error) => DeliveryError::Later(error.to_string()),
                })
            })
        }),
    }
}

fn from(delivery: &Delivery) -> FromService {
    FromService {
        service: SERVICE,
        function: delivery.destination.clone(),
        source_arn: delivery.source_arn.clone(),
        source_account: delivery.account,
    }
}

async fn fetch(s3: S3, what: Fetch) -> Result<bytes::Bytes, FetchError> {
    let in_words = |error: s3::Error| FetchError {
        code: error.code().to_owned(),
        message: error.to_string(),
    };
    // Nothing is versioned.
    if what
        .version
        .as_deref()
        .is_some_and(|version| version != "null")
    {
        return Err(FetchError {
            code: "NoSuchVersion".to_owned(),
            message: "The specified version does not exist.".to_owned(),
        });
    }
    let (_, contents) = s3
        .get_object(&what.account, &what.bucket, &what.key, None)
        .await
        .map_err(in_words)?;
    contents.collect(what.limit).await.map_err(in_words)
}
