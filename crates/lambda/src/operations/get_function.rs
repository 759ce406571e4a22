use model::lambda::{FunctionCodeLocation, GetFunctionInput, GetFunctionOutput};
use protocol::Caller;

use crate::error::Error;
use crate::service::resolve;
use crate::{Lambda, configuration};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionInput,
) -> Result<GetFunctionOutput, Error> {
    let address = resolve(
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
        ..GetFunctionOutput::default()
    })
}
