//! What is scaled, within which limits, and by what.

use std::collections::BTreeMap;
use std::fmt;

use clock::Timestamp;
use model::application_autoscaling::{ScalableDimension, ServiceNamespace};
use model::{AccountId, Region};
use protocol::{Caller, Principal, PrincipalKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;
use crate::policy::Policy;
use crate::schedule::Schedule;

/// What AWS permits per target.
pub(crate) const MAX_POLICIES: usize = 50;
pub(crate) const MAX_ACTIONS: usize = 200;

/// Names a target: `function:NAME:QUALIFIER` of an account and region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct TargetId {
    pub(crate) account: AccountId,
    pub(crate) region: String,
    pub(crate) function: String,
    pub(crate) qualifier: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) id: TargetId,
    /// Part of its ARN.
    pub(crate) uuid: Uuid,
    pub(crate) limits: Limits,
    pub(crate) role_arn: String,
    pub(crate) created: Timestamp,
    pub(crate) suspended: Suspended,
    pub(crate) tags: BTreeMap<String, String>,
    /// By name.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// By name.
    pub(crate) actions: BTreeMap<String, Action>,
    /// A schedule has moved the limits, and the capacity may not be within them yet.
    #[serde(default)]
    pub(crate) adjusting: bool,
    #[serde(default)]
    pub(crate) scaled_out: Option<Timestamp>,
    #[serde(default)]
    pub(crate) scaled_in: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Suspended {
    pub(crate) scale_in: bool,
    pub(crate) scale_out: bool,
    pub(crate) schedules: bool,
}

/// A scheduled action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) uuid: Uuid,
    pub(crate) schedule: Schedule,
    pub(crate) start: Option<Timestamp>,
    pub(crate) end: Option<Timestamp>,
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    pub(crate) created: Timestamp,
    /// When it runs next, if it does.
    pub(crate) next: Option<Timestamp>,
}

impl Action {
    /// When it runs for the first time after `after`.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self
            .schedule
            .next_after(after, self.start.unwrap_or(self.created))?;
        self.end.is_none_or(|end| next <= end).then_some(next)
    }
}

impl Limits {
    pub(crate) fn clamp(self, capacity: u32) -> u32 {
        capacity.max(self.min).min(self.max)
    }
}

impl TargetId {
    /// The target that a request names. Anything but provisioned concurrency is refused.
    pub(crate) fn read(
        caller: &Caller,
        namespace: &ServiceNamespace,
        dimension: &ScalableDimension,
        resource_id: &str,
    ) -> Result<Self, Error> {
        check_namespace(namespace)?;
        let unsupported = || {
            Error::Validation(
                "Unsupported service namespace, resource type or scalable dimension".to_owned(),
            )
        };
        if *dimension != ScalableDimension::LambdaFunctionProvisionedConcurrency {
            return Err(unsupported());
        }
        let id = Self::parse(caller, resource_id).ok_or_else(unsupported)?;
        if id.qualifier == "$LATEST" {
            return Err(Error::Validation(
                "Provisioned concurrency belongs to an alias or a version, not to $LATEST"
                    .to_owned(),
            ));
        }
        Ok(id)
    }

    fn parse(caller: &Caller, resource_id: &str) -> Option<Self> {
        let rest = resource_id.strip_prefix("function:")?;
        let (function, qualifier) = rest.split_once(':')?;
        let plain = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_$".contains(&byte);
            !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed)
        };
        (plain(function) && plain(qualifier)).then(|| Self {
            account: caller.account,
            region: caller.region.to_string(),
            function: function.to_owned(),
            qualifier: qualifier.to_owned(),
        })
    }

    pub(crate) fn resource_id(&self) -> String {
        format!("function:{}:{}", self.function, self.qualifier)
    }

    pub(crate) fn belongs_to(&self, caller: &Caller) -> bool {
        self.account == caller.account && self.region == caller.region.to_string()
    }

    fn region(&self) -> Result<Region, Error> {
        self.region
            .parse()
            .map_err(|_| Error::Record { what: "region" })
    }

    fn partition(&self) -> &'static str {
        self.region().map_or("aws", |region| region.partition())
    }

    /// On whose behalf other services are called: a role of the target's own account.
    pub(crate) fn caller(&self, role_arn: &str) -> Result<Caller, Error> {
        Ok(Caller {
            account: self.account,
            region: self.region()?,
            principal: Principal {
                arn: role_arn.to_owned(),
                kind: PrincipalKind::AssumedRole,
            },
            access_key: None,
            request_id: Uuid::new_v4().to_string(),
        })
    }

    /// The role that AWS makes for this.
    pub(crate) fn default_role(&self) -> String {
        format!(
            "arn:{}:iam::{}:role/aws-service-role/lambda.application-autoscaling.amazonaws.com/\
             AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency",
            self.partition(),
            self.account
        )
    }

    /// The ARN of a policy or scheduled action: AWS names it by what it belongs to.
    pub(crate) fn arn_of(&self, kind: &str, uuid: Uuid, name: &str) -> String {
        format!(
            "arn:{}:autoscaling:{}:{}:{kind}:{uuid}:resource/lambda/{}:{name}",
            self.partition(),
            self.region,
            self.account,
            self.resource_id()
        )
    }

    pub(crate) fn alarm_arn(&self, name: &str) -> String {
        format!(
            "arn:{}:cloudwatch:{}:{}:alarm:{name}",
            self.partition(),
            self.region,
            self.account
        )
    }

    /// The tail of the messages that say what was not found.
    pub(crate) fn described(&self) -> String {
        format!(
            "service namespace: lambda, resource ID: {}, scalable dimension: \
             lambda:function:ProvisionedConcurrency",
            self.resource_id()
        )
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.account, self.region, self.resource_id())
    }
}

impl Target {
    pub(crate) fn arn(&self) -> String {
        let id = &self.id;
        format!(
            "arn:{}:application-autoscaling:{}:{}:scalable-target/{}",
            id.partition(),
            id.region,
            id.account,
            self.uuid.simple()
        )
    }
}

/// Only functions can be scaled here.
pub(crate) fn check_namespace(namespace: &ServiceNamespace) -> Result<(), Error> {
    if *namespace == ServiceNamespace::Lambda {
        Ok(())
    } else {
        Err(Error::NotSupported("scaling of services other than lambda"))
    }
}
