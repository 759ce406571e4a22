"""What the kernel says about the processes of a server and of its environments."""

from __future__ import annotations

import contextlib
import os
import pathlib

GONE = (FileNotFoundError, ProcessLookupError)
PROC = pathlib.Path("/proc")


def tree(pid: int) -> list[int]:
    found = [pid]
    for task in (PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(*GONE):
            for child in task.read_text().split():
                found += tree(int(child))
    return found


def of_environments(server: int) -> list[int]:
    """The processes of functions: in a pid namespace of their own, and not its init, nor the one that waits in a
    prepared environment to become the function's."""
    found = []
    for pid in tree(server):
        with contextlib.suppress(*GONE):
            inner = fields(PROC / str(pid) / "status", "NSpid")["NSpid"].split()
            waits = (PROC / str(pid) / "comm").read_text().strip() == "init"
            if len(inner) > 1 and inner[-1] != "1" and not waits:
                found.append(pid)
    return found


def fields(path: pathlib.Path, *names: str) -> dict[str, str]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[name] = value.strip()
    return found


def memory(pid: int) -> dict[str, int]:
    """In KB. Pages of an image in the server's memory count as private as long as only one process maps them, which
    anonymous ones do not: those are the process's own copies."""
    sizes = fields(PROC / str(pid) / "smaps_rollup", "Rss", "Pss", "Private_Clean", "Private_Dirty", "Anonymous")
    sizes = {name: int(value.split()[0]) for name, value in sizes.items()}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {"rss_kb": sizes["Rss"], "pss_kb": sizes["Pss"], "private_kb": private, "anonymous_kb": sizes["Anonymous"]}


def faults(pid: int) -> dict[str, int]:
    """Page faults since the process began; major ones had to wait for the disk."""
    after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return {"minor_faults": int(after_name[7]), "major_faults": int(after_name[9])}


def held(server: int) -> dict[str, int]:
    """Everything that could leak: of the server, of its spawner (its first child), of the whole machine, which should
    have nothing else to do meanwhile."""
    pids = tree(server)
    spawner = pids[1]
    namespaces, mounts = set(), {}
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(*GONE, PermissionError):
            for kind in (process / "ns").iterdir():
                namespaces.add(os.readlink(kind))
            mount_space = os.readlink(process / "ns/mnt")
            if mount_space not in mounts:
                mounts[mount_space] = len((process / "mountinfo").read_text().splitlines())
    return {
        "descriptors": len(os.listdir(PROC / str(server) / "fd")),
        "spawner_descriptors": len(os.listdir(PROC / str(spawner) / "fd")),
        "anonymous_kb": memory(server)["anonymous_kb"],
        "spawner_anonymous_kb": memory(spawner)["anonymous_kb"],
        "threads": int(fields(PROC / str(server) / "status", "Threads")["Threads"]),
        "processes": len(pids),
        "processes_of_the_machine": len(list(PROC.glob("[0-9]*"))),
        "namespaces": len(namespaces),
        "mounts": sum(mounts.values()),
        "control_groups": sum(len(folders) for _, folders, _ in os.walk("/sys/fs/cgroup")),
        "network_links": len(os.listdir("/sys/class/net")),
        "shared_memory_kb": int(fields(PROC / "meminfo", "Shmem")["Shmem"].split()[0]),
    }
