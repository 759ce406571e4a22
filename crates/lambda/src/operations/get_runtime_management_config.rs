use model::lambda::{GetRuntimeManagementConfigInput, GetRuntimeManagementConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetRuntimeManagementConfigInput,
) -> Result<GetRuntimeManagementConfigOutput, Error> {
    let given = input.qualifier.as_deref();
    let action = "GetRuntimeManagementConfig";
    let address = lambda.resolve(caller, action, &input.function_name, given)?;
    let qualifier = address.qualifier.as_ref();
    let function = lambda.functions.get(&address.id, qualifier)?;
    let version = function.version(qualifier)?.name();
    let modes = &function.attached.runtime_management;
    let mode = modes.get(&version).cloned().unwrap_or_default();
    let function_arn = match qualifier {
        Some(qualifier) => address.id.qualified_arn(qualifier),
        None => address.id.arn(),
    };
    Ok(GetRuntimeManagementConfigOutput {
        update_runtime_on: Some(mode.name().into()),
        function_arn: Some(function_arn),
        runtime_version_arn: mode.arn().map(str::to_owned),
    })
}
