//! `firn states executions`, `show`, `history`, `stop` and `redrive`.

use anyhow::Result;
use model::stepfunctions::{
    DescribeExecutionOutput, ExecutionListItem, ExecutionStatus, ListExecutionsInput,
    RedriveExecutionInput, StopExecutionInput,
};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output::{self, Style};
use crate::workflow::duration;
use crate::workflow::event::Event;
use crate::workflow::timeline::{self, Row};

const STATUSES: [&str; 6] = [
    "running",
    "succeeded",
    "failed",
    "timed_out",
    "aborted",
    "pending_redrive",
];

/// Flags of `firn states executions`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The state machine: a name, NAME:VERSION, NAME:ALIAS, an ARN, or the ARN of a map run
    name: String,
    /// Only those with this status
    #[arg(long, ignore_case = true, value_parser = STATUSES)]
    status: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Flags of `firn states show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
    execution: String,
}

/// Flags of `firn states history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
    execution: String,
    /// Newest first
    #[arg(short, long)]
    reverse: bool,
    /// All data, as indented JSON below each event
    #[arg(short, long)]
    full: bool,
}

/// Flags of `firn states stop`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
    execution: String,
    /// A name for the reason
    #[arg(long)]
    error: Option<String>,
    /// The reason in words
    #[arg(long)]
    cause: Option<String>,
}

/// Flags of `firn states redrive`.
#[derive(Debug, clap::Args)]
pub struct RedriveArgs {
    /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
    execution: String,
}

pub async fn list(client: &Client, args: ListArgs, global: &Global) -> Result<()> {
    let is_map_run = args.name.contains(":mapRun:");
    let arn = match is_map_run {
        true => args.name.clone(),
        false => client.machine_arn(&args.name).await?,
    };
    let status = args.status.map(|status| status.to_ascii_uppercase());
    let mut input = ListExecutionsInput {
        state_machine_arn: (!is_map_run).then(|| arn.clone()),
        map_run_arn: is_map_run.then_some(arn),
        status_filter: status.as_deref().map(ExecutionStatus::from),
        max_results: Some(i32::try_from(args.limit.clamp(1, 1000)).unwrap_or(1000)),
        ..ListExecutionsInput::default()
    };
    let (mut executions, mut documents) = (Vec::new(), Vec::new());
    loop {
        let reply = client.call(&input).await?;
        if let Some(Value::Array(page)) = reply.document()?.get_mut("executions").map(Value::take) {
            documents.extend(page);
        }
        executions.extend(reply.output.executions);
        input.next_token = reply.output.next_token;
        if input.next_token.is_none() || executions.len() >= args.limit {
            break;
        }
    }
    executions.truncate(args.limit);
    documents.truncate(args.limit);
    if global.json {
        return output::json(&documents);
    }
    if executions.is_empty() && !global.quiet {
        eprintln!("no such executions; start one with `firn states start NAME`");
        return Ok(());
    }
    let rows: Vec<_> = executions.iter().map(row).collect();
    output::table(["NAME", "STATUS", "STARTED", "TOOK", "VERSION"], &rows)
}

fn row(execution: &ExecutionListItem) -> [String; 5] {
    let took = execution.stop_date.map(|stop| {
        let ms = stop.as_millis() - execution.start_date.as_millis();
        duration::short(ms)
    });
    let by = execution.state_machine_alias_arn.as_ref();
    let by = by.or(execution.state_machine_version_arn.as_ref());
    let by = by.and_then(|arn| arn.rsplit(':').next());
    [
        execution.name.clone(),
        execution.status.as_str().to_owned(),
        super::second(execution.start_date),
        took.unwrap_or_default(),
        by.unwrap_or_default().to_owned(),
    ]
}

pub async fn show(client: &Client, args: ShowArgs, global: &Global) -> Result<()> {
    let arn = client.execution_arn(&args.execution).await?;
    let execution = client.execution(&arn).await?;
    let document = as_json(&execution);
    if global.json {
        return output::json(&document);
    }
    let style = Style::stdout();
    for (member, value) in document.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        output::line(format!("{} {text}", style.faint(&format!("{member:24}"))))?;
    }
    Ok(())
}

/// In the service's names, with moments as text.
pub fn as_json(execution: &DescribeExecutionOutput) -> Value {
    json!({
        "executionArn": execution.execution_arn,
        "stateMachineArn": execution.state_machine_arn,
        "name": execution.name,
        "status": execution.status.as_str(),
        "startDate": execution.start_date.to_string(),
        "stopDate": execution.stop_date.map(|moment| moment.to_string()),
        "input": execution.input,
        "output": execution.output,
        "error": execution.error,
        "cause": execution.cause,
        "mapRunArn": execution.map_run_arn,
        "stateMachineVersionArn": execution.state_machine_version_arn,
        "stateMachineAliasArn": execution.state_machine_alias_arn,
        "redriveCount": execution.redrive_count,
        "redriveStatus": execution.redrive_status.as_ref().map(|status| status.as_str().to_owned()),
        "redriveStatusReason": execution.redrive_status_reason,
    })
}

pub async fn history(client: &Client, args: HistoryArgs, global: &Global) -> Result<()> {
    let arn = client.execution_arn(&args.execution).await?;
    let mut documents = client.events_after(&arn, 0).await?;
    let events: Vec<Event> = documents.iter().filter_map(Event::read).collect();
    let mut rows = timeline::rows(&events);
    if args.reverse {
        documents.reverse();
        rows.reverse();
    }
    if global.json {
        return output::json(&documents);
    }
    if args.full {
        return rows
            .iter()
            .zip(&documents)
            .try_for_each(|(row, document)| tell_all(row, document));
    }
    let cells: Vec<[String; 5]> = rows.into_iter().map(cells).collect();
    output::table(["ID", "SECONDS", "EVENT", "STATE", "DETAIL"], &cells)
}

fn cells(row: Row) -> [String; 5] {
    [
        row.id.to_string(),
        duration::offset(row.offset_ms),
        row.event,
        row.state,
        row.detail,
    ]
}

/// An event with everything that it says.
fn tell_all(row: &Row, document: &Value) -> Result<()> {
    let style = Style::stdout();
    let title = format!(
        "{}  {}  {}  {}",
        row.id,
        duration::offset(row.offset_ms),
        row.event,
        row.state
    );
    output::line(style.strong(title.trim_end()))?;
    let members = document.as_object().into_iter().flatten();
    let details = members.filter(|(name, _)| name.ends_with("EventDetails"));
    for (name, value) in details
        .flat_map(|(_, details)| details.as_object())
        .flatten()
    {
        if name.ends_with("Details") {
            continue;
        }
        // Data is JSON in a text.
        let parsed = value
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let shown = match (parsed, value) {
            (Some(data @ (Value::Object(_) | Value::Array(_))), _) => {
                serde_json::to_string_pretty(&data)?
            }
            (_, Value::String(text)) => text.clone(),
            (_, other) => other.to_string(),
        };
        let indented = shown.replace('\n', "\n    ");
        output::line(format!("    {} {indented}", style.faint(name)))?;
    }
    Ok(())
}

pub async fn stop(client: &Client, args: StopArgs, global: &Global) -> Result<()> {
    let arn = client.execution_arn(&args.execution).await?;
    let input = StopExecutionInput {
        execution_arn: arn.clone(),
        error: args.error,
        cause: args.cause,
    };
    let reply = client.call(&input).await?;
    if global.json {
        return output::json(&reply.document()?);
    }
    output::line(format!("stopped {arn}"))
}

pub async fn redrive(client: &Client, args: RedriveArgs, global: &Global) -> Result<()> {
    let arn = client.execution_arn(&args.execution).await?;
    if !arn.contains(":execution:") {
        return Err(usage(
            "executions of express state machines cannot be redriven",
        ));
    }
    let input = RedriveExecutionInput {
        execution_arn: arn.clone(),
        ..RedriveExecutionInput::default()
    };
    let reply = client.call(&input).await?;
    if global.json {
        return output::json(&reply.document()?);
    }
    output::line(format!("redriven {arn}"))
}
