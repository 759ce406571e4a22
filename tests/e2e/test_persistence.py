"""What was acknowledged is there after a stop, after `kill -9`, and after both many times over."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from functions import NOOP, create, invoke, python, settle
from leftovers import alive, cgroups_of, descendants, devices, eventually, mounts

V2 = python("def handler(event, context): return 'two'")


def test_everything_is_there_after_a_restart(own_server):
    server = own_server()
    client = server.client()
    create(client, "kept", Publish=True, Environment={"Variables": {"KEY": "1"}}, Tags={"t": "1"}, Description="d")
    client.update_function_code(FunctionName="kept", ZipFile=V2)
    settle(client, "kept")
    client.publish_version(FunctionName="kept")
    client.create_alias(FunctionName="kept", Name="live", FunctionVersion="1",
                        RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}})
    invoke(client, "kept", 1)
    logs = server.client("logs")
    logs.create_log_group(logGroupName="/mine")
    logs.put_retention_policy(logGroupName="/mine", retentionInDays=3)
    arn = client.get_function(FunctionName="kept")["Configuration"]["FunctionArn"]

    def everything():
        function = client.get_function(FunctionName="kept")
        function.pop("ResponseMetadata")
        function["Code"].pop("Location")
        return (
            function,
            client.list_versions_by_function(FunctionName="kept")["Versions"],
            client.list_aliases(FunctionName="kept")["Aliases"],
            client.list_tags(Resource=arn)["Tags"],
            logs.describe_log_groups()["logGroups"][1:],
            client.get_account_settings()["AccountUsage"],
        )

    before = everything()
    messages = eventually_logged(logs)
    assert server.stop() == 0
    server.start()
    client, logs = server.client(), server.client("logs")
    assert everything() == before
    assert eventually_logged(logs)[:len(messages)] == messages
    assert invoke(client, "kept", 1).json == "two"
    assert invoke(client, "kept", 1, Qualifier="1").json == 1


def eventually_logged(logs, wanted: int = 3) -> list[str]:
    def missing():
        try:
            found = logs.filter_log_events(logGroupName="/aws/lambda/kept")["events"]
        except ClientError:
            return True
        return len(found) < wanted
    assert not eventually(missing)
    return [e["message"] for e in logs.filter_log_events(logGroupName="/aws/lambda/kept")["events"]]


def test_a_stop_lets_a_running_invoke_finish(own_server):
    server = own_server()
    client = server.client()
    create(client, "slow", python("""
        import time
        def handler(event, context):
            time.sleep(2)
            return "done"
    """), Timeout=20)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, client, "slow")
        time.sleep(1)
        assert server.stop() == 0
        assert running.result().json == "done"


def test_nothing_is_left_behind_after_a_stop(own_server):
    before = (devices(), mounts())
    server = own_server()
    client = server.client()
    for name in ("a", "b", "c"):
        create(client, name)
        invoke(client, name)
    pid = server.pid
    below = descendants(pid)
    assert below and cgroups_of(pid)
    server.stop()
    assert not eventually(lambda: alive(below))
    assert not eventually(lambda: cgroups_of(pid))
    assert not eventually(lambda: devices() - before[0])
    assert not eventually(lambda: mounts() - before[1])


def test_nothing_is_left_behind_after_kill_9(own_server):
    before = (devices(), mounts())
    server = own_server()
    client = server.client()
    for name in ("a", "b"):
        create(client, name)
        invoke(client, name)
    killed = server.pid
    below = descendants(killed)
    assert below and cgroups_of(killed)
    server.kill()
    assert not eventually(lambda: alive(below)), "sandboxes die with their server"
    server.start()
    assert invoke(server.client(), "a", 1).json == 1
    assert not eventually(lambda: cgroups_of(killed)), "the next start clears what the kill left"
    server.stop()
    assert not eventually(lambda: devices() - before[0])
    assert not eventually(lambda: mounts() - before[1])


def test_a_corrupt_file_is_named_at_start(own_server):
    server = own_server()
    client = server.client()
    for n in range(50):
        create(client, f"f{n}", wait=False, Description="x" * 200)
    server.kill()
    files = [p for p in server.data.rglob("*") if p.is_file() and p.stat().st_size > 4096
             and "blob" not in str(p) and "runtime" not in str(p)]
    assert files
    for victim in files:
        content = bytearray(victim.read_bytes())
        for at in range(0, len(content), 97):
            content[at] ^= 0xFF
        victim.write_bytes(content)
    with pytest.raises(RuntimeError) as raised:
        server.start()
    assert str(server.data) in str(raised.value) or any(p.name in str(raised.value) for p in files)


class Storm:
    """Clients that change everything at once and write down what was acknowledged."""

    def __init__(self, server, seed: int):
        self.server = server
        self.seed = seed
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.acknowledged: dict[str, dict] = {}
        self.deleted: set[str] = set()
        self.in_doubt: set[str] = set()

    def run(self, worker: int) -> None:
        dice = random.Random(self.seed * 100 + worker)
        client = self.server.client(read_timeout=20, connect_timeout=5)
        serial = 0
        while not self.stop.is_set():
            serial += 1
            name = f"w{worker}-{self.seed}-{serial}"
            try:
                self._life(client, name, dice)
            except (BotoCoreError, ClientError) as error:
                if isinstance(error, ClientError) and error.response["Error"]["Code"] != "ResourceConflictException":
                    raise
                self.in_doubt.add(name)
                if not self.stop.is_set() and self.server.alive():
                    continue
                return

    def _life(self, client, name: str, dice: random.Random) -> None:
        known = {"sha": None, "versions": 0, "aliases": {}, "description": "0"}
        answer = create(client, name, NOOP, wait=False, Description="0")
        known["sha"] = answer["CodeSha256"]
        self._note(name, known)
        settle(client, name)
        for step in range(dice.randint(1, 4)):
            self.in_doubt.add(name)
            kind = dice.choice(["code", "configuration", "publish", "alias", "delete"])
            if kind == "code":
                package = python(f"def handler(e, c): return {step!r}, {name!r}")
                known["sha"] = client.update_function_code(FunctionName=name, ZipFile=package)["CodeSha256"]
                self._note(name, known)
                settle(client, name)
            elif kind == "configuration":
                known["description"] = str(step + 1)
                client.update_function_configuration(FunctionName=name, Description=known["description"])
                self._note(name, known)
                settle(client, name)
            elif kind == "publish":
                known["versions"] = max(known["versions"], int(client.publish_version(FunctionName=name)["Version"]))
                self._note(name, known)
            elif kind == "alias" and known["versions"]:
                alias = f"a{step}"
                client.create_alias(FunctionName=name, Name=alias, FunctionVersion=str(known["versions"]))
                known["aliases"][alias] = str(known["versions"])
                self._note(name, known)
            elif kind == "delete" and dice.random() < 0.3:
                client.delete_function(FunctionName=name)
                with self.lock:
                    self.acknowledged.pop(name)
                    self.deleted.add(name)
                    self.in_doubt.discard(name)
                return
            self.in_doubt.discard(name)

    def _note(self, name: str, known: dict) -> None:
        with self.lock:
            self.acknowledged[name] = {**known, "aliases": dict(known["aliases"])}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_in_a_storm_loses_nothing_acknowledged(own_server):
    server = own_server()
    total = 0
    for seed in range(5):
        storm = Storm(server, seed)
        with ThreadPoolExecutor(6) as pool:
            workers = [pool.submit(storm.run, n) for n in range(6)]
            time.sleep(0.7 + 0.4 * seed)
            storm.stop.set()
            server.kill()
            for worker in workers:
                worker.result()
        server.start()
        verify(server.client(), storm)
        total += len(storm.acknowledged)
    assert total > 20, "the storm was too weak to say anything"


def verify(client, storm: Storm) -> None:
    listed = {f["FunctionName"]: f for page in client.get_paginator("list_functions").paginate()
              for f in page["Functions"]}
    for name, known in storm.acknowledged.items():
        assert name in listed or name in storm.in_doubt, f"{name} was acknowledged and is gone"
        if name not in listed:
            continue
        settle(client, name)
        found = client.get_function(FunctionName=name)["Configuration"]
        versions = [v["Version"] for page in client.get_paginator("list_versions_by_function").paginate(
            FunctionName=name) for v in page["Versions"]]
        aliases = {a["Name"]: a["FunctionVersion"] for a in client.list_aliases(FunctionName=name)["Aliases"]}
        if name not in storm.in_doubt:
            assert found["CodeSha256"] == known["sha"]
            assert found["Description"] == known["description"]
            assert versions == ["$LATEST", *map(str, range(1, known["versions"] + 1))]
            assert aliases == known["aliases"]
        else:
            # At most the one call without an answer may have happened on top.
            assert set(known["aliases"].items()) <= set(aliases.items())
            assert len(versions) - 1 in (known["versions"], known["versions"] + 1)
    for name in storm.deleted:
        assert name not in listed, f"{name} was deleted and is back"
    # Nothing half-made: whatever is listed can be read, has its package and runs.
    for name in dice_of(listed):
        client.get_function(FunctionName=name)
        settle(client, name)
        assert invoke(client, name, 1).error is None


def dice_of(listed: dict) -> list[str]:
    return random.Random(1).sample(sorted(listed), min(8, len(listed)))
