use model::lambda::{ListTagsInput, ListTagsOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::tagged::Tagged;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: ListTagsInput,
) -> Result<ListTagsOutput, Error> {
    let tagged = Tagged::resolve(lambda, caller, "ListTags", &input.resource)?;
    Ok(ListTagsOutput {
        tags: Some(tagged.tags(lambda)?),
    })
}
