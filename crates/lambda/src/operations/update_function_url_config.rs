use model::lambda::{UpdateFunctionUrlConfigInput, UpdateFunctionUrlConfigOutput};
use protocol::Caller;

use super::create_function_url_config::missing;
use crate::Lambda;
use crate::error::Error;
use crate::function::Function;
use crate::urls::{self, UrlConfig};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateFunctionUrlConfigInput,
) -> Result<UpdateFunctionUrlConfigOutput, Error> {
    let name = &input.function_name;
    let action = "UpdateFunctionUrlConfig";
    let address = lambda.resolve(caller, action, name, input.qualifier.as_deref())?;
    let key = urls::key(&address)?.to_owned();
    let invoke_mode = input.invoke_mode.clone();
    let now = lambda.clock.now();
    let changed = {
        let key = key.clone();
        lambda
            .functions
            .change(address.id, move |function| {
                update(function, &key, &input, now)
            })
            .await
    };
    let (function, url) = changed.map_err(missing)?;
    let url = lambda.describe_url(&function, &key, &url);
    Ok(UpdateFunctionUrlConfigOutput {
        function_url: url.function_url,
        function_arn: url.function_arn,
        auth_type: url.auth_type,
        cors: url.cors,
        creation_time: url.creation_time,
        last_modified_time: url.last_modified_time,
        // As for a new URL, only what was asked for is repeated.
        invoke_mode,
    })
}

fn update(
    function: &mut Function,
    key: &str,
    input: &UpdateFunctionUrlConfigInput,
    now: clock::Timestamp,
) -> Result<UrlConfig, Error> {
    urls::check_key(function, key)?;
    let url = function.attached.urls.get_mut(key);
    let url = url.ok_or(Error::ResourceNotFound)?;
    if let Some(auth_type) = &input.auth_type {
        url.auth_type = auth_type.into();
    }
    if let Some(cors) = &input.cors {
        url.cors = Some(cors.clone().into());
    }
    if let Some(mode) = &input.invoke_mode {
        url.invoke_mode = mode.into();
    }
    url.modified = now;
    Ok(url.clone())
}
