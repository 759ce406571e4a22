"""firn's Python client against AWS's: the same functions and events through both, answers and log lines compared.

AWS's client is used if it is installed for the interpreter (`FIRN_AWSLAMBDARIC` names Pythons that have it, separated
by colons; else the running one is tried). firn's client alone is also run on every Python 3.8+ that is found, against
the answers that AWS's client gave.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import toy_api
from conftest import RUNTIMES

CLIENT = RUNTIMES / "python" / "bootstrap.py"


def version_of(python):
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def find_pythons():
    """One interpreter per minor version from 3.8 on; the same places that firn searches."""
    home = os.path.expanduser("~")
    paths = [sys.executable]
    for minor in range(8, 15):
        paths += filter(None, [shutil.which("python3.%d" % minor)])
        paths += sorted(glob.glob(home + "/.pyenv/versions/3.%d.*/bin/python3" % minor))
    found = {}
    for path in paths:
        with open(os.path.realpath(path), "rb") as file:
            if file.read(4) == b"\x7fELF":
                found.setdefault(version_of(path), path)
    return found


def find_ric():
    pythons = os.environ.get("FIRN_AWSLAMBDARIC", sys.executable).split(":")
    has_it = lambda p: subprocess.run([p, "-c", "import awslambdaric.bootstrap"], capture_output=True).returncode == 0
    return [python for python in pythons if has_it(python)]


PYTHONS = find_pythons()
ANY = next(iter(PYTHONS.values()))
RIC = find_ric()


def run_firn(python, root, handler, events, runtime=None, **options):
    runtime = runtime or "python" + version_of(python)
    command = [python, "-S", "-B", str(CLIENT)]
    return toy_api.run(command, runtime, handler, root, events, LAMBDA_RUNTIME_DIR=str(CLIENT.parent), **options)


def run_ric(python, root, handler, events, runtime=None, **options):
    runtime = runtime or "python" + version_of(python)
    return toy_api.run([python, "-m", "awslambdaric", handler], runtime, handler, root, events, **options)


# name: (files, handler, events, options)
CASES = {}


def case(name, source, events=({},), handler="app.handler", files=None, **options):
    CASES[name] = ({"app.py": source, **(files or {})}, handler, list(events), options)


case("echo", "def handler(event, context): return event", [{"a": 1}, [1, "x", None, True, 1.5], "text", 5, None, {}])
case("unicode", "def handler(event, context): return {'ü': '€𝄞\\u2028', 'e': event, 'c': '\\x00\\x1f\\x7f\"'}", [{"k": "ñ𝄞"}])
case("bytes", "def handler(event, context): return b'\\x00\\xff raw'")
case("nothing", "def handler(event, context): pass")
case("big", "def handler(event, context): return event['x'] * 2", [{"x": "y" * 2_000_000}])
case(
    "numbers",
    """
import decimal, enum
D = decimal.Decimal
class Level(enum.IntEnum):
    LOW = 1
class Name(str, enum.Enum):
    A = 'a'
def handler(event, context):
    return [1.0, 1e100, -0.0, float('nan'), float('inf'), -float('inf'), 2**80, D('1.10'), D('3'), D('-0'), D('NaN'),
            D('1E+5'), D('Infinity'), D('1.5'), Level.LOW, Name.A, {1: 2, 1.5: 3, None: 4, True: 5, 'x': D('0.10')}]
""",
)
case(
    "simplejson_habits",
    """
import collections
P = collections.namedtuple('P', 'x y')
class Dictish:
    def _asdict(self): return {'as': 'dict'}
class Str(str): pass
def handler(event, context):
    return {'p': P(1, P(2, b'b')), b'key': b'\\xc3\\xbc', 't': (1, 2), 'o': collections.OrderedDict(a=1),
            'd': Dictish(), 's': Str('sub'), 'l': [], 'e': {}}
""",
)
for name, value in {
    "set": "{1}",
    "object": "object()",
    "complex": "[1j]",
    "bad_key": "{(1, 2): 3}",
    "bad_bytes": "{'x': b'\\xff'}",
    "generator": "(x for x in [1])",
    "datetime": "__import__('datetime').datetime(2026, 1, 1)",
    "bytearray": "bytearray(b'x')",
}.items():
    case("marshal_" + name, "def handler(event, context): return " + value)
case("marshal_circular", "def handler(event, context):\n    x = []\n    x.append(x)\n    return {'x': x}")

case("error", "def handler(event, context):\n    raise ValueError('bad: ü\\nsecond line')")
case("error_empty", "def handler(event, context):\n    raise KeyError()")
case("error_key", "def handler(event, context):\n    return event['missing']")
case(
    "error_nested",
    """
class Custom(Exception):
    pass
def inner():
    try:
        1 / 0
    except ZeroDivisionError as e:
        raise Custom('outer', 5) from e
def handler(event, context):
    inner()
""",
)
case("error_in_library", "import json\ndef handler(event, context):\n    json.loads('{')")
case("error_syntax_at_run_time", "def handler(event, context):\n    exec('1 +')")
case("error_recursion", "def handler(event, context):\n    return handler(event, context)")
case("handler_is_not_callable", "handler = 5")
case("handler_takes_one_argument", "def handler(event): pass")
case("exit_in_handler", "import sys\ndef handler(event, context):\n    print('bye')\n    sys.exit(7)")
case("os_exit", "import os\ndef handler(event, context):\n    print('bye')\n    os._exit(3)")
case("exit_builtin", "def handler(event, context):\n    exit(4)")

case("init_missing_module", "import nosuchmodule\ndef handler(event, context): pass")
case("init_missing_file", "", handler="nothere.handler")
case("init_syntax", "def handler(event, context:\n    pass")
case("init_error", "x = {}\ny = x['k']\ndef handler(event, context): pass")
case("init_missing_function", "def other(event, context): pass")
case("init_no_dot", "", handler="app")
case("init_builtin", "", handler="sys.handler")
case("init_exit", "import sys\nsys.exit(9)")
case("init_import_error_inside", "raise ImportError('custom text')")
case("init_error_json", "1/0", AWS_LAMBDA_LOG_FORMAT="JSON")
case("nested_path", "", handler="a/b.c.handler", files={"a/b/__init__.py": "", "a/b/c.py": "def handler(e, c): return __name__", "a/__init__.py": ""})
case("dotted_path", "", handler="pkg.mod.handler", files={"pkg/mod.py": "def handler(e, c): return __name__"})

LOGGING = """
import logging, sys
logger = logging.getLogger('my.logger')
logging.getLogger().setLevel(logging.INFO)
def handler(event, context):
    logger.debug('hidden')
    logger.info('info %s', event)
    logger.warning('multi\\nline ü')
    logging.error('root', extra={'field': {'a': 1}, 'odd': object})
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception('failed')
    logger.info({'a': 'dict'})
    logger.log(35, 'between')
    print('printed', 1)
    sys.stderr.write('to stderr\\n')
    sys.stdout.write('no newline')
    context.log('from context\\n')
    return [h.__class__.__name__ for h in logging.getLogger().handlers]
"""
case("logging", LOGGING)
case("logging_json", LOGGING, AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_json_level", LOGGING, AWS_LAMBDA_LOG_FORMAT="JSON", AWS_LAMBDA_LOG_LEVEL="WARN")
case("logging_level", LOGGING.replace("logging.getLogger().setLevel(logging.INFO)", ""), AWS_LAMBDA_LOG_LEVEL="ERROR")
case("logging_trace_level", LOGGING.replace("logging.getLogger().setLevel(logging.INFO)", ""), AWS_LAMBDA_LOG_LEVEL="TRACE")
case("logging_framed", LOGGING, framed=True)
case("logging_framed_json", LOGGING, framed=True, AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_tenant", LOGGING, [{"__headers__": {"Lambda-Runtime-Aws-Tenant-Id": "blue"}}], AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_basic_config", "import logging\nlogging.basicConfig(level='DEBUG', format='mine %(message)s')\ndef handler(e, c):\n    logging.warning('w')\n    logging.debug('d')")
case("logging_late", "def handler(event, context):\n    import logging\n    logging.getLogger().warning('late')\n    context.log('x\\n')")
case("log_without_logging", "def handler(event, context):\n    context.log('plain\\n')\n    context.log(5)", framed=True)
case("error_framed", "def handler(event, context):\n    raise ValueError('bad\\nworse')", framed=True)
case("error_json", "def handler(event, context):\n    raise ValueError('bad\\nworse')", AWS_LAMBDA_LOG_FORMAT="JSON")
case("error_framed_json", "def handler(event, context):\n    raise ValueError('bad')", framed=True, AWS_LAMBDA_LOG_FORMAT="JSON")

CONTEXT = """
import os
def handler(event, context):
    names = ['aws_request_id', 'log_group_name', 'log_stream_name', 'function_name', 'memory_limit_in_mb',
             'function_version', 'invoked_function_arn', 'tenant_id']
    return {**{name: getattr(context, name) for name in names}, 'repr': repr(context), 'dir': sorted(vars(context)),
            'client': repr(context.client_context), 'identity': repr(context.identity), 'w3c': context.w3c(),
            'remaining': context.get_remaining_time_in_millis() > 0, 'trace': os.environ.get('_X_AMZN_TRACE_ID'),
            'cwd': os.getcwd() == os.environ['LAMBDA_TASK_ROOT'], 'type': type(context).__name__}
"""
case(
    "context",
    CONTEXT,
    [
        {},
        {"__headers__": {"Lambda-Runtime-Trace-Id": None}},
        {
            "__headers__": {
                "Lambda-Runtime-Client-Context": json.dumps(
                    {"custom": {"a": 1}, "env": {"x": "y"}, "client": {"app_title": "t"}, "w3c": {"traceparent": "00-1", "baggage": 5}}
                ),
                "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}',
                "Lambda-Runtime-Aws-Tenant-Id": "blue",
                "Lambda-Runtime-Invocation-Id": "inv-1",
            }
        },
        {"__headers__": {"Lambda-Runtime-Client-Context": "{nope"}},
        {"__headers__": {"Lambda-Runtime-Cognito-Identity": "[1"}},
    ],
)
case("past_deadline", "def handler(e, c): return c.get_remaining_time_in_millis()", [{"__headers__": {"Lambda-Runtime-Deadline-Ms": "1000"}}])
case("raw_event", "def handler(event, context): return repr(event)", [{"__body__": b"\x01\x02", "__headers__": {"Content-Type": "application/octet-stream"}}])
case("bad_event", "def handler(event, context): return 1", [{"__body__": b"{\"a\" 1}"}, {"__body__": b"nope"}, {"__body__": b""}, {"__body__": b' {"a": 1} \n'}])
case("invocation_id_is_echoed", "def handler(event, context):\n    if event: 1/0", [{"__headers__": {"Lambda-Runtime-Invocation-Id": "inv-1"}}, {"x": 1, "__headers__": {"Lambda-Runtime-Invocation-Id": "inv-2"}}])

HOOKS = """
from snapshot_restore_py import register_before_snapshot, register_after_restore
order = []
register_before_snapshot(order.append, 'b1')
@register_before_snapshot
def second(): order.append('b2')
register_after_restore(order.append, 'a1')
register_after_restore(lambda x: order.append(x), x='a2')
def handler(event, context): return order
"""
SNAP = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
case("snapstart", HOOKS, **SNAP)
case("snapstart_before_fails", HOOKS + "register_before_snapshot(lambda: 1/0)\n", **SNAP)
case("snapstart_after_fails", HOOKS + "register_after_restore(lambda: 1/0)\n", **SNAP)

TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|0x[0-9a-f]{6,}")


def normal(data):
    return TIME.sub(b"TIME", data)


def observed(outcome):
    """What of a run is compared, in a form that shows differences well."""
    calls = []
    for call in outcome.calls:
        wanted = ["content-type", "lambda-runtime-function-error-type", "lambda-runtime-invocation-id"]
        cause = call.headers.get("lambda-runtime-function-xray-error-cause")
        calls.append(
            {
                "kind": call.kind,
                "body": own_frames_removed(normal(call.body)),
                # The native client and http.client differ in what they add by themselves.
                "headers": {k: call.headers.get(k) for k in wanted} if call.kind.startswith("invocation") else None,
                "error_type": call.headers.get(wanted[1]),
                "xray": cause and normal_cause(json.loads(own_frames_removed(cause.encode("latin-1")))),
            }
        )
    return {
        "calls": calls,
        "stdout": own_frames_removed(normal(outcome.stdout)),
        "frames": [(kind, normal(text.encode())) for kind, text in outcome.frames],
        "exit": outcome.exit_code,
    }


def normal_cause(cause):
    cause["paths"].sort()
    frames = cause["exceptions"][0]["stack"]
    frames[:] = [frame for index, frame in enumerate(frames) if frame not in frames[:index]]
    return cause


def own_frames_removed(data):
    """What differs because the clients are different programs: their own frames, how deep they are in the stack."""
    if b"awslambdaric/" not in data and b"firn_runtime" not in data and b"repeated" not in data:
        return data
    # Frames of the hooks' runner are only AWS's.
    data = re.sub(rb'"  File \\"[^"]*lambda_runtime_hooks_runner.py\\", [^"]*", ', b"", data)
    data = re.sub("(?:\u00a0){2}File \"[^\"]*lambda_runtime_hooks_runner.py\"[^\r]*\r[^\r]*\r".encode(), b"", data)
    # The call of a handler that cannot be called.
    data = re.sub(rb"[^\"]*/(awslambdaric/bootstrap|firn_runtime)\.py", b"CLIENT", data)
    data = re.sub(rb"(CLIENT\\?\"), line \d+, in \w+", rb"\1", data)
    data = re.sub(rb"response = (request_)?handler\(event, (lambda_)?context\)", b"CALL", data)
    data = re.sub(rb'"label": "(handle_event_request|_handle)", "path": "CLIENT", "line": \d+', b'"path": "CLIENT"', data)
    return re.sub(rb"repeated \d+ more times", b"repeated", data)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("python", RIC, ids=version_of)
def test_same_as_awslambdaric(python, name, task):
    files, handler, events, options = CASES[name]
    root = task(files)
    theirs = observed(run_ric(python, root, handler, events, **options))
    own = PYTHONS.get(version_of(python), python)
    ours = observed(run_firn(own, root, handler, events, **options))
    if own != python:
        prefixes = [os.path.dirname(os.path.dirname(os.path.realpath(p))) for p in (own, python)]
        assert prefixes[0] == prefixes[1], "compare the same interpreter: %s" % prefixes
    assert ours == theirs


def test_awslambdaric_was_compared():
    if not RIC:
        pytest.skip("awslambdaric is not installed: nothing was compared with AWS's client")


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS.keys())
@pytest.mark.parametrize("name", ["echo", "unicode", "numbers", "simplejson_habits", "error_nested", "logging_framed_json", "context", "snapstart", "init_syntax"])
def test_runs_on_every_python(python, name, task):
    files, handler, events, options = CASES[name]
    outcome = run_firn(python, task(files), handler, events, **options)
    if name.startswith("init"):
        assert outcome.exit_code == 1
        assert outcome.calls[0].headers["lambda-runtime-function-error-type"] == "Runtime.UserCodeSyntaxError"
        return
    assert outcome.exit_code is None, outcome.stderr.decode()
    assert len(outcome.answers) == len(events)
    kinds = {call.kind for call in outcome.answers}
    assert kinds <= {"invocation:response", "invocation:error"}
    if name == "echo":
        assert [call.json for call in outcome.answers] == events
    if name == "unicode":
        ascii_only = tuple(map(int, version_of(python).split("."))) < (3, 12)
        assert outcome.answers[0].body.isascii() == ascii_only
        assert outcome.answers[0].json == {"ü": "€𝄞\u2028", "e": {"k": "ñ𝄞"}, "c": '\x00\x1f\x7f"'}
    if name == "numbers":
        assert outcome.answers[0].body.startswith(b"[1.0, 1e+100, -0.0, NaN, Infinity, -Infinity, 1208925819614629174706176, 1.10, 3, -0,")


def test_the_package_comes_before_layers_and_the_sdk_last(task):
    root = task({"app.py": "import sys\ndef handler(event, context): return sys.path"})
    for python in PYTHONS.values():
        path = run_firn(python, root, "app.handler", [{}]).answers[0].json
        site = "/opt/python/lib/python%s/site-packages" % version_of(python)
        assert path[:4] == [str(root), site, "/opt/python", str(CLIENT.parent)]
        assert path[-1] == str(CLIENT.parent / "sdk")
        assert not any("site-packages" in entry for entry in path[4:]), "packages of the machine leak in"


def test_pythonpath_of_the_function_replaces_the_layers(task):
    root = task({"app.py": "import sys, os, extra\ndef handler(event, context): return [sys.path[0], extra.X, os.environ['PYTHONPATH']]", "lib/extra.py": "X = 5", "lib/sitecustomize.py": "import sys; sys.customized = True"})
    outcome = run_firn(ANY, root, "app.handler", [{}], PYTHONPATH=str(root / "lib"))
    assert outcome.answers[0].json == [str(root), 5, str(root / "lib")]


def test_pth_files_of_the_package_are_processed(task):
    root = task({"app.py": "import extra\ndef handler(event, context): return extra.X", "deps.pth": "vendored\n", "vendored/extra.py": "X = 6"})
    assert run_firn(ANY, root, "app.handler", [{}]).answers[0].json == 6


def test_modules_that_awslambdaric_loads_first_cannot_be_hidden(task):
    root = task({"app.py": "import json, logging\ndef handler(event, context): return json.dumps(logging.INFO)", "json.py": "raise 1", "logging.py": "raise 1"})
    assert run_firn(ANY, root, "app.handler", [{}]).answers[0].json == "20"


def test_a_handler_of_sigterm_runs_while_waiting(task):
    root = task({"app.py": "import os, signal, threading, time\ndef bye(*_):\n    print('terminated')\n    os._exit(0)\nsignal.signal(signal.SIGTERM, bye)\ndef handler(event, context):\n    threading.Thread(target=lambda: (time.sleep(0.2), os.kill(os.getpid(), 15))).start()"})
    api = toy_api.ToyApi([{}])
    env = toy_api.environment("python" + version_of(ANY), "app.handler", root, api.address, LAMBDA_RUNTIME_DIR=str(CLIENT.parent))
    done = subprocess.run([ANY, "-S", "-B", str(CLIENT)], env=env, cwd=root, capture_output=True, timeout=10)
    api.close()
    assert (done.returncode, done.stdout) == (0, b"terminated\n")


def test_a_refused_response_ends_the_process(task):
    root = task({"app.py": "def handler(event, context): return 1"})
    outcome = run_firn(ANY, root, "app.handler", [{}], status=413)
    assert outcome.exit_code == 1
    assert b"Failed to post invocation response" in outcome.stderr


def test_starts_without_the_modules_that_make_python_slow(task):
    root = task({"app.py": "import sys\ndef handler(event, context): return sorted(sys.modules)"})
    for python in PYTHONS.values():
        loaded = set(run_firn(python, root, "app.handler", [{"a": [1.5]}]).answers[0].json)
        slow = {"logging", "re", "json", "traceback", "socket", "http", "urllib", "threading", "enum", "decimal", "site", "typing"}
        assert not loaded & slow


def test_a_snapshot_is_taken_after_warming_and_priming_and_between_the_hooks(task):
    source = HOOKS + """
import gc
frozen = gc.get_freeze_count()
register_after_restore(lambda: order.append(('frozen', gc.get_freeze_count() > frozen + 1000)))
def handler(event, context):
    order.append([event, context.aws_request_id[-3:]])
    return order
"""
    events = [{"n": 1}, {"__headers__": {"Lambda-Runtime-Trace-Id": None}}]
    for python in PYTHONS.values():
        outcome = run_firn(python, task({"app.py": source}), "app.handler", events, priming=[{"p": 1}, {"p": 2}], **SNAP)
        kinds = [call.kind for call in outcome.calls]
        warmed = kinds.index("invocation:response")
        assert warmed > 0 and kinds[:warmed] == ["firn:warm"] * warmed
        # The events that warm the client are not for the function.
        assert kinds[warmed:] == ["invocation:response"] * 2 + ["restore:next"] + ["invocation:response"] * 2
        primed = [[{"p": 1}, "900"], [{"p": 2}, "901"]]
        hooks = ["b2", "b1", "a1", "a2", ["frozen", True]]
        assert outcome.answers[-1].json == primed + hooks + [[{"n": 1}, "000"], [{}, "001"]]


def test_without_hooks_it_is_frozen_while_it_waits_for_an_event(task):
    root = task({"app.py": "def handler(event, context): return event"})
    for python in PYTHONS.values():
        outcome = run_firn(python, root, "app.handler", [{"n": 1}, {"n": 2}], **SNAP)
        assert [call.kind for call in outcome.calls if call.kind != "firn:warm"] == ["invocation:response"] * 2
        assert [call.json for call in outcome.answers] == [{"n": 1}, {"n": 2}]


def test_an_error_while_priming_does_not_prevent_the_snapshot(task):
    root = task({"app.py": "def handler(event, context): return 1 / event['x']"})
    outcome = run_firn(ANY, root, "app.handler", [{"x": 2}], priming=[{"x": 0}, {"x": 1}], **SNAP)
    assert [call.kind for call in outcome.calls if call.kind != "firn:warm"] == [
        "invocation:error", "invocation:response", "invocation:response",
    ]
    assert outcome.answers[-1].json == 0.5


def test_hooks_belong_to_no_invocation(task):
    source = """
import logging, os
from snapshot_restore_py import register_before_snapshot
register_before_snapshot(lambda: logging.warning('in a hook, %s', os.environ.get('_X_AMZN_TRACE_ID')))
def handler(event, context): pass
"""
    outcome = run_firn(ANY, task({"app.py": source}), "app.handler", [{}], priming=[{}], **SNAP)
    assert re.fullmatch(r"\[WARNING\]\t[^\t]*\t\tin a hook, None\n", outcome.text)


SEEDED = """
import random, ssl, tempfile, uuid
from snapshot_restore_py import register_before_snapshot, register_after_restore
random.seed(1)
next(tempfile._get_candidate_names())
tempfile._name_sequence._rng.seed(1)
def draw(): return [random.random(), next(tempfile._get_candidate_names())]
before = draw()
def again():
    random.seed(1)
    tempfile._name_sequence._rng.seed(1)
register_before_snapshot(again)
def handler(event, context): return [before, draw()]
"""


def test_generators_are_seeded_again_after_a_restore(task):
    before, after = run_firn(ANY, task({"app.py": SEEDED}), "app.handler", [{}], **SNAP).answers[0].json
    assert before[0] != after[0] and before[1] != after[1]
    # Without a snapshot nobody touches them.
    root = task({"app.py": SEEDED.replace("register_before_snapshot(again)", "again()")})
    before, after = run_firn(ANY, root, "app.handler", [{}]).answers[0].json
    assert before == after


def test_numpy_is_seeded_again_but_a_generator_of_the_function_is_not_touched(task):
    numpy = """
seeds = []
def seed(*args):
    seeds.append(args)
    if fails: raise TypeError('can only re-seed a MT19937 BitGenerator')
"""
    source = "import numpy.random\nnumpy.random.fails = %s\ndef handler(event, context): return numpy.random.seeds"
    for fails in (False, True):
        root = task({"numpy/__init__.py": "", "numpy/random.py": numpy, "app.py": source % fails})
        seeds = run_firn(ANY, root, "app.handler", [{}], **SNAP).answers[0].json
        # Ahead of the snapshot, to have the code run warm, and once in the restored environment.
        assert seeds == [[]] * (20 + 1)


def test_nothing_is_imported_only_to_be_seeded(task):
    root = task({"app.py": "import sys\ndef handler(event, context): return sorted(sys.modules)"})
    loaded = set(run_firn(ANY, root, "app.handler", [{}], **SNAP).answers[0].json)
    assert not loaded & {"random", "ssl", "tempfile", "numpy", "uuid", "secrets"}


@pytest.mark.parametrize("lost", [1, 2])
def test_a_connection_that_is_lost_while_waiting_for_the_restore_is_made_again_once(task, lost):
    hook = "import snapshot_restore_py\nsnapshot_restore_py.register_after_restore(print)\n"
    root = task({"app.py": hook + "def handler(event, context): return 1"})
    outcome = run_firn(ANY, root, "app.handler", [{}], lost_restores=lost, **SNAP)
    kinds = [call.kind for call in outcome.calls]
    if lost == 1:
        assert kinds == ["restore:next", "restore:next", "invocation:response"]
    else:
        assert kinds == ["restore:next", "restore:next", "init:error"]
        assert outcome.exit_code == 64
