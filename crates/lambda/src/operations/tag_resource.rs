use model::lambda::{TagResourceInput, TagResourceOutput};
use protocol::Caller;

use crate::error::{Error, InvalidParameter};
use crate::function::FunctionId;
use crate::service::{Address, resolve};
use crate::{Lambda, tags};

pub async fn run(
    lambda: &Lambda,
    caller: &Caller,
    input: TagResourceInput,
) -> Result<TagResourceOutput, Error> {
    if input.tags.is_empty() {
        return Err(InvalidParameter::NoTags.into());
    }
    let id = tagged_function(caller, "TagResource", &input.resource)?;
    let add = move |function: &mut crate::function::Function| {
        tags::add(&mut function.tags, input.tags.clone())?;
        function.latest_mut().touch();
        Ok(())
    };
    lambda.functions.change(id, add).await?;
    Ok(TagResourceOutput {})
}

/// The function that a tag operation names. Other kinds of resources that AWS can tag do not
/// exist here yet.
pub fn tagged_function(
    caller: &Caller,
    action: &'static str,
    resource: &str,
) -> Result<FunctionId, Error> {
    if resource.split(':').nth(5) != Some("function") {
        return Err(Error::ResourceNotFound);
    }
    let Address { id, qualifier } = resolve(caller, action, resource, None)?;
    match qualifier {
        None => Ok(id),
        Some(_) => Err(InvalidParameter::TagsOnQualifier.into()),
    }
}
