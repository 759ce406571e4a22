"""What is told of executions: log lines at each level, events about their status, metrics."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import time

import pytest
from upstream import Upstream

ROLE = "arn:aws:iam::000000000000:role/states"
UTC = datetime.timezone.utc
PASS = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": {"secret": 1}, "End": True}}}
FAILING = {"StartAt": "P", "States": {
    "P": {"Type": "Parallel", "End": True, "Branches": [
        {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Broken", "Cause": "because"}}}]}}}


@pytest.fixture
def states(server, account):
    return stepfunctions(server, account)


def stepfunctions(server, account: str):
    """A client without the host prefix `sync-`, which leads nowhere on a loopback address."""
    return server.client("stepfunctions", account=account, inject_host_prefix=False)


def machine(client, account: str, definition: dict, kind: str = "STANDARD", level: str | None = None,
            data: bool = True, name: str = "m") -> str:
    given = {}
    if level:
        destination = {"cloudWatchLogsLogGroup": {
            "logGroupArn": f"arn:aws:logs:us-east-1:{account}:log-group:/aws/vendedlogs/states/{name}:*"}}
        given["loggingConfiguration"] = {"level": level, "includeExecutionData": data, "destinations": [destination]}
    answer = client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE, type=kind, **given)
    return answer["stateMachineArn"]


def eventually(check, seconds: float = 20):
    """What is told arrives a moment after what it tells of."""
    until = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def lines(logs, count: int, name: str = "m") -> list[dict]:
    def check():
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/vendedlogs/states/{name}")
        found = [json.loads(event["message"]) for page in pages for event in page["events"]]
        assert len(found) >= count, found
        return sorted(found, key=lambda line: (line["execution_arn"], int(line["id"])))

    return eventually(check)


def group(logs, name: str = "m") -> None:
    logs.create_log_group(logGroupName=f"/aws/vendedlogs/states/{name}")


@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_lines_at_level_all_are_the_history_with_its_data(states, logs, account, kind):
    group(logs)
    arn = states.start_execution(stateMachineArn=machine(states, account, PASS, kind, "ALL"), input='{"a": 1}')["executionArn"]
    found = lines(logs, 4)
    assert [line["type"] for line in found] == [
        "ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"]
    assert {line["execution_arn"] for line in found} == {arn}
    first = found[0]
    assert re.fullmatch(r"\d{13}", first.pop("event_timestamp"))
    assert first == {
        "id": "1", "type": "ExecutionStarted", "previous_event_id": "0", "redrive_count": "0", "execution_arn": arn,
        "details": {"input": '{"a":1}', "inputDetails": {"truncated": False}, "roleArn": ROLE},
    }
    if kind == "STANDARD":
        history = states.get_execution_history(executionArn=arn)["events"]
        assert [(int(line["id"]), int(line["previous_event_id"]), line["type"]) for line in found] == [
            (event["id"], event["previousEventId"], event["type"]) for event in history]
    streams = logs.describe_log_streams(logGroupName="/aws/vendedlogs/states/m")["logStreams"]
    assert [re.fullmatch(r"states/m/\d{4}-\d\d-\d\d-\d\d-\d\d/[0-9a-f]{8}", s["logStreamName"]) is not None
            for s in streams] == [True]


def test_lines_without_data_show_neither_input_nor_output(states, logs, account):
    group(logs)
    states.start_execution(stateMachineArn=machine(states, account, PASS, "EXPRESS", "ALL", data=False), input='{"a": 1}')
    assert [line["details"] for line in lines(logs, 4)] == [{"roleArn": ROLE}, {"name": "A"}, {"name": "A"}, {}]


@pytest.mark.parametrize("level, types", [
    ("ERROR", ["FailStateEntered", "ParallelStateFailed", "ExecutionFailed"]),
    ("FATAL", ["ExecutionFailed"]),
])
def test_each_level_lets_its_events_through(states, logs, account, level, types):
    group(logs)
    states.start_execution(stateMachineArn=machine(states, account, FAILING, "EXPRESS", level))
    found = lines(logs, len(types))
    assert [line["type"] for line in found] == types
    assert found[-1]["details"] == {"error": "Broken", "cause": "because"}


def test_a_machine_whose_level_is_off_logs_nothing(states, logs, account):
    group(logs)
    quiet = machine(states, account, PASS, "EXPRESS", "OFF")
    states.start_sync_execution(stateMachineArn=quiet)
    group(logs, "loud")
    loud = machine(states, account, PASS, "EXPRESS", "ALL", name="loud")
    states.start_sync_execution(stateMachineArn=loud)
    # Lines go one way; those of the second machine came after those that the first would have had.
    lines(logs, 4, "loud")
    assert logs.filter_log_events(logGroupName="/aws/vendedlogs/states/m")["events"] == []


def test_a_changed_level_holds_for_executions_that_start_afterwards(states, logs, account):
    group(logs)
    arn = machine(states, account, FAILING, "EXPRESS", "FATAL")
    first = states.start_execution(stateMachineArn=arn)["executionArn"]
    assert len(lines(logs, 1)) == 1
    destination = {"cloudWatchLogsLogGroup": {
        "logGroupArn": f"arn:aws:logs:us-east-1:{account}:log-group:/aws/vendedlogs/states/m:*"}}
    states.update_state_machine(stateMachineArn=arn, loggingConfiguration={
        "level": "ERROR", "includeExecutionData": True, "destinations": [destination]})
    states.start_execution(stateMachineArn=arn)
    found = lines(logs, 4)
    assert [line["type"] for line in found if line["execution_arn"] == first] == ["ExecutionFailed"]


def test_lines_survive_a_stop_right_after_them(own_server, account):
    server = own_server()
    logs, states = server.client("logs", account=account), stepfunctions(server, account)
    group(logs)
    arn = machine(states, account, PASS, "EXPRESS", "ALL")
    for _ in range(20):
        states.start_sync_execution(stateMachineArn=arn)
    assert server.stop() == 0
    server.start()
    assert len(lines(server.client("logs", account=account), 80)) == 80


# Events


def test_the_bus_upstream_gets_an_event_at_the_begin_and_at_the_end(own_server, account):
    with contextlib.closing(Upstream()) as upstream:
        server = own_server(env={"FIRN_UPSTREAM_EVENTS": upstream.endpoint})
        states = stepfunctions(server, account)
        machine_arn = machine(states, account, PASS)
        states.start_sync_execution(stateMachineArn=machine(states, account, PASS, "EXPRESS", name="express"))
        arn = states.start_execution(stateMachineArn=machine_arn, input='{"a": 1}', name="run")["executionArn"]
        entries = eventually(lambda: told(upstream, 2))
    assert [entry["DetailType"] for entry in entries] == ["Step Functions Execution Status Change"] * 2
    assert {entry["Source"] for entry in entries} == {"aws.states"}
    assert [entry["Resources"] for entry in entries] == [[arn]] * 2
    running, succeeded = (json.loads(entry["Detail"]) for entry in entries)
    assert running["status"] == "RUNNING" and running["stopDate"] is None and running["output"] is None
    assert isinstance(succeeded.pop("startDate"), int) and isinstance(succeeded.pop("stopDate"), int)
    assert succeeded == {
        "executionArn": arn, "stateMachineArn": machine_arn, "name": "run", "status": "SUCCEEDED",
        "input": '{"a": 1}', "inputDetails": {"included": True},
        "output": '{"secret":1}', "outputDetails": {"included": True},
        "stateMachineVersionArn": None, "stateMachineAliasArn": None, "redriveCount": 0, "redriveDate": None,
        "redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
        "error": None, "cause": None,
    }


def told(upstream, count: int) -> list[dict]:
    entries = [entry for request in upstream.received for entry in request.json["Entries"]]
    assert len(entries) >= count
    return entries


def test_an_event_that_the_bus_did_not_take_is_sent_again(own_server, account):
    with contextlib.closing(Upstream(failures=(503,))) as upstream:
        server = own_server(env={"FIRN_UPSTREAM_EVENTS": upstream.endpoint})
        states = stepfunctions(server, account)
        states.start_execution(stateMachineArn=machine(states, account, FAILING))
        entries = eventually(lambda: told(upstream, 3))
    assert {json.loads(entry["Detail"])["status"] for entry in entries} == {"RUNNING", "FAILED"}


# Metrics


def total(cloudwatch, name: str, statistic: str, **dimensions: str) -> float:
    now = datetime.datetime.now(UTC)
    answer = cloudwatch.get_metric_statistics(
        Namespace="AWS/States", MetricName=name, StartTime=now - datetime.timedelta(minutes=10),
        EndTime=now + datetime.timedelta(minutes=5), Period=900, Statistics=[statistic],
        Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()])
    return sum(point[statistic] for point in answer["Datapoints"])


@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_executions_are_counted_by_how_they_end(server, states, account, kind):
    cloudwatch = server.client("cloudwatch", account=account)
    good = machine(states, account, PASS, kind, name="good")
    bad = machine(states, account, FAILING, kind, name="bad")
    for arn in (good, good, bad):
        states.start_execution(stateMachineArn=arn)

    def check():
        assert total(cloudwatch, "ExecutionsStarted", "Sum", StateMachineArn=good) == 2
        assert total(cloudwatch, "ExecutionsSucceeded", "Sum", StateMachineArn=good) == 2
        assert total(cloudwatch, "ExecutionTime", "SampleCount", StateMachineArn=good) == 2
        assert total(cloudwatch, "ExecutionsFailed", "Sum", StateMachineArn=bad) == 1
        assert total(cloudwatch, "ExecutionsSucceeded", "Sum", StateMachineArn=bad) == 0
        billed = total(cloudwatch, "ExpressExecutionBilledDuration", "Sum", StateMachineArn=bad)
        assert (billed >= 100 and billed % 100 == 0) if kind == "EXPRESS" else billed == 0

    eventually(check)


def test_executions_of_an_alias_count_under_it_as_well(server, states, account):
    cloudwatch = server.client("cloudwatch", account=account)
    arn = machine(states, account, PASS)
    version = states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    alias = states.create_state_machine_alias(
        name="live", routingConfiguration=[{"stateMachineVersionArn": version, "weight": 100}])["stateMachineAliasArn"]
    states.start_execution(stateMachineArn=alias)

    def check():
        assert total(cloudwatch, "ExecutionsSucceeded", "Sum", StateMachineArn=arn) == 1
        assert total(cloudwatch, "ExecutionsSucceeded", "Sum", StateMachineArn=arn, Alias="live") == 1

    eventually(check)
