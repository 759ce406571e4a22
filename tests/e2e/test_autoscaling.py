"""Application Auto Scaling of provisioned concurrency."""

from __future__ import annotations

import datetime
import json
import time

import pytest
from botocore.exceptions import ClientError
from functions import create, python

UTC = datetime.timezone.utc
TARGET = {"ServiceNamespace": "lambda", "ScalableDimension": "lambda:function:ProvisionedConcurrency"}


@pytest.fixture
def scaling(server, account):
    return server.client("application-autoscaling", account=account)


@pytest.fixture
def resource(functions):
    create(functions, "scaled", python("def handler(event, context): return 1"))
    functions.publish_version(FunctionName="scaled")
    functions.create_alias(FunctionName="scaled", Name="live", FunctionVersion="1")
    return {**TARGET, "ResourceId": "function:scaled:live"}


def test_a_target_with_its_policies_and_schedules(scaling, resource):
    arn = scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=5,
                                           Tags={"team": "shop"})["ScalableTargetARN"]
    assert arn.startswith("arn:aws:application-autoscaling:us-east-1:")
    target, = scaling.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 5)
    assert target["ResourceId"] == "function:scaled:live"
    assert target["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency")
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "shop"}

    tracking = {"TargetValue": 0.7, "PredefinedMetricSpecification": {
        "PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}, "ScaleInCooldown": 60}
    made = scaling.put_scaling_policy(**resource, PolicyName="keep", PolicyType="TargetTrackingScaling",
                                      TargetTrackingScalingPolicyConfiguration=tracking)
    assert len(made["Alarms"]) == 2
    policy, = scaling.describe_scaling_policies(**resource)["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"] == tracking
    assert policy["PolicyARN"] == made["PolicyARN"]
    with pytest.raises(ClientError) as refused:
        scaling.put_scaling_policy(**resource, PolicyName="steps", PolicyType="StepScaling",
                                   StepScalingPolicyConfiguration={"AdjustmentType": "ExactCapacity"})
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501

    for name, schedule in (("morning", "cron(0 8 ? * MON-FRI *)"), ("often", "rate(5 minutes)")):
        scaling.put_scheduled_action(**resource, ScheduledActionName=name, Schedule=schedule, Timezone="Europe/Berlin",
                                     ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 4})
    pages = scaling.get_paginator("describe_scheduled_actions").paginate(
        ServiceNamespace="lambda", PaginationConfig={"PageSize": 1})
    assert [a["ScheduledActionName"] for page in pages for a in page["ScheduledActions"]] == ["morning", "often"]
    with pytest.raises(ClientError) as refused:
        scaling.put_scheduled_action(**resource, ScheduledActionName="wrong", Schedule="cron(0 8 * * * *)",
                                     ScalableTargetAction={"MinCapacity": 2})
    assert refused.value.response["Error"]["Code"] == "ValidationException"

    scaling.delete_scheduled_action(**resource, ScheduledActionName="often")
    scaling.delete_scaling_policy(**resource, PolicyName="keep")
    scaling.deregister_scalable_target(**resource)
    assert scaling.describe_scheduled_actions(ServiceNamespace="lambda")["ScheduledActions"] == []
    with pytest.raises(ClientError) as refused:
        scaling.deregister_scalable_target(**resource)
    assert refused.value.response["Error"]["Code"] == "ObjectNotFoundException"


def test_a_function_that_does_not_exist_is_no_target(scaling):
    with pytest.raises(ClientError) as refused:
        scaling.register_scalable_target(**TARGET, ResourceId="function:nobody:live", MinCapacity=1, MaxCapacity=2)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.timeout(200)
def test_a_scheduled_action_provisions_environments(scaling, functions, resource, server):
    # Scaling is done by a role of the account itself, which no policy need name: also not once the server has to look
    # at policies because one of them denies something.
    others = server.client("lambda", account="777788889999")
    denied = create(others, "denied", python("def handler(event, context): return 1"))["FunctionArn"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": denied}
    others.put_resource_policy(ResourceArn=denied,
                               Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    scaling.register_scalable_target(**resource, MinCapacity=0, MaxCapacity=5)
    due = datetime.datetime.now(UTC) + datetime.timedelta(seconds=2)
    scaling.put_scheduled_action(**resource, ScheduledActionName="now", Schedule=f"at({due:%Y-%m-%dT%H:%M:%S})",
                                 ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 3})
    # The server looks once a minute.
    until = time.monotonic() + 90
    while True:
        try:
            config = functions.get_provisioned_concurrency_config(FunctionName="scaled", Qualifier="live")
            if config["Status"] == "READY":
                break
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ProvisionedConcurrencyConfigNotFoundException"
        assert time.monotonic() < until
        time.sleep(0.5)
    assert config["RequestedProvisionedConcurrentExecutions"] == 2
    activities = scaling.describe_scaling_activities(ServiceNamespace="lambda")["ScalingActivities"]
    assert [a["StatusCode"] for a in activities] == ["Successful", "Successful"]
    assert activities[0]["Description"] == "Setting desired capacity to 2."
    assert activities[1]["Cause"] == "scheduled action name now was triggered"
