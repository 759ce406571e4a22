use model::lambda::{DeleteFunctionUrlConfigInput, DeleteFunctionUrlConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::urls;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteFunctionUrlConfigInput,
) -> Result<DeleteFunctionUrlConfigOutput, Error> {
    let name = &input.function_name;
    let action = "DeleteFunctionUrlConfig";
    let address = lambda.resolve(caller, action, name, input.qualifier.as_deref())?;
    let key = urls::key(&address)?.to_owned();
    let removed = lambda
        .functions
        .change(address.id, move |function| {
            let removed = function.attached.urls.remove(&key);
            removed.ok_or(Error::ResourceNotFound)
        })
        .await;
    let (_, url) = removed.map_err(|error| match error {
        Error::FunctionNotFound { .. } => Error::ResourceNotFound,
        other => other,
    })?;
    lambda.urls.remove([&url.id]);
    Ok(DeleteFunctionUrlConfigOutput {})
}
