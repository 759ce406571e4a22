//! Operations on executions.

use std::sync::Arc;

use asl::failure::Failure;
use model::stepfunctions::{
    BillingDetails, CloudWatchEventsExecutionDataDetails, DescribeExecutionInput,
    DescribeExecutionOutput, ExecutionListItem, ExecutionRedriveFilter, ExecutionRedriveStatus,
    GetExecutionHistoryInput, GetExecutionHistoryOutput, IncludedData, ListExecutionsInput,
    ListExecutionsOutput, RedriveExecutionInput, RedriveExecutionOutput, StartExecutionInput,
    StartExecutionOutput, StartSyncExecutionInput, StartSyncExecutionOutput, StopExecutionInput,
    StopExecutionOutput, error,
};
use protocol::Caller;
use serde_json::Value;

use crate::executions::{Described, Filter, Listed, Place, Start, Status, Unsuccess};
use crate::machines::Kind;
use crate::machines::arn::{self, MachineArn, Qualifier};
use crate::operations::events;
use crate::page::Wanted;
use crate::{Error, States};

/// Express executions are billed for at least this much.
const BILLED_MEMORY_MB: i64 = 64;
const BILLED_STEP_MS: i64 = 100;
const MAX_INPUT_BYTES: usize = asl::machine::MAX_DATA_BYTES;

pub async fn start(
    states: &States,
    caller: &Caller,
    input: StartExecutionInput,
) -> Result<StartExecutionOutput, Error> {
    let start = begin(
        states,
        caller,
        &input.state_machine_arn,
        input.name,
        input.input,
        input.trace_header,
    )?;
    let started = match start.target.revision.kind {
        Kind::Standard => states.executions.start(start).await?,
        Kind::Express => states.executions.start_express(start).await?,
    };
    Ok(StartExecutionOutput {
        execution_arn: started.arn,
        start_date: started.at,
    })
}

pub async fn start_sync(
    states: &States,
    caller: &Caller,
    input: StartSyncExecutionInput,
) -> Result<StartSyncExecutionOutput, Error> {
    let start = begin(
        states,
        caller,
        &input.state_machine_arn,
        input.name,
        input.input,
        input.trace_header,
    )?;
    if start.target.revision.kind != Kind::Express {
        return Err(unsupported_type());
    }
    let described = states.executions.run_express(start).await?;
    let about = &described.about;
    let ended = Ended::of(&described.status);
    let stop_date = ended.stop.unwrap_or(about.start);
    let took_ms = stop_date
        .as_millis()
        .saturating_sub(about.start.as_millis());
    let with_data = input.included_data != Some(IncludedData::MetadataOnly);
    Ok(StartSyncExecutionOutput {
        execution_arn: about.arn.clone(),
        state_machine_arn: Some(about.revision.machine_arn.clone()),
        name: Some(about.name.clone()),
        start_date: about.start,
        stop_date,
        status: described.status.name().into(),
        error: ended.error,
        cause: ended.cause,
        input: with_data.then(|| about.input_text.to_string()),
        input_details: details(with_data),
        output_details: ended.output.as_ref().and_then(|_| details(with_data)),
        output: ended.output.filter(|_| with_data),
        trace_header: about.trace_header.clone(),
        billing_details: Some(BillingDetails {
            billed_memory_used_in_mb: Some(BILLED_MEMORY_MB),
            billed_duration_in_milliseconds: Some(
                took_ms.max(1).div_euclid(BILLED_STEP_MS) * BILLED_STEP_MS + BILLED_STEP_MS,
            ),
        }),
    })
}

fn begin(
    states: &States,
    caller: &Caller,
    machine_arn: &str,
    name: Option<String>,
    input: Option<String>,
    trace_header: Option<String>,
) -> Result<Start, Error> {
    let target = states.machines.resolve(caller, machine_arn)?;
    if let Some(test_case) = &target.test_case {
        states.check_test_case(machine_arn, &target.revision.machine_name, test_case)?;
    }
    if let Some(name) = &name {
        arn::check_name(name)?;
    }
    let input_text = input.unwrap_or_else(|| "{}".to_owned());
    if input_text.len() > MAX_INPUT_BYTES {
        let text = "Invalid State Machine Execution Input: 'The input exceeds the maximum number of bytes service limit.'";
        return Err(Error::refused(&error::INVALID_EXECUTION_INPUT, text));
    }
    let input: Value = serde_json::from_str(&input_text).map_err(|err| {
        let text = format!("Invalid State Machine Execution Input: '{err}'");
        Error::refused(&error::INVALID_EXECUTION_INPUT, text)
    })?;
    if asl::machine::is_too_deep(&input) {
        let text = "Invalid State Machine Execution Input: 'The input is nested too deeply.'";
        return Err(Error::refused(&error::INVALID_EXECUTION_INPUT, text));
    }
    Ok(Start {
        target,
        name,
        input_text: input_text.into(),
        input: Arc::new(input),
        trace_header,
        map_run_arn: None,
    })
}

pub async fn stop(
    states: &States,
    caller: &Caller,
    input: StopExecutionInput,
) -> Result<StopExecutionOutput, Error> {
    check(caller, &input.execution_arn)?;
    let failure = Failure {
        error: input.error,
        cause: input.cause,
    };
    let stopped = states
        .executions
        .stop(&input.execution_arn, failure)
        .await?
        .ok_or_else(|| missing(&input.execution_arn))?;
    Ok(StopExecutionOutput { stop_date: stopped })
}

pub async fn redrive(
    states: &States,
    caller: &Caller,
    input: RedriveExecutionInput,
) -> Result<RedriveExecutionOutput, Error> {
    check(caller, &input.execution_arn)?;
    let redriven = states
        .executions
        .redrive(&input.execution_arn, input.client_token)
        .await?
        .ok_or_else(|| missing(&input.execution_arn))?;
    Ok(RedriveExecutionOutput {
        redrive_date: redriven,
    })
}

pub async fn describe(
    states: &States,
    caller: &Caller,
    input: DescribeExecutionInput,
) -> Result<DescribeExecutionOutput, Error> {
    let described = find(states, caller, &input.execution_arn)?;
    let about = &described.about;
    let ended = Ended::of(&described.status);
    let with_data = input.included_data != Some(IncludedData::MetadataOnly);
    let (redrive_status, reason) = redrivable(&described);
    Ok(DescribeExecutionOutput {
        execution_arn: about.arn.clone(),
        state_machine_arn: about.revision.machine_arn.clone(),
        name: Some(about.name.clone()),
        status: described.status.name().into(),
        start_date: about.start,
        stop_date: ended.stop,
        input: with_data.then(|| about.input_text.to_string()),
        input_details: details(with_data),
        output_details: ended.output.as_ref().and_then(|_| details(with_data)),
        output: ended.output.filter(|_| with_data),
        trace_header: about.trace_header.clone(),
        map_run_arn: about.map_run_arn.clone(),
        error: ended.error,
        cause: ended.cause,
        state_machine_version_arn: about.version_arn.clone(),
        state_machine_alias_arn: about.alias_arn.clone(),
        redrive_count: Some(about.redrives.try_into().unwrap_or(i32::MAX)),
        redrive_date: about.redriven,
        redrive_status: Some(redrive_status),
        redrive_status_reason: reason,
    })
}

/// Whether an execution can be taken up again, and why not.
fn redrivable(described: &Described) -> (ExecutionRedriveStatus, Option<String>) {
    if described.about.map_run_arn.is_some() && matches!(described.status, Status::Failed { .. }) {
        return (ExecutionRedriveStatus::RedrivableByMapRun, None);
    }
    match &described.status {
        Status::Failed { .. } => (ExecutionRedriveStatus::Redrivable, None),
        status => {
            let name = status.name();
            let reason = format!("Execution is {name} and cannot be redriven");
            (ExecutionRedriveStatus::NotRedrivable, Some(reason))
        }
    }
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListExecutionsInput,
) -> Result<ListExecutionsOutput, Error> {
    let mut filter = Filter {
        status: input.status_filter.map(|status| status.to_string()),
        redriven: input
            .redrive_filter
            .map(|filter| filter == ExecutionRedriveFilter::Redriven),
        ..Filter::default()
    };
    let scope = match (input.state_machine_arn, input.map_run_arn) {
        (Some(arn), None) => scope_of_machine(states, caller, &arn, &mut filter)?,
        (None, Some(arn)) => {
            arn::resource(&arn, &["mapRun"])?;
            if !arn::belongs_to(&arn, caller) {
                let text = format!("Resource not found: '{arn}'");
                return Err(Error::refused(&error::RESOURCE_NOT_FOUND, text));
            }
            arn
        }
        _ => {
            return Err(Error::validation(
                "Must provide a StateMachine ARN or MapRun ARN",
            ));
        }
    };
    let wanted = Wanted {
        list: "executions",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let window = wanted.window()?;
    let after = window.after.map(hex::decode).transpose();
    let after = after.map_err(|_| invalid_token())?;
    let page = states
        .executions
        .list(&scope, &filter, after.as_deref(), window.size)?;
    Ok(ListExecutionsOutput {
        executions: page.executions.into_iter().map(item).collect(),
        next_token: page.next.map(|next| wanted.token_after(&hex::encode(next))),
    })
}

fn scope_of_machine(
    states: &States,
    caller: &Caller,
    arn: &str,
    filter: &mut Filter,
) -> Result<String, Error> {
    let named = MachineArn::parse(arn)?;
    let machine = states
        .machines
        .find(caller, &named.machine)
        .ok_or_else(|| crate::machines::missing(arn))?;
    if machine.kind == Kind::Express {
        return Err(unsupported_type());
    }
    match named.qualifier {
        None => {}
        Some(Qualifier::Version(number)) => filter.version_arn = Some(machine.qualified(number)),
        Some(Qualifier::Alias(name)) => filter.alias_arn = Some(machine.qualified(name)),
    }
    Ok(named.machine)
}

fn item(listed: Listed) -> ExecutionListItem {
    ExecutionListItem {
        execution_arn: listed.arn,
        state_machine_arn: listed.machine_arn,
        name: listed.name,
        status: listed.status.as_str().into(),
        start_date: listed.start,
        stop_date: listed.stop,
        map_run_arn: listed.map_run_arn,
        item_count: None,
        state_machine_version_arn: listed.version_arn,
        state_machine_alias_arn: listed.alias_arn,
        redrive_count: Some(listed.redrives.try_into().unwrap_or(i32::MAX)),
        redrive_date: listed.redriven,
    }
}

pub async fn history(
    states: &States,
    caller: &Caller,
    input: GetExecutionHistoryInput,
) -> Result<GetExecutionHistoryOutput, Error> {
    check(caller, &input.execution_arn)?;
    let wanted = Wanted {
        list: "events",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let window = wanted.window()?;
    let from = window.after.map(|id| id.parse()).transpose();
    let from: Option<Place> = from.map_err(|_| invalid_token())?;
    let newest_first = input.reverse_order.unwrap_or(false);
    let page = states
        .executions
        .history(&input.execution_arn, from, window.size, newest_first)?
        .ok_or_else(|| missing(&input.execution_arn))?;
    let with_data = input.include_execution_data.unwrap_or(true);
    let shown = page
        .events
        .iter()
        .map(|event| events::show(event, &page.described.about, with_data));
    Ok(GetExecutionHistoryOutput {
        events: shown.collect::<Result<_, _>>()?,
        next_token: page.next.map(|next| wanted.token_after(&next.to_string())),
    })
}

/// The execution with this ARN, if the caller has one.
pub fn find(states: &States, caller: &Caller, arn: &str) -> Result<Described, Error> {
    check(caller, arn)?;
    let described = states.executions.describe(arn)?;
    described.ok_or_else(|| missing(arn))
}

fn check(caller: &Caller, arn: &str) -> Result<(), Error> {
    arn::resource(arn, &["execution"])?;
    if arn::belongs_to(arn, caller) {
        Ok(())
    } else {
        Err(missing(arn))
    }
}

fn missing(arn: &str) -> Error {
    let text = format!("Execution Does Not Exist: '{arn}'");
    Error::refused(&error::EXECUTION_DOES_NOT_EXIST, text)
}

fn unsupported_type() -> Error {
    let text = "This operation is not supported by this type of state machine";
    Error::refused(&error::STATE_MACHINE_TYPE_NOT_SUPPORTED, text)
}

fn details(included: bool) -> Option<CloudWatchEventsExecutionDataDetails> {
    Some(CloudWatchEventsExecutionDataDetails {
        included: Some(included),
    })
}

fn invalid_token() -> Error {
    Error::refused(&error::INVALID_TOKEN, "Invalid Token: 'Invalid token'")
}

/// The parts of a status as the API answers them.
struct Ended {
    stop: Option<clock::Timestamp>,
    output: Option<String>,
    error: Option<String>,
    cause: Option<String>,
}

impl Ended {
    fn of(status: &Status) -> Self {
        let mut ended = Self {
            stop: None,
            output: None,
            error: None,
            cause: None,
        };
        match status {
            Status::Running | Status::PendingRedrive => {}
            Status::Succeeded { output, stop } => {
                ended.stop = Some(*stop);
                ended.output = Some(output.to_string());
            }
            Status::Failed {
                how,
                error,
                cause,
                stop,
            } => {
                ended.stop = Some(*stop);
                ended.error.clone_from(error);
                ended.cause.clone_from(cause);
                // Recorded on AWS: a timeout of the execution has an error of its own.
                if *how == Unsuccess::TimedOut && ended.error.is_none() {
                    ended.error = Some(asl::failure::names::TIMEOUT.to_owned());
                }
            }
        }
        ended
    }
}
