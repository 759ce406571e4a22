use model::lambda::{GetFunctionScalingConfigInput, GetFunctionScalingConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

/// Scaling configurations belong to functions on capacity providers, of which there are none: no
/// configuration was ever asked for or applied.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionScalingConfigInput,
) -> Result<GetFunctionScalingConfigOutput, Error> {
    let action = "GetFunctionScalingConfig";
    let given = Some(input.qualifier.as_str());
    let address = lambda.resolve(caller, action, &input.function_name, given)?;
    let qualifier = address.qualifier.as_ref();
    let function = lambda.functions.get(&address.id, qualifier)?;
    Ok(GetFunctionScalingConfigOutput {
        function_arn: Some(function.policy_arn(qualifier)),
        ..GetFunctionScalingConfigOutput::default()
    })
}
