use model::lambda::{ListTagsInput, ListTagsOutput};
use protocol::Caller;

use super::tag_resource::tagged_function;
use crate::Lambda;
use crate::error::Error;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListTagsInput,
) -> Result<ListTagsOutput, Error> {
    let id = tagged_function(caller, "ListTags", &input.resource)?;
    let function = lambda.functions.get(&id, None)?;
    Ok(ListTagsOutput {
        tags: Some(function.tags.clone()),
    })
}
