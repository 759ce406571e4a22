use model::lambda::{
    DeleteProvisionedConcurrencyConfigInput, DeleteProvisionedConcurrencyConfigOutput,
};
use protocol::Caller;

use crate::concurrency::{Refusal, existing};
use crate::error::Error;
use crate::function::Function;
use crate::{Lambda, concurrency};

/// Deleting a configuration that is not there is no error, as on AWS.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteProvisionedConcurrencyConfigInput,
) -> Result<DeleteProvisionedConcurrencyConfigOutput, Error> {
    const ACTION: &str = "DeleteProvisionedConcurrencyConfig";
    let (name, given) = (&input.function_name, &input.qualifier);
    let neither = Refusal::NoVersionOrAlias;
    let (function, qualifier) = existing(lambda, caller, ACTION, (name, given), neither)?;
    let key = qualifier.to_string();
    let id = function.id.clone();
    if function.attached.concurrency.provisioned.contains_key(&key) {
        let changed = lambda.functions.change(id, move |function| {
            remove(function, &key);
            Ok(())
        });
        let (function, ()) = changed.await?;
        lambda.capacity.tell(&function.id);
    }
    Ok(DeleteProvisionedConcurrencyConfigOutput {})
}

/// An alias that was on its way has arrived: there is nothing left to wait for.
fn remove(function: &mut Function, key: &str) {
    let in_transit = concurrency::in_transit(function, key).is_some();
    if let Some(alias) = function.aliases.get_mut(key).filter(|_| in_transit) {
        alias.weights.clear();
    }
    function.attached.concurrency.provisioned.remove(key);
}
