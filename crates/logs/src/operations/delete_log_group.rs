use model::logs::{DeleteLogGroupInput, DeleteLogGroupOutput};
use protocol::Caller;

use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: DeleteLogGroupInput,
) -> Result<DeleteLogGroupOutput, Error> {
    let key = group_key(&scope(caller), &input.log_group_name);
    let writing = logs.registry().delete_group(&key)?;
    // Streams and events go with the next sweep; nothing leads to them any more.
    writing.finish().await?;
    logs.registry().forget_group(&key);
    Ok(DeleteLogGroupOutput {})
}
