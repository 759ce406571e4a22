"""The state machines that are measured."""

from __future__ import annotations

import json

DAY = 86_400


def three_states() -> str:
    """Pass, Pass, Succeed."""
    return definition({"A": {"Type": "Pass"}, "B": {"Type": "Pass"}, "C": {"Type": "Succeed"}})


def passes(count: int) -> str:
    return definition({f"S{number}": {"Type": "Pass"} for number in range(count)})


def tasks(count: int, function_arn: str) -> str:
    """Lambda tasks one after the other."""
    return definition({f"S{number}": {"Type": "Task", "Resource": function_arn} for number in range(count)})


def sleeper(passes_before: int = 0) -> str:
    before = {f"S{number}": {"Type": "Pass"} for number in range(passes_before)}
    return definition({**before, "Sleep": {"Type": "Wait", "Seconds": DAY}})


def alarm() -> str:
    """Sleeps until the input's time."""
    return definition({"Sleep": {"Type": "Wait", "TimestampPath": "$.until"}})


def distributed_map(kind: str, reader: dict | None = None) -> str:
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
        "StartAt": "P",
        "States": {"P": {"Type": "Pass", "End": True}},
    }
    state: dict = {"Type": "Map", "ItemProcessor": processor, "MaxConcurrency": 1000, "ResultPath": None}
    if reader:
        state["ItemReader"] = reader
    return definition({"Each": state})


def definition(states: dict[str, dict]) -> str:
    """A chain of states in their order."""
    names = list(states)
    for name, after in zip(names, [*names[1:], None]):
        if states[name]["Type"] in ("Succeed", "Fail"):
            continue
        states[name].update({"Next": after} if after else {"End": True})
    return json.dumps({"StartAt": names[0], "States": states})
