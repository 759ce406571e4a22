"""Tests of workflows: `firn states test`, TestState, and test cases of Step Functions Local."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError
from server import binary

# Exit codes, as `firn --help` lists them.
DID_NOT_SUCCEED, WRONG_USAGE = 1, 2

ORDER = {
    "StartAt": "Charge",
    "States": {
        "Charge": {
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "Rest",
            "Parameters": {"FunctionName": "charge", "Payload.$": "$"}, "OutputPath": "$.Payload",
            "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 60}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Refund"}],
        },
        "Rest": {"Type": "Wait", "Seconds": 2592000, "End": True},
        "Refund": {"Type": "Fail", "Error": "NotCharged", "Cause": "no money"},
    },
}
MOCKS = {
    "StateMachines": {"order": {"TestCases": {
        "RetryPath": {"Charge": "BusyOnce"}, "Broken": {"Charge": "Broken"},
    }}},
    "MockedResponses": {
        "BusyOnce": {
            "0": {"Throw": {"Error": "Busy", "Cause": "later"}},
            "1": {"Return": {"Payload": {"ok": True}}},
        },
        "Broken": {"0": {"Throw": {"Error": "CardExpired", "Cause": ""}}},
    },
}
ROLE = "arn:aws:iam::{}:role/states"


@pytest.fixture
def firn(tmp_path):
    (tmp_path / "order.asl.json").write_text(json.dumps(ORDER, indent=1))
    (tmp_path / "mocks.json").write_text(json.dumps(MOCKS))

    def run(*arguments: str, code: int = 0):
        command = [binary(), "states", "test", *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    run.folder = tmp_path
    return run


def test_thirty_days_pass_at_once(firn):
    done = firn("order.asl.json", "--mock", "mocks.json#RetryPath")
    assert "SUCCEEDED" in done.stdout and '{"ok":true}' in done.stdout
    shown = json.loads(firn("order.asl.json", "--mock", "mocks.json#RetryPath", "--json").stdout)
    assert [visit["state"] for visit in shown["path"]] == ["Charge", "Rest"]
    assert shown["path"][0]["errors"] == ["Busy"]
    assert shown["durationMs"] == (60 + 2592000) * 1000
    assert shown["history"][-1]["type"] == "ExecutionSucceeded"


def test_expectations_decide_the_exit_code(firn):
    broken = ("order.asl.json", "--mock", "mocks.json#Broken")
    firn(*broken, code=DID_NOT_SUCCEED)
    firn(*broken, "--expect-status", "FAILED", "--expect-error", "NotCharged")
    failed = firn(*broken, "--expect-status", "SUCCEEDED", code=DID_NOT_SUCCEED)
    assert "the status is FAILED, not SUCCEEDED" in failed.stderr


def test_what_is_missing_or_wrong_is_named(firn):
    assert "'Charge' runs lambda:invoke, and there is no mock for it" in firn("order.asl.json", code=WRONG_USAGE).stderr
    (firn.folder / "wrong.json").write_text('{"StartAt": "A",\n "States": {\n  "A": {"Type": "Pass", "Next": "B"}}}')
    wrong = firn("wrong.json", code=WRONG_USAGE).stderr
    assert "wrong.json:3: MISSING_TRANSITION_TARGET: Missing 'Next' target: B at /States/A/Next" in wrong
    (firn.folder / "bad.json").write_text('{"StateMachines": {"m": {"TestCases": {"c": {"S": "gone"}}}}}')
    bad = firn("order.asl.json", "--mock", "bad.json#c", code=WRONG_USAGE).stderr
    assert "state machine 'm', test case 'c', state 'S': there is no mocked response 'gone'" in bad


def test_a_file_of_tests(firn):
    (firn.folder / "order.tests.yaml").write_text("""
definition: order.asl.json
mocks: mocks.json
tests:
  - name: tried again
    case: RetryPath
    expect: {status: SUCCEEDED, path: [Charge, Rest], output: {ok: true}}
  - name: refunded
    mock: {Charge: {Throw: {Error: Lost, Cause: "?"}}}
    expect: {error: NotCharged}
""")
    assert "2 passed, 0 failed" in firn("--cases", "order.tests.yaml").stdout
    (firn.folder / "bad.tests.yaml").write_text("""
definition: order.asl.json
tests:
  - {name: wrong, mock: {Charge: {Payload: 1}}, expect: {output: 2}}
""")
    failed = firn("--cases", "bad.tests.yaml", code=DID_NOT_SUCCEED)
    assert "the output is 1, not 2" in failed.stdout


@pytest.fixture
def states(server, account):
    return server.client("stepfunctions", account=account, inject_host_prefix=False)


def test_one_state_is_tested(states):
    answer = states.test_state(
        definition=json.dumps(ORDER), stateName="Charge", input='{"id": 7}', inspectionLevel="DEBUG",
        mock={"errorOutput": {"error": "Busy", "cause": "later"}}, stateConfiguration={"retrierRetryCount": 1},
    )
    assert answer["status"] == "RETRIABLE"
    assert answer["inspectionData"]["errorDetails"] == {"retryIndex": 0, "retryBackoffIntervalSeconds": 120}
    parameters = json.loads(answer["inspectionData"]["afterParameters"])
    assert parameters == {"FunctionName": "charge", "Payload": {"id": 7}}


def test_a_mock_that_the_api_could_not_give_is_refused(states):
    with pytest.raises(ClientError) as refused:
        states.test_state(definition=json.dumps(ORDER), stateName="Charge", mock={"result": '{"StatusCode": "200"}'})
    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"] == "Mock result schema validation error: Field 'StatusCode' must be a number"


def test_a_state_is_tested_for_real(states, account):
    answer = states.test_state(
        definition=json.dumps({
            "Type": "Task", "Resource": "arn:aws:states:::aws-sdk:sfn:listActivities", "Parameters": {}, "End": True,
        }),
        roleArn=ROLE.format(account),
    )
    assert answer["status"] == "SUCCEEDED", answer
    assert json.loads(answer["output"]) == {"Activities": []}


def test_a_test_case_runs_on_the_server(own_server, tmp_path, account):
    mocks = tmp_path / "mocks.json"
    mocks.write_text(json.dumps(MOCKS))
    client = own_server(env={"SFN_MOCK_CONFIG": str(mocks)}).client("stepfunctions", account=account)
    machine = client.create_state_machine(
        name="order", definition=json.dumps(ORDER), roleArn=ROLE.format(account))["stateMachineArn"]
    arn = client.start_execution(stateMachineArn=f"{machine}#Broken")["executionArn"]
    deadline = time.monotonic() + 20
    while (found := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found["status"], found["error"]) == ("FAILED", "NotCharged")
    types = [event["type"] for event in client.get_execution_history(executionArn=arn)["events"]]
    assert types[1:5] == ["TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskFailed"]
    with pytest.raises(ClientError):
        client.start_execution(stateMachineArn=f"{machine}#Unheard")


def test_a_wrong_file_of_mocks_keeps_the_server_from_starting(tmp_path):
    mocks = tmp_path / "mocks.json"
    mocks.write_text(json.dumps({"StateMachines": {"m": {"TestCases": {"c": {"S": "gone"}}}}}))
    done = subprocess.run(
        [binary(), "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")],
        env={**os.environ, "SFN_MOCK_CONFIG": str(mocks)}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode != 0
    assert "state machine 'm', test case 'c', state 'S': there is no mocked response 'gone'" in done.stderr
