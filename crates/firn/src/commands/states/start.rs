//! `firn states start`: starts an execution, and waits for it if asked.

use std::path::PathBuf;

use anyhow::{Context, Result};
use model::stepfunctions::{StartExecutionInput, StartSyncExecutionInput};

use super::watch::{self, Out};
use crate::cli::Global;
use crate::client::Client;
use crate::commands::invoke::payload;
use crate::failure::Failure;
use crate::output;

/// Flags of `firn states start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The state machine: a name, NAME:VERSION, NAME:ALIAS, NAME#TESTCASE or an ARN
    name: String,
    /// The input: JSON, @FILE, or - for standard input [default: {}]
    #[arg(short, long)]
    input: Option<String>,
    /// A file with the input
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    input_file: Option<PathBuf>,
    /// The execution's name, which makes starting it again harmless
    #[arg(short, long = "name", value_name = "NAME")]
    execution: Option<String>,
    /// Wait for the end and print the output
    #[arg(short, long)]
    wait: bool,
    /// Tell what happens on standard error, wait for the end and print the output
    #[arg(long)]
    watch: bool,
    /// Run an express state machine within the request, and print the output
    #[arg(short, long, conflicts_with_all = ["wait", "watch"])]
    sync: bool,
    /// The header that traces the request through services
    #[arg(long, value_name = "HEADER")]
    trace_header: Option<String>,
}

pub async fn run(client: &Client, args: Args, global: &Global) -> Result<()> {
    let from_file = args
        .input_file
        .as_ref()
        .map(|file| format!("@{}", file.display()));
    let input = payload(args.input.as_deref().or(from_file.as_deref()))?;
    let input = String::from_utf8(input.into()).context("the input is not UTF-8")?;
    let arn = client.machine_arn(&args.name).await?;
    if args.sync {
        let input = StartSyncExecutionInput {
            state_machine_arn: arn,
            name: args.execution,
            input: Some(input),
            trace_header: args.trace_header,
            ..StartSyncExecutionInput::default()
        };
        return sync(client, &input, global).await;
    }
    let input = StartExecutionInput {
        state_machine_arn: arn,
        name: args.execution,
        input: Some(input),
        trace_header: args.trace_header,
    };
    let reply = client.call(&input).await?;
    let arn = &reply.output.execution_arn;
    if args.watch {
        watch::follow(client, arn, Out::Stderr, global).await?;
        return watch::result(client, arn, global).await;
    }
    if args.wait {
        watch::until_end(client, arn, global).await?;
        return watch::result(client, arn, global).await;
    }
    if global.json {
        return output::json(&reply.document()?);
    }
    output::line(arn)
}

async fn sync(client: &Client, input: &StartSyncExecutionInput, global: &Global) -> Result<()> {
    let reply = client.call(input).await?;
    let ended = &reply.output;
    if global.json {
        output::json(&reply.document()?)?;
    } else if let Some(output) = &ended.output {
        super::print_document(output)?;
    }
    let status = ended.status.as_str();
    if status == "SUCCEEDED" {
        return Ok(());
    }
    let why = watch::why(status, ended.error.as_deref(), ended.cause.as_deref());
    Err(Failure::Function(why).into())
}
