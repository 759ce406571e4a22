use model::lambda::{PutFunctionConcurrencyInput, PutFunctionConcurrencyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::concurrency::{own, rules};
use crate::error::Error;
use crate::name::Qualifier;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutFunctionConcurrencyInput,
) -> Result<PutFunctionConcurrencyOutput, Error> {
    let id = own(
        lambda,
        caller,
        "PutFunctionConcurrency",
        &input.function_name,
    )?;
    // AWS misses the version here, which nobody has named.
    lambda.functions.get(&id, Some(&Qualifier::Latest))?;
    // Negative numbers do not get past the interface's constraints.
    let reserved = u32::try_from(input.reserved_concurrent_executions).unwrap_or_default();
    let changes = lambda.capacity.changes.lock().await;
    let account = lambda.account_for(&id);
    let changed = lambda.functions.change(id, move |function| {
        rules::check_reserved(function, account, reserved)?;
        function.attached.concurrency.reserved = Some(reserved);
        Ok(())
    });
    let (function, ()) = changed.await?;
    drop(changes);
    lambda.capacity.tell(&function.id);
    Ok(PutFunctionConcurrencyOutput {
        reserved_concurrent_executions: Some(input.reserved_concurrent_executions),
    })
}
