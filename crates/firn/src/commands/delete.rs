//! `firn delete`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;
use model::lambda::DeleteFunctionInput;

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;

/// Flags of `firn delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The function: a name or an ARN
    name: String,
    /// Delete only this published version
    #[arg(long)]
    qualifier: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = Client::new(global)?;
    let what = match &args.qualifier {
        Some(version) => format!("version {version} of {}", args.name),
        None => format!("{} with all its versions and aliases", args.name),
    };
    if !args.yes && !confirm(&what)? {
        return Ok(());
    }
    let input = DeleteFunctionInput {
        function_name: args.name.clone(),
        qualifier: args.qualifier,
    };
    client.call(&input).await?;
    if global.json {
        return output::json(&serde_json::json!({ "deleted": args.name }));
    }
    output::line(format!("deleted {what}"))
}

/// Asks whether to delete something.
pub fn confirm(what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(usage(format!(
            "delete {what}? Nobody is there to ask; pass --yes"
        )));
    }
    eprint!("Delete {what}? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
