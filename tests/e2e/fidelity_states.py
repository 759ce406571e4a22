"""How much of what was recorded of Step Functions on AWS firn answers in the same way: a table by file.

    scripts/fidelity states              the table, and each case that does not match, with its reason
    scripts/fidelity states -v NAME      how the cases whose id holds NAME differ
    scripts/fidelity states -g FILE      only the cases of this file
    scripts/fidelity states -d           how all cases differ that do not match
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from recorded_states import GOLDEN, Verdict, load, mock_settings, needs, not_yet, replay, steps  # noqa: E402
from server import Server  # noqa: E402

PATIENCE_SECONDS = 240
AT_ONCE = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", metavar="NAME", help="show the differences of cases whose id holds NAME")
    parser.add_argument("-g", "--group", metavar="FILE", help="only the cases of this file")
    parser.add_argument("-d", "--differences", action="store_true", help="show the differences of all cases")
    parser.add_argument("-s", "--skipped", action="store_true", help="show differences under skipped paths, too")
    chosen = parser.parse_args()
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    written, reasons = steps(), not_yet()
    groups = {name: {i: c for i, c in cases.items() if not chosen.verbose or chosen.verbose in i}
              for name, cases in load().items() if chosen.group in (None, name)}
    counts: dict[str, collections.Counter] = {}
    told: list[tuple[str, str, str, list[str]]] = []
    differing_where_skipped = 0
    accounts = (str(n) for n in itertools.count(500_000_000_000))
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory) / "data", env=mock_settings()).start()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {}
            for group, cases in groups.items():
                for name, case in cases.items():
                    calls = written.get(name) or case["calls"]
                    if calls and not needs(case, calls):
                        account = itertools.repeat(next(accounts))
                        running[name] = pool.submit(safely, server, account, case, written.get(name))
            for group, cases in groups.items():
                count = counts[group] = collections.Counter()
                for name, case in cases.items():
                    calls = written.get(name) or case["calls"]
                    count["cases"] += 1
                    lacking = needs(case, calls)
                    if lacking:
                        count["needs"] += 1
                        continue
                    if not calls:
                        count["no calls"] += 1
                        told.append((group, name, reasons.get(name, "NOT LISTED"), ["only answers are recorded, no calls"]))
                        continue
                    verdict = running[name].result()
                    count["matched"] += verdict.passed
                    differing_where_skipped += bool(verdict.skipped)
                    if verdict.passed and name in reasons:
                        told.append((group, name, "LISTED, BUT IT MATCHES", []))
                    if not verdict.passed:
                        told.append((group, name, reasons.get(name, "NOT LISTED"), verdict.told))
                    elif chosen.skipped and verdict.skipped:
                        told.append((group, name, "differs under skipped paths only", verdict.skipped))
        server.stop()
    for group, name, reason, differences in told:
        print(f"{group}: {name.split('::', 1)[-1]}\n    {reason.strip()}")
        if chosen.verbose or chosen.group or chosen.skipped or chosen.differences:
            print(*(f"    - {line[:1500]}" for line in differences), sep="\n")
    show(counts)
    print(f"\n{differing_where_skipped} of those that match differ under a path that the recording marks as skipped")
    return int(any(reason in ("NOT LISTED", "LISTED, BUT IT MATCHES") for _, _, reason, _ in told))


def show(counts: dict[str, collections.Counter]) -> None:
    """`share` is of the cases that need no service which firn lacks, those without calls among them."""
    print(f"\n{'file':24} {'cases':>6} {'with calls':>11} {'need others':>12} {'matched':>8} {'failed':>7} {'share':>7}")
    total: collections.Counter = collections.Counter()
    for count in counts.values():
        total += count
    for name, count in [*counts.items(), ("all", total)]:
        counted = count["cases"] - count["needs"]
        share = count["matched"] / counted if counted else 1
        print(f"{name:24} {count['cases']:6} {count['cases'] - count['no calls']:11} {count['needs']:12} "
              f"{count['matched']:8} {counted - count['matched']:7} {share:7.1%}")


def safely(server, account, case: dict, written: list | None) -> Verdict:
    """A case that breaks the replay counts as one that does not match."""
    began = time.monotonic()
    try:
        return replay(server, account, case, written)
    except Exception as error:  # noqa: BLE001
        return Verdict([f"the replay ended after {time.monotonic() - began:.0f} s: {type(error).__name__}: {error}"], [])


if __name__ == "__main__":
    sys.exit(main())
