"""What a server may not leave behind: processes, cgroups, network devices, mounts."""

from __future__ import annotations

import os
import time
from pathlib import Path


def descendants(root: int) -> set[int]:
    """All processes below `root`, in any namespace."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [root]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that are still there and not just waiting to be reaped."""
    still = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            still.add(pid)
    return still


def cgroups_of(server: int) -> set[str]:
    """Those of the server with this process id; their names end with it."""
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found |= {os.path.join(folder, n) for n in names if n.startswith("firn-") and n.endswith(f"-{server}")}
    return found


def devices() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def eventually(check, timeout: float = 15):
    """The first falsy answer of `check`, or its last one when time is up."""
    until = time.monotonic() + timeout
    while (answer := check()) and time.monotonic() < until:
        time.sleep(0.05)
    return answer
