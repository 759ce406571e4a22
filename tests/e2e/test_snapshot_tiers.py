"""Where snapshots come from: a real Redis or Valkey between servers and store, and a store that speaks S3."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from functions import create
from test_snapstart import WHO, SNAP_START, eventually, fresh, frozen, is_restored, publish


class Redis:
    """A server of its own on a free port of the loopback interface, that writes nothing to disk."""

    def __init__(self, program: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: self.listens())

    def listens(self) -> bool:
        assert self.process.poll() is None, "redis-server did not start"
        with contextlib.suppress(OSError):
            return self.command("PING") == b"PONG"
        return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self, *words: str | bytes):
        """One command of the protocol, and its answer: bytes, a number or a list."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection, connection.makefile("rb") as answer:
            connection.sendall(request)
            return self.read(answer)

    def read(self, answer):
        kind, rest = (line := answer.readline())[:1], line[1:].strip()
        assert kind != b"-", rest
        if kind == b"*":
            return [self.read(answer) for _ in range(int(rest))]
        if kind == b"$":
            return None if int(rest) < 0 else answer.read(int(rest) + 2)[:-2]
        return int(rest) if kind == b":" else rest

    def chunks(self) -> list[bytes]:
        return self.command("KEYS", "firn:chunks/*")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis():
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("NEITHER valkey-server NOR redis-server: the shared tier of snapshots was not tested")
    running = Redis(program)
    yield running
    running.stop()


def tiers(server) -> dict:
    return server.admin("GET", "/_firn/snapshots")["tiers"]


def stored_chunks(store: Path) -> list[Path]:
    return [path for path in (store / "chunks").rglob("*") if path.is_file()]


class Shared:
    """Servers with data directories of their own, and one Redis, store and key."""

    def __init__(self, own_server, redis: Redis, tmp_path: Path):
        self.own_server, self.redis, self.tmp_path = own_server, redis, tmp_path
        self.store = tmp_path / "store"

    def server(self, name: str):
        return self.own_server(data=self.tmp_path / name, env={
            "FIRN_SNAPSTART_STORE": str(self.store),
            "FIRN_SNAPSTART_KEY_FILE": str(self.tmp_path / "key"),
            # As for a directory on a network file system: a local one is read without further ado.
            "FIRN_SNAPSTART_CACHE_DIRECTORY_STORE": "true",
            "FIRN_SNAPSTART_REDIS_URL": self.redis.url,
            # A machine that is busy with other tests is no reason for a miss.
            "FIRN_SNAPSTART_REDIS_TIMEOUT_MS": "5000",
            "FIRN_SNAPSTART_PARKED_PER_FUNCTION": "0",
        })

    def publish(self) -> str:
        """Makes a snapshot, and has one restore from the store bring all of it into Redis. Returns its token."""
        first = self.server("first")
        client = first.client()
        frozen(client, "tiers", MemorySize=256)
        token = fresh(first, client, "tiers").json["token"]
        assert tiers(first)["redis"]["hits"] == 0
        # What the first answer needed is read from the chunks and stored together, in the background.
        eventually(lambda: len(list(self.store.glob("images/*/*/side/first-*"))) == 4)
        # Its own copies would come first.
        shutil.rmtree(first.data / "snapshot-cache" / "chunks")
        first.admin("POST", "/_firn/snapshots/drop-memory")
        assert is_restored(fresh(first, client, "tiers"))
        eventually(lambda: len(self.redis.chunks()) == len(stored_chunks(self.store)) > 0)
        assert first.stop() == 0
        return token

    def restore(self, name: str):
        """A restore on a server that has nothing yet."""
        server = self.server(name)
        client = server.client()
        frozen(client, "tiers", MemorySize=256)
        answer = fresh(server, client, "tiers", {"on": name})
        assert answer.json["event"] == {"on": name}
        return server, client, answer


@pytest.fixture
def shared(own_server, redis, tmp_path) -> Shared:
    return Shared(own_server, redis, tmp_path)


def test_redis_serves_a_restore_on_another_server(shared):
    token = shared.publish()
    # The store keeps what says which chunks there are. The chunks themselves only Redis has now, also those of the
    # working set, which the store has once more by themselves.
    count = len(stored_chunks(shared.store))
    shutil.rmtree(shared.store / "chunks")
    for side in shared.store.glob("images/*/*/side"):
        shutil.rmtree(side)
    second, client, answer = shared.restore("second")
    assert is_restored(answer), answer.tail
    assert answer.json["token"] == token and answer.json["calls"] == 1, "the init ran on the first server"
    eventually(lambda: tiers(second)["redis"]["hits"] >= count)
    found = tiers(second)["redis"]
    assert found["readBytes"] > 0 and found["errors"] == found["corrupt"] == 0, found
    assert second.stop() == 0


def test_damage_in_redis_is_repaired_from_the_store(shared):
    token = shared.publish()
    keys = shared.redis.chunks()
    whole = {key: shared.redis.command("GET", key) for key in keys}
    for key, value in whole.items():
        assert b"this is init" not in value, "nothing is there in clear"
        shared.redis.command("SET", key, value[:-20] + bytes(byte ^ 0xFF for byte in value[-20:]))
    second, _, answer = shared.restore("second")
    assert is_restored(answer), answer.tail
    assert answer.json["token"] == token
    eventually(lambda: tiers(second)["redis"]["corrupt"] > 0)
    eventually(lambda: all(shared.redis.command("GET", key) == value for key, value in whole.items()))


def test_restores_go_on_without_redis(shared):
    token = shared.publish()
    shared.redis.stop()
    second, client, answer = shared.restore("second")
    assert is_restored(answer), answer.tail
    assert answer.json["token"] == token
    found = tiers(second)
    assert found["redis"]["hits"] == 0 and found["store"]["hits"] > 0, found


# A store that speaks S3: the one that firn has itself.


@pytest.fixture
def bucket(own_server, tmp_path):
    server = own_server(data=tmp_path / "s3")
    client = server.client("s3")
    client.create_bucket(Bucket="snapshots")
    client.endpoint = server.endpoint
    return client


def objects(bucket, prefix: str = "") -> list[str]:
    pages = bucket.get_paginator("list_objects_v2").paginate(Bucket="snapshots", Prefix=prefix)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


@pytest.fixture
def on_s3(own_server, bucket, tmp_path):
    def start(name: str):
        return own_server(data=tmp_path / name, env={
            "FIRN_SNAPSTART_STORE": "s3://snapshots/of/firn",
            "FIRN_SNAPSTART_KEY_FILE": str(tmp_path / "key"),
            "FIRN_SNAPSTART_S3_ENDPOINT": bucket.endpoint,
            "FIRN_SNAPSTART_S3_ALLOW_HTTP": "true",
            "FIRN_SNAPSTART_PARKED_PER_FUNCTION": "0",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        })

    return start


def test_a_snapshot_in_s3_is_restored_on_a_second_data_directory(on_s3, bucket):
    first = on_s3("first")
    frozen(first.client(), "distant", MemorySize=256)
    token = fresh(first, first.client(), "distant").json["token"]
    assert not any(path.is_file() for path in (first.data / "snapshots").rglob("*")), "the bucket is the store"
    assert first.stop() == 0
    assert len(objects(bucket, "of/firn/images/")) >= 1 and len(objects(bucket, "of/firn/chunks/")) > 10
    assert len(objects(bucket)) == len(objects(bucket, "of/firn/"))

    second = on_s3("second")
    client = second.client()
    frozen(client, "distant", MemorySize=256)
    answer = fresh(second, client, "distant", 5)
    assert is_restored(answer), answer.tail
    assert (answer.json["token"], answer.json["event"]) == (token, 5), "the init ran on the first server"
    found = tiers(second)
    assert found["store"]["hits"] > 0 and found["store"]["errors"] == 0, found
    (snapshot,) = second.admin("GET", "/_firn/snapshots")["snapshots"]
    assert snapshot["state"] == "ready" and snapshot["tier"] in ("memory", "object store"), snapshot

    # What came from there is kept on this machine.
    eventually(lambda: tiers(second)["cache"]["writtenBytes"] > 0)
    second.admin("POST", "/_firn/snapshots/drop-memory")
    again = fresh(second, client, "distant")
    assert is_restored(again) and again.json["token"] == token
    assert tiers(second)["cache"]["hits"] > 0


def test_damage_in_s3_means_a_cold_start_and_a_new_snapshot(on_s3, bucket):
    first = on_s3("first")
    frozen(first.client(), "damaged", MemorySize=256)
    token = fresh(first, first.client(), "damaged").json["token"]
    assert first.stop() == 0
    for key in objects(bucket, "of/firn/chunks/"):
        content = bytearray(bucket.get_object(Bucket="snapshots", Key=key)["Body"].read())
        content[len(content) // 2] ^= 0xFF
        bucket.put_object(Bucket="snapshots", Key=key, Body=bytes(content))
    for key in objects(bucket, "of/firn/images/"):
        if "/side/" in key:
            bucket.delete_object(Bucket="snapshots", Key=key)

    second = on_s3("second")
    client = second.client()
    create(client, "damaged", WHO, SnapStart=SNAP_START, MemorySize=256)
    publish(client, "damaged")
    answer = fresh(second, client, "damaged", {"still": "right"})
    assert answer.json["event"] == {"still": "right"} and answer.json["calls"] == 1
    assert answer.json["token"] != token, "nothing of the damaged image reached the function"
    assert tiers(second)["store"]["corrupt"] > 0
    eventually(lambda: is_restored(fresh(second, client, "damaged")), 60)


def test_without_its_bucket_a_function_starts_cold(on_s3, bucket):
    server = on_s3("first")
    client = server.client()
    frozen(client, "bucketless", MemorySize=256)
    assert server.stop() == 0
    for key in objects(bucket):
        bucket.delete_object(Bucket="snapshots", Key=key)
    shutil.rmtree(server.data / "snapshot-cache", ignore_errors=True)
    server.start()
    client = server.client()
    answer = fresh(server, client, "bucketless", 3)
    assert answer.json["event"] == 3 and not is_restored(answer)
    eventually(lambda: is_restored(fresh(server, client, "bucketless")), 60)
