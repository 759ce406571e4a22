use model::stepfunctions::{
    ListTagsForResourceInput, ListTagsForResourceOutput, Tag, TagResourceInput, TagResourceOutput,
    UntagResourceInput, UntagResourceOutput, error,
};
use protocol::{ApiError, Caller};

use crate::machines::arn::{self, MachineArn};
use crate::machines::{Change, Tags};
use crate::{Error, States};

const MAX_TAGS: usize = 50;

/// What has tags.
enum Tagged {
    Machine(String),
    Activity(String),
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListTagsForResourceInput,
) -> Result<ListTagsForResourceOutput, Error> {
    let tags = match tagged(states, caller, &input.resource_arn)? {
        Tagged::Machine(arn) => states
            .machines
            .get(&arn)
            .map(|machine| machine.tags.clone()),
        Tagged::Activity(arn) => states.activities.get(&arn).map(|one| one.tags.clone()),
    };
    let tags = tags.ok_or_else(|| missing(&input.resource_arn))?;
    let tags = tags.into_iter().map(|(key, value)| Tag {
        key: Some(key),
        value: Some(value),
    });
    Ok(ListTagsForResourceOutput {
        tags: Some(tags.collect()),
    })
}

pub async fn add(
    states: &States,
    caller: &Caller,
    input: TagResourceInput,
) -> Result<TagResourceOutput, ApiError> {
    let asked = &input.resource_arn;
    let added = checked(input.tags)?;
    let fits = change(states, caller, asked, |tags| {
        let before = tags.clone();
        merge(tags, added);
        let fits = tags.len() <= MAX_TAGS;
        if !fits {
            *tags = before;
        }
        fits
    })
    .await?;
    if !fits {
        let text = format!("A resource has at most {MAX_TAGS} tags");
        return Err(
            ApiError::new(&error::TOO_MANY_TAGS, text).with_member("resourceName", asked.clone())
        );
    }
    Ok(TagResourceOutput {})
}

pub async fn remove(
    states: &States,
    caller: &Caller,
    input: UntagResourceInput,
) -> Result<UntagResourceOutput, Error> {
    change(states, caller, &input.resource_arn, |tags| {
        tags.retain(|(key, _)| !input.tag_keys.contains(key));
    })
    .await?;
    Ok(UntagResourceOutput {})
}

/// The tags of a new resource.
pub fn checked(wire: Vec<Tag>) -> Result<Tags, Error> {
    let mut tags = Tags::new();
    for tag in wire {
        let key = tag.key.unwrap_or_default();
        let why = if key.is_empty() {
            "Tag keys must not be empty"
        } else if key.to_ascii_lowercase().starts_with("aws:") {
            "Tag keys beginning with 'aws:' are reserved"
        } else {
            merge(&mut tags, vec![(key, tag.value.unwrap_or_default())]);
            continue;
        };
        return Err(Error::validation(why));
    }
    if tags.len() > MAX_TAGS {
        let text = format!("A resource has at most {MAX_TAGS} tags");
        return Err(Error::refused(&error::TOO_MANY_TAGS, text));
    }
    Ok(tags)
}

/// A key that is there keeps its place.
fn merge(tags: &mut Tags, added: Tags) {
    for (key, value) in added {
        match tags.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => tags.push((key, value)),
        }
    }
}

async fn change<T>(
    states: &States,
    caller: &Caller,
    asked: &str,
    change: impl FnOnce(&mut Tags) -> T,
) -> Result<T, Error> {
    match tagged(states, caller, asked)? {
        Tagged::Machine(arn) => {
            let changed = states.machines.change(&arn, |machine| {
                let mut machine = machine.cloned().ok_or_else(|| missing(asked))?;
                let result = change(&mut machine.tags);
                Ok(Change {
                    machine: Some(machine),
                    revision: None,
                    result,
                })
            });
            changed.await
        }
        Tagged::Activity(arn) => {
            let changed = states.activities.change(&arn, |activity| {
                let mut activity = activity.cloned().ok_or_else(|| missing(asked))?;
                let result = change(&mut activity.tags);
                Ok((Some(activity), result))
            });
            changed.await
        }
    }
}

fn tagged(states: &States, caller: &Caller, asked: &str) -> Result<Tagged, Error> {
    arn::resource(asked, &["stateMachine", "activity"])?;
    let found = if arn::resource(asked, &["activity"]).is_ok() {
        let activity = states.activities.find(caller, asked);
        activity.map(|activity| Tagged::Activity(activity.arn.clone()))
    } else {
        MachineArn::parse(asked)?;
        let machine = states.machines.find(caller, asked);
        machine.map(|machine| Tagged::Machine(machine.arn.clone()))
    };
    found.ok_or_else(|| missing(asked))
}

fn missing(arn: &str) -> Error {
    let text = format!("Resource not found: '{arn}'");
    Error::refused(&error::RESOURCE_NOT_FOUND, text)
}
