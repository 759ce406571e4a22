//! Provisioned concurrency, as Lambda's operations read and change it.

use model::lambda::operation::{
    DeleteProvisionedConcurrencyConfig, GetProvisionedConcurrencyConfig,
    PutProvisionedConcurrencyConfig,
};
use model::lambda::{
    DeleteProvisionedConcurrencyConfigInput, GetProvisionedConcurrencyConfigInput,
    PutProvisionedConcurrencyConfigInput, error,
};
use protocol::{ApiError, Caller, RouterHandle};

use crate::target::TargetId;

/// What is asked for now: zero if nothing ever was.
pub(crate) async fn current(
    router: &RouterHandle,
    caller: &Caller,
    id: &TargetId,
) -> Result<u32, ApiError> {
    let input = GetProvisionedConcurrencyConfigInput {
        function_name: id.function.clone(),
        qualifier: id.qualifier.clone(),
    };
    match router
        .call::<GetProvisionedConcurrencyConfig>(caller, input)
        .await
    {
        Ok(found) => {
            let requested = found.requested_provisioned_concurrent_executions;
            Ok(requested
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0))
        }
        Err(err) if err.shape(None) == &error::PROVISIONED_CONCURRENCY_CONFIG_NOT_FOUND => Ok(0),
        Err(err) => Err(err),
    }
}

/// Asks for a capacity. None at all means that the configuration goes.
pub(crate) async fn set(
    router: &RouterHandle,
    caller: &Caller,
    id: &TargetId,
    capacity: u32,
) -> Result<(), ApiError> {
    let (function_name, qualifier) = (id.function.clone(), id.qualifier.clone());
    if capacity == 0 {
        let input = DeleteProvisionedConcurrencyConfigInput {
            function_name,
            qualifier,
        };
        return router
            .call::<DeleteProvisionedConcurrencyConfig>(caller, input)
            .await
            .map(drop);
    }
    let input = PutProvisionedConcurrencyConfigInput {
        function_name,
        qualifier,
        provisioned_concurrent_executions: i32::try_from(capacity).unwrap_or(i32::MAX),
    };
    router
        .call::<PutProvisionedConcurrencyConfig>(caller, input)
        .await
        .map(drop)
}
