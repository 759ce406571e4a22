"""Hooks around a SnapStart snapshot, with the interface of the PyPI package snapshot-restore-py. Functions that ship
the package use their own copy, which comes first in the search path."""

__all__ = ["register_before_snapshot", "register_after_restore"]

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Runs `func` before the snapshot is taken, the last registered first. Also a decorator."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Runs `func` after a restore, in the order of registration. Also a decorator."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return _before_snapshot


def get_after_restore():
    return _after_restore
