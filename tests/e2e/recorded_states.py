"""Replays cases of Step Functions recorded on AWS against a server and compares the answers, word for word.

The rules are those of `recorded`: an answer must fit its place in the order of the calls, and all answers of a case must
fit under one reading of its placeholders. What is particular here:

- The traces hold what a test called, but neither the polling until an execution ended nor the reading of its history. Both
  are done where the trace goes on without them: before it reads about executions, and before it cleans up.
- A recorded history that no traced execution gives (the trace stopped early) is asked for with the input it shows.
- Branches that run at once interleave differently from run to run. Where a history has such branches and is not equal event
  by event, it is compared branch by branch: every event, its details, and the event it follows from.
- Paths in `skip_paths` (where the emulator that was traced differs from AWS) are compared too, and reported apart.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from botocore.exceptions import ClientError, ParamValidationError
from botocore.parsers import ResponseParserError
from botocore.response import StreamingBody
from functions import zipped
from recorded import RECORDED_ACCOUNT, REGION, Replay, kebab

GOLDEN = Path(__file__).resolve().parents[1] / "golden/aws/stepfunctions"
TRACED_ACCOUNT = "123456789012"
# What firn serves, and what a case can do without: roles are only named.
SERVED = {"stepfunctions", "states", "sfn", "lambda", "logs", "s3"}
UNSEEN = {"iam", "sts"}
PATIENCE_SECONDS = 30

TIMES = {"date", "datetime", "timestamp", "start-time", "entered-time", "start-date", "stop-date",
         "<date>", "<start-date>", "<stop-date>"}
# Words that stand for a name or an ARN, in whatever text they are.
WORDS = (r"s[nf]{2}_role_arn(?:_t\d)?|state_machine_role_arn|state_machine_name|state_machine_alias_(?:base_)?name|"
         r"activity_(?:arn|name)(?:_\d)?|map_run_arn|invalid_execution_arn|lambda_function_name|"
         r"sqs[-_]queue[-_]url|bucket-name|result-bucket|table-name|file[-_]key|topic-arn|log_group_name|function_name_branch\d")
PLACEHOLDER = re.compile(rf"<([A-Za-z_-][\w-]*(?::\d+)?)>|(?<![\w/])({WORDS})(?![\w/])|(?<=\":\")(date)(?=\")")
FIXED = {"region": REGION, "partition": "aws"}
FORMS = {"uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "date": r"\d{4}-\d\d-\d\dT[\d:.]+Z",
         "map_run_arn": r"arn:aws:states:[\w:-]+:mapRun:[^:]+:[\w-]+"}
# These say what something is, not that it is the same each time.
ANY_OF = {"date", "map_run_arn"}
# Members whose values the tests masked with a word, without saying which values were equal.
MASKED = {"X-Amzn-Trace-Id", "x-amzn-RequestId", "RequestId"}

# The packages of functions are recorded by their size alone. The sizes are those of the sources below, whose effects the
# recorded answers show: word for word in the traces of raised exceptions, in outputs otherwise.
ECHO = "def handler(event, context):\n    return event\n"
RAISE = 'def handler(event, context):\n    raise Exception("Some exception was raised.")\n'
HELLO = 'def handler(event, context):\n    return "HelloWorld!"\n'
RETURN = 'def handler(event, context):\n    return {"Return": "HelloWorld"}\n'
CUSTOM = ('class CustomException(Exception):\n    message: str\n\n    def __init__(self):\n'
          '        self.message = "CustomException message"\n\n\n'
          'def handler(event, context):\n    raise CustomException()\n')
LARGE = 'def handler(event, context):\n    return "\\u00e9" * 150_000\n'
SLEEP = "import time\n\n\ndef handler(event, context):\n    time.sleep(60)\n"
FUNCTIONS = {"<164 bytes>": ECHO, "<199 bytes>": ECHO, "<175 bytes>": HELLO, "<179 bytes>": RETURN, "<197 bytes>": RAISE,
             "<302 bytes>": CUSTOM, "<361 bytes>": LARGE}
# What was put into buckets; the recorded outputs show it.
BODIES = {"<0 bytes>": b"", "<11 bytes>": b"binary data", "<15 bytes>": b"byte array data"}
# Cases whose answers show another function of the same size.
OTHER_FUNCTIONS = {
    "test_fixed_timeout_service_lambda_with_path": SLEEP,
    "test_start_execution_sync_delegate_timeout": SLEEP,
}


def load(directory: Path = GOLDEN / "cases") -> dict[str, dict[str, dict]]:
    """The recorded cases, by file."""
    found: dict[str, dict[str, dict]] = {}
    for file in sorted(directory.glob("*.jsonl")):
        found[file.stem] = {case["id"]: case for case in map(json.loads, file.read_text().splitlines())}
    return found


def steps() -> dict[str, list]:
    """For traces that stop early: all calls of the case, written by hand after what the answers show."""
    return json.loads((GOLDEN / "steps.json").read_text())


def needs(case: dict, calls: list) -> set[str]:
    """Services that the case uses and firn does not serve."""
    found = {call[0] for call in calls} - UNSEEN - {"$"}
    runs = False
    if calls is not case["calls"]:
        # Written by hand, with nothing left out.
        return found - SERVED
    for service, operation, parameters, *_ in calls:
        runs |= operation in ("StartExecution", "StartSyncExecution") and "#" not in parameters.get("stateMachineArn", "")
        runs |= operation == "TestState" and "mock" not in parameters
    if runs:
        for call in calls:
            found |= services(call[2].get("definition", "")) if "mock" not in call[2] else set()
    if not calls:
        found |= set(re.findall(r'"resourceType": "(?:aws-sdk:)?([\w-]+)"', json.dumps(case["expected"])))
    return found - SERVED


def services(definition: str) -> set[str]:
    """What the tasks of a definition call."""
    return {action or service for service, action in
            re.findall(r"arn:aws:states:::(?:(?!aws-sdk)([\w-]+)|aws-sdk:([\w-]+))", definition)}


# Comparing


@dataclass
class Bindings:
    """What the placeholders of a case stand for."""

    values: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "Bindings":
        return Bindings(dict(self.values))

    def bind(self, name: str, value: str) -> bool:
        if name in self.values:
            return self.values[name] == value
        kind, numbered, _ = name.partition(":")
        if numbered and any(k.startswith(kind + ":") and v == value for k, v in self.values.items()):
            return False
        self.values[name] = value
        return True


def match_text(expected: str, actual: str, bindings: Bindings, ids: dict[int, int] | None) -> bool:
    if ids:
        expected = re.sub(r"(?<=event id #)\d+", lambda m: str(ids.get(int(m.group()), m.group())), expected)
    if expected == actual:
        return True
    pattern, groups, at = "", {}, 0
    for found in PLACEHOLDER.finditer(expected):
        pattern += re.escape(expected[at:found.start()])
        at = found.end()
        name = found.group(1) or found.group(2) or found.group(3)
        if name in FIXED:
            pattern += re.escape(FIXED[name])
        elif name in ANY_OF:
            pattern += FORMS[name]
        elif name in bindings.values:
            pattern += re.escape(bindings.values[name])
        elif name in groups:
            pattern += f"(?P={groups[name]})"
        else:
            groups[name] = f"g{len(groups)}"
            pattern += f"(?P<{groups[name]}>{FORMS.get(name.partition(':')[0], '.+?')})"
    if not at:
        return False
    hit = re.fullmatch(pattern + re.escape(expected[at:]), actual, re.DOTALL)
    return bool(hit) and all(bindings.bind(name, hit.group(group)) for name, group in groups.items())


def is_time(value: Any) -> bool:
    text = value if isinstance(value, str) else ""
    return hasattr(value, "isoformat") or isinstance(value, (int, float)) and not isinstance(value, bool) or bool(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text) or re.fullmatch(r"\d{13}", text)
        or re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", text))


@dataclass
class Skips:
    """Paths whose differences are told but do not count."""

    pattern: re.Pattern | None = None
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, paths: list[str]) -> "Skips":
        def regex(path: str) -> str:
            parts = re.findall(r"\.\.|\.?[^.\[\]]+|\[\d+\]", path.removeprefix("$"))
            out, deep = "", False
            for part in parts:
                if part == "..":
                    deep = True
                    continue
                name = re.escape(part) if part.startswith("[") else r"\." + re.escape(part.lstrip("."))
                # `a..b` in these paths also means an element of the list a.
                out += (r"(?:[.\[].*)?" if deep else "") + name
                deep = False
            return out + r"(?:[.\[].*)?"
        return cls(re.compile(r"\$" + "(?:" + "|".join(map(regex, paths)) + ")") if paths else None)

    def cover(self, path: str) -> bool:
        if self.pattern and self.pattern.fullmatch(path):
            self.seen.add(path)
            return True
        return False


def differences(expected: Any, actual: Any, bindings: Bindings, skips: Skips, path: str = "$",
                ids: dict[int, int] | None = None) -> Iterator[str]:
    for where, text in unequal(expected, actual, bindings, skips, path, ids):
        if not skips.cover(where):
            yield f"{where}: {text}"


def unequal(expected: Any, actual: Any, bindings: Bindings, skips: Skips, path: str,
            ids: dict[int, int] | None) -> Iterator[tuple[str, str]]:
    key = re.split(r"[.\[]", path)[-1] if not path.endswith("]") else re.split(r"[.\[]", path)[-2]
    if isinstance(expected, (dict, list)) and isinstance(actual, str):
        # JSON inside strings is recorded parsed.
        try:
            actual = json.loads(actual)
        except ValueError:
            pass
    if is_history(expected) and is_history(actual) and ids is None:
        yield from history(expected, actual, bindings, skips, path)
    elif isinstance(expected, dict) and isinstance(actual, dict):
        for name in sorted(expected.keys() | actual.keys()):
            where = f"{path}.{name}"
            if name not in actual:
                yield where, f"missing, AWS has {expected[name]!r}"
            elif name not in expected:
                yield where, f"AWS has no such member, got {actual[name]!r}"
            else:
                yield from unequal(expected[name], actual[name], bindings, skips, where, ids)
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield path, f"{len(actual)} elements, AWS has {len(expected)}"
        for n, (one, other) in enumerate(zip(expected, actual)):
            yield from unequal(one, other, bindings, skips, f"{path}[{n}]", ids)
    elif isinstance(expected, str) and expected.strip('"') in TIMES and (
            is_time(unquoted(expected, actual)) or key in ("TimestampValue", "TimestampPath")):
        # The tests masked what they gave as a time, also where it is none.
        return
    elif isinstance(expected, (int, float)) and not isinstance(expected, bool) and isinstance(actual, str) and \
            re.fullmatch(r"-?\d+(\.\d+)?", actual):
        # Numbers as text were parsed with the rest.
        yield from unequal(expected, json.loads(actual), bindings, skips, path, ids)
    elif isinstance(expected, str) and expected == key and key in MASKED:
        return
    elif expected == "RandomNumberGenerated" and isinstance(actual, int):
        return
    elif isinstance(expected, str) and isinstance(actual, str) and "-" in expected and expected == kebab(key):
        # Masked by the name of the member.
        if not bindings.bind(expected, actual):
            yield path, f"{actual!r}, which was {bindings.values[expected]!r} before"
    elif isinstance(expected, str) and isinstance(actual, str):
        if not match_text(expected, actual, bindings, ids):
            yield path, f"{actual!r}, AWS has {expected!r}"
    elif isinstance(expected, bool) or isinstance(actual, bool) or expected != actual or \
            type(expected) is not type(actual):
        if expected is not actual:
            yield path, f"{actual!r}, AWS has {expected!r}"


def unquoted(expected: str, actual: Any) -> Any:
    """A time within quotes is compared within quotes."""
    quoted = isinstance(actual, str) and len(actual) > 1 and actual[0] == actual[-1] == '"'
    return actual[1:-1] if quoted and expected[0] == '"' else actual


def is_history(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) and "previousEventId" in e for e in value)


def history(expected: list, actual: list, bindings: Bindings, skips: Skips, path: str) -> Iterator[tuple[str, str]]:
    """Event by event; with branches that ran at once, branch by branch."""
    def exactly(tried: Bindings) -> list[tuple[str, str]]:
        found = []
        if len(expected) != len(actual):
            found.append((path, f"{len(actual)} events, AWS has {len(expected)}: {types(actual)} instead of {types(expected)}"))
        for n, (one, other) in enumerate(zip(expected, actual)):
            found += unequal(one, other, tried, skips, f"{path}[{n}]", {})
        return [f for f in found if not skips.cover(f[0])]

    tried = bindings.copy()
    if any(e["id"] == [0] for e in expected) and not any(e["id"] == [0] for e in actual):
        expected, actual = numbered_alike(expected, actual, skips, path)
    found = exactly(tried)
    named = all(isinstance(e["id"], int) for e in expected)
    if found and named and len(expected) == len(actual) and branches(expected) > 1:
        paired = bindings.copy()
        if by_branch(expected, actual, paired, skips, path):
            bindings.values = paired.values
            return
    bindings.values = tried.values
    yield from found


def numbered_alike(expected: list, actual: list, skips: Skips, path: str) -> tuple[list, list]:
    """Where the recording test took ids and order out of parallel sections, they are taken out here, and the same events
    are left out: it cut from the beginning of a section to each event that ends one, and put the section's events there."""
    ends = {f"ParallelState{how}" for how in ("Succeeded", "Aborted", "Failed", "Exited")}
    events, section, begin, inside, at = list(actual), [], 0, False, 0
    while at < len(events):
        kind = events[at]["type"]
        if kind in ends and begin:
            events[begin:at] = section
            inside = False
        elif kind == "ParallelStateStarted":
            section, begin, inside = [], at + 1, True
        elif inside:
            events[at] = {**events[at], "id": [0], "previousEventId": 0}
            section.append(events[at])
        at += 1
    at = 0
    while at < len(expected):
        end = at
        while end < len(expected) and expected[end]["id"] == [0]:
            end += 1
        plain = events[at:end]
        for n in range(at, min(end, len(events))):
            fits = (i for i, e in enumerate(plain) if all(
                skips.cover(where) for where, _ in unequal(expected[n], e, Bindings(), skips, f"{path}[{n}]", {})))
            alike = (i for i, e in enumerate(plain) if e["type"] == expected[n]["type"]
                     and name_of(e) == name_of(expected[n]))
            same = (i for i, e in enumerate(plain) if e["type"] == expected[n]["type"])
            events[n] = plain.pop(next(itertools.chain(fits, alike, same), 0))
        at = max(end, at + 1)
    return expected, events


def name_of(event: dict) -> str | None:
    return next((v.get("name") for v in event.values() if isinstance(v, dict)), None)


def types(events: list) -> str:
    return " ".join(e["type"] for e in events)


def branches(events: list) -> int:
    """The most events that follow directly from one: branches or iterations that run at once."""
    followers: dict[int, int] = {}
    for event in events[1:]:
        followers[event["previousEventId"]] = followers.get(event["previousEventId"], 0) + 1
    return max(followers.values(), default=0)


JOINS = re.compile(r"(Parallel|Map)State(Succeeded|Failed|Aborted)|\w+StateAborted|MapIterationAborted|Execution(Failed|Aborted|TimedOut)")


def by_branch(expected: list, actual: list, bindings: Bindings, skips: Skips, path: str) -> bool:
    """Whether the events can be paired so that each follows from its partner's predecessor and has its details.

    An event that joins branches follows from whichever ended last, so there any branch's last event will do.
    """
    if [e["id"] for e in actual] != [e["id"] for e in expected]:
        return False
    pairs: dict[int, int] = {0: 0}
    back: dict[int, int] = {0: 0}
    of = {e["id"]: e for e in expected}
    used: set[int] = set()

    def follows(event: dict, other: dict) -> bool:
        if pairs.get(event["previousEventId"]) == other["previousEventId"]:
            return True
        if not JOINS.fullmatch(event["type"]):
            return False
        partner = of.get(back.get(other["previousEventId"], -1))
        return partner is not None and partner["type"] == of[event["previousEventId"]]["type"]

    def search(n: int, bound: Bindings) -> Bindings | None:
        if n == len(expected):
            return bound
        event = expected[n]
        for other in actual:
            if other["id"] in used or other["type"] != event["type"] or not follows(event, other):
                continue
            tried = bound.copy()
            plain = {k: v for k, v in event.items() if k not in ("id", "previousEventId")}
            found = {k: v for k, v in other.items() if k not in ("id", "previousEventId")}
            pairs[event["id"]], back[other["id"]] = other["id"], event["id"]
            where = f"{path}[{n}]"
            if all(skips.cover(p) for p, _ in unequal(plain, found, tried, skips, where, pairs)):
                used.add(other["id"])
                if (done := search(n + 1, tried)) is not None:
                    return done
                used.discard(other["id"])
            del pairs[event["id"]], back[other["id"]]
        return None

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * len(expected) + 1000))
    done = search(0, bindings)
    if done is None:
        return False
    bindings.values = done.values
    return True


# Replaying


@dataclass
class Answer:
    operation: str
    content: Any
    key: str | None = None
    error: str | None = None
    refusal: str | None = None

    def forms(self) -> Iterator[Any]:
        """The shapes in which the recording tests kept an answer."""
        if self.refusal:
            yield self.refusal
            yield {"exception_typename": "ParamValidationError", "exception_value": self.refusal}
        yield self.content
        if isinstance(self.content, dict):
            if "Error" in self.content:
                yield {"exception_typename": self.error, "exception_value": self.said()}
                yield self.said()
                yield self.content["Error"]
            for value in self.content.values():
                if isinstance(value, list):
                    yield value
            if "ResponseMetadata" in self.content:
                yield {k: v for k, v in self.content.items() if k != "ResponseMetadata"}

    def said(self) -> str:
        error = self.content["Error"]
        return f"An error occurred ({error['Code']}) when calling the {self.operation} operation: {error['Message']}"


@dataclass
class Started:
    arn: str
    machine: str
    input: str
    express: bool
    settled: bool = False


class StatesReplay:
    """Makes the calls of one case in an account of its own."""

    # Calls before which a test had waited for its executions.
    AFTERWARDS = {"StopExecution", "DeleteStateMachine", "DeleteActivity", "DescribeExecution", "ListExecutions",
                  "ListMapRuns", "DescribeMapRun", "GetObject", "ListObjectsV2", "GetExecutionHistory"}

    def __init__(self, server, account: str, case: dict, hand_written: bool):
        self.case = case
        self.expected = case["expected"]
        self.account = account
        self.hand_written = hand_written
        self.plain = Replay(server, account, False)
        self.clients: dict[tuple[str, bool], Any] = {}
        self.answers: list[Answer] = []
        self.started: list[Started] = []
        self.groups: dict[str, str] = {}
        self.unfinished: list[str] = []

    def run(self, calls: list) -> list[Answer]:
        for service, operation, parameters, *key in calls:
            if service in UNSEEN:
                continue
            if service == "$":
                self.settle()
                continue
            if operation in self.AFTERWARDS and not self.hand_written:
                self.settle()
            sent = self.bound(parameters)
            if operation == "DescribeMapRun" and not self.hand_written:
                sent = self.bound({"mapRunArn": "${ListMapRuns.mapRuns.0.mapRunArn}"})
            self.call(service, operation, sent, key[0] if key else None)
        self.settle()
        return self.answers

    def client(self, service: str, validating: bool = True):
        key = (service, validating)
        if key not in self.clients:
            # Without the host prefix `sync-`, which leads nowhere on a loopback address.
            self.clients[key] = self.plain.server.client(service, account=self.account, region=REGION,
                                                         parameter_validation=validating, inject_host_prefix=False)
        return self.clients[key]

    def call(self, service: str, operation: str, sent: dict, key: str | None = None) -> Answer:
        method = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()
        answer = Answer(operation, None, key)
        try:
            try:
                content = getattr(self.client(service), method)(**sent)
            except ParamValidationError as error:
                answer.refusal = str(error)
                content = getattr(self.client(service, False), method)(**sent)
        except ClientError as error:
            content, answer.error = error.response, type(error).__name__
        except ResponseParserError as error:
            content = {"unreadable": str(error)}
        answer.content = self.normal(content)
        self.answers.append(answer)
        if operation == "CreateStateMachine" and "stateMachineArn" in content:
            self.watch(content["stateMachineArn"], sent)
        elif operation == "StartExecution" and "executionArn" in content:
            self.started.append(Started(content["executionArn"], sent["stateMachineArn"], sent.get("input", "{}"),
                                        ":express:" in content["executionArn"]))
        elif operation == "CreateFunction":
            self.settle_function(sent["FunctionName"])
        return answer

    def settle_function(self, name: str) -> None:
        client = self.client("lambda")
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})

    def watch(self, machine: str, sent: dict) -> None:
        for destination in sent.get("loggingConfiguration", {}).get("destinations", []):
            group = destination["cloudWatchLogsLogGroup"]["logGroupArn"]
            self.groups[machine] = group.split(":log-group:")[1].removesuffix(":*")

    def settle(self) -> None:
        """Waits until what was started has ended, and reads what a test could have read then."""
        self.start_the_rest()
        pending = [s for s in self.started if not s.settled]
        for one in pending:
            one.settled = True
            if one.express:
                self.read_log(one)
                continue
            if not self.ended(one.arn):
                self.unfinished.append(one.arn)
            for operation in ("DescribeExecution", "GetExecutionHistory", "DescribeExecution"):
                self.call("stepfunctions", operation, {"executionArn": one.arn} |
                          ({"maxResults": 1000} if operation == "GetExecutionHistory" else {}))
        if pending and "cases" in self.expected:
            self.answers.append(Answer("$", self.pairs_of_input_and_output()))
        if pending and "logged_execution_events" in self.expected:
            self.answers.append(Answer("$", [line for one in self.started for line in self.lines(one)]))

    def start_the_rest(self) -> None:
        """Starts the executions whose histories were recorded behind the end of the trace."""
        wanted = [v for k, v in self.expected.items() if re.fullmatch(r"exec_hist_resp_\d+", k)]
        if self.hand_written or not self.started or len(wanted) <= len(self.started):
            return
        for recorded in wanted[len(self.started):]:
            shown = recorded["events"][0]["executionStartedEventDetails"]["input"]
            text = shown if isinstance(shown, str) else json.dumps(shown)
            self.call("stepfunctions", "StartExecution", {"stateMachineArn": self.started[0].machine, "input": text})

    def ended(self, arn: str) -> bool:
        client = self.client("stepfunctions")
        until = time.monotonic() + PATIENCE_SECONDS
        pause = 0.01
        while time.monotonic() < until:
            try:
                if client.describe_execution(executionArn=arn)["status"] != "RUNNING":
                    return True
            except ClientError:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        return False

    def pairs_of_input_and_output(self) -> list[dict]:
        client = self.client("stepfunctions")
        pairs = []
        for one in self.started:
            described = client.describe_execution(executionArn=one.arn)
            output = described.get("output")
            pairs.append({"input": json.loads(one.input), "output": json.loads(output) if output else None})
        return pairs

    def lines(self, one: Started) -> list[dict]:
        client = self.client("logs")
        group = self.groups[one.machine]
        until = time.monotonic() + PATIENCE_SECONDS
        found: list[dict] = []
        while time.monotonic() < until:
            pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
            events = [json.loads(e["message"]) for page in pages for e in page["events"]]
            found = sorted((e for e in events if e.get("execution_arn") == one.arn), key=lambda e: int(e["id"]))
            if any(re.fullmatch("Execution(Succeeded|Failed|Aborted|TimedOut)", e["type"]) for e in found):
                break
            time.sleep(0.05)
        return [self.normal(line) for line in found]

    def read_log(self, one: Started) -> None:
        if one.machine in self.groups and (lines := self.lines(one)):
            self.answers.append(Answer("$", lines[-1]))

    def bound(self, value: Any) -> Any:
        if isinstance(value, dict):
            if "ZipFile" in value:
                return {"ZipFile": self.package(value["ZipFile"])}
            return {k: BODIES.get(v) if k == "Body" and v in BODIES else self.bound(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.bound(v) for v in value]
        if isinstance(value, str):
            if found := re.fullmatch(r"\$\{([\w-]+)\.([\w.-]+)\}", value):
                return self.earlier(*found.groups())
            value = value.replace(TRACED_ACCOUNT, self.account)
            # The traced emulator named no executions.
            if found := re.fullmatch(r"(arn:aws:states:[\w-]+:\d+:)(execution|express):([^:]+):None", value):
                same = [s.arn for s in self.started if s.arn.split(":")[6] == found.group(3)]
                return same[-1] if same else value
        return value

    def earlier(self, key: str, path: str) -> Any:
        """A value of an earlier answer, for steps written by hand."""
        content = next(a.content for a in reversed(self.answers) if key in (a.key, a.operation))
        for part in path.split("."):
            content = content[int(part)] if part.isdigit() else content[part]
        return content.replace(RECORDED_ACCOUNT, self.account) if isinstance(content, str) else content

    def package(self, size: str) -> bytes:
        test = self.case["id"].rsplit("::", 1)[-1].split("[")[0]
        return zipped({"handler.py": OTHER_FUNCTIONS.get(test) or FUNCTIONS[size]})

    def normal(self, value: Any) -> Any:
        if isinstance(value, dict):
            # Objects in buckets are compared as text.
            value = {k: v.read().decode() if isinstance(v, StreamingBody) else v for k, v in value.items()}
        return self.plain.normal(value)


# The verdict


@dataclass
class Verdict:
    told: list[str]
    # Differences under skipped paths.
    skipped: list[str]

    @property
    def passed(self) -> bool:
        return not self.told


def fit(expected: dict, answers: list[Answer], skips: Skips) -> list[str]:
    """The differences that remain under the best reading; empty when the case passes."""
    keys = list(expected)

    def search(k: int, start: int, bindings: Bindings) -> bool:
        if k == len(keys):
            return True
        seen = []
        for at in candidates(keys[k], answers, start):
            for form in answers[at].forms():
                if form in seen:
                    continue
                seen.append(form)
                tried = bindings.copy()
                if next(differences(expected[keys[k]], form, tried, skips, f"$.{keys[k]}"), None) is None \
                        and search(k + 1, at, tried):
                    return True
        return False

    return [] if search(0, 0, Bindings()) else explain(expected, answers, skips)


def candidates(key: str, answers: list[Answer], start: int) -> Iterator[int]:
    named = [n for n, answer in enumerate(answers) if answer.key == key]
    if named:
        yield named[-1]
        return
    wanted = "GetExecutionHistory" if re.search(r"execution_history$|exec_hist_resp_\d+$", key) else None
    yield from (n for n in range(start, len(answers))
                if answers[n].key is None and wanted in (None, answers[n].operation))


def explain(expected: dict, answers: list[Answer], skips: Skips) -> list[str]:
    """For each expected answer, how the nearest one differs."""
    told: list[str] = []
    bindings = Bindings()
    start = 0
    for key, content in expected.items():
        best: tuple[int, list[str], int, Bindings] | None = None
        for at in candidates(key, answers, start):
            for form in answers[at].forms():
                tried = bindings.copy()
                found = list(differences(content, form, tried, skips, f"$.{key}"))
                # Another kind of form is never near.
                distance = len(found) if type(form) is type(content) else 1000
                if best is None or distance < best[0]:
                    best = (distance, found, at, tried)
        if best is None:
            told.append(f"$.{key}: no call left that could have given it")
            continue
        if best[0] == 0:
            bindings, start = best[3], best[2]
        told += [f"(nearest: {answers[best[2]].operation}) {line}" for line in best[1][:6]]
    return told or ["each answer fits alone, but not all under one reading of the placeholders"]


def replay(server, accounts: Iterator[str], case: dict, written: list | None) -> Verdict:
    run = StatesReplay(server, next(accounts), case, written is not None)
    answers = run.run(written or case["calls"])
    skips = Skips.of(case.get("skip_paths") or [])
    told = fit(case["expected"], answers, skips)
    if told and run.unfinished:
        told.insert(0, f"{len(run.unfinished)} of {len(run.started)} executions did not end within {PATIENCE_SECONDS} s")
    if not told and skips.pattern:
        strict = Skips()
        return Verdict([], fit(case["expected"], answers, strict))
    return Verdict(told, [])


def not_yet() -> dict[str, str]:
    """The cases that do not pass, with the reason of each."""
    listed = {}
    for line in (GOLDEN.parent / "not-yet.txt").read_text().splitlines():
        if line.startswith("stepfunctions/"):
            name, _, reason = line.partition("\t")
            assert reason.strip(), f"no reason given for {name}"
            listed[name] = reason.strip()
    return listed


def mock_settings() -> dict[str, str]:
    """The environment of a server that answers the mocked cases. The mocks were not traced; the answers show them."""
    return {"SFN_MOCK_CONFIG": str(GOLDEN / "MockConfigFile.json")}
