//! Amazon Resource Names: `arn:partition:service:region:account:resource`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::excerpt;
use crate::{AccountId, Region};

/// An ARN, split into its six fields. `resource` may hold further colons and slashes.
///
/// See <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    /// `aws`, `aws-cn`, ...
    pub partition: String,
    /// The service's namespace, such as `lambda`.
    pub service: String,
    /// Empty for global services such as IAM.
    pub region: String,
    /// Empty for resources that no account owns, such as managed policies and S3 buckets.
    pub account: String,
    /// Everything after the fifth colon; its structure belongs to the service.
    pub resource: String,
}

/// The text does not have the form of an ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ARN: {text:?}")]
pub struct ParseArnError {
    text: String,
}

impl Arn {
    /// Longer texts are not parsed.
    pub const MAX_BYTES: usize = 2048;

    /// The ARN of a regional resource that an account owns.
    pub fn regional(service: &str, region: &Region, account: AccountId, resource: &str) -> Self {
        Self {
            partition: region.partition().to_owned(),
            service: service.to_owned(),
            region: region.to_string(),
            account: account.to_string(),
            resource: resource.to_owned(),
        }
    }
}

impl FromStr for Arn {
    type Err = ParseArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        split(text).ok_or_else(|| ParseArnError {
            text: excerpt(text),
        })
    }
}

fn split(text: &str) -> Option<Arn> {
    if text.len() > Arn::MAX_BYTES {
        return None;
    }
    let mut fields = text.strip_prefix("arn:")?.splitn(5, ':').map(str::to_owned);
    let arn = Arn {
        partition: fields.next()?,
        service: fields.next()?,
        region: fields.next()?,
        account: fields.next()?,
        resource: fields.next()?,
    };
    let complete = !arn.partition.is_empty() && !arn.service.is_empty() && !arn.resource.is_empty();
    complete.then_some(arn)
}

impl TryFrom<String> for Arn {
    type Error = ParseArnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> Self {
        arn.to_string()
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            service,
            region,
            account,
            resource,
        } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_keeps_its_colons() {
        let text = "arn:aws:lambda:eu-west-1:123456789012:function:hello:live";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.resource, "function:hello:live");
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn incomplete_arns_are_refused() {
        for text in [
            "",
            "arn",
            "arn:aws:lambda",
            "arn:aws:iam::1:",
            "arn::s3:::bucket",
            "aws:x:y",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }
}
