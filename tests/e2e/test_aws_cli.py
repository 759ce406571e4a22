"""The aws CLI, unmodified, from create to delete."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from functions import NOOP, python

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture
def aws(server, account, tmp_path):
    (tmp_path / "one.zip").write_bytes(python("""
        def handler(event, context):
            print("seen by the log")
            return {"version": 1, "event": event}
    """))
    (tmp_path / "two.zip").write_bytes(python("def handler(event, context): return {'version': 2}"))
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1", "AWS_PAGER": "",
    }

    def run(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([AWS, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=120)
        assert (done.returncode == 0) == ok, done.stderr
        return done

    run.folder = tmp_path
    return run


@pytest.mark.timeout(300)
def test_the_whole_life_of_a_function(aws):
    made = json.loads(aws("lambda", "create-function", "--function-name", "cli", "--runtime", "python3.12",
                          "--handler", "app.handler", "--role", "arn:aws:iam::000000000000:role/r",
                          "--zip-file", "fileb://one.zip").stdout)
    assert made["State"] == "Pending"
    aws("lambda", "wait", "function-active-v2", "--function-name", "cli")
    told = json.loads(aws("lambda", "invoke", "--function-name", "cli", "--payload", '{"k": "v"}',
                          "--log-type", "Tail", "out.json").stdout)
    assert told["StatusCode"] == 200 and told["ExecutedVersion"] == "$LATEST"
    assert "seen by the log" in base64.b64decode(told["LogResult"]).decode()
    assert json.loads((aws.folder / "out.json").read_text()) == {"version": 1, "event": {"k": "v"}}

    assert json.loads(aws("lambda", "publish-version", "--function-name", "cli").stdout)["Version"] == "1"
    aws("lambda", "update-function-code", "--function-name", "cli", "--zip-file", "fileb://two.zip")
    aws("lambda", "wait", "function-updated-v2", "--function-name", "cli")
    assert json.loads(aws("lambda", "publish-version", "--function-name", "cli").stdout)["Version"] == "2"
    aws("lambda", "create-alias", "--function-name", "cli", "--name", "live", "--function-version", "1")

    def version_behind_live() -> int:
        aws("lambda", "invoke", "--function-name", "cli", "--qualifier", "live", "--payload", "{}", "live.json")
        return json.loads((aws.folder / "live.json").read_text())["version"]

    assert version_behind_live() == 1
    aws("lambda", "update-alias", "--function-name", "cli", "--name", "live", "--function-version", "2")
    assert version_behind_live() == 2

    # Version 1 of the CLI, the one on PyPI, has no `logs tail`.
    log = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/cli", "--query", "events[].message",
              "--output", "text").stdout
    assert "seen by the log" in log and "REPORT RequestId" in log
    names = aws("lambda", "list-functions", "--query", "Functions[].FunctionName", "--output", "text").stdout
    assert names.strip() == "cli"

    aws("lambda", "delete-function", "--function-name", "cli")
    gone = aws("lambda", "get-function", "--function-name", "cli", ok=False)
    assert "ResourceNotFoundException" in gone.stderr


def test_a_function_error_is_shown_and_a_refusal_ends_with_an_error(aws):
    (aws.folder / "bad.zip").write_bytes(python("def handler(event, context): raise ValueError('no')"))
    aws("lambda", "create-function", "--function-name", "bad", "--runtime", "python3.12", "--handler", "app.handler",
        "--role", "arn:aws:iam::000000000000:role/r", "--zip-file", "fileb://bad.zip")
    aws("lambda", "wait", "function-active-v2", "--function-name", "bad")
    told = json.loads(aws("lambda", "invoke", "--function-name", "bad", "out.json").stdout)
    assert told["FunctionError"] == "Unhandled"
    assert json.loads((aws.folder / "out.json").read_text())["errorMessage"] == "no"
    refused = aws("lambda", "create-function", "--function-name", "bad", "--runtime", "python3.12", "--handler",
                  "app.handler", "--role", "arn:aws:iam::000000000000:role/r", "--zip-file", "fileb://bad.zip", ok=False)
    assert "ResourceConflictException" in refused.stderr and "Function already exist: bad" in refused.stderr


def test_tags_and_configuration(aws):
    (aws.folder / "noop.zip").write_bytes(NOOP)
    arn = json.loads(aws("lambda", "create-function", "--function-name", "t", "--runtime", "python3.12", "--handler",
                         "app.handler", "--role", "arn:aws:iam::000000000000:role/r", "--zip-file", "fileb://noop.zip",
                         "--tags", "a=1,b=2").stdout)["FunctionArn"]
    aws("lambda", "tag-resource", "--resource", arn, "--tags", "c=3")
    aws("lambda", "untag-resource", "--resource", arn, "--tag-keys", "a")
    assert json.loads(aws("lambda", "list-tags", "--resource", arn).stdout)["Tags"] == {"b": "2", "c": "3"}
    aws("lambda", "wait", "function-active-v2", "--function-name", "t")
    changed = json.loads(aws("lambda", "update-function-configuration", "--function-name", "t", "--timeout", "9",
                             "--memory-size", "256", "--environment", "Variables={KEY=1}").stdout)
    assert (changed["Timeout"], changed["MemorySize"]) == (9, 256)
