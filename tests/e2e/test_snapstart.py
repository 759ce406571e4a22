"""SnapStart end to end: states of versions, restored environments, hooks, crashes, storage, hostile functions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, WaiterError
from functions import create, invoke, node, python, settle, zipped
from server import binary
from test_runtimes import awslambdaric_package

SNAP_START = {"ApplyOn": "PublishedVersions"}
PARALLEL = int(os.environ.get("FIRN_TEST_PARALLEL_RESTORES", "60"))

# Its token is made at init: environments from one snapshot have the same one.
WHO = python("""
    import os, uuid
    TOKEN = str(uuid.uuid4())
    calls = 0
    print("this is init")
    def handler(event, context):
        global calls
        calls += 1
        return {"token": TOKEN, "calls": calls, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "event": event}
""")


def publish(client, name: str, status: str = "On", **parameters) -> dict:
    """Publishes a version, waits as a client should, and checks whether it has a snapshot."""
    version = client.publish_version(FunctionName=name, **parameters)["Version"]
    pace = {"Delay": 0.05, "MaxAttempts": 1200}
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version, WaiterConfig=pace)
    found = client.get_function_configuration(FunctionName=name, Qualifier=version)
    assert found["State"] == "Active"
    assert found["SnapStart"]["OptimizationStatus"] == status, found.get("StateReason")
    return found


def frozen(client, name: str, package: bytes = WHO, status: str = "On", **config) -> dict:
    create(client, name, package, SnapStart=SNAP_START, **config)
    return publish(client, name, status)


def optimized(client, name: str) -> None:
    """Waits for the snapshot of `$LATEST` that an eager server makes in the background."""
    until = time.monotonic() + 60
    while True:
        found = client.get_function_configuration(FunctionName=name)
        if found["SnapStart"]["OptimizationStatus"] == "On":
            return
        assert time.monotonic() < until and "StateReason" not in found, found
        time.sleep(0.05)


def fresh(server, client, name: str, payload=None, **parameters):
    """Invokes in a new environment. The last one is only idle a moment after its answer."""
    for _ in range(30):
        if server.end_environments(name):
            break
        time.sleep(0.01)
    return invoke(client, name, payload, LogType="Tail", **{"Qualifier": "1", **parameters})


def is_restored(answer) -> bool:
    report = answer.report()
    return report["restore"] is not None and report["init"] is None


def refused(call, **parameters) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    error = raised.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


@pytest.fixture(scope="session")
def eager(tmp_path_factory):
    from server import Server
    running = Server(tmp_path_factory.mktemp("eager") / "data", ("--snapstart", "eager")).start()
    yield running
    assert running.alive(), f"the eager server died:\n{running.log()}"
    assert running.stop() == 0


# The API


def test_a_version_is_pending_until_it_is_frozen(server, functions):
    slow = python("import time\ntime.sleep(1)\ndef handler(event, context): return event\n")
    create(functions, "pending", slow, SnapStart=SNAP_START)
    published = functions.publish_version(FunctionName="pending")
    assert (published["State"], published["StateReasonCode"]) == ("Pending", "Creating")
    assert "LastUpdateStatus" not in published
    assert published["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    functions.create_alias(FunctionName="pending", Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        assert refused(functions.invoke, FunctionName="pending", Qualifier=qualifier) == (
            "SnapStartNotReadyException", 409, "Lambda is initializing your function. It will be ready to invoke once "
            "your function state becomes ACTIVE.")
    assert functions.publish_version(FunctionName="pending")["Version"] == "1"
    found = publish(functions, "pending")
    assert (found["Version"], found["LastUpdateStatus"]) == ("1", "Successful")
    assert invoke(functions, "pending", 5, Qualifier="live").json == 5
    latest = functions.get_function_configuration(FunctionName="pending")["SnapStart"]
    assert latest == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    versions = functions.list_versions_by_function(FunctionName="pending")["Versions"]
    assert [v["SnapStart"]["OptimizationStatus"] for v in versions] == ["Off", "On"]


def test_restored_environments_begin_after_init(server, functions):
    frozen(functions, "restored")
    answers = [fresh(server, functions, "restored", n) for n in range(4)]
    assert [a.json["event"] for a in answers] == [0, 1, 2, 3]
    assert len({a.json["token"] for a in answers}) == 1, "one init, many environments"
    assert {a.json["calls"] for a in answers} == {1}
    assert {a.json["type"] for a in answers} == {"snap-start"}
    assert all(is_restored(a) for a in answers), answers[0].tail
    assert not any("this is init" in a.tail for a in answers)
    latest = invoke(functions, "restored", LogType="Tail")
    assert latest.json["type"] == "on-demand"
    assert latest.json["token"] != answers[0].json["token"]
    assert latest.report()["init"] and not latest.report()["restore"]


def test_restores_are_in_the_log_and_in_the_report(server, functions, logs):
    frozen(functions, "lines")
    answer = fresh(server, functions, "lines")
    report = answer.report()
    assert report["restore"] and report["billed_restore"], answer.tail
    assert report["init"] is None
    assert float(report["restore"]) < 5000
    warm = invoke(functions, "lines", Qualifier="1", LogType="Tail").report()
    assert warm["restore"] is None
    until = time.monotonic() + 10
    while True:
        events = logs.filter_log_events(logGroupName="/aws/lambda/lines")["events"]
        messages = [event["message"] for event in events]
        if any(m.startswith("INIT_REPORT") for m in messages) or time.monotonic() > until:
            break
        time.sleep(0.1)
    assert any(m.startswith("INIT_START") for m in messages), "the init for the snapshot is logged"
    assert "this is init\n" in messages
    start = next(m for m in messages if m.startswith("RESTORE_START"))
    assert "Runtime Version: " in start and "Runtime Version ARN: arn:aws:lambda:" in start
    assert any(m.startswith("RESTORE_REPORT Restore Duration: ") for m in messages), messages


@pytest.mark.parametrize("config, what", [
    ({"Runtime": "nodejs22.x"}, "nodejs22.x"),
    ({"Runtime": "provided.al2023"}, "provided.al2023"),
    ({"Runtime": "python3.11"}, "python3.11"),
    ({"EphemeralStorage": {"Size": 513}}, "EphemeralStorage greater than 512 MB"),
    ({"FileSystemConfigs": [{"Arn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/"
                                    "fsap-12345678901234567", "LocalMountPath": "/mnt/x"}]}, "Amazon EFS"),
], ids=["node", "provided", "old python", "large tmp", "efs"])
def test_what_aws_refuses_is_refused(functions, config, what):
    with pytest.raises(ClientError) as raised:
        create(functions, "refused", runtime=config.pop("Runtime", "python3.12"), SnapStart=SNAP_START, **config)
    error = raised.value.response["Error"]
    assert (error["Code"], error["Message"]) == (
        "InvalidParameterValueException", f"{what} is not supported for SnapStart enabled functions.")


def test_a_version_whose_init_fails_is_failed(functions):
    create(functions, "broken", python("import nothing_of_that_name\n"), SnapStart=SNAP_START)
    functions.publish_version(FunctionName="broken")
    with pytest.raises(WaiterError):
        functions.get_waiter("published_version_active").wait(
            FunctionName="broken", Qualifier="1", WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    found = functions.get_function_configuration(FunctionName="broken", Qualifier="1")
    assert (found["State"], found["LastUpdateStatus"]) == ("Failed", "Failed")
    assert found["StateReasonCode"].startswith("FunctionError")
    assert found["StateReason"].startswith("An error occurred during function initialization.")
    assert "nothing_of_that_name" in found["StateReason"]
    assert refused(functions.invoke, FunctionName="broken", Qualifier="1")[:2] == ("ResourceConflictException", 409)
    assert refused(functions.create_alias, FunctionName="broken", Name="live", FunctionVersion="1")[:2] == (
        "ResourceConflictException", 409)


def test_deleting_a_version_or_function_deletes_the_snapshot(server, functions, account):
    def snapshots() -> list[str]:
        listed = server.admin("GET", "/_firn/snapshots")["snapshots"]
        return sorted(s["version"] for s in listed if f":{account}:function:gone" in s["function_arn"])

    frozen(functions, "gone")
    functions.update_function_configuration(FunctionName="gone", Description="changed")
    settle(functions, "gone")
    publish(functions, "gone")
    assert snapshots() == ["1", "2"]
    functions.delete_function(FunctionName="gone", Qualifier="1")
    eventually(lambda: snapshots() == ["2"])
    assert fresh(server, functions, "gone", Qualifier="2").json["type"] == "snap-start"
    functions.delete_function(FunctionName="gone")
    eventually(lambda: snapshots() == [])


def eventually(condition, timeout: float = 20) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "never"
        time.sleep(0.05)


# Hooks and priming


HOOKS = """
    from snapshot_restore_py import register_before_snapshot, register_after_restore
    seen = []
    @register_before_snapshot
    def before_one():
        seen.append("before one")
    @register_before_snapshot
    def before_two():
        seen.append("before two")
    def after(name, *, mark):
        seen.append(f"after {name}{mark}")
    register_after_restore(after, "one", mark="!")
    register_after_restore(after, "two", mark="?")
    def handler(event, context):
        return seen
"""
HOOK_ORDER = ["before two", "before one", "after one!", "after two?"]


def snapshot_restore_py() -> dict[str, bytes]:
    """The package from PyPI, as `pip install --target` leaves it."""
    files = {}
    for path in importlib.metadata.files("snapshot_restore_py") or []:
        full = Path(path.locate())
        if ".." not in path.parts and "__pycache__" not in path.parts and full.is_file():
            files[str(path)] = full.read_bytes()
    assert files
    return files


@pytest.mark.parametrize("own_copy", [False, True], ids=["firn's module", "the package from PyPI"])
def test_hooks_of_snapshot_restore_py_run(server, functions, own_copy):
    frozen(functions, "hooks", python(HOOKS, **(snapshot_restore_py() if own_copy else {})))
    for _ in range(2):
        answer = fresh(server, functions, "hooks")
        assert is_restored(answer)
        assert answer.json == HOOK_ORDER


def test_hooks_run_with_the_official_client(eager, account):
    import sys
    found = subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)"],
                           capture_output=True, text=True)
    if found.stdout.strip() != str(sys.version_info.minor):
        pytest.skip("the client's native part was built for another Python than the sandbox's python3")
    client = eager.client(account=account)
    create(client, "ric", with_file(awslambdaric_package(), "app.py", HOOKS), runtime="provided.al2023",
           MemorySize=256, Timeout=10, SnapStart=SNAP_START)
    publish(client, "ric")
    for _ in range(3):
        answer = fresh(eager, client, "ric")
        assert is_restored(answer), answer.tail
        assert answer.json == HOOK_ORDER


def with_file(package: bytes, name: str, text: str) -> bytes:
    import io
    import zipfile
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        files: dict[str, str | bytes] = {entry: archive.read(entry) for entry in archive.namelist()}
    return zipped({**files, name: text})


def test_a_failing_before_hook_fails_the_version(functions):
    create(functions, "before", python("""
        from snapshot_restore_py import register_before_snapshot
        @register_before_snapshot
        def before():
            raise ValueError("not today")
        def handler(event, context): return 1
    """), SnapStart=SNAP_START)
    functions.publish_version(FunctionName="before")
    eventually(lambda: functions.get_function_configuration(FunctionName="before:1")["State"] == "Failed", 60)
    found = functions.get_function_configuration(FunctionName="before:1")
    assert found["StateReasonCode"].startswith("FunctionError")
    assert "not today" in found["StateReason"]


def test_a_failing_after_hook_fails_the_invoke(functions, logs):
    frozen(functions, "after", python("""
        from snapshot_restore_py import register_after_restore
        @register_after_restore
        def after():
            raise ValueError("no way back")
        def handler(event, context): return 1
    """))
    code, status, message = refused(functions.invoke, FunctionName="after", Qualifier="1")
    assert (code, status) == ("SnapStartException", 400)
    assert message
    eventually(lambda: any("no way back" in event["message"] for event in
                           logs.filter_log_events(logGroupName="/aws/lambda/after")["events"]))


def test_a_restore_that_takes_too_long_times_out(own_server):
    server = own_server(env={"FIRN_SNAPSTART_RESTORE_TIMEOUT_MS": "700"})
    client = server.client()
    frozen(client, "slow", python("""
        import time
        from snapshot_restore_py import register_after_restore
        register_after_restore(time.sleep, 60)
        def handler(event, context): return 1
    """))
    began = time.monotonic()
    code, status, _ = refused(client.invoke, FunctionName="slow", Qualifier="1")
    assert (code, status) == ("SnapStartTimeoutException", 408)
    assert time.monotonic() - began < 10


def test_priming_events_run_before_the_snapshot(server, functions):
    source = """
        seen = []
        def handler(event, context):
            seen.append(event)
            return seen
    """
    frozen(functions, "primed", python(source),
           Environment={"Variables": {"FIRN_SNAPSTART_PRIMING": '[{"prime": 1}, {"prime": 2}]'}})
    assert fresh(server, functions, "primed", "real").json == [{"prime": 1}, {"prime": 2}, "real"]
    frozen(functions, "primed-by-file", zipped({"app.py": source, "firn-priming.json": '[{"file": 1}]'}))
    assert fresh(server, functions, "primed-by-file", "real").json == [{"file": 1}, "real"]


# What a restored function finds


def boto3_package(source: str) -> bytes:
    """A package that brings its own boto3, with the description of Lambda alone."""
    files: dict[str, str | bytes] = {"app.py": source}
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"):
        for path in importlib.metadata.files(name) or []:
            full, text = Path(path.locate()), str(path)
            data = "/data/" in text and not any(
                part in text for part in ("/data/lambda/", "endpoints.json", "partitions.json", "sdk-default",
                                          "_retry.json", "boto3/data"))
            if ".." in path.parts or "__pycache__" in path.parts or data or not full.is_file():
                continue
            files[text] = full.read_bytes()
    return zipped(files)


def test_credentials_of_a_restored_function_work(server, functions, account):
    frozen(functions, "credentials", boto3_package("""
        import os
        import boto3
        client = boto3.client("lambda")
        KEYS_AT_INIT = sorted(name for name in os.environ if name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        def handler(event, context):
            found = client.get_function_configuration(FunctionName="credentials", Qualifier="1")
            again = boto3.Session().client("lambda").list_functions()["Functions"]
            return [found["FunctionArn"], KEYS_AT_INIT, "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ,
                    client._request_signer._credentials.method, len(again)]
    """), MemorySize=256, Timeout=20)
    for _ in range(2):
        answer = fresh(server, functions, "credentials")
        assert is_restored(answer), answer.tail
        assert answer.json == [f"arn:aws:lambda:us-east-1:{account}:function:credentials:1", [], True,
                               "container-role", 1]


def test_clocks_go_on(server, functions):
    frozen(functions, "clocks", python("""
        import time
        WALL, MONOTONIC = time.time(), time.monotonic()
        def handler(event, context):
            return [time.time() - WALL, time.monotonic() - MONOTONIC, time.time(), context.get_remaining_time_in_millis()]
    """))
    time.sleep(2.5)
    wall, monotonic, now, left = fresh(server, functions, "clocks").json
    assert wall >= 2.4, "the time of day has gone on while the function was frozen"
    assert abs(now - time.time()) < 5
    assert 0 < monotonic <= wall - 2.4, "for the function no time has passed"
    assert 0 < left <= 3000
    first = fresh(server, functions, "clocks").json
    time.sleep(0.3)
    second = invoke(functions, "clocks", Qualifier="1").json
    assert second[1] - first[1] >= 0.28


def test_randomness_does_not_repeat(server, functions):
    frozen(functions, "random", python("""
        import os, random, secrets, ssl, uuid
        random.random(), uuid.uuid4(), ssl.RAND_bytes(8)
        def handler(event, context):
            return [random.random(), random.SystemRandom().random(), str(uuid.uuid4()), secrets.token_hex(8),
                    os.urandom(8).hex(), ssl.RAND_bytes(8).hex()]
    """))
    rounds = [fresh(server, functions, "random").json for _ in range(10)]
    for column in zip(*rounds):
        assert len(set(column)) == len(rounds), column


def test_tmp_comes_back(server, functions):
    frozen(functions, "tmp", python("""
        import hashlib, os
        os.makedirs("/tmp/deep/er")
        os.symlink("big", "/tmp/link")
        with open("/tmp/big", "wb") as f:
            for n in range(40):
                f.write(hashlib.sha256(str(n).encode()).digest() * 32768)
        with open("/tmp/deep/er/small", "w") as f:
            f.write("small")
        OPEN = open("/tmp/deep/log", "w+")
        OPEN.write("one,")
        OPEN.flush()
        def handler(event, context):
            OPEN.write("two")
            OPEN.flush()
            OPEN.seek(0)
            with open("/tmp/link", "rb") as f:
                digest = hashlib.file_digest(f, "sha256").hexdigest()
            os.remove("/tmp/big")
            return [digest, open("/tmp/deep/er/small").read(), OPEN.read()]
    """), MemorySize=512, Timeout=20)
    answers = [fresh(server, functions, "tmp") for _ in range(2)]
    assert all(is_restored(a) for a in answers)
    assert answers[0].json == answers[1].json, "what one environment deletes, the next one has"
    assert answers[0].json[1:] == ["small", "one,two"]


def test_a_connection_to_the_endpoint_works_after_the_thaw(server, functions):
    frozen(functions, "connected", python("""
        import http.client, os, socket, urllib.parse
        def connect():
            url = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
            connection.connect()
            return connection
        def ask(connection):
            connection.request("GET", "/_firn/health")
            return connection.getresponse().read().decode()
        CONNECTION = connect()
        assert "ok" in ask(CONNECTION)
        def handler(event, context):
            try:
                return ["same", ask(CONNECTION)]
            except (ConnectionError, http.client.HTTPException, OSError) as error:
                return [type(error).__name__, ask(connect())]
    """))
    for _ in range(2):
        answer = fresh(server, functions, "connected")
        assert is_restored(answer), answer.tail
        how, health = answer.json
        assert how in ("same", "ConnectionResetError", "BrokenPipeError", "RemoteDisconnected"), how
        assert '"status":"ok"' in health.replace(" ", "")


def test_connections_and_listeners_of_its_own(server, functions):
    """A connection whose other end is gone after the thaw is reset; listening goes on."""
    frozen(functions, "loopback", python("""
        import socket
        LISTENER = socket.create_server(("127.0.0.1", 8081))
        ONE = socket.create_connection(("127.0.0.1", 8081))
        OTHER, _ = LISTENER.accept()
        def use(s):
            s.settimeout(2)
            try:
                s.sendall(b"x")
                return s.recv(10).decode()
            except ConnectionError as error:
                return type(error).__name__
        def handler(event, context):
            again = socket.create_connection(("127.0.0.1", 8081), 2)
            accepted, _ = LISTENER.accept()
            again.sendall(b"new")
            return [use(ONE), use(OTHER), accepted.recv(3).decode()]
    """))
    answer = fresh(server, functions, "loopback")
    assert is_restored(answer), answer.tail
    one, other, new = answer.json
    assert {one, other} <= {"ConnectionResetError", "BrokenPipeError"}, answer.json
    assert new == "new"


def test_a_connection_that_leads_nowhere_does_not_hold_it_up(server, functions):
    create(functions, "nowhere", python("""
        import socket
        S = socket.socket()
        S.setblocking(False)
        S.connect_ex(("192.0.2.1", 9))
        def handler(event, context):
            S.close()
            return "works"
    """), SnapStart=SNAP_START)
    version = functions.publish_version(FunctionName="nowhere")["Version"]
    eventually(lambda: functions.get_function_configuration(FunctionName="nowhere:1")["State"] == "Active", 60)
    assert version == "1"
    assert fresh(server, functions, "nowhere").json == "works"


def test_threads_and_signals_go_on(server, functions):
    frozen(functions, "threads", python("""
        import queue, signal, threading
        todo, done = queue.Queue(), queue.Queue()
        def work():
            while True:
                done.put(todo.get() * 2)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        caught = []
        signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
        def handler(event, context):
            import gc
            gc.collect()
            for n in range(8):
                todo.put(n)
            signal.raise_signal(signal.SIGUSR1)
            later = threading.Thread(target=lambda: caught.append("thread"))
            later.start(); later.join()
            return [sorted(done.get(timeout=5) for _ in range(8)), [str(c) for c in caught]]
    """))
    answer = fresh(server, functions, "threads")
    assert is_restored(answer), answer.tail
    assert answer.json == [[0, 2, 4, 6, 8, 10, 12, 14], ["10", "thread"]]


# What cannot be frozen


def test_a_second_process_is_named_and_the_function_works(server, functions):
    found = frozen(functions, "child", python("""
        import os, subprocess
        CHILD = subprocess.Popen(["/bin/sleep", "1000"])
        def handler(event, context):
            return [CHILD.poll(), os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
    """), status="Off")
    assert "sleep" in found["StateReason"], found["StateReason"]
    answer = fresh(server, functions, "child")
    assert answer.json[0] is None, "the child lives, since there was a cold start"
    assert not is_restored(answer)


# Crashes and storage


def test_a_killed_server_finishes_what_it_had_begun(own_server):
    server = own_server()
    client = server.client()
    create(client, "killed", python("""
        import time, uuid
        TOKEN = str(uuid.uuid4())
        time.sleep(1.5)
        def handler(event, context): return TOKEN
    """), SnapStart=SNAP_START)
    client.publish_version(FunctionName="killed")
    time.sleep(0.5)
    server.kill()
    server.start()
    client = server.client()
    assert publish(client, "killed")["Version"] == "1"
    token = fresh(server, client, "killed").json

    server.kill()
    server.start()
    client = server.client()
    found = client.get_function_configuration(FunctionName="killed", Qualifier="1")
    assert (found["State"], found["SnapStart"]["OptimizationStatus"]) == ("Active", "On")
    answer = fresh(server, client, "killed")
    assert is_restored(answer), answer.tail
    assert answer.json == token, "restored from disk, without a new init"


def chunk_files(folder: Path) -> list[Path]:
    return sorted((p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 4096),
                  key=lambda path: -path.stat().st_size)


def test_corrupted_chunks_never_reach_a_function(own_server):
    server = own_server()
    client = server.client()
    frozen(client, "corrupt")
    token = fresh(server, client, "corrupt").json["token"]
    assert server.stop() == 0
    store = server.data / "snapshots"
    files = chunk_files(store)
    assert files, sorted(store.rglob("*"))
    for path in files:
        content = bytearray(path.read_bytes())
        for at in range(100, len(content), 997):
            content[at] ^= 0xFF
        path.write_bytes(content)
    server.start()
    client = server.client()
    answer = fresh(server, client, "corrupt", {"still": "right"})
    assert answer.json["event"] == {"still": "right"}
    assert answer.json["calls"] == 1
    assert answer.json["token"] != token and not is_restored(answer), "a cold start"
    # A new snapshot is made in the background.
    eventually(lambda: is_restored(fresh(server, client, "corrupt")), 60)


def test_lost_snapshots_are_made_again(own_server):
    server = own_server()
    client = server.client()
    frozen(client, "lost")
    assert server.stop() == 0
    shutil.rmtree(server.data / "snapshots")
    server.start()
    client = server.client()
    assert fresh(server, client, "lost", 7).json["event"] == 7
    eventually(lambda: is_restored(fresh(server, client, "lost")), 60)


def test_a_second_server_adopts_snapshots_from_the_store(own_server, tmp_path):
    shared = {"FIRN_SNAPSTART_STORE": str(tmp_path / "shared"), "FIRN_SNAPSTART_KEY_FILE": str(tmp_path / "key")}
    first = own_server(data=tmp_path / "first", env=shared)
    client = first.client()
    frozen(client, "shared", MemorySize=256)
    token = fresh(first, client, "shared").json["token"]
    assert first.stop() == 0

    second = own_server(data=tmp_path / "second", env=shared)
    client = second.client()
    frozen(client, "shared", MemorySize=256)
    answer = fresh(second, client, "shared")
    assert is_restored(answer), answer.tail
    assert answer.json["token"] == token, "the init ran on the first server"
    messages = [event["message"] for event in
                second.client("logs").filter_log_events(logGroupName="/aws/lambda/shared")["events"]]
    assert not any(m.startswith("INIT_START") or "this is init" in m for m in messages), messages


def test_without_the_key_nothing_can_be_used(own_server, tmp_path):
    shared = str(tmp_path / "shared")
    first = own_server(data=tmp_path / "first", env={
        "FIRN_SNAPSTART_STORE": shared, "FIRN_SNAPSTART_KEY_FILE": str(tmp_path / "one")})
    frozen(first.client(), "keyed")
    token = fresh(first, first.client(), "keyed").json["token"]
    assert first.stop() == 0
    second = own_server(data=tmp_path / "second", env={
        "FIRN_SNAPSTART_STORE": shared, "FIRN_SNAPSTART_KEY_FILE": str(tmp_path / "other")})
    frozen(second.client(), "keyed")
    answer = fresh(second, second.client(), "keyed")
    assert is_restored(answer) and answer.json["token"] != token
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_dropped_memory_is_read_from_the_disk_again(server, functions):
    frozen(functions, "dropped")
    token = fresh(server, functions, "dropped").json["token"]
    assert server.admin("POST", "/_firn/snapshots/drop-memory")["dropped"] >= 1
    answer = fresh(server, functions, "dropped")
    assert is_restored(answer) and answer.json["token"] == token


def test_what_lies_around_the_pages_of_a_first_answer_is_not_kept_with_them(server, functions):
    """The kernel maps sixteen pages for one that is read; of these 8 MiB one in sixteen is."""
    if not os.path.exists("/dev/userfaultfd"):
        pytest.skip("pages are recorded one by one through /dev/userfaultfd")
    create(functions, "sparse", python("""
        import hashlib, os
        DATA = os.urandom(8 << 20)
        WHOLE = hashlib.sha256(DATA).hexdigest()
        def handler(event, context):
            if event == "all":
                return hashlib.sha256(DATA).hexdigest() == WHOLE
            return bytes(DATA[at] for at in range(0, len(DATA), 16 * 4096)).hex()
    """), SnapStart=SNAP_START, Timeout=30)
    publish(functions, "sparse")

    def kept():
        snapshots = server.admin("GET", "/_firn/snapshots")["snapshots"]
        mine = (one for one in snapshots if ":function:sparse" in one["function_arn"] and one["version"] == "1")
        return next(mine)["working_set_bytes"]

    answer = fresh(server, functions, "sparse")
    assert is_restored(answer)
    eventually(kept)
    assert (8 << 20) // 16 < kept() < 6 << 20, "around the rest of what a Python answer needs"
    for _ in range(2):
        assert server.admin("POST", "/_firn/snapshots/drop-memory")["dropped"] >= 1
        again = fresh(server, functions, "sparse")
        assert is_restored(again) and again.json == answer.json
    assert server.admin("POST", "/_firn/snapshots/drop-memory")["dropped"] >= 1
    assert fresh(server, functions, "sparse", "all").json is True, "what was not kept together comes when it is read"


# Isolation


def test_accounts_do_not_share_memory_and_the_disk_holds_no_plaintext(own_server):
    server = own_server()
    clients = {name: server.client(account=name) for name in ("111111111111", "222222222222")}
    source = """
        import json, os
        SECRET = "secret-of-" + os.environ["OWNER"] + "-" + "x" * 5000
        def handler(event, context):
            other = "222222222222" if os.environ["OWNER"].startswith("1") else "111111111111"
            needle = ("secret-of-" + other).encode()
            found = False
            with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
                for line in maps:
                    span, rights = line.split()[:2]
                    if "r" not in rights or "[v" in line:
                        continue
                    start, end = (int(n, 16) for n in span.split("-"))
                    if end - start > 64 << 20:
                        continue
                    memory.seek(start)
                    try:
                        found = found or memory.read(end - start).count(needle + b"-x") > 0
                    except OSError:
                        pass
            return [SECRET[:22], found]
    """
    for owner, client in clients.items():
        frozen(client, "same", python(source), MemorySize=512, Timeout=30,
               Environment={"Variables": {"OWNER": owner}})
    for owner, client in clients.items():
        answer = fresh(server, client, "same")
        assert is_restored(answer), answer.tail
        assert answer.json == [f"secret-of-{owner}", False]
    stored = [p for p in (server.data / "snapshots").rglob("*") if p.is_file()]
    read = 0
    for path in stored:
        try:
            assert b"secret-of-" not in path.read_bytes(), path
        except FileNotFoundError:
            continue  # what is still coming in gets another name
        read += 1
    assert read > 4, stored


def test_what_one_environment_writes_into_its_image_no_other_sees(server, functions):
    frozen(functions, "hostile", python("""
        import ctypes
        PAGE = ctypes.create_string_buffer(b"clean" + bytes(1 << 20))
        def handler(event, context):
            seen = PAGE.raw[:5].decode()
            address = ctypes.addressof(PAGE)
            if event == "attack":
                with open("/proc/self/mem", "r+b", 0) as memory:
                    memory.seek(address)
                    memory.write(b"dirty")
                attempts = []
                import glob, os
                for path in glob.glob("/proc/self/map_files/*") + glob.glob("/proc/self/fd/*"):
                    try:
                        if "memfd" in os.readlink(path):
                            fd = os.open(path, os.O_RDWR)
                            os.pwrite(fd, b"dirty" * 1000, 0)
                            attempts.append(path)
                    except OSError:
                        pass
                return [seen, PAGE.raw[:5].decode(), attempts]
            return [seen]
    """))
    attack = fresh(server, functions, "hostile", "attack")
    assert is_restored(attack), attack.tail
    assert attack.json == ["clean", "dirty", []]
    for _ in range(3):
        answer = fresh(server, functions, "hostile", "look")
        assert is_restored(answer) and answer.json == ["clean"]


def test_many_restores_at_once(server, functions):
    frozen(functions, "many", python("""
        import os, time, uuid
        TOKEN = str(uuid.uuid4())
        def handler(event, context):
            time.sleep(1)
            return [event, TOKEN, open("/proc/self/cgroup").read() and os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
    """), Timeout=60)
    server.end_environments("many")
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda n: invoke(functions, "many", n, Qualifier="1"), range(PARALLEL)))
    assert [a.error for a in answers] == [None] * PARALLEL, [a.body for a in answers if a.error]
    assert [a.json[0] for a in answers] == list(range(PARALLEL))
    assert len({a.json[1] for a in answers}) == 1
    assert {a.json[2] for a in answers} == {"snap-start"}


# Beyond AWS


def test_an_eager_server_freezes_latest(eager, account):
    client = eager.client(account=account)
    create(client, "latest", WHO)
    optimized(client, "latest")
    answers = [fresh(eager, client, "latest", n, Qualifier="$LATEST") for n in range(2)]
    assert all(is_restored(a) for a in answers), answers[0].tail
    assert answers[0].json["token"] == answers[1].json["token"]
    client.update_function_configuration(FunctionName="latest", Environment={"Variables": {"CHANGED": "1"}})
    settle(client, "latest")
    optimized(client, "latest")
    changed = fresh(eager, client, "latest", Qualifier="$LATEST")
    assert is_restored(changed) and changed.json["token"] != answers[0].json["token"]


def test_an_eager_server_freezes_node(eager, account):
    client = eager.client(account=account)
    create(client, "node", node("""
        const crypto = require("crypto");
        const snapshot = require("@firn/snapshot");
        const token = crypto.randomUUID();
        const seen = [];
        snapshot.beforeSnapshot(() => seen.push("before"));
        snapshot.afterRestore(async () => { seen.push("after"); });
        let timer = 0;
        setInterval(() => { timer++; }, 5).unref();
        exports.handler = async (event) => {
            await new Promise((resolve) => setTimeout(resolve, 30));
            return { token, seen, ticks: timer > 0, id: crypto.randomUUID(), random: Math.random(),
                     type: process.env.AWS_LAMBDA_INITIALIZATION_TYPE, event };
        };
    """), runtime="nodejs20.x", SnapStart=SNAP_START, EphemeralStorage={"Size": 1024})
    publish(client, "node")
    answers = [fresh(eager, client, "node", n) for n in range(4)]
    assert all(is_restored(a) for a in answers), answers[0].tail
    assert len({a.json["token"] for a in answers}) == 1
    assert all(a.json["seen"] == ["before", "after"] and a.json["ticks"] for a in answers)
    assert len({a.json["id"] for a in answers}) == len({a.json["random"] for a in answers}) == 4
    assert {a.json["type"] for a in answers} == {"snap-start"}


def test_an_eager_server_freezes_a_native_binary(eager, account, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    built = tmp_path / "bootstrap"
    subprocess.run(["cc", "-O1", "-static", "-o", built, Path(__file__).with_name("bootstrap.c")], check=True)
    client = eager.client(account=account)
    create(client, "native", zipped({"bootstrap": built.read_bytes()}), runtime="provided.al2023",
           SnapStart=SNAP_START)
    publish(client, "native")
    for n in range(3):
        answer = fresh(eager, client, "native", {"n": n})
        assert is_restored(answer), answer.tail
        assert answer.json == {"n": n}
        assert invoke(client, "native", {"warm": n}, Qualifier="1").json == {"warm": n}


def test_an_eager_server_says_why_a_shell_script_is_not_frozen(eager, account):
    from test_runtimes import BOOTSTRAP
    client = eager.client(account=account)
    create(client, "shell", zipped({"bootstrap": BOOTSTRAP}), runtime="provided.al2023", SnapStart=SNAP_START)
    found = publish(client, "shell", "Off")
    assert "curl" in found["StateReason"], found["StateReason"]
    assert invoke(client, "shell", 1, Qualifier="1").json == {"from": "shell", "event": 1}


def test_an_auto_server_freezes_after_the_first_cold_start(own_server):
    server = own_server("--snapstart", "auto")
    client = server.client()
    create(client, "auto", WHO)
    first = invoke(client, "auto", LogType="Tail")
    assert first.report()["init"]
    eventually(lambda: is_restored(fresh(server, client, "auto", Qualifier="$LATEST")), 60)


# The command line


@pytest.fixture
def firn(server, account, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_ENDPOINT": server.endpoint}

    def run(*arguments: str) -> str:
        done = subprocess.run([binary(), *arguments, "--account", account], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    return run


def test_the_command_line_shows_and_deletes_snapshots(server, functions, firn, tmp_path):
    folder = tmp_path / "deployed"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): return event\n")
    firn("deploy", str(folder), "--runtime", "python3.12", "--snap-start", "--publish")
    assert is_restored(fresh(server, functions, "deployed", 3))
    listed = json.loads(firn("snapshots", "--json"))
    (snapshot,) = listed["snapshots"]
    assert (snapshot["version"], snapshot["state"]) == ("1", "ready")
    assert snapshot["restores"] + snapshot["parked_hits"] >= 1
    assert snapshot["bytes"] > snapshot["stored_bytes"] > 0
    row = firn("snapshots").split("\t")
    assert row[:2] == ["deployed:1", "ready"]
    assert "function_arn" in firn("snapshots", "inspect", "deployed:1")
    firn("snapshots", "rm", "deployed:1")
    assert set(json.loads(firn("snapshots", "gc", "--json"))) == {"chunks", "bytes"}
    assert fresh(server, functions, "deployed", 4).json == 4, "without its snapshot the version works"


def test_numbers_for_a_monitoring_system(server, functions):
    import urllib.request
    frozen(functions, "measured")
    fresh(server, functions, "measured")
    text = urllib.request.urlopen(server.endpoint + "/_firn/metrics").read().decode()
    for phase in ("init", "freeze", "store"):
        assert f'firn_snapshot_phase_seconds_count{{phase="{phase}"}}' in text, text
    assert "firn_snapshot_tier_read_bytes_total" in text
