//! `firn states send-success`, `send-failure` and `send-heartbeat`: answers to tasks that wait.

use anyhow::{Context, Result};
use model::stepfunctions::{SendTaskFailureInput, SendTaskHeartbeatInput, SendTaskSuccessInput};
use serde_json::json;

use crate::cli::Global;
use crate::client::Client;
use crate::commands::invoke::payload;
use crate::output;

/// Flags of `firn states send-success`.
#[derive(Debug, clap::Args)]
pub struct SuccessArgs {
    /// The task's token
    token: String,
    /// The output: JSON, @FILE, or - for standard input [default: {}]
    #[arg(short, long)]
    output: Option<String>,
}

/// Flags of `firn states send-failure`.
#[derive(Debug, clap::Args)]
pub struct FailureArgs {
    /// The task's token
    token: String,
    /// The name by which Retry and Catch know the error
    #[arg(short, long)]
    error: Option<String>,
    /// The error in words
    #[arg(short, long)]
    cause: Option<String>,
}

/// Flags of `firn states send-heartbeat`.
#[derive(Debug, clap::Args)]
pub struct HeartbeatArgs {
    /// The task's token
    token: String,
}

pub async fn success(client: &Client, args: SuccessArgs, global: &Global) -> Result<()> {
    let output = payload(args.output.as_deref())?;
    let input = SendTaskSuccessInput {
        task_token: args.token,
        output: String::from_utf8(output.into()).context("the output is not UTF-8")?,
    };
    client.call(&input).await?;
    tell("succeeded", global)
}

pub async fn failure(client: &Client, args: FailureArgs, global: &Global) -> Result<()> {
    let input = SendTaskFailureInput {
        task_token: args.token,
        error: args.error,
        cause: args.cause,
    };
    client.call(&input).await?;
    tell("failed", global)
}

pub async fn heartbeat(client: &Client, args: HeartbeatArgs, global: &Global) -> Result<()> {
    let input = SendTaskHeartbeatInput {
        task_token: args.token,
    };
    client.call(&input).await?;
    tell("is alive", global)
}

fn tell(what: &str, global: &Global) -> Result<()> {
    if global.json {
        return output::json(&json!({ "task": what }));
    }
    if global.quiet {
        return Ok(());
    }
    output::line(format!("the task {what}"))
}
