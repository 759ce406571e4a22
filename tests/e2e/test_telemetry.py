"""The Telemetry API as an extension sees it, and what hostile extensions get."""

from __future__ import annotations

import json

from functions import invoke
from test_extensions import extended, logged

SEEN = {"read": ["/tmp/observer.jsonl"]}


def seen_by_observer(functions, name: str, settings: dict | None = None) -> list[dict]:
    """Invokes twice; answers what the observer noted until the second one."""
    variables = {"OBSERVER": json.dumps(settings or {}), "SECRET": "s"}
    extended(functions, name, "observer.py", variables=variables)
    first = invoke(functions, name, {"first": True})
    assert first.json == {"first": True}, first
    return invoke(functions, name, SEEN | {"sleep": 0.2}).json


def telemetry(notes: list[dict]) -> list[dict]:
    return [note["telemetry"] for note in notes if "telemetry" in note]


def test_events_arrive_in_order_with_real_figures(functions, logs):
    notes = seen_by_observer(functions, "order")
    registered = notes[0]
    assert registered["status"] == 200
    assert registered["registered"]["functionName"] == "order"
    assert registered["registered"]["functionVersion"] == "$LATEST"
    assert registered["registered"]["handler"] == "app.handler"
    assert registered["registered"]["accountId"].isdigit()
    assert {"SECRET", "AWS_ACCESS_KEY_ID", "AWS_LAMBDA_FUNCTION_NAME", "AWS_REGION"} <= set(registered["variables"])
    hidden = {"_HANDLER", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"}
    assert not hidden & set(registered["variables"])
    assert notes[1] == {"subscribed": '"OK"', "status": 200}
    assert {"waited": True} in notes, "runtimeDone came before it gave up"

    found = telemetry(notes)
    request = next(e["record"]["requestId"] for e in found if e["type"] == "platform.start")
    kinds = [e["type"] for e in found if e["type"] != "extension"]
    # The runtime starts as soon as the extension has registered: this one has no fixed place.
    kinds.remove("platform.telemetrySubscription")
    first = kinds[: kinds.index("platform.report") + 1]
    assert first == [
        "platform.initStart", "platform.initRuntimeDone", "platform.extension",
        "platform.initReport", "platform.start", "function", "platform.runtimeDone", "platform.report",
    ]
    by_kind = {e["type"]: e["record"] for e in reversed(found)}
    assert by_kind["platform.initStart"]["initializationType"] == "on-demand"
    assert by_kind["platform.initReport"]["metrics"]["durationMs"] > 0
    assert by_kind["platform.extension"] == {
        "name": "observer", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert by_kind["function"].startswith("working")
    assert any("the observer is there" in str(e["record"]) for e in found if e["type"] == "extension")
    done, report = by_kind["platform.runtimeDone"], by_kind["platform.report"]
    assert done["requestId"] == report["requestId"] == request
    assert done["status"] == "success" and done["metrics"]["producedBytes"] == len('{"first": true}')
    spans = {span["name"]: span["durationMs"] for span in done["spans"]}
    assert set(spans) == {"responseLatency", "responseDuration", "runtimeOverhead"}
    assert sum(spans.values()) <= done["metrics"]["durationMs"] + 1
    metrics = report["metrics"]
    assert metrics["memorySizeMB"] == 256 and 0 < metrics["maxMemoryUsedMB"] <= 256
    assert metrics["initDurationMs"] > 0 and metrics["billedDurationMs"] >= metrics["durationMs"]
    assert report["spans"][0]["name"] == "extensionOverhead"
    assert report["spans"][0]["durationMs"] > 0
    lines = logged(logs, "/aws/lambda/order", "TELEMETRY")
    assert "TELEMETRY\tName: observer\tState: Subscribed\tTypes: [Platform, Function, Extension]\n" in lines


def test_every_published_schema_version_is_accepted(functions):
    for version in ("2022-07-01", "2025-01-29"):
        name = f"schema-{version}"
        notes = seen_by_observer(functions, name, {"schemaVersion": version, "types": ["platform"]})
        assert {"subscribed": '"OK"', "status": 200} in notes
        assert {e["type"].split(".")[0] for e in telemetry(notes)} == {"platform"}


def test_function_error_is_told(functions):
    extended(functions, "failing", "observer.py")
    invoke(functions, "failing", {"sleep": "x"})
    notes = invoke(functions, "failing", SEEN | {"sleep": 0.2}).json
    done = next(e["record"] for e in telemetry(notes) if e["type"] == "platform.runtimeDone")
    assert done["status"] == "error", done


def test_invalid_and_foreign_subscriptions_are_refused(functions):
    good = {"schemaVersion": "2022-12-13", "types": ["platform"],
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}}

    def with_uri(uri):
        return good | {"destination": {"protocol": "HTTP", "URI": uri}}

    attempts = [
        with_uri("http://169.254.169.254:80/latest/meta-data"),
        with_uri("http://127.0.0.1:22"),
        with_uri("http://firn.example:80/"),
        with_uri("http://sandbox:9001/2018-06-01/runtime/init/error"),
        with_uri("http://sandbox.localdomain"),
        good | {"types": []},
        good | {"types": ["everything"]},
        good | {"schemaVersion": "1999-01-01"},
        good | {"buffering": {"timeoutMs": 1}},
        good | {"destination": {"protocol": "UDP", "port": 1}},
        good | {"destination": {"protocol": "TCP", "port": 70000}},
        [],
    ]
    notes = seen_by_observer(functions, "refused", {"attempts": attempts})
    answers = [note for note in notes if "attempt" in note]
    assert len(answers) == len(attempts)
    for answer in answers:
        assert answer["status"] == 400, answer
        assert json.loads(answer["body"])["errorType"] == "ValidationError", answer
    text = json.loads(answers[4]["body"])["errorMessage"]
    assert text == "URI port is not provided"


def test_huge_request_is_refused(functions):
    huge = {"types": ["platform"], "schemaVersion": "x" * 300_000}
    # The variable would be too large, so the extension makes it.
    extended(functions, "huge", "companion.sh", variables={
        "COMPANION_INIT": "head -c 400000 /dev/zero | curl -sS -o /tmp/a -w '%{http_code}\\n' -X PUT "
                          "-H \"Lambda-Extension-Identifier: $ID\" --data-binary @- "
                          "http://$AWS_LAMBDA_RUNTIME_API/2022-07-01/telemetry > /tmp/companion.jsonl"})
    assert len(json.dumps(huge)) > 256 * 1024
    assert invoke(functions, "huge", {"read": ["/tmp/companion.jsonl"]}).json == [413]


def test_extension_cannot_register_twice_or_late(functions):
    late = ("curl -sS -o /tmp/late -X POST -H 'Lambda-Extension-Name: late' -d '{\"events\":[]}' $API/register; "
            "curl -sS -o /tmp/twice -X POST -H \"Lambda-Extension-Name: $NAME\" -d '{\"events\":[]}' $API/register; "
            "cat /tmp/late > /tmp/companion.jsonl; echo >> /tmp/companion.jsonl; cat /tmp/twice >> /tmp/companion.jsonl")
    extended(functions, "late", "companion.sh", variables={"COMPANION": late})
    invoke(functions, "late")
    refused = invoke(functions, "late", {"read": ["/tmp/companion.jsonl"], "sleep": 0.2}).json
    assert refused[0]["errorType"] == "Extension.RegistrationClosed"
    assert refused[1]["errorType"] == "Extension.InvalidExtensionState"


def test_extension_that_floods_its_output_disturbs_nobody(functions, logs):
    flood = "(yes flooding | head -c 3000000) &"
    extended(functions, "flood", "companion.sh", variables={"COMPANION": flood})
    for number in range(3):
        answer = invoke(functions, "flood", {"n": number}, LogType="Tail")
        assert answer.json == {"n": number}
        assert len(answer.tail) <= 4096
