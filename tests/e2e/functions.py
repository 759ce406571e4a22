"""Building packages, deploying them and reading what an invoke answered."""

from __future__ import annotations

import base64
import io
import json
import re
import stat
import textwrap
import zipfile
from dataclasses import dataclass, field
from typing import Any

ROLE = "arn:aws:iam::000000000000:role/test"

REPORT = re.compile(
    r"^REPORT RequestId: (?P<id>[0-9a-f-]{36})"
    r"\tDuration: (?P<duration>\d+\.\d{2}) ms"
    r"\tBilled Duration: (?P<billed>\d+) ms"
    r"\tMemory Size: (?P<memory>\d+) MB"
    r"\tMax Memory Used: (?P<max_memory>\d+) MB"
    r"(\tInit Duration: (?P<init>\d+\.\d{2}) ms)?"
    r"(\tRestore Duration: (?P<restore>\d+\.\d{2}) ms\tBilled Restore Duration: (?P<billed_restore>\d+) ms)?"
    r"(\tStatus: (?P<status>\w+))?(\tError Type: (?P<error>[\w.]+))?\t?\n?$",
)
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def zipped(files: dict[str, str | bytes], executable: tuple[str, ...] = ("bootstrap",)) -> bytes:
    """A zip with fixed times, so that equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if name in executable else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            text = textwrap.dedent(content).lstrip("\n") if isinstance(content, str) else content
            archive.writestr(entry, text)
    return buffer.getvalue()


def python(source: str, **more: str | bytes) -> bytes:
    """A package with one Python module, `app`."""
    return zipped({"app.py": source, **more})


def node(source: str, name: str = "app.js", **more: str | bytes) -> bytes:
    return zipped({name: source, **more})


NOOP = python("""
    def handler(event, context):
        return event
""")


def create(client, name: str, package: bytes = NOOP, *, runtime: str = "python3.12",
           handler: str = "app.handler", wait: bool = True, **config) -> dict:
    answer = client.create_function(
        FunctionName=name, Runtime=runtime, Handler=handler, Role=config.pop("Role", ROLE),
        Code={"ZipFile": package}, **config,
    )
    if wait:
        settle(client, name)
    return answer


def settle(client, name: str) -> None:
    """Waits as a client should: for the state, then for the last update."""
    pace = {"Delay": 0.05, "MaxAttempts": 400}
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=pace)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=pace)


@dataclass
class Answer:
    status: int
    body: bytes
    error: str | None
    version: str | None
    tail: str
    request_id: str
    headers: dict[str, str] = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def report(self) -> dict[str, str | None]:
        """The fields of the REPORT line in the tail."""
        for line in self.tail.split("\n"):
            if found := REPORT.match(line):
                return found.groupdict()
        raise AssertionError(f"no REPORT line in {self.tail!r}")


def invoke(client, name: str, payload: Any = None, *, raw: bytes | None = None, **parameters) -> Answer:
    body = raw if raw is not None else json.dumps(payload if payload is not None else {}).encode()
    answer = client.invoke(FunctionName=name, Payload=body, **parameters)
    tail = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    return Answer(
        status=answer["StatusCode"],
        body=answer["Payload"].read(),
        error=answer.get("FunctionError"),
        version=answer.get("ExecutedVersion"),
        tail=tail,
        request_id=answer["ResponseMetadata"].get("RequestId", ""),
        headers=answer["ResponseMetadata"]["HTTPHeaders"],
    )
