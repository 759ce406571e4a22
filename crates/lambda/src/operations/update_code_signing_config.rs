use model::lambda::{UpdateCodeSigningConfigInput, UpdateCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::code_signing::CodeSigningError;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UpdateCodeSigningConfigInput,
) -> Result<UpdateCodeSigningConfigOutput, Error> {
    let arn = input.code_signing_config_arn;
    let (scope, id, _) = lambda.signing_config(caller, &arn)?;
    let now = lambda.clock.now();
    let (description, publishers) = (input.description, input.allowed_publishers);
    let policies = input.code_signing_policies;
    let changed = lambda.signing_configs.change(&scope, &id, move |config| {
        config.apply(description, publishers, policies, now);
        Ok(())
    });
    let config = changed.await?.ok_or(CodeSigningError::NotFound { arn })?;
    Ok(UpdateCodeSigningConfigOutput {
        code_signing_config: config.answer(&scope, &id),
    })
}
