use model::lambda::{PutFunctionRecursionConfigInput, PutFunctionRecursionConfigOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::recursion::RecursiveLoop;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: PutFunctionRecursionConfigInput,
) -> Result<PutFunctionRecursionConfigOutput, Error> {
    let id = lambda.resolve_function(caller, "PutFunctionRecursionConfig", &input.function_name)?;
    let wanted = RecursiveLoop::from(&input.recursive_loop);
    let set = move |function: &mut crate::function::Function| {
        function.attached.recursion = wanted;
        Ok(())
    };
    lambda.functions.change(id, set).await?;
    Ok(PutFunctionRecursionConfigOutput {
        recursive_loop: Some(wanted.into()),
    })
}
