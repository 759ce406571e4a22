use std::collections::BTreeMap;

use model::lambda::{UntagResourceInput, UntagResourceOutput};
use protocol::Caller;

use crate::Lambda;
use crate::error::Error;
use crate::tagged::Tagged;

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: UntagResourceInput,
) -> Result<UntagResourceOutput, Error> {
    let tagged = Tagged::resolve(lambda, caller, "UntagResource", &input.resource)?;
    let remove = move |tags: &mut BTreeMap<String, String>| {
        tags.retain(|key, _| !input.tag_keys.contains(key));
        Ok(())
    };
    tagged.change(lambda, remove).await?;
    Ok(UntagResourceOutput {})
}
