"""Time in workflows, as far as the system's clock can show it: moments, timeouts, heartbeats, retries with delays, and what
becomes due while the server is away. A month passes in the unit tests, which move a clock of their own."""

from __future__ import annotations

import datetime
import json
import time

import pytest
from crashes import Calls, history, wait_for_ends

ROLE = "arn:aws:iam::000000000000:role/states"


@pytest.fixture
def calls(server, account):
    return Calls(server, account)


def machine(calls: Calls, states: dict, **more) -> str:
    definition = json.dumps({"StartAt": next(iter(states)), "States": states, **more})
    return calls.must("CreateStateMachine", name="m", definition=definition, roleArn=ROLE)["stateMachineArn"]


def start(calls: Calls, arn: str, given: object = None, name: str = "r") -> str:
    return calls.must("StartExecution", stateMachineArn=arn, name=name, input=json.dumps(given or {}))["executionArn"]


def at(events: list[dict], kind: str) -> float:
    return next(event["timestamp"] for event in events if event["type"] == kind)


def moment(seconds: float) -> str:
    """A time from now, or before now."""
    then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_waits_last_as_long_as_they_say(calls):
    arn = machine(calls, {
        "Seconds": {"Type": "Wait", "SecondsPath": "$.seconds", "Next": "Moment"},
        "Moment": {"Type": "Wait", "TimestampPath": "$.moment", "End": True},
    })
    execution = start(calls, arn, {"seconds": 1, "moment": moment(2.5)})
    wait_for_ends(calls, [execution])
    events = history(calls, execution)
    entered = [e["timestamp"] for e in events if e["type"] == "WaitStateEntered"]
    left = [e["timestamp"] for e in events if e["type"] == "WaitStateExited"]
    assert 1 <= left[0] - entered[0] < 2
    assert 2.4 <= left[1] - at(events, "ExecutionStarted") < 4


def test_a_moment_that_has_passed_is_no_wait(calls):
    arn = machine(calls, {"Past": {"Type": "Wait", "Timestamp": "2001-01-01T00:00:00Z", "End": True}})
    execution = start(calls, arn)
    told = wait_for_ends(calls, [execution])[execution]
    assert told["status"] == "SUCCEEDED" and told["stopDate"] - told["startDate"] < 1


def test_an_execution_ends_at_its_timeout(calls):
    arn = machine(calls, {"Nap": {"Type": "Wait", "Seconds": 600, "End": True}}, TimeoutSeconds=1)
    execution = start(calls, arn)
    told = wait_for_ends(calls, [execution])[execution]
    assert told["status"] == "TIMED_OUT" and 1 <= told["stopDate"] - told["startDate"] < 3
    assert history(calls, execution)[-1]["type"] == "ExecutionTimedOut"


def test_heartbeats_keep_a_task_alive_and_their_absence_ends_it(calls):
    activity = calls.must("CreateActivity", name="a")["activityArn"]
    arn = machine(calls, {"Work": {"Type": "Task", "Resource": activity, "HeartbeatSeconds": 2, "End": True}})
    execution = start(calls, arn)
    token = calls.must("GetActivityTask", activityArn=activity)["taskToken"]
    for _ in range(3):
        time.sleep(1)
        calls.must("SendTaskHeartbeat", taskToken=token)
    assert calls.must("DescribeExecution", executionArn=execution)["status"] == "RUNNING", "3 s with heartbeats"
    told = wait_for_ends(calls, [execution])[execution]
    assert told["status"] == "FAILED" and told["error"] == "States.Timeout"
    assert told["stopDate"] - told["startDate"] >= 5
    assert calls("SendTaskSuccess", taskToken=token, output="1")[0] == 400


def test_retries_wait_longer_each_time_up_to_their_limit(calls):
    activity = calls.must("CreateActivity", name="a")["activityArn"]
    retry = {"ErrorEquals": ["Again"], "IntervalSeconds": 1, "BackoffRate": 2, "MaxDelaySeconds": 2, "MaxAttempts": 3}
    arn = machine(calls, {"Work": {"Type": "Task", "Resource": activity, "Retry": [retry], "End": True}})
    execution = start(calls, arn)
    for _ in range(4):
        token = calls.must("GetActivityTask", activityArn=activity)["taskToken"]
        calls.must("SendTaskFailure", taskToken=token, error="Again", cause="not yet")
    assert wait_for_ends(calls, [execution])[execution]["status"] == "FAILED"
    events = history(calls, execution)
    failed = [e["timestamp"] for e in events if e["type"] == "ActivityFailed"]
    scheduled = [e["timestamp"] for e in events if e["type"] == "ActivityScheduled"]
    delays = [later - earlier for earlier, later in zip(failed, scheduled[1:])]
    assert len(scheduled) == 4
    assert all(want <= got < want + 1 for want, got in zip([1, 2, 2], delays)), delays


def test_what_becomes_due_while_the_server_is_away_happens_when_it_is_back(own_server):
    server = own_server()
    calls = Calls(server)
    wait = machine(calls, {"Nap": {"Type": "Wait", "TimestampPath": "$.until", "End": True}})
    activity = calls.must("CreateActivity", name="a")["activityArn"]
    definition = {"StartAt": "Work", "States": {"Work": {
        "Type": "Task", "Resource": activity, "TimeoutSeconds": 2, "End": True}}}
    work = calls.must("CreateStateMachine", name="work", definition=json.dumps(definition), roleArn=ROLE)
    naps = [start(calls, wait, {"until": moment(1.5)}, f"n{number}") for number in range(50)]
    later = start(calls, wait, {"until": moment(3600)}, "later")
    task = start(calls, work["stateMachineArn"])
    calls.must("GetActivityTask", activityArn=activity)
    server.kill()
    time.sleep(2.5)
    back = time.time()
    server.start()
    ended = wait_for_ends(calls, [*naps, task])
    assert {ended[nap]["status"] for nap in naps} == {"SUCCEEDED"}
    assert (ended[task]["status"], ended[task]["error"]) == ("FAILED", "States.Timeout")
    assert all(back <= told["stopDate"] < back + 20 for told in ended.values())
    assert calls.must("DescribeExecution", executionArn=later)["status"] == "RUNNING"


def test_a_month_of_waiting_survives_restarts_and_can_be_stopped(own_server):
    """Thirty days: it runs after restarts, its history does not change, and it can still be stopped."""
    server = own_server()
    calls = Calls(server)
    arn = machine(calls, {"Month": {"Type": "Wait", "Seconds": 30 * 86_400, "End": True}})
    execution = start(calls, arn)
    before = history(calls, execution)
    for _ in range(2):
        server.kill()
        server.start()
        assert calls.must("DescribeExecution", executionArn=execution)["status"] == "RUNNING"
        assert history(calls, execution) == before
    calls.must("StopExecution", executionArn=execution, error="Enough", cause="it was long")
    told = wait_for_ends(calls, [execution])[execution]
    assert (told["status"], told["error"], told["cause"]) == ("ABORTED", "Enough", "it was long")
    assert history(calls, execution)[:len(before)] == before
