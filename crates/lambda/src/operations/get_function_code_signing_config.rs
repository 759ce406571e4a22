use model::lambda::{GetFunctionCodeSigningConfigInput, GetFunctionCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

/// A function without a configuration is answered with nothing at all.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionCodeSigningConfigInput,
) -> Result<GetFunctionCodeSigningConfigOutput, Error> {
    let name = &input.function_name;
    let id = lambda.resolve_function(caller, "GetFunctionCodeSigningConfig", name)?;
    let function = lambda.functions.get(&id, None)?;
    let arn = function.attached.code_signing.clone();
    Ok(GetFunctionCodeSigningConfigOutput {
        function_name: arn.is_some().then(|| function.id.name.clone()),
        code_signing_config_arn: arn,
    })
}
