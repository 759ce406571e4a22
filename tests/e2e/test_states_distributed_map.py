"""Distributed maps against a real server and its S3: datasets, results, crashes and redrives."""

from __future__ import annotations

import json
import time

import pytest
from functions import create, python

from server import Server
from upstream import Busy

ROLE = "arn:aws:iam::000000000000:role/states"
DONE = {"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"}


class World:
    """The clients of one account, and a bucket of its own."""

    def __init__(self, server, account: str):
        self.server, self.account = server, account
        self.bucket = f"maps-{account}"
        self.connect()
        self.s3.create_bucket(Bucket=self.bucket)

    def connect(self) -> None:
        self.states = self.server.client("stepfunctions", account=self.account)
        self.s3 = self.server.client("s3", account=self.account, s3={"addressing_style": "path"})

    def put(self, key: str, body) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str):
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def machine(self, fields: dict, states: dict, kind: str = "STANDARD", name: str = "mapper") -> str:
        processor = {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
            "StartAt": next(iter(states)),
            "States": states,
        }
        definition = {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": processor, "End": True, **fields}}}
        made = self.states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return made["stateMachineArn"]

    def start(self, machine: str, data) -> str:
        return self.states.start_execution(stateMachineArn=machine, input=json.dumps(data))["executionArn"]

    def wait(self, arn: str, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while (found := self.states.describe_execution(executionArn=arn))["status"] not in DONE:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def output(self, arn: str, seconds: float = 60):
        found = self.wait(arn, seconds)
        assert found["status"] == "SUCCEEDED", (found.get("error"), found.get("cause"))
        return json.loads(found["output"])

    def run_of(self, arn: str) -> dict:
        (listed,) = self.states.list_map_runs(executionArn=arn)["mapRuns"]
        return self.states.describe_map_run(mapRunArn=listed["mapRunArn"])

    def events(self, arn: str) -> list[dict]:
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=arn)
        return [event for page in pages for event in page["events"]]


@pytest.fixture
def world(server, account) -> World:
    return World(server, account)


PASS = {"P": {"Type": "Pass", "End": True}}
#: Fails for items whose `n` is 3.
PICKY = {
    "C": {"Type": "Choice", "Choices": [{"Variable": "$.n", "NumericEquals": 3, "Next": "F"}], "Default": "S"},
    "F": {"Type": "Fail", "Error": "Three", "Cause": "because"},
    "S": {"Type": "Succeed"},
}


def reader(world: World, key: str, **config) -> dict:
    return {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": config,
        "Parameters": {"Bucket": world.bucket, "Key": key},
    }


def writer(world: World, **config) -> dict:
    made = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": world.bucket, "Prefix": "results"}}
    return {**made, "WriterConfig": config} if config else made


@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_rows_of_a_csv_file_become_children(world, kind):
    world.put("orders.csv", 'id,"what, exactly"\n1,"a ""b"""\n2,c\n')
    fields = {"ItemReader": reader(world, "orders.csv", InputType="CSV", CSVHeaderLocation="FIRST_ROW"), "Label": "Orders"}
    machine = world.machine(fields, PASS, kind)
    arn = world.start(machine, {})
    assert world.output(arn) == [{"id": "1", "what, exactly": 'a "b"'}, {"id": "2", "what, exactly": "c"}]
    run = world.run_of(arn)
    assert run["status"] == "SUCCEEDED" and run["executionCounts"]["succeeded"] == 2
    assert ":mapRun:mapper/Orders:" in run["mapRunArn"]
    kinds = [event["type"] for event in world.events(arn)]
    assert kinds[2:5] == ["MapStateStarted", "MapRunStarted", "MapRunSucceeded"]
    children = world.states.list_executions(mapRunArn=run["mapRunArn"])["executions"] if kind == "STANDARD" else []
    for child in children:
        described = world.states.describe_execution(executionArn=child["executionArn"])
        assert described["mapRunArn"] == run["mapRunArn"]
        assert described["stateMachineArn"] == f"{machine}/Orders"


def test_objects_are_listed_or_opened(world):
    world.put("in/1.jsonl", '{"n": 1}\n{"n": 2}\n')
    world.put("in/2.jsonl", '{"n": 3}\n')
    listing = {"Resource": "arn:aws:states:::s3:listObjectsV2", "Parameters": {"Bucket": world.bucket, "Prefix": "in/"}}
    listed = world.output(world.start(world.machine({"ItemReader": listing}, PASS, name="listed"), {}))
    assert [item["Key"] for item in listed] == ["in/1.jsonl", "in/2.jsonl"]
    assert listed[0]["Size"] == 18 and set(listed[0]) == {"Etag", "Key", "LastModified", "Size", "StorageClass"}
    opened = {**listing, "ReaderConfig": {"InputType": "JSONL", "Transformation": "LOAD_AND_FLATTEN"}}
    selector = {"n.$": "$$.Map.Item.Value.n", "from.$": "$$.Map.Item.Source"}
    fields = {"ItemReader": opened, "ItemSelector": selector}
    items = world.output(world.start(world.machine(fields, PASS, "EXPRESS", name="opened"), {}))
    assert [item["n"] for item in items] == [1, 2, 3]
    assert items[2]["from"] == f"S3://{world.bucket}/in/2.jsonl"


@pytest.fixture(scope="module")
def elsewhere(server, tmp_path_factory):
    """A server whose `[upstream]` says that objects are on the other one."""
    folder = tmp_path_factory.mktemp("maps")
    (folder / "firn.toml").write_text(f'[upstream]\ns3 = "{server.endpoint}"\n')
    running = Server(folder / "data", ("--config", str(folder / "firn.toml"))).start()
    yield running
    assert running.alive(), running.log()
    assert running.stop() == 0


def test_objects_of_another_server_are_read_listed_and_written(world, elsewhere):
    world.states = elsewhere.client("stepfunctions", account=world.account)
    assert not elsewhere.client("s3", account=world.account).list_buckets()["Buckets"]
    rows = "".join(f"{number},{'x' * 100}\n" for number in range(3000))
    world.put("far/rows.csv", "n,text\n" + rows)
    fields = {
        "ItemReader": reader(world, "far/rows.csv", InputType="CSV", CSVHeaderLocation="FIRST_ROW"),
        "ItemBatcher": {"MaxItemsPerBatch": 100},
        "ResultWriter": writer(world),
    }
    counted = {"C": {"Type": "Pass", "Parameters": {"first.$": "$.Items[0].n"}, "End": True}}
    output = world.output(world.start(world.machine(fields, counted, "EXPRESS", name="far"), {}))
    manifest = world.get(output["ResultWriterDetails"]["Key"])
    (succeeded,) = manifest["ResultFiles"]["SUCCEEDED"]
    firsts = [int(json.loads(one["Output"])["first"]) for one in world.get(succeeded["Key"])]
    assert sorted(firsts) == list(range(0, 3000, 100))

    odd = "far/list/a b+c%20é\u0001.json"
    for key in [odd, "far/list/folder/", *(f"far/list/{number:04}" for number in range(1005))]:
        world.put(key, "{}")
    listing = {"Resource": "arn:aws:states:::s3:listObjectsV2",
               "Parameters": {"Bucket": world.bucket, "Prefix": "far/list/"}}
    fields = {"ItemReader": listing, "ItemBatcher": {"MaxItemsPerBatch": 1000}}
    batches = world.output(world.start(world.machine(fields, PASS, "EXPRESS", name="listed"), {}))
    items = [item for batch in batches for item in batch["Items"]]
    assert len(items) == 1007 and {odd, "far/list/folder/"} <= {item["Key"] for item in items}
    assert set(items[0]) == {"Etag", "Key", "LastModified", "Size", "StorageClass"}

    missing = world.machine({"ItemReader": reader(world, "far/none", InputType="JSON")}, PASS, name="missing")
    ended = world.wait(world.start(missing, {}))
    assert ended["error"] == "States.ItemReaderFailed" and "NoSuchKey" in ended["cause"]
    fields = {"ResultWriter": writer(world)}
    fields["ResultWriter"]["Parameters"]["Bucket"] = "nobody-has-this-bucket"
    ended = world.wait(world.start(world.machine(fields, PASS, name="nowhere"), [1]))
    assert ended["error"] == "States.ResultWriterFailed" and "NoSuchBucket" in ended["cause"]


def test_an_upstream_that_is_not_there_fails_the_run(own_server, account, tmp_path):
    (tmp_path / "firn.toml").write_text('[upstream]\ns3 = "http://127.0.0.1:1"\n')
    running = own_server("--config", str(tmp_path / "firn.toml"))
    world = World.__new__(World)
    world.server, world.account, world.bucket = running, account, "far"
    world.connect()
    machine = world.machine({"ItemReader": reader(world, "rows.csv", InputType="JSON")}, PASS)
    ended = world.wait(world.start(machine, {}))
    assert ended["error"] == "States.ItemReaderFailed" and "HTTP request" in ended["cause"], ended


def test_an_upstream_that_is_busy_is_asked_again(world, own_server, tmp_path):
    busy = Busy(world.server.endpoint)
    (tmp_path / "firn.toml").write_text(f'[upstream]\ns3 = "{busy.endpoint}"\n')
    running = own_server("--config", str(tmp_path / "firn.toml"))
    world.put("busy/rows.json", "[1, 2, 3]")
    world.states = running.client("stepfunctions", account=world.account)
    fields = {"ItemReader": reader(world, "busy/rows.json", InputType="JSON"), "ResultWriter": writer(world)}
    output = world.output(world.start(world.machine(fields, PASS, "EXPRESS", name="busy"), {}))
    manifest = world.get(output["ResultWriterDetails"]["Key"])
    (succeeded,) = manifest["ResultFiles"]["SUCCEEDED"]
    assert sorted(json.loads(one["Output"]) for one in world.get(succeeded["Key"])) == [1, 2, 3]
    assert busy.refused >= 3
    busy.close()


def test_missing_object_fails_the_run(world):
    machine = world.machine({"ItemReader": reader(world, "nowhere", InputType="JSON")}, PASS)
    ended = world.wait(world.start(machine, {}))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.ItemReaderFailed")
    assert "NoSuchKey" in ended["cause"]


def test_results_go_into_files_that_a_manifest_names(world):
    fields = {"ItemsPath": "$.items", "ResultWriter": writer(world), "ToleratedFailureCount": 1}
    arn = world.start(world.machine(fields, PICKY), {"items": [{"n": n} for n in range(5)]})
    output = world.output(arn)
    run = world.run_of(arn)
    assert output["MapRunArn"] == run["mapRunArn"]
    manifest = world.get(output["ResultWriterDetails"]["Key"])
    assert manifest["DestinationBucket"] == world.bucket and manifest["ResultFiles"]["PENDING"] == []
    (succeeded,) = manifest["ResultFiles"]["SUCCEEDED"]
    (failed,) = manifest["ResultFiles"]["FAILED"]
    assert sorted(json.loads(one["Output"])["n"] for one in world.get(succeeded["Key"])) == [0, 1, 2, 4]
    (one,) = world.get(failed["Key"])
    assert (one["Error"], one["Cause"], json.loads(one["Input"])) == ("Three", "because", {"n": 3})
    assert run["itemCounts"]["failed"] == 1 and run["itemCounts"]["resultsWritten"] == 5


def test_missing_bucket_of_results_is_told_at_once(world):
    fields = {"ResultWriter": writer(world)}
    fields["ResultWriter"]["Parameters"]["Bucket"] = "nobody-has-this-bucket"
    ended = world.wait(world.start(world.machine(fields, PASS), [1]))
    assert ended["error"] == "States.ResultWriterFailed" and "NoSuchBucket" in ended["cause"]


def test_update_of_the_limits_reaches_a_run_that_goes_on(world):
    wait = {"W": {"Type": "Wait", "Seconds": 1, "End": True}}
    arn = world.start(world.machine({"MaxConcurrency": 1}, wait), list(range(20)))
    deadline = time.monotonic() + 30
    while not world.states.list_map_runs(executionArn=arn)["mapRuns"]:
        assert time.monotonic() < deadline
    run = world.run_of(arn)
    assert run["maxConcurrency"] == 1 and run["executionCounts"]["running"] <= 1
    world.states.update_map_run(mapRunArn=run["mapRunArn"], maxConcurrency=20)
    begun = time.monotonic()
    assert world.output(arn) == list(range(20))
    assert time.monotonic() - begun < 10, "one after the other they would take 20 s"
    with pytest.raises(world.states.exceptions.ValidationException):
        world.states.update_map_run(mapRunArn=run["mapRunArn"], maxConcurrency=2)


def test_stop_of_the_execution_aborts_run_and_children(world):
    wait = {"W": {"Type": "Wait", "Seconds": 600, "End": True}}
    arn = world.start(world.machine({"MaxConcurrency": 3}, wait), list(range(10)))
    deadline = time.monotonic() + 30
    while not (runs := world.states.list_map_runs(executionArn=arn)["mapRuns"]) or (
        world.states.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["executionCounts"]["running"] < 3
    ):
        assert time.monotonic() < deadline
    world.states.stop_execution(executionArn=arn)
    while (run := world.run_of(arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline
    counts = run["executionCounts"]
    assert (run["status"], counts["aborted"], counts["pending"]) == ("ABORTED", 3, 7)
    children = world.states.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    assert [child["status"] for child in children] == ["ABORTED"] * 3


def test_redrive_keeps_what_succeeded(world):
    world.put("flag", "false")
    states = {
        "G": {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
            "Parameters": {"Bucket": world.bucket, "Key.$": "$.key"},
            "ResultSelector": {"ok": True},
            "End": True,
        },
    }
    items = [{"key": "flag"}, {"key": "later"}]
    arn = world.start(world.machine({"MaxConcurrency": 1, "ToleratedFailureCount": 1}, states), items)
    first = world.output(arn)
    assert first[0] == {"ok": True} and first[1]["Status"] == "FAILED"
    arn = world.start(world.machine({"MaxConcurrency": 1}, states, name="strict"), items)
    assert world.wait(arn)["status"] == "FAILED"
    before = world.run_of(arn)
    world.put("later", "x")
    world.states.redrive_execution(executionArn=arn)
    assert world.output(arn) == [{"ok": True}, {"ok": True}]
    run = world.run_of(arn)
    assert (run["mapRunArn"], run["redriveCount"]) == (before["mapRunArn"], 1)
    assert run["executionCounts"]["succeeded"] == 2 and run["executionCounts"]["failed"] == 0
    assert "MapRunRedriven" in [event["type"] for event in world.events(arn)]


@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_kill_9_in_the_middle_loses_and_doubles_nothing(own_server, kind):
    server = own_server()
    world = World(server, "123456789012")
    world.put("items.jsonl", "".join(f'{{"n": {n}}}\n' for n in range(3000)))
    fields = {
        "ItemReader": reader(world, "items.jsonl", InputType="JSONL"),
        "ResultWriter": writer(world, Transformation="COMPACT", OutputType="JSON"),
        "MaxConcurrency": 200,
    }
    states = {"W": {"Type": "Wait", "Seconds": 1, "Next": "P"}, "P": {"Type": "Pass", "End": True}}
    arn = world.start(world.machine(fields, states, kind), {})
    for share in (1, 2):
        deadline = time.monotonic() + 60
        while world.states.list_map_runs(executionArn=arn)["mapRuns"] == [] or (
            world.run_of(arn)["executionCounts"]["succeeded"] < 500 * share
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.kill()
        server.start()
        world.connect()
    output = world.output(arn, 120)
    manifest = world.get(output["ResultWriterDetails"]["Key"])
    numbers = [one["n"] for file in manifest["ResultFiles"]["SUCCEEDED"] for one in world.get(file["Key"])]
    assert sorted(numbers) == list(range(3000))
    counts = world.run_of(arn)["executionCounts"]
    assert (counts["total"], counts["succeeded"], counts["failed"]) == (3000, 3000, 0)
    assert [event["type"] for event in world.events(arn)].count("MapRunStarted") == 1


def test_items_reach_functions_in_batches(world):
    functions = world.server.client("lambda", account=world.account)
    create(functions, "adder", python("def handler(event, context):\n    return sum(i['n'] for i in event['Items'])\n"))
    states = {
        "T": {
            "Type": "Task",
            "Resource": functions.get_function(FunctionName="adder")["Configuration"]["FunctionArn"],
            "End": True,
        },
    }
    fields = {"ItemBatcher": {"MaxItemsPerBatch": 10}}
    machine = world.machine(fields, states, "EXPRESS")
    sums = world.output(world.start(machine, [{"n": n} for n in range(35)]))
    assert sums == [sum(range(0, 10)), sum(range(10, 20)), sum(range(20, 30)), sum(range(30, 35))]
