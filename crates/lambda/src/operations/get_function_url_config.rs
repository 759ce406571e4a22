use model::lambda::{GetFunctionUrlConfigInput, GetFunctionUrlConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::urls;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionUrlConfigInput,
) -> Result<GetFunctionUrlConfigOutput, Error> {
    let name = &input.function_name;
    let address = lambda.resolve(
        caller,
        "GetFunctionUrlConfig",
        name,
        input.qualifier.as_deref(),
    )?;
    let key = urls::key(&address)?;
    let function = lambda.functions.get(&address.id, None);
    let function = function.map_err(|_| Error::ResourceNotFound)?;
    let url = lambda.describe_url(&function, key, urls::find(&function, key)?);
    Ok(GetFunctionUrlConfigOutput {
        function_url: url.function_url,
        function_arn: url.function_arn,
        auth_type: url.auth_type,
        cors: url.cors,
        creation_time: url.creation_time,
        last_modified_time: url.last_modified_time,
        invoke_mode: url.invoke_mode,
    })
}
