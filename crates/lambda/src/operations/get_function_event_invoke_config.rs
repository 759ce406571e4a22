use model::lambda::{GetFunctionEventInvokeConfigInput, GetFunctionEventInvokeConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::events;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionEventInvokeConfigInput,
) -> Result<GetFunctionEventInvokeConfigOutput, Error> {
    let action = "GetFunctionEventInvokeConfig";
    let (name, qualifier) = (&input.function_name, input.qualifier.as_deref());
    let address = lambda.resolve(caller, action, name, qualifier)?;
    let key = events::key(address.qualifier.as_ref());
    // A function that is not there has no configuration either, as AWS says it.
    let missing = || Error::NoEventInvokeConfig {
        arn: address.id.qualified_arn(&key),
    };
    let function = lambda
        .functions
        .get(&address.id, None)
        .map_err(|_| missing())?;
    let config = function.attached.event_invoke.get(&key);
    let shown = config.ok_or_else(missing)?.describe(&address.id, &key);
    Ok(GetFunctionEventInvokeConfigOutput {
        last_modified: shown.last_modified,
        function_arn: shown.function_arn,
        maximum_retry_attempts: shown.maximum_retry_attempts,
        maximum_event_age_in_seconds: shown.maximum_event_age_in_seconds,
        destination_config: shown.destination_config,
    })
}
