use model::lambda::{DeleteFunctionCodeSigningConfigInput, DeleteFunctionCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteFunctionCodeSigningConfigInput,
) -> Result<DeleteFunctionCodeSigningConfigOutput, Error> {
    let name = &input.function_name;
    let id = lambda.resolve_function(caller, "DeleteFunctionCodeSigningConfig", name)?;
    let delete = |function: &mut crate::function::Function| {
        function.attached.code_signing = None;
        Ok(())
    };
    lambda.functions.change(id, delete).await?;
    Ok(DeleteFunctionCodeSigningConfigOutput {})
}
