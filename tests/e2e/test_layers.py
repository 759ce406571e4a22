"""Layers: what functions see at /opt, who may use which, and what stays of a deleted one."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request

import pytest
from botocore.exceptions import ClientError
from functions import create, invoke, node, python, settle, zipped
from server import binary

READS = python("""
    import os

    def handler(event, context):
        def text(path):
            with open(path) as file:
                return file.read()
        return {path: text(path) if os.path.exists(path) else None for path in event["paths"]}
""")


def publish(client, name: str, files: dict, **more) -> str:
    content = {"ZipFile": zipped(files, executable=("bin/tool", "bootstrap"))}
    return client.publish_layer_version(LayerName=name, Content=content, **more)["LayerVersionArn"]


def read(client, name: str, *paths: str) -> dict:
    answer = invoke(client, name, {"paths": [f"/opt/{path}" for path in paths]})
    assert answer.error is None, answer
    return {path.removeprefix("/opt/"): text for path, text in answer.json.items()}


def test_later_layers_cover_earlier_ones(functions):
    arns = [publish(functions, f"l{n}", {f"own{n}": str(n), "shared": str(n), f"folder/{n}": str(n)})
            for n in range(5)]
    create(functions, "f", READS, Layers=arns)
    found = read(functions, "f", "own0", "own4", "shared", "folder/0", "folder/4")
    assert found == {"own0": "0", "own4": "4", "shared": "4", "folder/0": "0", "folder/4": "4"}
    functions.update_function_configuration(FunctionName="f", Layers=[arns[3], arns[1]])
    settle(functions, "f")
    assert read(functions, "f", "own0", "shared") == {"own0": None, "shared": "1"}
    functions.update_function_configuration(FunctionName="f", Layers=[])
    settle(functions, "f")
    assert read(functions, "f", "shared") == {"shared": None}


def test_equal_layers_and_one_layer_twice_in_a_row(functions):
    files = {"shared": "same"}
    arns = [publish(functions, "a", files), publish(functions, "b", {"shared": "other", "b": "b"}),
            publish(functions, "c", files)]
    create(functions, "f", READS, Layers=arns)
    assert read(functions, "f", "shared", "b") == {"shared": "same", "b": "b"}
    create(functions, "g", READS, Layers=[arns[0], arns[2]])
    assert read(functions, "g", "shared") == {"shared": "same"}


def test_nothing_writes_into_a_layer(functions):
    arns = [publish(functions, "a", {"file": "x"}), publish(functions, "b", {"other": "x"})]
    writes = python("""
        def handler(event, context):
            failed = []
            for path in ("/opt/file", "/opt/new"):
                try:
                    open(path, "w")
                except OSError as err:
                    failed.append(err.errno)
            return failed
    """)
    for name, layers in (("one", arns[:1]), ("two", arns)):
        create(functions, name, writes, Layers=layers)
        assert invoke(functions, name).json == [30, 30]  # EROFS


def test_python_finds_modules(functions):
    # Both places, and the package before them.
    minor = 12
    arn = publish(functions, "l", {
        "python/plain.py": "where = __file__",
        "python/both.py": "where = __file__",
        f"python/lib/python3.{minor}/site-packages/both.py": "where = __file__",
        "python/own.py": "where = __file__",
    })
    package = zipped({"own.py": "where = __file__", "app.py": """
        import sys, plain, own
        try:
            import both
        except ImportError:
            both = None

        def handler(event, context):
            return {"plain": plain.where, "own": own.where, "both": both.where, "minor": sys.version_info[1]}
    """})
    create(functions, "f", package, Layers=[arn])
    found = invoke(functions, "f").json
    assert (found["plain"], found["own"]) == ("/opt/python/plain.py", "/var/task/own.py")
    if found["minor"] == minor:
        assert found["both"] == f"/opt/python/lib/python3.{minor}/site-packages/both.py"
    else:
        assert found["both"] == "/opt/python/both.py"


@pytest.mark.parametrize("kind", ["require", "import"])
def test_node_finds_modules(functions, kind):
    arn = publish(functions, "l", {
        "nodejs/node_modules/plain/index.js": "exports.where = __filename;",
        "nodejs/node_modules/both/index.js": "exports.where = __filename;",
        "nodejs/node22/node_modules/both/index.js": "exports.where = __filename;",
    })
    sources = {
        "require": ("app.js", """
            const plain = require('plain'), both = require('both');
            exports.handler = async () => [plain.where, both.where];
        """),
        "import": ("app.mjs", """
            import plain from 'plain';
            import both from 'both';
            export const handler = async () => [plain.where, both.where];
        """),
    }
    name, source = sources[kind]
    create(functions, "f", node(source, name), runtime="nodejs22.x", Layers=[arn])
    answer = invoke(functions, "f")
    assert answer.json == ["/opt/nodejs/node_modules/plain/index.js",
                           "/opt/nodejs/node22/node_modules/both/index.js"], answer


def test_programs_and_libraries_are_on_their_paths(functions):
    arn = publish(functions, "l", {"bin/tool": "#!/bin/sh\necho from a layer\n", "lib/x": ""})
    runs = python("""
        import os, subprocess

        def handler(event, context):
            said = subprocess.run(["tool"], capture_output=True, text=True).stdout
            return [said.strip(), "/opt/lib" in os.environ["LD_LIBRARY_PATH"].split(":")]
    """)
    create(functions, "f", runs, Layers=[arn])
    assert invoke(functions, "f").json == ["from a layer", True]


def test_a_custom_runtime_may_come_from_a_layer(functions):
    bootstrap = """
        #!/bin/sh
        while true; do
            HEADERS=$(mktemp)
            EVENT=$(curl -sS -LD "$HEADERS" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
            ID=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$HEADERS" | tr -d '[:space:]' | cut -d: -f2)
            curl -sS "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$ID/response" -d '"from a layer"'
        done
    """
    arn = publish(functions, "runtime", {"bootstrap": bootstrap})
    create(functions, "f", zipped({"README": "no code"}), runtime="provided.al2023", Layers=[arn])
    assert invoke(functions, "f").json == "from a layer"


def test_a_deleted_version_goes_on_in_its_functions(functions, server):
    arn = publish(functions, "l", {"file": "kept"})
    create(functions, "f", READS, Layers=[arn])
    version = functions.publish_version(FunctionName="f")["Version"]
    functions.delete_layer_version(LayerName="l", VersionNumber=1)
    assert read(functions, "f", "file") == {"file": "kept"}
    server.end_environments("f")
    assert read(functions, "f", "file") == {"file": "kept"}
    shown = functions.get_function_configuration(FunctionName="f", Qualifier=version)
    assert shown["Layers"][0]["Arn"] == arn
    with pytest.raises(ClientError, match="does not exist"):
        create(functions, "g", READS, Layers=[arn])
    assert publish(functions, "l", {"file": "new"}).endswith(":2")


def test_a_layer_can_be_downloaded(functions):
    content = zipped({"file": "x"})
    published = functions.publish_layer_version(LayerName="l", Content={"ZipFile": content})
    for answer in (published, functions.get_layer_version(LayerName="l", VersionNumber=1),
                   functions.get_layer_version_by_arn(Arn=published["LayerVersionArn"])):
        with urllib.request.urlopen(answer["Content"]["Location"], timeout=10) as download:
            assert download.read() == content
        assert answer["Content"]["CodeSize"] == len(content)


def test_another_account_needs_permission(server, account):
    owner, guest = server.client(account=account), server.client(account="9" * 12)
    arn = publish(owner, "l", {"file": "shared"})
    name = f"f-{account}"

    def refused(act) -> None:
        with pytest.raises(ClientError) as info:
            act()
        assert info.value.response["Error"]["Code"] == "AccessDeniedException"
        assert f"lambda:GetLayerVersion on resource: {arn}" in str(info.value)

    refused(lambda: guest.get_layer_version_by_arn(Arn=arn))
    refused(lambda: create(guest, name, READS, Layers=[arn]))
    owner.add_layer_version_permission(
        LayerName="l", VersionNumber=1, StatementId="guest", Action="lambda:GetLayerVersion", Principal="9" * 12)
    assert guest.get_layer_version_by_arn(Arn=arn)["Version"] == 1
    create(guest, name, READS, Layers=[arn])
    assert read(guest, name, "file") == {"file": "shared"}
    owner.remove_layer_version_permission(LayerName="l", VersionNumber=1, StatementId="guest")
    refused(lambda: guest.get_layer_version_by_arn(Arn=arn))
    # What uses it goes on.
    server.end_environments(name)
    assert read(guest, name, "file") == {"file": "shared"}
    guest.delete_function(FunctionName=name)


@pytest.mark.parametrize("entries", [
    {"../escape": "x"}, {"/absolute": "x"}, {"a": "x", "a/b": "x"},
])
def test_hostile_archives_are_refused(functions, entries):
    with pytest.raises(ClientError) as info:
        functions.publish_layer_version(LayerName="l", Content={"ZipFile": zipped(entries)})
    assert info.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert functions.list_layer_versions(LayerName="l")["LayerVersions"] == []


def test_snapshots_hold_their_layers(functions, server):
    arns = [publish(functions, f"l{n}", {"python/part.py": f"number = {n}", f"python/own{n}.py": f"number = {n}"})
            for n in range(2)]
    package = python("""
        import part, own0

        def handler(event, context):
            import own1  # read from /opt after the thaw
            return [part.number, own0.number, own1.number]
    """)
    create(functions, "f", package, Layers=arns, SnapStart={"ApplyOn": "PublishedVersions"}, MemorySize=256)
    version = functions.publish_version(FunctionName="f")["Version"]
    functions.get_waiter("published_version_active").wait(
        FunctionName="f", Qualifier=version, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
    answer = invoke(functions, "f", Qualifier=version, LogType="Tail")
    assert answer.json == [1, 0, 1], answer
    shown = functions.get_function_configuration(FunctionName="f", Qualifier=version)
    if shown["SnapStart"]["OptimizationStatus"] == "On":
        assert answer.report()["restore"], answer.tail


def test_a_publication_that_was_answered_survives_a_kill(own_server):
    server = own_server()
    client = server.client()
    answered: list[int] = []

    def publish_until_killed() -> None:
        try:
            for n in range(1000):
                content = {"ZipFile": zipped({"file": str(n), "filling": os.urandom(200_000)})}
                answered.append(client.publish_layer_version(LayerName="l", Content=content)["Version"])
        except Exception:
            return

    publisher = threading.Thread(target=publish_until_killed)
    publisher.start()
    while len(answered) < 5:
        publisher.join(0.01)
        assert publisher.is_alive() or len(answered) >= 5
    server.kill()
    publisher.join(30)
    server.start()
    client = server.client()
    kept = [v["Version"] for v in client.list_layer_versions(LayerName="l")["LayerVersions"]]
    # The last one may have been written and not answered.
    assert sorted(kept)[:len(answered)] == answered and len(kept) <= len(answered) + 1
    arn = client.get_layer_version(LayerName="l", VersionNumber=answered[-1])["LayerVersionArn"]
    create(client, "f", READS, Layers=[arn])
    assert read(client, "f", "file") == {"file": str(answered[-1] - 1)}
    again = {"ZipFile": zipped({"file": "x"})}
    assert client.publish_layer_version(LayerName="l", Content=again)["Version"] == max(kept) + 1


def test_the_command_line(server, account, tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_ENDPOINT": server.endpoint}

    def firn(*arguments: str) -> str:
        done = subprocess.run([binary(), *arguments, "--account", account], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    (tmp_path / "tools/python").mkdir(parents=True)
    (tmp_path / "tools/python/tools.py").write_text("name = 'one'\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/app.py").write_text("import tools\ndef handler(event, context): return tools.name\n")
    arn = firn("layers", "publish", "tools", "-r", "python3.12", "--description", "what we use").strip()
    assert arn.endswith(":layer:tools:1")
    listed = firn("layers", "list")
    assert arn in listed and "python3.12" in listed and "what we use" in listed
    firn("deploy", "app", "--runtime", "python3.12", "--layer", "tools")
    assert json.loads(firn("invoke", "app")) == "one"
    # Unchanged content is no new version; changed content is.
    firn("deploy", "app", "--layer", "tools")
    assert len(json.loads(firn("layers", "list", "tools", "--json"))) == 1
    (tmp_path / "tools/python/tools.py").write_text("name = 'two'\n")
    firn("deploy", "app", "--layer", "tools")
    assert json.loads(firn("invoke", "app")) == "two"
    firn("deploy", "app", "--layer", arn)
    assert json.loads(firn("invoke", "app")) == "one"
    firn("layers", "delete", "tools:2")
    assert len(json.loads(firn("layers", "list", "tools", "--json"))) == 1
