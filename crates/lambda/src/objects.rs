//! Code that lies in S3. Where that is, the assembly says.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::{AccountId, Blob};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::package::MAX_UNZIPPED_BYTES;

type Fetched = Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send>>;
type Fetcher = Arc<dyn Fn(Fetch) -> Fetched + Send + Sync>;

/// A package that a function or layer is made of.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// On whose behalf it is read.
    pub account: AccountId,
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
    /// What is larger is refused.
    pub limit: u64,
}

/// Why a package cannot be fetched, in S3's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("S3 Error Code: {code}. S3 Error Message: {message}")]
pub struct FetchError {
    pub code: String,
    pub message: String,
}

/// Reads objects, once the assembly has said how.
#[derive(Default)]
pub struct Objects(OnceLock<Fetcher>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

impl Lambda {
    /// Says where packages in S3 are read. Only the first call counts.
    pub fn fetch_code_with<F, A>(&self, fetch: F)
    where
        F: Fn(Fetch) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, FetchError>> + Send + 'static,
    {
        let _ = self
            .objects
            .0
            .set(Arc::new(move |what| Box::pin(fetch(what))));
    }

    pub(crate) async fn fetch_code(&self, caller: &Caller, from: Location) -> Result<Blob, Error> {
        let Some(fetch) = self.objects.0.get() else {
            let advice = "; send the package in the request";
            return Err(Error::NotSupported {
                what: "code from S3",
                advice,
            });
        };
        let Location {
            bucket,
            key,
            version,
        } = from;
        let fetched = fetch(Fetch {
            account: caller.account,
            bucket: bucket.clone(),
            key: key.clone(),
            version,
            limit: MAX_UNZIPPED_BYTES,
        });
        match fetched.await {
            Ok(zip) => Ok(Blob::from(zip)),
            Err(reason) if reason.code == "EntityTooLarge" => Err(Error::ObjectTooLarge),
            Err(reason) if reason.code == "AccessDenied" => Err(Error::ObjectDenied {
                bucket,
                key,
                reason,
            }),
            Err(reason) => Err(Error::Object { reason }),
        }
    }
}

/// Where in S3 a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

impl Location {
    /// `None` if a request does not name both bucket and key.
    pub fn new(
        bucket: Option<String>,
        key: Option<String>,
        version: Option<String>,
    ) -> Option<Self> {
        Some(Self {
            bucket: bucket?,
            key: key?,
            version,
        })
    }
}
