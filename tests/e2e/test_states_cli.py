"""`firn states`: deploy, start, watch, history, graph, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree

import pytest
from server import binary

# Exit codes, as `firn --help` lists them.
DID_NOT_SUCCEED, WRONG_USAGE, REFUSED = 1, 2, 3

GREETING = """
StartAt: Shape
States:
  Shape:
    Type: Pass
    Parameters: {greeting: "${Word}", to.$: $.name}
    Next: Known?
  Known?:
    Type: Choice
    Choices:
      - Variable: $.to
        StringEquals: nobody
        Next: Refuse
    Default: Rest
  Rest: {Type: Wait, Seconds: 0, End: true}
  Refuse: {Type: Fail, Error: Nobody, Cause: there is nobody to greet}
"""


@pytest.fixture
def firn(server, account, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_ENDPOINT": server.endpoint}

    def run(*arguments: str, stdin: str | None = None, code: int = 0):
        command = [binary(), "states", *arguments, "--account", account]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, input=stdin,
                              timeout=120)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    run.folder = tmp_path
    (tmp_path / "greet.asl.yaml").write_text(GREETING)
    return run


@pytest.fixture
def greet(firn):
    firn("deploy", "greet.asl.yaml", "--param", "Word=hello")
    return firn


def test_a_workflow_from_yaml_to_its_deletion(firn):
    made = json.loads(firn("deploy", "greet.asl.yaml", "-p", "Word=hello", "--tag", "team=a", "--json").stdout)
    assert made["action"] == "created"
    assert made["stateMachineArn"].endswith(":stateMachine:greet")
    ended = firn("start", "greet", "--wait", "--input", '{"name": "Ada"}')
    assert json.loads(ended.stdout) == {"greeting": "hello", "to": "Ada"}
    again = json.loads(firn("deploy", "greet.asl.yaml", "-p", "Word=bye", "--publish", "--json").stdout)
    assert again["action"] == "updated"
    assert again["stateMachineVersionArn"].endswith(":greet:1")
    (firn.folder / "input.json").write_text('{"name": "Bob"}')
    ended = firn("start", "greet", "--wait", "--input-file", "input.json")
    assert json.loads(ended.stdout) == {"greeting": "bye", "to": "Bob"}
    ended = firn("start", "greet", "--wait", "--input", "-", stdin='{"name": "Eve"}')
    assert json.loads(ended.stdout)["to"] == "Eve"
    assert "greet\tSTANDARD" in firn("list").stdout
    described = firn("describe", "greet").stdout
    assert "team=a" in described and "Known?" in described
    assert json.loads(firn("describe", "greet", "--definition").stdout)["StartAt"] == "Shape"
    firn("delete", "greet", "--yes")
    assert "greet" not in json.loads(firn("list", "--json").stdout)


def test_an_execution_that_fails_says_so_by_its_exit_code(greet):
    failed = greet("start", "greet", "--watch", "--name", "first", "--input", '{"name": "nobody"}', code=DID_NOT_SUCCEED)
    assert failed.stdout == ""
    assert "execution failed: Nobody: there is nobody to greet" in failed.stderr
    watched = greet("watch", "greet/first", code=DID_NOT_SUCCEED)
    assert "Shape: " in watched.stdout and "execution failed" in watched.stdout
    shown = json.loads(greet("show", "greet/first", "--json").stdout)
    assert (shown["status"], shown["error"]) == ("FAILED", "Nobody")
    listed = greet("executions", "greet", "--status", "failed")
    assert listed.stdout.startswith("first\tFAILED")
    assert greet("executions", "greet", "--status", "running").stdout == ""


def test_a_failed_execution_is_taken_up_where_it_failed(greet):
    greet("start", "greet", "--wait", "--name", "first", "--input", '{"name": "nobody"}', code=DID_NOT_SUCCEED)
    assert "redriven arn:" in greet("redrive", "greet/first").stdout
    watched = greet("watch", "greet/first", code=DID_NOT_SUCCEED).stdout.splitlines()
    told = [line.split(None, 1)[1] for line in watched]
    assert told[-2:] == ["execution redriven", "execution failed: Nobody: there is nobody to greet"]
    assert json.loads(greet("show", "greet/first", "--json").stdout)["redriveCount"] == 1


def test_a_history_reads_from_top_to_bottom(greet):
    greet("start", "greet", "--wait", "--input", '{"name": "Ada"}')
    lines = [line.split("\t") for line in greet("history", "greet").stdout.splitlines()]
    assert [line[2:4] for line in lines] == [
        ["ExecutionStarted", ""],
        ["PassStateEntered", "Shape"], ["PassStateExited", "Shape"],
        ["ChoiceStateEntered", "Known?"], ["ChoiceStateExited", "Known?"],
        ["WaitStateEntered", "Rest"], ["WaitStateExited", "Rest"],
        ["ExecutionSucceeded", ""],
    ]
    assert lines[0][4] == 'input {"name": "Ada"}'
    events = json.loads(greet("history", "greet", "--json").stdout)
    assert [event["id"] for event in events] == list(range(1, 9))
    backwards = json.loads(greet("history", "greet", "--reverse", "--json").stdout)
    assert backwards == events[::-1]
    assert '"to": "Ada"' in greet("history", "greet", "--full").stdout


def test_pictures_of_files_machines_and_executions(greet):
    greet("start", "greet", "--wait", "--name", "one", "--input", '{"name": "Ada"}')
    greet("graph", "greet.asl.yaml", "-o", "file.svg")
    greet("graph", "greet", "-o", "machine.svg")
    greet("graph", "greet", "--execution", "-o", "run.svg")
    for name in ("file.svg", "machine.svg", "run.svg"):
        xml.etree.ElementTree.parse(greet.folder / name)
    run = (greet.folder / "run.svg").read_text()
    assert "one: succeeded after" in run
    assert 'class="wait succeeded"' in run and 'class="fail unreached"' in run
    assert greet("graph", "greet", "-e", "one").stdout == run
    mermaid = greet("graph", "greet", "--format", "mermaid").stdout
    assert mermaid.startswith("flowchart TD") and "#34;nobody#34;" in mermaid


def test_mistakes_have_a_file_and_a_line(firn):
    (firn.folder / "wrong.asl.yaml").write_text("StartAt: A\nStates:\n  A:\n    Type: Pass\n    Next: B\n")
    told = firn("validate", "wrong.asl.yaml", code=WRONG_USAGE)
    assert told.stdout.startswith("wrong.asl.yaml:5: error: ")
    assert "MISSING_TRANSITION_TARGET" in told.stdout
    assert firn("validate", "greet.asl.yaml").stdout == "greet.asl.yaml: no errors\n"
    (firn.folder / "broken.json").write_text('{\n "StartAt": }')
    assert "broken.json: line 2" in firn("validate", "broken.json", code=WRONG_USAGE).stderr
    assert "no place" in firn("deploy", "greet.asl.yaml", "-p", "Wrod=x", code=WRONG_USAGE).stderr
    assert "--param gives it a value" in firn("deploy", "greet.asl.yaml").stderr


def test_what_does_not_exist_and_what_cannot_be(greet):
    assert "there is no state machine nothing" in greet("start", "nothing", code=WRONG_USAGE).stderr
    assert "no executions yet" in greet("history", "greet", code=WRONG_USAGE).stderr
    assert "not JSON" in greet("start", "greet", "--input", "{", code=WRONG_USAGE).stderr
    refused = greet("deploy", "greet.asl.yaml", "--type", "express", "-p", "Word=x", code=WRONG_USAGE)
    assert "cannot change" in refused.stderr
    assert "Invalid Token" in greet("send-success", "nonsense", code=REFUSED).stderr


def test_express_runs_within_the_request(firn):
    firn("deploy", "greet.asl.yaml", "--name", "quick", "--type", "express", "-p", "Word=hi")
    assert json.loads(firn("start", "quick", "--sync", "--input", '{"name": "Ada"}').stdout)["greeting"] == "hi"
    failed = firn("start", "quick", "--sync", "--input", '{"name": "nobody"}', code=DID_NOT_SUCCEED)
    assert "the execution failed: Nobody" in failed.stderr


def test_versions_and_aliases(firn):
    firn("deploy", "greet.asl.yaml", "-p", "Word=one", "--alias", "live")
    firn("deploy", "greet.asl.yaml", "-p", "Word=two", "--publish")
    assert [line.split("\t")[0] for line in firn("versions", "list", "greet").stdout.splitlines()] == ["2", "1"]
    ended = firn("start", "greet:live", "--wait", "--input", '{"name": "Ada"}')
    assert json.loads(ended.stdout)["greeting"] == "one"
    firn("aliases", "set", "greet:live", "1=0", "2=100")
    assert firn("aliases", "list", "greet").stdout.startswith("live\t1=0 2=100\t")
    ended = firn("start", "greet:live", "--wait", "--input", '{"name": "Ada"}')
    assert json.loads(ended.stdout)["greeting"] == "two"
    firn("aliases", "delete", "greet:live")
    firn("versions", "delete", "greet:1")
    assert len(firn("versions", "list", "greet").stdout.splitlines()) == 1


def test_activities_and_stopping(firn):
    arn = firn("activities", "create", "review").stdout.strip()
    definition = {"StartAt": "Review", "States": {"Review": {"Type": "Task", "Resource": arn, "End": True}}}
    (firn.folder / "review.json").write_text(json.dumps(definition))
    firn("deploy", "review.json")
    execution = firn("start", "review").stdout.strip()
    assert execution in firn("stop", "review", "--error", "Enough", "--cause", "it is late").stdout
    ended = firn("watch", execution, code=DID_NOT_SUCCEED)
    assert "the execution was stopped: Enough: it is late" in ended.stderr
    assert firn("activities").stdout.startswith("review\t")
    firn("activities", "delete", "review")
    assert firn("activities").stdout == ""
