"""The events benchmark: how many asynchronous events firn takes per second, each on disk before its 202.

Called by `scripts/bench`. Once with a function that cannot run meanwhile, so that events only pile up, and once with one
that runs them as they come. Beside it stands what the disk allows: one fsync after the other in the same directory.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import pathlib
import platform
import re
import subprocess
import tempfile
import time
import zipfile

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::000000000000:role/bench"
HEADERS = [
    "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "X-Amz-Date: 20260101T000000Z",
    "X-Amz-Invocation-Type: Event",
]
BODY = json.dumps({"order": "9e07af03-ce31-4ff3-xmpl-36dce652cb4f", "items": list(range(20))})
SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(600)\n"
NOOP = "def handler(event, context):\n    return None\n"


def zipped(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", source)
    return buffer.getvalue()


def fsyncs_per_second(directory: pathlib.Path, seconds: float = 2.0) -> float:
    """How often this disk can be asked to be sure of another 200 bytes."""
    path, count, began = directory / "probe", 0, time.monotonic()
    with path.open("wb", buffering=0) as file:
        while time.monotonic() - began < seconds:
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return count / seconds


def rss_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Server:
    def __init__(self, firn: str, data: pathlib.Path):
        self.process = subprocess.Popen(
            [firn, "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--log", "error"],
            stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                self.address = f"127.0.0.1:{found.group(1)}"
                break
        self.client = boto3.client(
            "lambda", endpoint_url=f"http://{self.address}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test")

    def create(self, name: str, source: str, reserved: int | None) -> None:
        self.client.create_function(
            FunctionName=name, Runtime="python3.12", Handler="app.handler", Role=ROLE, Timeout=900,
            Code={"ZipFile": zipped(source)})
        self.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
        if reserved is not None:
            self.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)

    def load(self, generator: str, name: str, clients: int, seconds: float) -> dict:
        command = [generator, "load", "--addr", self.address, "--path", f"/2015-03-31/functions/{name}/invocations",
                   "--clients", str(clients), "--seconds", str(seconds), "--warmup", "0.5", "--body", BODY]
        for header in HEADERS:
            command += ["--header", header]
        before = rss_mb(self.process.pid)
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        result["rss_mb"] = {"before": before, "after": rss_mb(self.process.pid)}
        return result

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(arguments: argparse.Namespace) -> dict:
    results = {"fsyncs_per_second": 0.0, "waiting": [], "running": []}
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        results["fsyncs_per_second"] = fsyncs_per_second(pathlib.Path(folder))
        for kind, source, reserved in (("waiting", SLEEPER, 1), ("running", NOOP, None)):
            server = Server(arguments.firn, pathlib.Path(folder) / kind)
            try:
                server.create("f", source, reserved)
                for clients in arguments.clients:
                    result = server.load(arguments.generator, "f", clients, arguments.seconds)
                    results[kind].append(result)
                    print(f"{kind}, {clients} clients: {result['per_second']:.0f} events/s", flush=True)
            finally:
                server.stop()
    return results


def table(results: dict, arguments: argparse.Namespace) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        "# Asynchronous events", "",
        f"{datetime.date.today()}, commit {commit.strip()}, {os.cpu_count()} cores shared with the clients, "
        f"Linux {platform.release()}; `scripts/bench events`; {len(BODY)}-byte events.",
        f"The disk alone: {results['fsyncs_per_second']:.0f} fdatasync per second.", "",
        "| | clients | events per second | p50 | p99 | memory before, after |", "|---|---|---|---|---|---|",
    ]
    for kind, name in (("waiting", "taken, function busy"), ("running", "taken and run")):
        for result in results[kind]:
            latency, memory = result["latency"], result["rss_mb"]
            lines.append(
                f"| {name} | {result['clients']} | {result['per_second']:,.0f} | {latency['p50_us'] / 1000:.2f} ms "
                f"| {latency['p99_us'] / 1000:.2f} ms | {memory['before']:.0f}, {memory['after']:.0f} MB |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--firn", required=True)
    parser.add_argument("--generator", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--dir", help="where the data goes; the disk to measure")
    arguments = parser.parse_args()
    results = measure(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(table(results, arguments))
    print(arguments.out.with_suffix(".md"))


if __name__ == "__main__":
    main()
