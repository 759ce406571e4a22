"""Invoke: kinds, limits, headers, concurrency."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from functions import UUID, create, invoke, python

ECHO = python("""
    import os, time
    def handler(event, context):
        if isinstance(event, dict) and "sleep" in event:
            time.sleep(event["sleep"])
            return os.getpid()
        return event
""")


@pytest.mark.parametrize("payload", [
    {}, [], None, 0, -1.5e10, True, "", "text", "ü € 雪 𝄞 \u0000 \" \\ \n",
    {"nested": [{"a": [1, 2, {"b": None}]}]}, {"": ""}, list(range(1000)),
])
def test_json_passes_through_unchanged(functions, payload):
    create(functions, "echo", ECHO)
    assert invoke(functions, "echo", raw=json.dumps(payload).encode()).json == payload


def test_an_empty_body_is_an_empty_object_to_the_function(functions):
    create(functions, "empty", ECHO)
    assert functions.invoke(FunctionName="empty")["Payload"].read() == b"{}"


def test_the_answer_says_status_version_and_request_id(functions):
    create(functions, "plain", ECHO)
    answer = invoke(functions, "plain", {"a": 1})
    assert (answer.status, answer.version, answer.error) == (200, "$LATEST", None)
    assert re.fullmatch(UUID, answer.headers["x-amzn-requestid"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amzn-trace-id"].startswith("Root=1-")


def test_the_request_id_of_the_answer_is_the_functions(functions):
    create(functions, "id", python("def handler(event, context): return context.aws_request_id"))
    answer = invoke(functions, "id")
    assert answer.json == answer.headers["x-amzn-requestid"]


def test_a_dry_run_runs_nothing(functions, logs):
    create(functions, "dry", ECHO)
    answer = functions.invoke(FunctionName="dry", InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert answer["Payload"].read() == b""
    assert logs.describe_log_groups()["logGroups"] == []


def test_the_tail_holds_the_lines_of_this_invoke(functions):
    create(functions, "tail", python("""
        def handler(event, context):
            print("line of", event["n"])
    """))
    for n in range(2):
        answer = invoke(functions, "tail", {"n": n}, LogType="Tail")
        lines = answer.tail.split("\n")
        assert lines[0] == f"START RequestId: {answer.headers['x-amzn-requestid']} Version: $LATEST"
        assert lines[1] == f"line of {n}"
        assert lines[2] == f"END RequestId: {answer.headers['x-amzn-requestid']}"
        report = answer.report()
        assert report["memory"] == "128"
        assert (report["init"] is None) == (n == 1), "only the first invoke reports its init"
        assert int(report["billed"]) >= float(report["duration"])


def test_the_tail_is_the_last_4_kb(functions):
    create(functions, "chatty", python("""
        def handler(event, context):
            for n in range(2000):
                print(f"{n:04} " + "x" * 40)
    """))
    answer = invoke(functions, "chatty", LogType="Tail")
    assert len(answer.tail.encode()) <= 4096
    assert "1999 " in answer.tail and "0001 " not in answer.tail
    answer.report()


def test_without_tail_there_is_no_log_header(functions):
    create(functions, "quiet", ECHO)
    assert "x-amz-log-result" not in invoke(functions, "quiet").headers


def test_the_client_context_reaches_the_function(functions):
    create(functions, "context", python("""
        def handler(event, context):
            client = context.client_context
            return [client.custom, client.env, client.client.app_title]
    """))
    context = {"custom": {"a": "1"}, "env": {"make": "x"}, "client": {"app_title": "t"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    assert invoke(functions, "context", ClientContext=encoded).json == [{"a": "1"}, {"make": "x"}, "t"]


def test_the_context_object_is_complete(functions, account):
    create(functions, "context2", python("""
        import os
        def handler(event, context):
            return {
                "name": context.function_name, "version": context.function_version,
                "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
                "group": context.log_group_name, "stream": context.log_stream_name,
                "left": context.get_remaining_time_in_millis(),
                "env": {k: os.environ.get(k) for k in (
                    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                    "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_REGION", "AWS_DEFAULT_REGION",
                    "AWS_EXECUTION_ENV", "_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "TZ", "LANG",
                    "AWS_LAMBDA_INITIALIZATION_TYPE")},
                "keys": [bool(os.environ.get(k)) for k in (
                    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API")],
            }
    """), Timeout=10)
    seen = invoke(functions, "context2").json
    assert seen["name"] == "context2" and seen["version"] == "$LATEST" and seen["memory"] == "128"
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:{account}:function:context2"
    assert seen["group"] == "/aws/lambda/context2"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen["stream"])
    assert 5_000 < seen["left"] <= 10_000
    assert seen["env"] == {
        "AWS_LAMBDA_FUNCTION_NAME": "context2", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/context2",
        "AWS_LAMBDA_LOG_STREAM_NAME": seen["stream"], "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12", "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC", "LANG": "en_US.UTF-8",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    assert all(seen["keys"])


# Limits


def test_6_mb_pass_in_and_out(functions):
    create(functions, "large", ECHO, Timeout=60)
    body = b'"' + b"x" * (6_291_456 - 2) + b'"'
    assert invoke(functions, "large", raw=body).body == body


def test_a_request_over_6_mb_is_refused(functions):
    create(functions, "larger", ECHO)
    with pytest.raises(ClientError) as raised:
        invoke(functions, "larger", raw=b'"' + b"x" * 6_291_455 + b'"')
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert answer["Error"]["Code"] == "RequestTooLargeException"
    assert answer["Error"]["Message"] == (
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)")


def test_an_answer_over_6_mb_is_a_function_error(functions):
    create(functions, "output", python("def handler(event, context): return 'x' * event"), Timeout=60)
    answer = invoke(functions, "output", 6_291_556)
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.json == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes)."}
    assert invoke(functions, "output", 6_291_554).error is None, "the limit itself, quotes included, passes"


@pytest.mark.parametrize("body", [b"{", b"no json", b'{"a": }', b"\xff\xfe", b"{} {}"])
def test_a_body_that_is_no_json_is_refused(functions, body):
    create(functions, "parse", ECHO)
    with pytest.raises(ClientError) as raised:
        invoke(functions, "parse", raw=body)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["Error"]["Code"] == "InvalidRequestContentException"
    assert answer["Error"]["Message"].startswith("Could not parse request body into json: ")


# Concurrency and environments


def test_one_environment_serves_one_invoke_at_a_time(functions):
    create(functions, "pids", python("""
        import time
        busy = 0
        def handler(event, context):
            global busy
            busy += 1
            time.sleep(0.1)
            try:
                return busy
            finally:
                busy -= 1
    """), Timeout=30)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: invoke(functions, "pids").json, range(30)))
    assert answers == [1] * 30


def test_sequential_invokes_reuse_the_environment(functions):
    create(functions, "warm", python("""
        count = 0
        def handler(event, context):
            global count
            count += 1
            return count
    """))
    assert [invoke(functions, "warm").json for _ in range(5)] == [1, 2, 3, 4, 5]


def test_an_idle_environment_uses_no_cpu(functions):
    create(functions, "spinner", python("""
        import threading, time
        ticks = 0
        def tick():
            global ticks
            while True:
                ticks += 1
                time.sleep(0.005)
        threading.Thread(target=tick, daemon=True).start()
        def handler(event, context):
            return ticks
    """))
    invoke(functions, "spinner")
    first = invoke(functions, "spinner").json
    time.sleep(1.5)
    second = invoke(functions, "spinner").json
    # 300 ticks fit into the pause; a frozen thread makes none of them.
    assert second - first < 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_1000_concurrent_invokes_of_a_50_ms_function_all_answer(server, functions):
    create(functions, "fifty", python("""
        import time
        def handler(event, context):
            time.sleep(0.05)
            return event
    """), Timeout=60)
    client = server.client("lambda", account=functions._request_signer._credentials.access_key,
                           max_pool_connections=200, read_timeout=240)
    stop = threading.Event()
    control: list[float] = []

    def watch():
        while not stop.wait(0.2):
            began = time.monotonic()
            client.get_function(FunctionName="fifty")
            control.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda n: invoke(client, "fifty", n), range(1000)))
    stop.set()
    watcher.join()
    assert [a.json for a in answers] == list(range(1000))
    assert all(a.error is None for a in answers)
    assert max(control) < 5, f"the control plane stalled: {max(control):.2f} s"


def test_a_deleted_functions_environments_end(functions):
    create(functions, "ended", ECHO)
    invoke(functions, "ended")
    functions.delete_function(FunctionName="ended")
    with pytest.raises(ClientError) as raised:
        invoke(functions, "ended")
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_an_update_during_an_invoke_lets_it_finish(functions):
    create(functions, "swap", ECHO, Timeout=20)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, functions, "swap", {"sleep": 2})
        time.sleep(0.7)
        functions.update_function_code(
            FunctionName="swap", ZipFile=python("def handler(event, context): return 'new'"))
        assert running.result().error is None
    deadline = time.monotonic() + 10
    while invoke(functions, "swap").json != "new":
        assert time.monotonic() < deadline
