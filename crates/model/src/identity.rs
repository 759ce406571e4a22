//! Who a request belongs to, and where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A twelve-digit AWS account number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId([u8; 12]);

/// The text is not twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an account id is twelve digits, not {text:?}")]
pub struct ParseAccountIdError {
    text: String,
}

impl AccountId {
    /// The account that any credentials map to during development.
    pub const DEVELOPMENT: Self = Self(*b"000000000000");

    /// The twelve digits.
    pub fn as_str(&self) -> &str {
        // Only digits are ever stored, so the fallback is never seen.
        std::str::from_utf8(&self.0).unwrap_or("000000000000")
    }
}

impl FromStr for AccountId {
    type Err = ParseAccountIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match <[u8; 12]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(Self(digits)),
            _ => Err(ParseAccountIdError {
                text: excerpt(text),
            }),
        }
    }
}

impl TryFrom<String> for AccountId {
    type Error = ParseAccountIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AccountId> for String {
    fn from(account: AccountId) -> Self {
        account.as_str().to_owned()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A region name, such as `eu-central-1`.
///
/// Any name of that general form is accepted, since firn does not know which regions AWS will add.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(Box<str>);

/// The text cannot be the name of a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a region is 1 to 32 lower-case letters, digits and hyphens, not {text:?}")]
pub struct ParseRegionError {
    text: String,
}

impl Region {
    const MAX_BYTES: usize = 32;

    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition the region is in, the second field of an ARN.
    pub fn partition(&self) -> &'static str {
        match &*self.0 {
            name if name.starts_with("cn-") => "aws-cn",
            name if name.starts_with("us-gov-") => "aws-us-gov",
            name if name.starts_with("eusc-") => "aws-eusc",
            name if name.starts_with("us-isob-") => "aws-iso-b",
            name if name.starts_with("us-iso-") => "aws-iso",
            _ => "aws",
        }
    }
}

impl FromStr for Region {
    type Err = ParseRegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(ParseRegionError {
                text: excerpt(text),
            });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Region {
    type Error = ParseRegionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0.into()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The start of `text`, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_are_twelve_digits() {
        assert_eq!(
            "123456789012".parse::<AccountId>().unwrap().to_string(),
            "123456789012"
        );
        for text in [
            "",
            "12345678901",
            "1234567890123",
            "12345678901a",
            "１２３４",
        ] {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
        }
    }

    #[test]
    fn regions_know_their_partition() {
        assert_eq!(
            "cn-north-1".parse::<Region>().unwrap().partition(),
            "aws-cn"
        );
        assert_eq!("eu-central-1".parse::<Region>().unwrap().partition(), "aws");
        assert!("eu central".parse::<Region>().is_err());
    }

    #[test]
    fn identities_are_checked_when_deserialised() {
        assert!(serde_json::from_str::<AccountId>("\"abc\"").is_err());
        assert_eq!(
            serde_json::from_str::<Region>("\"us-east-1\"")
                .unwrap()
                .to_string(),
            "us-east-1"
        );
    }
}
