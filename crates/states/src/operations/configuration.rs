//! Logging, tracing and encryption of a machine, as clients write them and as they are kept.

use model::logs::DescribeLogGroupsInput;
use model::logs::operation::DescribeLogGroups;
use model::stepfunctions::LogLevel as WireLevel;
use model::stepfunctions::{
    CloudWatchLogsLogGroup, EncryptionConfiguration, EncryptionType, LogDestination,
    LoggingConfiguration, TracingConfiguration, error,
};
use protocol::Caller;

use crate::machines::{LogLevel, Logging};
use crate::{Error, States};

/// Reads and checks where a machine logs to. `None` is what a machine has by default.
pub async fn logging(
    states: &States,
    caller: &Caller,
    wire: Option<LoggingConfiguration>,
) -> Result<Option<Logging>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    let level = match wire.level {
        None | Some(WireLevel::Off | WireLevel::Unknown(_)) => LogLevel::Off,
        Some(WireLevel::All) => LogLevel::All,
        Some(WireLevel::Error) => LogLevel::Error,
        Some(WireLevel::Fatal) => LogLevel::Fatal,
    };
    let destinations: Vec<LogDestination> = wire.destinations.unwrap_or_default();
    if destinations.len() > 1 || (destinations.is_empty() && level != LogLevel::Off) {
        return Err(invalid("Must specify exactly one Log Destination."));
    }
    let destinations: Vec<String> = destinations
        .into_iter()
        .map(|destination| {
            let group = destination.cloud_watch_logs_log_group;
            group.and_then(|group| group.log_group_arn)
        })
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("Must specify exactly one Log Destination."))?;
    for destination in destinations.iter().filter(|_| level != LogLevel::Off) {
        check_destination(states, caller, destination).await?;
    }
    let logging = Logging {
        level,
        include_execution_data: wire.include_execution_data.unwrap_or_default(),
        destinations,
    };
    Ok((logging != by_default()).then_some(logging))
}

pub fn wire_logging(logging: Option<&Logging>) -> LoggingConfiguration {
    let default = by_default();
    let logging = logging.unwrap_or(&default);
    let level = match logging.level {
        LogLevel::All => WireLevel::All,
        LogLevel::Error => WireLevel::Error,
        LogLevel::Fatal => WireLevel::Fatal,
        LogLevel::Off => WireLevel::Off,
    };
    let destinations = logging.destinations.iter().map(|arn| LogDestination {
        cloud_watch_logs_log_group: Some(CloudWatchLogsLogGroup {
            log_group_arn: Some(arn.clone()),
        }),
    });
    LoggingConfiguration {
        level: Some(level),
        include_execution_data: Some(logging.include_execution_data),
        destinations: (!logging.destinations.is_empty()).then(|| destinations.collect()),
    }
}

pub fn tracing(wire: Option<&TracingConfiguration>) -> bool {
    wire.and_then(|wire| wire.enabled).unwrap_or_default()
}

pub fn wire_tracing(enabled: bool) -> TracingConfiguration {
    TracingConfiguration {
        enabled: Some(enabled),
    }
}

/// Checks how something is to be encrypted; tells whether the service's own key was asked for.
pub fn own_key(wire: Option<&EncryptionConfiguration>) -> Result<bool, Error> {
    let Some(wire) = wire else { return Ok(false) };
    let invalid = |why: &str| {
        let text = format!("Invalid Encryption Configuration: {why}");
        Error::refused(&error::INVALID_ENCRYPTION_CONFIGURATION, text)
    };
    match &wire.type_ {
        EncryptionType::AwsOwnedKey => {
            if wire.kms_key_id.is_some() || wire.kms_data_key_reuse_period_seconds.is_some() {
                return Err(invalid(
                    "KmsKeyId and KmsDataKeyReusePeriodSeconds must not be specified with \
                     AWS_OWNED_KEY.",
                ));
            }
            Ok(true)
        }
        EncryptionType::CustomerManagedKmsKey if wire.kms_key_id.is_none() => Err(invalid(
            "KmsKeyId must be specified with CUSTOMER_MANAGED_KMS_KEY.",
        )),
        EncryptionType::CustomerManagedKmsKey => Err(Error::NotSupported("keys of customers")),
        EncryptionType::Unknown(_) => Ok(false),
    }
}

pub fn wire_encryption(own_key: bool) -> Option<EncryptionConfiguration> {
    own_key.then(|| EncryptionConfiguration {
        type_: EncryptionType::AwsOwnedKey,
        ..EncryptionConfiguration::default()
    })
}

fn by_default() -> Logging {
    Logging {
        level: LogLevel::Off,
        include_execution_data: false,
        destinations: Vec::new(),
    }
}

/// A log group must exist when a machine is told to log to it.
async fn check_destination(states: &States, caller: &Caller, arn: &str) -> Result<(), Error> {
    let not_found = || invalid("Log Destination not found.");
    let name = group_name(arn).ok_or_else(not_found)?;
    let input = DescribeLogGroupsInput {
        log_group_name_prefix: Some(name.to_owned()),
        ..DescribeLogGroupsInput::default()
    };
    let router = &states.hooks.router;
    let groups = router
        .call::<DescribeLogGroups>(caller, input)
        .await
        .map_err(|_| not_found())?
        .log_groups
        .unwrap_or_default();
    // The group itself comes first of all that begin with its name.
    groups
        .iter()
        .any(|group| group.log_group_name.as_deref() == Some(name))
        .then_some(())
        .ok_or_else(not_found)
}

/// The name in `arn:aws:logs:region:account:log-group:name:*`.
fn group_name(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(7, ':');
    let is_group = parts.next() == Some("arn")
        && parts.nth(1) == Some("logs")
        && parts.nth(2) == Some("log-group");
    let name = parts.next().filter(|_| is_group)?;
    let name = name.strip_suffix(":*").unwrap_or(name);
    (!name.is_empty() && !name.contains(':')).then_some(name)
}

fn invalid(why: &str) -> Error {
    let text = format!("Invalid Logging Configuration: {why}");
    Error::refused(&error::INVALID_LOGGING_CONFIGURATION, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_groups_are_found_in_their_arns() {
        let arn = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/vendedlogs/states/g:*";
        assert_eq!(group_name(arn), Some("/aws/vendedlogs/states/g"));
        assert_eq!(
            group_name(arn.strip_suffix(":*").unwrap()),
            Some("/aws/vendedlogs/states/g")
        );
        for arn in ["", "arn", "arn:aws:s3:::b", "arn:aws:logs:r:1:log-group:"] {
            assert_eq!(group_name(arn), None, "{arn}");
        }
    }

    #[test]
    fn only_the_services_own_key_can_encrypt() {
        let with = |type_, key: Option<&str>| EncryptionConfiguration {
            type_,
            kms_key_id: key.map(str::to_owned),
            kms_data_key_reuse_period_seconds: None,
        };
        assert!(!own_key(None).unwrap());
        assert!(own_key(Some(&with(EncryptionType::AwsOwnedKey, None))).unwrap());
        let customer = EncryptionType::CustomerManagedKmsKey;
        assert!(matches!(
            own_key(Some(&with(customer.clone(), Some("k")))),
            Err(Error::NotSupported(_))
        ));
        assert!(matches!(
            own_key(Some(&with(customer, None))),
            Err(Error::Refused { .. })
        ));
    }
}
