use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Development;

/// One immutable revision of one version of a function: everything an environment is built from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// The function's ARN without a qualifier.
    pub arn: String,
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
    pub account: String,
    pub region: String,
    /// Changes with every change of code or configuration.
    pub revision_id: String,
    pub runtime: String,
    pub handler: String,
    pub memory_mb: u32,
    pub timeout: Duration,
    pub ephemeral_mb: u32,
    pub environment: BTreeMap<String, String>,
    /// The unpacked code on the host, mounted read-only at `/var/task`.
    pub code_dir: PathBuf,
    /// The unpacked layers on the host, lowest first, mounted read-only at `/opt`.
    pub layer_dirs: Vec<PathBuf>,
    pub role: String,
    pub log_group: String,
    pub log_format: LogFormat,
    pub application_log_level: Option<String>,
    pub system_log_level: Option<String>,
    /// `TracingConfig.Mode` is `Active`: a trace is started when the caller brings none.
    pub tracing_active: bool,
    /// `SnapStart.ApplyOn` is `PublishedVersions`.
    #[serde(default)]
    pub snap_start: bool,
    /// Hash of the package, in any spelling: part of a snapshot's identity.
    #[serde(default)]
    pub code_sha256: String,
    /// Its code is a folder that somebody is working on.
    #[serde(default)]
    pub development: Option<Development>,
}

impl Function {
    /// Whether a debugger may look into its environments.
    pub fn is_debugged(&self) -> bool {
        self.development
            .is_some_and(|development| development.debugged)
    }
}

/// How the log lines of a function and of the platform are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    #[default]
    Text,
    #[serde(rename = "JSON")]
    Json,
}

impl LogFormat {
    /// The value of `AWS_LAMBDA_LOG_FORMAT`, as the control plane spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Json => "JSON",
        }
    }
}

/// Names one revision of one version of a function. Environments are never shared between keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey(Arc<str>);

impl Function {
    /// The identity under which environments of this revision are pooled.
    pub fn key(&self) -> FunctionKey {
        FunctionKey::new(&self.arn, &self.version, &self.revision_id)
    }
}

/// No revision ends like this.
const PROVISIONED: &str = "+provisioned";

impl FunctionKey {
    pub fn new(arn: &str, version: &str, revision_id: &str) -> Self {
        let mut text = String::with_capacity(arn.len() + version.len() + revision_id.len() + 2);
        for part in [arn, ":", version, ":", revision_id] {
            text.push_str(part);
        }
        Self(text.into())
    }

    /// The key of this revision's provisioned environments, which are pooled apart.
    pub(crate) fn provisioned(&self) -> Self {
        Self(format!("{}{PROVISIONED}", self.0).into())
    }

    pub(crate) fn is_provisioned(&self) -> bool {
        self.0.ends_with(PROVISIONED)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
