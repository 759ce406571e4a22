//! `firn runtimes`: which interpreter runs which runtime on this machine.

use std::path::PathBuf;

use anyhow::Result;
use indicatif::ProgressBar;
use invoker::runtimes::{Progress, Row, Target};
use invoker::{Runtimes, RuntimesConfig};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::config::{self, Overrides};
use crate::failure::usage;
use crate::output::{self, Style};
use crate::progress;

/// Flags of `firn runtimes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The server's data directory [default: as `firn serve`]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The server's configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show every runtime with its interpreter (the default)
    List,
    /// Install what functions need: python or node (the AWS SDK), all, or a runtime such as
    /// nodejs22.x
    Install {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub fn run(args: Args, global: &Global) -> Result<()> {
    let overrides = Overrides {
        data: args.data,
        config: args.config,
        ..Overrides::default()
    };
    let config = config::load(overrides)?.config;
    let runtimes = Runtimes::discover(RuntimesConfig::new(config.runtimes.dir, config.data));
    match args.action.unwrap_or(Action::List) {
        Action::List => list(&runtimes, global),
        Action::Install { names } => install(&runtimes, &names, global),
    }
}

fn list(runtimes: &Runtimes, global: &Global) -> Result<()> {
    let table = runtimes.table();
    if global.json {
        return output::json(&table.iter().map(as_json).collect::<Vec<_>>());
    }
    let style = Style::stdout();
    let rows: Vec<_> = table
        .iter()
        .map(|row| {
            let (interpreter, note) = match &row.resolved {
                Ok(found) if found.exact => (found.program.display().to_string(), String::new()),
                Ok(found) => (
                    found.program.display().to_string(),
                    style.warning("nearest version"),
                ),
                Err(err) => ("-".to_owned(), style.faint(err)),
            };
            let version = row
                .resolved
                .as_ref()
                .ok()
                .and_then(|found| found.version.clone());
            let sdk = if has_sdk(row) { "installed" } else { "-" };
            [
                row.runtime.to_string(),
                version.unwrap_or_else(|| "-".into()),
                interpreter,
                sdk.into(),
                note,
            ]
        })
        .collect();
    output::table(["RUNTIME", "VERSION", "INTERPRETER", "AWS SDK", ""], &rows)
}

fn has_sdk(row: &Row) -> bool {
    row.resolved.as_ref().is_ok_and(|found| found.has_sdk)
}

/// One runtime as `--json` shows it.
fn as_json(row: &Row) -> Value {
    let found = row.resolved.as_ref().ok();
    json!({
        "runtime": row.runtime.to_string(),
        "exact": found.is_some_and(|found| found.exact),
        "version": found.and_then(|found| found.version.clone()),
        "interpreter": found.map(|found| found.program.display().to_string()),
        "sdk": has_sdk(row),
        "problem": row.resolved.as_ref().err(),
    })
}

/// One runtime as the server's page shows it to anybody: no paths of the machine.
pub fn public_json(row: &Row) -> Value {
    let found = row.resolved.as_ref().ok();
    json!({
        "runtime": row.runtime.to_string(),
        "exact": found.is_some_and(|found| found.exact),
        "version": found.and_then(|found| found.version.clone()),
    })
}

fn install(runtimes: &Runtimes, names: &[String], global: &Global) -> Result<()> {
    let targets = runtimes
        .targets(names)
        .map_err(|err| usage(err.to_string()))?;
    let mut installed = Vec::new();
    for target in &targets {
        let spinner = progress::spinner(global.quiet || global.json, &title(target));
        let path = runtimes.install(target, &mut |step| show(&spinner, target, step));
        spinner.finish_and_clear();
        let path = path?;
        if !global.json {
            output::line(format!("installed {} in {}", title(target), path.display()))?;
        }
        installed.push(json!({ "target": title(target), "path": path }));
    }
    // A running server looks again when its list is asked for. If none runs, there is nothing to tell.
    let _ = super::block_on(async { Client::new(global)?.page("/_firn/runtimes").await.map(drop) });
    if global.json {
        output::json(&installed)
    } else {
        Ok(())
    }
}

fn show(spinner: &ProgressBar, target: &Target, step: Progress<'_>) {
    match step {
        Progress::Step { number, of, what } => {
            spinner.set_message(format!("{}: {what} ({number}/{of})", title(target)));
        }
        Progress::Output(line) => spinner.set_message(format!("{}: {line}", title(target))),
    }
}

fn title(target: &Target) -> String {
    match target {
        Target::PythonSdk { minor } => format!("boto3 for Python 3.{minor}"),
        Target::NodeSdk => "the AWS SDK for Node.js".to_owned(),
        Target::Node { major } => format!("Node.js {major}"),
    }
}
