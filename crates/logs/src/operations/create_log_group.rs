use model::logs::{CreateLogGroupInput, CreateLogGroupOutput};
use protocol::Caller;

use crate::record::GroupRecord;
use crate::registry::group_key;
use crate::service::scope;
use crate::{Error, Logs};

pub async fn run(
    logs: &Logs,
    caller: &Caller,
    input: CreateLogGroupInput,
) -> Result<CreateLogGroupOutput, Error> {
    let key = group_key(&scope(caller), &input.log_group_name);
    let mut record = GroupRecord::new(logs.clock().now());
    record.class = input.log_group_class.map(|class| class.as_str().to_owned());
    record.kms_key_id = input.kms_key_id;
    record.tags = input.tags.unwrap_or_default();
    record.deletion_protection = input.deletion_protection_enabled.unwrap_or(false);
    let writing = logs.registry().create_group(&key, record)?;
    writing.finish().await?;
    Ok(CreateLogGroupOutput {})
}
