"""How much of what was recorded on AWS firn answers in the same way: a table by file.

    scripts/fidelity            the table, and each case that does not match, with its reason
    scripts/fidelity -v NAME    how the cases whose id holds NAME differ
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from recorded import SLOW, SLOWLY, replay  # noqa: E402
from server import Server  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[1] / "golden/aws"
PATIENCE_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", metavar="NAME", help="show the differences of cases whose id holds NAME")
    chosen = parser.parse_args().verbose
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    steps = json.loads((GOLDEN / "steps.json").read_text())
    reasons = dict(line.split("\t", 1) for line in (GOLDEN / "not-yet.txt").read_text().splitlines()
                   if line and not line.startswith("#"))
    counts: dict[str, collections.Counter] = {}
    told = []
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory) / "data").start()
        slow = Server(Path(directory) / "slow", env=SLOWLY).start()
        accounts = (str(n) for n in itertools.count(400_000_000_000))
        for file in sorted(GOLDEN.glob("*.jsonl")):
            cases = [case for case in map(json.loads, file.read_text().splitlines()) if "calls" in case]
            if not cases:
                continue
            count = counts[file.name] = collections.Counter()
            for case in cases:
                name = case["id"]
                if chosen and chosen not in name:
                    continue
                count["cases"] += 1
                if not case["calls"] and name not in steps:
                    count["no calls"] += 1
                    differences = ["only answers are recorded, no calls"]
                else:
                    differences = patiently(slow if name in SLOW else server, accounts, case, steps.get(name))
                    count["matched"] += not differences
                if differences:
                    told.append((name, reasons.get(name, "NOT LISTED"), differences))
        server.stop()
        slow.stop()
    for name, reason, differences in told:
        print(f"{name}\n    {reason.strip()}")
        if chosen:
            print(*(f"    - {line}" for line in differences), sep="\n")
    print(f"\n{'file':24} {'cases':>6} {'with calls':>11} {'matched':>8} {'share':>7}")
    for file, count in counts.items():
        callable_cases = count["cases"] - count["no calls"]
        share = count["matched"] / callable_cases if callable_cases else 0
        print(f"{file:24} {count['cases']:6} {callable_cases:11} {count['matched']:8} {share:7.1%}")
    return int(any(reason == "NOT LISTED" for _, reason, _ in told))


def patiently(server, accounts, case: dict, steps: list | None) -> list[str]:
    """A case whose reading takes too long to find counts as one that does not match."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(replay, server, accounts, case, steps)
        try:
            return running.result(PATIENCE_SECONDS)
        except concurrent.futures.TimeoutError:
            return [f"no reading found within {PATIENCE_SECONDS} s"]


if __name__ == "__main__":
    sys.exit(main())
