#!/usr/bin/env python3
"""Measures function URLs: how soon a written byte arrives, and what an open connection costs the server.

Delay: a function writes the time of the monotonic clock, to the microsecond, into each chunk; the client, on the same
machine, reads the same clock when the chunk is there. The first chunk of each answer and the later ones are told apart.

Memory: the growth of the server's own process, by the kernel's count of its anonymous pages, while connections are
opened that have each had one answer; then with streams that stay open, one environment each. Functions' processes are
not part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import boto3
from botocore.config import Config

ROLE = "arn:aws:iam::000000000000:role/bench"

CLOCK = """
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
// The kernel's monotonic clock, which all processes of the machine share.
const micros = () => { const [s, ns] = process.hrtime(); return s * 1e6 + Math.floor(ns / 1e3); };
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
    stream.setContentType("text/plain");
    for (let i = 0; i < 10; i += 1) {
        stream.write(`${micros()}\\n`);
        await sleep(5);
    }
    stream.end();
});
"""

OPEN = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
    stream.setContentType("text/plain");
    stream.write("open\\n");
    await new Promise((done) => setTimeout(done, 600000));
});
"""

SHORT = "def handler(event, context):\n    return 'ok'\n"


class Server:
    def __init__(self, binary: pathlib.Path, data: pathlib.Path):
        log = (data.parent / "firn.log").open("w")
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", "127.0.0.1:0", "--data", data], stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, "FIRN_LOG": "warn"})
        for line in self.process.stdout:
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                break
        else:
            raise RuntimeError(f"firn did not become ready: {log.name}")
        self.functions = boto3.client(
            "lambda", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1", aws_access_key_id="test",
            aws_secret_access_key="test", config=Config(retries={"max_attempts": 0}))

    def url(self, name: str, source: str, runtime: str, mode: str) -> str:
        """Deploys a function; returns the host of its URL."""
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("app.py" if runtime.startswith("python") else "app.js", source)
        self.functions.create_function(FunctionName=name, Runtime=runtime, Handler="app.handler", Role=ROLE, Timeout=900,
                                       Code={"ZipFile": package.getvalue()}, MemorySize=128)
        self.functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
        url = self.functions.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=mode)["FunctionUrl"]
        self.functions.add_permission(FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl",
                                      Principal="*", FunctionUrlAuthType="NONE")
        return url.split("/")[2]

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def anonymous_kb(self) -> int:
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Anonymous:\s+(\d+)", text, re.M).group(1))

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)


def request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def micros() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def delays(server: Server, host: str, answers: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the function's write to the client's read: of first chunks, and of others."""
    connection = server.connect()
    first, later = [], []
    for _ in range(answers):
        connection.sendall(request(host))
        data, seen, body = b"", 0, None
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
            arrived = micros()
            if body is None and b"\r\n\r\n" in data:
                body = data.index(b"\r\n\r\n") + 4
            written = re.findall(rb"\b(\d{9,})\n", data[body:] if body else b"")
            for moment in written[seen:]:
                (first if seen == 0 else later).append((arrived - int(moment)) / 1e3)
                seen += 1
        assert data.startswith(b"HTTP/1.1 200 "), data[:200]
    connection.close()
    return first[5:], later[50:]


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = lambda share: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)
    return {"count": len(ordered), "median_ms": round(statistics.median(ordered), 3), "p99_ms": at(0.99), "max_ms": round(ordered[-1], 3)}


def settled(server: Server) -> int:
    """The size once it no longer changes."""
    last = -1
    while (now := server.anonymous_kb()) != last:
        last = now
        time.sleep(1)
    return now


def cost_of(server: Server, count: int, host: str, until: bytes) -> dict[str, float]:
    """Opens connections that each send one request and read until `until`; they stay open."""
    warm = server.connect()
    warm.sendall(request(host))
    while until not in warm.recv(65536):
        pass
    before = settled(server)
    connections = []
    began = time.perf_counter()
    for _ in range(count):
        connection = server.connect()
        connection.sendall(request(host))
        data = b""
        while until not in data:
            piece = connection.recv(65536)
            assert piece, f"closed after {data[:300]!r} ({len(connections)} were open)"
            data += piece
        connections.append(connection)
    took = time.perf_counter() - began
    grown = settled(server) - before
    alive = sum(1 for connection in connections if is_open(connection))
    for connection in [warm, *connections]:
        connection.close()
    return {"connections": alive, "opened_per_s": round(count / took), "grown_kb": grown, "kb_each": round(grown / count, 2)}


def is_open(connection: socket.socket) -> bool:
    """The server has not closed it."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return connection.recv(1, socket.MSG_PEEK) != b""
    return True


def machine() -> dict:
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"cpu": cpu.group(1) if cpu else platform.processor(), "cores": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg()[0]}


def render(results: dict) -> str:
    lines = [
        "# Streaming by function URL", "",
        f"{results['machine']['cpu']}, {results['machine']['cores']} cores, Linux {results['machine']['kernel']}, load "
        f"{results['machine']['load']:.1f}; {results['date']}; commit {results['commit']}; `{results['command']}`", "",
        "## From the function's write to the client's read", "",
        "| chunk | count | median | p99 | max |", "|---|---:|---:|---:|---:|",
    ]
    for name, figures in results["delay"].items():
        lines.append(f"| {name} | {figures['count']} | {figures['median_ms']} ms | {figures['p99_ms']} ms | {figures['max_ms']} ms |")
    lines += ["", "Goal: the first byte within 2 ms.", "", "## Memory of the server per open connection", "",
              "| connections | open | growth | each |", "|---|---:|---:|---:|"]
    for name, figures in results["memory"].items():
        lines.append(f"| {name} | {figures['connections']} | {figures['grown_kb']} KB | {figures['kb_each']} KB |")
    lines += ["", "Goal: 10,000 open, at most 30 KB each. A stream also takes an execution environment, whose processes and "
              "bookkeeping are in the second line as far as they are in the server's own process.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--firn", type=pathlib.Path, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=100)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, arguments.connections + 2000), hard))
    root = pathlib.Path(__file__).resolve().parents[2]
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="firn-bench-") as scratch:
        server = Server(arguments.firn, pathlib.Path(scratch) / "data")
        try:
            clock = server.url("clock", CLOCK, "nodejs20.x", "RESPONSE_STREAM")
            short = server.url("short", SHORT, "python3.12", "BUFFERED")
            hold = server.url("hold", OPEN, "nodejs20.x", "RESPONSE_STREAM")
            first, later = delays(server, clock, arguments.answers)
            memory = {
                "idle, after one answer": cost_of(server, arguments.connections, short, b"ok"),
                "with an open stream": cost_of(server, arguments.streams, hold, b"open\n"),
            }
        finally:
            server.stop()
    results = {
        "command": " ".join(["scripts/bench streaming", *sys.argv[5:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit, "machine": machine(),
        "delay": {"first of an answer": spread(first), "later ones": spread(later)}, "memory": memory,
    }
    out = pathlib.Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    main()
