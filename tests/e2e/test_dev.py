"""`firn dev`: the next invoke after a save runs what was saved, and debuggers get in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from functions import create, invoke, python
from server import binary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Dev:
    """One `firn dev` and what it prints."""

    def __init__(self, server, account: str, folder: Path, *arguments: str, home: Path):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "FIRN_ENDPOINT": server.endpoint}
        self.process = subprocess.Popen(
            [binary(), "dev", str(folder), *arguments, "--account", account], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=home)
        self.lines: list[str] = []
        self.more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self.more:
                self.lines.append(line.rstrip("\n"))
                self.more.notify_all()
        with self.more:
            self.lines.append("<end>")
            self.more.notify_all()

    def says(self, text: str, timeout: float = 60, after: int = 0) -> str:
        """The first line with this text, once it is there."""
        with self.more:
            def found() -> str | None:
                return next((line for line in self.lines[after:] if text in line), None)
            self.more.wait_for(lambda: found() or "<end>" in self.lines, timeout)
            assert found(), (text, self.lines)
            return found()

    def end(self, how: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def dev(server, account, tmp_path):
    started: list[Dev] = []

    def start(folder: Path, *arguments: str, ready: bool = True) -> Dev:
        running = Dev(server, account, folder, *arguments, home=tmp_path)
        started.append(running)
        if ready:
            running.says(" is ready (")
        return running

    yield start
    for running in started:
        running.end()


@pytest.fixture
def app(tmp_path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): return 0\n")
    return folder


def save(path: Path, number: int) -> None:
    path.write_text(f"def handler(event, context): return {number}\n")


def test_the_next_invoke_after_a_save_runs_the_new_code(dev, app, functions):
    running = dev(app, "--runtime", "python3.12")
    assert invoke(functions, "app").json == 0
    times = []
    for number in range(1, 21):
        save(app / "app.py", number)
        began = time.monotonic()
        # At once, without waiting for anything.
        assert invoke(functions, "app").json == number
        times.append(time.monotonic() - began)
    running.says("reloaded in ")
    print(f"save to answer of a fresh environment: median {sorted(times)[10] * 1000:.0f} ms")
    # Nothing new: the environment is kept.
    counts = "import itertools\ncount = itertools.count()\ndef handler(event, context): return next(count)\n"
    (app / "app.py").write_text(counts)
    assert [invoke(functions, "app").json for _ in range(3)] == [0, 1, 2]
    (app / ".git").mkdir()
    (app / ".git/index").write_text("x")
    (app / "__pycache__").mkdir()
    (app / "__pycache__/app.pyc").write_text("x")
    assert invoke(functions, "app").json == 3
    assert running.end() == 0
    with pytest.raises(ClientError, match="Function not found"):
        functions.get_function(FunctionName="app")


def test_every_way_of_saving_counts(dev, app, functions):
    (app / "part.py").write_text("value = 'a'\n")
    (app / "app.py").write_text("import part\ndef handler(event, context): return part.value\n")
    dev(app)
    assert invoke(functions, "app").json == "a"
    # By renaming, as careful editors do.
    (app / ".part.py.swp").write_text("value = 'b'\n")
    os.rename(app / ".part.py.swp", app / "part.py")
    assert invoke(functions, "app").json == "b"
    # As a package in a folder that was not there before.
    os.remove(app / "part.py")
    (app / "part").mkdir()
    (app / "part/__init__.py").write_text("value = 'c'\n")
    assert invoke(functions, "app").json == "c"
    (app / "part/__init__.py").write_text("from .deep import value\n")
    (app / "part/deep.py").write_text("value = 'd'\n")
    assert invoke(functions, "app").json == "d"
    # Through a link that leads elsewhere.
    outside = app.parent / "outside.py"
    outside.write_text("value = 'e'\n")
    shutil.rmtree(app / "part")
    os.symlink(outside, app / "part.py")
    assert invoke(functions, "app").json == "e"
    # Broken code is the function's error, and the next save mends it.
    os.remove(app / "part.py")
    assert invoke(functions, "app").error == "Unhandled"
    (app / "part.py").write_text("value = 'f'\n")
    assert invoke(functions, "app").json == "f"


def test_an_invocation_under_way_keeps_its_code(dev, app, functions):
    slow = "import time\ndef handler(event, context):\n    time.sleep(2)\n    import late\n    return late.value\n"
    (app / "app.py").write_text(slow)
    (app / "late.py").write_text("value = 'old'\n")
    dev(app, "--timeout", "10")
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(invoke(functions, "app").json))
    thread.start()
    time.sleep(1)  # It is asleep by now, and has not read the second file.
    (app / "late.py").write_text("value = 'new'\n")
    (app / "app.py").write_text("import late\ndef handler(event, context): return late.value\n")
    assert invoke(functions, "app").json == "new"
    thread.join(30)
    assert answers == ["old"]


def test_logs_answers_and_variables_are_shown(dev, app, tmp_path, functions):
    (tmp_path / "event.json").write_text('{"name": "event"}')
    (app / "app.py").write_text("""
import os
def handler(event, context):
    print("seen", event)
    return [event["name"], os.environ["GREETING"]]
""")
    running = dev(app, "--event", str(tmp_path / "event.json"), "--env", "GREETING=hello")
    assert '["event", "hello"]' in running.says("answered in ")
    running.says("seen {'name': 'event'}")
    at = len(running.lines)
    (app / "app.py").write_text("def handler(event, context): raise ValueError('oh')\n")
    assert "oh" in running.says("failed in ", after=at)
    assert invoke(functions, "app", {"name": "x"}).error == "Unhandled"


def test_a_build_runs_after_each_save(dev, tmp_path, functions):
    folder = tmp_path / "built"
    (folder / "src").mkdir(parents=True)
    (folder / "src/app.py.in").write_text("VALUE")
    script = "test -e src/app.py.in && mkdir -p dist && echo \"def handler(e, c): return '$(cat src/app.py.in)'\" > dist/app.py"
    running = dev(folder, "--build", script, "--output", str(folder / "dist"), "--name", "built")
    assert invoke(functions, "built").json == "VALUE"
    (folder / "src/app.py.in").write_text("OTHER")
    assert invoke(functions, "built").json == "OTHER"
    at = len(running.lines)
    (folder / "src/app.py.in").unlink()
    running.says("not reloaded: the build failed", after=at)
    assert invoke(functions, "built").json == "OTHER"


def test_a_function_that_was_there_is_there_again(dev, app, functions, server):
    create(functions, "app", python("def handler(event, context): return 'deployed'\n"))
    save(app / "app.py", 7)
    running = dev(app, "--env", "KEY=1")
    assert invoke(functions, "app").json == 7
    # Published versions are what was deployed.
    version = functions.publish_version(FunctionName="app")["Version"]
    assert invoke(functions, "app", Qualifier=version).json == "deployed"
    # Nobody else can take it over meanwhile.
    second = dev(app, ready=False)
    assert second.process.wait(60) != 0
    assert "is being worked on" in "\n".join(second.lines)
    # Whatever ends it.
    running.end(signal.SIGKILL)
    until = time.monotonic() + 10
    while invoke(functions, "app").json != "deployed":
        assert time.monotonic() < until
    assert os.listdir(server.data / "dev") == []


def test_only_the_servers_user_gets_in(dev, app, server, functions):
    socket_path = server.admin("GET", "/_firn/dev")["socket"]
    assert os.stat(socket_path).st_mode & 0o777 == 0o600
    dev(app)
    (app / "app.py").write_text("""
import os, urllib.request
def handler(event, context):
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/_firn/dev", timeout=5)
    except urllib.error.HTTPError as err:
        return [err.code, os.path.exists(event["socket"])]
""")
    assert invoke(functions, "app", {"socket": socket_path}).json == [404, False]


def test_a_server_is_started_where_there_is_none(app, tmp_path):
    listen = f"127.0.0.1:{free_port()}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_LISTEN": listen,
                   "FIRN_DATA": str(tmp_path / "data")}
    event = tmp_path / "event.json"
    event.write_text("{}")
    # Another port than the default one, where a server of somebody else may be.
    probe = subprocess.run([binary(), "config", "show", "--json"], env=environment, capture_output=True, text=True)
    if probe.returncode != 0 or listen not in probe.stdout:
        pytest.skip("the address of a server cannot be set by the environment")
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", 4566)) == 0:
            pytest.skip("a server of somebody else listens on the default port")
    process = subprocess.Popen([binary(), "dev", str(app), "--event", str(event)], env=environment, cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "answered in " in line:
                break
        assert lines and "answered in " in lines[-1], lines
        assert any("started one on" in line for line in lines), lines
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    with socket.socket() as gone:
        assert gone.connect_ex(tuple([listen.split(":")[0], int(listen.split(":")[1])])) != 0


def connect(port: int) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=30)
    stream.settimeout(30)
    return stream


def test_nodes_inspector_answers(dev, tmp_path, functions):
    folder = tmp_path / "inspected"
    folder.mkdir()
    (folder / "index.mjs").write_text("export const handler = async () => 1;\n")
    port = free_port()
    running = dev(folder, "--debug", str(port), "--timeout", "1")
    assert f"127.0.0.1:{port}" in running.says("debugger")
    assert invoke(functions, "inspected").json == 1

    def targets() -> list:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            return json.load(answer)

    assert targets()[0]["webSocketDebuggerUrl"].startswith("ws://")
    # Between invocations, too: nothing is frozen under a debugger.
    time.sleep(0.5)
    first = targets()[0]["id"]
    # And in the next environment; this function takes longer than its timeout.
    (folder / "index.mjs").write_text(
        "export const handler = async () => { await new Promise((r) => setTimeout(r, 2000)); return 2; };\n")
    assert invoke(functions, "inspected").json == 2
    assert targets()[0]["id"] != first


def test_a_debugger_may_come_before_the_first_invocation(dev, tmp_path, functions):
    if not shutil.which("javac"):
        pytest.skip("needs a javac")
    folder = tmp_path / "java"
    folder.mkdir()
    (folder / "App.java").write_text(
        "public class App { public String handle(Object event) { return \"java\"; } }\n")
    port = free_port()
    dev(folder, "--build", "mkdir -p out && javac -d out App.java", "--output", str(folder / "out"),
        "--runtime", "java21", "--handler", "App::handle", "--name", "java", "--memory", "512", "--debug", str(port))
    with connect(port) as debugger:
        debugger.sendall(b"JDWP-Handshake")
        assert invoke(functions, "java").json == "java"
        assert debugger.recv(14, socket.MSG_WAITALL) == b"JDWP-Handshake"


def test_python_needs_debugpy_and_then_answers(dev, app, tmp_path, functions):
    port = free_port()
    running = dev(app, "--runtime", "python3.12", "--debug", str(port))
    answer = invoke(functions, "app")
    if answer.error:
        assert "pip install debugpy --target" in answer.json["errorMessage"]
    fetched = subprocess.run(
        ["python3", "-m", "pip", "install", "-q", "--target", str(tmp_path / "packages"), "debugpy"],
        capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"debugpy cannot be installed here: {fetched.stderr[-200:]}")
    assert answer.error == "Unhandled"
    shutil.copytree(tmp_path / "packages/debugpy", app / "debugpy")
    running.says("reloaded in ")
    assert invoke(functions, "app").json == 0
    request = json.dumps({"seq": 1, "type": "request", "command": "initialize",
                          "arguments": {"adapterID": "test", "clientID": "test"}})
    with connect(port) as debugger:
        debugger.sendall(f"Content-Length: {len(request)}\r\n\r\n{request}".encode())
        received = b""
        while b'"command": "initialize"' not in received:
            received += debugger.recv(4096) or pytest.fail(f"the debugger hung up: {received}")
    assert b"supportsConditionalBreakpoints" in received
