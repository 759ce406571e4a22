use model::lambda::{PutFunctionScalingConfigInput, PutFunctionScalingConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

/// Scaling configurations belong to functions on capacity providers.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutFunctionScalingConfigInput,
) -> Result<PutFunctionScalingConfigOutput, Error> {
    let action = "PutFunctionScalingConfig";
    let given = Some(input.qualifier.as_str());
    let address = lambda.resolve(caller, action, &input.function_name, given)?;
    lambda
        .functions
        .get(&address.id, address.qualifier.as_ref())?;
    Err(Error::NotSupported {
        what: "capacity providers and their scaling configurations",
        advice: "",
    })
}
