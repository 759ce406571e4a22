//! Operations of those who do the work: callbacks and workers of activities.

use asl::failure::Failure;
use model::stepfunctions::{
    GetActivityTaskInput, GetActivityTaskOutput, SendTaskFailureInput, SendTaskFailureOutput,
    SendTaskHeartbeatInput, SendTaskHeartbeatOutput, SendTaskSuccessInput, SendTaskSuccessOutput,
    error,
};
use protocol::Caller;

use crate::executions::Answer;
use crate::{Error, States};

pub async fn succeed(
    states: &States,
    _caller: &Caller,
    input: SendTaskSuccessInput,
) -> Result<SendTaskSuccessOutput, Error> {
    let output = serde_json::from_str(&input.output).map_err(|err| {
        let text = format!("Invalid Output: '{err}'");
        Error::refused(&error::INVALID_OUTPUT, text)
    })?;
    let answer = Answer::Success(output);
    states.executions.answer(&input.task_token, answer).await?;
    Ok(SendTaskSuccessOutput {})
}

pub async fn fail(
    states: &States,
    _caller: &Caller,
    input: SendTaskFailureInput,
) -> Result<SendTaskFailureOutput, Error> {
    let answer = Answer::Failure(Failure {
        error: input.error,
        cause: input.cause,
    });
    states.executions.answer(&input.task_token, answer).await?;
    Ok(SendTaskFailureOutput {})
}

pub async fn heartbeat(
    states: &States,
    _caller: &Caller,
    input: SendTaskHeartbeatInput,
) -> Result<SendTaskHeartbeatOutput, Error> {
    states
        .executions
        .answer(&input.task_token, Answer::Heartbeat)
        .await?;
    Ok(SendTaskHeartbeatOutput {})
}

/// Waits for a minute at most.
pub async fn fetch(
    states: &States,
    caller: &Caller,
    input: GetActivityTaskInput,
) -> Result<GetActivityTaskOutput, Error> {
    states.check_activity(caller, &input.activity_arn)?;
    let fetched = states
        .executions
        .fetch(&input.activity_arn, input.worker_name)
        .await?;
    Ok(match fetched {
        None => GetActivityTaskOutput::default(),
        Some(task) => GetActivityTaskOutput {
            task_token: Some(task.token),
            input: Some(task.input.to_string()),
        },
    })
}
