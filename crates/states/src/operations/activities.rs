use model::stepfunctions::{
    ActivityListItem, CreateActivityInput, CreateActivityOutput, DeleteActivityInput,
    DeleteActivityOutput, DescribeActivityInput, DescribeActivityOutput, ListActivitiesInput,
    ListActivitiesOutput, error,
};
use protocol::Caller;

use super::machines::limit;
use super::{configuration, tags};
use crate::activities::Activity;
use crate::machines::arn;
use crate::page::Wanted;
use crate::{Error, States};

const MAX_ACTIVITIES: usize = 100_000;

pub async fn create(
    states: &States,
    caller: &Caller,
    input: CreateActivityInput,
) -> Result<CreateActivityOutput, Error> {
    arn::check_name(&input.name)?;
    let own_key = configuration::own_key(input.encryption_configuration.as_ref())?;
    let tags = tags::checked(input.tags.unwrap_or_default())?;
    let activity_arn = arn::of(caller, "activity", &input.name);
    if states.activities.list(caller).len() >= MAX_ACTIVITIES {
        return Err(limit(&error::ACTIVITY_LIMIT_EXCEEDED, "Activity"));
    }
    let now = states.clock.now();
    // A second request for the same name succeeds, whatever its tags are.
    let created = states.activities.change(&activity_arn, |before| {
        let activity = match before {
            Some(activity) if activity.own_key != own_key => {
                let text = format!("Activity Already Exists: '{activity_arn}'");
                return Err(Error::refused(&error::ACTIVITY_ALREADY_EXISTS, text));
            }
            Some(activity) => activity.clone(),
            None => Activity {
                arn: activity_arn.clone(),
                name: input.name,
                created: now,
                tags,
                own_key,
            },
        };
        let created = activity.created;
        Ok((Some(activity), created))
    });
    let creation_date = created.await?;
    Ok(CreateActivityOutput {
        activity_arn,
        creation_date,
    })
}

pub async fn delete(
    states: &States,
    caller: &Caller,
    input: DeleteActivityInput,
) -> Result<DeleteActivityOutput, Error> {
    check(&input.activity_arn)?;
    if states
        .activities
        .find(caller, &input.activity_arn)
        .is_some()
    {
        let deleted = states
            .activities
            .change(&input.activity_arn, |_| Ok((None, ())));
        deleted.await?;
    }
    Ok(DeleteActivityOutput {})
}

pub async fn describe(
    states: &States,
    caller: &Caller,
    input: DescribeActivityInput,
) -> Result<DescribeActivityOutput, Error> {
    let asked = &input.activity_arn;
    check(asked)?;
    let activity = states
        .activities
        .find(caller, asked)
        .ok_or_else(|| missing(asked))?;
    Ok(DescribeActivityOutput {
        activity_arn: activity.arn.clone(),
        name: activity.name.clone(),
        creation_date: activity.created,
        encryption_configuration: configuration::wire_encryption(activity.own_key),
    })
}

pub async fn list(
    states: &States,
    caller: &Caller,
    input: ListActivitiesInput,
) -> Result<ListActivitiesOutput, Error> {
    let wanted = Wanted {
        list: "activities",
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let activities = states.activities.list(caller);
    let (page, next_token) = wanted.page(activities, |activity| activity.name.clone())?;
    let items = page.into_iter().map(|activity| ActivityListItem {
        activity_arn: activity.arn.clone(),
        name: activity.name.clone(),
        creation_date: activity.created,
    });
    Ok(ListActivitiesOutput {
        activities: items.collect(),
        next_token,
    })
}

/// An ARN of an activity must have the form of one.
pub fn check(asked: &str) -> Result<(), Error> {
    let name = arn::resource(asked, &["activity"])?;
    match arn::is_name(name) {
        true => Ok(()),
        false => Err(arn::invalid(&format!("Invalid ARN format: {asked}"))),
    }
}

pub fn missing(asked: &str) -> Error {
    let text = format!("Activity Does Not Exist: '{asked}'");
    Error::refused(&error::ACTIVITY_DOES_NOT_EXIST, text)
}
