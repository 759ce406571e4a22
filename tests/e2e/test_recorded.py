"""Answers recorded on AWS, replayed. `not-yet.txt` names the cases that do not pass, each with its reason."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from recorded import SLOW, SLOWLY, replay

GOLDEN = Path(__file__).resolve().parents[1] / "golden/aws"
accounts = (str(n) for n in itertools.count(300_000_000_000))


def cases() -> dict[str, dict]:
    found = {}
    for file in sorted(GOLDEN.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            case = json.loads(line)
            if "calls" in case:
                found[case["id"]] = case
    return found


def not_yet() -> dict[str, str]:
    listed = {}
    for line in (GOLDEN / "not-yet.txt").read_text().splitlines():
        # Those of Step Functions are replayed by test_recorded_states.py.
        if line and not line.startswith(("#", "stepfunctions/")):
            name, _, reason = line.partition("\t")
            assert reason.strip(), f"no reason given for {name}"
            listed[name] = reason.strip()
    return listed


CASES = cases()
NOT_YET = not_yet()
STEPS = json.loads((GOLDEN / "steps.json").read_text())


def test_every_listed_case_exists():
    assert not set(NOT_YET) - set(CASES)
    assert not set(STEPS) - set(CASES)


@pytest.mark.parametrize("name", [n for n in CASES if n not in NOT_YET and n not in SLOW], ids=lambda n: n.split("::", 1)[1])
def test_a_recorded_case_is_answered_as_on_aws(server, name):
    differences = replay(server, accounts, CASES[name], STEPS.get(name))
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", SLOW, ids=lambda n: n.split("::", 1)[1])
def test_a_recorded_case_is_answered_as_on_aws_where_updates_take_a_while(own_server, name):
    differences = replay(own_server(env=SLOWLY), accounts, CASES[name], STEPS.get(name))
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", [n for n in CASES if n in NOT_YET and (CASES[n]["calls"] or n in STEPS)],
                         ids=lambda n: n.split("::", 1)[1])
def test_a_case_listed_as_not_yet_passing_does_not_pass(server, name):
    differences = replay(server, accounts, CASES[name], STEPS.get(name))
    assert differences, f"this passes now: take it off {GOLDEN / 'not-yet.txt'}"
    if os.environ.get("SHOW_NOT_YET"):
        print(NOT_YET[name], *differences, sep="\n  ")
