//! `firn functions`: what is deployed.

use anyhow::Result;
use model::lambda::{
    FunctionConfiguration, GetFunctionInput, ListProvisionedConcurrencyConfigsInput,
};
use serde_json::Value;

use crate::cli::Global;
use crate::client::Client;
use crate::output::{self, Style, human_bytes};

/// Flags of `firn functions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all functions (the default)
    List,
    /// Show everything about one function
    Show {
        /// The function: a name or an ARN
        name: String,
    },
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(&client, global).await,
        Action::Show { name } => show(&client, &name, global).await,
    }
}

async fn list(client: &Client, global: &Global) -> Result<()> {
    let functions = client.functions().await?;
    if global.json {
        let documents: Vec<_> = functions
            .into_iter()
            .map(|(_, document)| document)
            .collect();
        return output::json(&documents);
    }
    if functions.is_empty() && !global.quiet {
        eprintln!("no functions yet; create one with `firn deploy DIR`");
        return Ok(());
    }
    let rows: Vec<_> = functions
        .iter()
        .map(|(function, _)| row(function))
        .collect();
    output::table(
        [
            "NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED",
        ],
        &rows,
    )
}

fn row(function: &FunctionConfiguration) -> [String; 7] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        text(&function.function_name),
        function
            .runtime
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        text(&function.handler),
        format!("{} MB", function.memory_size.unwrap_or_default()),
        format!("{} s", function.timeout.unwrap_or_default()),
        human_bytes(
            function
                .code_size
                .unwrap_or_default()
                .try_into()
                .unwrap_or_default(),
        ),
        // To the second is enough for a list.
        text(&function.last_modified)
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned(),
    ]
}

async fn show(client: &Client, name: &str, global: &Global) -> Result<()> {
    let input = GetFunctionInput {
        function_name: name.to_owned(),
        ..GetFunctionInput::default()
    };
    let answer = client.call(&input).await?.document()?;
    if global.json {
        return output::json(&answer);
    }
    let style = Style::stdout();
    for section in ["Configuration", "Code", "Concurrency", "Tags"] {
        let Some(members) = answer.get(section).and_then(Value::as_object) else {
            continue;
        };
        if members.is_empty() {
            continue;
        }
        output::line(style.strong(section))?;
        for (member, value) in members {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            output::line(format!("  {} {text}", style.faint(&format!("{member:22}"))))?;
        }
    }
    show_provisioned(client, name, &style).await
}

/// The first page has as many versions and aliases as one can look at.
async fn show_provisioned(client: &Client, name: &str, style: &Style) -> Result<()> {
    let input = ListProvisionedConcurrencyConfigsInput {
        function_name: name.to_owned(),
        ..ListProvisionedConcurrencyConfigsInput::default()
    };
    let listed = client
        .call(&input)
        .await?
        .output
        .provisioned_concurrency_configs;
    let listed = listed.unwrap_or_default();
    if listed.is_empty() {
        return Ok(());
    }
    output::line(style.strong("Provisioned"))?;
    for one in listed {
        let arn = one.function_arn.unwrap_or_default();
        let qualifier = arn.rsplit(':').next().unwrap_or_default().to_owned();
        let status = one.status.map(|status| status.as_str().to_owned());
        output::line(format!(
            "  {} {} of {} {} {}",
            style.faint(&format!("{qualifier:22}")),
            one.allocated_provisioned_concurrent_executions
                .unwrap_or_default(),
            one.requested_provisioned_concurrent_executions
                .unwrap_or_default(),
            status.unwrap_or_default(),
            one.status_reason.unwrap_or_default(),
        ))?;
    }
    Ok(())
}
