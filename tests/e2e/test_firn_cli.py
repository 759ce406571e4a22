"""firn's own command line: deploy, invoke, logs, delete, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from functions import zipped
from server import binary

# Exit codes, as `firn --help` lists them.
FUNCTION_FAILED, WRONG_USAGE, REFUSED, NO_CONNECTION, LOCAL_FAILURE = 1, 2, 3, 4, 5


@pytest.fixture
def firn(server, account, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_ENDPOINT": server.endpoint}

    def run(*arguments: str, stdin: str | None = None, code: int = 0, local: bool = False):
        command = [binary(), *arguments] + ([] if local else ["--account", account])
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, input=stdin,
                              timeout=120)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    run.folder = tmp_path
    run.environment = environment
    return run


@pytest.fixture
def hello(firn):
    folder = firn.folder / "hello"
    folder.mkdir()
    (folder / "app.py").write_text(
        "def handler(event, context):\n    print('got', event)\n    return {'hello': event.get('name', 'world')}\n")
    return folder


def test_deploy_invoke_logs_delete(firn, hello):
    deployed = json.loads(firn("deploy", "hello", "--runtime", "python3.12", "--json").stdout)
    assert (deployed["FunctionName"], deployed["Handler"]) == ("hello", "app.handler")
    assert json.loads(firn("invoke", "hello", "-p", '{"name": "firn"}').stdout) == {"hello": "firn"}
    (firn.folder / "event.json").write_text('{"name": "file"}')
    assert json.loads(firn("invoke", "hello", "-p", "@event.json").stdout) == {"hello": "file"}
    assert json.loads(firn("invoke", "hello", "-p", "-", stdin='{"name": "pipe"}').stdout) == {"hello": "pipe"}
    tail = firn("invoke", "hello", "--tail")
    assert "got {}" in tail.stderr and "REPORT RequestId" in tail.stderr
    assert json.loads(tail.stdout) == {"hello": "world"}
    until = time.monotonic() + 10
    while "got {'name': 'pipe'}" not in firn("logs", "hello").stdout:
        assert time.monotonic() < until
    listed = firn("functions")
    assert "hello" in listed.stdout and "python3.12" in listed.stdout
    assert [f["FunctionName"] for f in json.loads(firn("functions", "--json").stdout)] == ["hello"]
    firn("delete", "hello", "--yes")
    assert json.loads(firn("functions", "--json").stdout) == []


def test_deploy_again_updates(firn, hello):
    firn("deploy", "hello", "--runtime", "python3.12")
    (hello / "app.py").write_text("def handler(event, context): return 'changed'\n")
    firn("deploy", "hello", "--memory", "256", "--env", "KEY=1")
    assert json.loads(firn("invoke", "hello").stdout) == "changed"
    shown = json.loads(firn("functions", "show", "hello", "--json").stdout)["Configuration"]
    assert (shown["MemorySize"], shown["Environment"]) == (256, {"Variables": {"KEY": "1"}})


def test_deploy_guesses_what_it_can(firn):
    folder = firn.folder / "web"
    folder.mkdir()
    (folder / "index.mjs").write_text("export const handler = async (event) => ({ node: true });\n")
    firn("deploy", "web")
    assert json.loads(firn("invoke", "web").stdout) == {"node": True}


def test_deploy_takes_a_zip_and_points_an_alias(firn):
    (firn.folder / "ready.zip").write_bytes(zipped({"main.py": "def run(e, c): return c.function_version\n"}))
    firn("deploy", "ready.zip", "--name", "ready", "--handler", "main.run", "--runtime", "python3.12", "--alias", "live")
    assert json.loads(firn("invoke", "ready", "--qualifier", "live").stdout) == "1"


def test_a_function_error_has_its_exit_code_and_says_what_failed(firn, hello):
    (hello / "app.py").write_text("def handler(event, context): raise ValueError('no such colour')\n")
    firn("deploy", "hello", "--runtime", "python3.12")
    failed = firn("invoke", "hello", code=FUNCTION_FAILED)
    assert "ValueError" in failed.stderr and "no such colour" in failed.stderr
    assert json.loads(failed.stdout)["errorType"] == "ValueError"


def test_errors_have_their_exit_codes_and_say_what_to_do(firn):
    missing = firn("invoke", "nothing", code=REFUSED)
    assert "nothing" in missing.stderr
    firn("invoke", code=WRONG_USAGE)
    firn("invoke", "x", "-p", "{not json", code=WRONG_USAGE)
    firn("deploy", "no-such-folder", code=WRONG_USAGE)
    unreachable = firn("functions", "--endpoint", "http://127.0.0.1:1", code=NO_CONNECTION)
    assert "firn serve" in unreachable.stderr


def test_a_taken_port_is_said(firn, server):
    taken = firn("serve", "--listen", f"127.0.0.1:{server.port}", "--data", str(firn.folder / "d"), local=True,
                 code=LOCAL_FAILURE)
    assert str(server.port) in taken.stderr


def test_a_data_directory_in_use_is_said(firn, server):
    firn("serve", "--listen", "127.0.0.1:0", "--data", str(server.data), local=True, code=LOCAL_FAILURE)


def test_runtimes_shows_the_mapping(firn):
    table = firn("runtimes", local=True)
    assert "python3.12" in table.stdout and "nodejs20.x" in table.stdout and "provided.al2023" in table.stdout
    assert json.loads(firn("runtimes", "--json", local=True).stdout)


def test_doctor_reports_what_the_machine_offers(firn):
    checks = json.loads(firn("doctor", "--json", local=True).stdout)
    assert checks
    assert "cgroup" in firn("doctor", local=True).stdout


def test_keys_are_made_listed_and_deleted(firn):
    data = str(firn.folder / "keys")
    made = json.loads(firn("keys", "create", "--data", data, "--json").stdout)
    assert made["AccessKeyId"] and made["SecretAccessKey"]
    listed = firn("keys", "list", "--data", data).stdout
    assert made["AccessKeyId"] in listed and made["SecretAccessKey"] not in listed
    firn("keys", "delete", made["AccessKeyId"], "--data", data)
    assert made["AccessKeyId"] not in firn("keys", "list", "--data", data).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_scripts(firn, shell):
    script = firn("completions", shell, local=True).stdout
    assert "firn" in script and "deploy" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_help_and_version(firn):
    assert "Exit codes" in firn("--help", local=True).stdout
    assert firn("--version", local=True).stdout.startswith("firn ")


def test_following_a_log_shows_new_lines(firn, hello):
    firn("deploy", "hello", "--runtime", "python3.12")
    firn("invoke", "hello")
    follower = subprocess.Popen([binary(), "logs", "hello", "-f", "--account", account_of(firn)], cwd=firn.folder,
                                env=firn.environment, stdout=subprocess.PIPE, text=True)
    try:
        firn("invoke", "hello", "-p", '{"name": "followed"}')
        for line in follower.stdout:
            if "followed" in line:
                break
        else:
            raise AssertionError("the log ended")
    finally:
        follower.kill()
        follower.wait()


def account_of(firn) -> str:
    arn = json.loads(firn("functions", "show", "hello", "--json").stdout)["Configuration"]["FunctionArn"]
    return arn.split(":")[4]


def test_the_ready_line_is_one_line_with_the_address(server):
    assert len(server.lines) == 1
    assert server.endpoint in server.lines[0]
