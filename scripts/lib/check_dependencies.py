#!/usr/bin/env python3
"""Checks licences, sources and bans of all dependencies against deny.toml.

The part of `cargo deny check` that needs no network and no ten-minute build of a tool, so that CI always runs it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    sys.exit("check_dependencies.py needs Python 3.11 or newer")

ROOT = Path(__file__).resolve().parents[2]
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Evaluates an SPDX expression: AND, OR, WITH, parentheses, and the old slash for OR."""
    text = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|[^\s()]+", text)
    at = 0

    def term() -> bool:
        nonlocal at
        token = tokens[at]
        at += 1
        if token == "(":
            value = either()
            at += 1
            return value
        name = token
        if at < len(tokens) and tokens[at] == "WITH":
            name = f"{token} WITH {tokens[at + 1]}"
            at += 2
        return name in allowed

    def both() -> bool:
        nonlocal at
        value = term()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            value = term() and value
        return value

    def either() -> bool:
        nonlocal at
        value = both()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            value = both() or value
        return value

    return either()


def main() -> int:
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(policy["licenses"]["allow"])
    excepted = {e["crate"]: set(e["allow"]) for e in policy["licenses"].get("exceptions", [])}
    banned = {b["crate"] for b in policy["bans"].get("deny", [])}
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, check=True, capture_output=True,
        text=True).stdout)
    told: list[str] = []
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if package["source"] not in (None, CRATES_IO):
            told.append(f"{name}: comes from {package['source']}, not from the crate registry")
        if package["name"] in banned:
            told.append(f"{name}: is banned by deny.toml")
        if not licence:
            told.append(f"{name}: states no licence")
        elif not satisfied(licence, allowed | excepted.get(package["name"], set())):
            told.append(f"{name}: licence {licence} is not in deny.toml's list")
    print("\n".join(told) or f"{len(metadata['packages'])} packages: licences and sources are within deny.toml")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
