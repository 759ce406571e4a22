use model::lambda::{GetProvisionedConcurrencyConfigInput, GetProvisionedConcurrencyConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::concurrency::{Progress, Refusal, existing};
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetProvisionedConcurrencyConfigInput,
) -> Result<GetProvisionedConcurrencyConfigOutput, Error> {
    const ACTION: &str = "GetProvisionedConcurrencyConfig";
    let (name, given) = (&input.function_name, &input.qualifier);
    let neither = Refusal::NoVersionOrAlias;
    let (function, qualifier) = existing(lambda, caller, ACTION, (name, given), neither)?;
    let key = qualifier.to_string();
    let provisioned = function.attached.concurrency.provisioned.get(&key);
    let provisioned = provisioned.ok_or(Refusal::NotFound)?;
    let progress = Progress::of(lambda, &function, &key, provisioned);
    Ok(GetProvisionedConcurrencyConfigOutput {
        requested_provisioned_concurrent_executions: Some(progress.requested),
        allocated_provisioned_concurrent_executions: Some(progress.allocated),
        available_provisioned_concurrent_executions: Some(progress.allocated),
        status: Some(progress.status),
        status_reason: progress.reason,
        last_modified: Some(progress.modified),
    })
}
