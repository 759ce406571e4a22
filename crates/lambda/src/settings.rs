//! The configurable part of a version, its defaults, and the rules for changing it.

use std::collections::BTreeMap;

use invoker::SnapStartMode;
use model::lambda as wire;
use serde::{Deserialize, Serialize};

use crate::error::{Constraint, Error, InvalidParameter};
use crate::layers::LayerUse;
use crate::runtimes;

const DEFAULT_TIMEOUT_SECONDS: u32 = 3;
const DEFAULT_MEMORY_MB: u32 = 128;
const DEFAULT_EPHEMERAL_MB: u32 = 512;
const MAX_TIMEOUT_SECONDS: i32 = 900;
/// The interface allows more, but only for capacity providers.
const MAX_MEMORY_MB: i32 = 10_240;
const MAX_ENVIRONMENT_BYTES: usize = 4096;

/// Set by the runtime environment; a function cannot set them.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
const RESERVED_ENVIRONMENT: [&str; 18] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub description: String,
    pub role: String,
    pub runtime: String,
    pub handler: String,
    pub timeout_seconds: u32,
    pub memory_mb: u32,
    pub ephemeral_mb: u32,
    /// None and empty are different to clients.
    pub environment: Option<BTreeMap<String, String>>,
    pub kms_key_arn: Option<String>,
    pub tracing_active: bool,
    pub arm64: bool,
    pub vpc: Option<Vpc>,
    pub dead_letter_arn: Option<String>,
    pub file_systems: Vec<FileSystem>,
    pub snap_start: bool,
    pub logging: Logging,
    /// Lowest first: later ones cover earlier ones.
    #[serde(default)]
    pub layers: Vec<LayerUse>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vpc {
    pub subnet_ids: Vec<String>,
    pub security_group_ids: Vec<String>,
    pub ipv6: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSystem {
    pub arn: String,
    pub mount_path: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logging {
    pub group: String,
    /// None: plain text.
    pub json: Option<Levels>,
}

/// The least severe messages that are kept; only JSON logs have levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    pub application: String,
    pub system: String,
}

/// What a request sets; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub description: Option<String>,
    pub role: Option<String>,
    pub runtime: Option<wire::Runtime>,
    pub handler: Option<String>,
    pub timeout: Option<i32>,
    pub memory_size: Option<i32>,
    pub ephemeral_storage: Option<wire::EphemeralStorage>,
    pub environment: Option<wire::Environment>,
    pub kms_key_arn: Option<String>,
    pub tracing_config: Option<wire::TracingConfig>,
    pub vpc_config: Option<wire::VpcConfig>,
    pub dead_letter_config: Option<wire::DeadLetterConfig>,
    pub file_system_configs: Option<Vec<wire::FileSystemConfig>>,
    pub layers: Option<Vec<String>>,
    /// What `layers` lead to, once the changes are checked.
    pub layer_uses: Option<Vec<LayerUse>>,
    pub snap_start: Option<wire::SnapStart>,
    pub logging_config: Option<wire::LoggingConfig>,
}

impl Settings {
    /// The settings of a new function that asks for nothing in particular.
    pub fn new(name: &str, role: String, runtime: String, handler: String) -> Self {
        Self {
            description: String::new(),
            role,
            runtime,
            handler,
            timeout_seconds: DEFAULT_TIMEOUT_SECONDS,
            memory_mb: DEFAULT_MEMORY_MB,
            ephemeral_mb: DEFAULT_EPHEMERAL_MB,
            environment: None,
            kms_key_arn: None,
            tracing_active: false,
            arm64: false,
            vpc: None,
            dead_letter_arn: None,
            file_systems: Vec::new(),
            snap_start: false,
            logging: Logging {
                group: format!("/aws/lambda/{name}"),
                json: None,
            },
            layers: Vec::new(),
        }
    }

    /// What AWS cannot take snapshots of. firn can, where it is told to go beyond AWS.
    fn check_snap_start(&self) -> Result<(), InvalidParameter> {
        let refused = |what: &str| {
            Err(InvalidParameter::SnapStartUnsupported {
                what: what.to_owned(),
            })
        };
        if !runtimes::supports_snap_start(&self.runtime) {
            return refused(&self.runtime);
        }
        // Nothing recorded shows these two refusals; they follow the form of the others.
        if self.ephemeral_mb > DEFAULT_EPHEMERAL_MB {
            return refused("EphemeralStorage greater than 512 MB");
        }
        if !self.file_systems.is_empty() {
            return refused("Amazon EFS");
        }
        Ok(())
    }

    pub fn set_architectures(&mut self, architectures: Option<&Vec<wire::Architecture>>) {
        if let Some(architecture) = architectures.and_then(|list| list.first()) {
            self.arm64 = architecture.as_str() == "arm64";
        }
    }
}

impl Changes {
    /// Checks the changes without the settings they go to, in the order in which AWS complains.
    pub fn check(
        &mut self,
        allow_deprecated_runtimes: bool,
        find_layers: impl FnOnce(&[String]) -> Result<Vec<LayerUse>, Error>,
    ) -> Result<(), Error> {
        if let Some(value) = self.timeout.filter(|value| *value > MAX_TIMEOUT_SECONDS) {
            return Err(Constraint::Timeout { value }.into());
        }
        if let Some(vpc) = &self.vpc_config {
            check_subnets(vpc)?;
        }
        if self.memory_size.is_some_and(|value| value > MAX_MEMORY_MB) {
            return Err(InvalidParameter::MemoryTooLarge.into());
        }
        if let Some(variables) = self
            .environment
            .as_ref()
            .and_then(|env| env.variables.as_ref())
        {
            check_environment(variables)?;
        }
        if self
            .file_system_configs
            .iter()
            .flatten()
            .any(|config| config.s3_files_config.is_some())
        {
            return Err(Error::NotSupported {
                what: "S3FilesConfig",
                advice: "",
            });
        }
        if let Some(layers) = &self.layers {
            self.layer_uses = Some(find_layers(layers)?);
        }
        if let Some(runtime) = &self.runtime {
            runtimes::check(runtime.as_str(), allow_deprecated_runtimes)?;
        }
        Ok(())
    }

    /// Applies changes that passed [`Changes::check`].
    pub fn apply(self, settings: &mut Settings, mode: SnapStartMode) -> Result<(), Error> {
        set(&mut settings.description, self.description);
        set(&mut settings.role, self.role);
        set(
            &mut settings.runtime,
            self.runtime.map(|runtime| runtime.as_str().to_owned()),
        );
        set(&mut settings.handler, self.handler);
        set(&mut settings.timeout_seconds, self.timeout.map(positive));
        set(&mut settings.memory_mb, self.memory_size.map(positive));
        set(
            &mut settings.ephemeral_mb,
            self.ephemeral_storage.map(|storage| positive(storage.size)),
        );
        if let Some(environment) = self.environment {
            settings.environment = environment.variables;
        }
        // An empty ARN takes the key or the queue away.
        set(&mut settings.kms_key_arn, self.kms_key_arn.map(non_empty));
        set(
            &mut settings.dead_letter_arn,
            self.dead_letter_config
                .map(|config| config.target_arn.and_then(non_empty)),
        );
        if let Some(mode) = self.tracing_config.and_then(|config| config.mode) {
            settings.tracing_active = mode.as_str() == "Active";
        }
        set(
            &mut settings.vpc,
            self.vpc_config.map(|vpc| Some(vpc_of(vpc))),
        );
        set(
            &mut settings.file_systems,
            self.file_system_configs.map(file_systems_of),
        );
        set(&mut settings.layers, self.layer_uses);
        if let Some(apply_on) = self.snap_start.and_then(|snap_start| snap_start.apply_on) {
            settings.snap_start = apply_on.as_str() == "PublishedVersions";
        }
        if settings.snap_start && mode == SnapStartMode::Aws {
            settings.check_snap_start()?;
        }
        match self.logging_config {
            Some(change) => settings.logging.apply(change),
            None => Ok(()),
        }
    }
}

impl Logging {
    fn apply(&mut self, change: wire::LoggingConfig) -> Result<(), Error> {
        set(&mut self.group, change.log_group);
        let text = |level: &str| level.to_owned();
        let application = change
            .application_log_level
            .map(|level| text(level.as_str()));
        let system = change.system_log_level.map(|level| text(level.as_str()));
        match change.log_format.as_ref().map(|format| format.as_str()) {
            Some("Text") => self.json = None,
            // Levels start at INFO when the format is set, even if it was JSON before.
            Some(_) => {
                self.json = Some(Levels {
                    application: "INFO".into(),
                    system: "INFO".into(),
                })
            }
            None => {}
        }
        match &mut self.json {
            Some(levels) => {
                set(&mut levels.application, application);
                set(&mut levels.system, system);
                Ok(())
            }
            None if application.is_none() && system.is_none() => Ok(()),
            None => Err(InvalidParameter::LevelsWithoutJson.into()),
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The constraints of the interface have excluded negative values.
fn positive(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn vpc_of(vpc: wire::VpcConfig) -> Vpc {
    Vpc {
        subnet_ids: vpc.subnet_ids.unwrap_or_default(),
        security_group_ids: vpc.security_group_ids.unwrap_or_default(),
        ipv6: vpc.ipv6_allowed_for_dual_stack.unwrap_or(false),
    }
}

fn file_systems_of(configs: Vec<wire::FileSystemConfig>) -> Vec<FileSystem> {
    let convert = |config: wire::FileSystemConfig| FileSystem {
        arn: config.arn,
        mount_path: config.local_mount_path,
    };
    configs.into_iter().map(convert).collect()
}

fn check_subnets(vpc: &wire::VpcConfig) -> Result<(), Constraint> {
    let subnets = vpc.subnet_ids.as_deref().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let valid = |id: &String| {
        id.len() <= 1024
            && id
                .strip_prefix("subnet-")
                .is_some_and(|id| id.bytes().all(plain))
    };
    if subnets.iter().all(valid) {
        return Ok(());
    }
    Err(Constraint::Subnet {
        value: subnets.join(", "),
    })
}

fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), InvalidParameter> {
    let reserved: Vec<&str> = variables
        .keys()
        .map(String::as_str)
        .filter(|key| RESERVED_ENVIRONMENT.contains(key))
        .collect();
    if !reserved.is_empty() {
        return Err(InvalidParameter::ReservedEnvironment {
            keys: reserved.join(", "),
        });
    }
    // AWS measures the variables as compact JSON. Writing a map of strings cannot fail.
    let measured = serde_json::to_string(variables).unwrap_or_default();
    if measured.len() > MAX_ENVIRONMENT_BYTES {
        return Err(InvalidParameter::EnvironmentTooLarge { measured });
    }
    Ok(())
}

#[cfg(test)]
impl Settings {
    pub fn sample() -> Self {
        let role = "arn:aws:iam::123456789012:role/worker".to_owned();
        Self::new("f", role, "python3.12".to_owned(), "app.handler".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(arns: &[String]) -> Result<Vec<LayerUse>, Error> {
        let arn = arns.join(" ");
        Err(InvalidParameter::NoSuchLayer { arn }.into())
    }

    fn environment(variables: &[(&str, &str)]) -> Changes {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Changes {
            environment: Some(wire::Environment {
                variables: Some(variables),
            }),
            ..Changes::default()
        }
    }

    fn logging(format: Option<&str>, application: Option<&str>) -> Changes {
        Changes {
            logging_config: Some(wire::LoggingConfig {
                log_format: format.map(Into::into),
                application_log_level: application.map(Into::into),
                ..wire::LoggingConfig::default()
            }),
            ..Changes::default()
        }
    }

    #[test]
    fn the_environment_may_take_4096_bytes_as_json() {
        // {"KEY":""} are ten bytes.
        assert!(
            environment(&[("KEY", &"x".repeat(4086))])
                .check(false, none)
                .is_ok()
        );
        let error = environment(&[("KEY", &"x".repeat(4087))])
            .check(false, none)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("{}\"}}", "x".repeat(4087)))
        );
        assert!(
            error
                .to_string()
                .contains("exceeded the 4KB limit. String measured: {\"KEY\":\"")
        );
    }

    #[test]
    fn reserved_variables_are_refused_by_name() {
        let error = environment(&[("AWS_REGION", "x"), ("OK", "y"), ("_HANDLER", "z")])
            .check(false, none)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("used in this request: AWS_REGION, _HANDLER")
        );
        assert!(environment(&[("TZ", "UTC")]).check(false, none).is_ok());
    }

    #[test]
    fn values_beyond_the_interface_are_refused() {
        let mut timeout = Changes {
            timeout: Some(901),
            ..Changes::default()
        };
        assert!(matches!(
            timeout.check(false, none),
            Err(Error::Constraint(_))
        ));
        let mut memory = Changes {
            memory_size: Some(10_241),
            ..Changes::default()
        };
        assert!(matches!(
            memory.check(false, none),
            Err(Error::InvalidParameter(_))
        ));
        let mut layers = Changes {
            layers: Some(vec!["arn".into()]),
            ..Changes::default()
        };
        assert_eq!(
            layers.check(false, none).unwrap_err().to_string(),
            "Layer version arn does not exist."
        );
    }

    #[test]
    fn subnets_have_aws_form() {
        let of = |id: &str| Changes {
            vpc_config: Some(wire::VpcConfig {
                subnet_ids: Some(vec![id.to_owned()]),
                ..wire::VpcConfig::default()
            }),
            ..Changes::default()
        };
        assert!(of("subnet-81e904f1").check(false, none).is_ok());
        let error = of("bad-format-1")
            .check(false, none)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(
            "1 validation error detected: Value '[bad-format-1]' at 'vpcConfig.subnetIds' failed"
        ));
    }

    #[test]
    fn json_logs_start_at_info_and_text_has_no_levels() {
        let mut settings = Settings::sample();
        logging(Some("JSON"), None)
            .apply(&mut settings, SnapStartMode::Aws)
            .unwrap();
        let info = Levels {
            application: "INFO".into(),
            system: "INFO".into(),
        };
        assert_eq!(settings.logging.json, Some(info));
        logging(None, Some("DEBUG"))
            .apply(&mut settings, SnapStartMode::Aws)
            .unwrap();
        assert_eq!(settings.logging.json.as_ref().unwrap().application, "DEBUG");
        logging(Some("Text"), None)
            .apply(&mut settings, SnapStartMode::Aws)
            .unwrap();
        assert_eq!(settings.logging.json, None);
        assert!(
            logging(None, Some("DEBUG"))
                .apply(&mut settings, SnapStartMode::Aws)
                .is_err()
        );
    }

    #[test]
    fn an_empty_arn_takes_the_dead_letter_queue_away() {
        let mut settings = Settings::sample();
        let set = |arn: &str| Changes {
            dead_letter_config: Some(wire::DeadLetterConfig {
                target_arn: Some(arn.to_owned()),
            }),
            ..Changes::default()
        };
        set("arn:aws:sqs:eu-west-1:123456789012:q")
            .apply(&mut settings, SnapStartMode::Aws)
            .unwrap();
        assert!(settings.dead_letter_arn.is_some());
        set("").apply(&mut settings, SnapStartMode::Aws).unwrap();
        assert_eq!(settings.dead_letter_arn, None);
    }

    fn snap_start() -> Changes {
        Changes {
            snap_start: Some(wire::SnapStart {
                apply_on: Some("PublishedVersions".into()),
            }),
            ..Changes::default()
        }
    }

    #[test]
    fn snap_start_is_refused_where_aws_refuses_it() {
        let refusal = |change: fn(&mut Settings)| {
            let mut settings = Settings::sample();
            change(&mut settings);
            let applied = snap_start().apply(&mut settings, SnapStartMode::Aws);
            applied.map_err(|error| error.to_string())
        };
        assert_eq!(refusal(|_| {}), Ok(()));
        assert_eq!(
            refusal(|settings| settings.runtime = "nodejs22.x".into()).unwrap_err(),
            "nodejs22.x is not supported for SnapStart enabled functions."
        );
        assert_eq!(
            refusal(|settings| settings.ephemeral_mb = 513).unwrap_err(),
            "EphemeralStorage greater than 512 MB is not supported for SnapStart enabled functions."
        );
        let with_efs = |settings: &mut Settings| {
            settings.file_systems = vec![FileSystem {
                arn: "arn".into(),
                mount_path: "/mnt/x".into(),
            }];
        };
        assert_eq!(
            refusal(with_efs).unwrap_err(),
            "Amazon EFS is not supported for SnapStart enabled functions."
        );
    }

    #[test]
    fn beyond_aws_every_function_may_have_snap_start() {
        for mode in [SnapStartMode::Eager, SnapStartMode::Auto] {
            let mut settings = Settings::sample();
            settings.runtime = "provided.al2023".into();
            settings.ephemeral_mb = 10_240;
            snap_start().apply(&mut settings, mode).unwrap();
            assert!(settings.snap_start);
        }
    }
}
