"""LoggingConfig: format, levels and log group."""

from __future__ import annotations

import json
import re

import pytest
from functions import create, invoke, node, python
from test_logs import events

LEVELS = python("""
    import json, logging
    def handler(event, context):
        log = logging.getLogger()
        log.debug("a debug line")
        log.info("an info line")
        log.warning("a warning\\nof two lines")
        log.error("an error line")
        print("a plain line", flush=True)
        for level in ("DEBUG", "WARN", "nonsense"):
            print(json.dumps({"level": level, "message": f"printed {level}"}), flush=True)
""")


def parsed(messages: list[str]) -> list[dict | str]:
    def parse(message):
        try:
            return json.loads(message)
        except ValueError:
            return message
    return [parse(message) for message in messages]


def platform(entries) -> list[str]:
    return [e["type"] for e in entries if isinstance(e, dict) and str(e.get("type", "")).startswith("platform.")]


def messages(entries) -> list[str]:
    return [e["message"] if isinstance(e, dict) else e for e in entries if not isinstance(e, dict) or "message" in e]


def run(functions, logs, name: str, config: dict, wanted: int) -> list[dict | str]:
    create(functions, name, LEVELS, LoggingConfig=config)
    answer = invoke(functions, name)
    assert answer.error is None, answer
    group = config.get("LogGroup", f"/aws/lambda/{name}")
    return parsed(events(logs, group, wanted))


def test_json_is_filtered_from_info_on_by_default(functions, logs):
    found = run(functions, logs, "json", {"LogFormat": "JSON"}, 9)
    assert platform(found) == ["platform.initStart", "platform.start", "platform.report"]
    texts = messages(found)
    assert "a debug line" not in texts
    assert {"an info line", "a warning\nof two lines", "an error line"} <= set(texts), texts
    assert "a plain line\n" in texts
    assert "printed DEBUG" not in texts
    assert {"printed WARN", "printed nonsense"} <= set(texts)
    report = next(e for e in found if isinstance(e, dict) and e.get("type") == "platform.report")
    assert report["record"]["status"] == "success"
    assert report["record"]["metrics"]["memorySizeMB"] == 128


def test_levels_select_application_and_system_lines(functions, logs):
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "DEBUG"}
    found = run(functions, logs, "levels", config, 6)
    assert platform(found) == [
        "platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.start",
        "platform.runtimeDone", "platform.report"]
    assert messages(found) == ["an error line"]


def test_warn_hides_the_platforms_good_news(functions, logs):
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "FATAL", "SystemLogLevel": "WARN"}
    create(functions, "quiet", LEVELS, LoggingConfig=config)
    invoke(functions, "quiet")
    create(functions, "fails", python("def handler(event, context): raise ValueError('x')"),
           LoggingConfig=config | {"LogGroup": "/aws/lambda/quiet"})
    assert invoke(functions, "fails").error == "Unhandled"
    found = parsed(events(logs, "/aws/lambda/quiet", 2))
    assert platform(found) == ["platform.runtimeDone", "platform.report"]
    assert all(e["record"]["status"] == "error" for e in found if e.get("type"))


def test_text_is_never_filtered(functions, logs):
    found = run(functions, logs, "text", {"LogFormat": "Text"}, 9)
    lines = "".join(str(entry) for entry in found)
    assert "REPORT RequestId" in lines and "a plain line" in lines
    assert {"level": "DEBUG", "message": "printed DEBUG"} in found


def test_shared_group_has_streams_with_the_functions_names(functions, logs):
    for name in ("first", "second"):
        create(functions, name, LoggingConfig={"LogGroup": "/team/shared"})
        invoke(functions, name)
    events(logs, "/team/shared", 6)
    streams = [s["logStreamName"] for s in logs.describe_log_streams(logGroupName="/team/shared")["logStreams"]]
    for name in ("first", "second"):
        assert any(re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{name}\[\$LATEST\][0-9a-f]{{32}}", s) for s in streams), streams
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.filter_log_events(logGroupName="/aws/lambda/first")


def test_function_learns_its_group_and_stream(functions, logs):
    create(functions, "knows", python("""
        import os
        def handler(event, context):
            return [context.log_group_name, context.log_stream_name, os.environ["AWS_LAMBDA_LOG_FORMAT"]]
    """), LoggingConfig={"LogGroup": "/team/knows", "LogFormat": "JSON"})
    group, stream, log_format = invoke(functions, "knows").json
    assert (group, log_format) == ("/team/knows", "JSON")
    events(logs, group, 2)
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [s["logStreamName"] for s in streams] == [stream]


def test_long_messages_are_cut_at_256_kilobytes(functions, logs):
    create(functions, "long", python("""
        import logging
        def handler(event, context):
            print("x" * 300_000, flush=True)
            logging.getLogger().error("y" * 300_000)
    """))
    invoke(functions, "long")
    found = events(logs, "/aws/lambda/long", 7)
    assert all(len(message) <= 262_144 - 26 for message in found)
    assert sum(message.count("x") for message in found if message.startswith("xxx")) == 300_000
    assert sum(message.count("y") for message in found if "yyy" in message) >= 300_000


def test_node_logs_json_with_levels(functions, logs):
    create(functions, "nodelog", node("""
        exports.handler = async () => {
          console.debug("quiet"); console.info("told"); console.error("loud");
        };
    """), runtime="nodejs20.x", LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    invoke(functions, "nodelog")
    found = parsed(events(logs, "/aws/lambda/nodelog", 5))
    levels = {e["message"]: e["level"] for e in found if isinstance(e, dict) and "level" in e}
    assert levels == {"told": "INFO", "loud": "ERROR"}
