use model::lambda::{DeleteAliasInput, DeleteAliasOutput};
use protocol::Caller;

use crate::error::Error;
use crate::name::Qualifier;
use crate::{Lambda, concurrency};

/// Deleting an alias that is not there is no error, as on AWS.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteAliasInput,
) -> Result<DeleteAliasOutput, Error> {
    let id = lambda
        .resolve(caller, "DeleteAlias", &input.function_name, None)?
        .id;
    if lambda
        .functions
        .get(&id, None)?
        .aliases
        .contains_key(&input.name)
    {
        let remove = move |function: &mut crate::function::Function| {
            function.aliases.remove(&input.name);
            function.attached.event_invoke.remove(&input.name);
            function.attached.urls.remove(&input.name);
            function.attached.policies.drop_qualifier(&input.name);
            concurrency::forget(function, &Qualifier::Alias(input.name.clone()));
            Ok(())
        };
        let (function, ()) = lambda.functions.change(id, remove).await?;
        lambda.capacity.tell(&function.id);
    }
    Ok(DeleteAliasOutput {})
}
