use model::logs::{
    DeleteRetentionPolicyInput, DeleteRetentionPolicyOutput, PutRetentionPolicyInput,
    PutRetentionPolicyOutput,
};
use protocol::Caller;

use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

/// The only numbers of days that AWS accepts.
const ALLOWED_DAYS: [i32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

pub async fn put(
    logs: &Logs,
    caller: &Caller,
    input: PutRetentionPolicyInput,
) -> Result<PutRetentionPolicyOutput, Error> {
    let days = input.retention_in_days;
    if !ALLOWED_DAYS.contains(&days) {
        return Err(Error::InvalidParameter(format!(
            "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy \
             constraint: Member must satisfy enum value set: {ALLOWED_DAYS:?}"
        )));
    }
    set(logs, caller, &input.log_group_name, Some(days)).await?;
    Ok(PutRetentionPolicyOutput {})
}

pub async fn delete(
    logs: &Logs,
    caller: &Caller,
    input: DeleteRetentionPolicyInput,
) -> Result<DeleteRetentionPolicyOutput, Error> {
    set(logs, caller, &input.log_group_name, None).await?;
    Ok(DeleteRetentionPolicyOutput {})
}

async fn set(logs: &Logs, caller: &Caller, group: &str, days: Option<i32>) -> Result<(), Error> {
    let key = group_key(&scope(caller), group);
    let writing = logs
        .registry()
        .update_group(&key, |record| record.retention_days = days)?;
    writing.finish().await?;
    Ok(())
}
