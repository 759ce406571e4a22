"""Replays cases recorded on AWS against a server and compares the answers, word for word.

A case has `calls` and the `expected` answers by name, but not which call gave which answer. An answer must fit its
place in the order of the calls, and all answers of a case must fit under one reading of its placeholders: the same
placeholder is the same value, different ones of a kind are different values. Nothing is left out of the comparison.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import re
import time
import zipfile
from dataclasses import dataclass, field
from typing import Any, Iterator

from botocore.exceptions import ClientError, ParamValidationError
from botocore.parsers import ResponseParserError
from botocore.response import StreamingBody
from functions import zipped

RECORDED_ACCOUNT = "111111111111"
TRACED_ACCOUNT = "000000000000"
REGION = "us-east-1"
PLACEHOLDER = re.compile(r"<([A-Za-z_-][\w-]*)(?::(\d+))?>")
FIXED = {"region": REGION, "partition": "aws"}
# How the tests masked values whose mask is not the member's name.
MASKS = {"FunctionUrl": "lambda-url"}
# Cases that need updates to take a while, as they do on AWS, and how such a server is started.
SLOW = ("lambda_/test_lambda_api.py::TestLambdaFunction::test_lambda_concurrent_code_updates",)
SLOWLY = {"FIRN_LAMBDA_SETTLE_DELAY_MS": "1000"}
WAITED_FOR = ("GetFunction", "GetFunctionConfiguration")


# Placeholders


@dataclass
class Bindings:
    """What the numbered placeholders of a case stand for. One-to-one within a kind."""

    values: dict[tuple[str, str], str] = field(default_factory=dict)

    def copy(self) -> "Bindings":
        return Bindings(dict(self.values))

    def bind(self, kind: str, number: str, value: str) -> bool:
        known = self.values.get((kind, number))
        if known is not None:
            return known == value
        if any(k == kind and v == value for (k, _), v in self.values.items()):
            return False
        self.values[kind, number] = value
        return True


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def match_text(expected: str, actual: str, bindings: Bindings) -> bool:
    pattern, groups, at = "", [], 0
    for found in PLACEHOLDER.finditer(expected):
        pattern += re.escape(expected[at:found.start()])
        kind, number = found.groups()
        if kind in FIXED and number is None:
            pattern += re.escape(FIXED[kind])
        else:
            pattern += "(.+?)"
            groups.append((kind, number))
        at = found.end()
    pattern += re.escape(expected[at:])
    hit = re.fullmatch(pattern, actual, re.DOTALL)
    if not hit:
        return False
    return all(number is None or bindings.bind(kind, number, value)
               for (kind, number), value in zip(groups, hit.groups()))


def is_time(value: Any) -> bool:
    return isinstance(value, datetime.datetime) or isinstance(value, (int, float)) or (
        isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value) is not None)


def differences(expected: Any, actual: Any, bindings: Bindings, path: str = "$", key: str = "") -> Iterator[str]:
    if isinstance(expected, (dict, list)) and isinstance(actual, str):
        # JSON inside strings, such as policies, is recorded parsed.
        try:
            actual = json.loads(actual)
        except ValueError:
            pass
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in sorted(expected.keys() | actual.keys()):
            where = f"{path}.{name}"
            if name not in actual:
                yield f"{where}: missing, AWS has {expected[name]!r}"
            elif name not in expected:
                yield f"{where}: AWS has no such member, got {actual[name]!r}"
            else:
                yield from differences(expected[name], actual[name], bindings, where, name)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{path}: {len(actual)} elements, AWS has {len(expected)}"
        for n, (one, other) in enumerate(zip(expected, actual)):
            yield from differences(one, other, bindings, f"{path}[{n}]", key)
    elif isinstance(expected, str) and expected in ("date", "timestamp", "datetime") and is_time(actual):
        return
    elif isinstance(expected, str) and expected == MASKS.get(key, kebab(key)) and isinstance(actual, (str, int)):
        return
    elif isinstance(expected, str) and isinstance(actual, (str, int, float)) and not isinstance(actual, bool):
        expanded = re.sub(r"<(\w):len\((\d+)\)>", lambda m: m.group(1) * int(m.group(2)), expected)
        if (isinstance(actual, str) or PLACEHOLDER.search(expanded)) and match_text(expanded, str(actual), bindings):
            return
        yield f"{path}: {actual!r}, AWS has {expected!r}"
    elif expected != actual or type(expected) is not type(actual):
        yield f"{path}: {actual!r}, AWS has {expected!r}"


# Replaying


@dataclass
class Answer:
    operation: str
    content: dict
    key: str | None = None
    refusal: str | None = None
    # By how much the account's code has grown since it was last asked for.
    growth: int | None = None

    def forms(self) -> Iterator[Any]:
        """The shapes in which the recording tests kept an answer."""
        if self.refusal:
            yield self.refusal
        yield self.content
        if self.operation == "CreateFunction":
            yield {"CreateEventSourceMappingResponse": None, "CreateFunctionResponse": self.content}
        if "Error" in self.content:
            yield self.content["Error"]
            if counted := validation_errors(self.content["Error"]):
                yield counted
        if self.operation == "ListCodeSigningConfigs":
            # The account had others, so the test kept the one it had made.
            yield from self.content.get("CodeSigningConfigs", [])
        if self.growth is not None:
            yield self.growth
        if self.operation == "GetAccountSettings":
            yield {k: sorted(v) if k.startswith("Account") else v for k, v in self.content.items()}
        if "ResponseMetadata" in self.content:
            yield {k: v for k, v in self.content.items() if k != "ResponseMetadata"}


def validation_errors(error: dict) -> dict | None:
    """An error that lists validation errors, in the form in which the tests made their order irrelevant."""
    found = re.match(r"(\d+) validation errors? detected: (.*)", error.get("Message") or "", re.DOTALL)
    if not found:
        return None
    return {"Code": error["Code"], "Count": int(found.group(1)), "Errors": sorted(found.group(2).split("; "))}


class Replay:
    """Makes the calls of one case in an account of its own."""

    def __init__(self, server, account: str, distinct_packages: bool):
        self.server = server
        self.account = account
        self.distinct = distinct_packages
        self.packages = 0
        self.code_size = 0
        self.answers: list[Answer] = []
        self.clients: dict[tuple[str, bool], Any] = {}

    def client(self, service: str, validating: bool):
        key = (service, validating)
        if key not in self.clients:
            self.clients[key] = self.server.client(service, account=self.account, region=REGION,
                                                   parameter_validation=validating)
        return self.clients[key]

    def run(self, calls: list) -> list[Answer]:
        for at, call in enumerate(calls):
            service, operation, parameters, *key = call
            token = next((t for t in ("Marker", "nextToken", "NextToken") if t in parameters), None)
            if token and not key:
                # The recorded token is another server's; follow ours until it ends.
                continue
            answer = self.call(service, operation, parameters, key[0] if key else None)
            following = calls[at + 1:at + 2]
            if following and following[0][1] == operation and \
                    {"Marker", "nextToken", "NextToken"} & following[0][2].keys():
                self.follow(service, operation, parameters, answer)
        return self.answers

    def follow(self, service: str, operation: str, parameters: dict, first: Answer) -> None:
        """Adds the merged pages as one more answer, as a paginator's full result."""
        merged = {k: list(v) for k, v in first.content.items() if isinstance(v, list)}
        last = first.content
        for _ in range(1000):
            name, token = next(((n, last[n]) for n in ("NextMarker", "nextToken", "NextToken") if n in last),
                               (None, None))
            if token is None:
                break
            asked = {"NextMarker": "Marker"}.get(name, name)
            last = self.call(service, operation, {**parameters, asked: token}, None).content
            for k, v in last.items():
                if isinstance(v, list):
                    merged[k] += v
        self.answers.append(Answer(operation, merged))

    def call(self, service: str, operation: str, parameters: dict, key: str | None) -> Answer:
        sent = self.bound(parameters)
        for attempt in range(400):
            answer = self.answer(service, operation, sent, key)
            if attempt > 1:
                self.answers.pop()
            self.answers.append(answer)
            if operation not in WAITED_FOR or not unsettled(answer.content):
                break
            # The test waited here. The first, unsettled answer stays in the list as well.
            time.sleep(0.02)
        return answer

    def answer(self, service: str, operation: str, sent: dict, key: str | None) -> Answer:
        """The answer, with what the client itself said if it would not have sent this."""
        method = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()
        refusal = None
        try:
            try:
                content = getattr(self.client(service, True), method)(**sent)
            except ParamValidationError as error:
                refusal = str(error)
                content = getattr(self.client(service, False), method)(**sent)
        except ClientError as error:
            content = error.response
        except ResponseParserError as error:
            # A service that is not served need not answer in its own protocol.
            content = {"unreadable": str(error)}
        if operation == "DeleteFunction":
            # Newer clients add the status as a member; AWS sends no body.
            content.pop("StatusCode", None)
        growth = None
        if operation == "GetAccountSettings":
            total = content["AccountUsage"]["TotalCodeSize"]
            growth, self.code_size = total - self.code_size, total
        return Answer(operation, self.normal(content), key, refusal, growth)

    def bound(self, value: Any) -> Any:
        if isinstance(value, dict):
            if "$package" in value:
                return zipped(value["$package"])
            if "$hex" in value:
                return bytes.fromhex(value["$hex"])
            return {k: self.bound(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.bound(v) for v in value]
        if isinstance(value, str):
            if found := re.fullmatch(r"<(\d+) bytes>", value):
                return self.body(int(found.group(1)))
            if found := re.fullmatch(r"\$\{now([+-]\d+)\}", value):
                return int(time.time() * 1000) + int(found.group(1))
            if found := re.fullmatch(r"\$\{([\w-]+)\.([\w.-]+)\}", value):
                return self.earlier(*found.groups())
            return value.replace(TRACED_ACCOUNT, self.account)
        return value

    def earlier(self, key: str, path: str) -> Any:
        """A value of an earlier answer, for steps written by hand."""
        content = next(a.content for a in reversed(self.answers) if a.key == key)
        for part in path.split("."):
            content = content[part]
        return content.replace(RECORDED_ACCOUNT, self.account) if isinstance(content, str) else content

    def body(self, size: int) -> bytes:
        """A package as large as the recorded one; other small bodies are JSON."""
        if size < 100:
            return b"{}"
        if size > 52_428_800:
            return b"PK" + bytes(size - 2)
        self.packages += 1
        name = str(self.packages if self.distinct else size)
        return package(name, size)

    def normal(self, value: Any) -> Any:
        if isinstance(value, StreamingBody):
            text = value.read().decode().replace(self.account, RECORDED_ACCOUNT)
            try:
                parsed = json.loads(text)
            except ValueError:
                return text
            return parsed if isinstance(parsed, (dict, list)) else text
        if isinstance(value, dict):
            if "HTTPStatusCode" in value:
                return {"HTTPHeaders": {}, "HTTPStatusCode": value["HTTPStatusCode"]}
            return {k: self.normal(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.normal(v) for v in value]
        if isinstance(value, str):
            return value.replace(self.account, RECORDED_ACCOUNT)
        return value


def unsettled(content: dict) -> bool:
    configuration = content.get("Configuration", content)
    return configuration.get("State") == "Pending" or configuration.get("LastUpdateStatus") == "InProgress"


def package(name: str, size: int) -> bytes:
    """A zip of exactly `size` bytes whose content depends on `name`, with a handler under the usual names."""
    mark = f"# {hashlib.sha256(name.encode()).hexdigest()[:8]}\n"
    # The packages of layers are too small for a handler.
    source = f"def handler(event, context):\n    return event\n{mark}" if size > 200 else mark

    def build(padding: int) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.comment = b"x" * padding
            archive.writestr(zipfile.ZipInfo("handler.py", (2024, 1, 1, 0, 0, 0)), source)
        return buffer.getvalue()

    bare = len(build(0))
    return build(max(0, size - bare))


# Comparing


def fit(expected: dict, answers: list[Answer]) -> list[str]:
    """The differences that remain under the best reading; empty when the case passes."""
    keys = list(expected)
    if not all(fits_alone(key, expected[key], answers) for key in keys):
        return explain(expected, answers)

    def search(k: int, start: int, bindings: Bindings) -> bool:
        if k == len(keys):
            return True
        seen = []
        for at in candidates(keys[k], answers, start):
            for form in answers[at].forms():
                if form in seen:
                    # The earlier of two equal answers leaves at least as much for those that follow.
                    continue
                seen.append(form)
                tried = bindings.copy()
                if next(differences(expected[keys[k]], form, tried), None) is None and search(k + 1, at, tried):
                    return True
        return False

    if search(0, 0, Bindings()):
        return []
    return explain(expected, answers)


def fits_alone(key: str, content: Any, answers: list[Answer]) -> bool:
    """Whether any answer could be the one, whatever the others are."""
    return any(next(differences(content, form, Bindings()), None) is None
               for at in candidates(key, answers, 0) for form in answers[at].forms())


def candidates(key: str, answers: list[Answer], start: int) -> Iterator[int]:
    named = [n for n, answer in enumerate(answers) if answer.key == key]
    if named:
        yield named[-1]
        return
    yield from (n for n in range(start, len(answers)) if answers[n].key is None)


def explain(expected: dict, answers: list[Answer]) -> list[str]:
    """For each expected answer, how the nearest one differs."""
    told: list[str] = []
    bindings = Bindings()
    start = 0
    for key, content in expected.items():
        best: tuple[int, list[str], int, Bindings] | None = None
        for at in candidates(key, answers, start):
            for form in answers[at].forms():
                tried = bindings.copy()
                found = list(differences(content, form, tried))
                if best is None or len(found) < best[0]:
                    best = (len(found), found, at, tried)
        if best is None:
            told.append(f"{key}: no call left that could have given it")
            continue
        if best[0] == 0:
            bindings, start = best[3], best[2]
        told += [f"{key} (nearest: {answers[best[2]].operation}) {line}" for line in best[1][:6]]
    return told or ["each answer fits alone, but not all under one reading of the placeholders"]


def replay(server, accounts: Iterator[str], case: dict, steps: list | None) -> list[str]:
    """Runs a case; the recorded sizes do not say whether packages were equal, so both readings are tried."""
    calls = steps or case["calls"]
    best: list[str] | None = None
    for distinct in (False, True):
        answers = Replay(server, next(accounts), distinct).run(calls)
        told = fit(case["expected"], answers)
        if not told:
            return []
        if best is None or len(told) < len(best):
            best = told
    return best or []
