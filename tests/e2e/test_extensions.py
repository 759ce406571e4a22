"""Extensions in layers, written to AWS's published contract, in Python, shell and JavaScript."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from functions import create, invoke, python, settle, zipped
from test_logs import events

EXTENSIONS = Path(__file__).parent / "extensions"

READER = python("""
    import json, os, time
    def handler(event, context):
        print("working", flush=True)
        time.sleep(event.get("sleep", 0))
        for path in event.get("read", []):
            if os.path.exists(path):
                return [json.loads(line) for line in open(path)]
        return event
""")


def layer(client, name: str, *files: str, **renamed: str) -> str:
    """Publishes a layer with these extensions; answers its ARN."""
    sources = {name.split(".")[0]: EXTENSIONS / name for name in files}
    sources |= {name: EXTENSIONS / source for name, source in renamed.items()}
    content = {f"extensions/{name}": path.read_bytes() for name, path in sources.items()}
    package = zipped(content, executable=tuple(content))
    return client.publish_layer_version(LayerName=name, Content={"ZipFile": package})["LayerVersionArn"]


def extended(client, name: str, *files: str, variables: dict[str, str] | None = None, **config) -> None:
    arn = layer(client, f"{name}-layer", *files)
    create(client, name, READER, Layers=[arn], Environment={"Variables": variables or {}},
           MemorySize=config.pop("MemorySize", 256), Timeout=config.pop("Timeout", 10), **config)


def logged(logs, group: str, text: str, seconds: float = 10) -> list[str]:
    """The group's messages as soon as one contains the text."""
    until = time.monotonic() + seconds
    while True:
        found = events(logs, group, 1)
        if any(text in message for message in found):
            return found
        assert time.monotonic() < until, f"no {text!r} in {found}"
        time.sleep(0.05)


def test_extension_is_told_of_invocations_and_logged(functions, logs):
    extended(functions, "shell", "companion.sh")
    answer = invoke(functions, "shell", {"n": 1}, LogType="Tail")
    assert answer.json == {"n": 1} and answer.error is None
    assert "REPORT RequestId" in answer.tail
    found = logged(logs, "/aws/lambda/shell", "companion: {")
    assert "EXTENSION\tName: companion\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n" in found
    told = json.loads(next(m for m in found if m.startswith("companion: ")).removeprefix("companion: "))
    assert told["eventType"] == "INVOKE"
    assert told["requestId"] == answer.headers["x-amzn-requestid"]
    assert told["invokedFunctionArn"].endswith(":function:shell")
    assert told["tracing"]["value"].startswith("Root=1-")
    again = invoke(functions, "shell", {"n": 2}, LogType="Tail")
    assert again.report()["init"] is None, "the environment serves on"


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js")
def test_extension_in_javascript_gets_telemetry_over_tcp(functions, logs):
    extended(functions, "node", "companion.mjs", MemorySize=512)
    invoke(functions, "node")
    found = logged(logs, "/aws/lambda/node", "node: INVOKE")
    assert 'subscribed: 200 "OK"\n' in found
    assert "TELEMETRY\tName: companion\tState: Subscribed\tTypes: [Platform, Function]\n" in found
    seen = invoke(functions, "node", {"read": ["/tmp/node.jsonl"], "sleep": 0.1}).json
    assert {"platform.initStart", "platform.start", "function"} <= {event["type"] for event in seen}


def test_update_of_the_function_shuts_extensions_down(functions, logs):
    extended(functions, "spindown", "companion.sh")
    invoke(functions, "spindown")
    functions.update_function_configuration(FunctionName="spindown", Description="new")
    settle(functions, "spindown")
    found = logged(logs, "/aws/lambda/spindown", "SHUTDOWN\"")
    told = next(m for m in found if '"SHUTDOWN"' in m)
    assert json.loads(told.removeprefix("companion: "))["shutdownReason"] == "SPINDOWN"


def test_caller_does_not_wait_for_a_slow_extension(functions):
    extended(functions, "slow", "companion.sh", variables={"COMPANION": "sleep 1"})
    invoke(functions, "slow")
    began = time.monotonic()
    invoke(functions, "slow", {"n": 1})
    quick = time.monotonic() - began
    report = invoke(functions, "slow", {"n": 2}, LogType="Tail").report()
    assert float(report["duration"]) >= 1000, "its time counts"
    assert int(report["billed"]) >= 1000
    assert quick < 0.9


def test_crash_of_an_extension_is_the_invocations_error(functions, logs):
    extended(functions, "crash", "companion.sh", variables={"COMPANION": "exit 5"})
    answer = invoke(functions, "crash", {"sleep": 3}, LogType="Tail")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Extension.Crash"
    assert answer.json["errorMessage"].endswith("Error: exit status 5")
    assert answer.report()["error"] == "Extension.Crash"


def test_extension_that_fails_its_init_fails_the_function(functions, logs):
    report = "curl -sS -X POST -H \"Lambda-Extension-Identifier: $ID\" -H 'Lambda-Extension-Function-Error-Type: " \
             "Extension.NoLicence' $API/init/error; exit 1"
    extended(functions, "licence", "companion.sh", variables={"COMPANION_INIT": report})
    answer = invoke(functions, "licence")
    assert answer.json["errorType"] == "Extension.InitError"
    found = logged(logs, "/aws/lambda/licence", "EXTENSION\t")
    assert any("State: InitError" in m and "Error Type: Extension.NoLicence" in m for m in found)


def test_timeout_covers_extensions(functions, logs):
    extended(functions, "overtime", "companion.sh", variables={"COMPANION": "sleep 30"}, Timeout=1)
    answer = invoke(functions, "overtime", {"n": 1})
    assert answer.json == {"n": 1}, "the function itself was in time"
    found = logged(logs, "/aws/lambda/overtime", "Task timed out")
    assert any("Status: timeout" in m for m in found)


def test_two_layers_bring_two_extensions(functions, logs):
    first = layer(functions, "one", alpha="companion.sh")
    second = layer(functions, "two", beta="companion.sh")
    create(functions, "both", READER, Layers=[first, second], Timeout=10)
    invoke(functions, "both")
    found = logged(logs, "/aws/lambda/both", "EXTENSION\tName: beta")
    assert [m for m in found if m.startswith("EXTENSION")] == [
        f"EXTENSION\tName: {name}\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n" for name in ("alpha", "beta")]


def test_function_with_extensions_publishes_with_snapstart_and_starts_cold(functions, logs):
    arn = layer(functions, "snap-layer", "companion.sh")
    create(functions, "snap", READER, Layers=[arn], SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=10)
    version = functions.publish_version(FunctionName="snap")["Version"]
    functions.get_waiter("published_version_active").wait(
        FunctionName="snap", Qualifier=version, WaiterConfig={"Delay": 0.1, "MaxAttempts": 200})
    answer = invoke(functions, "snap", {"n": 1}, Qualifier=version, LogType="Tail")
    assert answer.json == {"n": 1}
    assert answer.report()["init"] is not None, "a cold start"
    assert logged(logs, "/aws/lambda/snap", "companion: {")
