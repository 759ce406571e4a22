//! Scaling over days, on a clock of the test's own: with a Lambda that only keeps numbers, and the
//! real CloudWatch.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autoscaling::Autoscaling;
use clock::{Clock, Timestamp};
use cloudwatch::{Aggregate, CloudWatch, Datum, MetricKey, Unit};
use model::application_autoscaling::{
    CustomizedMetricSpecification, DeleteScalingPolicyInput, DeleteScheduledActionInput,
    DeregisterScalableTargetInput, DescribeScalableTargetsInput, DescribeScalingActivitiesInput,
    DescribeScalingPoliciesInput, DescribeScheduledActionsInput, ListTagsForResourceInput,
    MetricType, PolicyType, PredefinedMetricSpecification, PutScalingPolicyInput,
    PutScheduledActionInput, RegisterScalableTargetInput, ScalableDimension, ScalableTargetAction,
    ScalingActivity, ServiceNamespace, SuspendedState, TagResourceInput,
    TargetTrackingScalingPolicyConfiguration, UntagResourceInput,
};
use model::lambda::{
    DeleteProvisionedConcurrencyConfigInput, DeleteProvisionedConcurrencyConfigOutput,
    GetProvisionedConcurrencyConfigInput, GetProvisionedConcurrencyConfigOutput,
    PutProvisionedConcurrencyConfigInput, PutProvisionedConcurrencyConfigOutput, error,
};
use model::{AccountId, Operation, OperationInput};
use protocol::{ApiError, Caller, Principal, Router, RouterHandle, operations};
use store::Store;

/// Provisioned concurrency as numbers, by function and qualifier.
#[derive(Default)]
struct Numbers {
    provisioned: Mutex<BTreeMap<String, i32>>,
    /// Refuses all changes.
    broken: Mutex<bool>,
}

operations! { Numbers:
    "DeleteProvisionedConcurrencyConfig" => delete,
    "GetProvisionedConcurrencyConfig" => get,
    "PutProvisionedConcurrencyConfig" => put,
}

async fn get(
    numbers: &Numbers,
    _: &Caller,
    input: GetProvisionedConcurrencyConfigInput,
) -> Result<GetProvisionedConcurrencyConfigOutput, ApiError> {
    if input.function_name == "missing" {
        return Err(ApiError::new(
            &error::RESOURCE_NOT_FOUND,
            "Function not found",
        ));
    }
    let key = format!("{}:{}", input.function_name, input.qualifier);
    match numbers.provisioned.lock().unwrap().get(&key) {
        Some(count) => Ok(GetProvisionedConcurrencyConfigOutput {
            requested_provisioned_concurrent_executions: Some(*count),
            ..Default::default()
        }),
        None => Err(ApiError::new(
            &error::PROVISIONED_CONCURRENCY_CONFIG_NOT_FOUND,
            "No Provisioned Concurrency Config found for this function",
        )),
    }
}

async fn put(
    numbers: &Numbers,
    caller: &Caller,
    input: PutProvisionedConcurrencyConfigInput,
) -> Result<PutProvisionedConcurrencyConfigOutput, ApiError> {
    assert!(
        caller
            .principal
            .arn
            .contains("AWSServiceRoleForApplicationAutoScaling")
    );
    if *numbers.broken.lock().unwrap() {
        return Err(ApiError::new(&error::TOO_MANY_REQUESTS, "not now"));
    }
    let key = format!("{}:{}", input.function_name, input.qualifier);
    let count = input.provisioned_concurrent_executions;
    numbers.provisioned.lock().unwrap().insert(key, count);
    Ok(Default::default())
}

async fn delete(
    numbers: &Numbers,
    _: &Caller,
    input: DeleteProvisionedConcurrencyConfigInput,
) -> Result<DeleteProvisionedConcurrencyConfigOutput, ApiError> {
    let key = format!("{}:{}", input.function_name, input.qualifier);
    numbers.provisioned.lock().unwrap().remove(&key);
    Ok(Default::default())
}

const RESOURCE: &str = "function:shop:live";
const DIMENSION: ScalableDimension = ScalableDimension::LambdaFunctionProvisionedConcurrency;
const LAMBDA: ServiceNamespace = ServiceNamespace::Lambda;

struct World {
    directory: tempfile::TempDir,
    clock: Clock,
    numbers: Arc<Numbers>,
    parts: Option<(Arc<Autoscaling>, Arc<CloudWatch>, Arc<Router>)>,
}

impl World {
    /// A Monday, just after midnight.
    fn new() -> Self {
        let start: Timestamp = "2026-06-01T00:00:03Z".parse().unwrap();
        let mut world = Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Clock::manual(start),
            numbers: Arc::default(),
            parts: None,
        };
        world.open();
        world
    }

    async fn restart(&mut self) {
        let former = self
            .parts
            .take()
            .map(|(_, former, _)| Arc::downgrade(&former));
        // Its background work may be in the middle of something.
        while former
            .as_ref()
            .is_some_and(|former| former.strong_count() > 0)
        {
            tokio::task::yield_now().await;
        }
        self.open();
    }

    fn open(&mut self) {
        let store = Store::open(self.directory.path(), self.clock.clone()).unwrap();
        let config = cloudwatch::Config::default();
        let cloudwatch = CloudWatch::open(&config, &store, self.clock.clone()).unwrap();
        let handle = RouterHandle::default();
        let autoscaling = Autoscaling::open(&store, self.clock.clone(), handle.clone()).unwrap();
        let router = Arc::new(
            Router::builder()
                .service(Arc::clone(&self.numbers))
                .service(Arc::clone(&cloudwatch))
                .service(Arc::clone(&autoscaling))
                .build(),
        );
        handle.set(&router);
        self.parts = Some((autoscaling, cloudwatch, router));
    }

    fn caller() -> Caller {
        let account = AccountId::DEVELOPMENT;
        let region = "eu-west-1".parse().unwrap();
        Caller {
            principal: Principal::root(account, &region),
            account,
            region,
            access_key: None,
            request_id: "r".into(),
        }
    }

    async fn call<I>(&self, input: I) -> Result<<I::Operation as Operation>::Output, ApiError>
    where
        I: OperationInput,
    {
        let (_, _, router) = self.parts.as_ref().unwrap();
        router.call::<I::Operation>(&Self::caller(), input).await
    }

    async fn register(&self, min: i32, max: i32) {
        self.call(RegisterScalableTargetInput {
            service_namespace: LAMBDA,
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
            min_capacity: Some(min),
            max_capacity: Some(max),
            ..Default::default()
        })
        .await
        .unwrap();
    }

    fn policy(configuration: TargetTrackingScalingPolicyConfiguration) -> PutScalingPolicyInput {
        PutScalingPolicyInput {
            policy_name: "keep".into(),
            service_namespace: LAMBDA,
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
            policy_type: Some(PolicyType::TargetTrackingScaling),
            target_tracking_scaling_policy_configuration: Some(configuration),
            ..Default::default()
        }
    }

    async fn schedule(&self, name: &str, schedule: &str, min: i32, max: i32) {
        self.call(PutScheduledActionInput {
            service_namespace: LAMBDA,
            schedule: Some(schedule.into()),
            timezone: Some("Europe/Berlin".into()),
            scheduled_action_name: name.into(),
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
            scalable_target_action: Some(ScalableTargetAction {
                min_capacity: Some(min),
                max_capacity: Some(max),
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    }

    /// Lets a minute pass in which `running` environments were busy.
    async fn minute(&self, running: Option<f64>) {
        let (autoscaling, cloudwatch, _) = self.parts.as_ref().unwrap();
        if let Some(running) = running {
            let dimensions = [("FunctionName", "shop"), ("Resource", "shop:live")];
            let dimensions = dimensions.map(|(name, value)| (name.into(), value.into()));
            let provisioned = f64::from(self.provisioned().unwrap_or(1));
            let datum = Datum {
                metric: MetricKey::new(
                    "AWS/Lambda",
                    "ProvisionedConcurrencyUtilization",
                    dimensions.to_vec(),
                ),
                unit: Unit::NONE,
                at: self.clock.now(),
                high_resolution: false,
                values: Aggregate::of((running / provisioned).min(1.0)),
            };
            let caller = Self::caller();
            cloudwatch.ingest(caller.account, &caller.region, vec![datum]);
        }
        self.clock.advance(Duration::from_secs(60));
        autoscaling.tick().await;
    }

    fn provisioned(&self) -> Option<i32> {
        self.numbers
            .provisioned
            .lock()
            .unwrap()
            .get("shop:live")
            .copied()
    }

    async fn activities(&self, with_not_scaled: bool) -> Vec<ScalingActivity> {
        self.call(DescribeScalingActivitiesInput {
            service_namespace: LAMBDA,
            include_not_scaled_activities: Some(with_not_scaled),
            ..Default::default()
        })
        .await
        .unwrap()
        .scaling_activities
        .unwrap()
    }
}

fn utilization(target: f64) -> TargetTrackingScalingPolicyConfiguration {
    TargetTrackingScalingPolicyConfiguration {
        target_value: target,
        predefined_metric_specification: Some(PredefinedMetricSpecification {
            predefined_metric_type: MetricType::LambdaProvisionedConcurrencyUtilization,
            resource_label: None,
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_day_of_load_is_followed() {
    let world = World::new();
    world.register(2, 40).await;
    world.call(World::policy(utilization(0.7))).await.unwrap();
    // Nothing is provisioned yet, which is below the limits.
    world.minute(None).await;
    assert_eq!(world.provisioned(), Some(2));

    let mut most = 0;
    for minute in 0..24 * 60 {
        // Quiet at night, 20 at noon.
        let busy = (f64::from(minute) / 1440.0 * std::f64::consts::PI).sin() * 20.0;
        world.minute(Some(busy)).await;
        most = most.max(world.provisioned().unwrap());
    }
    assert!((28..=40).contains(&most), "{most}");
    assert!(
        world.provisioned().unwrap() <= 4,
        "{:?}",
        world.provisioned()
    );
    let activities = world.activities(false).await;
    let latest = &activities[0];
    assert!(latest.cause.contains("AlarmLow") && latest.cause.ends_with("triggered policy keep"));
    assert!(
        latest
            .description
            .starts_with("Setting desired capacity to ")
    );
    assert_eq!(latest.status_code.as_str(), "Successful");
    assert!(activities.is_sorted_by_key(|activity| std::cmp::Reverse(activity.start_time)));
}

#[tokio::test]
async fn three_minutes_add_and_fifteen_take_away() {
    let world = World::new();
    world.register(1, 10).await;
    world
        .numbers
        .provisioned
        .lock()
        .unwrap()
        .insert("shop:live".into(), 4);
    world.call(World::policy(utilization(0.5))).await.unwrap();
    for _ in 0..2 {
        world.minute(Some(4.0)).await;
        assert_eq!(world.provisioned(), Some(4));
    }
    world.minute(Some(4.0)).await;
    assert_eq!(world.provisioned(), Some(8));
    // The minutes before the change still count, and the limit is near.
    world.minute(Some(8.0)).await;
    assert_eq!(world.provisioned(), Some(10));
    for _ in 0..5 {
        world.minute(Some(10.0)).await;
    }
    let unfulfilled = world.activities(true).await;
    let reasons = unfulfilled[0].not_scaled_reasons.as_ref().unwrap();
    assert_eq!(reasons[0].code, "AlreadyAtMaxCapacity");
    assert_eq!(unfulfilled.len() - world.activities(false).await.len(), 1);
    for _ in 0..14 {
        world.minute(Some(1.0)).await;
        assert_eq!(world.provisioned(), Some(10));
    }
    world.minute(Some(1.0)).await;
    assert_eq!(world.provisioned(), Some(2));
    // Without invocations there are no values, and nothing happens.
    for _ in 0..60 {
        world.minute(None).await;
    }
    assert_eq!(world.provisioned(), Some(2));
}

#[tokio::test]
async fn cooldowns_and_suspension_hold_back() {
    let world = World::new();
    world.register(1, 100).await;
    world
        .numbers
        .provisioned
        .lock()
        .unwrap()
        .insert("shop:live".into(), 4);
    world
        .call(World::policy(TargetTrackingScalingPolicyConfiguration {
            scale_out_cooldown: Some(300),
            disable_scale_in: Some(true),
            ..utilization(0.5)
        }))
        .await
        .unwrap();
    let mut changes = Vec::new();
    for minute in 1..=9 {
        let before = world.provisioned();
        world.minute(Some(1_000.0)).await;
        if world.provisioned() != before {
            changes.push(minute);
        }
    }
    assert_eq!(changes, [3, 8]);
    let most = world.provisioned();
    for _ in 0..20 {
        world.minute(Some(0.0)).await;
    }
    assert_eq!(world.provisioned(), most);

    world
        .call(RegisterScalableTargetInput {
            service_namespace: LAMBDA,
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
            suspended_state: Some(SuspendedState {
                dynamic_scaling_out_suspended: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    for _ in 0..10 {
        world.minute(Some(1_000.0)).await;
    }
    assert_eq!(world.provisioned(), most);
}

#[tokio::test]
async fn schedules_move_the_limits_in_their_time_zone_and_across_restarts() {
    let mut world = World::new();
    world.register(1, 1).await;
    world
        .schedule("morning", "cron(0 8 ? * MON-FRI *)", 5, 20)
        .await;
    world.schedule("evening", "cron(30 18 * * ? *)", 0, 0).await;
    let mut seen = Vec::new();
    for minute in 0..24 * 60 {
        if minute == 600 {
            world.restart().await;
        }
        world.minute(None).await;
        if seen.last().map(|(_, count)| *count) != Some(world.provisioned()) {
            seen.push((world.clock.now().to_string(), world.provisioned()));
        }
    }
    let expected = [
        ("2026-06-01T00:01:03.000Z", None),
        // Berlin is two hours ahead in summer.
        ("2026-06-01T06:00:03.000Z", Some(5)),
        ("2026-06-01T16:30:03.000Z", None),
    ];
    assert_eq!(seen, expected.map(|(at, count)| (at.to_owned(), count)));
    let targets = world
        .call(DescribeScalableTargetsInput {
            service_namespace: LAMBDA,
            ..Default::default()
        })
        .await
        .unwrap()
        .scalable_targets
        .unwrap();
    assert_eq!((targets[0].min_capacity, targets[0].max_capacity), (0, 0));
    let activities = world.activities(false).await;
    assert_eq!(activities[0].description, "Setting desired capacity to 0.");
    assert_eq!(
        activities[1].cause,
        "scheduled action name evening was triggered"
    );
}

#[tokio::test]
async fn what_fails_is_recorded_and_tried_again() {
    let world = World::new();
    world.register(3, 9).await;
    world
        .schedule("once", "at(2026-06-01T02:05:00)", 4, 9)
        .await;
    *world.numbers.broken.lock().unwrap() = true;
    for _ in 0..10 {
        world.minute(None).await;
    }
    assert_eq!(world.provisioned(), None);
    let failed = &world.activities(false).await[0];
    assert_eq!(failed.status_code.as_str(), "Failed");
    assert!(failed.status_message.as_ref().unwrap().contains("not now"));
    *world.numbers.broken.lock().unwrap() = false;
    world.minute(None).await;
    assert_eq!(world.provisioned(), Some(4));
}

#[tokio::test]
async fn custom_metrics_can_be_tracked() {
    let world = World::new();
    world.register(1, 50).await;
    world
        .numbers
        .provisioned
        .lock()
        .unwrap()
        .insert("shop:live".into(), 2);
    let configuration = TargetTrackingScalingPolicyConfiguration {
        target_value: 10.0,
        customized_metric_specification: Some(CustomizedMetricSpecification {
            metric_name: Some("backlog".into()),
            namespace: Some("shop".into()),
            statistic: Some("Maximum".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    world
        .call(World::policy(configuration.clone()))
        .await
        .unwrap();
    let shown = world
        .call(DescribeScalingPoliciesInput {
            service_namespace: LAMBDA,
            ..Default::default()
        })
        .await
        .unwrap()
        .scaling_policies
        .unwrap();
    let shown = shown[0]
        .target_tracking_scaling_policy_configuration
        .as_ref()
        .unwrap();
    let metric = shown.customized_metric_specification.as_ref().unwrap();
    assert_eq!(
        metric.metric_name,
        configuration
            .customized_metric_specification
            .unwrap()
            .metric_name
    );
    let (_, cloudwatch, _) = world.parts.as_ref().unwrap();
    for _ in 0..3 {
        let datum = Datum {
            metric: MetricKey::new("shop", "backlog", Vec::new()),
            unit: Unit::COUNT,
            at: world.clock.now(),
            high_resolution: false,
            values: Aggregate::of(35.0),
        };
        let caller = World::caller();
        cloudwatch.ingest(caller.account, &caller.region, vec![datum]);
        world.minute(None).await;
    }
    assert_eq!(world.provisioned(), Some(7));
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let world = World::new();
    let described = "service namespace: lambda, resource ID: function:shop:live, scalable \
                     dimension: lambda:function:ProvisionedConcurrency";
    let error = world
        .call(World::policy(utilization(0.5)))
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        format!("No scalable target registered for {described}")
    );
    assert_eq!(error.shape(None).code, "ObjectNotFoundException");
    let deregister = DeregisterScalableTargetInput {
        service_namespace: LAMBDA,
        resource_id: RESOURCE.into(),
        scalable_dimension: DIMENSION,
    };
    let error = world.call(deregister.clone()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("No scalable target found for {described}")
    );
    world.register(1, 5).await;
    let error = world
        .call(DeleteScalingPolicyInput {
            policy_name: "keep".into(),
            service_namespace: LAMBDA,
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
        })
        .await
        .unwrap_err();
    assert!(
        error.message().ends_with("policy name: keep"),
        "{}",
        error.message()
    );
    let error = world
        .call(DeleteScheduledActionInput {
            service_namespace: LAMBDA,
            scheduled_action_name: "x".into(),
            resource_id: RESOURCE.into(),
            scalable_dimension: DIMENSION,
        })
        .await
        .unwrap_err();
    assert_eq!(error.shape(None).code, "ObjectNotFoundException");

    // A target takes what belongs to it with it.
    world.call(World::policy(utilization(0.5))).await.unwrap();
    world.schedule("x", "rate(1 hour)", 1, 2).await;
    world.call(deregister).await.unwrap();
    world.register(1, 5).await;
    let actions = world
        .call(DescribeScheduledActionsInput {
            service_namespace: LAMBDA,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(actions.scheduled_actions, Some(Vec::new()));
}

#[tokio::test]
async fn what_cannot_be_scaled_is_refused() {
    let world = World::new();
    let register = |namespace: &str, resource: &str, dimension: &str| RegisterScalableTargetInput {
        service_namespace: namespace.into(),
        resource_id: resource.into(),
        scalable_dimension: dimension.into(),
        min_capacity: Some(1),
        max_capacity: Some(2),
        ..Default::default()
    };
    let concurrency = "lambda:function:ProvisionedConcurrency";
    for (input, code) in [
        (
            register("dynamodb", "table/x", "dynamodb:table:ReadCapacityUnits"),
            "NotImplementedException",
        ),
        (
            register("lambda", "table/x", concurrency),
            "ValidationException",
        ),
        (
            register("lambda", "function:x", concurrency),
            "ValidationException",
        ),
        (
            register("lambda", "function:x:$LATEST", concurrency),
            "ValidationException",
        ),
        (
            register("lambda", "function:missing:live", concurrency),
            "ValidationException",
        ),
        (
            register("lambda", RESOURCE, "ecs:service:DesiredCount"),
            "ValidationException",
        ),
    ] {
        let error = world.call(input).await.unwrap_err();
        assert_eq!(error.shape(None).code, code, "{}", error.message());
    }
    world.register(1, 5).await;
    let mut steps = World::policy(utilization(0.5));
    steps.policy_type = Some(PolicyType::StepScaling);
    let error = world.call(steps).await.unwrap_err();
    assert_eq!(error.shape(None).code, "NotImplementedException");
    for target in [0.0, 0.95, f64::NAN] {
        assert!(
            world
                .call(World::policy(utilization(target)))
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn targets_have_tags() {
    let world = World::new();
    world.register(1, 5).await;
    let targets = world
        .call(DescribeScalableTargetsInput {
            service_namespace: LAMBDA,
            ..Default::default()
        })
        .await
        .unwrap();
    let arn = targets.scalable_targets.unwrap()[0]
        .scalable_target_arn
        .clone()
        .unwrap();
    let tags = BTreeMap::from([
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "2".to_owned()),
    ]);
    world
        .call(TagResourceInput {
            resource_arn: arn.clone(),
            tags,
        })
        .await
        .unwrap();
    let untag = UntagResourceInput {
        resource_arn: arn.clone(),
        tag_keys: vec!["a".into()],
    };
    world.call(untag).await.unwrap();
    let listed = world
        .call(ListTagsForResourceInput {
            resource_arn: arn.clone(),
        })
        .await
        .unwrap();
    assert_eq!(
        listed.tags,
        Some(BTreeMap::from([("b".to_owned(), "2".to_owned())]))
    );
    let error = world
        .call(ListTagsForResourceInput {
            resource_arn: format!("{arn}x"),
        })
        .await
        .unwrap_err();
    assert_eq!(error.shape(None).code, "ResourceNotFoundException");
}
