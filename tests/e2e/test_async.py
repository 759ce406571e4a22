"""Asynchronous invocation with real clients and real functions: what was answered 202 runs, whatever happens."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from functions import create, invoke, python
from leftovers import eventually
from server import binary
from test_snapstart import boto3_package
from upstream import Upstream

# Notes what reached it in a group of its own, in the order in which it ran.
RECORDER = python("""
    import json
    def handler(event, context):
        print("RAN " + json.dumps({"event": event, "id": context.aws_request_id}))
        return "done"
""")
FAILING = python("""
    def handler(event, context):
        print("RAN " + context.aws_request_id)
        raise ValueError("no such colour")
""")


def messages(logs, name: str, pattern: str = "RAN") -> list[str]:
    """Every line of a function's log that has the pattern."""
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{name}", filterPattern=pattern)
        return [event["message"] for page in pages for event in page["events"]]
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ResourceNotFoundException"
        return []


def ran(logs, name: str) -> list[dict]:
    return [json.loads(line.split("RAN ", 1)[1]) for line in messages(logs, name)]


def until(condition, seconds: float = 30):
    """Waits until the condition holds and gives its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
    return value


def send(client, name: str, event, **more) -> str:
    answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **more)
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    return answer["ResponseMetadata"]["RequestId"]


def test_an_event_runs_under_the_id_of_its_answer(functions, logs):
    create(functions, "f", RECORDER)
    request_id = send(functions, "f", {"n": 1})
    assert until(lambda: ran(logs, "f")) == [{"event": {"n": 1}, "id": request_id}]


def test_invoke_async_still_works(functions, logs):
    create(functions, "f", RECORDER)
    assert functions.invoke_async(FunctionName="f", InvokeArgs=b'{"n": 2}')["Status"] == 202
    assert until(lambda: ran(logs, "f"))[0]["event"] == {"n": 2}


def test_the_command_line_sends_events(server, functions, logs, account):
    create(functions, "f", RECORDER)
    sent = subprocess.run(
        [str(binary()), "invoke", "f", "--event", "-p", '{"n": 3}', "--endpoint", server.endpoint],
        env={"AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True, text=True, check=True,
    )
    entry = until(lambda: ran(logs, "f"))[0]
    assert entry == {"event": {"n": 3}, "id": sent.stdout.strip()}


def test_destinations_that_are_functions_get_records(functions, logs):
    for name in ("good", "bad"):
        create(functions, name, RECORDER)
    arn = {name: functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"] for name in ("good", "bad")}
    create(functions, "f", python("""
        def handler(event, context):
            if event["fail"]:
                raise ValueError("no such colour")
            return {"answer": 42}
    """))
    functions.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0,
        DestinationConfig={"OnSuccess": {"Destination": arn["good"]}, "OnFailure": {"Destination": arn["bad"]}})
    good, bad = send(functions, "f", {"fail": False}), send(functions, "f", {"fail": True})

    record = until(lambda: ran(logs, "good"))[0]["event"]
    assert record["version"] == "1.0"
    function_arn = arn["good"].replace(":good", ":f:$LATEST")
    assert record["requestContext"] == {
        "requestId": good, "functionArn": function_arn, "condition": "Success", "approximateInvokeCount": 1}
    assert (record["requestPayload"], record["responsePayload"]) == ({"fail": False}, {"answer": 42})
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}

    record = until(lambda: ran(logs, "bad"))[0]["event"]
    assert record["requestContext"] == {
        "requestId": bad, "functionArn": function_arn, "condition": "RetriesExhausted", "approximateInvokeCount": 1}
    assert record["responseContext"] == {
        "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorMessage"] == "no such colour"
    assert record["responsePayload"]["errorType"] == "ValueError"


@pytest.fixture
def upstream():
    running = Upstream()
    yield running
    running.close()


def upstream_settings(upstream: Upstream) -> dict[str, str]:
    return {f"FIRN_UPSTREAM_{name}": upstream.endpoint for name in ("SQS", "SNS", "EVENTS", "S3")}


def test_dead_letters_and_records_reach_an_upstream(own_server, upstream):
    upstream.failures = [503]
    server = own_server(env=upstream_settings(upstream))
    client = server.client()
    account = "000000000000"
    create(client, "f", FAILING, DeadLetterConfig={"TargetArn": f"arn:aws:sqs:us-east-1:{account}:dlq"})
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
    request_id = send(client, "f", {"n": 1})
    # The first try was answered with 503.
    first, second = upstream.wait(2)
    assert first.json == second.json
    message = second.json
    assert second.headers["x-amz-target"] == "AmazonSQS.SendMessage"
    assert "/us-east-1/sqs/aws4_request" in second.headers["authorization"]
    assert message["QueueUrl"] == f"{upstream.endpoint}/{account}/dlq"
    assert json.loads(message["MessageBody"]) == {"n": 1}
    assert message["MessageAttributes"] == {
        "RequestID": {"DataType": "String", "StringValue": request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
        "ErrorMessage": {"DataType": "String", "StringValue": "no such colour"},
    }
    assert "Lineage=1:" in message["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"]

    targets = {
        "sns": f"arn:aws:sns:us-east-1:{account}:topic",
        "events": f"arn:aws:events:us-east-1:{account}:event-bus/default",
        "s3": "arn:aws:s3:::records",
    }
    for number, (service, target) in enumerate(targets.items(), start=3):
        client.update_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnFailure": {"Destination": target}})
        # The dead-letter queue of the function gets one, too.
        client.update_function_configuration(FunctionName="f", DeadLetterConfig={"TargetArn": ""})
        client.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.05})
        request_id = send(client, "f", {"n": service})
        request = upstream.wait(number)[-1]
        if service == "sns":
            assert request.form["TopicArn"] == target
            record = json.loads(request.form["Message"])
        elif service == "events":
            assert request.headers["x-amz-target"] == "AWSEvents.PutEvents"
            [entry] = request.json["Entries"]
            assert entry["DetailType"] == "Lambda Function Invocation Result - Failure"
            assert (entry["Source"], entry["EventBusName"]) == ("lambda", target)
            record = json.loads(entry["Detail"])
        else:
            assert request.method == "PUT"
            assert request.path.startswith("/records/aws/lambda/async/f/")
            record = request.json
        assert record["requestContext"]["requestId"] == request_id
        assert record["requestPayload"] == {"n": service}


def test_without_an_upstream_queues_are_refused(functions):
    create(functions, "f", RECORDER)
    queue = "arn:aws:sqs:us-east-1:000000000000:q"
    with pytest.raises(ClientError) as refused:
        functions.put_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnFailure": {"Destination": queue}})
    assert refused.value.response["Error"]["Code"] == "NotImplementedException"
    assert "[upstream]" in refused.value.response["Error"]["Message"]


def test_events_wait_while_the_function_is_throttled(functions, logs):
    create(functions, "f", python("""
        import time
        def handler(event, context):
            if event["n"] == 0:
                time.sleep(3)
            print('RAN {"n": %d}' % event["n"])
    """), Timeout=20)
    functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    send(functions, "f", {"n": 0})
    until(lambda: throttled(functions, "f"))
    for n in range(1, 6):
        send(functions, "f", {"n": n})
    assert ran(logs, "f") == []
    until(lambda: len(ran(logs, "f")) == 6, 60)
    assert ran(logs, "f")[0] == {"n": 0}
    assert sorted(entry["n"] for entry in ran(logs, "f")) == list(range(6))


def throttled(client, name: str) -> bool:
    try:
        client.invoke(FunctionName=name, Payload=b'{"n": 9}', InvocationType="DryRun")
        client.invoke(FunctionName=name, Payload=b'"probe"')
        return False
    except ClientError as error:
        return error.response["Error"]["Code"] == "TooManyRequestsException"


def test_without_any_concurrency_events_go_to_the_destination(functions, logs):
    create(functions, "sink", RECORDER)
    create(functions, "f", RECORDER)
    sink = functions.get_function(FunctionName="sink")["Configuration"]["FunctionArn"]
    functions.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnFailure": {"Destination": sink}})
    functions.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    request_id = send(functions, "f", {"n": 1})
    record = until(lambda: ran(logs, "sink"))[0]["event"]
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["requestId"] == request_id
    assert ran(logs, "f") == []


def test_a_function_that_calls_itself_stops_after_sixteen_rounds(functions, logs):
    create(functions, "sink", RECORDER)
    # boto3 passes the trace of the invocation on, as every AWS SDK does in a function.
    create(functions, "loop", boto3_package("""
        import boto3, json
        client = boto3.client("lambda")
        def handler(event, context):
            print("RAN " + json.dumps(event))
            client.invoke(FunctionName="loop", InvocationType="Event", Payload=json.dumps({"n": event["n"] + 1}))
    """), Timeout=20, MemorySize=256)
    sink = functions.get_function(FunctionName="sink")["Configuration"]["FunctionArn"]
    functions.put_function_event_invoke_config(
        FunctionName="loop", DestinationConfig={"OnFailure": {"Destination": sink}})
    send(functions, "loop", {"n": 1})
    record = until(lambda: ran(logs, "sink"), 60)[0]["event"]
    assert record["requestContext"]["condition"] == "RecursiveInvocation"
    assert record["requestPayload"]["n"] == 17
    assert sorted(entry["n"] for entry in ran(logs, "loop")) == list(range(1, 17))


def test_recursion_may_be_allowed(functions):
    create(functions, "f", RECORDER)
    assert functions.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    functions.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    assert functions.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"


@pytest.mark.parametrize("seed", range(3))
def test_everything_acknowledged_runs_although_the_server_is_killed(own_server, upstream, seed):
    """Six clients send, the server is killed in the middle, three times.

    The log of a function may lose its last lines with the server, so what ran is told to a queue outside: each event
    of `f` makes one of `sink`, and each of those a message.
    """
    chance = random.Random(seed)
    server = own_server(env=upstream_settings(upstream))
    client = server.client()
    create(client, "f")
    create(client, "sink")
    sink = client.get_function(FunctionName="sink")["Configuration"]["FunctionArn"]
    for name, target in (("f", sink), ("sink", "arn:aws:sqs:us-east-1:000000000000:told")):
        client.put_function_event_invoke_config(
            FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": target}})
    accepted: list[str] = []
    lock = threading.Lock()
    for _ in range(3):
        stop = threading.Event()

        def storm():
            own = server.client()
            while not stop.is_set():
                try:
                    request_id = send(own, "f", {"n": len(accepted)})
                except (BotoCoreError, ClientError, AssertionError):
                    continue
                with lock:
                    accepted.append(request_id)

        clients = [threading.Thread(target=storm) for _ in range(6)]
        before = len(accepted)
        for thread in clients:
            thread.start()
        until(lambda: len(accepted) > before + 50)
        time.sleep(chance.random())
        server.kill()
        stop.set()
        for thread in clients:
            thread.join()
        server.start()

    def lost() -> set[str]:
        bodies = [json.loads(request.json["MessageBody"]) for request in list(upstream.received)]
        return set(accepted) - {body["requestPayload"]["requestContext"]["requestId"] for body in bodies}

    assert len(accepted) > 150
    assert not eventually(lost, 60), f"lost {len(lost())} of {len(accepted)}"
