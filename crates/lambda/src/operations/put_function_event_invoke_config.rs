use model::lambda::{PutFunctionEventInvokeConfigInput, PutFunctionEventInvokeConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::events::{self, EventInvoke};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutFunctionEventInvokeConfigInput,
) -> Result<PutFunctionEventInvokeConfigOutput, Error> {
    let action = "PutFunctionEventInvokeConfig";
    let (name, qualifier) = (&input.function_name, input.qualifier.as_deref());
    let address = lambda.resolve(caller, action, name, qualifier)?;
    let (retries, age) = (
        input.maximum_retry_attempts,
        input.maximum_event_age_in_seconds,
    );
    if retries.is_none() && age.is_none() && input.destination_config.is_none() {
        return Err(InvalidParameter::EmptyEventInvokeConfig.into());
    }
    let qualifier = address.qualifier;
    events::function_of(lambda, &address.id, qualifier.as_ref())?;
    if let Some(destinations) = &input.destination_config {
        lambda.check_destinations(&address.id, destinations)?;
    }
    let mut config = EventInvoke::default();
    config.apply(retries, age, input.destination_config, lambda.clock.now());
    let key = events::key(qualifier.as_ref());
    let shown = config.describe(&address.id, &key);
    let set = move |function: &mut crate::function::Function| {
        // The version or alias may have been deleted in the meantime.
        events::check_qualifier(function, qualifier.as_ref())?;
        function
            .attached
            .event_invoke
            .set(key.clone(), config.clone());
        Ok(())
    };
    lambda.functions.change(address.id, set).await?;
    Ok(PutFunctionEventInvokeConfigOutput {
        last_modified: shown.last_modified,
        function_arn: shown.function_arn,
        maximum_retry_attempts: shown.maximum_retry_attempts,
        maximum_event_age_in_seconds: shown.maximum_event_age_in_seconds,
        destination_config: shown.destination_config,
    })
}
