//! The operations, one file each.

mod create_log_group;
mod create_log_stream;
mod delete_log_group;
mod delete_log_stream;
mod describe_log_groups;
mod describe_log_streams;
mod filter_log_events;
mod get_log_events;
mod put_log_events;
mod retention_policy;

use protocol::{Caller, operations};

use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

operations! { Logs:
    "CreateLogGroup" => create_log_group::run,
    "CreateLogStream" => create_log_stream::run,
    "DeleteLogGroup" => delete_log_group::run,
    "DeleteLogStream" => delete_log_stream::run,
    "DeleteRetentionPolicy" => retention_policy::delete,
    "DescribeLogGroups" => describe_log_groups::run,
    "DescribeLogStreams" => describe_log_streams::run,
    "FilterLogEvents" => filter_log_events::run,
    "GetLogEvents" => get_log_events::run,
    "PutLogEvents" => put_log_events::run,
    "PutRetentionPolicy" => retention_policy::put,
}

/// The group that a request names: by name, or by an identifier, which is a name or an ARN.
fn named_group(
    caller: &Caller,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<(String, String), Error> {
    let name = match (name, identifier) {
        (Some(_), Some(_)) => {
            return Err(Error::Validation(
                "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
            ));
        }
        (None, None) => {
            return Err(Error::Validation(
                "Either logGroupName or logGroupIdentifier must be specified.",
            ));
        }
        (Some(name), None) => name,
        (None, Some(identifier)) => group_name(caller, &identifier)?.to_owned(),
    };
    Ok((group_key(&scope(caller), &name), name))
}

/// The name in a group's identifier. One of another account or region names nothing here.
fn group_name<'a>(caller: &Caller, identifier: &'a str) -> Result<&'a str, Error> {
    if !identifier.starts_with("arn:") {
        return Ok(identifier);
    }
    let mut parts = identifier.splitn(7, ':').skip(2);
    let mut next = || parts.next().unwrap_or_default();
    let (service, region, account) = (next(), next(), next());
    let (kind, rest) = (next(), next());
    if service != "logs" || kind != "log-group" || rest.is_empty() {
        return Err(Error::InvalidParameter(
            "The specified ARN is invalid.".to_owned(),
        ));
    }
    if region != caller.region.to_string() || account != caller.account.to_string() {
        return Err(Error::GroupNotFound);
    }
    Ok(rest.strip_suffix(":*").unwrap_or(rest))
}

fn group_arn(caller: &Caller, group: &str) -> String {
    let partition = caller.region.partition();
    format!(
        "arn:{partition}:logs:{}:{}:log-group:{group}",
        caller.region, caller.account
    )
}

fn stream_arn(caller: &Caller, group: &str, stream: &str) -> String {
    format!("{}:log-stream:{stream}", group_arn(caller, group))
}
