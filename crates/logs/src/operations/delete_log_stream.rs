use model::logs::{DeleteLogStreamInput, DeleteLogStreamOutput};
use protocol::Caller;

use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: DeleteLogStreamInput,
) -> Result<DeleteLogStreamOutput, Error> {
    let key = group_key(&scope(caller), &input.log_group_name);
    let writing = logs
        .registry()
        .delete_stream(&key, &input.log_stream_name)?;
    writing.finish().await?;
    logs.registry().forget_stream(&key, &input.log_stream_name);
    Ok(DeleteLogStreamOutput {})
}
