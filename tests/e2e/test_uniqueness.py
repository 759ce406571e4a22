"""Environments made from one snapshot do not repeat each other's random values."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter

import pytest

import functions
from server import Server

RESTORES = 100
# Until the last of them has begun, none of the environments may be free again: each answers once.
HOLD_S = 20

# Every source is used once before the snapshot, so that what it keeps in advance is in it.
PYTHON = functions.python("""
    import os, random, secrets, ssl, tempfile, time, uuid

    def draw():
        return {
            "random.random": repr(random.random()),
            "random.getrandbits": str(random.getrandbits(64)),
            "secrets": secrets.token_hex(),
            "uuid4": str(uuid.uuid4()),
            "ssl.RAND_bytes": ssl.RAND_bytes(16).hex(),
            "os.urandom": os.urandom(16).hex(),
            "tempfile": next(tempfile._get_candidate_names()),
        }

    born, answered = draw(), 0

    def handler(event, context):
        global answered
        answered += 1
        values = draw()
        time.sleep(event["hold_s"])
        return {"born": born, "answered": answered, "values": values}
""")

NODE = functions.node("""
    const crypto = require('crypto');
    const { promisify } = require('util');

    // The last one is drawn by a thread of libuv's pool.
    const draw = async () => ({
      'crypto.randomBytes': crypto.randomBytes(16).toString('hex'),
      'crypto.randomUUID': crypto.randomUUID(),
      'crypto.randomInt': crypto.randomInt(2 ** 47),
      'crypto.getRandomValues': crypto.getRandomValues(new Uint32Array(4)).join(),
      'webcrypto.randomUUID': globalThis.crypto?.randomUUID() ?? crypto.randomUUID(),
      'Math.random': Math.random(),
      'generateKeyPair': crypto.generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).toString('hex'),
      'pool': (await promisify(crypto.randomBytes)(16)).toString('hex'),
    });

    const { random } = Math;
    const born = draw();
    let answered = 0;

    exports.handler = async (event) => {
      answered++;
      const values = { ...(await draw()), 'Math.random kept at init': random() };
      await new Promise((resolve) => setTimeout(resolve, event.hold_s * 1000));
      return { born: await born, answered, values };
    };
""")

JAVA = """
import java.security.SecureRandom;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

public class App {
    private static final SecureRandom AT_INIT = new SecureRandom();
    private static final Map<String, String> BORN = draw();
    private static int answered;

    private static Map<String, String> draw() {
        Map<String, String> values = new TreeMap<>();
        values.put("SecureRandom", Long.toString(new SecureRandom().nextLong()));
        values.put("SecureRandom made at init", Long.toString(AT_INIT.nextLong()));
        values.put("UUID", UUID.randomUUID().toString());
        values.put("Math.random", Double.toString(Math.random()));
        return values;
    }

    public Map<String, Object> handle(Map<String, Object> event) throws Exception {
        answered++;
        Map<String, String> values = draw();
        Thread.sleep(((Number) event.get("hold_s")).longValue() * 1000);
        return Map.of("born", BORN, "answered", answered, "values", values);
    }
}
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A server that takes as many environments as are asked for, whatever memory they may use."""
    running = Server(
        tmp_path_factory.mktemp("uniqueness") / "data",
        env={
            # AWS has no SnapStart for Node.js; firn takes it in this mode.
            "FIRN_SNAPSTART_MODE": "eager",
            "FIRN_SNAPSTART_PARKED_PER_FUNCTION": "0",
            "FIRN_INVOKER_MEMORY_BUDGET_MB": "1000000",
        },
    ).start()
    yield running
    assert running.alive(), f"the server died:\n{running.log()}"
    assert running.stop() == 0


def restore_many(server: Server, name: str, package: bytes, **config) -> list[dict]:
    """What as many environments as there are answers have drawn."""
    client = server.client("lambda", max_pool_connections=RESTORES, read_timeout=300)
    functions.create(client, name, package, Timeout=120, SnapStart={"ApplyOn": "PublishedVersions"}, **config)
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier=version, WaiterConfig={"Delay": 0.2, "MaxAttempts": 600}
    )
    made = client.get_function_configuration(FunctionName=name, Qualifier=version)
    assert made["SnapStart"]["OptimizationStatus"] == "On", made.get("StateReason")

    answers: list[functions.Answer] = []
    failures: list[Exception] = []

    def call():
        try:
            answers.append(
                functions.invoke(client, name, {"hold_s": HOLD_S}, Qualifier=version, LogType="Tail")
            )
        except Exception as err:  # Shown with the assertion below.
            failures.append(err)

    threads = [threading.Thread(target=call) for _ in range(RESTORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(answers) == RESTORES, failures[:3]
    assert all(answer.error is None for answer in answers), [a.body for a in answers if a.error][:3]
    assert all("\tRestore Duration: " in answer.tail for answer in answers)
    drawn = [answer.json for answer in answers]
    assert all(one["answered"] == 1 for one in drawn), "an environment answered twice"
    assert all(one["born"] == drawn[0]["born"] for one in drawn), "not all are from one snapshot"
    return drawn


def assert_distinct(drawn: list[dict]) -> None:
    for source in drawn[0]["values"]:
        counts = Counter(one["values"][source] for one in drawn)
        # Nor may a value of the snapshot itself come back.
        counts[drawn[0]["born"].get(source)] += 1
        repeated = {value: times for value, times in counts.items() if times > 1}
        assert not repeated, f"{source}: {len(counts)} values in {RESTORES} environments: {repeated}"


@pytest.mark.timeout(300)
def test_python_draws_anew_in_every_environment(crowded):
    assert_distinct(restore_many(crowded, "python", PYTHON, MemorySize=128))


@pytest.mark.timeout(300)
def test_node_draws_anew_in_every_environment(crowded):
    assert_distinct(restore_many(crowded, "node", NODE, runtime="nodejs20.x", MemorySize=128))


@pytest.mark.timeout(300)
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("javac")), reason="no JDK: nothing is known of Java's")
def test_java_draws_anew_in_every_environment(crowded, tmp_path):
    (tmp_path / "App.java").write_text(JAVA)
    subprocess.run(["javac", "--release", "17", "-d", tmp_path, tmp_path / "App.java"], check=True)
    package = functions.zipped({path.name: path.read_bytes() for path in tmp_path.glob("*.class")})
    drawn = restore_many(crowded, "java", package, runtime="java17", handler="App::handle", MemorySize=256)
    assert_distinct(drawn)
