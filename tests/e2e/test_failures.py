"""Functions that fail in every way there is, next to what AWS answers for each."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from functions import UUID, create, invoke, node, python, zipped


def failure(functions, name: str, source: str, payload=None, *, runtime: str = "python3.12", **config):
    package = node(source) if runtime.startswith("nodejs") else python(source)
    create(functions, name, package, runtime=runtime, **config)
    return invoke(functions, name, payload, LogType="Tail")


def test_a_thrown_error_has_type_message_and_stack(functions):
    answer = failure(functions, "throws", """
        class Broken(Exception):
            pass
        def handler(event, context):
            inner()
        def inner():
            raise Broken("on purpose")
    """)
    assert (answer.status, answer.error) == (200, "Unhandled")
    assert answer.json == {
        "errorMessage": "on purpose", "errorType": "Broken", "requestId": answer.headers["x-amzn-requestid"],
        "stackTrace": ['  File "/var/task/app.py", line 4, in handler\n    inner()\n',
                       '  File "/var/task/app.py", line 6, in inner\n    raise Broken("on purpose")\n']}
    assert "[ERROR] Broken: on purpose\rTraceback (most recent call last):" in answer.tail.replace("\n", "\r")
    assert invoke(functions, "throws").error == "Unhandled", "the environment lives on"


def test_a_missing_module_is_an_import_error(functions):
    answer = failure(functions, "imports", "import nonesuch\ndef handler(e, c): pass\n")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.ImportModuleError"
    assert answer.json["errorMessage"] == "Unable to import module 'app': No module named 'nonesuch'"


def test_a_missing_handler_is_named(functions):
    answer = failure(functions, "handlerless", "x = 1\n")
    assert answer.json["errorType"] == "Runtime.HandlerNotFound"
    assert answer.json["errorMessage"] == "Handler 'handler' missing on module 'app'"


def test_a_syntax_error_is_reported(functions):
    answer = failure(functions, "syntax", "def handler(:\n")
    assert answer.json["errorType"] == "Runtime.UserCodeSyntaxError"
    assert answer.json["errorMessage"].startswith("Syntax error in module 'app'")


def test_an_error_during_init_is_answered_and_the_next_invoke_tries_again(functions):
    answer = failure(functions, "init", "raise RuntimeError('not today')\n")
    assert (answer.json["errorType"], answer.json["errorMessage"]) == ("RuntimeError", "not today")
    assert invoke(functions, "init").json["errorMessage"] == "not today"


def test_a_timeout_has_awss_words(functions):
    began = time.monotonic()
    answer = failure(functions, "sleeps", """
        import time
        def handler(event, context):
            time.sleep(30)
    """, Timeout=1)
    assert time.monotonic() - began < 8
    assert answer.error == "Unhandled"
    assert re.fullmatch(rf"RequestId: {UUID} Error: Task timed out after 1.00 seconds", answer.json["errorMessage"])
    assert answer.json["errorType"] == "Sandbox.Timedout"
    assert answer.headers["x-amzn-requestid"] in answer.json["errorMessage"]
    report = answer.report()
    assert 1000 <= float(report["duration"]) < 1500
    assert report["status"] == "timeout"


def test_a_timeout_ends_the_environment_and_the_next_invoke_starts_anew(functions):
    create(functions, "anew", python("""
        import time
        count = 0
        def handler(event, context):
            global count
            count += 1
            time.sleep(event)
            return count
    """), Timeout=1)
    assert invoke(functions, "anew", 0).json == 1
    assert invoke(functions, "anew", 9).json["errorType"] == "Sandbox.Timedout"
    assert invoke(functions, "anew", 0).json == 1


def test_a_handler_that_ignores_sigterm_is_ended_all_the_same(functions):
    began = time.monotonic()
    answer = failure(functions, "stubborn", """
        import signal
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        def handler(event, context):
            while True:
                pass
    """, Timeout=1)
    assert answer.json["errorType"] == "Sandbox.Timedout"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("source, message", [
    ("import sys\ndef handler(e, c): sys.exit(1)\n", "Runtime exited with error: exit status 1"),
    ("import os\ndef handler(e, c): os._exit(42)\n", "Runtime exited with error: exit status 42"),
    ("import os\ndef handler(e, c): os._exit(0)\n", "Runtime exited without providing a reason"),
    ("import os, signal\ndef handler(e, c): os.kill(os.getpid(), signal.SIGSEGV)\n",
     "Runtime exited with error: signal: segmentation fault"),
    ("import os, signal\ndef handler(e, c): os.kill(os.getpid(), signal.SIGKILL)\n",
     "Runtime exited with error: signal: killed"),
    ("import os, signal\ndef handler(e, c): os.abort()\n", "Runtime exited with error: signal: aborted"),
], ids=["exit 1", "exit 42", "exit 0", "segv", "kill", "abort"])
def test_an_exit_or_a_signal_is_an_exit_error(functions, source, message):
    answer = failure(functions, "exits", source)
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert re.fullmatch(rf"RequestId: {UUID} Error: {message}", answer.json["errorMessage"])
    assert answer.report()["status"] == "error"
    assert answer.report()["error"] == "Runtime.ExitError"
    assert invoke(functions, "exits").json["errorType"] == "Runtime.ExitError", "a fresh environment answers"


def test_eating_memory_is_out_of_memory(functions):
    answer = failure(functions, "eats", """
        def handler(event, context):
            hoard = []
            while True:
                hoard.append(bytearray(8 << 20))
    """, MemorySize=128, Timeout=30)
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.OutOfMemory"
    assert re.fullmatch(rf"RequestId: {UUID} Error: Runtime exited with error: signal: killed",
                        answer.json["errorMessage"])
    report = answer.report()
    assert report["error"] == "Runtime.OutOfMemory"
    assert int(report["max_memory"]) >= 120


def test_memory_below_the_limit_is_measured(functions):
    answer = failure(functions, "holds", """
        hoard = None
        def handler(event, context):
            global hoard
            hoard = bytearray(100 << 20)
            for at in range(0, len(hoard), 4096):
                hoard[at] = 1
            return len(hoard)
    """, MemorySize=256, Timeout=30)
    assert answer.json == 100 << 20
    assert 100 <= int(answer.report()["max_memory"]) <= 256


def test_a_fork_bomb_stays_in_its_sandbox(functions):
    create(functions, "neighbour")
    assert invoke(functions, "neighbour", 1).json == 1
    create(functions, "forks", python("""
        import os
        def handler(event, context):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    """), Timeout=3, MemorySize=128)
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(invoke, functions, "forks")
        while not bomb.done():
            assert invoke(functions, "neighbour", 2).json == 2
        assert bomb.result().error == "Unhandled"
        assert bomb.result().json["errorType"] in ("Sandbox.Timedout", "Runtime.OutOfMemory", "Runtime.ExitError")
    assert invoke(functions, "neighbour", 3).json == 3


def test_a_full_tmp_is_an_error_of_the_function(functions):
    answer = failure(functions, "fills", """
        def handler(event, context):
            written = 0
            try:
                with open("/tmp/full", "wb", buffering=0) as out:
                    while True:
                        written += out.write(bytes(1 << 20))
            except OSError as error:
                return [error.errno, written >> 20]
    """, MemorySize=1024, Timeout=60)
    errno, megabytes = answer.json
    assert errno == 28
    assert 500 <= megabytes <= 512


def test_a_larger_tmp_is_larger(functions):
    create(functions, "roomy", python("""
        import os
        def handler(event, context):
            s = os.statvfs("/tmp")
            return s.f_blocks * s.f_frsize >> 20
    """), EphemeralStorage={"Size": 1024})
    assert invoke(functions, "roomy").json == 1024


def test_a_slow_init_is_ended_at_ten_seconds_and_retried_in_the_invoke(functions):
    create(functions, "slow-init", python("""
        import time
        time.sleep(60)
        def handler(event, context):
            return 1
    """), Timeout=2)
    began = time.monotonic()
    answer = invoke(functions, "slow-init")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Sandbox.Timedout"
    assert 10 <= time.monotonic() - began < 25


def test_a_bootstrap_that_exits_at_once_is_an_exit_error(functions):
    create(functions, "exits", zipped({"bootstrap": "#!/bin/sh\nexit 3\n"}), runtime="provided.al2023")
    answer = invoke(functions, "exits")
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert answer.json["errorMessage"].endswith("Runtime exited with error: exit status 3")


def test_a_bootstrap_with_an_unknown_interpreter_is_reported(functions):
    create(functions, "bad", zipped({"bootstrap": "#!/no/such/thing\n"}), runtime="provided.al2023")
    answer = invoke(functions, "bad")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] in ("Runtime.InvalidEntrypoint", "Runtime.ExitError")


# Node


def test_a_node_rejection_and_a_throw_outside_the_handler(functions):
    answer = failure(functions, "uncaught", """
        exports.handler = () => new Promise(() => { setTimeout(() => { throw new RangeError("late"); }, 10); });
    """, runtime="nodejs20.x")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.UncaughtException" or answer.json["errorType"] == "RangeError"
    assert "late" in answer.json["errorMessage"]


def test_node_init_errors(functions):
    missing = failure(functions, "missing", "exports.other = 1;", runtime="nodejs20.x")
    assert missing.json["errorType"] == "Runtime.HandlerNotFound"
    assert missing.json["errorMessage"] == "app.handler is undefined or not exported"
    create(functions, "module", node("require('nonesuch');"), runtime="nodejs20.x")
    answer = invoke(functions, "module")
    assert answer.json["errorType"] == "Runtime.ImportModuleError"
    assert "Cannot find module 'nonesuch'" in answer.json["errorMessage"]
    create(functions, "syntax", node("exports.handler = {"), runtime="nodejs20.x")
    assert invoke(functions, "syntax").json["errorType"] == "Runtime.UserCodeSyntaxError"


def test_node_that_leaves_without_an_answer(functions):
    answer = failure(functions, "exits", "exports.handler = () => process.exit(7);", runtime="nodejs20.x")
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert answer.json["errorMessage"].endswith("Runtime exited with error: exit status 7")
