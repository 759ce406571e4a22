//! `firn states`: workflows.

mod activities;
mod deploy;
mod executions;
mod graph;
mod machines;
mod map_runs;
mod start;
mod tasks;
mod test;
mod validate;
mod versions;
mod watch;

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Result;
use clock::Timestamp;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;
use crate::workflow::source::{Parameters, Source};

/// Flags of `firn states`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

// Other names are those of the `aws stepfunctions` commands.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all state machines
    #[command(alias = "list-state-machines")]
    List,
    /// Show everything about a state machine
    #[command(alias = "describe-state-machine")]
    Describe(machines::DescribeArgs),
    /// Create or update a state machine from a definition in JSON or YAML
    #[command(alias = "create-state-machine", alias = "update-state-machine")]
    Deploy(Box<deploy::Args>),
    /// Delete a state machine; what runs is stopped
    #[command(alias = "delete-state-machine")]
    Delete(machines::DeleteArgs),
    /// Check definitions without a server, and show where they are wrong
    #[command(alias = "validate-state-machine-definition")]
    Validate(validate::Args),
    /// Run a definition without a server, with mocks for its tasks and without waiting
    Test(Box<test::Args>),
    /// Draw a state machine, or how an execution went through it
    Graph(graph::Args),
    /// Start an execution
    #[command(alias = "start-execution", alias = "start-sync-execution")]
    Start(start::Args),
    /// Stop an execution
    #[command(alias = "stop-execution")]
    Stop(executions::StopArgs),
    /// Take up a failed execution where it failed
    #[command(alias = "redrive-execution")]
    Redrive(executions::RedriveArgs),
    /// List the executions of a state machine, newest first
    #[command(alias = "list-executions")]
    Executions(executions::ListArgs),
    /// Show an execution: status, input, output, error
    #[command(alias = "describe-execution")]
    Show(executions::ShowArgs),
    /// Show what has happened in an execution, event by event
    #[command(alias = "get-execution-history")]
    History(executions::HistoryArgs),
    /// Follow an execution until it ends
    Watch(watch::Args),
    /// End a waiting task with an output
    #[command(alias = "send-task-success")]
    SendSuccess(tasks::SuccessArgs),
    /// End a waiting task with an error
    #[command(alias = "send-task-failure")]
    SendFailure(tasks::FailureArgs),
    /// Tell that a waiting task is still being worked on
    #[command(alias = "send-task-heartbeat")]
    SendHeartbeat(tasks::HeartbeatArgs),
    /// List, publish or delete versions
    Versions(versions::VersionsArgs),
    /// List, set or delete aliases
    Aliases(versions::AliasesArgs),
    /// List, create or delete activities
    Activities(activities::Args),
    /// List the map runs of an execution, or show or change one
    MapRuns(map_runs::Args),
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let client = || Client::new(global);
    match args.action {
        Action::List => machines::list(&client()?, global).await,
        Action::Describe(args) => machines::describe(&client()?, args, global).await,
        Action::Deploy(args) => deploy::run(&client()?, *args, global).await,
        Action::Delete(args) => machines::delete(&client()?, args, global).await,
        Action::Validate(args) => validate::run(&args, global),
        Action::Test(args) => test::run(&args, global),
        Action::Graph(args) => graph::run(args, global).await,
        Action::Start(args) => start::run(&client()?, args, global).await,
        Action::Stop(args) => executions::stop(&client()?, args, global).await,
        Action::Redrive(args) => executions::redrive(&client()?, args, global).await,
        Action::Executions(args) => executions::list(&client()?, args, global).await,
        Action::Show(args) => executions::show(&client()?, args, global).await,
        Action::History(args) => executions::history(&client()?, args, global).await,
        Action::Watch(args) => watch::run(&client()?, args, global).await,
        Action::SendSuccess(args) => tasks::success(&client()?, args, global).await,
        Action::SendFailure(args) => tasks::failure(&client()?, args, global).await,
        Action::SendHeartbeat(args) => tasks::heartbeat(&client()?, args, global).await,
        Action::Versions(args) => versions::versions(&client()?, args, global).await,
        Action::Aliases(args) => versions::aliases(&client()?, args, global).await,
        Action::Activities(args) => activities::run(&client()?, args, global).await,
        Action::MapRuns(args) => map_runs::run(&client()?, args, global).await,
    }
}

/// Reads a definition; what is wrong with it as a file is a usage error.
fn read_source(file: &Path, parameters: &Parameters) -> Result<Source> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|err| usage(format!("cannot read the definition {shown}: {err}")))?;
    Source::read(file, &text, parameters).map_err(|err| usage(format!("{shown}: {err}")))
}

/// Prints JSON: indented for eyes, as it is for a pipe.
fn print_document(text: &str) -> Result<()> {
    if std::io::stdout().is_terminal()
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        return output::json(&value);
    }
    output::line(text)
}

fn tell_deleted(what: &str, global: &Global) -> Result<()> {
    if global.json {
        return output::json(&json!({ "deleted": what }));
    }
    output::line(format!("deleted {what}"))
}

/// To the second is enough for a list.
fn second(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split('.').next().unwrap_or_default().to_owned()
}

/// A moment that the service answered as seconds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float becomes the nearest whole number that there is"
)]
fn moment(seconds: &Value) -> String {
    let ms = seconds.as_f64().unwrap_or_default() * 1000.0;
    Timestamp::from_millis(ms.round() as i64).to_string()
}
