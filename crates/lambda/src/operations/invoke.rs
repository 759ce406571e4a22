use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use invoker::Mode;
use model::Blob;
use model::lambda::{InvokeInput, InvokeOutput};
use protocol::Caller;

use super::source::refuse;
use crate::error::Error;
use crate::events::{EventCall, MAX_EVENT_BYTES};
use crate::invoke::Call;
use crate::service::Address;
use crate::{Lambda, payload};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: InvokeInput,
) -> Result<InvokeOutput, Error> {
    let address = lambda.resolve(
        caller,
        "InvokeFunction",
        &input.function_name,
        input.qualifier.as_deref(),
    )?;
    refuse(&[
        (
            "DurableExecutionName",
            input.durable_execution_name.is_some(),
        ),
        ("TenantId", input.tenant_id.is_some()),
    ])?;
    match input
        .invocation_type
        .as_ref()
        .map_or("RequestResponse", |kind| kind.as_str())
    {
        "DryRun" => {
            lambda.dry_run(&address)?;
            return Ok(InvokeOutput {
                status_code: Some(204),
                ..InvokeOutput::default()
            });
        }
        "Event" => return event(lambda, caller, &address, input).await,
        _ => {}
    }
    let want_tail = input
        .log_type
        .as_ref()
        .is_some_and(|kind| kind.as_str() == "Tail");
    let call = Call {
        request_id: caller.request_id.clone(),
        payload: payload_of(input.payload)?,
        client_context: payload::client_context(input.client_context.as_deref())?,
        trace_header: input.trace_header,
        want_tail,
        mode: Mode::Buffered,
    };
    let answer = lambda.invoke(&address, call).await?;
    let outcome = answer.outcome;
    Ok(InvokeOutput {
        status_code: Some(200),
        function_error: outcome
            .function_error
            .map(|error| error.as_str().to_owned()),
        log_result: outcome
            .log_tail
            .filter(|_| want_tail)
            .map(|tail| STANDARD.encode(tail)),
        payload: outcome.payload.into_buffered().map(Blob::from),
        executed_version: Some(answer.executed_version),
        trace_header: Some(answer.trace_header),
        ..InvokeOutput::default()
    })
}

/// Takes the invocation down for later. A client context is only for synchronous invocations, as
/// on AWS.
async fn event(
    lambda: &Lambda,
    caller: &Caller,
    address: &Address,
    input: InvokeInput,
) -> Result<InvokeOutput, Error> {
    let call = EventCall {
        request_id: caller.request_id.clone(),
        payload: event_of(input.payload)?,
        trace_header: input.trace_header,
    };
    let trace_header = lambda.invoke_later(address, call).await?;
    Ok(InvokeOutput {
        status_code: Some(202),
        trace_header: Some(trace_header),
        ..InvokeOutput::default()
    })
}

/// The payload of an asynchronous invocation, which has a limit of its own.
pub fn event_of(blob: Option<Blob>) -> Result<Bytes, Error> {
    let size = blob.as_ref().map_or(0, Blob::len);
    if size > MAX_EVENT_BYTES {
        return Err(Error::PayloadTooLarge {
            size,
            invocation_type: "Event",
            limit: MAX_EVENT_BYTES,
        });
    }
    payload_of(blob)
}

/// The event for the function: a body is passed on as it is, and none counts as `{}`.
pub fn payload_of(blob: Option<Blob>) -> Result<Bytes, Error> {
    let bytes = match blob {
        Some(blob) => blob
            .decode()
            .map_err(|error| Error::InvalidRequestContent {
                reason: error.to_string(),
            })?,
        None => Bytes::new(),
    };
    payload::check(&bytes)?;
    Ok(if bytes.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        bytes
    })
}
