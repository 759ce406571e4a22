//! `firn states activities`: tasks that workers come for.

use anyhow::Result;
use model::stepfunctions::{
    ActivityListItem, CreateActivityInput, DeleteActivityInput, ListActivitiesInput,
};
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;

/// Flags of `firn states activities`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all activities (the default)
    List,
    /// Create an activity and print its ARN
    Create {
        /// The activity's name
        name: String,
    },
    /// Delete an activity
    Delete {
        /// The activity: a name or an ARN
        name: String,
    },
}

pub async fn run(client: &Client, args: Args, global: &Global) -> Result<()> {
    match args.action.unwrap_or(Action::List) {
        Action::List => list(client, global).await,
        Action::Create { name } => {
            let input = CreateActivityInput {
                name,
                ..CreateActivityInput::default()
            };
            let reply = client.call(&input).await?;
            if global.json {
                return output::json(&reply.document()?);
            }
            output::line(reply.output.activity_arn)
        }
        Action::Delete { name } => {
            let arn = arn_of(client, &name).await?;
            let input = DeleteActivityInput {
                activity_arn: arn.clone(),
            };
            client.call(&input).await?;
            super::tell_deleted(&arn, global)
        }
    }
}

async fn all(client: &Client) -> Result<Vec<ActivityListItem>> {
    let mut input = ListActivitiesInput::default();
    let mut all = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        all.extend(page.activities);
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(all);
        }
    }
}

async fn arn_of(client: &Client, name: &str) -> Result<String> {
    if name.starts_with("arn:") {
        return Ok(name.to_owned());
    }
    let found = all(client)
        .await?
        .into_iter()
        .find(|activity| activity.name == name);
    match found {
        Some(activity) => Ok(activity.activity_arn),
        None => Err(usage(format!(
            "there is no activity {name}; `firn states activities` shows all"
        ))),
    }
}

async fn list(client: &Client, global: &Global) -> Result<()> {
    let activities = all(client).await?;
    if global.json {
        let documents = activities.iter().map(|activity| {
            json!({
                "activityArn": activity.activity_arn,
                "name": activity.name,
                "creationDate": activity.creation_date.to_string(),
            })
        });
        return output::json(&documents.collect::<Vec<_>>());
    }
    let rows = activities.into_iter().map(|activity| {
        let created = super::second(activity.creation_date);
        [activity.name, created, activity.activity_arn]
    });
    output::table(["NAME", "CREATED", "ARN"], &rows.collect::<Vec<_>>())
}
