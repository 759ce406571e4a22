"""An environment that becomes a snapshot, between init and its first event: the client's own code is run warm, then the
function's priming events, then the hooks. The process is frozen while it waits for the answer to `restore/next`, and
every environment made from the snapshot goes on from there. Where there is no hook to run after the restore, it is frozen
while it waits for an event, which saves every environment an exchange."""

import gc
import os
import sys

import firn_errors
import firn_runtime

# The interpreter rewrites code that it has run some times. What it has rewritten before the snapshot is shared by all
# environments and not done again in each.
WARM_ROUNDS = 20


def take(api, handler):
    """Returns in a restored environment with its first event, or with None if that is still to be asked for."""
    _warm(api)
    _prime(api, handler)
    firn_runtime.forget_invocation()
    hooks = sys.modules.get("snapshot_restore_py")
    event = None
    try:
        before = hooks.get_before_snapshot() if hooks else []
        while before:
            # The last registered is the first to run.
            func, args, kwargs = before.pop()
            func(*args, **kwargs)
        for _ in range(WARM_ROUNDS):
            _renew_randomness()
        # A collection writes to every object that it looks at, which would end the sharing of their pages between
        # environments. It does not look at frozen ones.
        gc.collect()
        gc.freeze()
        after = hooks.get_after_restore() if hooks else []
        if after:
            api.restore_next()
        else:
            event = api.next()
    except BaseException as err:
        api.post_init_error(firn_errors.log_unhandled(err), "Runtime.BeforeSnapshotError")
        sys.exit(64)
    try:
        _renew_randomness()
        for func, args, kwargs in after:
            func(*args, **kwargs)
    except BaseException as err:
        body = firn_errors.log_unhandled(err)
        # With an event the restore is over, and the platform reports an exit.
        if event is None:
            api.post_restore_error(body, "Runtime.AfterRestoreError")
        sys.exit(65)
    return event


def _prime(api, handler):
    while True:
        event = api.priming_next()
        if event is None:
            return
        firn_runtime.invoke(api, handler, *event)


def _warm(api):
    answers = _WarmAnswers(api)
    for _ in range(WARM_ROUNDS):
        event = api.warm_next()
        if event is None:
            return
        firn_runtime.invoke(answers, _echo, *event)


def _echo(event, context):
    return event


class _WarmAnswers:
    """Takes the answers to events that no function sees."""

    def __init__(self, api):
        self._api = api

    def post_response(self, invoke_id, body, content_type, invocation_id):
        self._api.post_warm(body)


def _renew_randomness():
    """Gives a new seed to the generators of the libraries that are loaded. What is not loaded yet seeds itself.

    `secrets`, `uuid4` and `os.urandom` ask the kernel, and need nothing.
    """
    seed = getattr(sys.modules.get("random"), "seed", None)
    if seed is not None:
        seed()
    # The generator of names for temporary files is another one; it is made again when it is missing.
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    # The platform has OpenSSL reseeded where it can find it; this also reaches a copy within a package.
    rand_add = getattr(sys.modules.get("ssl"), "RAND_add", None)
    if rand_add is not None:
        rand_add(os.urandom(64), 64.0)
    # The module-level functions of numpy.random. Generators that the function made are its own affair.
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed is not None:
        try:
            seed()
        except TypeError:
            # The function has put another kind of generator in place, which cannot be seeded this way.
            pass


firn_errors.OWN_FILES += (take.__code__.co_filename,)
