"""Java functions through the whole of firn: packages as Maven and Gradle make them, layers, errors, logs, settings."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import textwrap
import zipfile
from pathlib import Path

import pytest
from functions import create, invoke, settle, zipped
from test_snapstart import eventually, fresh, frozen, is_restored

ROOT = Path(__file__).resolve().parents[2]
JARS = Path(os.environ.get("FIRN_JAVA_JARS", ROOT / ".venv/java"))
pytestmark = pytest.mark.skipif(not shutil.which("javac"), reason="NO JDK: Java functions were not tested at all")


@pytest.fixture(scope="module")
def compile_java(tmp_path_factory):
    """Compiles sources (class name: source) against the interfaces of the client; returns class files by path."""
    interfaces = tmp_path_factory.mktemp("interfaces")
    client = ROOT / "runtimes/java/src"
    sources = [str(path) for path in sorted(client.rglob("*.java"))]
    subprocess.run(["javac", "--release", "11", "-nowarn", "-d", str(interfaces), *sources], check=True)

    known: dict[str, dict[str, bytes]] = {}

    def run(sources: dict[str, str], release: str = "11", class_path: tuple[str, ...] = ()) -> dict[str, bytes]:
        key = json.dumps([sources, release, class_path])
        if key not in known:
            known[key] = build(sources, release, class_path)
        return known[key]

    def build(sources: dict[str, str], release: str, class_path: tuple[str, ...]) -> dict[str, bytes]:
        folder = tmp_path_factory.mktemp("java")
        for name, source in sources.items():
            path = folder / "src" / f"{name}.java"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        files = [str(path) for path in sorted((folder / "src").rglob("*.java"))]
        where = os.pathsep.join([str(interfaces), *class_path])
        subprocess.run(["javac", "--release", release, "-cp", where, "-d", str(folder / "out"), *files], check=True)
        return {str(path.relative_to(folder / "out")): path.read_bytes() for path in (folder / "out").rglob("*.class")}

    return run


def as_jar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
        for name, content in files.items():
            jar.writestr(name, content)
    return buffer.getvalue()


ECHO = {"example/Echo": """
    package example;
    import com.amazonaws.services.lambda.runtime.*;
    import java.util.Map;
    public class Echo implements RequestHandler<Map<String, Object>, Map<String, Object>> {
        public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
            context.getLogger().log("got " + event + "\\n");
            System.out.println("printed");
            event.put("id", context.getAwsRequestId());
            event.put("left", context.getRemainingTimeInMillis() > 0);
            event.put("java", Runtime.version().feature());
            return event;
        }
        public Object fail(Map<String, Object> event) {
            throw new IllegalStateException("on purpose");
        }
        public Object look(Map<String, Object> event) throws Exception {
            String path = (String) event.get("path");
            if (path != null) {
                return new java.io.File(path).canWrite();
            }
            return java.util.List.of(Runtime.getRuntime().maxMemory() >> 20, System.getProperty("extra", "none"),
                                     System.getProperty("user.dir"), System.getenv("AWS_EXECUTION_ENV"),
                                     java.security.Security.getProperty("networkaddress.cache.negative.ttl"),
                                     new java.io.File("/tmp").list().length);
        }
    }
"""}


@pytest.mark.parametrize("runtime", ["java8.al2", "java11", "java17", "java21", "java25"])
def test_a_jar_runs_on_every_runtime(functions, compile_java, runtime):
    create(functions, "jar", as_jar(compile_java(ECHO)), runtime=runtime, handler="example.Echo", MemorySize=512)
    answer = invoke(functions, "jar", {"a": [1, "ü", None]}, LogType="Tail")
    assert answer.json["a"] == [1, "ü", None]
    assert answer.json["id"] == answer.request_id and answer.json["left"] is True
    assert answer.json["java"] >= 11
    assert "got {a=[1, ü, null]}\n" in answer.tail and "printed\n" in answer.tail
    assert answer.report()["init"], "a cold start"
    again = invoke(functions, "jar", {"b": 2}, LogType="Tail")
    assert again.json["b"] == 2 and again.report()["init"] is None


def test_a_zip_with_jars_in_lib(functions, compile_java):
    built = compile_java({
        "lib/One": "package lib; public class One { public static String name() { return \"one\"; } }",
        "Main": """
            import com.amazonaws.services.lambda.runtime.*;
            import java.io.*;
            public class Main implements RequestStreamHandler {
                public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
                    out.write((lib.One.name() + " ").getBytes());
                    in.transferTo(out);
                }
            }
        """,
    })
    jar = as_jar({name: content for name, content in built.items() if name.startswith("lib/")})
    package = zipped({"Main.class": built["Main.class"], "lib/one.jar": jar, "lib/readme.txt": "no jar"})
    create(functions, "zip", package, runtime="java17", handler="Main", MemorySize=512)
    assert invoke(functions, "zip", raw=b'{"raw":  1}').body == b'one {"raw":  1}'


def test_errors_are_those_of_aws(functions, compile_java):
    create(functions, "errors", as_jar(compile_java(ECHO)), runtime="java17", handler="example.Echo::fail", MemorySize=512)
    answer = invoke(functions, "errors", LogType="Tail")
    assert (answer.error, answer.json["errorType"], answer.json["errorMessage"]) == (
        "Unhandled", "java.lang.IllegalStateException", "on purpose")
    assert answer.json["stackTrace"][0].startswith("example.Echo.fail(Echo.java:")
    assert "on purpose: java.lang.IllegalStateException\njava.lang.IllegalStateException: on purpose\n\tat example.Echo.fail" in answer.tail
    functions.update_function_configuration(FunctionName="errors", Handler="example.Missing")
    settle(functions, "errors")
    answer = invoke(functions, "errors")
    assert answer.json == {"errorMessage": "Class not found: example.Missing", "errorType": "java.lang.ClassNotFoundException"}


def test_a_failing_constructor_is_a_failed_init(functions, compile_java):
    create(functions, "init", as_jar(compile_java({"Bad": """
        import com.amazonaws.services.lambda.runtime.*;
        public class Bad implements RequestHandler<Object, Object> {
            public Bad() { throw new IllegalArgumentException("no setting"); }
            public Object handleRequest(Object event, Context context) { return null; }
        }
    """})), runtime="java17", handler="Bad", MemorySize=512)
    answer = invoke(functions, "init", LogType="Tail")
    assert (answer.error, answer.json["errorType"], answer.json["errorMessage"]) == (
        "Unhandled", "java.lang.IllegalArgumentException", "no setting")
    assert "Runtime.BadFunctionCode" in answer.tail


def test_what_the_jvm_is_given(functions, compile_java):
    create(functions, "jvm", as_jar(compile_java(ECHO)), runtime="java17", handler="example.Echo::look", MemorySize=512,
           Environment={"Variables": {"JAVA_TOOL_OPTIONS": "-Dextra=given"}})
    heap, extra, folder, environment, ttl, in_tmp = invoke(functions, "jvm").json
    assert 400 < heap <= 436, "85 % of the memory"
    assert (extra, folder, environment, ttl) == ("given", "/var/task", "AWS_Lambda_java17", "1")
    assert in_tmp == 0, "the JVM leaves /tmp alone"
    assert invoke(functions, "jvm", {"path": "/tmp"}).json is True
    assert invoke(functions, "jvm", {"path": "/var/task"}).json is False


def test_a_wrapper_gets_the_jvms_command_line(functions, compile_java):
    files = {**compile_java(ECHO), "wrap": "#!/bin/sh\nexec env EXTRA=1 \"$@\" -Dignored\n".replace(' -Dignored', "")}
    create(functions, "wrapped", zipped(files, executable=("wrap",)), runtime="java17", handler="example.Echo", MemorySize=512,
           Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}})
    assert invoke(functions, "wrapped", {"a": 1}).json["a"] == 1


def test_json_logs_carry_level_and_request(functions, compile_java):
    create(functions, "logs", as_jar(compile_java({"Logs": """
        import com.amazonaws.services.lambda.runtime.*;
        import com.amazonaws.services.lambda.runtime.logging.LogLevel;
        public class Logs {
            public String handle(Object event, Context context) {
                context.getLogger().log("one\\ntwo", LogLevel.WARN);
                context.getLogger().log("hidden", LogLevel.DEBUG);
                return "x";
            }
        }
    """})), runtime="java17", handler="Logs::handle", MemorySize=512,
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO"})
    answer = invoke(functions, "logs", LogType="Tail")
    records = [json.loads(line) for line in answer.tail.strip().split("\n")]
    own = [record for record in records if "AWSRequestId" in record]
    assert [(record["message"], record["level"], record["AWSRequestId"]) for record in own] == [("one\ntwo", "WARN", answer.request_id)]


def test_a_tls_context_and_a_subprocess(functions, compile_java):
    """What needs files of the JVM that lie outside of it on some systems."""
    create(functions, "tls", as_jar(compile_java({"Tls": """
        public class Tls {
            public Object handle(Object event) throws Exception {
                int roots = 0;
                var factory = javax.net.ssl.TrustManagerFactory.getInstance(javax.net.ssl.TrustManagerFactory.getDefaultAlgorithm());
                factory.init((java.security.KeyStore) null);
                for (var manager : factory.getTrustManagers()) {
                    roots += ((javax.net.ssl.X509TrustManager) manager).getAcceptedIssuers().length;
                }
                var process = new ProcessBuilder("/bin/echo", "hello").start();
                var host = java.net.InetAddress.getByName("localhost").getHostAddress();
                return java.util.List.of(roots, new String(process.getInputStream().readAllBytes()), host,
                    java.time.ZonedDateTime.now(java.time.ZoneId.of("Europe/Berlin")).getYear() > 2000);
            }
        }
    """})), runtime="java17", handler="Tls::handle", MemorySize=512)
    roots, echoed, host, zoned = invoke(functions, "tls").json
    assert roots > 10 and (echoed, host, zoned) == ("hello\n", "127.0.0.1", True)


def test_the_examples_deploy(functions, tmp_path):
    source = ROOT / "examples/hello-java/Hello.java"
    subprocess.run(["javac", "--release", "11", "-d", str(tmp_path), str(source)], check=True)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.class")}
    create(functions, "hello-java", zipped(files), runtime="java17", handler="Hello::handle", MemorySize=512)
    assert invoke(functions, "hello-java", {"name": "Ada"}).json == {"message": "Hello, Ada!"}


# SnapStart


@pytest.fixture(scope="module")
def prices(compile_java) -> bytes:
    """examples/snapstart-java as Maven packages it."""
    crac = next(iter(sorted(JARS.glob("crac-*.jar"))), None)
    if crac is None:
        pytest.skip(f"THE JARS OF JAVA TESTS ARE MISSING ({JARS}): hooks of Java functions were not tested")
    example = ROOT / "examples/snapstart-java/src/main"
    source = (example / "java/example/Prices.java").read_text()
    built = compile_java({"example/Prices": source}, release="17", class_path=(str(crac),))
    priming = (example / "resources/firn-priming.json").read_bytes()
    return zipped({**built, "firn-priming.json": priming, "lib/crac.jar": crac.read_bytes()})


@pytest.mark.parametrize("runtime", ["java17", "java25"])
def test_hooks_of_org_crac_run_around_the_snapshot(server, functions, logs, prices, runtime):
    frozen(functions, "prices", prices, runtime=runtime, handler="example.Prices", MemorySize=512)
    answers = [fresh(server, functions, "prices", {"item": "tea"}) for _ in range(3)]
    assert all(is_restored(answer) for answer in answers), answers[0].tail
    assert len({answer.json["loaded"] for answer in answers}) == 1, "what the init loaded is in the snapshot"
    assert len({answer.json["connection"] for answer in answers}) == 3, "each opens its own connection"
    assert all(answer.json["connection"].startswith("opened at ") and answer.json["cents"] == 175 for answer in answers)
    said = lambda text: logs.filter_log_events(logGroupName="/aws/lambda/prices", filterPattern=f'"{text}"')["events"]
    eventually(lambda: len(said("before the snapshot")) == 1 and len(said("after the restore")) >= 3)
    streams = [event["logStreamName"] for event in said("after the restore")]
    assert len(set(streams)) == len(streams), "once in each environment, and in those that are parked ahead"
    again = invoke(functions, "prices", {"item": "none"}, Qualifier="1")
    assert again.json["errorMessage"] == "no price for none", "a restored environment serves on"


def test_random_numbers_of_100_restores_differ(server, functions, compile_java):
    source = (ROOT / "tests/runtimes/java/src/fixtures/Draws.java").read_text()
    built = as_jar(compile_java({"fixtures/Draws": source}))
    frozen(functions, "draws", built, runtime="java17", handler="fixtures.Draws::handle", MemorySize=512)
    drawn: dict[str, set[str]] = {}
    for _ in range(100):
        answer = fresh(server, functions, "draws")
        assert is_restored(answer)
        for kind, value in answer.json.items():
            drawn.setdefault(kind, set()).add(str(value))
    assert {kind: len(values) for kind, values in drawn.items()} == dict.fromkeys(
        ["secure", "uuid", "math", "thread", "new", "split"], 100)


@pytest.mark.parametrize("collector", ["G1", "Serial"])
def test_a_restored_jvm_collects_garbage_starts_threads_and_processes_and_takes_signals(server, functions, compile_java, collector):
    built = as_jar(compile_java({"Busy": """
        import java.util.*;
        import java.util.concurrent.*;
        public class Busy {
            static final ExecutorService POOL = Executors.newFixedThreadPool(4);
            static final BlockingQueue<String> SIGNALS = new LinkedBlockingQueue<>();
            static {
                POOL.submit(() -> 1);
                // Caught by a thread of the JVM that waits for signals since then.
                sun.misc.Signal.handle(new sun.misc.Signal("USR2"), signal -> SIGNALS.add(signal.getName()));
            }
            public Object handle(Object event) throws Exception {
                List<Future<Integer>> futures = new ArrayList<>();
                for (int t = 0; t < 8; t++) {
                    futures.add(POOL.submit(() -> {
                        int sum = 0;
                        for (int i = 0; i < 2000; i++) sum += new byte[16 * 1024].length / 1024;
                        return sum;
                    }));
                }
                int sum = 0;
                for (Future<Integer> future : futures) sum += future.get();
                System.gc();
                Thread fresh = new Thread(() -> {});
                fresh.start();
                fresh.join();
                String nothing = event == null ? "" : null;
                boolean trapped = false;
                try { nothing.length(); } catch (NullPointerException err) { trapped = true; }
                boolean overflowed = false;
                try { deep(0); } catch (StackOverflowError err) { overflowed = true; }
                Process process = new ProcessBuilder("/bin/echo", "child").start();
                String said = new String(process.getInputStream().readAllBytes()).trim();
                sun.misc.Signal.handle(new sun.misc.Signal("HUP"), signal -> SIGNALS.add(signal.getName()));
                Set<String> signals = new TreeSet<>();
                for (String name : List.of("USR2", "HUP")) {
                    String command = "kill -" + name + " " + ProcessHandle.current().pid();
                    new ProcessBuilder("/bin/sh", "-c", command).start().waitFor();
                    signals.add(String.valueOf(SIGNALS.poll(10, TimeUnit.SECONDS)));
                }
                String collectors = java.lang.management.ManagementFactory.getGarbageCollectorMXBeans().get(0).getName();
                return List.of(sum, trapped, overflowed, said, signals, collectors);
            }
            static int deep(int n) { return deep(n + 1) + 1; }
        }
    """}))
    frozen(functions, "busy", built, runtime="java17", handler="Busy::handle", MemorySize=512, Timeout=30,
           Environment={"Variables": {"JAVA_TOOL_OPTIONS": f"-XX:+Use{collector}GC"}})
    for _ in range(2):
        answer = fresh(server, functions, "busy")
        assert is_restored(answer)
        assert answer.json[:5] == [8 * 2000 * 16, True, True, "child", ["HUP", "USR2"]]
        assert answer.json[5].startswith({"G1": "G1", "Serial": "Copy"}[collector])
    assert invoke(functions, "busy", Qualifier="1").json[0] == 8 * 2000 * 16


SDK = """
    import java.io.InputStream;
    import java.net.*;
    import java.util.*;
    import software.amazon.awssdk.auth.credentials.*;
    import software.amazon.awssdk.auth.signer.Aws4Signer;
    import software.amazon.awssdk.auth.signer.params.Aws4SignerParams;
    import software.amazon.awssdk.http.*;
    import software.amazon.awssdk.regions.Region;

    public class Sdk {
        // As every client of the SDK does unless it is told otherwise; it keeps what it was given at init.
        static final DefaultCredentialsProvider PROVIDER = DefaultCredentialsProvider.create();
        static final String AT_INIT = PROVIDER.resolveCredentials().accessKeyId();

        public Object handle(Map<String, Object> event) throws Exception {
            Set<String> keys = new TreeSet<>(System.getenv().keySet());
            keys.retainAll(Set.of("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI"));
            AwsCredentials kept = PROVIDER.resolveCredentials();
            AwsCredentials fresh = DefaultCredentialsProvider.builder().build().resolveCredentials();
            return Map.of("keys", keys, "kept", AT_INIT.equals(kept.accessKeyId()),
                "session", kept instanceof AwsSessionCredentials && fresh instanceof AwsSessionCredentials,
                "answers", List.of(ask(kept), ask(fresh)));
        }

        static String ask(AwsCredentials credentials) throws Exception {
            String path = "/2015-03-31/functions/sdk/configuration";
            URI uri = URI.create(System.getenv("AWS_ENDPOINT_URL") + path + "?Qualifier=1");
            SdkHttpFullRequest request = SdkHttpFullRequest.builder().method(SdkHttpMethod.GET).uri(uri).build();
            request = Aws4Signer.create().sign(request, Aws4SignerParams.builder().awsCredentials(credentials)
                .signingName("lambda").signingRegion(Region.of(System.getenv("AWS_REGION"))).build());
            HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
            request.headers().forEach((name, values) -> connection.setRequestProperty(name, values.get(0)));
            int status = connection.getResponseCode();
            try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
                return new String(body.readAllBytes());
            }
        }
    }
"""


def test_the_aws_sdk_finds_credentials_in_a_restored_environment(server, functions, account, compile_java):
    jars = [jar for jar in sorted(JARS.glob("*.jar")) if not jar.name.startswith(("aws-lambda-java", "crac-", "joda-"))]
    if not any(jar.name.startswith("auth-2.") for jar in jars):
        pytest.skip(f"THE JARS OF JAVA TESTS ARE MISSING ({JARS}): credentials of the AWS SDK were not tested")
    built = compile_java({"Sdk": SDK}, class_path=tuple(map(str, jars)))
    package = zipped({**built, **{f"lib/{jar.name}": jar.read_bytes() for jar in jars}})
    frozen(functions, "sdk", package, runtime="java17", handler="Sdk::handle", MemorySize=512, Timeout=30)
    for _ in range(2):
        answer = fresh(server, functions, "sdk")
        assert is_restored(answer), answer.tail
        found = answer.json
        arns = [json.loads(body).get("FunctionArn") for body in found["answers"]]
        assert arns == [f"arn:aws:lambda:us-east-1:{account}:function:sdk:1"] * 2, found
        assert found["keys"] == ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], "no keys that grow old with the snapshot"
        assert found["session"] and found["kept"], found
