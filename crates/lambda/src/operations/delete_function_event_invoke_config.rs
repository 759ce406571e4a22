use model::lambda::{DeleteFunctionEventInvokeConfigInput, DeleteFunctionEventInvokeConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::events;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteFunctionEventInvokeConfigInput,
) -> Result<DeleteFunctionEventInvokeConfigOutput, Error> {
    let action = "DeleteFunctionEventInvokeConfig";
    let (name, qualifier) = (&input.function_name, input.qualifier.as_deref());
    let address = lambda.resolve(caller, action, name, qualifier)?;
    let key = events::key(address.qualifier.as_ref());
    let arn = address.id.qualified_arn(&key);
    let missing = move || Error::NoEventInvokeConfig { arn: arn.clone() };
    if lambda.functions.get(&address.id, None).is_err() {
        return Err(missing());
    }
    let remove = move |function: &mut crate::function::Function| {
        let removed = function.attached.event_invoke.remove(&key);
        removed.then_some(()).ok_or_else(&missing)
    };
    lambda.functions.change(address.id, remove).await?;
    Ok(DeleteFunctionEventInvokeConfigOutput {})
}
