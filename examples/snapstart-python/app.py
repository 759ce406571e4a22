"""A function that is slow to start, and hooks around the snapshot that spares it that."""

import os
import time
import uuid

from snapshot_restore_py import register_after_restore, register_before_snapshot

started = time.time()
# What a real function does here: imports, clients, models, tables.
squares = {n: n * n for n in range(2_000_000)}

environment = {"id": None, "restored": None}


@register_before_snapshot
def leave_nothing_personal():
    """Runs once, when a version is published: the place to close connections and to forget secrets."""
    print(f"init took {time.time() - started:.2f} s; the snapshot is taken now")


@register_after_restore
def become_someone():
    """Runs in every environment that is made from the snapshot: the place for what must not be shared."""
    environment.update(id=str(uuid.uuid4()), restored=time.time())


def handler(event, context):
    n = int(event.get("n", 1999))
    restored = environment["restored"]
    return {
        "square": squares.get(n),
        "initialization": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "environment": environment["id"],
        "secondsSinceInit": round(time.time() - started, 3),
        "secondsSinceRestore": restored and round(time.time() - restored, 3),
    }
