use model::lambda::{UntagResourceInput, UntagResourceOutput};
use protocol::Caller;

use super::tag_resource::tagged_function;
use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UntagResourceInput,
) -> Result<UntagResourceOutput, Error> {
    let id = tagged_function(caller, "UntagResource", &input.resource)?;
    let remove = move |function: &mut crate::function::Function| {
        function.tags.retain(|key, _| !input.tag_keys.contains(key));
        function.latest_mut().touch();
        Ok(())
    };
    lambda.functions.change(id, remove).await?;
    Ok(UntagResourceOutput {})
}
