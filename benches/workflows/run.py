"""The workflows benchmark: executions started, run, slept and recovered, beside MiniStack, LocalStack and Restate.

Called by `scripts/bench`. A section that fails is reported as failed, the others are measured all the same, and the exit
status says so. Absolute figures drift with the machine; the ratios within a run are what to quote.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report  # noqa: E402
import sections  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def machine() -> dict:
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip(), "load_before": os.getloadavg()[0],
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", required=True)
    parser.add_argument("--generator", required=True)
    parser.add_argument("--ministack", help="Python of the environment that has MiniStack")
    parser.add_argument("--localstack", help="Python of the environment that has LocalStack")
    parser.add_argument("--restate", type=pathlib.Path, help="node_modules with Restate's server and SDK")
    parser.add_argument("--only", action="append", choices=sections.ALL, help="one section; repeatable")
    parser.add_argument("--seconds", type=float, default=5, help="length of one load")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--sleepers", type=int, default=1_000_000)
    parser.add_argument("--replayed", type=int, default=5_000, help="executions of the replay section")
    parser.add_argument("--items", type=int, default=100_000, help="items of the distributed maps")
    parser.add_argument("--transitions", type=int, default=4_000, help="executions to count CPU over")
    parser.add_argument("--dir", help="where the data goes; the disk to measure")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="path without extension")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    # Servers are ended on the way out, also when somebody ends the benchmark.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: dict = {"machine": machine(), "sections": {}, "failed": {}}
    kept = ("only", "seconds", "clients", "sleepers", "replayed", "items", "transitions")
    results["options"] = {name: getattr(given, name) for name in kept}
    for name, section in sections.ALL.items():
        if given.only and name not in given.only:
            continue
        sections.tell(f"== {name}")
        with tempfile.TemporaryDirectory(prefix="firn-workflows-", dir=given.dir, ignore_cleanup_errors=True) as folder:
            try:
                results["sections"][name] = section(sections.Bench(given, pathlib.Path(folder)))
            except Exception as error:  # noqa: BLE001 - whatever it was, the other sections are worth having
                traceback.print_exc()
                results["failed"][name] = f"{type(error).__name__}: {error}"
        write(results, given.out)
    print(given.out.with_suffix(".md").read_text())
    return 1 if results["failed"] else 0


def write(results: dict, out: pathlib.Path) -> None:
    """After every section, so that a run that is cut short leaves what it has."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(report.report(results))


if __name__ == "__main__":
    sys.exit(main())
