use model::lambda::{DeleteAliasInput, DeleteAliasOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::service::resolve;

/// Deleting an alias that is not there is no error, as on AWS.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteAliasInput,
) -> Result<DeleteAliasOutput, Error> {
    let id = resolve(caller, "DeleteAlias", &input.function_name, None)?.id;
    if lambda
        .functions
        .get(&id, None)?
        .aliases
        .contains_key(&input.name)
    {
        let remove = move |function: &mut crate::function::Function| {
            function.aliases.remove(&input.name);
            Ok(())
        };
        lambda.functions.change(id, remove).await?;
    }
    Ok(DeleteAliasOutput {})
}
