//! `firn states graph`: pictures of state machines and of executions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::stepfunctions::{DescribeStateMachineForExecutionInput, DescribeStateMachineInput};
use serde_json::Value;

use super::deploy::parse_pair;
use crate::cli::Global;
use crate::client::Client;
use crate::failure::usage;
use crate::output;
use crate::workflow::duration;
use crate::workflow::event::Event;
use crate::workflow::graph::Flow;
use crate::workflow::source::Parameters;
use crate::workflow::svg::Frame;
use crate::workflow::trace::{Items, Trace};
use crate::workflow::{mermaid, outcome, svg};

/// Laying out more takes minutes, and nobody finds anything in it.
const MAX_DRAWN: usize = 3000;

/// Flags of `firn states graph`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with a definition, or a state machine: a name, NAME:VERSION, NAME:ALIAS or an ARN
    #[arg(value_name = "FILE|NAME", required_unless_present = "execution")]
    target: Option<String>,
    /// Show how this execution went: an ARN, or a name if the state machine is named; without a
    /// value, the newest one
    #[arg(short, long, num_args = 0..=1, default_missing_value = "", value_name = "EXECUTION")]
    execution: Option<String>,
    /// What to write [default: what the output file's name ends in, else svg]
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What ${Name} in a file stands for; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    params: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A picture for browsers
    Svg,
    /// Text that many pages draw themselves
    Mermaid,
}

pub async fn run(args: Args, global: &Global) -> Result<()> {
    let (flow, frame) = match (&args.execution, &args.target) {
        (Some(execution), target) => {
            let client = Client::new(global)?;
            let reference = execution_reference(execution, target.as_deref())?;
            of_execution(&client, &reference).await?
        }
        (None, Some(target)) => of_machine(target, &args, global).await?,
        (None, None) => return Err(usage("name a file, a state machine or an execution")),
    };
    let format = format(&args);
    if format == Format::Svg && flow.size() > MAX_DRAWN {
        return Err(usage(format!(
            "{} states are too many for a picture; try --format mermaid",
            flow.size()
        )));
    }
    let text = match format {
        Format::Svg => svg::render(&flow, &frame),
        Format::Mermaid => mermaid::render(&flow),
    };
    match &args.output {
        None => output::bytes(text.as_bytes()),
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        }
    }
}

fn format(args: &Args) -> Format {
    let ending = args.output.as_deref().and_then(Path::extension);
    let by_name = match ending.and_then(|ending| ending.to_str()) {
        Some("mmd" | "mermaid") => Format::Mermaid,
        _ => Format::Svg,
    };
    args.format.unwrap_or(by_name)
}

fn execution_reference(execution: &str, target: Option<&str>) -> Result<String> {
    match target {
        _ if execution.starts_with("arn:") || execution.contains('/') => Ok(execution.to_owned()),
        Some(machine) if execution.is_empty() => Ok(machine.to_owned()),
        Some(machine) if !machine.starts_with("arn:") => Ok(format!("{machine}/{execution}")),
        Some(machine) => {
            let base = machine.replacen(":stateMachine:", ":execution:", 1);
            Ok(format!("{base}:{execution}"))
        }
        None => Err(usage(
            "name the state machine too, or give the ARN of the execution",
        )),
    }
}

async fn of_machine(target: &str, args: &Args, global: &Global) -> Result<(Flow, Frame)> {
    let path = Path::new(target);
    let (definition, title) = if path.is_file() {
        let parameters: Parameters = args.params.iter().cloned().collect();
        let source = super::read_source(path, &parameters)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (source.value, name.into_owned())
    } else {
        let client = Client::new(global)?;
        let input = DescribeStateMachineInput {
            state_machine_arn: client.machine_arn(target).await?,
            ..DescribeStateMachineInput::default()
        };
        let machine = client.call(&input).await?.output;
        (read(&machine.definition)?, machine.name)
    };
    let flow = Flow::of_machine(&definition).map_err(|err| usage(err.to_string()))?;
    let frame = Frame {
        title,
        subtitle: None,
    };
    Ok((flow, frame))
}

async fn of_execution(client: &Client, reference: &str) -> Result<(Flow, Frame)> {
    let arn = client.execution_arn(reference).await?;
    let input = DescribeStateMachineForExecutionInput {
        execution_arn: arn.clone(),
        ..DescribeStateMachineForExecutionInput::default()
    };
    let machine = client.call(&input).await?.output;
    let documents = client.events_after(&arn, 0).await?;
    let events: Vec<Event> = documents.iter().filter_map(Event::read).collect();
    let trace = Trace::of(&events);
    let mut map_runs = BTreeMap::new();
    for arn in trace
        .entries
        .iter()
        .filter_map(|entry| entry.map_run.as_ref())
    {
        let counts = client.map_run(arn).await?.item_counts;
        let items = Items {
            total: Some(counts.total),
            succeeded: counts.succeeded,
            failed: counts.failed + counts.timed_out + counts.aborted,
        };
        map_runs.insert(arn.clone(), items);
    }
    let definition = read(&machine.definition)?;
    let mut flow = Flow::of_machine(&definition).map_err(|err| usage(err.to_string()))?;
    outcome::mark(&mut flow, &trace, &map_runs);
    let execution = client.execution(&arn).await?;
    let name = execution.name.unwrap_or_default();
    let status = execution
        .status
        .as_str()
        .to_ascii_lowercase()
        .replace('_', " ");
    let took = execution.stop_date.map(|stop| {
        let ms = stop.as_millis() - execution.start_date.as_millis();
        format!(" after {}", duration::short(ms))
    });
    let frame = Frame {
        title: machine.name,
        subtitle: Some(format!("{name}: {status}{}", took.unwrap_or_default())),
    };
    Ok((flow, frame))
}

fn read(definition: &str) -> Result<Value> {
    serde_json::from_str(definition).context("the definition is not JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_found_by_machine_and_name() {
        let arn = "arn:aws:states:us-east-1:123456789012:stateMachine:m";
        let reference = |execution, target| execution_reference(execution, target).unwrap();
        assert_eq!(reference("", Some("m")), "m");
        assert_eq!(reference("e", Some("m")), "m/e");
        assert_eq!(
            reference("e", Some(arn)),
            "arn:aws:states:us-east-1:123456789012:execution:m:e"
        );
        assert_eq!(reference("m/e", None), "m/e");
        assert!(execution_reference("e", None).is_err());
    }
}
