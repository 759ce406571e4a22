use model::application_autoscaling::{
    DeregisterScalableTargetInput, DeregisterScalableTargetOutput, DescribeScalableTargetsInput,
    DescribeScalableTargetsOutput, RegisterScalableTargetInput, RegisterScalableTargetOutput,
    ScalableDimension, ScalableTarget, ServiceNamespace, SuspendedState,
};
use model::lambda::error::RESOURCE_NOT_FOUND;
use protocol::Caller;
use uuid::Uuid;

use super::{among, capacity};
use crate::target::{Limits, Suspended, Target, TargetId, check_namespace};
use crate::token::page;
use crate::{Autoscaling, Error};

/// As AWS has it per region.
const MAX_TARGETS: usize = 5_000;

pub async fn register(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: RegisterScalableTargetInput,
) -> Result<RegisterScalableTargetOutput, Error> {
    let id = TargetId::read(
        caller,
        &input.service_namespace,
        &input.scalable_dimension,
        &input.resource_id,
    )?;
    let known = autoscaling.target(&id).is_some();
    if !known {
        check_exists(autoscaling, caller, &id).await?;
    }
    super::tags::check(input.tags.as_ref())?;
    let min = input
        .min_capacity
        .map(|min| capacity(min, "Minimum"))
        .transpose()?;
    let max = input
        .max_capacity
        .map(|max| capacity(max, "Maximum"))
        .transpose()?;
    let now = autoscaling.clock().now();
    let others = autoscaling.targets();
    let others = others
        .iter()
        .filter(|target| target.id.belongs_to(caller))
        .count();
    let arn = autoscaling
        .change(&id, |target| {
            let mut target = match (target, min, max) {
                (Some(target), ..) => target.clone(),
                (None, Some(min), Some(max)) => Target {
                    id: id.clone(),
                    uuid: Uuid::new_v4(),
                    limits: Limits { min, max },
                    role_arn: id.default_role(),
                    created: now,
                    suspended: Suspended::default(),
                    tags: input.tags.clone().unwrap_or_default(),
                    policies: Default::default(),
                    actions: Default::default(),
                    adjusting: false,
                    scaled_out: None,
                    scaled_in: None,
                },
                (None, ..) => {
                    return Err(Error::Validation(
                        "MinCapacity and MaxCapacity are required to register a scalable target"
                            .to_owned(),
                    ));
                }
            };
            if !known && others >= MAX_TARGETS {
                return Err(Error::LimitExceeded(format!(
                    "The account has reached its limit of {MAX_TARGETS} scalable targets"
                )));
            }
            target.limits = Limits {
                min: min.unwrap_or(target.limits.min),
                max: max.unwrap_or(target.limits.max),
            };
            if target.limits.max < target.limits.min {
                return Err(Error::Validation(
                    "Maximum capacity cannot be less than minimum capacity".to_owned(),
                ));
            }
            if let Some(state) = &input.suspended_state {
                let was = target.suspended;
                target.suspended = Suspended {
                    scale_in: state.dynamic_scaling_in_suspended.unwrap_or(was.scale_in),
                    scale_out: state.dynamic_scaling_out_suspended.unwrap_or(was.scale_out),
                    schedules: state.scheduled_scaling_suspended.unwrap_or(was.schedules),
                };
            }
            let arn = target.arn();
            Ok((Some(target), arn))
        })
        .await?;
    Ok(RegisterScalableTargetOutput {
        scalable_target_arn: Some(arn),
    })
}

/// A function that does not exist cannot be scaled; one without provisioned concurrency can.
async fn check_exists(
    autoscaling: &Autoscaling,
    caller: &Caller,
    id: &TargetId,
) -> Result<(), Error> {
    match crate::capacity::current(autoscaling.router(), caller, id).await {
        Ok(_) => Ok(()),
        Err(err) if err.shape(None) == &RESOURCE_NOT_FOUND => {
            Err(Error::Validation(err.message().to_owned()))
        }
        Err(source) => Err(Error::Peer {
            action: "look at the function",
            source,
        }),
    }
}

/// The policies and scheduled actions of the target go with it; its capacity stays as it is.
pub async fn deregister(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DeregisterScalableTargetInput,
) -> Result<DeregisterScalableTargetOutput, Error> {
    let id = TargetId::read(
        caller,
        &input.service_namespace,
        &input.scalable_dimension,
        &input.resource_id,
    )?;
    autoscaling
        .change(&id, |target| match target {
            Some(_) => Ok((None, ())),
            None => Err(Error::NotFound(format!(
                "No scalable target found for {}",
                id.described()
            ))),
        })
        .await?;
    Ok(DeregisterScalableTargetOutput {})
}

pub async fn describe(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DescribeScalableTargetsInput,
) -> Result<DescribeScalableTargetsOutput, Error> {
    check_namespace(&input.service_namespace)?;
    let targets = autoscaling.targets().into_iter().filter(|target| {
        target.id.belongs_to(caller)
            && among(input.resource_ids.as_ref(), &target.id.resource_id())
            && of_dimension(input.scalable_dimension.as_ref())
    });
    let (found, next_token) = page(
        targets,
        |target| target.id.to_string(),
        input.max_results,
        input.next_token.as_deref(),
    )?;
    Ok(DescribeScalableTargetsOutput {
        scalable_targets: Some(found.iter().map(|target| shown(target)).collect()),
        next_token,
    })
}

/// There is one dimension here; a filter for another lets nothing through.
pub(super) fn of_dimension(filter: Option<&ScalableDimension>) -> bool {
    filter.is_none_or(|wanted| *wanted == ScalableDimension::LambdaFunctionProvisionedConcurrency)
}

fn shown(target: &Target) -> ScalableTarget {
    let capacity = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    ScalableTarget {
        service_namespace: ServiceNamespace::Lambda,
        resource_id: target.id.resource_id(),
        scalable_dimension: ScalableDimension::LambdaFunctionProvisionedConcurrency,
        min_capacity: capacity(target.limits.min),
        max_capacity: capacity(target.limits.max),
        predicted_capacity: None,
        role_arn: target.role_arn.clone(),
        creation_time: target.created,
        suspended_state: Some(SuspendedState {
            dynamic_scaling_in_suspended: Some(target.suspended.scale_in),
            dynamic_scaling_out_suspended: Some(target.suspended.scale_out),
            scheduled_scaling_suspended: Some(target.suspended.schedules),
        }),
        scalable_target_arn: Some(target.arn()),
    }
}
