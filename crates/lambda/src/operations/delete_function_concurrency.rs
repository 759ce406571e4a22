use model::lambda::{DeleteFunctionConcurrencyInput, DeleteFunctionConcurrencyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::concurrency::own;
use crate::error::Error;

/// Deleting a reservation that is not there is no error, as on AWS.
pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteFunctionConcurrencyInput,
) -> Result<DeleteFunctionConcurrencyOutput, Error> {
    let id = own(
        lambda,
        caller,
        "DeleteFunctionConcurrency",
        &input.function_name,
    )?;
    let changed = lambda.functions.change(id, |function| {
        function.attached.concurrency.reserved = None;
        Ok(())
    });
    let (function, ()) = changed.await?;
    lambda.capacity.tell(&function.id);
    Ok(DeleteFunctionConcurrencyOutput {})
}
