"""The servers under test: started on a free loopback port, probed, ended by their process id."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config

HERE = pathlib.Path(__file__).resolve().parent
READY_SECONDS = 120
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def headers(operation: str) -> list[str]:
    """All servers take any signature; its scope names service and region."""
    return [
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/states/aws4_request, "
        "SignedHeaders=host, Signature=0",
        "X-Amz-Date: 20260101T000000Z",
        "Content-Type: application/x-amz-json-1.0",
        f"X-Amz-Target: AWSStepFunctions.{operation}",
    ]


class Process:
    """A child process and what it has used."""

    def __init__(self, command: list[str], environment: dict[str, str], log: pathlib.Path, folder: pathlib.Path):
        self.log = log
        with log.open("ab") as file:
            self.child = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    @property
    def pid(self) -> int:
        return self.child.pid

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self, what: str = "VmRSS") -> float:
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", status).group(1)) / 1024

    def check(self) -> None:
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.log.stem} ended with {self.child.returncode}: {tail}")

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


class StepFunctions:
    """A server that speaks the AWS API."""

    def __init__(self, name: str, process: Process, address: str):
        self.name, self.process, self.address = name, process, address
        self.client = self.boto("stepfunctions")

    def boto(self, service: str):
        return boto3.client(
            service, endpoint_url=f"http://{self.address}", region_name="us-east-1", aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=300, inject_host_prefix=False))

    def create(self, name: str, definition: str, kind: str = "STANDARD") -> str:
        made = self.client.create_state_machine(
            name=name, definition=definition, type=kind, roleArn="arn:aws:iam::000000000000:role/bench")
        return made["stateMachineArn"]

    def connection(self) -> Connection:
        return Connection(self.address)

    def stop(self) -> None:
        self.process.stop()


class Connection:
    """Calls without an SDK, whose own milliseconds would count as the server's."""

    def __init__(self, address: str):
        host, port = address.split(":")
        self.http = http.client.HTTPConnection(host, int(port), timeout=300)

    def call(self, operation: str, **parameters) -> dict:
        self.http.request("POST", "/", json.dumps(parameters), dict(line.split(": ", 1) for line in headers(operation)))
        answer = self.http.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{operation}: {answer.status} {body[:500]!r}")
        return json.loads(body)


def wait_for(process: Process, url: str) -> None:
    """Until it answers; one that does not is ended."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        process.check()
        with contextlib.suppress(OSError, urllib.error.URLError, http.client.HTTPException):
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
                return
        time.sleep(0.01)
    process.kill()
    raise RuntimeError(f"{process.log.stem} was not ready in {READY_SECONDS} s")


def home(folder: pathlib.Path) -> dict[str, str]:
    """An environment in which a program keeps its files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}


def firn(binary: str, folder: pathlib.Path) -> StepFunctions:
    """Ready when it says so; `folder` may hold the data of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "firn.log"
    said = len(log.read_bytes()) if log.exists() else 0
    command = [str(pathlib.Path(binary).resolve()), "serve", "--listen", "127.0.0.1:0", "--data", str(folder / "data"),
               "--auth", "any", "--log", "error"]
    process = Process(command, dict(os.environ), log, folder)
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        process.check()
        if found := re.search(rb"ready on http://(127\.0\.0\.1:\d+)", log.read_bytes()[said:]):
            return StepFunctions("firn", process, found.group(1).decode())
        time.sleep(0.002)
    process.kill()
    raise RuntimeError("firn was not ready")


def ministack(python: str, folder: pathlib.Path) -> StepFunctions:
    port = free_port()
    environment = home(folder) | {"GATEWAY_PORT": str(port), "LAMBDA_EXECUTOR": "local", "LOG_LEVEL": "ERROR"}
    command = [str(pathlib.Path(python).absolute().parent / "ministack")]
    process = Process(command, environment, folder / "ministack.log", folder)
    wait_for(process, f"http://127.0.0.1:{port}/_ministack/health")
    return StepFunctions("MiniStack", process, f"127.0.0.1:{port}")


def localstack(python: str, folder: pathlib.Path) -> StepFunctions:
    """Host mode: its interpreter is Python, so only Lambda functions would need Docker."""
    port = free_port()
    environment = home(folder) | {
        "FILESYSTEM_ROOT": str(folder), "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        # Every execution sends its changes of status to EventBridge.
        "SERVICES": "stepfunctions,events,s3,sts,iam", "EAGER_SERVICE_LOADING": "1", "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1", "DNS_ADDRESS": "0", "LS_LOG": "error",
    }
    command = [str(pathlib.Path(python).absolute()), "-m", "localstack.runtime.main"]
    process = Process(command, environment, folder / "localstack.log", folder)
    wait_for(process, f"http://127.0.0.1:{port}/_localstack/health")
    return StepFunctions("LocalStack", process, f"127.0.0.1:{port}")


class Restate:
    """Restate's server with the service that it calls."""

    def __init__(self, modules: pathlib.Path, folder: pathlib.Path):
        fabric, ingress, admin, service = (free_port() for _ in range(4))
        environment = home(folder) | {
            "NODE_ENV": "production", "RESTATE_LOGGING": "ERROR", "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_BIND_IP": "127.0.0.1", "RESTATE_BIND_PORT": str(fabric),
            "RESTATE_INGRESS__BIND_PORT": str(ingress), "RESTATE_ADMIN__BIND_PORT": str(admin),
        }
        # Node looks for packages beside the program.
        program = modules.absolute().parent / "service.mjs"
        program.write_text((HERE / "restate/service.mjs").read_text())
        self.service = Process(["node", str(program), str(service)], environment, folder / "service.log", folder)
        machine = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
        binary = modules / f"@restatedev/restate-server-linux-{machine}/bin/restate-server"
        command = [str(binary.absolute()), "--no-logo", "--listen-mode", "tcp", "--base-dir", str(folder / "data"),
                   "--log-filter", "error"]
        self.process = Process(command, environment, folder / "restate.log", folder)
        self.address = f"127.0.0.1:{ingress}"
        try:
            wait_for(self.process, f"http://127.0.0.1:{admin}/health")
            wait_for(self.process, f"http://{self.address}/restate/health")
            self.register(f"http://127.0.0.1:{admin}/deployments", f"http://127.0.0.1:{service}")
        except BaseException:
            self.stop()
            raise

    def register(self, admin: str, service: str) -> None:
        body = json.dumps({"uri": service}).encode()
        until = time.monotonic() + READY_SECONDS
        while True:
            self.process.check()
            self.service.check()
            try:
                request = urllib.request.Request(admin, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30):
                    return
            except OSError:
                # The service or the cluster is not up yet.
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.stop()
        self.service.stop()
