use model::lambda::{
    AccountLimit, AccountUsage, GetAccountSettingsInput, GetAccountSettingsOutput,
};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::function::Scope;
use crate::package::{MAX_UNZIPPED_BYTES, MAX_ZIPPED_BYTES};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    _: GetAccountSettingsInput,
) -> Result<GetAccountSettingsOutput, Error> {
    let scope = Scope {
        account: caller.account,
        region: caller.region.clone(),
    };
    let (functions, code_bytes) = lambda.functions.usage(&scope);
    let code_bytes = code_bytes + lambda.layers.usage(&scope);
    let concurrency = lambda.config.concurrent_executions;
    let set_aside = lambda.capacity.set_aside(&scope, |_| true);
    let unreserved = concurrency.saturating_sub(set_aside);
    Ok(GetAccountSettingsOutput {
        account_limit: Some(AccountLimit {
            total_code_size: Some(to_i64(lambda.config.total_code_bytes)),
            code_size_unzipped: Some(to_i64(MAX_UNZIPPED_BYTES)),
            code_size_zipped: Some(to_i64(MAX_ZIPPED_BYTES)),
            concurrent_executions: Some(to_i32(concurrency)),
            unreserved_concurrent_executions: Some(to_i32(unreserved)),
        }),
        account_usage: Some(AccountUsage {
            total_code_size: Some(to_i64(code_bytes)),
            function_count: Some(to_i64(functions)),
        }),
    })
}

fn to_i32(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
