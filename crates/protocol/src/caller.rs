//! On whose behalf an operation runs.

use model::{AccountId, Region};

/// The identity and the address of a request, passed to every operation.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account whose resources the request names.
    pub account: AccountId,
    /// The region the request was signed for.
    pub region: Region,
    /// Who asks.
    pub principal: Principal,
    /// The access key that signed, if any.
    pub access_key: Option<String>,
    /// Goes into the answer's `x-amzn-RequestId` and into logs.
    pub request_id: String,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `arn:aws:iam::<account>:root`, a user's ARN or an assumed role's session ARN.
    pub arn: String,
    /// What the ARN names.
    pub kind: PrincipalKind,
}

/// The kinds of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// The account itself.
    Root,
    /// An IAM user.
    User,
    /// A session of a role.
    AssumedRole,
    /// An AWS service, or firn acting as one.
    Service,
}

impl Principal {
    /// The account's root, as which all development credentials act.
    pub fn root(account: AccountId, region: &Region) -> Self {
        let partition = region.partition();
        Self {
            arn: format!("arn:{partition}:iam::{account}:root"),
            kind: PrincipalKind::Root,
        }
    }

    /// A session of the role `role_arn`, called `session`.
    pub fn assumed_role(account: AccountId, role_arn: &str, session: &str) -> Self {
        let partition = role_arn.split(':').nth(1).unwrap_or("aws");
        let role = role_arn.rsplit('/').next().unwrap_or_default();
        Self {
            arn: format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}"),
            kind: PrincipalKind::AssumedRole,
        }
    }
}
