//! When a version moves to a newer build of its runtime.
//!
//! firn's runtimes are what the host has; a version never moves on its own, whatever the mode. The
//! mode is kept and shown, and a runtime that is not the present one is refused rather than
//! promised.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, InvalidParameter};
use crate::function::Version;

/// The modes of a function's versions that are not the default, by version.
pub type RuntimeModes = BTreeMap<String, RuntimeMode>;

/// How a version's runtime is updated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeMode {
    #[default]
    Auto,
    FunctionUpdate,
    /// Stays on this runtime, an ARN.
    Manual(String),
}

impl RuntimeMode {
    /// Reads the mode that a request asks for.
    pub fn parse(
        mode: &str,
        arn: Option<String>,
        version: &Version,
        region: &str,
    ) -> Result<Self, Error> {
        match (mode, arn) {
            ("Manual", Some(arn)) => {
                if arn == invoker::runtime_version_arn(region, &version.settings.runtime) {
                    return Ok(Self::Manual(arn));
                }
                Err(InvalidParameter::OtherRuntimeVersion { arn }.into())
            }
            ("Manual", None) => Err(InvalidParameter::NoRuntimeVersion.into()),
            (_, Some(_)) => Err(InvalidParameter::RuntimeVersionWithoutManual.into()),
            ("FunctionUpdate", None) => Ok(Self::FunctionUpdate),
            (_, None) => Ok(Self::Auto),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::FunctionUpdate => "FunctionUpdate",
            Self::Manual(_) => "Manual",
        }
    }

    pub fn arn(&self) -> Option<&str> {
        match self {
            Self::Manual(arn) => Some(arn),
            Self::Auto | Self::FunctionUpdate => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    #[test]
    fn only_the_present_runtime_can_be_kept() {
        let function = function("f");
        let parse = |mode: &str, arn: Option<&str>| {
            let arn = arn.map(str::to_owned);
            RuntimeMode::parse(mode, arn, &function.latest, "eu-west-1")
        };
        let present = invoker::runtime_version_arn("eu-west-1", "python3.12");
        assert_eq!(parse("Auto", None).unwrap(), RuntimeMode::Auto);
        let kept = parse("Manual", Some(&present)).unwrap();
        assert_eq!(
            (kept.name(), kept.arn()),
            ("Manual", Some(present.as_str()))
        );
        assert!(parse("Manual", None).is_err());
        assert!(parse("Manual", Some("arn:aws:lambda:eu-west-1::runtime:x")).is_err());
        assert!(parse("Auto", Some(&present)).is_err());
    }
}
