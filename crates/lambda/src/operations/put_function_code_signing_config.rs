use model::lambda::{PutFunctionCodeSigningConfigInput, PutFunctionCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

/// The configuration is looked for before the function. It holds for code deployed from now on.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutFunctionCodeSigningConfigInput,
) -> Result<PutFunctionCodeSigningConfigOutput, Error> {
    let name = &input.function_name;
    let id = lambda.resolve_function(caller, "PutFunctionCodeSigningConfig", name)?;
    let arn = input.code_signing_config_arn;
    lambda.attachable_signing_config(caller, &arn)?;
    let attached = arn.clone();
    let put = move |function: &mut crate::function::Function| {
        function.attached.code_signing = Some(attached.clone());
        Ok(())
    };
    let (function, ()) = lambda.functions.change(id, put).await?;
    Ok(PutFunctionCodeSigningConfigOutput {
        code_signing_config_arn: arn,
        function_name: function.id.name.clone(),
    })
}
