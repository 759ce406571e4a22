"""The invoke benchmark: firn, MiniStack and the floor, measured side by side in one run.

Called by `scripts/bench`, which prepares the binaries and the Python environments. Writes a JSON
file with every figure and a Markdown file with the tables. Absolute figures drift with the machine;
the ratios within a run are what to quote.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import io
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::000000000000:role/bench"
HEADERS = [
    # MiniStack and firn both take any signature; the scope names the service and the region.
    "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "X-Amz-Date: 20260101T000000Z",
]
PYTHON_NOOP = "def handler(event, context):\n    return event\n"
NODE_NOOP = "exports.handler = async (event) => event;\n"
PYTHON_SLEEP = (
    "import time\ndef handler(event, context):\n    time.sleep(0.05)\n    return event\n"
)
PYTHON_MODULES = (
    "import sys\n"
    "def handler(event, context):\n"
    "    return {'executable': sys.executable, 'modules': sorted(sys.modules)}\n"
)


def zipped(name: str, source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, source)
    return buffer.getvalue()


def process_tree(pid: int) -> list[int]:
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += process_tree(int(child))
    return found


def resident_mb(pids: list[int]) -> float:
    """Proportional set size of the processes: shared pages count once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def rss_mb(pid: int) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmRSS of process {pid}")


class Server:
    """A server under test: a child process, its address and a boto3 client for it."""

    def __init__(self, name: str, process: subprocess.Popen, address: str, ready_ms: float):
        self.name, self.process, self.address, self.ready_ms = name, process, address, ready_ms
        self.client = boto3.client(
            "lambda",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=120),
        )

    def create(self, name: str, runtime: str, file: str, source: str, **more) -> None:
        module = file.rsplit(".", 1)[0]
        self.client.create_function(
            FunctionName=name,
            Runtime=runtime,
            Role=ROLE,
            Handler=f"{module}.handler",
            Code={"ZipFile": zipped(file, source)},
            MemorySize=256,
            Timeout=60,
            **more,
        )
        self.client.get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def invoke(self, name: str, payload: object) -> object:
        """Without boto3, whose own milliseconds would count as the server's."""
        host, port = self.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        headers = dict(header.split(": ", 1) for header in HEADERS)
        connection.request("POST", invoke_path(name), json.dumps(payload), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200 or answer.getheader("X-Amz-Function-Error"):
            raise RuntimeError(f"{self.name}: {name}: {answer.status} {body!r}")
        return json.loads(body)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_firn(binary: str, data: str) -> Server:
    start = time.perf_counter()
    process = subprocess.Popen(
        [binary, "serve", "--listen", "127.0.0.1:0", "--data", data],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    ready_ms = (time.perf_counter() - start) * 1e3
    address = line.split("http://", 1)[1].split()[0].rstrip("/")
    return Server("firn", process, address, ready_ms)


def start_ministack(python: str) -> Server:
    port = 14566
    environment = dict(os.environ, GATEWAY_PORT=str(port), LAMBDA_EXECUTOR="local", LOG_LEVEL="ERROR")
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(pathlib.Path(python).parent / "ministack")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while True:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=1):
                break
        if process.poll() is not None:
            raise RuntimeError(f"MiniStack ended with {process.returncode}")
        time.sleep(0.002)
    return Server("ministack", process, f"127.0.0.1:{port}", (time.perf_counter() - start) * 1e3)


class Bench:
    def __init__(self, generator: str):
        self.generator = generator

    def load(self, address: str, path: str, clients: int, seconds: float) -> dict:
        command = ["load", "--clients", str(clients), "--seconds", str(seconds), "--warmup", "0.5"]
        return self.run(command, address, path)

    def burst(self, address: str, path: str, requests: int, watch_path: str) -> dict:
        command = ["burst", "--requests", str(requests), "--watch-path", watch_path]
        return self.run(command, address, path)

    def run(self, command: list[str], address: str, path: str) -> dict:
        command = [self.generator, *command, "--addr", address, "--path", path]
        for header in HEADERS:
            command += ["--header", header]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)}: {run.stderr}")
        return json.loads(run.stdout)

    @contextlib.contextmanager
    def floor(self, workers: int, command: list[str], environment: dict):
        options = [f"--env={name}={value}" for name, value in environment.items()]
        process = subprocess.Popen(
            [self.generator, "floor", "--workers", str(workers), *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()
            process.wait()

    def runtime_loop(self, command: list[str], environment: dict) -> dict:
        run = subprocess.run(
            [self.generator, "runtime-loop", "--", *command],
            env=dict(os.environ, **environment),
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(run.stdout)


def invoke_path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations"


def cold_starts(server: Server, name: str, rounds: int) -> list[float]:
    """Milliseconds from request to answer of the first invocation after a configuration change."""
    times = []
    for number in range(rounds):
        server.client.update_function_configuration(
            FunctionName=name, Environment={"Variables": {"ROUND": str(number)}}
        )
        server.client.get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        time.sleep(0.2)
        start = time.perf_counter()
        server.invoke(name, {})
        times.append((time.perf_counter() - start) * 1e3)
    return times


def import_times(executable: str, modules: list[str], rounds: int) -> list[float]:
    """Milliseconds that the bare interpreter takes to import the same modules and exit."""
    importable = [
        name
        for name in modules
        if not name.startswith(("firn_", "__main__", "bootstrap", "index", "_firn", "modules"))
        and "awslambdaric" not in name
    ]
    program = (
        "import importlib\n"
        f"for name in {importable!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: pass\n"
    )
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([executable, "-c", program], check=True)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> dict:
    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)}


def runtime_environment(task: str) -> dict:
    """What firn's Python runtime client finds in an execution environment."""
    return {
        "_HANDLER": "index.handler",
        "LAMBDA_TASK_ROOT": task,
        "LAMBDA_RUNTIME_DIR": str(ROOT / "runtimes/python"),
        "AWS_LAMBDA_FUNCTION_NAME": "noop",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/noop",
        "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
    }


def measure(arguments: argparse.Namespace) -> dict:
    bench = Bench(arguments.generator)
    # Options only: where the binaries and the peer lie says nothing about the measurement.
    command = (
        f"benches/invoke/run.py --rounds {arguments.rounds} --seconds {arguments.seconds:g} "
        f"--cold-rounds {arguments.cold_rounds}"
    )
    results: dict = {"machine": machine(), "command": command}
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    data = tempfile.mkdtemp(prefix="firn-bench-")
    servers = []
    try:
        starts = []
        for number in range(5):
            probe = start_firn(arguments.firn, f"{data}/start-{number}")
            starts.append(probe.ready_ms)
            probe.stop()
        results["firn_ready_ms"] = spread(starts)
        firn = start_firn(arguments.firn, f"{data}/main")
        servers.append(firn)
        time.sleep(2)
        results["firn_idle_rss_mb"] = rss_mb(firn.process.pid)
        results["firn_idle_tree_pss_mb"] = resident_mb(process_tree(firn.process.pid))
        if arguments.ministack:
            servers.append(start_ministack(arguments.ministack))
            results["ministack_ready_ms"] = servers[-1].ready_ms
            time.sleep(2)
            results["ministack_idle_rss_mb"] = rss_mb(servers[-1].process.pid)

        for server in servers:
            server.create("noop-python", "python3.11", "index.py", PYTHON_NOOP)
            server.create("noop-node", "nodejs20.x", "index.js", NODE_NOOP)
            server.create("modules", "python3.11", "modules.py", PYTHON_MODULES)
            for name in ("noop-python", "noop-node"):
                server.invoke(name, {})
        seen = firn.invoke("modules", {})
        executable = seen["executable"] if os.path.exists(seen["executable"]) else python

        task = pathlib.Path(data, "task")
        task.mkdir()
        task.joinpath("index.py").write_text(PYTHON_NOOP)
        client = [executable, str(ROOT / "runtimes/python/bootstrap.py")]
        environment = runtime_environment(str(task))
        warm: dict = {}
        for clients in (1, 8, 64):
            rounds: dict = {}
            for _ in range(arguments.rounds):
                for function in ("noop-python", "noop-node"):
                    for server in servers:
                        rounds.setdefault(f"{server.name} {function}", []).append(
                            bench.load(
                                server.address, invoke_path(function), clients, arguments.seconds
                            )
                        )
                with bench.floor(clients, client, environment) as address:
                    rounds.setdefault("floor python", []).append(
                        bench.load(address, "/", clients, arguments.seconds)
                    )
            warm[str(clients)] = rounds
        results["warm"] = warm
        results["runtime_loop_python"] = bench.runtime_loop(client, environment)

        cold: dict = {}
        for server in servers:
            for function in ("noop-python", "noop-node"):
                cold[f"{server.name} {function}"] = spread(
                    cold_starts(server, function, arguments.cold_rounds)
                )
        cold["python3 -c import"] = spread(
            import_times(executable, seen["modules"], arguments.cold_rounds * 2)
        )
        results["cold_ms"] = cold

        firn.create("sleep50", "python3.11", "index.py", PYTHON_SLEEP)
        results["burst_1000"] = bench.burst(
            firn.address, invoke_path("sleep50"), 1000, "/2015-03-31/functions?MaxItems=10"
        )
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(data, ignore_errors=True)
    return results


def machine() -> dict:
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "python": platform.python_version(),
    }


def p50s(rounds: list[dict]) -> list[float]:
    return [result["latency"]["p50_us"] / 1e3 for result in rounds]


def report(results: dict) -> str:
    facts = results["machine"]
    lines = [
        "# Invoke benchmark",
        "",
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gb']} GB, Linux {facts['kernel']}. Command: `{results['command']}`.",
        "Client, server and functions share the cores. Times in ms; brackets hold the range over the "
        "rounds.",
        "",
        "## Warm invoke",
        "",
        "| clients | what | p50 | p99 | requests/s |",
        "|---|---|---|---|---|",
    ]
    for clients, rounds in results["warm"].items():
        for name, runs in rounds.items():
            p50 = p50s(runs)
            p99 = [run["latency"]["p99_us"] / 1e3 for run in runs]
            rate = [run["per_second"] for run in runs]
            lines.append(
                f"| {clients} | {name} | {median(p50):.3f} ({min(p50):.3f}–{max(p50):.3f}) "
                f"| {median(p99):.3f} | {median(rate):.0f} |"
            )
    single = results["warm"]["1"]
    firn = median(p50s(single["firn noop-python"]))
    loop = results["runtime_loop_python"]["latency"]["p50_us"] / 1e3
    lines += ["", f"- The runtime client's own loop (Python): p50 {loop:.3f} ms; "
              f"the stack adds {firn - loop:.3f} ms."]
    floor = median(p50s(single["floor python"]))
    lines.append(f"- Against the floor (the same client, no sandbox, behind a bare HTTP server): {firn / floor:.2f}x.")
    if "ministack noop-python" in single:
        peer = median(p50s(single["ministack noop-python"]))
        lines.append(f"- Against MiniStack: {peer:.2f} ms / {firn:.3f} ms = {peer / firn:.0f}x faster.")
    lines += ["", "## Cold start to answer", "", "| what | median | range | n |", "|---|---|---|---|"]
    for name, times in results["cold_ms"].items():
        lines.append(
            f"| {name} | {times['median']:.1f} | {times['min']:.1f}–{times['max']:.1f} | {times['n']} |"
        )
    ratio = results["cold_ms"]["firn noop-python"]["median"] / results["cold_ms"]["python3 -c import"]["median"]
    lines += ["", f"- Python cold start / `python3 -c` importing the same modules: {ratio:.2f}x."]
    lines += [
        "",
        "## Server",
        "",
        f"- firn ready in {results['firn_ready_ms']['median']:.1f} ms "
        f"({results['firn_ready_ms']['min']:.1f}–{results['firn_ready_ms']['max']:.1f}), idle RSS "
        f"{results['firn_idle_rss_mb']:.1f} MB (whole process tree, proportional: "
        f"{results['firn_idle_tree_pss_mb']:.1f} MB).",
    ]
    if "ministack_ready_ms" in results:
        lines.append(
            f"- MiniStack ready in {results['ministack_ready_ms']:.0f} ms, idle RSS "
            f"{results['ministack_idle_rss_mb']:.1f} MB."
        )
    burst = results["burst_1000"]
    lines += [
        "",
        "## 1,000 concurrent invokes of a 50 ms function",
        "",
        f"- {burst['latency']['count']} answers, {burst['errors']} errors in {burst['seconds']:.1f} s; "
        f"latency p50 {burst['latency']['p50_us'] / 1e3:.0f} ms, "
        f"max {burst['latency']['max_us'] / 1e3:.0f} ms.",
        f"- ListFunctions meanwhile: p50 {burst['watched']['p50_us'] / 1e3:.1f} ms, "
        f"p99 {burst['watched']['p99_us'] / 1e3:.1f} ms, max {burst['watched']['max_us'] / 1e3:.1f} ms.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", required=True)
    parser.add_argument("--generator", required=True)
    parser.add_argument("--ministack", help="Python of the environment that has MiniStack")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one warm measurement")
    parser.add_argument("--cold-rounds", type=int, default=10)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="path without extension")
    arguments = parser.parse_args()
    results = measure(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
