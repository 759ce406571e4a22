use model::lambda::{GetCodeSigningConfigInput, GetCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetCodeSigningConfigInput,
) -> Result<GetCodeSigningConfigOutput, Error> {
    let (scope, id, config) = lambda.signing_config(caller, &input.code_signing_config_arn)?;
    Ok(GetCodeSigningConfigOutput {
        code_signing_config: config.answer(&scope, &id),
    })
}
