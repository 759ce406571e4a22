use invoker::SnapStartMode;
use model::lambda::{PutProvisionedConcurrencyConfigInput, PutProvisionedConcurrencyConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::concurrency::{Progress, Provisioned, Refusal, existing, rules};
use crate::error::{Error, InvalidParameter};
use crate::function::Function;
use crate::name::Qualifier;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutProvisionedConcurrencyConfigInput,
) -> Result<PutProvisionedConcurrencyConfigOutput, Error> {
    const ACTION: &str = "PutProvisionedConcurrencyConfig";
    let (name, given) = (&input.function_name, &input.qualifier);
    let unpublished = Refusal::Unpublished;
    let (function, qualifier) = existing(lambda, caller, ACTION, (name, given), unpublished)?;
    check_snap_start(lambda, &function, &qualifier)?;
    // Smaller numbers than one do not get past the interface's constraints.
    let requested = u32::try_from(input.provisioned_concurrent_executions).unwrap_or(1);
    let changes = lambda.capacity.changes.lock().await;
    let account = lambda.account_for(&function.id);
    let (key, modified) = (qualifier.to_string(), lambda.clock.now());
    let changed = lambda
        .functions
        .change(function.id.clone(), move |function| {
            rules::check_provisioned(function, account, &qualifier, requested)?;
            let provisioned = &mut function.attached.concurrency.provisioned;
            let key = qualifier.to_string();
            let provisioned_now = Provisioned {
                requested,
                modified,
                moving: provisioned.get(&key).and_then(|before| before.moving),
            };
            provisioned.insert(key, provisioned_now.clone());
            Ok(provisioned_now)
        });
    let (function, provisioned) = changed.await?;
    drop(changes);
    let progress = Progress::of(lambda, &function, &key, &provisioned).begun();
    lambda.capacity.provide(&function.id);
    Ok(PutProvisionedConcurrencyConfigOutput {
        requested_provisioned_concurrent_executions: Some(progress.requested),
        allocated_provisioned_concurrent_executions: Some(progress.allocated),
        available_provisioned_concurrent_executions: Some(progress.allocated),
        status: Some(progress.status),
        status_reason: progress.reason,
        last_modified: Some(progress.modified),
    })
}

/// AWS has one or the other. Where firn makes snapshots of its own accord, environments are
/// provisioned from them.
fn check_snap_start(
    lambda: &Lambda,
    function: &Function,
    qualifier: &Qualifier,
) -> Result<(), Error> {
    let version = function.version(Some(qualifier))?;
    if version.asks_for_snapshot() && lambda.config.snap_start == SnapStartMode::Aws {
        let what = "Provisioned Concurrency".to_owned();
        return Err(InvalidParameter::SnapStartUnsupported { what }.into());
    }
    Ok(())
}
