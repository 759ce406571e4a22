use model::application_autoscaling::{
    Alarm, CustomizedMetricSpecification, DeleteScalingPolicyInput, DeleteScalingPolicyOutput,
    DescribeScalingPoliciesInput, DescribeScalingPoliciesOutput, MetricDimension, MetricType,
    PolicyType, PredefinedMetricSpecification, PutScalingPolicyInput, PutScalingPolicyOutput,
    ScalableDimension, ScalingPolicy, ServiceNamespace, TargetTrackingMetric,
    TargetTrackingMetricDataQuery, TargetTrackingMetricDimension, TargetTrackingMetricStat,
    TargetTrackingScalingPolicyConfiguration,
};
use protocol::Caller;
use uuid::Uuid;

use super::among;
use super::targets::of_dimension;
use crate::policy::{Metric, Policy, Query, Stat, Tracking};
use crate::target::{MAX_POLICIES, Target, TargetId, check_namespace};
use crate::tick::alarm_names;
use crate::token::page;
use crate::{Autoscaling, Error};

pub async fn put(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: PutScalingPolicyInput,
) -> Result<PutScalingPolicyOutput, Error> {
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
                Error::NotFound(format!(
                    "No scalable target registered for {}",
                    id.described()
                ))
            })?;
            let name = &input.policy_name;
            let before = target.policies.get(name).cloned();
            if before.is_none() && target.policies.len() >= MAX_POLICIES {
                return Err(Error::LimitExceeded(format!(
                    "A scalable target has at most {MAX_POLICIES} scaling policies"
                )));
            }
            let policy = Policy {
                uuid: before
                    .as_ref()
                    .map_or_else(Uuid::new_v4, |policy| policy.uuid),
                created: before.as_ref().map_or(now, |policy| policy.created),
                alarms: before
                    .as_ref()
                    .map_or_else(|| [Uuid::new_v4(), Uuid::new_v4()], |policy| policy.alarms),
                tracking: tracking(&input, before.as_ref())?,
                at_limit: false,
            };
            let output = PutScalingPolicyOutput {
                policy_arn: arn(&target, name, &policy),
                alarms: Some(alarms(&target, &policy)),
            };
            target.policies.insert(name.clone(), policy);
            Ok((Some(target), output))
        })
        .await
}

/// Only target tracking is served. A request that names no type changes a policy that exists.
fn tracking(input: &PutScalingPolicyInput, before: Option<&Policy>) -> Result<Tracking, Error> {
    if input.step_scaling_policy_configuration.is_some() {
        return Err(Error::NotSupported("StepScaling"));
    }
    if input.predictive_scaling_policy_configuration.is_some() {
        return Err(Error::NotSupported("PredictiveScaling"));
    }
    match (&input.policy_type, before) {
        (Some(PolicyType::TargetTrackingScaling), _) | (None, Some(_)) => {}
        (Some(PolicyType::PredictiveScaling), _) => {
            return Err(Error::NotSupported("PredictiveScaling"));
        }
        // Without a type a new policy is one for steps.
        _ => return Err(Error::NotSupported("StepScaling")),
    }
    match (&input.target_tracking_scaling_policy_configuration, before) {
        (Some(configuration), _) => read(configuration),
        (None, Some(policy)) => Ok(policy.tracking.clone()),
        (None, None) => Err(Error::Validation(
            "TargetTrackingScalingPolicyConfiguration is required for a policy of type \
             TargetTrackingScaling"
                .to_owned(),
        )),
    }
}

fn read(configuration: &TargetTrackingScalingPolicyConfiguration) -> Result<Tracking, Error> {
    let invalid = |text: &str| Err(Error::Validation(text.to_owned()));
    let metric = match (
        &configuration.predefined_metric_specification,
        &configuration.customized_metric_specification,
    ) {
        (Some(predefined), None) => predefined_metric(predefined)?,
        (None, Some(custom)) => custom_metric(custom)?,
        _ => {
            return invalid(
                "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification \
                 must be given",
            );
        }
    };
    let target = configuration.target_value;
    if !target.is_finite() || target <= 0.0 {
        return invalid("TargetValue must be greater than 0");
    }
    if matches!(metric, Metric::Utilization { .. }) && !(0.1..=0.9).contains(&target) {
        return invalid(
            "TargetValue for LambdaProvisionedConcurrencyUtilization must be between 0.1 and 0.9",
        );
    }
    let cooldown = |seconds: Option<i32>| {
        let read = |seconds| {
            u32::try_from(seconds)
                .ok()
                .filter(|seconds| *seconds <= 3_600)
        };
        match seconds {
            None => Ok(None),
            Some(seconds) => read(seconds).map(Some).ok_or_else(|| {
                Error::Validation("A cooldown must be between 0 and 3600 seconds".to_owned())
            }),
        }
    };
    Ok(Tracking {
        target,
        metric,
        scale_out_cooldown: cooldown(configuration.scale_out_cooldown)?,
        scale_in_cooldown: cooldown(configuration.scale_in_cooldown)?,
        disable_scale_in: configuration.disable_scale_in,
    })
}

fn predefined_metric(specification: &PredefinedMetricSpecification) -> Result<Metric, Error> {
    let kind = &specification.predefined_metric_type;
    if *kind != MetricType::LambdaProvisionedConcurrencyUtilization {
        return Err(Error::Validation(format!(
            "The predefined metric {kind} does not go with \
             lambda:function:ProvisionedConcurrency"
        )));
    }
    Ok(Metric::Utilization {
        label: specification.resource_label.clone(),
    })
}

fn custom_metric(specification: &CustomizedMetricSpecification) -> Result<Metric, Error> {
    if let Some(queries) = &specification.metrics {
        let returning = queries
            .iter()
            .filter(|query| query.return_data != Some(false))
            .count();
        if returning != 1 {
            return Err(Error::Validation(
                "Exactly one of the Metrics must return data".to_owned(),
            ));
        }
        return Ok(Metric::Math(queries.iter().map(query).collect()));
    }
    let (Some(name), Some(namespace), Some(statistic)) = (
        &specification.metric_name,
        &specification.namespace,
        &specification.statistic,
    ) else {
        return Err(Error::Validation(
            "MetricName, Namespace and Statistic are required for a customized metric".to_owned(),
        ));
    };
    let dimensions = specification.dimensions.iter().flatten();
    Ok(Metric::Custom {
        namespace: namespace.clone(),
        name: name.clone(),
        dimensions: dimensions
            .map(|each| (each.name.clone(), each.value.clone()))
            .collect(),
        statistic: statistic.as_str().to_owned(),
        unit: specification.unit.clone(),
    })
}

fn query(wire: &TargetTrackingMetricDataQuery) -> Query {
    let stat = |stat: &TargetTrackingMetricStat| Stat {
        namespace: stat.metric.namespace.clone(),
        name: stat.metric.metric_name.clone(),
        dimensions: stat.metric.dimensions.as_ref().map(|all| {
            all.iter()
                .map(|each| (each.name.clone(), each.value.clone()))
                .collect()
        }),
        stat: stat.stat.clone(),
        unit: stat.unit.clone(),
    };
    Query {
        id: wire.id.clone(),
        expression: wire.expression.clone(),
        label: wire.label.clone(),
        stat: wire.metric_stat.as_ref().map(stat),
        return_data: wire.return_data,
    }
}

pub async fn delete(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DeleteScalingPolicyInput,
) -> Result<DeleteScalingPolicyOutput, Error> {
    let id = TargetId::read(
        caller,
        &input.service_namespace,
        &input.scalable_dimension,
        &input.resource_id,
    )?;
    let name = &input.policy_name;
    autoscaling
        .change(&id, |target| {
            let mut target = target.cloned();
            let removed = target
                .as_mut()
                .and_then(|target| target.policies.remove(name));
            match removed {
                Some(_) => Ok((target, ())),
                None => Err(Error::NotFound(format!(
                    "No scaling policy found for {}, policy name: {name}",
                    id.described()
                ))),
            }
        })
        .await?;
    Ok(DeleteScalingPolicyOutput {})
}

pub async fn describe(
    autoscaling: &Autoscaling,
    caller: &Caller,
    input: DescribeScalingPoliciesInput,
) -> Result<DescribeScalingPoliciesOutput, Error> {
    check_namespace(&input.service_namespace)?;
    let targets = autoscaling.targets();
    let policies = targets
        .iter()
        .filter(|target| {
            target.id.belongs_to(caller)
                && (input.resource_id.as_ref())
                    .is_none_or(|wanted| *wanted == target.id.resource_id())
                && of_dimension(input.scalable_dimension.as_ref())
        })
        .flat_map(|target| target.policies.iter().map(move |policy| (target, policy)))
        .filter(|(target, (name, policy))| {
            // A policy may be meant by its ARN, too.
            among(input.policy_names.as_ref(), name)
                || among(input.policy_names.as_ref(), &arn(target, name, policy))
        });
    let (found, next_token) = page(
        policies,
        |(target, (name, _))| format!("{}\0{name}", target.id),
        input.max_results,
        input.next_token.as_deref(),
    )?;
    let shown = found
        .into_iter()
        .map(|(target, (name, policy))| shown(target, name, policy));
    Ok(DescribeScalingPoliciesOutput {
        scaling_policies: Some(shown.collect()),
        next_token,
    })
}

fn arn(target: &Target, name: &str, policy: &Policy) -> String {
    let tail = format!("policyName/{name}");
    target.id.arn_of("scalingPolicy", policy.uuid, &tail)
}

fn alarms(target: &Target, policy: &Policy) -> Vec<Alarm> {
    alarm_names(&target.id, &policy.alarms)
        .into_iter()
        .map(|alarm_name| Alarm {
            alarm_arn: target.id.alarm_arn(&alarm_name),
            alarm_name,
        })
        .collect()
}

fn shown(target: &Target, name: &str, policy: &Policy) -> ScalingPolicy {
    let tracking = &policy.tracking;
    let (predefined, custom) = metric(&tracking.metric);
    let seconds = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    ScalingPolicy {
        policy_arn: arn(target, name, policy),
        policy_name: name.to_owned(),
        service_namespace: ServiceNamespace::Lambda,
        resource_id: target.id.resource_id(),
        scalable_dimension: ScalableDimension::LambdaFunctionProvisionedConcurrency,
        policy_type: PolicyType::TargetTrackingScaling,
        step_scaling_policy_configuration: None,
        target_tracking_scaling_policy_configuration: Some(
            TargetTrackingScalingPolicyConfiguration {
                target_value: tracking.target,
                predefined_metric_specification: predefined,
                customized_metric_specification: custom,
                scale_out_cooldown: seconds(tracking.scale_out_cooldown),
                scale_in_cooldown: seconds(tracking.scale_in_cooldown),
                disable_scale_in: tracking.disable_scale_in,
            },
        ),
        predictive_scaling_policy_configuration: None,
        alarms: Some(alarms(target, policy)),
        creation_time: policy.created,
    }
}

fn metric(
    metric: &Metric,
) -> (
    Option<PredefinedMetricSpecification>,
    Option<CustomizedMetricSpecification>,
) {
    match metric {
        Metric::Utilization { label } => {
            let specification = PredefinedMetricSpecification {
                predefined_metric_type: MetricType::LambdaProvisionedConcurrencyUtilization,
                resource_label: label.clone(),
            };
            (Some(specification), None)
        }
        Metric::Custom {
            namespace,
            name,
            dimensions,
            statistic,
            unit,
        } => {
            let dimension = |(name, value): &(String, String)| MetricDimension {
                name: name.clone(),
                value: value.clone(),
            };
            let specification = CustomizedMetricSpecification {
                metric_name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                dimensions: Some(dimensions.iter().map(dimension).collect()),
                statistic: Some(statistic.as_str().into()),
                unit: unit.clone(),
                metrics: None,
            };
            (None, Some(specification))
        }
        Metric::Math(queries) => {
            let specification = CustomizedMetricSpecification {
                metrics: Some(queries.iter().map(wire_query).collect()),
                ..CustomizedMetricSpecification::default()
            };
            (None, Some(specification))
        }
    }
}

fn wire_query(query: &Query) -> TargetTrackingMetricDataQuery {
    let dimension = |(name, value): &(String, String)| TargetTrackingMetricDimension {
        name: name.clone(),
        value: value.clone(),
    };
    TargetTrackingMetricDataQuery {
        expression: query.expression.clone(),
        id: query.id.clone(),
        label: query.label.clone(),
        metric_stat: query.stat.as_ref().map(|stat| TargetTrackingMetricStat {
            metric: TargetTrackingMetric {
                dimensions: stat
                    .dimensions
                    .as_ref()
                    .map(|all| all.iter().map(dimension).collect()),
                metric_name: stat.name.clone(),
                namespace: stat.namespace.clone(),
            },
            stat: stat.stat.clone(),
            unit: stat.unit.clone(),
        }),
        return_data: query.return_data,
    }
}
