//! Operations on map runs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::stepfunctions::{
    DescribeMapRunInput, DescribeMapRunOutput, ListMapRunsInput, ListMapRunsOutput,
    MapRunExecutionCounts, MapRunItemCounts, MapRunListItem, MapRunStatus, UpdateMapRunInput,
    UpdateMapRunOutput, error,
};
use protocol::Caller;

use crate::machines::arn;
use crate::map_runs::{Change, Described, Status, Tally};
use crate::page::{Wanted, Window};
use crate::{Error, States};

pub async fn describe(
    states: &States,
    caller: &Caller,
    input: DescribeMapRunInput,
) -> Result<DescribeMapRunOutput, Error> {
    let run = find(states, caller, &input.map_run_arn)?;
    let (status, stop_date) = match run.status {
        Status::Running => (MapRunStatus::Running, None),
        Status::Succeeded(stop) => (MapRunStatus::Succeeded, Some(stop)),
        Status::Failed(stop) => (MapRunStatus::Failed, Some(stop)),
        Status::Aborted(stop) => (MapRunStatus::Aborted, Some(stop)),
    };
    let counts = run.counts;
    Ok(DescribeMapRunOutput {
        map_run_arn: run.arn,
        execution_arn: run.execution_arn,
        status,
        start_date: run.start,
        stop_date,
        max_concurrency: i32::try_from(run.limits.max_concurrency).unwrap_or(i32::MAX),
        tolerated_failure_percentage: run.limits.tolerated_percentage,
        tolerated_failure_count: number(run.limits.tolerated_count),
        item_counts: items(&counts.items),
        execution_counts: children(&counts.children),
        redrive_count: redrives(run.redrives),
        redrive_date: run.redriven,
    })
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListMapRunsInput,
) -> Result<ListMapRunsOutput, Error> {
    arn::resource(&input.execution_arn, &["execution"])?;
    let execution = states.executions.describe(&input.execution_arn)?;
    if execution.is_none() || !arn::belongs_to(&input.execution_arn, caller) {
        let text = format!("Execution Does Not Exist: '{}'", input.execution_arn);
        return Err(Error::refused(&error::EXECUTION_DOES_NOT_EXIST, text));
    }
    let wanted = Wanted {
        list: "ListMapRuns",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let Window { size, after } = wanted.window()?;
    let invalid = |_| Error::refused(&error::INVALID_TOKEN, "Invalid Token: 'Invalid token'");
    let after = after.map(|after| URL_SAFE_NO_PAD.decode(after).map_err(invalid));
    let after = after.transpose()?;
    let mut runs = states
        .map_runs
        .list(&input.execution_arn, after.as_deref(), size + 1)?;
    let more = runs.len() > size;
    runs.truncate(size);
    let last = runs.last().filter(|_| more);
    let next_token = last.map(|(place, _)| wanted.token_after(&URL_SAFE_NO_PAD.encode(place)));
    Ok(ListMapRunsOutput {
        map_runs: runs.into_iter().map(|(_, run)| listed(run)).collect(),
        next_token,
    })
}

pub async fn update(
    states: &States,
    caller: &Caller,
    input: UpdateMapRunInput,
) -> Result<UpdateMapRunOutput, Error> {
    let run = find(states, caller, &input.map_run_arn)?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let change = Change {
        max_concurrency: input.max_concurrency.map(i64::from).map(unsigned),
        tolerated_count: input.tolerated_failure_count.map(unsigned),
        tolerated_percentage: input.tolerated_failure_percentage,
    };
    if change == Change::default() {
        let message = "Either maxConcurrency, toleratedFailureCount or \
                       toleratedFailurePercentage must be specified";
        return Err(Error::validation(message));
    }
    if !states.map_runs.update(&run.arn, change).await? {
        return Err(Error::validation(format!(
            "Map Run is not running: '{}'",
            run.arn
        )));
    }
    Ok(UpdateMapRunOutput {})
}

fn find(states: &States, caller: &Caller, map_run_arn: &str) -> Result<Described, Error> {
    arn::resource(map_run_arn, &["mapRun"])?;
    let found = states.map_runs.describe(map_run_arn)?;
    found
        .filter(|run| arn::belongs_to(&run.arn, caller))
        .ok_or_else(|| {
            let text = format!("Resource not found: '{map_run_arn}'");
            Error::refused(&error::RESOURCE_NOT_FOUND, text)
        })
}

fn listed(run: Described) -> MapRunListItem {
    MapRunListItem {
        execution_arn: run.execution_arn,
        map_run_arn: run.arn,
        state_machine_arn: run.machine_arn,
        start_date: run.start,
        stop_date: match run.status {
            Status::Running => None,
            Status::Succeeded(stop) | Status::Failed(stop) | Status::Aborted(stop) => Some(stop),
        },
    }
}

/// The shapes of both kinds of counts are alike but for their names.
macro_rules! counts {
    ($shape:ident, $tally:expr) => {
        $shape {
            pending: number($tally.pending()),
            running: number($tally.running),
            succeeded: number($tally.succeeded),
            failed: number($tally.failed),
            timed_out: number($tally.timed_out),
            aborted: number($tally.aborted),
            total: number($tally.total),
            results_written: number($tally.results_written),
            failures_not_redrivable: None,
            pending_redrive: if_any($tally.pending_redrive),
        }
    };
}

fn items(tally: &Tally) -> MapRunItemCounts {
    counts!(MapRunItemCounts, tally)
}

fn children(tally: &Tally) -> MapRunExecutionCounts {
    counts!(MapRunExecutionCounts, tally)
}

/// Recorded on AWS: what is about redrives is absent from runs that had none.
fn if_any(count: u64) -> Option<i64> {
    (count > 0).then(|| number(count))
}

fn redrives(count: u32) -> Option<i32> {
    (count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
