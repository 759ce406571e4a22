use model::lambda::{
    ListFunctionsByCodeSigningConfigInput, ListFunctionsByCodeSigningConfigOutput,
};
use protocol::Caller;

use crate::error::Error;
use crate::{Lambda, paging};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListFunctionsByCodeSigningConfigInput,
) -> Result<ListFunctionsByCodeSigningConfigOutput, Error> {
    let arn = &input.code_signing_config_arn;
    let (scope, _, _) = lambda.signing_config(caller, arn)?;
    let size = paging::size(input.max_items);
    let after = paging::read(input.marker.as_deref())?;
    let mut arns = lambda.functions_signed_by(&scope, arn);
    if let Some(after) = after {
        arns.retain(|arn| *arn > after);
    }
    let next_marker = paging::cut(&mut arns, size, String::clone);
    Ok(ListFunctionsByCodeSigningConfigOutput {
        next_marker,
        function_arns: Some(arns),
    })
}
