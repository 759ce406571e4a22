use std::ops::Bound;

use model::lambda::{
    ListProvisionedConcurrencyConfigsInput, ListProvisionedConcurrencyConfigsOutput,
    ProvisionedConcurrencyConfigListItem,
};
use protocol::Caller;

use crate::concurrency::{Progress, Provisioned};
use crate::error::Error;
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListProvisionedConcurrencyConfigsInput,
) -> Result<ListProvisionedConcurrencyConfigsOutput, Error> {
    const ACTION: &str = "ListProvisionedConcurrencyConfigs";
    let name = &input.function_name;
    let id = lambda.resolve(caller, ACTION, name, None)?.id;
    let function = lambda.functions.get(&id, None)?;
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let provisioned = &function.attached.concurrency.provisioned;
    let mut listed: Vec<_> = provisioned
        .range::<str, _>((start, Bound::Unbounded))
        .take(size + 1)
        .collect();
    let next_marker = paging::cut(&mut listed, size, |(qualifier, _)| (*qualifier).clone());
    let describe = |(qualifier, provisioned): (&String, &Provisioned)| {
        let progress = Progress::of(lambda, &function, qualifier, provisioned);
        ProvisionedConcurrencyConfigListItem {
            function_arn: Some(id.qualified_arn(qualifier)),
            requested_provisioned_concurrent_executions: Some(progress.requested),
            allocated_provisioned_concurrent_executions: Some(progress.allocated),
            available_provisioned_concurrent_executions: Some(progress.allocated),
            status: Some(progress.status),
            status_reason: progress.reason,
            last_modified: Some(progress.modified),
        }
    };
    Ok(ListProvisionedConcurrencyConfigsOutput {
        provisioned_concurrency_configs: Some(listed.into_iter().map(describe).collect()),
        next_marker,
    })
}
