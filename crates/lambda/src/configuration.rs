//! How a version appears in answers.

use clock::Timestamp;
use model::lambda as wire;

use crate::function::{Alias, Function, Snapshot, State, Update, Version};
use crate::layers::LayerUse;
use crate::name::Qualifier;
use crate::settings::{Logging, Settings};

/// The answer for a version that was asked for with `qualifier`: the ARN repeats the qualifier, and
/// an alias appears as such.
pub fn of(
    function: &Function,
    version: &Version,
    qualifier: Option<&Qualifier>,
    state: &State,
) -> wire::FunctionConfiguration {
    let arn = match qualifier {
        Some(qualifier) => function.id.qualified_arn(qualifier),
        None => function.id.arn(),
    };
    let region = function.id.scope.region.as_str();
    let runtime_version = invoker::runtime_version_arn(region, &version.settings.runtime);
    let mut answer = in_list(function, version, arn);
    let (reason, code) = state_reason(state);
    answer.state = Some(state.name().into());
    answer.state_reason = reason.or(snapshot_reason(state, version)).map(Into::into);
    answer.state_reason_code = code.map(Into::into);
    if let Some(update) = &version.last_update {
        let (status, reason, code) = update_reason(update);
        answer.last_update_status = Some(status.into());
        answer.last_update_status_reason = reason.map(Into::into);
        answer.last_update_status_reason_code = code.map(Into::into);
    }
    answer.runtime_version_config = Some(wire::RuntimeVersionConfig {
        runtime_version_arn: Some(runtime_version),
        ..wire::RuntimeVersionConfig::default()
    });
    answer
}

/// The answer in lists, which tells nothing about states.
pub fn in_list(function: &Function, version: &Version, arn: String) -> wire::FunctionConfiguration {
    let settings = &version.settings;
    wire::FunctionConfiguration {
        function_name: Some(function.id.name.clone()),
        function_arn: Some(arn),
        runtime: Some(settings.runtime.as_str().into()),
        role: Some(settings.role.clone()),
        handler: Some(settings.handler.clone()),
        code_size: Some(i64::try_from(version.code.size).unwrap_or(i64::MAX)),
        description: Some(settings.description.clone()),
        timeout: Some(to_i32(settings.timeout_seconds)),
        memory_size: Some(to_i32(settings.memory_mb)),
        last_modified: Some(last_modified(version.modified)),
        code_sha256: Some(version.code.sha256()),
        version: Some(version.name()),
        vpc_config: vpc(settings),
        dead_letter_config: settings
            .dead_letter_arn
            .clone()
            .map(|arn| wire::DeadLetterConfig {
                target_arn: Some(arn),
            }),
        environment: settings
            .environment
            .clone()
            .map(|variables| wire::EnvironmentResponse {
                variables: Some(variables),
                ..wire::EnvironmentResponse::default()
            }),
        kms_key_arn: settings.kms_key_arn.clone(),
        tracing_config: Some(wire::TracingConfigResponse {
            mode: Some(
                if settings.tracing_active {
                    "Active"
                } else {
                    "PassThrough"
                }
                .into(),
            ),
        }),
        revision_id: Some(version.revision_id.clone()),
        layers: layers(settings),
        file_system_configs: file_systems(settings),
        package_type: Some("Zip".into()),
        architectures: Some(vec![if settings.arm64 { "arm64" } else { "x86_64" }.into()]),
        ephemeral_storage: Some(wire::EphemeralStorage {
            size: to_i32(settings.ephemeral_mb),
        }),
        snap_start: Some(wire::SnapStartResponse {
            apply_on: Some(
                if settings.snap_start {
                    "PublishedVersions"
                } else {
                    "None"
                }
                .into(),
            ),
            optimization_status: Some(
                if version.snapshot == Snapshot::Taken {
                    "On"
                } else {
                    "Off"
                }
                .into(),
            ),
        }),
        logging_config: Some(logging(&settings.logging)),
        ..wire::FunctionConfiguration::default()
    }
}

/// How an alias appears in answers.
pub fn alias(function: &Function, name: &str, alias: &Alias) -> wire::AliasConfiguration {
    let weights = &alias.weights;
    wire::AliasConfiguration {
        alias_arn: Some(function.id.qualified_arn(name)),
        name: Some(name.to_owned()),
        function_version: Some(alias.target.to_string()),
        description: Some(alias.description.clone()),
        routing_config: (!weights.is_empty()).then(|| wire::AliasRoutingConfiguration {
            additional_version_weights: Some(
                weights
                    .iter()
                    .map(|(number, weight)| (number.to_string(), *weight))
                    .collect(),
            ),
        }),
        revision_id: Some(alias.revision_id.clone()),
    }
}

fn state_reason(state: &State) -> (Option<&str>, Option<&str>) {
    match state {
        State::Pending { restoring: false } => {
            (Some("The function is being created."), Some("Creating"))
        }
        State::Pending { restoring: true } => {
            (Some("The function is being restored."), Some("Restoring"))
        }
        State::Active => (None, None),
        State::Inactive => (Some("The function is idle."), Some("Idle")),
        State::Failed(failure) => (Some(&failure.reason), Some(&failure.code)),
    }
}

/// Why a version that works has no snapshot. On AWS every version can have one, so there an active
/// version never has a reason; it comes without a code, and clients have nothing to act on.
fn snapshot_reason<'v>(state: &State, version: &'v Version) -> Option<&'v str> {
    match &version.snapshot {
        Snapshot::Unfit { reason } | Snapshot::Missing { reason } if *state == State::Active => {
            Some(reason)
        }
        _ => None,
    }
}

fn update_reason(update: &Update) -> (&'static str, Option<&str>, Option<&str>) {
    match update {
        // AWS uses the words of the creation for every update.
        Update::InProgress => (
            "InProgress",
            Some("The function is being created."),
            Some("Creating"),
        ),
        Update::Successful => ("Successful", None, None),
        Update::Failed(failure) => ("Failed", Some(&failure.reason), Some(&failure.code)),
    }
}

fn vpc(settings: &Settings) -> Option<wire::VpcConfigResponse> {
    settings.vpc.as_ref().map(|vpc| wire::VpcConfigResponse {
        subnet_ids: Some(vpc.subnet_ids.clone()),
        security_group_ids: Some(vpc.security_group_ids.clone()),
        // The VPC follows from the subnets, which only EC2 knows.
        vpc_id: Some(String::new()),
        ipv6_allowed_for_dual_stack: Some(vpc.ipv6),
    })
}

fn layers(settings: &Settings) -> Option<Vec<wire::Layer>> {
    let list: Vec<_> = settings.layers.iter().map(LayerUse::answer).collect();
    (!list.is_empty()).then_some(list)
}

fn file_systems(settings: &Settings) -> Option<Vec<wire::FileSystemConfig>> {
    let convert = |file_system: &crate::settings::FileSystem| wire::FileSystemConfig {
        arn: file_system.arn.clone(),
        local_mount_path: file_system.mount_path.clone(),
        ..wire::FileSystemConfig::default()
    };
    let list: Vec<_> = settings.file_systems.iter().map(convert).collect();
    (!list.is_empty()).then_some(list)
}

fn logging(logging: &Logging) -> wire::LoggingConfig {
    let levels = logging.json.as_ref();
    wire::LoggingConfig {
        log_format: Some(if levels.is_some() { "JSON" } else { "Text" }.into()),
        application_log_level: levels.map(|levels| levels.application.as_str().into()),
        system_log_level: levels.map(|levels| levels.system.as_str().into()),
        log_group: Some(logging.group.clone()),
    }
}

/// `2023-11-14T22:13:20.123+0000`: not quite RFC 3339, and clients parse it as it is.
pub fn last_modified(moment: Timestamp) -> String {
    let mut text = moment.to_string();
    if text.ends_with('Z') {
        text.pop();
    }
    text.push_str("+0000");
    text
}

fn to_i32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::tests::function;

    #[test]
    fn moments_are_written_as_aws_writes_them() {
        assert_eq!(
            last_modified(Timestamp::from_millis(1_700_000_000_123)),
            "2023-11-14T22:13:20.123+0000"
        );
    }

    #[test]
    fn the_arn_repeats_the_qualifier_and_lists_tell_no_state() {
        let function = function("f");
        let version = &function.latest;
        let arn = |qualifier: Option<&Qualifier>| {
            of(&function, version, qualifier, &version.state)
                .function_arn
                .unwrap()
        };
        assert!(arn(None).ends_with(":function:f"));
        assert!(arn(Some(&Qualifier::Latest)).ends_with(":function:f:$LATEST"));
        let listed = in_list(&function, version, function.id.arn());
        assert!(listed.state.is_none() && listed.runtime_version_config.is_none());
    }
}
