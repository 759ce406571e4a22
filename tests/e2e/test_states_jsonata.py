"""JSONata expressions that would take all memory, or all time: each ends its own execution, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server import binary

ROLE = "arn:aws:iam::000000000000:role/states"
#: 2 GB, soon; 16 GB in one allocation; 2 GB, doubling; seconds, inside of one function; for ever, and small.
MANY = "$replace($pad('', 20000, 'a'), /a/, $pad('', 100000, 'x'))"
REPLACE = "$replace($pad('', 1000000, 'a'), /a/, $pad('', 100000, 'x'))"
DOUBLE = "($f := function($s, $n){$n = 0 ? $length($s) : $f($s & $s, $n - 1)}; $f('abcdefgh', 28))"
PAD = "$length($pad('', 2000000000, 'x'))"
ENDLESS = "($f := function($n){ $f($n + 1) }; $f(0))"
HOSTILE = [MANY, REPLACE, DOUBLE, PAD, ENDLESS]
MEMORY = "It needs more memory than one expression may have."
TIME = "It takes longer than the 5 seconds that the expressions of a step may take together."
FAILED = "States.QueryEvaluationError"


def one_pass(expression: str) -> str:
    state = {"Type": "Pass", "Output": {"made": f"{{% {expression} %}}"}, "End": True}
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": state}})


def resident_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def evaluators(server) -> list[int]:
    """The processes of the server that evaluate expressions."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = f"PPid:\t{server.pid}\n" in (folder / "status").read_text()
            if parent and (folder / "cmdline").read_bytes().startswith(b"firn-evaluator\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def create(states, name: str, expression: str, kind: str = "STANDARD") -> str:
    made = states.create_state_machine(name=name, definition=one_pass(expression), roleArn=ROLE, type=kind)
    return made["stateMachineArn"]


def ended(states, arn: str) -> dict:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        described = states.describe_execution(executionArn=arn)
        if described["status"] != "RUNNING":
            return described
        time.sleep(0.05)
    raise AssertionError(f"{arn} does not end")


@pytest.mark.parametrize(("expression", "why"), [
    (MANY, [MEMORY]),
    # Which end comes first depends on the machine.
    (REPLACE, [MEMORY, TIME]), (DOUBLE, [MEMORY, TIME]), (PAD, [MEMORY, TIME]),
    (ENDLESS, [TIME]),
])
def test_it_fails_in_every_kind_of_execution(server, account, expression, why):
    states = server.client("stepfunctions", account=account, inject_host_prefix=False)

    def check(error: str, cause: str) -> None:
        assert error == FAILED
        told = f"The JSONata expression '{expression}' specified for the field 'Output/made' threw an error during evaluation. "
        assert any(told + reason in cause for reason in why), cause

    state = json.dumps(json.loads(one_pass(expression))["States"]["A"] | {"QueryLanguage": "JSONata"})
    tried = states.test_state(definition=state, roleArn=ROLE, input="{}")
    assert tried["status"] == "FAILED"
    check(tried["error"], tried["cause"])

    standard = create(states, "standard", expression)
    failed = ended(states, states.start_execution(stateMachineArn=standard)["executionArn"])
    assert failed["status"] == "FAILED"
    check(failed["error"], failed["cause"])

    express = create(states, "express", expression, "EXPRESS")
    failed = states.start_sync_execution(stateMachineArn=express)
    assert failed["status"] == "FAILED"
    check(failed["error"], failed["cause"])
    assert server.alive()


def test_hundred_at_once_leave_others_alone(own_server):
    server = own_server()
    states = server.client("stepfunctions", inject_host_prefix=False)
    hostile = [create(states, f"hostile-{n}", expression) for n, expression in enumerate(HOSTILE)]
    small = create(states, "small", "$sum($states.input.n)", "EXPRESS")
    states.start_sync_execution(stateMachineArn=small, input='{"n": [1]}')
    before = resident_kib(server.pid, "VmRSS")
    over = threading.Event()
    slowest = 0.0
    most = 0

    def watch() -> None:
        nonlocal slowest, most
        while not over.is_set():
            began = time.monotonic()
            answer = states.start_sync_execution(stateMachineArn=small, input='{"n": [1, 2, 3]}')
            slowest = max(slowest, time.monotonic() - began)
            assert json.loads(answer["output"]) == {"made": 6}
            most = max(most, len(evaluators(server)))
            time.sleep(0.05)

    with ThreadPoolExecutor(40) as pool:
        watching = pool.submit(watch)
        started = [pool.submit(states.start_execution, stateMachineArn=hostile[n % 5]) for n in range(100)]
        # The first ones have their turn; the others have theirs in some minutes, and others do not wait for them.
        time.sleep(10)
        over.set()
        watching.result()
        done = [one.result() for one in started if one.done()]
        assert done, "not one has ended"
        for one in done:
            failed = ended(states, one["executionArn"])
            assert failed["error"] == FAILED
        assert 0 < most <= max(2, os.cpu_count())
        assert slowest < 5, slowest
        grown = resident_kib(server.pid, "VmHWM") - before
        assert grown < 128 << 10, f"the server has grown by {grown} KiB"
        # Nobody waits for the rest.
        server.kill()


def test_evaluator_that_is_killed_is_replaced(own_server):
    server = own_server()
    states = server.client("stepfunctions", inject_host_prefix=False)
    mapped = create(states, "mapped", "$map([1, 2], function($x){$x * 2})", "EXPRESS")
    endless = create(states, "endless", ENDLESS, "EXPRESS")

    def run(arn: str) -> dict:
        return states.start_sync_execution(stateMachineArn=arn)

    assert json.loads(run(mapped)["output"]) == {"made": [2, 4]}
    # Between two expressions.
    for pid in evaluators(server):
        os.kill(pid, 9)
    while evaluators(server):
        time.sleep(0.01)
    assert json.loads(run(mapped)["output"]) == {"made": [2, 4]}
    # In the middle of one: the only one that there is, since it was free.
    [pid] = evaluators(server)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, endless)
        time.sleep(1)
        os.kill(pid, 9)
        failed = running.result()
    assert failed["error"] == FAILED
    assert "What evaluated it has ended." in failed["cause"]
    assert json.loads(run(mapped)["output"]) == {"made": [2, 4]}


def test_evaluators_end_with_the_server(own_server):
    server = own_server()
    states = server.client("stepfunctions", inject_host_prefix=False)
    endless = create(states, "endless", ENDLESS, "EXPRESS")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(states.start_sync_execution, stateMachineArn=endless)
        until = time.monotonic() + 10
        while not (found := evaluators(server)) and time.monotonic() < until:
            time.sleep(0.02)
        server.kill()
        assert running.exception() is not None
    began = time.monotonic()
    while any(Path(f"/proc/{pid}/exe").exists() for pid in found):
        # Sooner than the expression would have ended by itself.
        assert time.monotonic() - began < 2, found
        time.sleep(0.02)
    assert found


def test_rehearsals_have_the_same_bounds(tmp_path):
    (tmp_path / "hostile.asl.json").write_text(one_pass(MANY))
    command = [binary(), "states", "test", "hostile.asl.json", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert MEMORY in done.stdout
