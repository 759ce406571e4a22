use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use invoker::Mode;
use model::Blob;
use model::lambda::{InvokeInput, InvokeOutput};
use protocol::Caller;

use super::source::refuse;
use crate::error::Error;
use crate::invoke::Call;
use crate::service::resolve;
use crate::{Lambda, payload};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: InvokeInput,
) -> Result<InvokeOutput, Error> {
    let address = resolve(
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
        // An event is acknowledged before it is processed, so it needs a queue that survives a
        // crash.
        "Event" => {
            let what = "asynchronous invocations (InvocationType Event)";
            return Err(Error::NotSupported { what, advice: "" });
        }
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

/// The event for the function: a body is passed on as it is, and none counts as `{}`.
fn payload_of(blob: Option<Blob>) -> Result<Bytes, Error> {
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
