//! `firn config`: the effective configuration.

use anyhow::Result;
use serde_json::json;

use crate::cli::Global;
use crate::config::{self, Overrides};
use crate::output;

/// Flags of `firn config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print every key, its value, and where the value comes from
    Show {
        #[command(flatten)]
        overrides: Box<Overrides>,
    },
}

pub fn run(args: Args, global: &Global) -> Result<()> {
    let Action::Show { overrides } = args.action;
    let loaded = config::load(*overrides)?;
    if global.json {
        let entries: serde_json::Map<_, _> = loaded
            .layers
            .entries()
            .map(|(key, value, source)| {
                (
                    key.to_owned(),
                    json!({ "value": value, "source": source.to_string() }),
                )
            })
            .collect();
        return output::json(&entries);
    }
    let rows: Vec<_> = loaded
        .layers
        .entries()
        .map(|(key, value, source)| [key.to_owned(), value.to_string(), source.to_string()])
        .collect();
    output::table(["KEY", "VALUE", "SOURCE"], &rows)
}
