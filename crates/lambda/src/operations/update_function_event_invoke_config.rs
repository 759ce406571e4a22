use model::lambda::{UpdateFunctionEventInvokeConfigInput, UpdateFunctionEventInvokeConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::{Error, InvalidParameter};
use crate::events;

/// What is absent stays as it is, unlike with a put.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateFunctionEventInvokeConfigInput,
) -> Result<UpdateFunctionEventInvokeConfigOutput, Error> {
    let action = "UpdateFunctionEventInvokeConfig";
    let (name, qualifier) = (&input.function_name, input.qualifier.as_deref());
    let address = lambda.resolve(caller, action, name, qualifier)?;
    let (retries, age) = (
        input.maximum_retry_attempts,
        input.maximum_event_age_in_seconds,
    );
    let destinations = input.destination_config;
    if retries.is_none() && age.is_none() && destinations.is_none() {
        return Err(InvalidParameter::EmptyEventInvokeConfig.into());
    }
    let (id, qualifier) = (address.id, address.qualifier);
    let function = events::function_of(lambda, &id, qualifier.as_ref())?;
    let key = events::key(qualifier.as_ref());
    let missing = Error::NoEventInvokeConfig {
        arn: id.qualified_arn(&key),
    };
    function.attached.event_invoke.get(&key).ok_or(missing)?;
    if let Some(destinations) = &destinations {
        lambda.check_destinations(&id, destinations)?;
    }
    let now = lambda.clock.now();
    let change = move |function: &mut crate::function::Function| {
        let invokes = &mut function.attached.event_invoke;
        let arn = || function.id.qualified_arn(&key);
        let mut config = invokes
            .get(&key)
            .cloned()
            .ok_or_else(|| Error::NoEventInvokeConfig { arn: arn() })?;
        config.apply(retries, age, destinations.clone(), now);
        let shown = config.describe(&function.id, &key);
        invokes.set(key.clone(), config);
        Ok(shown)
    };
    let (_, shown) = lambda.functions.change(id, change).await?;
    Ok(UpdateFunctionEventInvokeConfigOutput {
        last_modified: shown.last_modified,
        function_arn: shown.function_arn,
        maximum_retry_attempts: shown.maximum_retry_attempts,
        maximum_event_age_in_seconds: shown.maximum_event_age_in_seconds,
        destination_config: shown.destination_config,
    })
}
