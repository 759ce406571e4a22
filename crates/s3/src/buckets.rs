//! Buckets: their names are shared by all accounts, and their configuration is one record.

use std::sync::Arc;

use model::AccountId;
use store::{Batch, Expect};

use crate::access::Who;
use crate::janitor;
use crate::keys;
use crate::record::{self, PublicAccess};
use crate::service::{Bucket, S3};
use crate::{Error, Result};

/// Buckets of one account, as on AWS.
const MAX_BUCKETS: usize = 10_000;

/// What [`S3::create_bucket`] did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    /// In us-east-1, making one's own bucket again changes nothing and is no error.
    Again,
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
pub(crate) fn check_name(name: &str) -> Result<()> {
    let reserved = ["xn--", "sthree-", "amzn-s3-demo-bucket-"];
    let suffixes = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
    let ok = s3s::path::check_bucket_name(name)
        && !reserved[..2].iter().any(|prefix| name.starts_with(prefix))
        && !suffixes.iter().any(|suffix| name.ends_with(suffix));
    if ok {
        Ok(())
    } else {
        Err(Error::InvalidBucketName)
    }
}

impl S3 {
    /// Makes a bucket for the caller's account.
    pub(crate) async fn create_bucket(
        &self,
        who: &Who,
        name: &str,
        region: &str,
        tags: record::Pairs,
    ) -> Result<Created> {
        let caller = who.signed()?;
        check_name(name)?;
        if let Ok(existing) = self.bucket(name) {
            return again(&existing, &caller.account, region);
        }
        if self.owned_by(&caller.account).len() >= MAX_BUCKETS {
            return Err(Error::TooManyBuckets);
        }
        let record = record::Bucket {
            id: self.next_bucket(),
            owner: caller.account,
            region: region.to_owned(),
            created: self.clock().now(),
            tags,
            policy: None,
            public_access: PublicAccess::all(true),
            notifications: Vec::new(),
        };
        let encoded = record::encode(&record)?;
        let written = self
            .table()
            .put(keys::bucket(name), encoded, Expect::Absent)
            .await;
        let revision = match written {
            Err(store::Error::Conflict { .. }) => {
                // Somebody else made it a moment ago.
                let existing = self.table().get(keys::bucket(name))?;
                let existing = existing.ok_or(Error::OperationAborted)?;
                let existing: record::Bucket = record::decode(&existing.value)?;
                return if existing.owner == caller.account {
                    Err(Error::OperationAborted)
                } else {
                    Err(Error::BucketAlreadyExists)
                };
            }
            written => written?,
        };
        let bucket = Arc::new(Bucket::new(name, record, revision, Arc::default()));
        self.with_buckets(|buckets| buckets.insert(name.to_owned(), bucket));
        Ok(Created::New)
    }

    /// Deletes a bucket without objects.
    pub(crate) async fn delete_bucket(&self, bucket: &Arc<Bucket>) -> Result<()> {
        let _turn = self.configuring().lock().await;
        if !bucket.gate().shut() {
            return Err(Error::OperationAborted);
        }
        let deleted = self.delete_shut(bucket).await;
        if deleted.is_err() {
            bucket.gate().open();
        }
        deleted
    }

    async fn delete_shut(&self, bucket: &Bucket) -> Result<()> {
        // Writes that were let in before are on disk then, and seen.
        self.store().sync().await?;
        let id = bucket.record.id;
        if !self.table().keys(keys::objects(id), None, 1)?.is_empty() {
            return Err(Error::BucketNotEmpty);
        }
        loop {
            let uploads = self.table().keys(keys::uploads(id), None, 1000)?;
            if uploads.is_empty() {
                break;
            }
            let mut batch = Batch::new();
            for key in &uploads {
                if let Some((_, upload)) = keys::parse_upload(key) {
                    batch = janitor::abandon(batch, key, upload)?;
                }
            }
            self.table().write(batch).await?;
        }
        self.table()
            .delete(keys::bucket(&bucket.name), Expect::Any)
            .await?;
        self.with_buckets(|buckets| buckets.remove(&bucket.name));
        self.garbage().notify_one();
        Ok(())
    }

    /// Changes the configuration of a bucket.
    pub(crate) async fn configure(
        &self,
        name: &str,
        change: impl FnOnce(&mut record::Bucket) -> Result<()>,
    ) -> Result<()> {
        // Held across the write on purpose: the next change has to begin with what this one wrote.
        let _turn = self.configuring().lock().await;
        let bucket = self.bucket(name)?;
        let mut record = bucket.record.clone();
        change(&mut record)?;
        let expect = Expect::Revision(bucket.revision);
        let batch = Batch::new().put(keys::bucket(name), record::encode(&record)?, expect);
        let revision = self.commit(&bucket, batch).await?;
        let changed = Bucket::new(name, record, revision, Arc::clone(bucket.gate()));
        self.with_buckets(|buckets| buckets.insert(name.to_owned(), Arc::new(changed)));
        Ok(())
    }

    /// The buckets of an account, by name.
    pub(crate) fn owned_by(&self, account: &AccountId) -> Vec<Arc<Bucket>> {
        self.with_buckets(|buckets| {
            let own = |bucket: &&Arc<Bucket>| bucket.record.owner == *account;
            buckets.values().filter(own).cloned().collect()
        })
    }
}

fn again(existing: &Bucket, account: &AccountId, region: &str) -> Result<Created> {
    if existing.record.owner != *account {
        return Err(Error::BucketAlreadyExists);
    }
    if existing.record.region == "us-east-1" && region == "us-east-1" {
        return Ok(Created::Again);
    }
    Err(Error::BucketAlreadyOwnedByYou)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for name in ["abc", "a.b-c", "123", &"a".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "ab",
            "Abc",
            "a_b",
            "../x",
            "a..b",
            "-ab",
            "ab-",
            "10.0.0.1",
            "xn--a",
            "x-s3alias",
            &"a".repeat(64),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
