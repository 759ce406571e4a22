use model::lambda::{TagResourceInput, TagResourceOutput};
use protocol::Caller;

use crate::error::{Error, InvalidParameter};
use crate::tagged::Tagged;
use crate::{Lambda, tags};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: TagResourceInput,
) -> Result<TagResourceOutput, Error> {
    if input.tags.is_empty() {
        return Err(InvalidParameter::NoTags.into());
    }
    let tagged = Tagged::resolve(lambda, caller, "TagResource", &input.resource)?;
    let add = move |tags: &mut _| Ok(tags::add(tags, input.tags.clone())?);
    tagged.change(lambda, add).await?;
    Ok(TagResourceOutput {})
}
