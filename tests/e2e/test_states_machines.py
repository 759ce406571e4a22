"""State machines, their versions and aliases, activities and tags: everything but running them."""

from __future__ import annotations

import json
import threading
import time

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::123456789012:role/workflow"
PASS = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})


def commented(text: str) -> str:
    return json.dumps({"Comment": text, **json.loads(PASS)})


@pytest.fixture
def states(server, account):
    return server.client("stepfunctions", account=account)


def make(states, name="m", **members) -> str:
    members = {"definition": PASS, "roleArn": ROLE, **members}
    return states.create_state_machine(name=name, **members)["stateMachineArn"]


def refusal(call, **members) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call(**members)
    error = refused.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] in (400, 501)
    return error["Error"]["Code"], error["Error"]["Message"]


def plain(answer: dict) -> dict:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_a_machine_from_its_creation_to_its_end(states, account):
    arn = make(states, "m.1", tags=[{"key": "team", "value": "shop"}])
    assert arn == f"arn:aws:states:us-east-1:{account}:stateMachine:m.1"
    machine = states.describe_state_machine(stateMachineArn=arn)
    created = machine["creationDate"]
    assert plain(machine) == {
        "stateMachineArn": arn, "name": "m.1", "status": "ACTIVE", "definition": PASS, "roleArn": ROLE,
        "type": "STANDARD", "creationDate": created, "tracingConfiguration": {"enabled": False},
        "loggingConfiguration": {"level": "OFF", "includeExecutionData": False},
    }
    assert states.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "team", "value": "shop"}]
    listed, = states.list_state_machines()["stateMachines"]
    assert listed == {"stateMachineArn": arn, "name": "m.1", "type": "STANDARD", "creationDate": created}

    updated = states.update_state_machine(stateMachineArn=arn, definition=commented("2"))
    described = states.describe_state_machine(stateMachineArn=arn)
    assert described["revisionId"] == updated["revisionId"]
    assert described["definition"] == commented("2") and described["creationDate"] == created
    same = states.update_state_machine(stateMachineArn=arn, roleArn=ROLE, definition=commented("2"))
    assert same["revisionId"] == updated["revisionId"]
    traced = states.update_state_machine(stateMachineArn=arn, tracingConfiguration={"enabled": True})
    assert traced["revisionId"] != updated["revisionId"]
    assert states.describe_state_machine(stateMachineArn=arn)["tracingConfiguration"] == {"enabled": True}
    metadata = states.describe_state_machine(stateMachineArn=arn, includedData="METADATA_ONLY")
    assert metadata["definition"] == "" and metadata["name"] == "m.1"

    for _ in range(2):
        states.delete_state_machine(stateMachineArn=arn)
    assert refusal(states.describe_state_machine, stateMachineArn=arn) == (
        "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")
    assert states.list_state_machines()["stateMachines"] == []


def test_a_machine_goes_with_its_last_execution(states):
    wait = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 3600, "End": True}}})
    arn = make(states, definition=wait, publish=True)
    running = [states.start_execution(stateMachineArn=arn)["executionArn"] for _ in range(2)]
    states.delete_state_machine(stateMachineArn=arn)
    states.stop_execution(executionArn=running[0])
    assert states.describe_state_machine(stateMachineArn=arn)["status"] == "DELETING"
    for call, members in (
        (states.start_execution, {"stateMachineArn": arn}),
        (states.start_execution, {"stateMachineArn": f"{arn}:1"}),
        (states.update_state_machine, {"stateMachineArn": arn, "roleArn": ROLE}),
        (states.publish_state_machine_version, {"stateMachineArn": arn}),
        (states.create_state_machine, {"name": "m", "definition": wait, "roleArn": ROLE, "publish": True}),
    ):
        assert refusal(call, **members) == ("StateMachineDeleting", f"State Machine is being deleted: '{arn}'")
    described = states.describe_state_machine_for_execution(executionArn=running[1])
    assert described["definition"] == wait
    states.stop_execution(executionArn=running[1])
    # It goes in its own time, as on AWS.
    until = time.monotonic() + 10
    with pytest.raises(ClientError) as refused:
        while time.monotonic() < until:
            assert states.describe_state_machine(stateMachineArn=arn)["status"] == "DELETING"
            time.sleep(0.02)
    assert refused.value.response["Error"]["Code"] == "StateMachineDoesNotExist"
    make(states, definition=PASS)


def test_executions_keep_the_revision_that_they_began_with(states):
    wait = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 3600, "End": True}}})
    arn = make(states, definition=wait)
    old = states.start_execution(stateMachineArn=arn)["executionArn"]
    updated = states.update_state_machine(stateMachineArn=arn, definition=PASS)
    new = states.start_execution(stateMachineArn=arn)["executionArn"]
    before = states.describe_state_machine_for_execution(executionArn=old)
    after = states.describe_state_machine_for_execution(executionArn=new)
    assert before["definition"] == wait and "revisionId" not in before
    assert (after["definition"], after["revisionId"]) == (PASS, updated["revisionId"])
    assert after["updateDate"] == updated["updateDate"] and after["stateMachineArn"] == arn
    metadata = states.describe_state_machine_for_execution(executionArn=old, includedData="METADATA_ONLY")
    assert metadata["definition"] == ""
    states.stop_execution(executionArn=old)


def test_an_alias_shares_out_executions_by_weight(states):
    arn = make(states, publish=True)
    states.update_state_machine(stateMachineArn=arn, definition=commented("2"), publish=True)
    states.create_state_machine_alias(name="live", routingConfiguration=[
        {"stateMachineVersionArn": f"{arn}:1", "weight": 50}, {"stateMachineVersionArn": f"{arn}:2", "weight": 50}])
    started = [states.start_execution(stateMachineArn=f"{arn}:live")["executionArn"] for _ in range(60)]
    described = [states.describe_execution(executionArn=execution) for execution in started]
    assert {execution["stateMachineAliasArn"] for execution in described} == {f"{arn}:live"}
    # That all of sixty go one way happens once in 2 to the 59.
    assert {execution["stateMachineVersionArn"] for execution in described} == {f"{arn}:1", f"{arn}:2"}


def test_creating_a_machine_twice(states):
    arn = make(states, publish=True, versionDescription="one")
    again = states.create_state_machine(name="m", definition=PASS, roleArn=ROLE.replace("workflow", "other"),
                                        publish=True, versionDescription="one", tags=[{"key": "k", "value": "v"}])
    assert again["stateMachineArn"] == arn and again["stateMachineVersionArn"] == f"{arn}:1"
    assert states.describe_state_machine(stateMachineArn=arn)["roleArn"] == ROLE
    assert states.list_tags_for_resource(resourceArn=arn)["tags"] == []
    others = ({"definition": commented("x")}, {"type": "EXPRESS"}, {"tracingConfiguration": {"enabled": True}},
              {"publish": True, "versionDescription": "two"}, {"publish": False})
    for other in others:
        members = {"name": "m", "definition": PASS, "roleArn": ROLE, "publish": True, "versionDescription": "one"}
        members |= other
        if not members["publish"]:
            del members["versionDescription"]
        assert refusal(states.create_state_machine, **members) == (
            "StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'")


def test_what_is_refused_at_creation(states):
    def code(**members):
        return refusal(states.create_state_machine, **{"name": "m", "definition": PASS, "roleArn": ROLE, **members})

    for name in ("a b", "a/b", "a$", "a\u0085b", "a:b"):
        assert code(name=name) == ("InvalidName", f"Invalid Name: '{name}'")
    assert code(roleArn="role") == ("InvalidArn", "Invalid Role Arn: 'Invalid ARN prefix: role'")
    assert code(roleArn=ROLE.replace("role/", "user/"))[0] == "InvalidArn"
    assert code(versionDescription="d") == (
        "ValidationException", "Version description can only be set when publish is true")
    assert code(definition="{}")[0] == "InvalidDefinition"
    level = {"level": "ALL"}
    assert code(loggingConfiguration=level) == (
        "InvalidLoggingConfiguration", "Invalid Logging Configuration: Must specify exactly one Log Destination.")
    group = {"cloudWatchLogsLogGroup": {"logGroupArn": "arn:aws:logs:us-east-1:123456789012:log-group:none:*"}}
    assert code(loggingConfiguration={**level, "destinations": [group]}) == (
        "InvalidLoggingConfiguration", "Invalid Logging Configuration: Log Destination not found.")
    customer = {"type": "CUSTOMER_MANAGED_KMS_KEY", "kmsKeyId": "k"}
    assert code(encryptionConfiguration=customer)[0] == "NotImplementedException"
    sync = json.dumps({"StartAt": "A", "States": {"A": {
        "Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "End": True}}})
    assert code(definition=sync, type="EXPRESS")[0] == "InvalidDefinition"
    assert states.list_state_machines()["stateMachines"] == []


def test_a_machine_logs_to_a_group_that_exists(server, states, account):
    server.client("logs", account=account).create_log_group(logGroupName="/aws/vendedlogs/states/g")
    group = f"arn:aws:logs:us-east-1:{account}:log-group:/aws/vendedlogs/states/g:*"
    logging = {"level": "ERROR", "includeExecutionData": True,
               "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}]}
    arn = make(states, type="EXPRESS", loggingConfiguration=logging)
    machine = states.describe_state_machine(stateMachineArn=arn)
    assert (machine["loggingConfiguration"], machine["type"]) == (logging, "EXPRESS")
    states.update_state_machine(stateMachineArn=arn, loggingConfiguration={"level": "OFF"})
    off = {"level": "OFF", "includeExecutionData": False}
    assert states.describe_state_machine(stateMachineArn=arn)["loggingConfiguration"] == off


def test_versions_and_aliases(states):
    arn = make(states, publish=True)
    assert states.publish_state_machine_version(stateMachineArn=arn, revisionId="INITIAL")[
        "stateMachineVersionArn"] == f"{arn}:1"
    two = states.update_state_machine(stateMachineArn=arn, definition=commented("2"), publish=True,
                                      versionDescription="second")
    assert two["stateMachineVersionArn"] == f"{arn}:2"
    code, message = refusal(states.publish_state_machine_version, stateMachineArn=arn, revisionId="INITIAL")
    assert code == "ConflictException" and message.endswith(f"revision is {two['revisionId']}.")
    version = states.describe_state_machine(stateMachineArn=f"{arn}:2")
    assert (version["stateMachineArn"], version["description"]) == (f"{arn}:2", "second")
    assert states.describe_state_machine(stateMachineArn=f"{arn}:1")["definition"] == PASS
    assert "revisionId" not in states.describe_state_machine(stateMachineArn=f"{arn}:1")
    listed = states.list_state_machine_versions(stateMachineArn=arn)["stateMachineVersions"]
    assert [v["stateMachineVersionArn"] for v in listed] == [f"{arn}:2", f"{arn}:1"]

    routes = [{"stateMachineVersionArn": f"{arn}:1", "weight": 90},
              {"stateMachineVersionArn": f"{arn}:2", "weight": 10}]
    live = states.create_state_machine_alias(name="live", description="d", routingConfiguration=routes)
    assert live["stateMachineAliasArn"] == f"{arn}:live"
    again = states.create_state_machine_alias(name="live", description="d", routingConfiguration=routes)
    assert plain(again) == plain(live)
    alias = states.describe_state_machine_alias(stateMachineAliasArn=f"{arn}:live")
    assert (alias["name"], alias["description"], alias["routingConfiguration"]) == ("live", "d", routes)
    assert alias["updateDate"] == alias["creationDate"] == live["creationDate"]
    assert refusal(states.delete_state_machine_version, stateMachineVersionArn=f"{arn}:1") == (
        "ConflictException", "Version to be deleted must not be referenced by an alias. Current list of aliases "
        "referencing this version: [live]")
    states.update_state_machine_alias(
        stateMachineAliasArn=f"{arn}:live",
        routingConfiguration=[{"stateMachineVersionArn": f"{arn}:2", "weight": 100}])
    states.delete_state_machine_version(stateMachineVersionArn=f"{arn}:1")
    for call, members in (
        (states.create_state_machine_alias, {"name": "x", "routingConfiguration": routes}),
        (states.describe_state_machine_alias, {"stateMachineAliasArn": f"{arn}:x"}),
        (states.update_state_machine_alias, {"stateMachineAliasArn": f"{arn}:x", "description": "d"}),
    ):
        assert refusal(call, **members) == (
            "ResourceNotFound", "Request references a resource that does not exist.")
    states.delete_state_machine_alias(stateMachineAliasArn=f"{arn}:live")
    states.delete_state_machine_version(stateMachineVersionArn=f"{arn}:2")
    assert states.list_state_machine_aliases(stateMachineArn=arn)["stateMachineAliases"] == []
    # A number is never given again.
    assert states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"] == f"{arn}:3"


def test_lists_come_in_pages(states):
    names = [f"m{n:02}" for n in range(7)]
    for name in names:
        make(states, name)
        states.create_activity(name=name)
    for operation, key in (("list_state_machines", "stateMachines"), ("list_activities", "activities")):
        pages = states.get_paginator(operation).paginate(PaginationConfig={"PageSize": 3})
        assert [[one["name"] for one in page[key]] for page in pages] == [names[:3], names[3:6], names[6:]]
    token = states.list_activities(maxResults=1)["nextToken"]
    for wrong in (token, "x"):
        assert refusal(states.list_state_machines, nextToken=wrong) == (
            "InvalidToken", "Invalid Token: 'Invalid token'")


def test_activities(states, account):
    made = states.create_activity(name="a", tags=[{"key": "k", "value": "v"}])
    arn = made["activityArn"]
    assert arn == f"arn:aws:states:us-east-1:{account}:activity:a"
    assert plain(states.create_activity(name="a")) == plain(made)
    assert plain(states.describe_activity(activityArn=arn)) == {
        "activityArn": arn, "name": "a", "creationDate": made["creationDate"]}
    states.tag_resource(resourceArn=arn, tags=[{"key": "k", "value": "w"}, {"key": "l", "value": ""}])
    states.untag_resource(resourceArn=arn, tagKeys=["l"])
    assert states.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "k", "value": "w"}]
    states.delete_activity(activityArn=arn)
    states.delete_activity(activityArn=arn)
    assert refusal(states.describe_activity, activityArn=arn) == (
        "ActivityDoesNotExist", f"Activity Does Not Exist: '{arn}'")
    assert refusal(states.list_tags_for_resource, resourceArn=arn) == (
        "ResourceNotFound", f"Resource not found: '{arn}'")


def test_nobody_sees_the_machines_of_another_account_or_region(server, states, account):
    arn = make(states)
    for other in (server.client("stepfunctions", account="999999999999"),
                  server.client("stepfunctions", account=account, region="eu-west-1")):
        assert other.list_state_machines()["stateMachines"] == []
        assert refusal(other.describe_state_machine, stateMachineArn=arn)[0] == "StateMachineDoesNotExist"
        other.delete_state_machine(stateMachineArn=arn)
    assert states.describe_state_machine(stateMachineArn=arn)["status"] == "ACTIVE"


def test_definitions_are_validated(states):
    def validate(definition, **members):
        return plain(states.validate_state_machine_definition(definition=definition, **members))

    assert validate(PASS) == {"result": "OK", "diagnostics": [], "truncated": False}
    found = validate(json.dumps({"StartAt": "A", "States": {
        name: {"Type": "Nothing"} for name in ("A", "B", "C")}}), maxResults=1)
    assert found["result"] == "FAIL" and found["truncated"] and len(found["diagnostics"]) == 1
    sync = json.dumps({"StartAt": "A", "States": {"A": {
        "Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "End": True}}})
    assert validate(sync)["result"] == "OK"
    assert validate(sync, type="EXPRESS")["diagnostics"] == [{
        "severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "location": "/States/A/Resource",
        "message": "Express state machine does not support '.sync:2' service integration"}]


def test_what_was_acknowledged_survives_kill_9(own_server):
    server = own_server()
    states = server.client("stepfunctions")
    made: list[str] = []

    def work(worker: int):
        client = server.client("stepfunctions")
        try:
            for n in range(1000):
                name = f"w{worker}-{n}"
                arn = make(client, name, definition=commented(name), publish=True)
                client.create_state_machine_alias(
                    name="live", routingConfiguration=[{"stateMachineVersionArn": f"{arn}:1", "weight": 100}])
                client.create_activity(name=name)
                made.append(name)
        except Exception:  # noqa: BLE001: the server is killed under it
            return

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    while len(made) < 40 and any(worker.is_alive() for worker in workers):
        workers[0].join(0.05)
    server.kill()
    for worker in workers:
        worker.join()
    assert len(made) >= 40
    server.start()
    states = server.client("stepfunctions")
    for name in made:
        arn = f"arn:aws:states:us-east-1:000000000000:stateMachine:{name}"
        assert states.describe_state_machine(stateMachineArn=f"{arn}:1")["definition"] == commented(name)
        alias = states.describe_state_machine_alias(stateMachineAliasArn=f"{arn}:live")
        assert alias["routingConfiguration"][0]["weight"] == 100
        states.describe_activity(activityArn=arn.replace("stateMachine", "activity"))
