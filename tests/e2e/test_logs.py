"""CloudWatch Logs: what an invoke leaves there, and the operations on it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from functions import REPORT, create, invoke, python
from recorded import Bindings, differences

GOLDEN = Path(__file__).resolve().parents[1] / "golden/aws"


def events(logs, group: str, wanted: int) -> list[str]:
    """The group's messages; lines become readable shortly after the invoke answers."""
    until = time.monotonic() + 10
    while True:
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            found = [e["message"] for page in pages for e in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            found = []
        if len(found) >= wanted or time.monotonic() > until:
            return found
        time.sleep(0.05)


def test_an_invoke_leaves_start_output_end_and_report(functions, logs):
    create(functions, "writes", python("""
        import sys
        def handler(event, context):
            print("to stdout")
            print("to stderr", file=sys.stderr)
    """))
    answer = invoke(functions, "writes")
    request = answer.headers["x-amzn-requestid"]
    messages = [m for m in events(logs, "/aws/lambda/writes", 5) if not m.startswith("INIT_START")]
    assert messages[0] == f"START RequestId: {request} Version: $LATEST\n"
    assert sorted(messages[1:3]) == ["to stderr\n", "to stdout\n"]
    assert messages[3] == f"END RequestId: {request}\n"
    assert REPORT.match(messages[4]), repr(messages[4])
    assert messages[4].endswith("\t\n")


def test_the_first_line_of_an_environment_is_init_start(functions, logs):
    create(functions, "initial")
    invoke(functions, "initial")
    first = events(logs, "/aws/lambda/initial", 4)[0]
    assert re.match(r"INIT_START Runtime Version: \S+\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:\w+", first)


def test_each_environment_has_its_stream(functions, logs):
    create(functions, "streams")
    invoke(functions, "streams")
    invoke(functions, "streams")
    events(logs, "/aws/lambda/streams", 6)
    streams = logs.describe_log_streams(logGroupName="/aws/lambda/streams")["logStreams"]
    assert len(streams) == 1
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", streams[0]["logStreamName"])
    functions.update_function_configuration(FunctionName="streams", Description="new")
    functions.get_waiter("function_updated_v2").wait(FunctionName="streams", WaiterConfig={"Delay": 0.05})
    invoke(functions, "streams")
    events(logs, "/aws/lambda/streams", 9)
    assert len(logs.describe_log_streams(logGroupName="/aws/lambda/streams")["logStreams"]) == 2


def test_a_group_of_ones_own_is_used(functions, logs):
    create(functions, "own-group", LoggingConfig={"LogGroup": "/mine/all"})
    invoke(functions, "own-group")
    assert len(events(logs, "/mine/all", 3)) >= 3


def test_many_lines_arrive_in_order_and_complete(functions, logs):
    create(functions, "many", python("""
        def handler(event, context):
            for n in range(5000):
                print(f"line {n}")
    """), Timeout=30)
    invoke(functions, "many")
    lines = [m for m in events(logs, "/aws/lambda/many", 5003) if m.startswith("line")]
    assert lines == [f"line {n}\n" for n in range(5000)]


def test_unicode_and_long_lines_survive(functions, logs):
    create(functions, "long", python("""
        def handler(event, context):
            print("雪" * 1000)
            print("x" * 200_000)
    """))
    invoke(functions, "long")
    messages = events(logs, "/aws/lambda/long", 5)
    assert "雪" * 1000 + "\n" in messages
    assert any(m == "x" * 200_000 + "\n" for m in messages)


def test_groups_and_streams_are_made_listed_and_deleted(logs):
    logs.create_log_group(logGroupName="/g/one", tags={"a": "b"})
    logs.create_log_group(logGroupName="/g/two")
    logs.create_log_group(logGroupName="/other")
    with pytest.raises(ClientError) as raised:
        logs.create_log_group(logGroupName="/g/one")
    assert raised.value.response["Error"]["Code"] == "ResourceAlreadyExistsException"
    assert raised.value.response["Error"]["Message"] == "The specified log group already exists"
    listed = logs.describe_log_groups(logGroupNamePrefix="/g/")["logGroups"]
    assert [g["logGroupName"] for g in listed] == ["/g/one", "/g/two"]
    logs.create_log_stream(logGroupName="/g/one", logStreamName="s")
    assert [s["logStreamName"] for s in logs.describe_log_streams(logGroupName="/g/one")["logStreams"]] == ["s"]
    logs.delete_log_stream(logGroupName="/g/one", logStreamName="s")
    assert logs.describe_log_streams(logGroupName="/g/one")["logStreams"] == []
    logs.delete_log_group(logGroupName="/g/one")
    with pytest.raises(ClientError) as raised:
        logs.describe_log_streams(logGroupName="/g/one")
    assert raised.value.response["Error"]["Message"] == "The specified log group does not exist."


def test_events_are_put_read_both_ways_and_filtered(logs):
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    now = int(time.time() * 1000)
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[
        {"timestamp": now + n, "message": f"{'ERROR' if n % 2 else 'info'} {n}"} for n in range(10)])
    forward = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=True, limit=4)
    assert [e["message"] for e in forward["events"]] == ["info 0", "ERROR 1", "info 2", "ERROR 3"]
    more = logs.get_log_events(logGroupName="g", logStreamName="s", nextToken=forward["nextForwardToken"], limit=4)
    assert [e["timestamp"] - now for e in more["events"]] == [4, 5, 6, 7]
    back = logs.get_log_events(logGroupName="g", logStreamName="s", limit=3)
    assert [e["timestamp"] - now for e in back["events"]] == [7, 8, 9]
    found = logs.filter_log_events(logGroupName="g", filterPattern="ERROR", startTime=now + 2, endTime=now + 8)
    assert [e["message"] for e in found["events"]] == ["ERROR 3", "ERROR 5", "ERROR 7"]
    assert found["events"][0]["logStreamName"] == "s" and found["events"][0]["eventId"]


def test_the_end_of_a_stream_repeats_its_token(logs):
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    first = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=True)
    again = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=True,
                                nextToken=first["nextForwardToken"])
    assert again["nextForwardToken"] == first["nextForwardToken"]


def test_retention_is_kept(logs):
    logs.create_log_group(logGroupName="g")
    logs.put_retention_policy(logGroupName="g", retentionInDays=7)
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 7
    logs.delete_retention_policy(logGroupName="g")
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]


def test_log_lines_are_as_recorded(functions, logs):
    """The recorded case `test_request_id_invoke`, whose answers are log lines."""
    recorded_case = next(
        case for case in map(json.loads, (GOLDEN / "lambda.jsonl").read_text().splitlines())
        if case["id"].endswith("::test_request_id_invoke"))
    create(functions, "recorded", python("""
        import logging
        logger = logging.getLogger()
        logger.setLevel(logging.INFO)
        def handler(event, context):
            logger.info("RequestId log message")
            return context.aws_request_id
    """))
    answer = invoke(functions, "recorded")
    messages = [m.rstrip() for m in events(logs, "/aws/lambda/recorded", 5) if not m.startswith("INIT_START")]
    bindings = Bindings()
    expected = recorded_case["expected"]
    told = list(differences(expected["invoke_result"]["Payload"], answer.body.decode(), bindings))
    # Within a line the recording marks a time with a bare word.
    lines = [line.replace("\tdate\t", "\t<date>\t") for line in expected["log_entries"]["logs"]]
    told += differences(lines, messages, bindings)
    assert not told
    assert answer.json in messages[0]
