"""What is measured. Each section takes a `Bench` and gives its figures; servers are its own unless they are shared."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import io
import json
import os
import pathlib
import random
import statistics
import subprocess
import time
import zipfile

import machines
import servers

NOOP = "def handler(event, context):\n    return event\n"
PATIENCE_SECONDS = 1200


class Bench:
    """The load generator, the servers' programs, and how much to measure."""

    def __init__(self, arguments, folder: pathlib.Path):
        self.arguments, self.folder = arguments, folder
        self.generator = arguments.generator
        self.made = 0

    def start(self, name: str, folder: pathlib.Path | None = None):
        """A server with no data but what `folder` holds."""
        self.made += 1
        folder = folder or self.folder / f"{name}-{self.made}"
        given = self.arguments
        match name:
            case "firn":
                return servers.firn(given.firn, folder)
            case "MiniStack":
                return servers.ministack(given.ministack, folder)
            case "LocalStack":
                return servers.localstack(given.localstack, folder)
            case "Restate":
                return servers.Restate(given.restate, folder)
        raise ValueError(name)

    @contextlib.contextmanager
    def running(self, name: str, folder: pathlib.Path | None = None):
        server = self.start(name, folder)
        try:
            yield server
        finally:
            server.stop()

    def peers(self) -> list[str]:
        return ["firn", *(name for name in ("MiniStack", "LocalStack") if getattr(self.arguments, name.lower()))]

    def generate(self, command: str, address: str, path: str, headers: list[str], body: str, *options: str) -> dict:
        run = [self.generator, command, "--addr", address, "--path", path, "--body", body, *options]
        for header in headers:
            run += ["--header", header]
        ran = subprocess.run(run, capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{command} {' '.join(options)}: {ran.stderr[:1000]}")
        return json.loads(ran.stdout)

    def drive(self, server, operation: str, arn: str, clients: int, *options: str, input: str = '{"n":1}') -> dict:
        body = json.dumps({"stateMachineArn": arn, "input": input})
        return self.generate(
            "drive", server.address, "/", servers.headers(operation), body, "--clients", str(clients), *options)


def disk(bench: Bench) -> dict:
    """How often this disk can be asked to be sure of another 200 bytes."""
    path, count, began = bench.folder / "probe", 0, time.monotonic()
    with path.open("wb", buffering=0) as file:
        while time.monotonic() - began < 2:
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            count += 1
    path.unlink()
    return {"fdatasync_per_second": count / 2}


def drain(server, arn: str) -> None:
    """Until nothing runs any more."""
    connection = server.connection()
    until = time.monotonic() + PATIENCE_SECONDS
    pause = 0.002
    while connection.call("ListExecutions", stateMachineArn=arn, statusFilter="RUNNING", maxResults=1)["executions"]:
        server.process.check()
        if time.monotonic() > until:
            raise RuntimeError(f"{server.name}: executions do not end")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def load_to_end(bench: Bench, server, arn: str, states: int, clients: int, *options: str) -> dict:
    """Starts at saturation, then waits for the last to end: what was started, and what was done, per second."""
    cpu, began = server.process.cpu_seconds(), time.monotonic()
    result = bench.drive(server, "StartExecution", arn, clients, *options)
    drain(server, arn)
    took = time.monotonic() - began
    used = server.process.cpu_seconds() - cpu
    return result | {
        "ended_per_second": result["answers"] / took,
        "states_per_second": result["answers"] * states / took,
        "cpu_us_per_execution": used / result["answers"] * 1e6,
        "cpu_us_per_state": used / result["answers"] / states * 1e6,
        "memory_mb": server.process.memory_mb(),
    }


def standard(bench: Bench) -> dict:
    """Starts per second of a machine of three states, and the time from start to end at half of that."""
    results: dict = {}
    for name in bench.peers():
        given = bench.arguments
        seconds = given.seconds if name == "firn" else min(given.seconds, 3)
        with bench.running(name) as server:
            arn = server.create("three", machines.three_states())
            bench.drive(server, "StartExecution", arn, 4, "--seconds", "0.5")
            drain(server, arn)
            loads = []
            for clients in given.clients if name == "firn" else [c for c in given.clients if c <= 64]:
                loads.append(load_to_end(bench, server, arn, 3, clients, "--seconds", str(seconds)))
                tell(f"standard, {name}, {clients} clients: {loads[-1]['per_second']:,.0f} starts/s, "
                     f"{loads[-1]['ended_per_second']:,.0f} ended/s")
            rate = max(load["ended_per_second"] for load in loads) / 2
            results[name] = {"loads": loads, "half": at_rate(bench, server, arn, rate, seconds)}
            # The goal's own load, on top of half of what this machine can do at most.
            if name == "firn" and rate > 2500:
                results[name]["at_2500"] = at_rate(bench, server, arn, 2500, seconds)
    return results


def at_rate(bench: Bench, server, arn: str, rate: float, seconds: float) -> dict:
    """Start-to-end times under a steady load: as the server dates them, and as a client sees them."""
    record = bench.folder / "arns"
    body = json.dumps({"stateMachineArn": arn, "input": '{"n":1}'})
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        followed = aside.submit(
            bench.generate, "follow", server.address, "/", servers.headers("StartExecution"), body,
            "--seconds", str(max(seconds - 0.5, 0.5)))
        result = bench.drive(
            server, "StartExecution", arn, 64, "--seconds", str(seconds), "--rate", f"{rate:.3f}",
            "--record", str(record), "--field", "executionArn")
    drain(server, arn)
    arns = record.read_text().split()
    connection = server.connection()
    times = []
    for one in random.Random(0).sample(arns, min(len(arns), 3000)):
        told = connection.call("DescribeExecution", executionArn=one)
        if told["status"] != "SUCCEEDED":
            raise RuntimeError(f"{server.name}: an execution is {told['status']}")
        times.append((told["stopDate"] - told["startDate"]) * 1000)
    result["start_to_end_ms"] = percentiles(times)
    result["client_saw"] = followed.result()["latency"]
    tell(f"  at {rate:,.0f}/s: start to end p50 {result['start_to_end_ms']['p50']:.1f} ms, "
         f"p99 {result['start_to_end_ms']['p99']:.1f} ms")
    return result


def express(bench: Bench) -> dict:
    """Synchronous Express executions of three states."""
    results: dict = {}
    for name in bench.peers():
        seconds = bench.arguments.seconds if name == "firn" else min(bench.arguments.seconds, 3)
        with bench.running(name) as server:
            arn = server.create("three", machines.three_states(), "EXPRESS")
            options = ["--seconds", str(seconds), "--warmup", "0.5", "--expect", "SUCCEEDED"]
            loads = []
            for clients in bench.arguments.clients if name == "firn" else [1, 16, 64]:
                cpu = server.process.cpu_seconds()
                load = bench.drive(server, "StartSyncExecution", arn, clients, *options)
                # The warm-up's share is in the seconds, too.
                used = server.process.cpu_seconds() - cpu
                load["cpu_us_per_execution"] = used / (load["per_second"] * (load["seconds"] + 0.5)) * 1e6
                loads.append(load)
                tell(f"express, {name}, {clients} clients: {load['per_second']:,.0f}/s")
            results[name] = {"loads": loads}
    return results


def transitions(bench: Bench) -> dict:
    """CPU of one more state: what long executions use beyond short ones."""
    results: dict = {}
    kinds = {"standard": ("STANDARD", "StartExecution"), "express": ("EXPRESS", "StartSyncExecution")}
    count = bench.arguments.transitions
    for name in bench.peers():
        total = count if name == "firn" else max(count // 20, 20)
        with bench.running(name) as server:
            for label, (kind, operation) in kinds.items():
                used = {}
                for states in (3, 103):
                    arn = server.create(f"{label}-{states}", machines.passes(states), kind)
                    expect = ["--expect", "SUCCEEDED"] if kind == "EXPRESS" else []
                    bench.drive(server, operation, arn, 4, "--count", "20", "--seconds", "60", *expect)
                    if kind == "STANDARD":
                        drain(server, arn)
                    cpu = server.process.cpu_seconds()
                    bench.drive(server, operation, arn, 16, "--count", str(total), "--seconds", "300", *expect)
                    if kind == "STANDARD":
                        drain(server, arn)
                    used[states] = (server.process.cpu_seconds() - cpu) / total * 1e6
                more = (used[103] - used[3]) / 100
                results.setdefault(name, {})[label] = {
                    "cpu_us_per_execution_of_3": used[3], "cpu_us_per_execution_of_103": used[103],
                    "cpu_us_per_state": more}
                tell(f"transitions, {name}, {label}: {more:.1f} us CPU per state")
    return results


def tasks(bench: Bench) -> dict:
    """Workflows of five Lambda tasks; each client starts its next execution when the last has ended."""
    results: dict = {}
    for name in bench.peers():
        if name == "LocalStack":
            results[name] = {"left_out": "its Lambda functions need Docker"}
            continue
        with bench.running(name) as server:
            arn = server.create("tasks", machines.tasks(5, create_function(server)))
            results[name] = {"loads": [follow_tasks(bench, server, arn, 5, clients) for clients in (1, 8, 16)]}
    return results


def follow_tasks(bench: Bench, server, arn: str, count: int, clients: int) -> dict:
    """Lambda tasks per second, with as many executions under way as there are clients."""
    body = json.dumps({"stateMachineArn": arn, "input": "{}"})
    options = ["--clients", str(clients), "--pause", "2", "--seconds"]
    where = ("follow", server.address, "/", servers.headers("StartExecution"), body)
    # Environments are there before it counts.
    bench.generate(*where, *options, "1")
    cpu = server.process.cpu_seconds()
    load = bench.generate(*where, *options, str(bench.arguments.seconds))
    load["states_per_second"] = load["per_second"] * count
    # The server's own, without its functions'.
    used = server.process.cpu_seconds() - cpu
    load["cpu_us_per_state"] = used / (load["per_second"] * load["seconds"]) / count * 1e6
    tell(f"tasks, {server.name}, {clients} clients: {load['states_per_second']:,.0f} tasks/s")
    return load


def create_function(server) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", NOOP)
    client = server.boto("lambda")
    made = client.create_function(
        FunctionName="noop", Runtime="python3.12", Handler="app.handler", Timeout=60, MemorySize=256,
        Role="arn:aws:iam::000000000000:role/bench", Code={"ZipFile": buffer.getvalue()})
    client.get_waiter("function_active_v2").wait(FunctionName="noop", WaiterConfig={"Delay": 1})
    return made["FunctionArn"]


def sleepers(bench: Bench) -> dict:
    """Executions that wait for a day: memory, and what a server knows of them after `kill -9`."""
    results: dict = {"firn": recovery(bench, bench.arguments.sleepers, machines.sleeper())}
    for name in bench.peers()[1:]:
        count = min(bench.arguments.sleepers, 500)
        with bench.running(name) as server:
            arn = server.create("sleeper", machines.sleeper())
            bench.drive(server, "StartExecution", arn, 4, "--count", "4", "--seconds", "60")
            before = server.process.memory_mb()
            bench.drive(server, "StartExecution", arn, 4, "--count", str(count), "--seconds", "120")
            time.sleep(2)
            after = server.process.memory_mb()
            results[name] = {
                "executions": count, "memory_mb": after, "bytes_each": (after - before) * 2**20 / count,
                # They would sleep for a day in its way.
                "ended_by": "kill",
            }
            server.process.kill()
    return results


def replay(bench: Bench) -> dict:
    """What a long history costs at recovery: the same number of sleepers with few events and with many."""
    count = bench.arguments.replayed
    return {
        "short": recovery(bench, count, machines.sleeper(1)),
        "long": recovery(bench, count, machines.sleeper(200)),
    }


def recovery(bench: Bench, count: int, definition: str) -> dict:
    bench.made += 1
    folder = bench.folder / f"sleepers-{bench.made}"
    server = bench.start("firn", folder)
    try:
        arn = server.create("sleeper", definition)
        idle = server.process.memory_mb()
        record = bench.folder / "sleepers"
        started = bench.drive(
            server, "StartExecution", arn, 256, "--count", str(count), "--seconds", str(PATIENCE_SECONDS),
            "--record", str(record), "--field", "executionArn")
        arns = record.read_text().split()
        settle(server)
        result = {
            "executions": len(arns), "starts_per_second": started["per_second"], "memory_idle_mb": idle,
            "memory_mb": server.process.memory_mb(), "memory_peak_mb": server.process.memory_mb("VmHWM"),
            "bytes_each": (server.process.memory_mb() - idle) * 2**20 / max(len(arns), 1),
            "disk_mb": disk_mb(folder),
        }
        alarms = set_alarms(server)
        server.process.kill()
        time.sleep(max(alarms["due"] - time.time(), 0) + 0.2)
        began_at, began = time.time(), time.monotonic()
        server = bench.start("firn", folder)
        result["ready_seconds"] = time.monotonic() - began
        connection = server.connection()
        if connection.call("DescribeExecution", executionArn=arns[-1])["status"] != "RUNNING":
            raise RuntimeError("an acknowledged execution is not there")
        result["first_answer_seconds"] = time.monotonic() - began
        # What was due while the server was down ends as soon as the timers are known again.
        drain(server, alarms["machine"])
        rung = [connection.call("DescribeExecution", executionArn=one) for one in alarms["arns"]]
        if any(one["status"] != "SUCCEEDED" for one in rung):
            raise RuntimeError("an execution that was due did not succeed")
        result["last_overdue_timer_seconds"] = max(one["stopDate"] for one in rung) - began_at
        for one in random.Random(0).sample(arns, min(len(arns), 1000)):
            if connection.call("DescribeExecution", executionArn=one)["status"] != "RUNNING":
                raise RuntimeError("an acknowledged execution is not there")
        result["counted"] = counted(connection, arn)
        result["all_listed_seconds"] = time.monotonic() - began
        if result["counted"] != len(arns):
            raise RuntimeError(f"{len(arns)} were acknowledged, {result['counted']} are there")
        settle(server)
        result["memory_after_mb"] = server.process.memory_mb()
        result["memory_after_peak_mb"] = server.process.memory_mb("VmHWM")
        tell(f"sleepers: {len(arns):,}, {result['memory_mb']:.0f} MB; after kill -9 answering in "
             f"{result['first_answer_seconds']:.2f} s, timers in {result['last_overdue_timer_seconds']:.2f} s, "
             f"all listed in {result['all_listed_seconds']:.2f} s, {result['memory_after_mb']:.0f} MB")
        return result
    finally:
        server.process.kill()


def set_alarms(server, count: int = 100) -> dict:
    """Executions that are due while the server is down."""
    arn = server.create("alarm", machines.alarm())
    due = int(time.time()) + 3
    until = datetime.datetime.fromtimestamp(due, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    connection = server.connection()
    arns = [connection.call("StartExecution", stateMachineArn=arn, input=json.dumps({"until": until}))["executionArn"]
            for _ in range(count)]
    return {"machine": arn, "due": due, "arns": arns}


def counted(connection, arn: str) -> int:
    count, token = 0, {}
    while True:
        page = connection.call("ListExecutions", stateMachineArn=arn, statusFilter="RUNNING", maxResults=1000, **token)
        count += len(page["executions"])
        if not page.get("nextToken"):
            return count
        token = {"nextToken": page["nextToken"]}


def settle(server) -> None:
    """Until it has nothing to do: memory that is given back in the background counts as given back."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        before = server.process.cpu_seconds()
        time.sleep(1)
        if server.process.cpu_seconds() - before < 0.02:
            return


def disk_mb(folder: pathlib.Path) -> float:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 2**20


def maps(bench: Bench) -> dict:
    """A distributed map over an array in its input, through children of one Pass state."""
    results: dict = {}
    for name in bench.peers():
        # Both peers take far too long for as many.
        items = bench.arguments.items if name == "firn" else min(bench.arguments.items, 1000)
        with bench.running(name) as server:
            for kind in ("EXPRESS", "STANDARD"):
                if name == "LocalStack" and kind == "EXPRESS":
                    results[name] = {"express": {"left_out": "its parser knows only STANDARD children"}}
                    continue
                arn = server.create(f"map-{kind}", machines.distributed_map(kind))
                if name == "firn":
                    run_map(server, arn, 100)
                results.setdefault(name, {})[kind.lower()] = run = run_map(server, arn, items)
                tell(f"map, {name}, {kind.lower()}: {items:,} items in {run['seconds']:.2f} s")
    return results


def run_map(server, arn: str, items: int) -> dict:
    connection = server.connection()
    cpu, began = server.process.cpu_seconds(), time.monotonic()
    execution = connection.call(
        "StartExecution", stateMachineArn=arn, input="[" + ",".join(["0"] * items) + "]")["executionArn"]
    pause = 0.01
    while (told := connection.call("DescribeExecution", executionArn=execution))["status"] == "RUNNING":
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise RuntimeError(f"{server.name}: the map does not end")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    if told["status"] != "SUCCEEDED":
        raise RuntimeError(f"{server.name}: the map {told['status']}: {told.get('error')} {told.get('cause')}")
    seconds = told["stopDate"] - told["startDate"]
    result = {"items": items, "seconds": seconds, "per_second": items / max(seconds, 1e-3),
              "cpu_us_per_item": (server.process.cpu_seconds() - cpu) / items * 1e6,
              "memory_peak_mb": server.process.memory_mb("VmHWM")}
    if server.name == "firn":
        run = connection.call("ListMapRuns", executionArn=execution)["mapRuns"][0]["mapRunArn"]
        counts = connection.call("DescribeMapRun", mapRunArn=run)["itemCounts"]
        if counts["succeeded"] != items:
            raise RuntimeError(f"of {items} items, {counts}")
    return result


def steps(bench: Bench) -> dict:
    """Durable steps per second: ten states of an execution, ten journalled steps of Restate's handler."""
    count, seconds = 10, bench.arguments.seconds
    results: dict = {}
    with bench.running("firn") as server:
        arn = server.create("ten", machines.passes(count))
        results["firn"] = {"loads": []}
        for clients in bench.arguments.clients:
            load = load_to_end(bench, server, arn, count, clients, "--seconds", str(seconds))
            results["firn"]["loads"].append(load)
            tell(f"steps, firn, {clients} clients: {load['states_per_second']:,.0f}/s")
        arn = server.create("ten-tasks", machines.tasks(count, create_function(server)))
        results["firn, a Lambda function each"] = {
            "loads": [follow_tasks(bench, server, arn, count, clients) for clients in (1, 16)]}
    if not bench.arguments.restate:
        return results
    with bench.running("Restate") as server:
        results["Restate"] = {"loads": []}
        for clients in bench.arguments.clients:
            cpu = server.process.cpu_seconds() + server.service.cpu_seconds()
            load = bench.generate(
                "drive", server.address, "/bench/steps", ["Content-Type: application/json"], str(count),
                "--clients", str(clients), "--seconds", str(seconds), "--warmup", "0.5", "--expect", "45")
            used = server.process.cpu_seconds() + server.service.cpu_seconds() - cpu
            load["states_per_second"] = load["per_second"] * count
            load["cpu_us_per_state"] = used / (load["per_second"] * (load["seconds"] + 0.5)) / count * 1e6
            results["Restate"]["loads"].append(load)
            tell(f"steps, Restate, {clients} clients: {load['states_per_second']:,.0f}/s")
    return results


def percentiles(values: list[float]) -> dict:
    values = sorted(values)
    ranks = {f"p{share}": values[max(0, -(-len(values) * share // 100) - 1)] for share in (50, 90, 99)}
    return {"count": len(values), **ranks, "max": values[-1], "mean": statistics.fmean(values)}


def tell(line: str) -> None:
    print(line, flush=True)


ALL = {section.__name__: section for section in (
    disk, standard, express, steps, transitions, tasks, maps, sleepers, replay)}
