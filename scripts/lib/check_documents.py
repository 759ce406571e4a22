#!/usr/bin/env python3
"""Checks that the documents say what is true: the table of operations, links, and ARCHITECTURE.md's length."""

from __future__ import annotations

import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    sys.exit("check_documents.py needs Python 3.11 or newer")

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = ROOT / "docs/operations/coverage.md"
S3 = ROOT / "crates/s3/src/api.rs"
LONGEST_ARCHITECTURE = 300


def coverage() -> list[str]:
    """One row per served operation, and no other row."""
    served = {(service, name) for service, table in
              tomllib.loads((ROOT / "models/operations.toml").read_text()).items() for name in table["operations"]}
    # The operations of S3 come from a library, so its table is the list.
    for method in re.findall(r"^    (\w+): \w+Input => ", S3.read_text(), re.MULTILINE):
        served.add(("s3", "".join(word.capitalize() for word in method.split("_"))))
    rows: list[tuple[str, str]] = []
    service = ""
    for line in COVERAGE.read_text().splitlines():
        if found := re.match(r"## .*\(`([\w-]+)`\)", line):
            service = found.group(1)
        elif found := re.match(r"\| (\w+) \|", line):
            if found.group(1) != "Operation":
                rows.append((service, found.group(1)))
    told = [f"coverage.md: no row for {s} {o}" for s, o in sorted(served - set(rows))]
    told += [f"coverage.md: {s} {o} is not in models/operations.toml" for s, o in sorted(set(rows) - served)]
    told += [f"coverage.md: {s} {o} has more than one row" for s, o in sorted(set(rows)) if rows.count((s, o)) > 1]
    return told


def documents() -> list[Path]:
    hidden = (".", "target", "node_modules")
    found = [p for p in ROOT.glob("*.md")]
    for folder in ("benches", "crates", "docs", "examples", "runtimes", "scripts", "tests"):
        found += [p for p in (ROOT / folder).rglob("*.md")
                  if not any(part.startswith(hidden) for part in p.relative_to(ROOT).parts)]
    return sorted(found)


def links() -> list[str]:
    """Relative links lead to something."""
    told = []
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            if re.match(r"[a-z]+:|#", target):
                continue
            if not (document.parent / target.partition("#")[0]).exists():
                told.append(f"{document.relative_to(ROOT)}: {target} does not exist")
    return told


def lengths() -> list[str]:
    lines = len((ROOT / "ARCHITECTURE.md").read_text().splitlines())
    return [f"ARCHITECTURE.md has {lines} lines; its readers need fewer than {LONGEST_ARCHITECTURE}"] \
        if lines >= LONGEST_ARCHITECTURE else []


if __name__ == "__main__":
    problems = coverage() + links() + lengths()
    print("\n".join(problems) or f"{len(documents())} documents agree with the repository")
    sys.exit(1 if problems else 0)
