use model::application_autoscaling::{
    DescribeScalingActivitiesInput, DescribeScalingActivitiesOutput, NotScaledReason,
    ScalableDimension, ScalingActivity, ScalingActivityStatusCode, ServiceNamespace,
};
use protocol::Caller;

use super::targets::of_dimension;
use crate::activity::{Activity, Status};
use crate::target::check_namespace;
use crate::token::page;
use crate::{Autoscaling, Error};

/// Newest first.
pub async fn describe(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DescribeScalingActivitiesInput,
) -> Result<DescribeScalingActivitiesOutput, Error> {
    check_namespace(&input.service_namespace)?;
    let with_not_scaled = input.include_not_scaled_activities == Some(true);
    let wanted = |activity: &Activity| {
        activity.target.belongs_to(caller)
            && (input.resource_id.as_ref())
                .is_none_or(|wanted| *wanted == activity.target.resource_id())
            && of_dimension(input.scalable_dimension.as_ref())
            && (with_not_scaled || activity.not_scaled.is_none())
    };
    let activities = autoscaling.activities();
    let found = activities.iter().filter(|activity| wanted(activity));
    let (found, next_token) = page(
        found,
        // Tokens are ordered the other way round than time.
        |activity| {
            format!(
                "{:020}/{}",
                i64::MAX - activity.start.as_micros(),
                activity.id
            )
        },
        input.max_results,
        input.next_token.as_deref(),
    )?;
    Ok(DescribeScalingActivitiesOutput {
        scaling_activities: Some(found.into_iter().map(|activity| shown(activity)).collect()),
        next_token,
    })
}

fn shown(activity: &Activity) -> ScalingActivity {
    let capacity = |value: u32| Some(i32::try_from(value).unwrap_or(i32::MAX));
    ScalingActivity {
        activity_id: activity.id.to_string(),
        service_namespace: ServiceNamespace::Lambda,
        resource_id: activity.target.resource_id(),
        scalable_dimension: ScalableDimension::LambdaFunctionProvisionedConcurrency,
        description: activity.description.clone(),
        cause: activity.cause.clone(),
        start_time: activity.start,
        end_time: Some(activity.end),
        status_code: match activity.status {
            Status::Successful => ScalingActivityStatusCode::Successful,
            Status::Failed => ScalingActivityStatusCode::Failed,
            Status::Unfulfilled => ScalingActivityStatusCode::Unfulfilled,
        },
        status_message: Some(activity.message.clone()),
        details: None,
        not_scaled_reasons: activity.not_scaled.as_ref().map(|reason| {
            let limit = |code: &str| capacity(reason.limit).filter(|_| reason.code == code);
            vec![NotScaledReason {
                code: reason.code.clone(),
                max_capacity: limit("AlreadyAtMaxCapacity"),
                min_capacity: limit("AlreadyAtMinCapacity"),
                current_capacity: capacity(reason.current),
            }]
        }),
    }
}
