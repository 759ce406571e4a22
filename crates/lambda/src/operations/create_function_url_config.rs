use model::lambda::{CreateFunctionUrlConfigInput, CreateFunctionUrlConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::function::Function;
use crate::urls::{self, UrlConfig, UrlError};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: CreateFunctionUrlConfigInput,
) -> Result<CreateFunctionUrlConfigOutput, Error> {
    let name = &input.function_name;
    let action = "CreateFunctionUrlConfig";
    let address = lambda.resolve(caller, action, name, input.qualifier.as_deref())?;
    let key = urls::key(&address)?.to_owned();
    let mut url = UrlConfig::new((&input.auth_type).into(), lambda.clock.now())?;
    url.cors = input.cors.clone().map(Into::into);
    url.invoke_mode = input
        .invoke_mode
        .as_ref()
        .map(Into::into)
        .unwrap_or_default();
    let made = {
        let key = key.clone();
        lambda
            .functions
            .change(address.id, move |function| add(function, &key, &url))
            .await
    };
    let (function, url) = made.map_err(missing)?;
    lambda.urls.enter(&function);
    let url = lambda.describe_url(&function, &key, &url);
    Ok(CreateFunctionUrlConfigOutput {
        function_url: url.function_url,
        function_arn: url.function_arn,
        auth_type: url.auth_type,
        cors: url.cors,
        creation_time: url.creation_time,
        // Recorded: only what was asked for is repeated.
        invoke_mode: input.invoke_mode,
    })
}

fn add(function: &mut Function, key: &str, url: &UrlConfig) -> Result<UrlConfig, Error> {
    urls::check_key(function, key)?;
    if function.attached.urls.contains_key(key) {
        let arn = urls::arn(function, key);
        return Err(UrlError::Exists { arn }.into());
    }
    function.attached.urls.insert(key.to_owned(), url.clone());
    Ok(url.clone())
}

/// AWS has other words for a function that is not there when it is to get a URL.
pub fn missing(error: Error) -> Error {
    match error {
        Error::FunctionNotFound { .. } => UrlError::NoFunction.into(),
        other => other,
    }
}
