//! Names of functions: every form that AWS accepts, and the ARNs built from them.
//!
//! A `FunctionName` parameter may be a name, `function:name`, `account:function:name` or a full
//! ARN, each with or without a qualifier
//! (<https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>). The grammar is AWS's own
//! regular expression, whose optional parts are greedy: `function:x` is the function `x`, and
//! only `function:function:x` is the function `function` with the qualifier `x`.

use std::fmt;
use std::str::FromStr;

use model::{AccountId, Region};

/// AWS limits a bare function name to 64 characters, though the parameter may be longer (an ARN).
pub const MAX_NAME_LENGTH: usize = 64;

/// Where a name points when the caller's account and region are left implicit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionReference {
    pub region: Option<Region>,
    pub account: Option<AccountId>,
    pub name: String,
    pub qualifier: Option<Qualifier>,
}

/// Which version of a function is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Qualifier {
    Latest,
    Version(u64),
    /// An alias, or a text that can name nothing: whoever looks it up says "not found".
    Alias(String),
}

/// The text is no function name in any of the forms that AWS accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a function name or a function ARN")]
pub struct ParseNameError {
    pub text: String,
}

impl FromStr for FunctionReference {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseNameError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for FunctionReference {
    /// Writes a form that parses back to the same reference: `function:` goes before the name
    /// as soon as anything else stands beside it, because a name alone may look like a region,
    /// an account or the word `function`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.region, self.account) {
            (Some(region), Some(account)) => {
                write!(f, "arn:{}:lambda:{region}:{account}:", region.partition())?;
            }
            (Some(region), None) => write!(f, "{region}:")?,
            (None, Some(account)) => write!(f, "{account}:")?,
            (None, None) => {}
        }
        if self.region.is_some() || self.account.is_some() || self.qualifier.is_some() {
            f.write_str("function:")?;
        }
        f.write_str(&self.name)?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

impl From<&str> for Qualifier {
    fn from(text: &str) -> Self {
        if text == LATEST {
            return Self::Latest;
        }
        // Only the canonical decimal form names a version; "007" is not version 7.
        match text.parse::<u64>() {
            Ok(number) if number > 0 && number.to_string() == text => Self::Version(number),
            _ => Self::Alias(text.to_owned()),
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str(LATEST),
            Self::Version(number) => write!(f, "{number}"),
            Self::Alias(name) => f.write_str(name),
        }
    }
}

/// The qualifier of the one version that can change.
pub const LATEST: &str = "$LATEST";

/// The unqualified ARN of a function.
pub fn function_arn(region: &Region, account: AccountId, name: &str) -> String {
    format!(
        "arn:{}:lambda:{region}:{account}:function:{name}",
        region.partition()
    )
}

fn parse(text: &str) -> Option<FunctionReference> {
    // Eight segments are the most that any form has; a longer text need not be split.
    let segments: Vec<&str> = text.splitn(9, ':').collect();
    // The regular expression backtracks over its optional parts, trying first to use them.
    for pattern in (0..16_u8).rev() {
        if let Some(reference) = parse_with(&segments, pattern) {
            return Some(reference);
        }
    }
    None
}

/// Matches the segments with exactly those optional parts whose bit is set in `present`.
fn parse_with(segments: &[&str], present: u8) -> Option<FunctionReference> {
    let mut rest = segments.iter().copied();
    if present & 8 != 0 {
        let (arn, partition, service) = (rest.next()?, rest.next()?, rest.next()?);
        if arn != "arn" || !is_partition(partition) || service != "lambda" {
            return None;
        }
    }
    let region = match present & 4 {
        0 => None,
        _ => Some(
            rest.next()
                .filter(|text| is_region(text))?
                .parse::<Region>()
                .ok()?,
        ),
    };
    let account = match present & 2 {
        0 => None,
        _ => Some(rest.next()?.parse::<AccountId>().ok()?),
    };
    if present & 1 != 0 && rest.next()? != "function" {
        return None;
    }
    let name = rest.next().filter(|s| is_name(s))?;
    let qualifier = match rest.next() {
        Some(text) => Some(parse_qualifier(text)?),
        None => None,
    };
    if rest.next().is_some() {
        return None;
    }
    Some(FunctionReference {
        region,
        account,
        name: name.to_owned(),
        qualifier,
    })
}

fn parse_qualifier(text: &str) -> Option<Qualifier> {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (plain || text == LATEST || text == "$LATEST.PUBLISHED").then(|| Qualifier::from(text))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `(aws[a-zA-Z-]*)?`
fn is_partition(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix("aws").is_some_and(|rest| {
            rest.bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
        })
}

/// `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}`
fn is_region(text: &str) -> bool {
    let text = text.strip_prefix("eusc-").unwrap_or(text);
    let parts: Vec<&str> = text.split('-').collect();
    let (country, rest) = match parts.as_slice() {
        [country, area, direction, number] if is_isolated_area(area) => {
            (country, [*direction, *number])
        }
        [country, direction, number] => (country, [*direction, *number]),
        _ => return false,
    };
    let lower = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
    let [direction, number] = rest;
    country.len() == 2
        && lower(country)
        && lower(direction)
        && number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_isolated_area(text: &str) -> bool {
    text == "gov"
        || text.strip_prefix("iso").is_some_and(|rest| {
            rest.len() <= 1 && rest.bytes().all(|byte| byte.is_ascii_lowercase())
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(text: &str) -> FunctionReference {
        text.parse().unwrap()
    }

    fn of(
        region: Option<&str>,
        account: Option<&str>,
        name: &str,
        qualifier: Option<&str>,
    ) -> FunctionReference {
        FunctionReference {
            region: region.map(|text| text.parse().unwrap()),
            account: account.map(|text| text.parse().unwrap()),
            name: name.to_owned(),
            qualifier: qualifier.map(Qualifier::from),
        }
    }

    #[test]
    fn every_documented_form_is_understood() {
        let account = Some("123456789012");
        let region = Some("us-east-1");
        let cases = [
            ("f", of(None, None, "f", None)),
            ("f:v1", of(None, None, "f", Some("v1"))),
            ("f:$LATEST", of(None, None, "f", Some("$LATEST"))),
            ("function:f", of(None, None, "f", None)),
            ("function:f:7", of(None, None, "f", Some("7"))),
            ("123456789012:function:f", of(None, account, "f", None)),
            ("123456789012:f:live", of(None, account, "f", Some("live"))),
            (
                "us-east-1:123456789012:function:f",
                of(region, account, "f", None),
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:f",
                of(region, account, "f", None),
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:f:live",
                of(region, account, "f", Some("live")),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(reference(text), expected, "{text}");
        }
    }

    #[test]
    fn greedy_parts_win_but_give_way_when_the_rest_would_not_match() {
        assert_eq!(reference("function"), of(None, None, "function", None));
        assert_eq!(
            reference("function:function:x"),
            of(None, None, "function", Some("x"))
        );
        // An ARN cut short before the name: the word `function` becomes the name.
        assert_eq!(
            reference("arn:aws:lambda:us-east-1:123456789012:function"),
            of(Some("us-east-1"), Some("123456789012"), "function", None)
        );
        assert_eq!(
            reference("123456789012:$LATEST"),
            of(None, None, "123456789012", Some("$LATEST"))
        );
        assert_eq!(reference("arn:x"), of(None, None, "arn", Some("x")));
    }

    #[test]
    fn texts_that_aws_refuses_are_refused() {
        for text in [
            "",
            "*",
            "my-function!",
            "invalid:function:name",
            "invalid-account:function:my-function",
            "function:my-function:$LATEST:extra",
            "my-function:$latest",
            "arn:aws:lambda:us-east-1:000000000000:function:my-function:$LATES",
            "arn:aws:lambda:us-east-1:000000000000:function:my-function:1:2",
            "arn:aws:lambda:us-east-1::function:my-function",
            "arn:aws:lambda::000000000000:function:my-function",
            "arn:aws:lambda:invalid-region:000000000000:function:my-function",
            "arn:aws:ec2:us-east-1:000000000000:instance:i-1234567890abcdef0",
            "arn:aws:lambda:us-east-1:123400000000@function:myfn",
            "f:",
            ":f",
        ] {
            assert!(text.parse::<FunctionReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_canonical_numbers_are_versions() {
        assert_eq!(Qualifier::from("7"), Qualifier::Version(7));
        assert_eq!(Qualifier::from("007"), Qualifier::Alias("007".into()));
        assert_eq!(Qualifier::from("0"), Qualifier::Alias("0".into()));
        let huge = "99999999999999999999999";
        assert_eq!(Qualifier::from(huge), Qualifier::Alias(huge.into()));
    }

    #[test]
    fn arns_carry_the_partition_of_their_region() {
        let region = "cn-north-1".parse().unwrap();
        assert_eq!(
            function_arn(&region, "123456789012".parse().unwrap(), "f"),
            "arn:aws-cn:lambda:cn-north-1:123456789012:function:f"
        );
    }

    fn any_reference() -> impl Strategy<Value = FunctionReference> {
        let region = prop_oneof![
            Just(None),
            "[a-z]{2}(-gov|-iso[a-z]?)?-[a-z]{1,9}-[0-9]".prop_map(Some),
            "eusc-[a-z]{2}-[a-z]{1,9}-[0-9]".prop_map(Some),
        ];
        let account = prop_oneof![Just(None), "[0-9]{12}".prop_map(Some)];
        let name = prop_oneof![
            "[a-zA-Z0-9_.-]{1,20}",
            Just("function".to_owned()),
            "[0-9]{12}",
            Just("us-east-1".to_owned()),
            Just("arn".to_owned())
        ];
        let qualifier = prop_oneof![
            Just(None),
            Just(Some("$LATEST".to_owned())),
            Just(Some("$LATEST.PUBLISHED".to_owned())),
            "[a-zA-Z0-9_-]{1,20}".prop_map(Some),
        ];
        (region, account, name, qualifier).prop_map(|(region, account, name, qualifier)| {
            FunctionReference {
                region: region.map(|text| text.parse().unwrap()),
                account: account.map(|text| text.parse().unwrap()),
                name,
                qualifier: qualifier.as_deref().map(Qualifier::from),
            }
        })
    }

    proptest! {
        #[test]
        fn display_parses_back_to_the_same_reference(reference in any_reference()) {
            prop_assert_eq!(reference.to_string().parse::<FunctionReference>().unwrap(), reference);
        }

        #[test]
        fn parsing_never_panics_and_is_stable(text in "\\PC{0,80}|[a-z0-9:$.-]{0,60}") {
            if let Ok(first) = text.parse::<FunctionReference>() {
                prop_assert_eq!(first.to_string().parse::<FunctionReference>().unwrap(), first);
            }
        }

        #[test]
        fn qualifiers_display_as_they_were_given(text in "[a-zA-Z0-9$_-]{1,30}") {
            prop_assert_eq!(Qualifier::from(text.as_str()).to_string(), text);
        }
    }
}
