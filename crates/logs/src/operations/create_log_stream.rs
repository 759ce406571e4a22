use model::logs::{CreateLogStreamInput, CreateLogStreamOutput};
use protocol::Caller;

use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: CreateLogStreamInput,
) -> Result<CreateLogStreamOutput, Error> {
    let key = group_key(&scope(caller), &input.log_group_name);
    let writing = logs
        .registry()
        .create_stream(&key, &input.log_stream_name)?;
    writing.finish().await?;
    Ok(CreateLogStreamOutput {})
}
