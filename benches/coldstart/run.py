"""The cold-start benchmark: functions started cold and thawed from their snapshots, and the floor, in one run.

Called by `scripts/bench coldstart`, which prepares the binary and the Python environment. Every figure is the time from
a request to its answer through the whole stack, over one kept-alive connection. Writes a JSON file with every figure and
a Markdown file with the tables. Absolute figures drift with the machine; the ratios within a run are what to quote.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

import packages
import processes
import report
from functions import ALL, Function
from server import Answer, Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTLE_S = 0.05
COMMON = {
    "invoker.idle_timeout_s": 3600,
    # So that only the machine's memory limits how many environments there are.
    "invoker.memory_budget_mb": 4_000_000,
    "invoker.queue_wait_s": 600,
    # A soak starts more than the thousand in ten seconds that a function has by default.
    "invoker.environments_per_10_s": 0,
    "invoker.freeze_grace_ms": 10,
}
COLD = {**COMMON, "snapstart.mode": "aws", "snapstart.parked_per_function": 0}
# `eager` allows snapshots for all runtimes; what is invoked are versions.
THAWED = {**COMMON, "snapstart.mode": "eager", "snapstart.parked_per_function": 0}
PARKED = {**THAWED, "snapstart.parked_per_function": 2}
LATENCY_MS = 5
DISTANT = {**THAWED, "snapstart.simulate_latency_ms": LATENCY_MS}


class WrongStart(Exception):
    """A request was served in another way than the one that is measured."""


class Bench:
    def __init__(self, arguments: argparse.Namespace, data: pathlib.Path):
        self.arguments = arguments
        self.data = data
        self.functions = [f for f in ALL if not arguments.only or f.name in arguments.only]
        self.packages: dict[str, bytes] = {}
        self.results: dict = {"functions": {}, "left_out": {}}
        # The processes of the last environment that was measured.
        self.last: list[int] = []

    def server(self, settings: dict, data: str) -> Server:
        return Server(self.arguments.firn, self.data / data, settings)

    def build(self) -> None:
        for function in list(self.functions):
            try:
                self.packages[function.name] = packages.build(function.source, self.arguments.packages)
            except packages.Missing as err:
                self.leave_out(function, str(err))

    def leave_out(self, function: Function, reason: str) -> None:
        print(f"{function.name} is left out: {reason}", file=sys.stderr)
        self.results["left_out"][function.name] = reason
        self.functions.remove(function)

    def note(self, function: Function, mode: str, figures: dict) -> None:
        self.results["functions"].setdefault(function.name, {})[mode] = figures
        times = figures.get("ms")
        text = f"p50 {times['p50']:.2f} p99 {times['p99']:.2f} ms" if times else json.dumps(figures)
        print(f"{function.name:20} {mode:12} {text}", file=sys.stderr)

    # Each mode gives the next invocation the start that is measured.

    def cold(self) -> None:
        with self.server(COLD, "cold") as server:
            for function in list(self.functions):
                server.deploy(function, self.packages[function.name], snapshot=False)
                try:
                    server.connection.invoke(function.name, function.event)
                except RuntimeError as err:
                    self.leave_out(function, str(err)[:300])
                    continue
                self.note(function, "warm", self.measure(server, function, function.name, "warm", lambda: None, look=False))
                end = lambda: server.end_environments(function.name)  # noqa: B023, E731
                self.note(function, "cold", self.measure(server, function, function.name, "cold", end))

    def thawed(self) -> None:
        with self.server(THAWED, "snap") as server:
            for function in list(self.functions):
                made = server.deploy(function, self.packages[function.name], snapshot=True)
                self.note(function, "snapshot", made)
                if made["optimization"] != "On":
                    self.leave_out(function, f"no snapshot, {made['state']}: {made['reason']}")
                    continue
                name = f"{function.name}:1"
                # The first restore records the pages that the next ones are given at once.
                server.connection.invoke(name, function.event)

                def end() -> None:
                    server.end_environments(function.name)  # noqa: B023

                def drop() -> None:
                    end()
                    server.drop_images()
                    evict(self.data / "snap/snapshots")

                self.note(function, "l1_hot", self.measure(server, function, name, "restored", end))
                self.note(function, "l1_cold", self.measure(server, function, name, "restored", drop))

    def parked(self) -> None:
        with self.server(PARKED, "snap") as server:
            for function in self.functions:
                name = f"{function.name}:1"

                def is_parked() -> bool:
                    return server.parked(function.name)[0] > 0  # noqa: B023

                # How many are kept depends on how often they were wanted.
                for _ in range(3):
                    server.connection.invoke(name, function.event)
                    server.end_environments(function.name)
                    time.sleep(10 * SETTLE_S)
                server.connection.invoke(name, function.event)

                def park() -> None:
                    server.end_environments(function.name)  # noqa: B023
                    wait_until(is_parked)  # noqa: B023

                had = server.parked(function.name)[1]
                figures = self.measure(server, function, name, "restored", park, look=False)
                figures["parked_hits"] = server.parked(function.name)[1] - had
                self.note(function, "parked", figures)

    def distant(self) -> None:
        """Nothing but the object store has the image: the local tier is emptied before every restore."""
        for function in self.functions:
            name = f"{function.name}:1"
            samples = []
            for _ in range(self.arguments.distant_runs):
                shutil.rmtree(self.data / "snap/snapshot-cache", ignore_errors=True)
                with self.server(DISTANT, "snap") as server:
                    # Not the first request to this process, but the first for an image.
                    server.connection.exchange("GET", "/2015-03-31/functions?MaxItems=1")
                    samples.append(self.sample(server, function, name, "restored"))
            self.note(function, "l3", summary(samples))

    def measure(self, server: Server, function: Function, name: str, kind: str, prepare, look: bool = True) -> dict:
        """`look` at the processes, which tells nothing where others are thawed in the background."""
        samples, discarded = [], 0
        self.last = []
        while len(samples) < self.arguments.runs:
            prepare()
            if look:
                # Ending takes a while, and would be measured with what comes next.
                wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in self.last))
            time.sleep(SETTLE_S)
            try:
                samples.append(self.sample(server, function, name, kind, look))
            except WrongStart as err:
                # On a busy machine an environment may not be idle yet, or one too many be there.
                discarded += 1
                if discarded > self.arguments.runs:
                    raise
                print(err, file=sys.stderr)
        return {**summary(samples), "discarded": discarded}

    def sample(self, server: Server, function: Function, name: str, kind: str, look: bool = True) -> dict:
        before = set(processes.of_environments(server.pid)) if look else set()
        answer = server.connection.invoke(name, function.event)
        if answer.kind != kind:
            raise WrongStart(f"{name}: wanted a {kind} environment, got a {answer.kind} one: {answer.report}")
        sample = {"ms": answer.ms, "report": answer.report}
        if look:
            self.last = [pid for pid in processes.of_environments(server.pid) if pid not in before]
            for pid in self.last:
                for key, value in (processes.memory(pid) | processes.faults(pid)).items():
                    sample[key] = sample.get(key, 0) + value
        return sample

    # Many environments.

    def idle_memory(self) -> None:
        for settings, data, mode in ((COLD, "cold", "idle_cold"), (THAWED, "snap", "idle_thawed")):
            for function in self.functions:
                figures = self.results["functions"][function.name]
                room_kb = 0.6 * available_kb() / max(1, figures["cold"]["rss_kb"]["p50"])
                count = max(1, min(self.arguments.idle, function.many, int(room_kb)))
                name = function.name if mode == "idle_cold" else f"{function.name}:1"
                # All have to be there before the first is free again.
                hold = 1000 + 3 * count * figures["cold"]["ms"]["p50"] / (os.cpu_count() or 1)
                with self.server(settings, data) as server:
                    server.connection.invoke(name, function.event)
                    alone = processes.memory(server.pid)
                    answers = server.together(name, {**function.event, "sleep_ms": int(hold)}, count)
                    failed = [str(a) for a in answers if isinstance(a, Exception)]
                    if failed:
                        raise RuntimeError(f"{function.name}: {len(failed)} of {count} failed: {failed[0]}")
                    time.sleep(1)
                    pids = processes.of_environments(server.pid)
                    sizes = [processes.memory(pid) for pid in pids]
                    per = {key: sum(size[key] for size in sizes) / len(sizes) for key in sizes[0]}
                    grown = processes.memory(server.pid)["private_kb"] - alone["private_kb"]
                    self.note(function, mode, {**per, "environments": len(pids), "server_growth_kb": grown})

    def parallel(self) -> None:
        with self.server(THAWED, "snap") as server:
            for function in self.functions:
                name = f"{function.name}:1"
                server.connection.invoke(name, function.event)
                server.end_environments(function.name)
                count = max(1, min(self.arguments.parallel, room_for(self.results, function)))
                start = time.perf_counter()
                answers = server.together(name, {**function.event, "sleep_ms": 3000 + 20 * count}, count)
                took = time.perf_counter() - start
                kinds: dict[str, int] = {}
                for answer in answers:
                    kind = answer.kind if isinstance(answer, Answer) else "failed"
                    kinds[kind] = kinds.get(kind, 0) + 1
                errors = sorted({str(a)[:300] for a in answers if isinstance(a, Exception)})
                figures = {"restores": count, "kinds": kinds, "seconds": took, "errors": errors}
                self.note(function, "parallel", figures)
                server.end_environments(function.name, at_least=0)

    def soak(self, count: int) -> None:
        function = self.functions[0]
        name = f"{function.name}:1"
        with self.server(THAWED, "snap") as server:
            # What grows once and then stays is not a leak.
            for _ in range(100):
                server.connection.invoke(name, function.event)
                server.end_environments(function.name)
            time.sleep(2)
            points = [{"restores": 0, **processes.held(server.pid)}]
            failures = 0
            start = time.perf_counter()
            for done in range(1, count + 1):
                try:
                    failures += server.connection.invoke(name, function.event).kind != "restored"
                except RuntimeError as err:
                    failures += 1
                    print(f"restore {done}: {err}", file=sys.stderr)
                server.end_environments(function.name)
                if done % max(1, count // 10) == 0:
                    time.sleep(2)
                    points.append({"restores": done, **processes.held(server.pid)})
                    print(f"soak {done}: {json.dumps(points[-1])}", file=sys.stderr)
            seconds = time.perf_counter() - start
        self.results["soak"] = {"function": function.name, "failures": failures, "seconds": seconds, "points": points}

    def floor(self) -> None:
        """A fork of a warm Python process, asked over a Unix socket."""
        function = next(f for f in ALL if f.name == "python-boto3")
        package = self.data / "zygote"
        archive = self.arguments.packages / "floor.zip"
        archive.write_bytes(packages.build(function.source, self.arguments.packages))
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(package)
        archive.unlink()
        path = str(self.data / "zygote.sock")
        python = shutil.which("python3", path="/usr/bin") or sys.executable
        script = str(pathlib.Path(__file__).with_name("zygote.py"))
        process = subprocess.Popen([python, "-S", script, str(package), path], stdout=subprocess.PIPE, text=True)
        try:
            process.stdout.readline()
            samples = []
            for _ in range(max(50, self.arguments.runs)):
                time.sleep(SETTLE_S / 5)
                start = time.perf_counter()
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(path)
                    connection.sendall(b"{}")
                    answer = connection.recv(65536)
                samples.append({"ms": (time.perf_counter() - start) * 1e3})
                if b"s3" not in answer:
                    raise RuntimeError(f"the zygote answered {answer!r}")
        finally:
            process.terminate()
            process.wait()
        self.results["floor"] = summary(samples)


def room_for(results: dict, function: Function) -> int:
    """How many thawed environments fit into half of the memory that is free."""
    each = results["functions"][function.name]["l1_hot"].get("anonymous_kb", {"p50": 20_000})["p50"]
    return int(0.5 * available_kb() / max(each, 1))


def available_kb() -> int:
    return int(processes.fields(pathlib.Path("/proc/meminfo"), "MemAvailable")["MemAvailable"].split()[0])


def summary(samples: list[dict]) -> dict:
    keys = sorted({key for sample in samples for key in sample if key != "report"})
    figures = {key: spread([sample[key] for sample in samples if key in sample]) for key in keys}
    for name in ("Restore Duration", "Init Duration", "Duration"):
        times = [s["report"][name] for s in samples if name in s.get("report", {})]
        if times:
            figures["report_" + name.lower().replace(" ", "_") + "_ms"] = spread(times)
    return figures


def spread(values: list[float]) -> dict:
    ordered = sorted(values)
    # Nearest rank: of 50 values the 99th percentile is the largest.
    rank = lambda share: ordered[max(0, -(-len(ordered) * share // 100) - 1)]  # noqa: E731
    return {"p50": rank(50), "p99": rank(99), "min": ordered[0], "max": ordered[-1], "n": len(ordered)}


def evict(folder: pathlib.Path) -> None:
    """Drops the files of a folder from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                file = os.open(path, os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


def wait_until(met, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


def machine() -> dict:
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip() + (" with changes" if changed.stdout.strip() else ""),
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", required=True)
    parser.add_argument("--packages", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, help="where the servers keep their data [a temporary folder]")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--distant-runs", type=int, default=50)
    parser.add_argument("--idle", type=int, default=100, help="environments whose memory is measured; 0 is none")
    parser.add_argument("--parallel", type=int, default=200, help="restores at once; 0 is none")
    parser.add_argument("--soak", type=int, default=0, help="restores in a row, looking for leaks")
    parser.add_argument("--only", action="append", help="a function's name; repeatable")
    parser.add_argument("--modes", default="cold,thawed,parked,distant,floor")
    arguments = parser.parse_args()

    command = "scripts/bench coldstart"
    for name in ("runs", "distant_runs", "idle", "parallel", "soak"):
        command += f" --{name.replace('_', '-')} {getattr(arguments, name)}"
    data = pathlib.Path(tempfile.mkdtemp(prefix="firn-coldstart-", dir=arguments.data))
    bench = Bench(arguments, data)
    bench.results |= {"machine": machine(), "command": command}
    try:
        bench.build()
        for mode in arguments.modes.split(","):
            getattr(bench, mode)()
        if "thawed" in arguments.modes:
            if arguments.idle:
                bench.idle_memory()
            if arguments.parallel:
                bench.parallel()
            if arguments.soak:
                bench.soak(arguments.soak)
    finally:
        # What was measured before something broke is kept.
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".json").write_text(json.dumps(bench.results, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(report.render(bench.results))
        shutil.rmtree(data, ignore_errors=True)
    print(arguments.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
