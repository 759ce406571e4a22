//! `firn states list`, `describe` and `delete`.

use anyhow::{Context, Result};
use model::stepfunctions::{
    DeleteStateMachineInput, DescribeStateMachineInput, ListTagsForResourceInput,
    StateMachineListItem,
};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::commands::delete::confirm;
use crate::output::{self, Style};

/// Flags of `firn states describe`.
#[derive(Debug, clap::Args)]
pub struct DescribeArgs {
    /// The state machine: a name, NAME:VERSION, NAME:ALIAS or an ARN
    name: String,
    /// Print the definition alone
    #[arg(long)]
    definition: bool,
}

/// Flags of `firn states delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The state machine: a name or an ARN
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn list(client: &Client, global: &Global) -> Result<()> {
    let machines = client.state_machines().await?;
    if global.json {
        let all: Vec<_> = machines.iter().map(as_json).collect();
        return output::json(&all);
    }
    if machines.is_empty() && !global.quiet {
        eprintln!("no state machines yet; create one with `firn states deploy FILE`");
        return Ok(());
    }
    let rows: Vec<_> = machines.iter().map(row).collect();
    output::table(["NAME", "TYPE", "CREATED", "ARN"], &rows)
}

fn as_json(machine: &StateMachineListItem) -> Value {
    json!({
        "stateMachineArn": machine.state_machine_arn,
        "name": machine.name,
        "type": machine.type_.as_str(),
        "creationDate": machine.creation_date.to_string(),
    })
}

fn row(machine: &StateMachineListItem) -> [String; 4] {
    [
        machine.name.clone(),
        machine.type_.as_str().to_owned(),
        super::second(machine.creation_date),
        machine.state_machine_arn.clone(),
    ]
}

pub async fn describe(client: &Client, args: DescribeArgs, global: &Global) -> Result<()> {
    let arn = client.machine_arn(&args.name).await?;
    let input = DescribeStateMachineInput {
        state_machine_arn: arn,
        ..DescribeStateMachineInput::default()
    };
    let reply = client.call(&input).await?;
    if args.definition {
        return super::print_document(&reply.output.definition);
    }
    if global.json {
        return output::json(&reply.document()?);
    }
    let document = reply.document()?;
    let style = Style::stdout();
    for (member, value) in document.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(_) if member == "definition" => continue,
            Value::String(text) => text.clone(),
            Value::Number(_) if member.ends_with("Date") => super::moment(value),
            other => other.to_string(),
        };
        output::line(format!("{} {text}", style.faint(&format!("{member:22}"))))?;
    }
    let tags = tags(client, &reply.output.state_machine_arn).await?;
    if !tags.is_empty() {
        let all = tags.join(", ");
        output::line(format!("{} {all}", style.faint(&format!("{:22}", "tags"))))?;
    }
    output::line(style.faint("definition"))?;
    let definition: Value =
        serde_json::from_str(&reply.output.definition).context("the definition is not JSON")?;
    output::json(&definition)
}

async fn tags(client: &Client, arn: &str) -> Result<Vec<String>> {
    let input = ListTagsForResourceInput {
        resource_arn: arn.to_owned(),
    };
    let tags = client.call(&input).await?.output.tags;
    let text = |tag: model::stepfunctions::Tag| {
        let (key, value) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        format!("{key}={value}")
    };
    Ok(tags.into_iter().flatten().map(text).collect())
}

pub async fn delete(client: &Client, args: DeleteArgs, global: &Global) -> Result<()> {
    let arn = client.machine_arn(&args.name).await?;
    let what = format!("{} with all its versions and aliases", args.name);
    if !args.yes && !confirm(&what)? {
        return Ok(());
    }
    let input = DeleteStateMachineInput {
        state_machine_arn: arn.clone(),
    };
    client.call(&input).await?;
    if global.json {
        return output::json(&json!({ "deleted": arn }));
    }
    output::line(format!("deleted {what}"))
}
