use model::application_autoscaling::{
    DeleteScheduledActionInput, DeleteScheduledActionOutput, DescribeScheduledActionsInput,
    DescribeScheduledActionsOutput, PutScheduledActionInput, PutScheduledActionOutput,
    ScalableDimension, ScalableTargetAction, ScheduledAction, ServiceNamespace,
};
use protocol::Caller;
use uuid::Uuid;

use super::targets::of_dimension;
use super::{among, capacity};
use crate::schedule::Schedule;
use crate::target::{Action, MAX_ACTIONS, Target, TargetId, check_namespace};
use crate::token::page;
use crate::{Autoscaling, Error};

pub async fn put(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: PutScheduledActionInput,
) -> Result<PutScheduledActionOutput, Error> {
    let id = TargetId::read(
        caller,
        &input.service_namespace,
        &input.scalable_dimension,
        &input.resource_id,
    )?;
    let now = autoscaling.clock().now();
    autoscaling
        .change(&id, |target| {
            let mut target = target.cloned().ok_or_else(|| {
                Error::NotFound(format!("No scalable target found for {}", id.described()))
            })?;
            let name = &input.scheduled_action_name;
            let before = target.actions.get(name);
            if before.is_none() && target.actions.len() >= MAX_ACTIONS {
                return Err(Error::LimitExceeded(format!(
                    "A scalable target has at most {MAX_ACTIONS} scheduled actions"
                )));
            }
            let mut action = changed(before, &input, now)?;
            action.next = action.next_after(now);
            target.actions.insert(name.clone(), action);
            Ok((Some(target), ()))
        })
        .await?;
    Ok(PutScheduledActionOutput {})
}

/// A new action, or an existing one with what the request names.
fn changed(
    before: Option<&Action>,
    input: &PutScheduledActionInput,
    now: clock::Timestamp,
) -> Result<Action, Error> {
    let invalid = |err: crate::schedule::ScheduleError| Error::Validation(err.to_string());
    let timezone = input.timezone.as_deref();
    let schedule = match (&input.schedule, before) {
        (Some(text), before) => {
            let former = before.and_then(|action| action.schedule.timezone());
            Schedule::new(text, timezone.or(former)).map_err(invalid)?
        }
        (None, Some(action)) => {
            let former = action.schedule.timezone();
            Schedule::new(action.schedule.text(), timezone.or(former)).map_err(invalid)?
        }
        (None, None) => {
            return Err(Error::Validation(
                "Schedule is required for a new scheduled action".to_owned(),
            ));
        }
    };
    let limits = input.scalable_target_action.as_ref();
    let read = |value: Option<i32>, what| value.map(|value| capacity(value, what)).transpose();
    let min = read(limits.and_then(|limits| limits.min_capacity), "Minimum")?;
    let max = read(limits.and_then(|limits| limits.max_capacity), "Maximum")?;
    let (min, max) = match (limits, before) {
        (None, Some(action)) => (action.min, action.max),
        _ => (min, max),
    };
    match (min, max) {
        (None, None) => {
            return Err(Error::Validation(
                "ScalableTargetAction must have a MinCapacity or a MaxCapacity".to_owned(),
            ));
        }
        (Some(min), Some(max)) if max < min => {
            return Err(Error::Validation(
                "Maximum capacity cannot be less than minimum capacity".to_owned(),
            ));
        }
        _ => {}
    }
    let start = input.start_time.or(before.and_then(|action| action.start));
    let end = input.end_time.or(before.and_then(|action| action.end));
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        return Err(Error::Validation(
            "EndTime must be after StartTime".to_owned(),
        ));
    }
    Ok(Action {
        uuid: before.map_or_else(Uuid::new_v4, |action| action.uuid),
        schedule,
        start,
        end,
        min,
        max,
        created: before.map_or(now, |action| action.created),
        next: None,
    })
}

pub async fn delete(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DeleteScheduledActionInput,
) -> Result<DeleteScheduledActionOutput, Error> {
    let id = TargetId::read(
        caller,
        &input.service_namespace,
        &input.scalable_dimension,
        &input.resource_id,
    )?;
    let name = &input.scheduled_action_name;
    autoscaling
        .change(&id, |target| {
            let mut target = target.cloned();
            let removed = target
                .as_mut()
                .and_then(|target| target.actions.remove(name));
            match removed {
                Some(_) => Ok((target, ())),
                None => Err(Error::NotFound(format!(
                    "No scheduled action found for {}, scheduled action name: {name}",
                    id.described()
                ))),
            }
        })
        .await?;
    Ok(DeleteScheduledActionOutput {})
}

pub async fn describe(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DescribeScheduledActionsInput,
) -> Result<DescribeScheduledActionsOutput, Error> {
    check_namespace(&input.service_namespace)?;
    let targets = autoscaling.targets();
    let actions = targets
        .iter()
        .filter(|target| {
            target.id.belongs_to(caller)
                && (input.resource_id.as_ref())
                    .is_none_or(|wanted| *wanted == target.id.resource_id())
                && of_dimension(input.scalable_dimension.as_ref())
        })
        .flat_map(|target| target.actions.iter().map(move |action| (target, action)))
        .filter(|(_, (name, _))| among(input.scheduled_action_names.as_ref(), name));
    let (found, next_token) = page(
        actions,
        |(target, (name, _))| format!("{}\0{name}", target.id),
        input.max_results,
        input.next_token.as_deref(),
    )?;
    let shown = found
        .into_iter()
        .map(|(target, (name, action))| shown(target, name, action));
    Ok(DescribeScheduledActionsOutput {
        scheduled_actions: Some(shown.collect()),
        next_token,
    })
}

fn shown(target: &Target, name: &str, action: &Action) -> ScheduledAction {
    let capacity = |value: Option<u32>| value.map(|value| i32::try_from(value).unwrap_or(i32::MAX));
    let arn_tail = format!("scheduledActionName/{name}");
    ScheduledAction {
        scheduled_action_name: name.to_owned(),
        scheduled_action_arn: target.id.arn_of("scheduledAction", action.uuid, &arn_tail),
        service_namespace: ServiceNamespace::Lambda,
        schedule: action.schedule.text().to_owned(),
        timezone: action.schedule.timezone().map(str::to_owned),
        resource_id: target.id.resource_id(),
        scalable_dimension: Some(ScalableDimension::LambdaFunctionProvisionedConcurrency),
        start_time: action.start,
        end_time: action.end,
        scalable_target_action: Some(ScalableTargetAction {
            min_capacity: capacity(action.min),
            max_capacity: capacity(action.max),
        }),
        creation_time: action.created,
    }
}
