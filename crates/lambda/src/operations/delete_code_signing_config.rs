use model::lambda::{DeleteCodeSigningConfigInput, DeleteCodeSigningConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::code_signing::CodeSigningError;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: DeleteCodeSigningConfigInput,
) -> Result<DeleteCodeSigningConfigOutput, Error> {
    let arn = input.code_signing_config_arn;
    let (scope, id, _) = lambda.signing_config(caller, &arn)?;
    if !lambda.functions_signed_by(&scope, &arn).is_empty() {
        return Err(CodeSigningError::InUse { arn }.into());
    }
    let deleted = lambda.signing_configs.delete(&scope, &id, |_| Ok(()));
    deleted.await?.ok_or(CodeSigningError::NotFound { arn })?;
    Ok(DeleteCodeSigningConfigOutput {})
}
