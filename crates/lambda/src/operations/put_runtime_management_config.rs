use model::lambda::{PutRuntimeManagementConfigInput, PutRuntimeManagementConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::runtime_management::RuntimeMode;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutRuntimeManagementConfigInput,
) -> Result<PutRuntimeManagementConfigOutput, Error> {
    let given = input.qualifier.as_deref();
    let action = "PutRuntimeManagementConfig";
    let address = lambda.resolve(caller, action, &input.function_name, given)?;
    let (qualifier, region) = (address.qualifier, caller.region.to_string());
    let function_arn = match &qualifier {
        Some(qualifier) => address.id.qualified_arn(qualifier),
        None => address.id.arn(),
    };
    let put = move |function: &mut crate::function::Function| {
        let version = function.version(qualifier.as_ref())?;
        let wanted = input.update_runtime_on.as_str();
        let arn = input.runtime_version_arn.clone();
        let mode = RuntimeMode::parse(wanted, arn, version, &region)?;
        let name = version.name();
        let modes = &mut function.attached.runtime_management;
        if mode == RuntimeMode::Auto {
            modes.remove(&name);
        } else {
            modes.insert(name, mode.clone());
        }
        Ok(mode)
    };
    let (_, mode) = lambda.functions.change(address.id, put).await?;
    Ok(PutRuntimeManagementConfigOutput {
        update_runtime_on: mode.name().into(),
        function_arn,
        runtime_version_arn: mode.arn().map(str::to_owned),
    })
}
