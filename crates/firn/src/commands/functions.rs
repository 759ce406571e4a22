//! `firn functions`: what is deployed.

use anyhow::Result;
use model::lambda::{FunctionConfiguration, GetFunctionInput};
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
    for section in ["Configuration", "Code", "Tags"] {
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
    Ok(())
}
