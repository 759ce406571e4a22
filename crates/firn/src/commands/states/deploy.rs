//! `firn states deploy`: creates a state machine or updates it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::logs::CreateLogGroupInput;
use model::stepfunctions::{
    CloudWatchLogsLogGroup, CreateStateMachineAliasInput, CreateStateMachineInput,
    DescribeStateMachineInput, LogDestination, LogLevel, LoggingConfiguration,
    RoutingConfigurationListItem, StateMachineType, Tag, TagResourceInput,
    UpdateStateMachineAliasInput, UpdateStateMachineInput,
};
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::failure::{service_code, usage};
use crate::output;
use crate::workflow::source::{Parameters, Source};

/// Flags of `firn states deploy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The definition: JSON, or YAML in a file that ends in .yaml or .yml
    file: PathBuf,
    /// The state machine's name [default: the file's, without .asl.json or the like]
    #[arg(short, long)]
    name: Option<String>,
    /// Whether executions last and keep a history; cannot change later [default: standard]
    #[arg(long = "type", value_name = "TYPE", ignore_case = true,
          value_parser = ["standard", "express"])]
    kind: Option<String>,
    /// The execution role [default: a role named firn-default in the caller's account]
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// What ${Name} in the definition stands for; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    params: Vec<(String, String)>,
    /// A tag; repeat for more
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_pair)]
    tags: Vec<(String, String)>,
    /// Which events of executions go to a log group, with their data
    #[arg(long, value_name = "LEVEL", ignore_case = true,
          value_parser = ["all", "error", "fatal", "off"])]
    log_level: Option<String>,
    /// The log group; created if it is not there [default: /aws/vendedlogs/states/NAME]
    #[arg(long, value_name = "GROUP", requires = "log_level")]
    log_group: Option<String>,
    /// Publish a version
    #[arg(long)]
    publish: bool,
    /// Point this alias at the published version (implies --publish)
    #[arg(long)]
    alias: Option<String>,
}

pub async fn run(client: &Client, args: Args, global: &Global) -> Result<()> {
    let parameters: Parameters = args.params.iter().cloned().collect();
    let source = super::read_source(&args.file, &parameters)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.file)
            .ok_or_else(|| usage("cannot make a name of the file's; pass --name"))?,
    };
    tell_open(&args.file, &source, global);
    let deployment = Deployment {
        client,
        args: &args,
        name,
        source,
    };
    let machines = client.state_machines().await?;
    let found = machines
        .into_iter()
        .find(|machine| machine.name == deployment.name);
    let (verb, arn, version) = match found {
        Some(machine) => deployment.update(machine.state_machine_arn).await?,
        None => deployment.create().await?,
    };
    let alias = match (&args.alias, &version) {
        (Some(alias), Some(version)) => Some(put_alias(client, &arn, alias, version).await?),
        _ => None,
    };
    if global.json {
        return output::json(&json!({
            "stateMachineArn": arn,
            "action": verb,
            "stateMachineVersionArn": version,
            "stateMachineAliasArn": alias,
        }));
    }
    let further = version.into_iter().chain(alias);
    let further: String = further.map(|arn| format!("\n{arn}")).collect();
    output::line(format!("{verb} {arn}{further}"))
}

/// A misspelt parameter shows up as a placeholder that stays.
fn tell_open(file: &Path, source: &Source, global: &Global) {
    if global.quiet || source.open.is_empty() {
        return;
    }
    let all: Vec<String> = source
        .open
        .iter()
        .map(|name| format!("${{{name}}}"))
        .collect();
    eprintln!(
        "{}: {} stays as it is; --param gives it a value",
        file.display(),
        all.join(", ")
    );
}

/// `order` of `order.asl.json`.
fn name_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let endings = [".json", ".yaml", ".yml"];
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
    let stem = stem.unwrap_or(name);
    let stem = stem.strip_suffix(".asl").unwrap_or(stem);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = stem.chars().map(plain).take(80).collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

struct Deployment<'a> {
    client: &'a Client,
    args: &'a Args,
    name: String,
    source: Source,
}

/// What was done, to which machine, and the version that was published.
type Done = (&'static str, String, Option<String>);

impl Deployment<'_> {
    async fn create(&self) -> Result<Done> {
        let role = self.args.role.clone().unwrap_or_else(|| {
            let account = self.client.likely_account();
            format!("arn:aws:iam::{account}:role/firn-default")
        });
        let kind = self.args.kind.as_deref().unwrap_or("standard");
        let input = CreateStateMachineInput {
            name: self.name.clone(),
            definition: self.source.text.clone(),
            role_arn: role,
            type_: Some(StateMachineType::from(kind.to_ascii_uppercase().as_str())),
            logging_configuration: self.logging().await?,
            tags: (!self.args.tags.is_empty()).then(|| self.tags()),
            publish: self.publishes().then_some(true),
            ..CreateStateMachineInput::default()
        };
        let created = self.client.call(&input).await?.output;
        let version = created.state_machine_version_arn;
        Ok(("created", created.state_machine_arn, version))
    }

    async fn update(&self, arn: String) -> Result<Done> {
        let input = DescribeStateMachineInput {
            state_machine_arn: arn.clone(),
            ..DescribeStateMachineInput::default()
        };
        let found = self.client.call(&input).await?.output;
        let kind = found.type_.as_str();
        if let Some(wanted) = &self.args.kind
            && !wanted.eq_ignore_ascii_case(kind)
        {
            return Err(usage(format!(
                "{} is of the type {kind}, which cannot change; delete it first, or pass --name",
                self.name
            )));
        }
        let input = UpdateStateMachineInput {
            state_machine_arn: arn.clone(),
            definition: Some(self.source.text.clone()),
            role_arn: self.args.role.clone(),
            logging_configuration: self.logging().await?,
            publish: self.publishes().then_some(true),
            ..UpdateStateMachineInput::default()
        };
        let version = self.client.call(&input).await?.output;
        if !self.args.tags.is_empty() {
            let input = TagResourceInput {
                resource_arn: arn.clone(),
                tags: self.tags(),
            };
            self.client.call(&input).await?;
        }
        Ok(("updated", arn, version.state_machine_version_arn))
    }

    fn publishes(&self) -> bool {
        self.args.publish || self.args.alias.is_some()
    }

    fn tags(&self) -> Vec<Tag> {
        let tag = |(key, value): &(String, String)| Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        self.args.tags.iter().map(tag).collect()
    }

    async fn logging(&self) -> Result<Option<LoggingConfiguration>> {
        let Some(level) = &self.args.log_level else {
            return Ok(None);
        };
        let level = level.to_ascii_uppercase();
        let destinations = if level == "OFF" {
            None
        } else {
            let group = self.args.log_group.clone();
            let group = group.unwrap_or_else(|| format!("/aws/vendedlogs/states/{}", self.name));
            Some(vec![LogDestination {
                cloud_watch_logs_log_group: Some(CloudWatchLogsLogGroup {
                    log_group_arn: Some(self.log_group(&group).await?),
                }),
            }])
        };
        Ok(Some(LoggingConfiguration {
            level: Some(LogLevel::from(level.as_str())),
            include_execution_data: Some(level != "OFF"),
            destinations,
        }))
    }

    /// Creates the group unless it is there, and gives its ARN as Step Functions wants it.
    async fn log_group(&self, group: &str) -> Result<String> {
        let input = CreateLogGroupInput {
            log_group_name: group.to_owned(),
            ..CreateLogGroupInput::default()
        };
        match self.client.call(&input).await {
            Err(err) if service_code(&err) == Some("ResourceAlreadyExistsException") => {}
            other => drop(other.context("cannot create the log group")?),
        }
        let (region, account) = (self.client.region(), self.client.likely_account());
        Ok(format!(
            "arn:aws:logs:{region}:{account}:log-group:{group}:*"
        ))
    }
}

/// Points an alias at a version, whether the alias exists or not.
pub async fn put_alias(
    client: &Client,
    machine_arn: &str,
    alias: &str,
    version_arn: &str,
) -> Result<String> {
    let route = vec![RoutingConfigurationListItem {
        state_machine_version_arn: version_arn.to_owned(),
        weight: 100,
    }];
    put_routes(client, machine_arn, alias, route).await
}

pub async fn put_routes(
    client: &Client,
    machine_arn: &str,
    alias: &str,
    routes: Vec<RoutingConfigurationListItem>,
) -> Result<String> {
    let arn = format!("{machine_arn}:{alias}");
    let update = UpdateStateMachineAliasInput {
        state_machine_alias_arn: arn.clone(),
        routing_configuration: Some(routes.clone()),
        ..UpdateStateMachineAliasInput::default()
    };
    match client.call(&update).await {
        Err(err) if service_code(&err) == Some("ResourceNotFound") => {}
        other => return other.map(|_| arn),
    }
    let create = CreateStateMachineAliasInput {
        name: alias.to_owned(),
        routing_configuration: routes,
        ..CreateStateMachineAliasInput::default()
    };
    let created = client
        .call(&create)
        .await
        .context("cannot create the alias")?;
    Ok(created.output.state_machine_alias_arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_from_the_file() {
        let name = |file: &str| name_of(Path::new(file));
        assert_eq!(name("a/order.asl.json").as_deref(), Some("order"));
        assert_eq!(name("order-2.asl.yaml").as_deref(), Some("order-2"));
        assert_eq!(name("my order.yml").as_deref(), Some("my-order"));
        assert_eq!(name(".json"), None);
    }

    #[test]
    fn values_may_have_equals_signs_but_names_are_needed() {
        assert_eq!(parse_pair("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert!(parse_pair("=x").is_err());
        assert!(parse_pair("x").is_err());
    }
}
