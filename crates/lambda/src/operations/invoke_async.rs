use model::lambda::{InvokeAsyncInput, InvokeAsyncOutput};
use protocol::Caller;

use super::invoke::event_of;
use crate::Lambda;
use crate::error::Error;
use crate::events::EventCall;

/// The way of 2014 to invoke asynchronously; AWS still serves it.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: InvokeAsyncInput,
) -> Result<InvokeAsyncOutput, Error> {
    let address = lambda.resolve(caller, "InvokeAsync", &input.function_name, None)?;
    let call = EventCall {
        request_id: caller.request_id.clone(),
        payload: event_of(Some(input.invoke_args))?,
        trace_header: None,
    };
    lambda.invoke_later(&address, call).await?;
    Ok(InvokeAsyncOutput { status: Some(202) })
}
