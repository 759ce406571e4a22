use model::lambda::{GetFunctionRecursionConfigInput, GetFunctionRecursionConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: GetFunctionRecursionConfigInput,
) -> Result<GetFunctionRecursionConfigOutput, Error> {
    let id = lambda.resolve_function(caller, "GetFunctionRecursionConfig", &input.function_name)?;
    let configured = lambda.functions.get(&id, None)?.attached.recursion;
    Ok(GetFunctionRecursionConfigOutput {
        recursive_loop: Some(configured.into()),
    })
}
