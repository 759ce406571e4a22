"""Cases of Step Functions recorded on AWS, replayed. `not-yet.txt` names those that do not pass, each with its reason."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re

import pytest
from recorded_states import (
    ANY_OF, GOLDEN, PLACEHOLDER, TIMES, Bindings, Skips, differences, is_history, load, mock_settings, needs, not_yet, replay, steps,
)

CASES = {name: case for cases in load().values() for name, case in cases.items()}
NOT_YET = not_yet()
STEPS = steps()
CALLED = [n for n, c in CASES.items() if (STEPS.get(n) or c["calls"]) and not needs(c, STEPS.get(n) or c["calls"])]
accounts = (str(n) for n in itertools.count(600_000_000_000))


@pytest.fixture(scope="module")
def mocked(tmp_path_factory):
    """A server with the mocks of the mocked cases, which the others do not ask for."""
    from server import Server

    running = Server(tmp_path_factory.mktemp("firn") / "data", env=mock_settings()).start()
    yield running
    assert running.alive(), f"the server died:\n{running.log()}"
    assert running.stop() == 0


def short(name: str) -> str:
    return re.sub(r"[^ -~]", lambda m: f"\\x{ord(m.group()):02x}", name.split("::", 1)[-1])


def test_every_listed_case_exists():
    assert not set(NOT_YET) - set(CASES)
    assert not set(STEPS) - set(CASES)


@pytest.mark.parametrize("name", [n for n in CALLED if n not in NOT_YET], ids=short)
def test_a_recorded_case_is_answered_as_on_aws(mocked, name):
    verdict = replay(mocked, accounts, CASES[name], STEPS.get(name))
    assert verdict.passed, "\n".join(verdict.told)


@pytest.mark.parametrize("name", [n for n in CALLED if n in NOT_YET], ids=short)
def test_a_case_listed_as_not_yet_passing_does_not_pass(mocked, name):
    verdict = replay(mocked, accounts, CASES[name], STEPS.get(name))
    assert not verdict.passed, f"this passes now: take it off {GOLDEN.parent / 'not-yet.txt'}"
    if os.environ.get("SHOW_NOT_YET"):
        print(NOT_YET[name], *verdict.told, sep="\n  ")


# The comparison itself, on the recordings


def example(value):
    """An answer that would match a recording: placeholders filled in, JSON as text where histories have text."""
    def text(found: re.Match) -> str:
        name = found.group(1) or found.group(2) or found.group(3)
        if name in ANY_OF:
            return {"date": "2024-01-01T00:00:00Z", "map_run_arn": "arn:aws:states:us-east-1:1:mapRun:m/l:r"}[name]
        kind, _, number = name.partition(":")
        if kind == "uuid":
            return f"00000000-0000-4000-8000-{int(number):012}"
        return {"region": "us-east-1", "partition": "aws"}.get(name, re.sub(r"\W", "-", name) + "-value")

    def fill(part, inside: bool):
        if isinstance(part, dict):
            inner = {k: fill(v, inside or k.endswith("EventDetails")) for k, v in part.items()}
            if inside:
                return {k: json.dumps(v) if k in ("input", "output") and isinstance(v, (dict, list)) else v
                        for k, v in inner.items()}
            return inner
        if isinstance(part, list):
            return [fill(v, inside) for v in part]
        if isinstance(part, str):
            return "2024-01-01T00:00:00.000Z" if part in TIMES else PLACEHOLDER.sub(text, part)
        return part

    return fill(value, False)


def compared(expected, actual, paths=()):
    return list(differences(expected, actual, Bindings(), Skips.of(list(paths))))


HISTORIES = [(n, k, v) for n, c in CASES.items() for k, v in c["expected"].items()
             if isinstance(v, dict) and is_history(v.get("events"))]


def test_each_recording_matches_an_answer_made_after_it():
    for name, case in CASES.items():
        for key, value in case["expected"].items():
            assert not compared(value, example(value)), (name, key)


def test_a_changed_event_never_matches():
    for at, (name, key, value) in enumerate(HISTORIES):
        for n, event in enumerate(value["events"]):
            if (n + at) % 4:
                # Each event of each kind of history is still changed in some case.
                continue
            for change in ({"type": "Other"}, {"id": 9999}, {"previousEventId": 9998}, {"more": 1}):
                if event["id"] == [0] and "type" not in change and "more" not in change:
                    continue
                changed = copy.deepcopy(example(value))
                changed["events"][n] |= change
                assert compared(value, changed), (name, key, n, change)


def test_a_missing_event_never_matches():
    for name, key, value in HISTORIES:
        shorter = copy.deepcopy(example(value))
        shorter["events"].pop()
        assert compared(value, shorter), (name, key)


def test_branches_may_interleave_but_not_lose_their_order():
    def history(*events):
        return [{"id": n + 1, "previousEventId": p, "type": t, "d": {"name": d}} for n, (p, t, d) in enumerate(events)]

    recorded = history((0, "ParallelStateStarted", "p"), (1, "Entered", "a"), (1, "Entered", "b"), (2, "Exited", "a"),
                       (3, "Exited", "b"), (5, "ParallelStateSucceeded", "p"))
    other = history((0, "ParallelStateStarted", "p"), (1, "Entered", "b"), (2, "Exited", "b"), (1, "Entered", "a"),
                    (4, "Exited", "a"), (5, "ParallelStateSucceeded", "p"))
    crossed = history((0, "ParallelStateStarted", "p"), (1, "Entered", "b"), (2, "Exited", "a"), (1, "Entered", "a"),
                      (4, "Exited", "b"), (5, "ParallelStateSucceeded", "p"))
    assert not compared(recorded, other)
    assert compared(recorded, crossed)


def test_a_placeholder_is_one_value():
    assert not compared({"a": "<uuid:1>", "b": "x/<uuid:1>"}, {"a": "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
                                                             "b": "x/" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12})
    assert compared(["<resource:1>", "<resource:2>"], ["one", "one"])
    assert compared(["<resource:1>", "<resource:1>"], ["one", "two"])


def test_a_skipped_path_covers_what_is_below_it_and_nothing_else():
    assert not compared({"a": {"Sdk": {"x": 1}}, "b": 1}, {"a": {"Sdk": {"x": 2}}, "b": 1}, ["$..Sdk"])
    assert compared({"a": {"Sdk": {"x": 1}}, "b": 1}, {"a": {"Sdk": {"x": 2}}, "b": 2}, ["$..Sdk"])
    assert not compared({"events": [{"d": {"c": 1}}]}, {"events": [{"d": {"c": 2}}]}, ["$..events..d.c"])
    assert compared({"events": [{"d": {"e": 1}}]}, {"events": [{"d": {"e": 2}}]}, ["$..events..d.c"])
