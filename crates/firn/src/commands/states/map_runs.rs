//! `firn states map-runs`: the runs of distributed maps.

use anyhow::Result;
use model::stepfunctions::{DescribeMapRunOutput, ListMapRunsInput, UpdateMapRunInput};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::Client;
use crate::output::{self, Style};

/// Flags of `firn states map-runs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the map runs of an execution, with their progress
    List {
        /// The execution: an ARN, MACHINE/EXECUTION, or MACHINE for its newest one
        execution: String,
    },
    /// Show everything about a map run
    Show {
        /// The ARN of the map run
        arn: String,
    },
    /// Change a map run while it runs
    Update {
        /// The ARN of the map run
        arn: String,
        /// So many children at once
        #[arg(long, value_name = "N")]
        max_concurrency: Option<i32>,
        /// So many items may fail
        #[arg(long, value_name = "N")]
        tolerated_failures: Option<i64>,
        /// Such a share of the items may fail
        #[arg(long, value_name = "PERCENT")]
        tolerated_percentage: Option<f64>,
    },
}

pub async fn run(client: &Client, args: Args, global: &Global) -> Result<()> {
    match args.action {
        Action::List { execution } => list(client, &execution, global).await,
        Action::Show { arn } => show(&client.map_run(&arn).await?, global),
        Action::Update {
            arn,
            max_concurrency,
            tolerated_failures,
            tolerated_percentage,
        } => {
            let input = UpdateMapRunInput {
                map_run_arn: arn.clone(),
                max_concurrency,
                tolerated_failure_count: tolerated_failures,
                tolerated_failure_percentage: tolerated_percentage,
            };
            client.call(&input).await?;
            show(&client.map_run(&arn).await?, global)
        }
    }
}

async fn list(client: &Client, execution: &str, global: &Global) -> Result<()> {
    let mut input = ListMapRunsInput {
        execution_arn: client.execution_arn(execution).await?,
        ..ListMapRunsInput::default()
    };
    let mut runs = Vec::new();
    loop {
        let page = client.call(&input).await?.output;
        for run in page.map_runs {
            runs.push(client.map_run(&run.map_run_arn).await?);
        }
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            break;
        }
    }
    if global.json {
        return output::json(&runs.iter().map(as_json).collect::<Vec<_>>());
    }
    let rows = runs.iter().map(|run| {
        let items = &run.item_counts;
        [
            run.status.as_str().to_owned(),
            items.total.to_string(),
            items.succeeded.to_string(),
            items.failed.to_string(),
            items.running.to_string(),
            items.pending.to_string(),
            run.map_run_arn.clone(),
        ]
    });
    output::table(
        [
            "STATUS",
            "ITEMS",
            "SUCCEEDED",
            "FAILED",
            "RUNNING",
            "PENDING",
            "ARN",
        ],
        &rows.collect::<Vec<_>>(),
    )
}

fn as_json(run: &DescribeMapRunOutput) -> Value {
    let items = &run.item_counts;
    let children = &run.execution_counts;
    json!({
        "mapRunArn": run.map_run_arn,
        "executionArn": run.execution_arn,
        "status": run.status.as_str(),
        "startDate": run.start_date.to_string(),
        "stopDate": run.stop_date.map(|moment| moment.to_string()),
        "maxConcurrency": run.max_concurrency,
        "toleratedFailureCount": run.tolerated_failure_count,
        "toleratedFailurePercentage": run.tolerated_failure_percentage,
        "itemCounts": {
            "total": items.total, "pending": items.pending, "running": items.running,
            "succeeded": items.succeeded, "failed": items.failed, "timedOut": items.timed_out,
            "aborted": items.aborted, "resultsWritten": items.results_written,
        },
        "executionCounts": {
            "total": children.total, "pending": children.pending, "running": children.running,
            "succeeded": children.succeeded, "failed": children.failed,
            "timedOut": children.timed_out, "aborted": children.aborted,
            "resultsWritten": children.results_written,
        },
        "redriveCount": run.redrive_count,
    })
}

fn show(run: &DescribeMapRunOutput, global: &Global) -> Result<()> {
    let document = as_json(run);
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
        output::line(format!("{} {text}", style.faint(&format!("{member:26}"))))?;
    }
    Ok(())
}
