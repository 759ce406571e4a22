"""Executions across `kill -9`: none that was acknowledged is lost, each ends, no task runs twice unless Retry says so, and
a history only ever grows."""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import threading
import time

import pytest
from crashes import Calls, history, in_background, in_threads, killed_every, wait_for_ends
from functions import create, python
from upstream import Upstream

ROLE = "arn:aws:iam::000000000000:role/states"
EXECUTIONS = 1000
#: What a crash does to a task whose call cannot be repeated.
UNKNOWN = "it is not known how far it came"


def machine(calls: Calls, name: str, states: dict, start: str | None = None) -> str:
    definition = json.dumps({"StartAt": start or next(iter(states)), "States": states})
    return calls.must("CreateStateMachine", name=name, definition=definition, roleArn=ROLE)["stateMachineArn"]


def start_all(server, machine_arn: str, count: int, threads: int = 4, at_once: int = 100) -> list[str]:
    """Starts executions 0 to `count`, each until it is acknowledged; their ARNs in this order. No more than `at_once` of
    them run: in a hundred milliseconds a slow build would not even get through the list of more."""
    arns: list[str] = [""] * count

    def start(first: int) -> None:
        calls = Calls(server)
        for number in range(first, count, threads):
            if number >= at_once:
                wait_for_ends(calls, [arns[number - at_once]])
            status, answer = calls("StartExecution", stateMachineArn=machine_arn, name=f"run-{number}",
                                   input=json.dumps({"run": number}))
            if status == 200:
                arns[number] = answer["executionArn"]
            else:
                # Its first answer was lost, and it has ended meanwhile.
                assert answer["__type"].endswith("ExecutionAlreadyExists"), answer
                arns[number] = f"{machine_arn.replace(':stateMachine:', ':execution:')}:run-{number}"

    in_threads(*(lambda first=first: start(first) for first in range(threads)))
    return arns


class Watcher:
    """Reads histories at random while executions run, to hold against what they are in the end."""

    def __init__(self, server, machine_arn: str):
        self.server = server
        self.prefix = f"{machine_arn.replace(':stateMachine:', ':execution:')}:run-"
        self.seen: dict[str, list[dict]] = {}
        self.comparing = threading.Lock()
        self.over = threading.Event()

    def run(self) -> None:
        calls, dice = Calls(self.server), random.Random(0)
        while not self.over.wait(0.01):
            arn = f"{self.prefix}{dice.randrange(EXECUTIONS)}"
            status, answer = calls("GetExecutionHistory", executionArn=arn, maxResults=1000)
            if status == 200:
                self.compare(arn, answer["events"])

    def compare(self, arn: str, events: list[dict]) -> None:
        with self.comparing:
            shorter, longer = sorted([self.seen.get(arn, []), events], key=len)
            assert longer[:len(shorter)] == shorter, f"the history of {arn} has changed"
            self.seen[arn] = longer


def types(events: list[dict]) -> collections.Counter:
    return collections.Counter(event["type"] for event in events)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_every_100_ms_leaves_every_count_of_a_worker_exact(own_server):
    server = own_server()
    calls = Calls(server)
    activity = calls.must("CreateActivity", name="count")["activityArn"]
    # A worker whose answer was lost in a crash never hears of its task; only time ends such a task.
    task = {"Type": "Task", "Resource": activity, "TimeoutSeconds": 4, "Retry": [
        {"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 50}]}
    arn = machine(calls, "counts", {
        "First": {**task, "ResultPath": "$.first", "Next": "Between"},
        "Between": {"Type": "Pass", "Result": 1, "ResultPath": "$.between", "Next": "Second"},
        "Second": {**task, "ResultPath": "$.second", "End": True},
    })
    tokens: collections.Counter = collections.Counter()
    runs: collections.Counter = collections.Counter()
    counting, over = threading.Lock(), threading.Event()

    def work() -> None:
        calls = Calls(server)
        while not over.is_set():
            status, task = calls("GetActivityTask", activityArn=activity, workerName="w")
            assert status == 200, task
            if not (token := task.get("taskToken")):
                continue
            run = json.loads(task["input"])["run"]
            with counting:
                tokens[token] += 1
                runs[run] += 1
            status, told = calls("SendTaskSuccess", taskToken=token, output=json.dumps({"token": token}))
            # Its first answer was lost, or the task timed out.
            assert status == 200 or told["__type"].rpartition("#")[2] in ("TaskTimedOut", "TaskDoesNotExist"), told

    watcher = Watcher(server, arn)
    # Workers wait for tasks for up to a minute, when there are no more; nobody waits for them.
    _, failures = in_background(watcher.run, *[work] * 12)
    with killed_every(server, 0.1) as kills:
        arns = start_all(server, arn, EXECUTIONS)
        ended = wait_for_ends(calls, arns)
    over.set()
    watcher.over.set()

    assert not failures, failures[0]
    assert len(kills) >= 10, "the storm was too weak to say anything"
    assert {told["status"] for told in ended.values()} == {"SUCCEEDED"}
    assert max(tokens.values()) == 1, "a task was given out twice"
    timeouts = 0
    for number, execution in enumerate(arns):
        events = history(calls, execution)
        watcher.compare(execution, events)
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        count = types(events)
        assert count["ActivitySucceeded"] == 2
        assert count["ActivityScheduled"] == 2 + count["ActivityTimedOut"], "a retry that Retry does not ask for"
        assert 2 <= runs[number] <= count["ActivityStarted"], (number, runs[number], count)
        output = json.loads(ended[execution]["output"])
        assert tokens[output["first"]["token"]] == 1 and tokens[output["second"]["token"]] == 1
        timeouts += count["ActivityTimedOut"]
    assert 2 * EXECUTIONS <= sum(runs.values()) <= 2 * EXECUTIONS + timeouts
    print(f"{len(kills)} kills, {sum(runs.values())} runs of {2 * EXECUTIONS} tasks, {timeouts} timed out, "
          f"{len(watcher.seen)} histories watched")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("retried", [False, True], ids=["without_retry", "with_retry"])
def test_kill_9_every_100_ms_sends_no_message_twice(own_server, retried):
    """A counter outside of the server: what a call did there cannot be taken back."""
    queue = Upstream()
    server = own_server(env={"FIRN_UPSTREAM_SQS": queue.endpoint})
    calls = Calls(server)
    task = {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage", "End": True, "Parameters": {
        "QueueUrl": f"{queue.endpoint}/000000000000/q", "MessageBody": {"run.$": "$.run"}}}
    if retried:
        task["Retry"] = [{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "MaxAttempts": 30}]
    arn = machine(calls, "sends", {"Pass": {"Type": "Pass", "Next": "Send"}, "Send": task})
    # Slow builds need more than a tenth of a second for their first message; the longer lives are for them.
    with killed_every(server, 0.1, 0.1, 0.8) as kills:
        arns = start_all(server, arn, EXECUTIONS, at_once=20)
        wait_for_ends(calls, arns)
    sent = collections.Counter(json.loads(message_of(one))["run"] for one in queue.received)
    ended = wait_for_ends(calls, arns)
    lost = 0
    for number, execution in enumerate(arns):
        events = history(calls, execution)
        count = types(events)
        if ended[execution]["status"] == "SUCCEEDED":
            assert 1 <= sent[number] <= count["TaskStarted"], (number, sent[number], events)
        else:
            assert not retried and ended[execution]["error"] == "States.TaskFailed", ended[execution]
            assert UNKNOWN in ended[execution]["cause"]
            assert sent[number] <= 1
            lost += 1
        assert count["TaskScheduled"] == 1 + (count["TaskFailed"] if retried else 0)
        if not retried:
            assert sent[number] <= 1, "sent twice although nothing was to be retried"
    assert len(kills) >= 5 and sum(sent.values()) > EXECUTIONS // 2, "the storm was too weak, or too strong"
    print(f"{len(kills)} kills, {sum(sent.values())} messages of {EXECUTIONS} executions, {lost} failed")


def message_of(request) -> str:
    """The body of a message, in SQS's JSON or its query protocol."""
    if request.headers["content-type"].startswith("application/x-www-form-urlencoded"):
        return request.form["MessageBody"]
    return request.json["MessageBody"]


COUNTING = python("""
    import os, urllib.request, json
    def handler(event, context):
        # One stream for each run; it is on disk when this is answered.
        body = {"logGroupName": "/count", "logStreamName": f"{event['run']}/{context.aws_request_id}"}
        request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], json.dumps(body).encode(), {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/logs/"
                             "aws4_request, SignedHeaders=host, Signature=0",
            "X-Amz-Security-Token": os.environ["AWS_SESSION_TOKEN"], "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Logs_20140328.CreateLogStream"})
        with urllib.request.urlopen(request, timeout=20):
            return {"run": event["run"]}
""")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_while_functions_count_run_none_more_often_than_scheduled(own_server):
    server = own_server()
    calls = Calls(server)
    server.client("logs").create_log_group(logGroupName="/count")
    function = create(server.client(), "count", COUNTING, Timeout=60)["FunctionArn"]
    once = {"Type": "Task", "Resource": function, "ResultPath": "$.result", "End": True}
    again = {**once, "Retry": [{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 1, "BackoffRate": 1,
                                "MaxAttempts": 60}]}
    never = machine(calls, "once", {"Count": once})
    often = machine(calls, "again", {"Count": again})
    count = 100
    # Short lives, in which hardly an environment gets up, and longer ones.
    with killed_every(server, 0.1, 0.5, 0.1, 0.5, 0.1, 4.0) as kills:
        arns: dict[str, list[str]] = {}
        for arn in (never, often):
            arns[arn] = []
            for first in range(0, count, 20):
                arns[arn] += start_some(server, arn, range(first, first + 20))
                wait_for_ends(calls, arns[arn])
    ran = runs_by_execution(server)
    for arn in (never, often):
        for execution, told in wait_for_ends(calls, arns[arn]).items():
            events = history(calls, execution)
            counted = types(events)
            runs = ran[f"{arn.rpartition(':')[2]}-{execution.rpartition('-')[2]}"]
            assert runs <= counted["LambdaFunctionStarted"] <= counted["LambdaFunctionScheduled"], (execution, runs)
            if told["status"] == "SUCCEEDED":
                assert runs >= 1, f"{execution} succeeded without its function"
            else:
                assert arn == never and UNKNOWN in told["cause"], told
            if arn == never:
                assert counted["LambdaFunctionScheduled"] == 1
    assert len(kills) >= 3, "the storm was too weak to say anything"
    print(f"{len(kills)} kills, {sum(ran.values())} runs in {2 * count} executions")


def start_some(server, machine_arn: str, numbers) -> list[str]:
    calls, arns = Calls(server), []
    name = machine_arn.rpartition(":")[2]
    for number in numbers:
        status, answer = calls("StartExecution", stateMachineArn=machine_arn, name=f"run-{number}",
                               input=json.dumps({"run": f"{name}-{number}"}))
        assert status == 200 or answer["__type"].endswith("ExecutionAlreadyExists"), answer
        arns.append(f"{machine_arn.replace(':stateMachine:', ':execution:')}:run-{number}")
    return arns


def runs_by_execution(server) -> collections.Counter:
    pages = server.client("logs").get_paginator("describe_log_streams").paginate(logGroupName="/count")
    return collections.Counter(s["logStreamName"].partition("/")[0] for page in pages for s in page["logStreams"])


def test_what_was_under_way_goes_on_after_a_crash(own_server):
    """One of each kind of waiting, killed in the midst of it."""
    server = own_server()
    calls = Calls(server)
    activity = calls.must("CreateActivity", name="a")["activityArn"]
    nap = {"Type": "Wait", "Seconds": 3, "End": True}
    child = machine(calls, "child", {"Nap": nap})
    branch = {"StartAt": "Nap", "States": {"Nap": nap}}
    work = {"Type": "Task", "Resource": activity, "End": True}
    machines = {
        "wait": {"Nap": nap},
        "map": {"Each": {"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2, "ItemProcessor": branch,
                         "End": True}},
        "parallel": {"Both": {"Type": "Parallel", "End": True, "Branches": [
            branch, {"StartAt": "Work", "States": {"Work": work}}]}},
        "nested": {"Run": {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "End": True,
                           "Parameters": {"StateMachineArn": child, "Input": {"of.$": "$.items"}}}},
        "callback": {"Ask": {"Type": "Task", "End": True, "Resource":
                             "arn:aws:states:::states:startExecution.waitForTaskToken", "Parameters": {
                                 "StateMachineArn": child, "Input": {"token.$": "$$.Task.Token"}}}},
    }
    arns = {name: machine(calls, name, states) for name, states in machines.items()}
    runs = {name: calls.must("StartExecution", stateMachineArn=arn, name="r", input='{"items":[1,2,3]}')["executionArn"]
            for name, arn in arns.items()}
    until = time.monotonic() + 30
    while len(children := calls.must("ListExecutions", stateMachineArn=child)["executions"]) < 2:
        assert time.monotonic() < until, "the nested executions have not begun"
        time.sleep(0.02)
    before = {name: history(calls, arn) for name, arn in runs.items()}
    for _ in range(3):
        server.kill()
        server.start()
    for name, events in before.items():
        assert history(calls, runs[name])[:len(events)] == events, name
        assert calls.must("DescribeExecution", executionArn=runs[name])["status"] == "RUNNING"

    token = calls.must("GetActivityTask", activityArn=activity)["taskToken"]
    calls.must("SendTaskSuccess", taskToken=token, output='"worked"')
    inputs = [json.loads(calls.must("DescribeExecution", executionArn=c["executionArn"])["input"]) for c in children]
    token = next(given["token"] for given in inputs if "token" in given)
    calls.must("SendTaskSuccess", taskToken=token, output='"called"')
    ended = wait_for_ends(calls, list(runs.values()))
    outputs = {name: ended[arn].get("output") for name, arn in runs.items()}
    assert {ended[arn]["status"] for arn in runs.values()} == {"SUCCEEDED"}, ended
    assert json.loads(outputs["wait"]) == {"items": [1, 2, 3]}
    assert json.loads(outputs["map"]) == [1, 2, 3]
    assert json.loads(outputs["parallel"]) == [{"items": [1, 2, 3]}, "worked"]
    assert json.loads(outputs["callback"]) == "called"
    assert json.loads(outputs["nested"])["Status"] == "SUCCEEDED"
    assert len(calls.must("ListExecutions", stateMachineArn=child)["executions"]) == 2, "a child was started twice"
    for name, events in before.items():
        assert history(calls, runs[name])[:len(events)] == events, name
    # Naps are as long as they were to be, and no longer than the server was away.
    for name in ("wait", "map", "parallel"):
        times = {e["type"]: e["timestamp"] for e in history(calls, runs[name]) if e["type"].startswith("WaitState")}
        assert times["WaitStateExited"] - times["WaitStateEntered"] >= 2.9


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_a_distributed_map_ends_with_every_item_after_kills(own_server, kind):
    server = own_server()
    calls = Calls(server)
    items = 300
    child = {"StartAt": "Nap", "States": {"Nap": {"Type": "Wait", "Seconds": 1, "End": True}}}
    arn = machine(calls, "maps", {"Each": {"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 40, "End": True,
                                           "ItemProcessor": {**child, "ProcessorConfig": {
                                               "Mode": "DISTRIBUTED", "ExecutionType": kind}}}})
    run = calls.must("StartExecution", stateMachineArn=arn, name="r", input=json.dumps({"items": list(range(items))}))
    with killed_every(server, 0.8) as kills:
        while len(kills) < 6:
            time.sleep(0.05)
    ended = wait_for_ends(calls, [run["executionArn"]])[run["executionArn"]]
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == list(range(items)), "each result once and in order"
    [map_run] = calls.must("ListMapRuns", executionArn=run["executionArn"])["mapRuns"]
    told = calls.must("DescribeMapRun", mapRunArn=map_run["mapRunArn"])
    assert told["itemCounts"]["succeeded"] == told["itemCounts"]["total"] == items
    if kind == "STANDARD":
        listed, token = [], {}
        while True:
            page = calls.must("ListExecutions", mapRunArn=map_run["mapRunArn"], maxResults=1000, **token)
            listed += page["executions"]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert len(listed) == items, "a child execution was started twice or lost"


@pytest.fixture
def small_disk(tmp_path):
    """A directory for data on a file system of its own, so small that it can be filled."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "firn-test", str(folder)], capture_output=True,
                             text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refused(calls: Calls, arn: str, attempts: int = 400) -> tuple[int, dict]:
    """Starts executions until one is refused."""
    for number in range(attempts):
        status, answer = calls("StartExecution", stateMachineArn=arn, input=json.dumps({"n": number, "x": "x" * 200_000}))
        if status != 200:
            return status, answer
    raise AssertionError("nothing was refused")


def test_a_full_disk_is_a_clean_error_and_loses_nothing(own_server, small_disk):
    server = own_server(data=small_disk)
    calls = Calls(server)
    arn = machine(calls, "m", {"Nap": {"Type": "Wait", "Seconds": 600, "End": True}})
    kept = calls.must("StartExecution", stateMachineArn=arn, name="kept")["executionArn"]
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * (1 << 16))
                file.flush()
        except OSError:
            os.fsync(file.fileno())
    status, answer = refused(calls, arn)
    assert status >= 500 and answer["__type"], (status, answer)
    assert server.alive()
    assert calls.must("DescribeExecution", executionArn=kept)["status"] == "RUNNING"
    filler.unlink()
    server.kill()
    server.start()
    assert calls.must("DescribeExecution", executionArn=kept)["status"] == "RUNNING"
    again = calls.must("StartExecution", stateMachineArn=arn, name="again")["executionArn"]
    assert calls.must("DescribeExecution", executionArn=again)["status"] == "RUNNING"


def test_a_disk_that_turns_read_only_is_a_clean_error(own_server, small_disk):
    server = own_server(data=small_disk)
    calls = Calls(server)
    arn = machine(calls, "m", {"Nap": {"Type": "Wait", "Seconds": 600, "End": True}})
    kept = calls.must("StartExecution", stateMachineArn=arn, name="kept")["executionArn"]
    assert server.stop() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RuntimeError, match="did not become ready"):
        server.start()
    assert "read-only" in server.log().lower() or "os error 30" in server.log().lower()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    server.start()
    assert calls.must("DescribeExecution", executionArn=kept)["status"] == "RUNNING"
