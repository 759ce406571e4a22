use std::collections::BTreeMap;

use model::application_autoscaling::{
    ListTagsForResourceInput, ListTagsForResourceOutput, TagResourceInput, TagResourceOutput,
    UntagResourceInput, UntagResourceOutput, error,
};
use protocol::{ApiError, Caller};

use crate::target::TargetId;
use crate::{Autoscaling, Error};

const MAX_TAGS: usize = 50;

pub async fn list(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: ListTagsForResourceInput,
) -> Result<ListTagsForResourceOutput, Error> {
    let id = find(autoscaling, caller, &input.resource_arn)?;
    let target = autoscaling
        .target(&id)
        .ok_or_else(|| missing(&input.resource_arn))?;
    Ok(ListTagsForResourceOutput {
        tags: Some(target.tags.clone()),
    })
}

pub async fn add(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: TagResourceInput,
) -> Result<TagResourceOutput, ApiError> {
    let id = find(autoscaling, caller, &input.resource_arn)?;
    check(Some(&input.tags))?;
    let fits = autoscaling
        .change(&id, |target| {
            let mut target = target
                .cloned()
                .ok_or_else(|| missing(&input.resource_arn))?;
            let before = target.clone();
            target.tags.extend(input.tags.clone());
            let fits = target.tags.len() <= MAX_TAGS;
            Ok((Some(if fits { target } else { before }), fits))
        })
        .await?;
    if !fits {
        let text = format!("A resource has at most {MAX_TAGS} tags");
        return Err(ApiError::new(&error::TOO_MANY_TAGS, text)
            .with_member("ResourceName", input.resource_arn));
    }
    Ok(TagResourceOutput {})
}

pub async fn remove(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: UntagResourceInput,
) -> Result<UntagResourceOutput, Error> {
    let id = find(autoscaling, caller, &input.resource_arn)?;
    autoscaling
        .change(&id, |target| {
            let mut target = target
                .cloned()
                .ok_or_else(|| missing(&input.resource_arn))?;
            target.tags.retain(|key, _| !input.tag_keys.contains(key));
            Ok((Some(target), ()))
        })
        .await?;
    Ok(UntagResourceOutput {})
}

pub(super) fn check(tags: Option<&BTreeMap<String, String>>) -> Result<(), Error> {
    let Some(tags) = tags else { return Ok(()) };
    if tags.len() > MAX_TAGS {
        return Err(Error::Validation(format!(
            "A resource has at most {MAX_TAGS} tags"
        )));
    }
    if tags
        .keys()
        .any(|key| key.to_ascii_lowercase().starts_with("aws:"))
    {
        return Err(Error::Validation(
            "Tag keys must not begin with aws:".to_owned(),
        ));
    }
    Ok(())
}

fn find(autoscaling: &Autoscaling, caller: &Caller, arn: &str) -> Result<TargetId, Error> {
    let targets = autoscaling.targets();
    let found = targets
        .iter()
        .find(|target| target.id.belongs_to(caller) && target.arn() == arn);
    found
        .map(|target| target.id.clone())
        .ok_or_else(|| missing(arn))
}

fn missing(arn: &str) -> Error {
    Error::ResourceNotFound(format!("The resource {arn} was not found"))
}
