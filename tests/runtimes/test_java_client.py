"""firn's Java client against a toy Runtime API: events of every kind, errors, logs, the way to a snapshot.

The expected wording is that of AWS's runtime interface client for Java. Skipped, loudly, without a JDK; tests with
third-party jars also need what scripts/lib/setup.sh fetches (`FIRN_JAVA_JARS` names another place for them).
"""

import base64
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import toy_api
from conftest import RUNTIMES

CLIENT = RUNTIMES / "java"
HERE = pathlib.Path(__file__).resolve().parent
JARS = pathlib.Path(os.environ.get("FIRN_JAVA_JARS", RUNTIMES.parent / ".venv/java"))
FLAGS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac"]
SNAP = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


def find_jdks():
    """One home with a compiler for each major version from 11 on."""
    found = {}
    for release in glob.glob("/usr/lib/jvm/*/release") + glob.glob(os.environ.get("JAVA_HOME", "/none") + "/release"):
        home = pathlib.Path(release).parent
        version = re.search(r'JAVA_VERSION="(\d+)', pathlib.Path(release).read_text())
        if version and int(version[1]) >= 11 and (home / "bin/javac").exists():
            found.setdefault(int(version[1]), home)
    return dict(sorted(found.items()))


JDKS = find_jdks()
pytestmark = pytest.mark.skipif(not JDKS, reason="NO JDK: firn's Java client was not tested at all")
ANY = next(iter(JDKS.values()), None)
NEWEST = max(JDKS, default=0)


def third_party():
    names = ("aws-lambda-java-events-", "joda-time-", "crac-", "jackson-annotations-", "jackson-core-", "jackson-databind-")
    jars = [next(iter(sorted(JARS.glob(name + "*.jar"))), None) for name in names]
    if None in jars:
        pytest.skip("THIRD-PARTY JARS ARE MISSING (%s): run scripts/test, or ensure_java_jars of scripts/lib/setup.sh" % JARS)
    return jars


def compile_java(sources, target, class_path=(), release="11"):
    command = [ANY / "bin/javac", "--release", release, "-XDstringConcat=inline", "-nowarn", "-d", target]
    command += ["-cp", os.pathsep.join(map(str, class_path))] if class_path else []
    done = subprocess.run([*map(str, command), *map(str, sources)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def jar(tmp_path_factory):
    """The client, built as build.rs does."""
    root = tmp_path_factory.mktemp("java-client")
    compile_java(sorted(CLIENT.glob("src/**/*.java")), root / "classes")
    tool = [ANY / "bin/jar", "cfm0", root / "client.jar", CLIENT / "manifest.mf", "-C", root / "classes", "."]
    subprocess.run(list(map(str, tool)), check=True)
    return root / "client.jar"


@pytest.fixture(scope="session")
def task(tmp_path_factory, jar):
    """A package with the functions that need nothing but the client."""
    root = tmp_path_factory.mktemp("java-task")
    own = [HERE / "java/src/fixtures" / (name + ".java") for name in ("Methods", "Pojo", "Failing", "Logs", "Draws")]
    compile_java(own, root, [jar])
    return root


@pytest.fixture(scope="session")
def packaged(tmp_path_factory, jar):
    """A package as Maven makes it: classes at the root, dependencies in `lib`."""
    root = tmp_path_factory.mktemp("java-packaged")
    jars = third_party()
    sources = [HERE / f"java/src/fixtures/{name}.java" for name in ("Events", "Mapping", "Named", "Snap")]
    compile_java(sources, root, [jar, *jars])
    (root / "lib").mkdir()
    for dependency in jars:
        shutil.copy(dependency, root / "lib")
    return root


@pytest.fixture
def run(jar, task):
    def run(handler, events=({},), root=None, jdk=ANY, flags=(), **options):
        command = [str(jdk / "bin/java"), *FLAGS, *flags, "-jar", str(jar)]
        return toy_api.run(command, "java17", handler, root or task, list(events), timeout=30, **options)

    return run


def answers(outcome):
    assert outcome.exit_code is None, (outcome.stdout, outcome.stderr)
    assert {call.kind for call in outcome.answers} <= {"invocation:response"}, [call.body for call in outcome.answers]
    return [call.json for call in outcome.answers]


# Handlers


@pytest.mark.parametrize("method, events, expected", [
    ("echo", [{"a": [1, 1.5, "ü€𝄞\u2028", None, True]}, [], "text", 5, None, {}, 1e300, 2**70], None),
    ("nothing", [{"ignored": 1}], ["nothing in"]),
    ("context", [{}], ["toy"]),
    ("returnsNothing", [{"a": 1}], [None]),
    ("number", [4, "5", 6.7, [8]], [5, 6, 7, 9]),
    ("boxed", [None, "", 7], [None, None, 7]),
    ("text", ["x", 5, True, ["one"]], ["x", "5", "true", "one"]),
    ("flag", [True, "true", 0], [False, False, True]),
    ("sum", [[1, 2.5, "3"], 4], [6.5, 4.0]),
    ("types", [{"i": 1, "l": 2**40, "b": 2**70, "d": 1.5, "s": "x", "t": True, "n": None, "m": {}, "a": []}],
     ["i=Integer l=Long b=BigInteger d=Double s=String t=Boolean n=null m=LinkedHashMap a=ArrayList"]),
    ("overloaded", ["x"], ["long"]),
    ("nulls", [{"a": None, "b": [None]}], [{"b": [None]}]),
    ("notANumber", [{}], ["NaN"]),
    ("bytes", [base64.b64encode(b"abc").decode()], [base64.b64encode(b"ABC").decode()]),
    ("interrupted", [1, 2], ["false", "false"]),
])
def test_methods_of_every_signature(run, method, events, expected):
    assert answers(run("fixtures.Methods::" + method, events)) == (events if expected is None else expected)


def test_stream_methods_get_and_give_bytes(run):
    raw = {"__body__": b"\x00\xff raw"}
    assert run("fixtures.Methods::streams", [raw]).answers[0].body == b"\x00\xff raw|36"
    assert run("fixtures.Methods::twoStreams", [{"__body__": b"four"}]).answers[0].body == b"4"
    assert run("fixtures.Methods::onlyOut").answers[0].body == b"$LATEST"
    assert run("fixtures.Methods::onlyIn").answers[0].body == b""


def test_events_may_be_as_lenient_as_on_aws(run):
    bodies = [b"{'a': 007, b: 'it''s'", b"{'a': 007, b: [NaN, -Infinity]}", b"", b"nope", b'{"a" 1}', b'"\\q\x01"', b'{"a":1} trailing', b"[" * 2000]
    outcome = run("fixtures.Methods::echo", [{"__body__": body} for body in bodies])
    kinds = [call.kind.split(":")[1] for call in outcome.answers]
    assert kinds == ["error", "response", "error", "error", "error", "response", "response", "error"]
    assert outcome.answers[1].json == {"a": 7, "b": ["NaN", "-Infinity"]}
    assert outcome.answers[5].json == "q\x01"
    error = outcome.answers[2].json
    assert (error["errorMessage"], error["errorType"]) == ("An error occurred during JSON parsing", "java.lang.RuntimeException")


def test_a_big_event_comes_back_whole(run):
    event = {"x": "ü" * 2_000_000}
    assert answers(run("fixtures.Methods::echo", [event])) == [event]


ORDER = {
    "customerName": "Ada", "values": [1, "2"], "items": [{"name": "a", "count": 2, "hidden": "set", "more": {}}], "byColour": {"GREEN": [1, 1, 2]},
    "urgent": "true", "gift": False, "price": 1.10, "created": "2026-01-02T03:04:05.678Z", "instant": "2026-01-02T03:04:05Z",
    "day": [2026, 1, 2], "id": "123e4567-e89b-12d3-a456-426614174000", "note": "n", "raw": "AAE=", "buffer": "/w==", "colour": "MAUVE",
    "letter": "x", "share": 0.5, "URL": "https://example.com/", "single": [{"name": "only"}], "unknown": {"deep": [1]},
}


def test_beans_follow_the_rules_of_awss_mapper(run):
    body = json.dumps(ORDER).replace("1.1,", "1.10,").encode()
    receipt = answers(run("fixtures.Pojo", [{"__body__": body}]))[0]
    assert list(receipt) == ["first", "order", "kinds"], "fields first, null left out, then other getters"
    assert receipt["kinds"] == ["Long", "Long", {"GREEN": 1}, {"count": 0}]
    order = receipt["order"]
    expected = {
        "customerName": "Ada", "values": [1, 2], "items": [{"name": "a", "count": 2}], "byColour": {"GREEN": [1, 2]}, "urgent": True,
        "gift": False, "price": 1.10, "created": 1767323045678, "instant": 1767323045.0, "day": [2026, 1, 2],
        "id": "123e4567-e89b-12d3-a456-426614174000", "note": "n", "raw": "AAE=", "buffer": "/w==", "letter": "x", "share": 0.5,
        "URL": "https://example.com/", "single": {"name": "only", "count": 0},
    }
    assert order == expected, "an unknown constant is null and left out"


def test_bean_corner_cases(run):
    empty = answers(run("fixtures.Pojo", [{}, {"items": [], "single": "", "note": None, "instant": 1767323045.25, "created": 5}, ""]))
    assert empty[0]["order"]["colour"] == "RED" and "items" not in empty[0]["order"]
    assert empty[1]["order"]["items"] == [] and "single" not in empty[1]["order"]
    assert "order" not in empty[2], "empty text is no object"
    assert (empty[1]["order"]["instant"], empty[1]["order"]["created"]) == (1767323045.25, 5)
    bad = run("fixtures.Pojo", [{"gift": "maybe"}, {"items": {"a": {}}}, {"price": "x"}, {"id": "x"}, {"letter": {}}, {"values": [2**65]}, 5])
    assert [call.kind for call in bad.answers] == ["invocation:error", "invocation:response"] + ["invocation:error"] * 5


def test_the_declared_type_of_an_answer_counts(run):
    assert answers(run("fixtures.Pojo::declared")) == [{"count": 0}]
    assert answers(run("fixtures.Pojo::dynamic")) == [{"count": 0, "more": "shown only where Item is not declared"}]


def test_a_bound_generic_handler_runs(run):
    assert answers(run("fixtures.Failing$Bound", [{"a": "7"}])) == [{"a": 7}]


@pytest.mark.skipif(NEWEST < 17, reason="no JDK that knows records")
def test_records_and_newer_class_files(jar, run, tmp_path):
    source = tmp_path / "Points.java"
    source.write_text("""
        import java.util.List;
        public class Points {
            public record Point(int x, Integer y, List<String> tags) { public int sum() { return x; } }
            public record Line(Point from, Point to, String name) {}
            public Line turn(Line line) { return new Line(line.to(), line.from(), null); }
        }
    """)
    compile_java([source], tmp_path / "task", [jar], release="17")
    event = {"from": {"x": 1, "tags": "one"}, "to": {"x": 3, "y": 4}, "name": "n"}
    expected = {"from": {"x": 3, "y": 4}, "to": {"x": 1, "tags": ["one"]}}
    assert answers(run("Points::turn", [event], root=tmp_path / "task", jdk=JDKS[NEWEST])) == [expected]


# Events of AWS


def attribute(kind, value):
    return {"dataType": kind, **value}


EVENTS = {
    "sqs": (
        {"Records": [{"messageId": "m1", "body": "hi", "eventSourceARN": "arn:q", "md5OfBody": "md", "attributes": {"SentTimestamp": "5"},
                      "messageAttributes": {"kind": {"stringValue": "k", "dataType": "String", "stringListValues": []},
                                            "raw": {"binaryValue": "YWJj", "dataType": "Binary"}}}]},
        {"batchItemFailures": [{"itemIdentifier": "m1 hi arn:q md 5 k abc"}]},
    ),
    "sns": (
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hi", "Timestamp": "2026-01-02T03:04:05.678Z", "TopicArn": "arn:t",
                                                        "MessageAttributes": {"a": {"Type": "String", "Value": "v"}}}}]},
        "hi 2026-01-02T03:04:05.678Z arn:t v",
    ),
    "s3": (
        {"Records": [{"eventName": "ObjectCreated:Put", "eventTime": "2026-01-02T03:04:05.678Z", "awsRegion": "us-east-1",
                      "responseElements": {"x-amz-id-2": "id2", "x-amz-request-id": "r"}, "userIdentity": {"principalId": "p"},
                      "s3": {"bucket": {"name": "b", "arn": "arn:b"}, "object": {"key": "a+b%2Fc", "size": 5000000000, "eTag": "e"}}}]},
        "ObjectCreated:Put 2026-01-02T03:04:05.678Z b a b/c 5000000000 id2 p",
    ),
    "dynamodb": (
        {"Records": [{"eventID": "1", "eventName": "INSERT", "eventSourceARN": "arn:d", "dynamodb": {
            "ApproximateCreationDateTime": 1767323045, "NewImage": {
                "s": {"S": "x"}, "n": {"N": "12"}, "b": {"BOOL": True}, "ss": {"SS": ["a", "b"]}, "null": {"NULL": True},
                "m": {"M": {"x": {"L": [{"N": "1"}]}}}}, "StreamViewType": "NEW_IMAGE"}}]},
        "INSERT 1 1767323045000 x 12 true [a, b] 1 true arn:d",
    ),
    "kinesis": (
        {"Records": [{"kinesis": {"data": "YWJj", "partitionKey": "pk", "approximateArrivalTimestamp": 1767323045.678}, "eventSourceARN": "arn:k"}]},
        "abc pk arn:k 1767323045678",
    ),
    "scheduled": ({"detail-type": "Scheduled Event", "time": "2026-01-02T03:04:05Z", "detail": {"n": 1.5}}, "Scheduled Event 2026-01-02T03:04:05.000Z 1.5"),
    "rest": (
        {"httpMethod": "GET", "pathParameters": {"id": "7"}, "requestContext": {"identity": {"sourceIp": "1.2.3.4"}, "stage": "s"},
         "multiValueHeaders": {"Accept": ["a", "b"]}, "isBase64Encoded": True},
        {"statusCode": 200, "headers": {"X-A": "b"}, "body": "GET 7 1.2.3.4 [a, b] true", "isBase64Encoded": False},
    ),
    "http": (
        {"version": "2.0", "rawPath": "/x", "requestContext": {"http": {"method": "PUT"}}, "isBase64Encoded": False},
        {"statusCode": 201, "body": "PUT/xfalse", "isBase64Encoded": False},
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_event_classes_of_aws(run, packaged, name):
    event, expected = EVENTS[name]
    assert answers(run("fixtures.Events::" + name, [event], root=packaged)) == [expected]


def test_an_event_class_is_written_as_it_was_read(run, packaged):
    assert answers(run("fixtures.Events::same", [EVENTS["sns"][0]], root=packaged)) == [EVENTS["sns"][0]]


# Errors


def test_an_uncaught_error_has_type_trace_and_cause(run):
    outcome = run("fixtures.Failing::raise", [{"message": "bad: ü"}, {"__headers__": {"Lambda-Runtime-Invocation-Id": "i-1"}, "message": None}])
    first, second = outcome.answers
    assert first.kind == "invocation:error"
    error = first.json
    assert (error["errorMessage"], error["errorType"]) == ("bad: ü", "fixtures.Failing$Custom")
    assert error["stackTrace"][0].startswith("fixtures.Failing.raise(Failing.java:")
    assert not any("io.firn" in frame for frame in error["stackTrace"])
    assert error["cause"]["errorType"] == "java.io.IOException"
    assert error["cause"]["errorMessage"] == "disk: €\nsecond line"
    assert first.headers["lambda-runtime-function-error-type"] == "Runtime.UserException"
    cause = json.loads(first.headers["lambda-runtime-function-xray-error-cause"])
    assert cause["exceptions"][0]["type"] == "fixtures.Failing$Custom" and "Failing.java" in cause["paths"]
    assert second.json["errorMessage"] == "fixtures.Failing$Custom"
    assert second.headers["lambda-runtime-invocation-id"] == "i-1"
    assert "bad: ü: fixtures.Failing$Custom\nfixtures.Failing$Custom: bad: ü\n\tat fixtures.Failing.raise(" in outcome.text
    assert "Caused by: java.io.IOException: disk: €\nsecond line\n" in outcome.text
    assert outcome.exit_code is None, "an error does not end the process"


@pytest.mark.parametrize("handler, message, error_type", [
    ("no.such.Type", "Class not found: no.such.Type", "java.lang.ClassNotFoundException"),
    ("", "Invalid handler: `'", None),
    ("fixtures.Methods::", "Invalid handler: `fixtures.Methods::'", None),
    ("fixtures.Methods", "Class does not implement an appropriate handler interface: fixtures.Methods", None),
    ("fixtures.Methods::none", "No public method named none with appropriate method signature found on class fixtures.Methods", None),
    ("fixtures.Methods::tooMany", "No public method named tooMany with appropriate method signature found on class fixtures.Methods", None),
    ("fixtures.Failing$NoConstructor", "Class fixtures.Failing$NoConstructor has no public zero-argument constructor", "java.lang.Exception"),
    ("fixtures.Failing$Inner", "Class fixtures.Failing$Inner cannot be instantiated because it is a non-static inner class", "java.lang.Exception"),
    ("fixtures.Failing$Generic", "Class fixtures.Failing$Generic does not implement RequestHandler with concrete type parameters", None),
])
def test_what_makes_a_function_unusable_is_told_by_its_invocations(run, handler, message, error_type):
    outcome = run(handler, [{}, {}])
    assert [call.json for call in outcome.answers] == [{"errorMessage": message, **({"errorType": error_type} if error_type else {})}] * 2
    assert outcome.answers[0].headers["lambda-runtime-function-error-type"] == "Runtime.BadFunctionCode"
    assert message in outcome.text


@pytest.mark.parametrize("handler, message, error_type", [
    ("fixtures.Failing$InConstructor", "no database: ü", "java.lang.IllegalStateException"),
    ("fixtures.Failing$InStatic::handle", "Error loading class fixtures.Failing$InStatic", "java.lang.ExceptionInInitializerError"),
])
def test_errors_of_the_functions_own_code_end_the_start(run, handler, message, error_type):
    outcome = run(handler)
    assert outcome.exit_code == 1
    assert [call.path for call in outcome.calls] == ["/2018-06-01/runtime/init/error"]
    assert outcome.calls[0].json == {"errorMessage": message, "errorType": error_type}
    assert outcome.calls[0].headers["lambda-runtime-function-error-type"] == "Runtime.BadFunctionCode"


def test_answers_that_are_no_json_are_errors(run):
    error = run("fixtures.Methods::cycle", [{"a": 1}]).answers[0].json
    assert error["errorMessage"] == "An error occurred during JSON serialization of response"
    error = run("fixtures.Pojo::noDefault", [{"a": 1}]).answers[0].json
    assert "Cannot construct instance of `fixtures.Pojo$Receipt`: no default constructor" in error["cause"]["errorMessage"]


@pytest.mark.parametrize("method, error_type", [("memory", "java.lang.OutOfMemoryError"), ("deep", "java.lang.StackOverflowError")])
def test_errors_of_the_machine_end_the_process(run, method, error_type):
    outcome = run("fixtures.Methods::" + method, [1, 2])
    assert [call.json["errorType"] for call in outcome.answers] == [error_type]
    assert outcome.exit_code == 0


def test_exit_in_the_handler_ends_the_process(run):
    outcome = run("fixtures.Methods::exit")
    assert (outcome.exit_code, outcome.text, outcome.answers) == (7, "bye\n", [])


def test_a_refused_answer_becomes_an_error(run):
    outcome = run("fixtures.Methods::echo", [1], status=413)
    assert outcome.exit_code == 1, "the error is refused as well here"
    assert b"The Runtime API answered 413" in outcome.stderr


# Logs and context


def test_lines_in_text(run):
    outcome = run("fixtures.Logs")
    assert answers(outcome) == [{"same": True}]
    assert outcome.text == 'plain ü\n[INFO] multi\nline\n[DEBUG] debug\n[ERROR] error "quoted"bytes\nnullprinted\n'
    assert outcome.stderr == b"to stderr"


def test_lines_in_json_have_a_level_and_the_request(run):
    outcome = run("fixtures.Logs", AWS_LAMBDA_LOG_FORMAT="JSON", AWS_LAMBDA_LOG_LEVEL="INFO", framed=True)
    assert outcome.text == "printed\n"
    kinds = [kind for kind, _ in outcome.frames]
    assert kinds == [0xA55A0002, 0xA55A0002 + 4 * 3, 0xA55A0002 + 4 * 5, 0xA55A0002, 0xA55A0002]
    lines = [json.loads(text) for _, text in outcome.frames if text.startswith("{")]
    assert [line["level"] for line in lines] == ["UNDEFINED", "INFO", "ERROR", "UNDEFINED"]
    assert lines[1]["message"] == "multi\nline\n"
    assert lines[1]["AWSRequestId"] == "00000000-0000-4000-8000-000000000000"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["timestamp"])
    assert outcome.frames[3][1] == "bytes\n", "bytes are not wrapped"


def test_frames_keep_lines_together(run):
    outcome = run("fixtures.Logs", framed=True)
    assert outcome.frames[:2] == [(0xA55A0003, "plain ü\n"), (0xA55A0003 + 12, "[INFO] multi\nline\n")]
    failed = run("fixtures.Failing::checked", framed=True, AWS_LAMBDA_LOG_FORMAT="JSON")
    kind, text = failed.frames[-1]
    assert kind == 0xA55A0002 + 4 * 5
    assert json.loads(text)["message"].startswith("java.lang.Exception: java.lang.Exception\njava.lang.Exception\n\tat fixtures.Failing.checked")


def test_the_context_tells_everything(run):
    client = {"client": {"app_title": "title"}, "custom": {"a": 1}, "env": {"platform": "x"}, "services": {}}
    headers = {
        "Lambda-Runtime-Client-Context": json.dumps(client), "Lambda-Runtime-Aws-Tenant-Id": "blue",
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}',
    }
    plain, full, late = answers(run("fixtures.Logs::context", [
        {"__headers__": {"Lambda-Runtime-Trace-Id": None}}, {"__headers__": headers}, {"__headers__": {"Lambda-Runtime-Deadline-Ms": "1000"}}]))
    assert 50_000 < plain.pop("left") <= 60_000
    assert plain == {
        "id": "00000000-0000-4000-8000-000000000000", "group": "/aws/lambda/toy", "stream": "2026/01/01/[$LATEST]0123456789abcdef",
        "function": "toy", "version": "$LATEST", "arn": "arn:aws:lambda:us-east-1:000000000000:function:toy", "memory": 256,
    }
    assert full["custom"] == {"a": "1"} and full["environment"] == {"platform": "x"} and full["title"] == "title"
    assert (full["identity"], full["tenant"]) == ("id/pool", "blue")
    assert full["trace"].startswith("Root=1-5759e988")
    assert late["left"] == 0


# Snapshots


def test_the_way_to_a_snapshot(run, packaged):
    outcome = run("fixtures.Snap", [{"n": 1}], root=packaged, priming=[{"n": 901}, {"n": 902, "fail": True}], **SNAP)
    # Hooks run in reverse order before, in order after; priming ahead of both, and it leaves no trace.
    trace = len(toy_api.make_event(0, {})["headers"]["Lambda-Runtime-Trace-Id"])
    order = ["event 901 %d" % trace, "event 902 %d" % trace, "before b", "before a", "after a", "after b", "event 1 %d" % trace]
    assert outcome.answers[-1].json == order
    kinds = [call.path.split("/runtime/")[1].rsplit("/", 1)[-1] for call in outcome.calls]
    warm = kinds.count("warm")
    assert warm > 10, "the client warms itself up"
    assert kinds[warm:] == ["response", "error", "next", "response"]
    assert "restore/next" in outcome.calls[-2].path
    assert b"warm" not in outcome.stdout and not outcome.frames


def test_a_server_without_priming_is_no_obstacle(run, packaged):
    outcome = run("fixtures.Snap", [{"n": 1}], root=packaged, **SNAP)
    assert outcome.answers[0].json == ["before b", "before a", "after a", "after b", "event 1 50"]


def test_classes_that_the_function_names_are_loaded_ahead_with_those_that_they_name_but_not_initialised(run, packaged):
    size = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}
    assert run("fixtures.Named", [{}], root=packaged, **size).answers[0].json == [False, False, False, True]
    outcome = run("fixtures.Named", [{}, {}], root=packaged, **SNAP, **size)
    assert [call.json for call in outcome.answers] == [[True, True, False, True], [True, True, True, True]]
    # Without hooks it is frozen while it waits for an event.
    assert not any("restore/next" in call.path for call in outcome.calls)


def test_jackson_is_run_warm_where_the_function_has_it(run, packaged):
    outcome = run("fixtures.Mapping", [{"a": 1}], root=packaged)
    assert outcome.answers[0].json == 'false {"a":1}'
    # No room for classes that are only named.
    outcome = run("fixtures.Mapping", [{"a": 1}], root=packaged, **SNAP, AWS_LAMBDA_FUNCTION_MEMORY_SIZE="0")
    assert outcome.answers[0].json == 'true {"a":1}'


def test_a_lost_connection_at_the_barrier_is_made_again(run, packaged):
    outcome = run("fixtures.Snap", [{"n": 1}], root=packaged, lost_restores=1, **SNAP)
    assert outcome.answers[0].json == ["before b", "before a", "after a", "after b", "event 1 50"]


@pytest.mark.parametrize("variable, path, error_type, message", [
    ("FAIL_BEFORE", "/init/error", "Runtime.BeforeCheckpointError", "java.lang.IllegalStateException: cannot close a"),
    ("FAIL_AFTER", "/restore/error", "Runtime.AfterRestoreError", "java.lang.IllegalStateException: cannot open a"),
])
def test_a_failing_hook_is_reported_and_ends_the_process(run, packaged, variable, path, error_type, message):
    outcome = run("fixtures.Snap", root=packaged, **SNAP, **{variable: "a"})
    assert outcome.exit_code == 64
    last = outcome.calls[-1]
    assert last.path.endswith(path)
    assert last.headers["lambda-runtime-function-error-type"] == error_type
    assert last.json["errorMessage"] == message
    assert message in outcome.text


def test_randomness_is_renewed_on_every_java(run):
    for jdk in JDKS.values():
        outcome = run("fixtures.Draws::handle", [{}, {}], jdk=jdk, **SNAP)
        first, second = answers(outcome)
        assert not set(map(str, first.values())) & set(map(str, second.values()))


@pytest.mark.parametrize("version", JDKS)
def test_runs_on_every_java(run, packaged, version):
    outcome = run("fixtures.Events::sqs", [EVENTS["sqs"][0]], root=packaged, jdk=JDKS[version], framed=True)
    assert answers(outcome) == [EVENTS["sqs"][1]]
    assert outcome.stderr == b"", "no warning of the JVM"
    outcome = run("fixtures.Snap", [{"n": 1}], root=packaged, jdk=JDKS[version], priming=[], **SNAP)
    assert outcome.answers[-1].json[:4] == ["before b", "before a", "after a", "after b"]
    assert outcome.stderr == b""
