"""A `firn serve` under measurement, and the plain connection that it is measured through."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

import boto3
from botocore.config import Config

from functions import Function

ROLE = "arn:aws:iam::000000000000:role/bench"
# The server takes any signature; the scope names service and region.
AUTHORIZATION = (
    "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, "
    "SignedHeaders=host, Signature=0\r\nX-Amz-Date: 20260101T000000Z\r\n"
)


@dataclass
class Answer:
    ms: float
    body: bytes
    report: dict[str, float]

    @property
    def kind(self) -> str:
        """How the environment came about."""
        if "Restore Duration" in self.report:
            return "restored"
        return "cold" if "Init Duration" in self.report else "warm"


class Connection:
    """One kept-alive connection. A client library's own milliseconds would count as the server's."""

    def __init__(self, address: str):
        host, port = address.split(":")
        self.address = address
        self.socket = socket.create_connection((host, int(port)), timeout=300)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def invoke(self, function: str, event: dict) -> Answer:
        path = f"/2015-03-31/functions/{function.replace(':', '/invocations?Qualifier=', 1)}"
        if "?" not in path:
            path += "/invocations"
        status, headers, body, ms = self.exchange("POST", path, json.dumps(event).encode(), "X-Amz-Log-Type: Tail\r\n")
        if status != 200 or "x-amz-function-error" in headers:
            raise RuntimeError(f"{function}: {status} {body[:2000]!r} {headers}")
        tail = base64.b64decode(headers.get("x-amz-log-result", "")).decode(errors="replace")
        return Answer(ms, body, durations(tail))

    def exchange(self, method: str, path: str, body: bytes = b"", more: str = "") -> tuple[int, dict, bytes, float]:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\n{AUTHORIZATION}{more}Content-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        start = time.perf_counter()
        self.socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.more()
        lines = data[:end].decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers["content-length"])
        content = data[end + 4 :]
        while len(content) < length:
            content += self.more()
        ms = (time.perf_counter() - start) * 1e3
        return int(lines[0].split()[1]), headers, content, ms

    def more(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def close(self) -> None:
        self.socket.close()


def durations(tail: str) -> dict[str, float]:
    """The figures of the REPORT line, in milliseconds and megabytes."""
    report = next((line for line in tail.splitlines() if line.startswith("REPORT ")), "")
    return {name: float(value) for name, value in re.findall(r"\t([A-Z][A-Za-z ]+): ([0-9.]+) (?:ms|MB)", report)}


class Server:
    def __init__(self, binary: str, data: pathlib.Path, settings: dict[str, object]):
        """`settings` are keys of the configuration, such as `invoker.idle_timeout_s`."""
        variables = {f"FIRN_{key.upper().replace('.', '_')}": str(value) for key, value in settings.items()}
        data.mkdir(parents=True, exist_ok=True)
        with open(data.with_suffix(".log"), "a") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--listen", "127.0.0.1:0", "--data", str(data)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={"FIRN_LOG_FILTER": "warn", **os.environ, **variables},
            )
        line = self.process.stdout.readline()
        if "http://" not in line:
            self.process.wait()
            raise RuntimeError(f"firn did not start:\n{data.with_suffix('.log').read_text()[-2000:]}")
        self.address = line.split("http://", 1)[1].split()[0].rstrip("/")
        self.connection = Connection(self.address)
        self.client = boto3.client(
            "lambda",
            endpoint_url=f"http://{self.address}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=300),
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def deploy(self, function: Function, package: bytes, snapshot: bool) -> dict:
        """Creates the function; with a snapshot also a version. What became of it: the time, the version's state."""
        start = time.perf_counter()
        self.client.create_function(
            FunctionName=function.name,
            Runtime=function.runtime,
            Role=ROLE,
            Handler=function.handler,
            Code={"ZipFile": package},
            MemorySize=function.memory_mb,
            Timeout=300,
            Environment={"Variables": function.variables},
            SnapStart={"ApplyOn": "PublishedVersions" if snapshot else "None"},
        )
        pace = {"Delay": 0.1, "MaxAttempts": 3000}
        self.client.get_waiter("function_active_v2").wait(FunctionName=function.name, WaiterConfig=pace)
        if not snapshot:
            return {}
        version = self.client.publish_version(FunctionName=function.name)["Version"]
        while True:
            made = self.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
            if made["State"] != "Pending":
                break
            time.sleep(pace["Delay"])
        return {
            "publish_ms": (time.perf_counter() - start) * 1e3,
            "state": made["State"],
            "optimization": made["SnapStart"]["OptimizationStatus"],
            "reason": made.get("StateReason", ""),
        }

    def control(self, method: str, path: str) -> object:
        """One of the server's own pages."""
        status, _, body, _ = self.connection.exchange(method, "/_firn/" + path)
        if status != 200:
            raise RuntimeError(f"/_firn/{path}: {status} {body[:500]!r}")
        return json.loads(body)

    def end_environments(self, function: str, at_least: int = 1) -> None:
        """The next invocation finds none that is warm. One that has just answered is idle a moment later."""
        ended, until = 0, time.monotonic() + 5
        while True:
            ended += self.control("POST", f"functions/{function}/environments/end")["ended"]
            if ended >= at_least:
                return
            if time.monotonic() > until:
                raise TimeoutError(f"{function} has {ended} idle environments, not {at_least}")
            time.sleep(0.002)

    def drop_images(self) -> None:
        """The next restore reads its image from the store."""
        self.control("POST", "snapshots/drop-memory")

    def parked(self, function: str) -> tuple[int, int]:
        """How many environments are parked, and how many invocations have had one."""
        listed = self.control("GET", "snapshots")["snapshots"]
        own = [entry for entry in listed if f":function:{function}:" in entry["function_arn"] + ":"]
        return sum(entry["parked"] for entry in own), sum(entry["parked_hits"] for entry in own)

    def together(self, function: str, event: dict, count: int) -> list[Answer | Exception]:
        """Many invocations at once, each over a connection of its own."""
        answers: list[Answer | Exception] = [RuntimeError("not sent")] * count
        connections = [Connection(self.address) for _ in range(count)]
        go = threading.Event()

        def send(number: int) -> None:
            go.wait()
            try:
                answers[number] = connections[number].invoke(function, event)
            except Exception as err:  # It is counted.
                answers[number] = err
            connections[number].close()

        threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join()
        return answers
