"""Starts and stops a real `firn serve` for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60


def binary() -> Path:
    """The binary under test: FIRN_BIN, else what cargo built last."""
    if named := os.environ.get("FIRN_BIN"):
        return Path(named).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "debug/firn", target / "release/firn") if p.exists()]
    if not built:
        raise FileNotFoundError("no firn binary: run `cargo build -p firn`, or set FIRN_BIN")
    return max(built, key=lambda path: path.stat().st_mtime)


class Server:
    """One `firn serve` process over one data directory. Restartable over the same data."""

    def __init__(self, data: Path, args: tuple[str, ...] = (), env: dict[str, str] | None = None):
        self.data = Path(data)
        self.args = args
        self.env = env or {}
        self.process: subprocess.Popen[str] | None = None
        self.endpoint = ""
        self.lines: list[str] = []
        self.log_path = self.data.with_name(self.data.name + ".log")

    def start(self) -> "Server":
        command = [
            str(binary()), "serve", "--listen", "127.0.0.1:0", "--data", str(self.data), *self.args,
        ]
        log = self.log_path.open("a")
        self.lines = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "FIRN_LOG": os.environ.get("FIRN_LOG", "info"), **self.env},
            start_new_session=True,
        )
        log.close()
        self.endpoint = f"http://127.0.0.1:{self._ready_port()}"
        threading.Thread(target=self._drain, daemon=True).start()
        return self

    def _ready_port(self) -> int:
        """The port of the one line that `serve` prints when it is ready."""
        assert self.process and self.process.stdout
        guard = threading.Timer(READY_SECONDS, self.process.kill)
        guard.start()
        try:
            for line in self.process.stdout:
                self.lines.append(line)
                if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                    return int(found.group(1))
        finally:
            guard.cancel()
        self.process.wait()
        raise RuntimeError(f"firn did not become ready (exit {self.process.returncode}):\n{self.log()}")

    def _drain(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stdout:
                self.lines.append(line)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-8000:] if self.log_path.exists() else ""

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, as an init system would; returns the exit code."""
        if not self.process:
            return 0
        if self.alive():
            self.process.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"firn did not stop within {timeout} s of SIGTERM:\n{self.log()}") from None
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL to the server process alone: nothing gets to clean up."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def client(self, service: str = "lambda", *, account: str | None = None, region: str = "us-east-1",
               key: str | None = None, secret: str = "test", token: str | None = None, **config):
        """A boto3 client of this server. A 12-digit access key id selects the account."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=key or account or "test",
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(**{
                "retries": {"total_max_attempts": 1},
                "read_timeout": 120,
                "max_pool_connections": 64,
                "parameter_validation": True,
                **config,
            }),
        )

    def admin(self, method: str, path: str):
        """One of the operators' pages, as JSON."""
        request = urllib.request.Request(self.endpoint + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def end_environments(self, name: str) -> int:
        """Ends a function's idle environments, so that its next invoke starts or restores one."""
        return self.admin("POST", f"/_firn/functions/{name}/environments/end")["ended"]

    def wait_until_gone(self, timeout: float = 10) -> None:
        """Waits until nothing listens on the port any more."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the port is still served")
