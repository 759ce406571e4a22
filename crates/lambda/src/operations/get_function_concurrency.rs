use model::lambda::{GetFunctionConcurrencyInput, GetFunctionConcurrencyOutput};
use protocol::Caller;

use crate::Lambda;
use crate::concurrency::own;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionConcurrencyInput,
) -> Result<GetFunctionConcurrencyOutput, Error> {
    let id = own(
        lambda,
        caller,
        "GetFunctionConcurrency",
        &input.function_name,
    )?;
    let function = lambda.functions.get(&id, None)?;
    let reserved = function.attached.concurrency.reserved;
    Ok(GetFunctionConcurrencyOutput {
        reserved_concurrent_executions: reserved
            .map(|reserved| i32::try_from(reserved).unwrap_or(i32::MAX)),
    })
}
