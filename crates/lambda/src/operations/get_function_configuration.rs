use model::lambda::{GetFunctionConfigurationInput, GetFunctionConfigurationOutput};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionConfigurationInput,
) -> Result<GetFunctionConfigurationOutput, Error> {
    let action = "GetFunctionConfiguration";
    let address = lambda.resolve(
        caller,
        action,
        &input.function_name,
        input.qualifier.as_deref(),
    )?;
    let qualifier = address.qualifier.as_ref();
    let function = lambda.functions.get(&address.id, qualifier)?;
    let version = function.version(qualifier)?;
    Ok(configuration::of(
        &function,
        version,
        qualifier,
        &lambda.state(version),
    ))
}
