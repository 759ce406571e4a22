"""What runs: managed Python and Node, custom bootstraps, the official client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from functions import create, invoke, node, python, zipped
from recorded import Bindings, differences

GOLDEN = Path(__file__).resolve().parents[1] / "golden/aws"

# Python


def test_a_python_module_in_a_folder(functions):
    create(functions, "nested", zipped({
        "src/__init__.py": "", "src/deep/__init__.py": "",
        "src/deep/app.py": "from src.helper import answer\ndef handler(e, c): return answer()\n",
        "src/helper.py": "def answer(): return 42\n",
    }), handler="src/deep/app.handler")
    assert invoke(functions, "nested").json == 42


def test_python_logging_carries_the_request_id(functions):
    create(functions, "logging", python("""
        import logging
        logger = logging.getLogger()
        logger.setLevel(logging.INFO)
        def handler(event, context):
            logger.info("hello %s", "log")
            logger.error("bad\\nnews")
    """))
    answer = invoke(functions, "logging", LogType="Tail")
    request = answer.headers["x-amzn-requestid"]
    info = next(line for line in answer.tail.split("\n") if line.startswith("[INFO]"))
    assert info.split("\t")[0] == "[INFO]"
    assert info.split("\t")[2:] == [request, "hello log"]


def test_json_log_format_writes_objects(functions, logs):
    create(functions, "json-logs", python("""
        import logging
        logger = logging.getLogger()
        def handler(event, context):
            logger.warning("watch out", extra={"order": 7})
            logger.debug("not this")
    """), LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    answer = invoke(functions, "json-logs", LogType="Tail")
    records = [json.loads(line) for line in answer.tail.strip().split("\n")]
    own = [r for r in records if r.get("message") == "watch out"]
    assert len(own) == 1
    assert own[0]["level"] == "WARNING" and own[0]["requestId"] == answer.headers["x-amzn-requestid"]
    assert not any(r.get("message") == "not this" for r in records)
    types = [r["type"] for r in records if "type" in r]
    assert types[:1] == ["platform.start"] and types[-1] == "platform.report"


def test_python_answers_that_are_no_json_are_errors(functions):
    create(functions, "marshal", python("def handler(event, context): return {1, 2}"))
    answer = invoke(functions, "marshal")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.MarshalError"
    assert "Unable to marshal response: Object of type set is not JSON serializable" in answer.json["errorMessage"]


def test_tmp_is_writable_and_the_rest_is_not(functions):
    create(functions, "writes", python("""
        import os
        def attempt(path):
            try:
                with open(path, "w") as f:
                    f.write("x")
                return True
            except OSError:
                return False
        def handler(event, context):
            return {p: attempt(p) for p in ("/tmp/a", "/var/task/a", "/opt/a", "/var/runtime/a", "/etc/a", "/usr/a", "/a")}
    """))
    assert invoke(functions, "writes").json == {
        "/tmp/a": True, "/var/task/a": False, "/opt/a": False, "/var/runtime/a": False,
        "/etc/a": False, "/usr/a": False, "/a": False}


def test_tmp_lasts_for_the_environment(functions):
    create(functions, "lasting", python("""
        import os
        def handler(event, context):
            seen = os.path.exists("/tmp/mark")
            open("/tmp/mark", "w").close()
            return seen
    """))
    assert [invoke(functions, "lasting").json for _ in range(2)] == [False, True]


def test_the_loopback_is_the_environments_own(functions):
    create(functions, "loopback", python("""
        import socket
        def handler(event, context):
            with socket.create_server(("127.0.0.1", 8080)) as listener:
                with socket.create_connection(("sandbox.localdomain", 8080), 2), \\
                     socket.create_connection(("sandbox", 8080), 2), socket.create_connection(("localhost", 8080), 2):
                    return "met"
    """))
    assert invoke(functions, "loopback").json == "met"


@pytest.mark.parametrize("runtime", ["python3.8", "python3.9", "python3.10", "python3.11", "python3.13", "python3.14"])
def test_every_python_runtime_runs_or_says_what_to_install(functions, runtime):
    create(functions, "any", runtime=runtime)
    answer = invoke(functions, "any", 5, LogType="Tail")
    assert answer.json == 5, answer.tail


# Node


def test_node_callback_async_and_sync_handlers(functions):
    source = """
        exports.callback = (event, context, callback) => setTimeout(() => callback(null, {by: "callback", event}), 5);
        exports.promise = async (event) => ({by: "promise", event});
        exports.fails = async () => { throw new TypeError("no"); };
        exports.calls = (event, context, callback) => callback(new Error("called back"));
    """
    for handler in ("callback", "promise"):
        create(functions, handler, node(source), runtime="nodejs20.x", handler=f"app.{handler}")
        assert invoke(functions, handler, {"a": 1}).json == {"by": handler, "event": {"a": 1}}
    create(functions, "fails", node(source), runtime="nodejs20.x", handler="app.fails")
    failed = invoke(functions, "fails")
    assert failed.error == "Unhandled"
    assert (failed.json["errorType"], failed.json["errorMessage"]) == ("TypeError", "no")
    assert failed.json["trace"][0] == "TypeError: no"
    assert "/var/task/app.js:3" in failed.json["trace"][1]
    create(functions, "calls", node(source), runtime="nodejs20.x", handler="app.calls")
    assert invoke(functions, "calls").json["errorMessage"] == "called back"


@pytest.mark.parametrize("files", [
    {"app.mjs": "const x = await Promise.resolve(3);\nexport const handler = async (e) => x;\n"},
    {"app.js": "const x = await Promise.resolve(3);\nexport const handler = async (e) => x;\n",
     "package.json": '{"type": "module"}'},
    {"app.cjs": "exports.handler = async () => 3;\n"},
    {"app.js": "exports.handler = async () => 3;\n"},
    {"app.js": "module.exports.handler = async () => require('three');\n",
     "node_modules/three/index.js": "module.exports = 3;\n"},
], ids=["mjs with await", "js in a module package", "cjs", "js", "a dependency"])
def test_node_loads_every_kind_of_module(functions, files):
    create(functions, "module", zipped(files), runtime="nodejs22.x")
    assert invoke(functions, "module").json == 3


def test_node_console_lines_carry_the_request_id(functions):
    create(functions, "console", node("""
        exports.handler = async () => { console.log("out %d", 1); console.error("err"); console.warn({a: 1}); };
    """), runtime="nodejs20.x")
    answer = invoke(functions, "console", LogType="Tail")
    request = answer.headers["x-amzn-requestid"]
    assert f"\t{request}\tINFO\tout 1\n" in answer.tail
    assert f"\t{request}\tERROR\terr\n" in answer.tail
    assert f"\t{request}\tWARN\t{{ a: 1 }}\n" in answer.tail


def test_node_context_and_event_loop(functions, account):
    create(functions, "loop", node("""
        exports.handler = (event, context, callback) => {
            context.callbackWaitsForEmptyEventLoop = false;
            setTimeout(() => {}, 60000);
            callback(null, [context.functionName, context.memoryLimitInMB, context.getRemainingTimeInMillis() > 0,
                            context.invokedFunctionArn, context.logGroupName, context.functionVersion]);
        };
    """), runtime="nodejs20.x")
    assert invoke(functions, "loop").json == [
        "loop", "128", True, f"arn:aws:lambda:us-east-1:{account}:function:loop", "/aws/lambda/loop", "$LATEST"]


def test_a_streaming_handler_answers_an_ordinary_invoke(functions):
    create(functions, "stream", node("""
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
            stream.write('{"streamed":');
            stream.write(JSON.stringify(event));
            stream.end("}");
        });
    """), runtime="nodejs20.x")
    assert invoke(functions, "stream", {"a": 1}).json == {"streamed": {"a": 1}}


@pytest.mark.parametrize("runtime", ["nodejs16.x", "nodejs18.x", "nodejs22.x", "nodejs24.x"])
def test_every_node_runtime_runs_or_says_what_to_install(functions, runtime):
    create(functions, "any", node("exports.handler = async (e) => e;"), runtime=runtime)
    assert invoke(functions, "any", 5).json == 5


# What a function sees, as recorded on AWS


# Where firn must differ: addresses, the way to its services, and the place of a host's interpreter.
OWN_ADDRESSES = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
                 "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1"}
ADDED = {"AWS_ENDPOINT_URL", "AWS_LAMBDA_LOG_FORMAT"}


@pytest.mark.parametrize("runtime, package", [
    ("python3.10", python("import os\ndef handler(e, c): return dict(os.environ)\n")),
    ("nodejs22.x", node("exports.handler = async () => process.env;")),
], ids=["python", "node"])
def test_the_variables_are_those_recorded_on_aws(functions, runtime, package):
    create(functions, "introspect", package, runtime=runtime, MemorySize=1024,
           Environment={"Variables": {"TEST_KEY": "TEST_VAL"}})
    seen = invoke(functions, "introspect").json
    expected = json.loads((GOLDEN / "introspection.json").read_text())[runtime]["payload"]["environment"]
    expected |= OWN_ADDRESSES | {"_HANDLER": "app.handler"}
    assert seen["PATH"].endswith(expected.pop("PATH")), "an interpreter's own folder may come first"
    seen.pop("PATH")
    # CPython sets this by itself when the C locale is all there is.
    seen.pop("LC_CTYPE", None)
    assert ADDED <= seen.keys()
    own = {name: value for name, value in seen.items() if name not in ADDED}
    assert not list(differences(expected, own, Bindings()))


# Custom runtimes


BOOTSTRAP = """
    #!/bin/sh
    set -eu
    echo "handler is $_HANDLER"
    while true; do
        curl -sS -D /tmp/headers -o /tmp/event "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"
        id=$(grep -i '^Lambda-Runtime-Aws-Request-Id:' /tmp/headers | tr -d '\\r' | cut -d ' ' -f 2)
        printf '{"from":"shell","event":%s}' "$(cat /tmp/event)" |
            curl -sS -o /dev/null -X POST --data-binary @- \\
                "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
    done
"""


@pytest.mark.parametrize("runtime", ["provided.al2", "provided.al2023"])
def test_a_shell_bootstrap_runs(functions, runtime):
    create(functions, "shell", zipped({"bootstrap": BOOTSTRAP}), runtime=runtime, handler="any.thing")
    for n in range(3):
        assert invoke(functions, "shell", {"n": n}).json == {"from": "shell", "event": {"n": n}}


def test_a_package_without_bootstrap_says_so(functions):
    create(functions, "none", zipped({"readme": "x"}), runtime="provided.al2023")
    answer = invoke(functions, "none")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.InvalidEntrypoint"
    assert "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]" in answer.json["errorMessage"]


def test_a_native_binary_speaks_the_runtime_api(functions, tmp_path):
    """A static program without any Lambda library, as the smallest thing that can be a bootstrap."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    source = tmp_path / "bootstrap.c"
    source.write_text(Path(__file__).with_name("bootstrap.c").read_text())
    built = tmp_path / "bootstrap"
    subprocess.run(["cc", "-O1", "-static", "-o", built, source], check=True)
    create(functions, "native", zipped({"bootstrap": built.read_bytes()}), runtime="provided.al2023")
    assert [invoke(functions, "native", {"n": n}).json for n in range(3)] == [{"n": n} for n in range(3)]


def awslambdaric_package() -> bytes:
    """The official Python client as a customer would package it: `pip install -t . awslambdaric`."""
    import importlib.metadata
    files: dict[str, str | bytes] = {}
    for name in ("awslambdaric", "snapshot_restore_py", "simplejson"):
        for path in importlib.metadata.files(name) or []:
            full = Path(path.locate())
            if ".." in path.parts or "__pycache__" in path.parts or not full.is_file():
                continue
            files[str(path)] = full.read_bytes()
    files["bootstrap"] = "#!/bin/sh\nexec python3 -m awslambdaric app.handler\n"
    files["app.py"] = """
        import logging
        def handler(event, context):
            if event.get("fail"):
                raise ValueError("on purpose")
            print("from the official client")
            return {"event": event, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis() > 0}
    """
    return zipped(files)


def test_the_official_python_client_runs_as_it_is(functions):
    found = subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.version_info.minor)"],
                           capture_output=True, text=True)
    if found.stdout.strip() != str(sys.version_info.minor):
        pytest.skip("the client's native part was built for another Python than the sandbox's python3")
    create(functions, "ric", awslambdaric_package(), runtime="provided.al2023", MemorySize=256, Timeout=10)
    answer = invoke(functions, "ric", {"a": 1}, LogType="Tail")
    assert answer.json == {"event": {"a": 1}, "id": answer.headers["x-amzn-requestid"], "left": True}
    assert "from the official client" in answer.tail
    failed = invoke(functions, "ric", {"fail": True})
    assert (failed.error, failed.json["errorType"], failed.json["errorMessage"]) == (
        "Unhandled", "ValueError", "on purpose")
    assert invoke(functions, "ric", {"b": 2}).json["event"] == {"b": 2}, "an error does not end the client"
