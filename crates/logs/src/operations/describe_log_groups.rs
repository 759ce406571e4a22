use model::logs::{DescribeLogGroupsInput, DescribeLogGroupsOutput, LogGroup, LogGroupClass};
use protocol::Caller;

use super::{group_arn, group_name};
use crate::record::GroupRecord;
use crate::registry::group_key;
use crate::service::scope;
use crate::token::{decode_name, encode_name};
use crate::{Error, Logs};

const PAGE: usize = 50;
const DEFAULT_CLASS: &str = "STANDARD";

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: DescribeLogGroupsInput,
) -> Result<DescribeLogGroupsOutput, Error> {
    if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
        return Err(Error::InvalidParameter(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
                .to_owned(),
        ));
    }
    let limit = input
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(PAGE);
    let after = input
        .next_token
        .as_deref()
        .map(|token| decode_name('g', token))
        .transpose()?;
    let identifiers = input.log_group_identifiers.unwrap_or_default();
    let identified: Vec<_> = identifiers
        .iter()
        .map(|identifier| group_name(caller, identifier))
        .collect::<Result<_, _>>()?;
    let prefix = group_key(&scope(caller), "");
    let groups = logs.groups(&prefix)?;
    let named = groups
        .iter()
        .map(|(key, record)| (&key[prefix.len()..], record));
    let mut wanted = named.filter(|(name, record)| {
        let class = record.class.as_deref().unwrap_or(DEFAULT_CLASS);
        after.as_ref().is_none_or(|after| *name > after.as_str())
            && input
                .log_group_name_prefix
                .as_ref()
                .is_none_or(|prefix| name.starts_with(prefix))
            && input
                .log_group_name_pattern
                .as_ref()
                .is_none_or(|pattern| contains(name, pattern))
            && input
                .log_group_class
                .as_ref()
                .is_none_or(|wanted| wanted.as_str() == class)
            && (identified.is_empty() || identified.contains(name))
    });
    let page: Vec<_> = wanted.by_ref().take(limit).collect();
    let next_token = match (wanted.next(), page.last()) {
        (Some(_), Some((last, _))) => Some(encode_name('g', last)),
        _ => None,
    };
    let log_groups = page
        .into_iter()
        .map(|(name, record)| describe(logs, caller, name, record))
        .collect();
    Ok(DescribeLogGroupsOutput {
        log_groups: Some(log_groups),
        next_token,
    })
}

/// AWS looks for the pattern anywhere in the name, without regard to case.
fn contains(name: &str, pattern: &str) -> bool {
    name.to_ascii_lowercase()
        .contains(&pattern.to_ascii_lowercase())
}

fn describe(logs: &Logs, caller: &Caller, name: &str, record: &GroupRecord) -> LogGroup {
    let arn = group_arn(caller, name);
    let size = logs.size(&group_key(&scope(caller), name));
    LogGroup {
        log_group_name: Some(name.to_owned()),
        creation_time: Some(record.created.as_millis()),
        retention_in_days: record.retention_days,
        metric_filter_count: Some(0),
        arn: Some(format!("{arn}:*")),
        stored_bytes: Some(i64::try_from(size).unwrap_or(i64::MAX)),
        kms_key_id: record.kms_key_id.clone(),
        log_group_class: Some(LogGroupClass::from(
            record.class.as_deref().unwrap_or(DEFAULT_CLASS),
        )),
        log_group_arn: Some(arn),
        deletion_protection_enabled: Some(record.deletion_protection),
        ..LogGroup::default()
    }
}
