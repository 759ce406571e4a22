//! Who may do what with a bucket and its objects.
//!
//! The account that owns a bucket may do everything with it and in it, and whoever acts for the
//! account likewise, until there are identities with policies; a statement of the bucket's policy
//! that denies holds for them, too. Everybody else needs a statement that allows. All objects
//! belong to the owner of their bucket, as on AWS since access control lists are off by default.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>

use std::net::IpAddr;

use model::{AccountId, Region};
use policy::{Context, Decision, Principal};
use protocol::{Caller, PrincipalKind};

use crate::service::{Bucket, S3};
use crate::{Error, Result};

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub struct Who {
    /// `None` if nobody signed.
    pub caller: Option<Caller>,
    pub request_id: String,
    pub peer: Option<IpAddr>,
}

impl Who {
    /// The server itself, on behalf of an account.
    pub(crate) fn account(account: &AccountId, region: &str) -> Self {
        let region: Option<Region> = region.parse().ok();
        let request_id = uuid::Uuid::new_v4().to_string();
        Self {
            caller: region.map(|region| Caller {
                account: *account,
                principal: protocol::Principal::root(*account, &region),
                region,
                access_key: None,
                request_id: request_id.clone(),
            }),
            request_id,
            peer: None,
        }
    }

    /// The caller of an operation that has no meaning for nobody.
    pub(crate) fn signed(&self) -> Result<&Caller> {
        self.caller.as_ref().ok_or(Error::AccessDenied)
    }

    /// The principal as events and listings of uploads name it.
    pub(crate) fn name(&self) -> String {
        let Some(caller) = &self.caller else {
            return "Anonymous".to_owned();
        };
        match caller.principal.kind {
            PrincipalKind::Root => caller.account.to_string(),
            PrincipalKind::User | PrincipalKind::AssumedRole | PrincipalKind::Service => {
                caller.principal.arn.clone()
            }
        }
    }

    fn principal(&self) -> Principal {
        match &self.caller {
            None => Principal::Anonymous,
            Some(caller) => match caller.principal.kind {
                PrincipalKind::Service => Principal::service(caller.principal.arn.clone()),
                PrincipalKind::Root | PrincipalKind::User | PrincipalKind::AssumedRole => {
                    Principal::aws(caller.principal.arn.clone())
                }
            },
        }
    }
}

impl S3 {
    /// Refuses what neither the owner nor the bucket's policy allows. `action` has its prefix:
    /// `s3:GetObject`.
    pub(crate) fn authorise(
        &self,
        who: &Who,
        bucket: &Bucket,
        action: &str,
        key: Option<&str>,
    ) -> Result<()> {
        let own = who
            .caller
            .as_ref()
            .is_some_and(|caller| caller.account == bucket.record.owner);
        let Some(document) = &bucket.policy else {
            return if own {
                Ok(())
            } else {
                Err(Error::AccessDenied)
            };
        };
        // The owner can always put a wrong policy right, as the root user of an account can.
        let rescue = own
            && matches!(
                action,
                "s3:GetBucketPolicy" | "s3:PutBucketPolicy" | "s3:DeleteBucketPolicy"
            );
        let decision = self.decide(who, bucket, document, action, key);
        let closed = !own
            && bucket.record.public_access.restrict_public_buckets
            && document
                .statements()
                .iter()
                .any(policy::Statement::is_public);
        match decision {
            _ if rescue => Ok(()),
            Decision::Deny => Err(Error::AccessDenied),
            Decision::Allow if closed => Err(Error::AccessDenied),
            Decision::Allow => Ok(()),
            Decision::NoMatch if own => Ok(()),
            Decision::NoMatch => Err(Error::AccessDenied),
        }
    }

    fn decide(
        &self,
        who: &Who,
        bucket: &Bucket,
        document: &policy::Document,
        action: &str,
        key: Option<&str>,
    ) -> Decision {
        let principal = who.principal();
        let resource = match key {
            None => bucket.arn(),
            Some(key) => format!("{}/{key}", bucket.arn()),
        };
        let now = self.clock().now();
        let context = Context::new()
            .with_some(
                "aws:PrincipalArn",
                who.caller
                    .as_ref()
                    .map(|caller| caller.principal.arn.clone()),
            )
            .with_some(
                "aws:PrincipalAccount",
                principal.account().map(str::to_owned),
            )
            .with_some("aws:SourceIp", who.peer.map(|peer| peer.to_string()))
            .with("aws:SecureTransport", "false")
            .with("aws:CurrentTime", now.to_string())
            .with("aws:EpochTime", now.as_secs().to_string());
        document.evaluate(&policy::Request {
            principal: &principal,
            action,
            resource: &resource,
            context: &context,
        })
    }

    /// As [`S3::authorise`], for what a request says the owner must be.
    pub(crate) fn check_owner(&self, bucket: &Bucket, expected: Option<&str>) -> Result<()> {
        match expected {
            Some(expected) if expected != bucket.record.owner.as_str() => Err(Error::AccessDenied),
            _ => Ok(()),
        }
    }
}
