//! `firn states versions` and `aliases`.

use anyhow::Result;
use model::stepfunctions::{
    DeleteStateMachineAliasInput, DeleteStateMachineVersionInput, DescribeStateMachineAliasInput,
    ListStateMachineAliasesInput, ListStateMachineVersionsInput, PublishStateMachineVersionInput,
    RoutingConfigurationListItem,
};
use serde_json::json;

use super::deploy::put_routes;
use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;

/// Flags of `firn states versions`.
#[derive(Debug, clap::Args)]
pub struct VersionsArgs {
    #[command(subcommand)]
    action: VersionAction,
}

#[derive(Debug, clap::Subcommand)]
enum VersionAction {
    /// List the versions of a state machine, newest first
    List {
        /// The state machine: a name or an ARN
        name: String,
    },
    /// Publish what the state machine is now as a version
    Publish {
        /// The state machine: a name or an ARN
        name: String,
        /// A few words on the version
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete a version that no alias points at
    Delete {
        /// NAME:VERSION, or the ARN of a version
        #[arg(value_name = "NAME:VERSION")]
        name: String,
    },
}

/// Flags of `firn states aliases`.
#[derive(Debug, clap::Args)]
pub struct AliasesArgs {
    #[command(subcommand)]
    action: AliasAction,
}

#[derive(Debug, clap::Subcommand)]
enum AliasAction {
    /// List the aliases of a state machine, with what they point at
    List {
        /// The state machine: a name or an ARN
        name: String,
    },
    /// Create an alias or point it elsewhere
    Set {
        /// NAME:ALIAS
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
        /// The version; or two with their share of the executions, as in 3=90 4=10
        #[arg(required = true, num_args = 1..=2, value_name = "VERSION[=PERCENT]",
              value_parser = parse_route)]
        routes: Vec<(String, Option<i32>)>,
    },
    /// Delete an alias
    Delete {
        /// NAME:ALIAS, or the ARN of an alias
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
    },
}

fn parse_route(text: &str) -> Result<(String, Option<i32>), String> {
    let (version, weight) = match text.split_once('=') {
        Some((version, weight)) => (version, Some(weight)),
        None => (text, None),
    };
    let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    let weight = weight.map(str::parse).transpose();
    match weight {
        Ok(weight @ (None | Some(0..=100))) if is_version => Ok((version.to_owned(), weight)),
        _ => Err("write a version, as 3, or with its share, as 3=90".into()),
    }
}

pub async fn versions(client: &Client, args: VersionsArgs, global: &Global) -> Result<()> {
    match args.action {
        VersionAction::List { name } => list_versions(client, &name, global).await,
        VersionAction::Publish { name, description } => {
            let input = PublishStateMachineVersionInput {
                state_machine_arn: client.machine_arn(&name).await?,
                description,
                ..PublishStateMachineVersionInput::default()
            };
            let reply = client.call(&input).await?;
            if global.json {
                return output::json(&reply.document()?);
            }
            output::line(reply.output.state_machine_version_arn)
        }
        VersionAction::Delete { name } => {
            let arn = client.machine_arn(&name).await?;
            let input = DeleteStateMachineVersionInput {
                state_machine_version_arn: arn.clone(),
            };
            client.call(&input).await?;
            super::tell_deleted(&arn, global)
        }
    }
}

async fn list_versions(client: &Client, name: &str, global: &Global) -> Result<()> {
    let mut input = ListStateMachineVersionsInput {
        state_machine_arn: client.machine_arn(name).await?,
        ..ListStateMachineVersionsInput::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        all.extend(page.state_machine_versions);
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            break;
        }
    }
    if global.json {
        let documents = all.iter().map(|version| {
            json!({
                "stateMachineVersionArn": version.state_machine_version_arn,
                "creationDate": version.creation_date.to_string(),
            })
        });
        return output::json(&documents.collect::<Vec<_>>());
    }
    let rows = all.iter().map(|version| {
        let arn = &version.state_machine_version_arn;
        let number = arn.rsplit(':').next().unwrap_or_default().to_owned();
        [number, super::second(version.creation_date), arn.clone()]
    });
    output::table(["VERSION", "CREATED", "ARN"], &rows.collect::<Vec<_>>())
}

pub async fn aliases(client: &Client, args: AliasesArgs, global: &Global) -> Result<()> {
    match args.action {
        AliasAction::List { name } => list_aliases(client, &name, global).await,
        AliasAction::Set { alias, routes } => {
            let (machine, alias) = split(&alias)?;
            let machine = client.machine_arn(machine).await?;
            let routes = weighted(&machine, &routes)?;
            let arn = put_routes(client, &machine, alias, routes).await?;
            if global.json {
                return output::json(&json!({ "stateMachineAliasArn": arn }));
            }
            output::line(arn)
        }
        AliasAction::Delete { alias } => {
            let arn = client.machine_arn(&alias).await?;
            let input = DeleteStateMachineAliasInput {
                state_machine_alias_arn: arn.clone(),
            };
            client.call(&input).await?;
            super::tell_deleted(&arn, global)
        }
    }
}

fn split(alias: &str) -> Result<(&str, &str)> {
    match alias.rsplit_once(':') {
        Some((machine, alias)) if !machine.is_empty() && !alias.is_empty() => Ok((machine, alias)),
        _ => Err(usage("name an alias, as in NAME:live")),
    }
}

fn weighted(
    machine: &str,
    routes: &[(String, Option<i32>)],
) -> Result<Vec<RoutingConfigurationListItem>> {
    let weights: Vec<i32> = match routes {
        [(_, weight)] => vec![weight.unwrap_or(100)],
        [(_, Some(first)), (_, None)] => vec![*first, 100 - first],
        [(_, None), (_, Some(second))] => vec![100 - second, *second],
        [(_, Some(first)), (_, Some(second))] => vec![*first, *second],
        _ => {
            return Err(usage(
                "say which share of the executions goes to which version",
            ));
        }
    };
    if weights.iter().sum::<i32>() != 100 {
        return Err(usage("the shares must make 100"));
    }
    let item =
        |((version, _), weight): (&(String, Option<i32>), i32)| RoutingConfigurationListItem {
            state_machine_version_arn: format!("{machine}:{version}"),
            weight,
        };
    Ok(routes.iter().zip(weights).map(item).collect())
}

async fn list_aliases(client: &Client, name: &str, global: &Global) -> Result<()> {
    let mut input = ListStateMachineAliasesInput {
        state_machine_arn: client.machine_arn(name).await?,
        ..ListStateMachineAliasesInput::default()
    };
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        for alias in page.state_machine_aliases {
            let arn = alias.state_machine_alias_arn;
            let described = DescribeStateMachineAliasInput {
                state_machine_alias_arn: arn.clone(),
            };
            let reply = client.call(&described).await?;
            documents.push(reply.document()?);
            let routes = reply.output.routing_configuration.unwrap_or_default();
            let routes: Vec<String> = routes.iter().map(route).collect();
            let name = arn.rsplit(':').next().unwrap_or_default().to_owned();
            rows.push([name, routes.join(" "), arn]);
        }
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            break;
        }
    }
    if global.json {
        return output::json(&documents);
    }
    output::table(["ALIAS", "VERSIONS", "ARN"], &rows)
}

fn route(item: &RoutingConfigurationListItem) -> String {
    let version = item.state_machine_version_arn.rsplit(':').next();
    format!("{}={}", version.unwrap_or_default(), item.weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(routes: &[&str]) -> Option<Vec<i32>> {
        let routes: Vec<_> = routes
            .iter()
            .map(|text| parse_route(text).unwrap())
            .collect();
        let items = weighted("arn", &routes).ok()?;
        Some(items.iter().map(|item| item.weight).collect())
    }

    #[test]
    fn shares_make_a_hundred() {
        assert_eq!(weights(&["3"]), Some(vec![100]));
        assert_eq!(weights(&["3=90", "4"]), Some(vec![90, 10]));
        assert_eq!(weights(&["3", "4=10"]), Some(vec![90, 10]));
        assert_eq!(weights(&["3=50", "4=60"]), None);
        assert_eq!(weights(&["3", "4"]), None);
        assert!(parse_route("live").is_err());
        assert!(parse_route("3=101").is_err());
    }
}
