use model::lambda::{Concurrency, FunctionCodeLocation, GetFunctionInput, GetFunctionOutput};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionInput,
) -> Result<GetFunctionOutput, Error> {
    let address = lambda.resolve(
        caller,
        "GetFunction",
        &input.function_name,
        input.qualifier.as_deref(),
    )?;
    let qualifier = address.qualifier.as_ref();
    let function = lambda.functions.get(&address.id, qualifier)?;
    let version = function.version(qualifier)?;
    let configuration = configuration::of(&function, version, qualifier, &lambda.state(version));
    Ok(GetFunctionOutput {
        configuration: Some(configuration),
        code: Some(FunctionCodeLocation {
            repository_type: Some("S3".to_owned()),
            location: Some(lambda.download_url(&version.code.digest)),
            ..FunctionCodeLocation::default()
        }),
        tags: (!function.tags.is_empty()).then(|| function.tags.clone()),
        concurrency: function
            .attached
            .concurrency
            .reserved
            .map(|reserved| Concurrency {
                reserved_concurrent_executions: Some(i32::try_from(reserved).unwrap_or(i32::MAX)),
            }),
        ..GetFunctionOutput::default()
    })
}
