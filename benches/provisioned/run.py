"""The benchmark of provisioned concurrency: a step load up to the count, beside the same step on cold starts.

Called by `scripts/bench provisioned`. A step is so many invokes sent at once, each over a connection of its own; each
runs 50 ms, so that none can serve two. Counted are the answers whose REPORT line has an init, and the INIT_START lines
of the log. Writes a JSON file with every figure and a Markdown file with the tables.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import statistics
import sys
import tempfile
import time
import zipfile

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/coldstart"))

from run import machine  # noqa: E402
from server import ROLE, Server  # noqa: E402

SOURCE = """
import json, time, urllib.request, decimal, logging
def handler(event, context):
    time.sleep(0.05)
    return 1
"""
NAME = "step"


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", SOURCE)
    return buffer.getvalue()


def deploy(server: Server) -> str:
    server.client.create_function(
        FunctionName=NAME, Runtime="python3.12", Role=ROLE, Handler="app.handler", Code={"ZipFile": package()},
        MemorySize=128, Timeout=60,
    )
    server.client.get_waiter("function_active_v2").wait(FunctionName=NAME, WaiterConfig={"Delay": 0.1})
    return server.client.publish_version(FunctionName=NAME)["Version"]


def provision(server: Server, version: str, count: int) -> float:
    """Seconds until all are ready."""
    began = time.perf_counter()
    place = {"FunctionName": NAME, "Qualifier": version}
    server.client.put_provisioned_concurrency_config(**place, ProvisionedConcurrentExecutions=count)
    while (found := server.client.get_provisioned_concurrency_config(**place))["Status"] != "READY":
        if found["Status"] == "FAILED":
            raise RuntimeError(found["StatusReason"])
        time.sleep(0.01)
    return time.perf_counter() - began


def init_starts(server: Server) -> int:
    logs = boto3.client("logs", endpoint_url=f"http://{server.address}", region_name="us-east-1",
                        aws_access_key_id="test", aws_secret_access_key="test")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{NAME}",
                                                             filterPattern="INIT_START")
    return sum(len(page["events"]) for page in pages)


def step(server: Server, function: str, count: int) -> dict:
    answers = server.together(function, {}, count)
    failed = [repr(answer) for answer in answers if isinstance(answer, Exception)]
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} failed: {failed[0]}")
    return {"ms": [answer.ms for answer in answers], "cold": sum(answer.kind == "cold" for answer in answers)}


def measure(server: Server, counts: list[int], rounds: int) -> list[dict]:
    version, results = deploy(server), []
    for count in counts:
        ready_s = provision(server, version, count)
        starts = init_starts(server)
        warm = [step(server, f"{NAME}:{version}", count) for _ in range(rounds)]
        result = {"count": count, "ready_s": ready_s, "provisioned": warm,
                  "init_starts": init_starts(server) - starts}
        server.client.delete_provisioned_concurrency_config(FunctionName=NAME, Qualifier=version)
        cold = []
        for _ in range(max(1, rounds // 5)):
            cold.append(step(server, NAME, count))
            server.end_environments(NAME)
        result["on_demand"] = cold
        results.append(result)
        print(f"{count}: ready in {ready_s:.2f} s, {sum(one['cold'] for one in warm)} cold starts", file=sys.stderr)
    return results


def quantile(steps: list[dict], share: float) -> float:
    times = sorted(ms for one in steps for ms in one["ms"])
    return times[min(len(times) - 1, int(len(times) * share))]


def render(results: dict) -> str:
    facts = results["machine"]
    lines = [
        "# Provisioned concurrency",
        "",
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, "
        f"Linux {facts['kernel']}, load {facts['load_before']:.2f} before. Command: `{results['command']}`.",
        "So many invokes sent at once, each of 50 ms; request to answer, the 50 ms included. Client, server and functions "
        "share the cores.",
        "",
        "| count | ready after | steps | cold starts | p50 | p99 | cold starts of the same step on demand | p50 | p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results["steps"]:
        warm, cold = one["provisioned"], one["on_demand"]
        invokes = sum(len(step["ms"]) for step in warm)
        of = sum(len(step["ms"]) for step in cold)
        lines.append(
            f"| {one['count']} | {one['ready_s']:.2f} s | {len(warm)} | "
            f"{sum(step['cold'] for step in warm)} of {invokes} ({one['init_starts']} INIT_START) | "
            f"{quantile(warm, 0.5):.1f} ms | {quantile(warm, 0.99):.1f} ms | "
            f"{sum(step['cold'] for step in cold)} of {of} | {quantile(cold, 0.5):.1f} ms | {quantile(cold, 0.99):.1f} ms |"
        )
    medians = [statistics.median(step["ms"]) for one in results["steps"] for step in one["provisioned"]]
    lines += ["", f"The slowest step's median: {max(medians):.1f} ms."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--counts", default="1,5,10,20,50")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    command = f"scripts/bench provisioned --counts {arguments.counts} --rounds {arguments.rounds}"
    results = {"machine": machine(), "command": command}
    with tempfile.TemporaryDirectory(prefix="firn-bench-") as folder:
        settings = {"invoker.account_concurrency": 2000}
        with Server(arguments.firn, pathlib.Path(folder) / "data", settings) as server:
            counts = [int(count) for count in arguments.counts.split(",")]
            results["steps"] = measure(server, counts, arguments.rounds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1))
    text = render(results)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
