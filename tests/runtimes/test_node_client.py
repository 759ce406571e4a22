"""firn's Node client against AWS's: the same functions and events through both, answers and log lines compared.

`FIRN_AWS_LAMBDA_RIC` names unpacked npm packages aws-lambda-ric, separated by colons: version 3 stands for runtimes up
to nodejs22.x, version 4 for nodejs24.x. Their native part is replaced by native-client.js, so nothing is compiled.
Without them firn's client runs alone, with fewer checks.
"""

import base64
import json
import os
import pathlib
import re
import shutil

import pytest

import toy_api
from conftest import RUNTIMES

NODE = os.environ.get("FIRN_NODE") or shutil.which("node")
CLIENT = RUNTIMES / "node" / "index.js"
SHIM = pathlib.Path(__file__).with_name("native-client.js")


def find_ric():
    found = {}
    for folder in filter(None, os.environ.get("FIRN_AWS_LAMBDA_RIC", "").split(":")):
        version = json.loads((pathlib.Path(folder) / "package.json").read_text())["version"]
        found["nodejs20.x" if version.startswith("3.") else "nodejs24.x"] = pathlib.Path(folder)
    return found


RIC = find_ric()
OLD, NEW = "nodejs20.x", "nodejs24.x"

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine")


def run_firn(runtime, root, handler, events, **options):
    extra = {"LAMBDA_RUNTIME_DIR": "/var/runtime", **options}
    return toy_api.run([NODE, str(CLIENT)], runtime, handler, root, events, **extra)


def run_ric(runtime, root, handler, events, **options):
    package = RIC[runtime]
    script = package / ("bin/index.mjs" if runtime == OLD else "index.mjs")
    command = [NODE, "--require", str(SHIM), str(script), handler]
    return toy_api.run(command, runtime, handler, root, events, **options)


# name: (files, handler, events, options, runtimes)
CASES = {}


def case(name, source, events=({},), handler="index.handler", files=None, runtimes=(OLD, NEW), **options):
    CASES[name] = ({"index.js": source, **(files or {})}, handler, list(events), options, runtimes)


case("echo", "exports.handler = async (event) => event", [{"a": 1}, [1, "x", None, True, 1.5], "text", 5, None])
case("unicode", "exports.handler = async (e) => ({'ü': '€𝄞', e})", [{"k": "ñ𝄞"}])
case("undefined", "exports.handler = async () => {}")
case("big", "exports.handler = async (e) => e.x + e.x", [{"x": "y" * 1_000_000}])
case("sync_value", "exports.handler = (e) => 5")
case("sync_throw", "exports.handler = (e) => { throw new TypeError('sync'); }")
case("async_throw", "exports.handler = async (e) => { throw new RangeError('async ü\\nsecond'); }")
case("throw_string", "exports.handler = async (e) => { throw 'just text'; }")
case("throw_number", "exports.handler = async (e) => { throw 5; }")
case("throw_object", "exports.handler = async (e) => { throw {name: 'N', message: 'M'}; }", runtimes=(OLD,))
case("throw_custom", "class Mine extends Error { constructor(m) { super(m); this.name = 'MyError'; this.code = 'E1'; this.extra = {a: 1}; } }\nexports.handler = async () => { throw new Mine('custom \\x7f'); }")
case("throw_with_cause", "exports.handler = async () => { throw new Error('outer', {cause: new Error('inner')}); }")
case("circular", "exports.handler = async () => { const a = {}; a.a = a; return a; }")
case("bigint", "exports.handler = async () => 5n")
case("promise_like", "exports.handler = () => ({then: (ok) => ok('thenable')})")

case("callback", "exports.handler = (e, c, cb) => cb(null, {a: 1})")
case("callback_error", "exports.handler = (e, c, cb) => cb(new Error('called'))", runtimes=(OLD,))
case("callback_text_error", "exports.handler = (e, c, cb) => cb('called')", runtimes=(OLD,))
case("callback_waits", "exports.handler = (e, c, cb) => { setTimeout(() => console.log('later'), 30); cb(null, 1); }", [{}, {}], runtimes=(OLD,))
case("callback_does_not_wait", "exports.handler = (e, c, cb) => { c.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 60000); cb(null, 1); }", [{}, {}], runtimes=(OLD,))
case("callback_twice", "exports.handler = (e, c, cb) => { cb(null, 1); cb(null, 2); }", [{}, {}], runtimes=(OLD,))
case("callback_and_promise", "exports.handler = async (e, c, cb) => { c.callbackWaitsForEmptyEventLoop = false; cb(null, 1); return 2; }", runtimes=(OLD,))
case("callback_never_called", "exports.handler = (e, c, cb) => { setTimeout(() => {}, 10); }", [{}, {}], runtimes=(OLD,))
case("promise_never_settles", "exports.handler = () => new Promise(() => {})", [{}, {}], runtimes=(OLD,))
case("done", "exports.handler = (e, c) => c.done(null, 'd')", runtimes=(OLD,))
case("succeed", "exports.handler = (e, c) => c.succeed('s')", runtimes=(OLD,))
case("fail", "exports.handler = (e, c) => c.fail(new Error('f'))", runtimes=(OLD,))
case("fail_without_error", "exports.handler = (e, c) => c.fail()", runtimes=(OLD,))

case("nested_export", "exports.a = {b: {handler: async () => 'deep'}}", handler="index.a.b.handler")
case("nested_folder", "", handler="src/lib/index.handler", files={"src/lib/index.js": "exports.handler = async () => __filename.split('/').pop()"})
case("esm", "", handler="mod.handler", files={"mod.mjs": "const x = await Promise.resolve(7);\nexport const handler = async () => [x, import.meta.url.endsWith('/mod.mjs')];"})
case("esm_by_package", "export const handler = async () => 'esm'", files={"package.json": '{"type": "module"}'})
case("cjs_extension", "", handler="mod.handler", files={"mod.cjs": "exports.handler = async () => 'cjs'", "package.json": '{"type": "module"}'})
case("module_in_node_modules", "", handler="pkg.handler", files={"node_modules/pkg/index.js": "exports.handler = async () => 'pkg'"})
case("default_export", "", handler="mod.handler", files={"mod.mjs": "export default {handler: async () => 1}"}, runtimes=(NEW,))

case("init_missing_module", "require('nosuchmodule'); exports.handler = async () => {}")
case("init_missing_file", "", handler="nothere.handler")
case("init_syntax", "exports.handler = async ( => {}")
case("init_esm_syntax", "", handler="mod.handler", files={"mod.mjs": "export const handler = async ( => {}"})
case("init_throws", "throw new Error('at load'); exports.handler = async () => {}")
case("init_missing_function", "exports.other = async () => {}")
case("init_not_a_function", "exports.handler = 5")
case("init_no_dot", "", handler="index")
case("init_parent", "", handler="../index.handler")
case("init_error_json", "throw new Error('at load')", AWS_LAMBDA_LOG_FORMAT="JSON")
case("init_exit", "process.exit(9)")
case("exit_in_handler", "exports.handler = async () => { console.log('bye'); process.exit(7); }")

case("unhandled_rejection", "exports.handler = async () => { Promise.reject(new Error('nobody')); await new Promise((r) => setTimeout(r, 2000)); }", runtimes=(OLD,))
case("unhandled_text", "exports.handler = async () => { Promise.reject('text'); await new Promise((r) => setTimeout(r, 2000)); }", runtimes=(OLD,))
case("uncaught", "exports.handler = async () => { setTimeout(() => { throw new Error('uncaught'); }, 1); await new Promise((r) => setTimeout(r, 2000)); }", runtimes=(OLD,))
case("crash", "exports.handler = async () => { setTimeout(() => { throw new Error('uncaught'); }, 1); await new Promise((r) => setTimeout(r, 2000)); }", runtimes=(NEW,))

LOGGING = """
exports.handler = async (event) => {
  console.log('log', 1, {a: [1, {b: 2}]}, 'ü');
  console.info('multi\\nline');
  console.debug('debug %s %d', 'x', 5);
  console.warn({an: 'object', err: new Error('in object').message});
  console.error('with error', new TypeError('E').message);
  console.trace('trace');
  console.fatal('fatal');
  console.log();
  console.log(undefined);
  console.log(null);
  console.log({circular: (() => { const a = {}; a.a = a; return a; })()});
  console.log({big: 5n});
  process.stdout.write('raw\\n');
};
"""
case("logging", LOGGING)
case("logging_json", LOGGING, AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_warn", LOGGING, AWS_LAMBDA_LOG_LEVEL="WARN")
case("logging_fatal_json", LOGGING, AWS_LAMBDA_LOG_LEVEL="fatal", AWS_LAMBDA_LOG_FORMAT="json")
case("logging_framed", LOGGING, framed=True)
case("logging_framed_json", LOGGING, framed=True, AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_errors", "exports.handler = async () => { console.error(new TypeError('a')); console.log('x', new RangeError('b')); console.log({e: new Error('c')}); }")
case("logging_errors_json", "exports.handler = async () => { console.error(new TypeError('a')); console.log('x', new RangeError('b')); console.log({e: new Error('c')}); }", AWS_LAMBDA_LOG_FORMAT="JSON")
case("error_json", "exports.handler = async () => { throw new TypeError('a'); }", AWS_LAMBDA_LOG_FORMAT="JSON")
case("logging_at_load", "console.log('loading'); exports.handler = async () => {}")

case(
    "context",
    """
exports.handler = async (event, context) => {
  const {getRemainingTimeInMillis, ...rest} = context;
  return {rest, keys: Object.keys(context).sort(), left: getRemainingTimeInMillis() > 0, trace: process.env._X_AMZN_TRACE_ID};
};
""",
    [
        {},
        {"__headers__": {"Lambda-Runtime-Trace-Id": None}},
        {
            "__headers__": {
                "Lambda-Runtime-Client-Context": '{"custom": {"a": 1}, "env": {}}',
                "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id"}',
                "Lambda-Runtime-Aws-Tenant-Id": "blue",
            }
        },
    ],
)
case("bad_event", "exports.handler = async () => 1", [{"__body__": b"{nope"}], runtimes=(OLD,))

STREAM = """
const pause = (ms) => new Promise((r) => setTimeout(r, ms));
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
"""
case("stream", STREAM + "stream.setContentType('text/plain'); stream.write('one'); await pause(30); stream.write(Buffer.from('two')); stream.write({three: 3}); stream.end(); });", [{}, {}])
case("stream_http", STREAM + "stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {a: 'b'}, cookies: ['c=d']}); stream.write('body'); stream.end(); });", [{}, {}])
case("stream_end_only", STREAM + "stream.end('all'); });")
case("stream_empty", STREAM + "stream.end(); });")
case("stream_fails_at_once", STREAM + "throw new Error('early'); });", [{}, {}])
case("stream_fails_in_the_middle", STREAM + "stream.write('one'); await pause(20); throw new TypeError('mid'); });", [{}, {}])
case("stream_late_content_type", STREAM + "stream.write('one'); stream.setContentType('text/html'); });")
case("stream_returns_value", STREAM + "stream.end('x'); return 5; });")
case("stream_not_async", "exports.handler = awslambda.streamifyResponse((event, stream) => { stream.write('x'); });")
case("stream_pipeline", "const {pipeline} = require('stream/promises'); const {Readable} = require('stream');" + STREAM + "await pipeline(Readable.from(['a', 'b', 'c'.repeat(300000)]), stream); });", [{}, {}])
case("stream_malformed", "exports.handler = async () => {}; exports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request';", runtimes=(NEW,))

TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
# A frame of a stack trace that is in a client or in Node: an element of a JSON array, or in a text.
OWN = rb"(/var/runtime|/runtimes/node/|aws-lambda-ric|CLIENT|native-client|node:|<anonymous>|async Promise.all)"
OWN_ELEMENT = re.compile(rb',"    at [^"]*?' + OWN + rb'[^"]*"')
OWN_LINE = re.compile(rb'(\r|\n|\\n) +at [^"\r\n\\]*?' + OWN + rb'[^"\r\n\\]*')


def normal(data):
    data = TIME.sub(b"TIME", data)
    for package in RIC.values():
        data = data.replace(str(package).encode(), b"CLIENT").replace(b"file://CLIENT", b"CLIENT")
    data = data.replace(b"CLIENT/dist/index.mjs", b"/var/runtime/index.mjs").replace(b"CLIENT/index.mjs", b"/var/runtime/index.mjs")
    data = re.sub(rb"(?m)^[^\n]{,80}Executing '[^\n]*' in function directory '[^\n]*'\n", b"", data)
    return OWN_LINE.sub(b"", OWN_ELEMENT.sub(b"", data))


def observed(outcome, runtime):
    calls = []
    for call in outcome.calls:
        body, trailers = normal(call.body), dict(call.trailers)
        if "lambda-runtime-function-error-body" in trailers:
            error = base64.b64decode(trailers["lambda-runtime-function-error-body"])
            trailers["lambda-runtime-function-error-body"] = normal(error)
        wanted = ["content-type", "lambda-runtime-function-error-type", "lambda-runtime-function-response-mode", "transfer-encoding"]
        cause = call.headers.get("lambda-runtime-function-xray-error-cause")
        cause = cause and json.loads(cause.encode("latin-1"))["exceptions"][0]
        calls.append(
            {
                "kind": call.kind,
                "body": body,
                "headers": {name: call.headers.get(name) for name in wanted},
                "trailers": trailers,
                "xray": cause and (cause.get("type"), cause.get("message"), [f for f in cause["stack"][:1] if "/task/" in f["path"]]),
            }
        )
    return {
        "calls": calls,
        "stdout": normal(outcome.stdout),
        "frames": [(kind, normal(text.encode())) for kind, text in outcome.frames],
        "exit": outcome.exit_code,
    }


PAIRS = [(name, runtime) for name, case in CASES.items() for runtime in case[4]]


@pytest.mark.parametrize("name,runtime", PAIRS, ids=["%s-%s" % pair for pair in PAIRS])
def test_same_as_aws_lambda_ric(name, runtime, task):
    files, handler, events, options, _ = CASES[name]
    root = task(files)
    ours = observed(run_firn(runtime, root, handler, events, **options), runtime)
    if runtime not in RIC:
        pytest.skip("aws-lambda-ric is not here: only ran, not compared")
    assert ours == observed(run_ric(runtime, root, handler, events, **options), runtime)


def test_a_chunk_leaves_at_once(task):
    root = task({"index.js": STREAM + "stream.write('one'); await pause(300); stream.end('two'); });"})
    call = run_firn(OLD, root, "index.handler", [{}]).answers[0]
    (first, one), (second, two) = call.chunks
    assert (one, two) == (b"one", b"two")
    assert second - first > 0.2


def test_a_stream_is_held_back_by_a_slow_reader(task):
    source = STREAM + """
  let waits = 0;
  for (let i = 0; i < 64; i++) if (!stream.write('x'.repeat(65536))) { waits++; await new Promise((r) => stream.once('drain', r)); }
  stream.end(String(waits)); });"""
    call = run_firn(OLD, task({"index.js": source}), "index.handler", [{}]).answers[0]
    assert len(call.body) == 64 * 65536 + 2 and call.body.endswith(b"64")


def test_a_destroyed_stream_is_not_taken_for_a_whole_one(task):
    root = task({"index.js": STREAM + "stream.write('one'); await pause(20); stream.on('error', () => {}); stream.destroy(); await pause(50); });"})
    outcome = run_firn(OLD, root, "index.handler", [{}], timeout=3)
    assert outcome.calls[0].path.endswith("?aborted")


def test_callbacks_are_refused_from_nodejs24_on_by_the_configured_runtime(task):
    root = task({"index.js": "exports.handler = (event, context, callback) => callback(null, 1)"})
    assert run_firn("nodejs22.x", root, "index.handler", [{}]).answers[0].json == 1
    outcome = run_firn("nodejs24.x", root, "index.handler", [{}])
    assert outcome.exit_code == 1
    assert outcome.calls[0].json["errorType"] == "Runtime.CallbackHandlerDeprecated"


def test_what_require_finds_in_node_path(task):
    root = task({"index.js": "exports.handler = async () => require('layered')", "layer/node_modules/layered/index.js": "module.exports = 'from layer'"})
    outcome = run_firn(OLD, root, "index.handler", [{}], NODE_PATH=str(root / "layer/node_modules"))
    assert outcome.answers[0].json == "from layer"


SNAP = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "NODE_PATH": str(CLIENT.parent)}
HOOKS = """
const { beforeSnapshot, afterRestore } = require('@firn/snapshot');
const order = [];
const later = (x) => new Promise((done) => setTimeout(() => { order.push(x); done(); }, 5));
beforeSnapshot(() => later('b1'));
beforeSnapshot(() => { order.push('b2'); });
afterRestore(() => later('a1'));
globalThis[Symbol.for('firn.snapshot')].afterRestore(() => order.push('a2'));
exports.handler = async (event, context) => { order.push([event, context.awsRequestId.slice(-3)]); return order; };
"""


def kinds(outcome):
    return [call.kind for call in outcome.calls if call.kind != "firn:warm"]


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_a_snapshot_is_taken_after_warming_and_priming_and_between_the_hooks(runtime, task):
    events = [{"n": 1}, {"__headers__": {"Lambda-Runtime-Trace-Id": None}}]
    outcome = run_firn(runtime, task({"index.js": HOOKS}), "index.handler", events, priming=[{"p": 1}, {"p": 2}], **SNAP)
    warmed = [call.kind for call in outcome.calls].index("invocation:response")
    assert warmed > 0 and {call.kind for call in outcome.calls[:warmed]} == {"firn:warm"}
    assert kinds(outcome) == ["invocation:response"] * 2 + ["restore:next"] + ["invocation:response"] * 2
    primed = [[{"p": 1}, "900"], [{"p": 2}, "901"]]
    assert outcome.answers[-1].json == primed + ["b2", "b1", "a1", "a2", [{"n": 1}, "000"], [{}, "001"]]


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_a_server_without_priming_still_gets_a_snapshot(runtime, task):
    outcome = run_firn(runtime, task({"index.js": HOOKS}), "index.handler", [{}], **SNAP)
    assert kinds(outcome) == ["restore:next", "invocation:response"]
    assert outcome.answers[0].json == ["b2", "b1", "a1", "a2", [{}, "000"]]


def test_hooks_are_ignored_where_there_is_no_snapshot(task):
    outcome = run_firn(OLD, task({"index.js": HOOKS}), "index.handler", [{}], NODE_PATH=SNAP["NODE_PATH"])
    assert kinds(outcome) == ["invocation:response"]
    assert outcome.answers[0].json == [[{}, "000"]]


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_all_kinds_of_handlers_can_be_in_a_snapshot(runtime, task):
    sources = {
        "stream": STREAM + "stream.end(JSON.stringify(event)); });",
        "module": "export const handler = async (event) => event;",
        "sync": "exports.handler = (event) => event;",
        "callback": "exports.handler = (event, context, callback) => { setTimeout(() => {}, 5); callback(null, event); };",
    }
    for name, source in sources.items():
        if (name, runtime) in {("callback", NEW), ("sync", OLD)}:
            continue
        root = task({"index.js": source, "package.json": json.dumps({"type": "module" if name == "module" else "commonjs"})})
        outcome = run_firn(runtime, root, "index.handler", [{"a": 1}], priming=[{"p": 1}], **SNAP)
        # Frozen while it waits for an event: there is no hook that would have to run before.
        assert kinds(outcome) == ["invocation:response"] * 2, name
        assert [call.json for call in outcome.answers] == [{"p": 1}, {"a": 1}], name


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_math_random_is_seeded_anew_when_it_is_first_used(runtime, task):
    source = """
const { randomFillSync } = require('crypto');
let seeds = 0;
require('crypto').randomFillSync = (...args) => { seeds++; return randomFillSync(...args); };
Math.random();
require('@firn/snapshot').beforeSnapshot(() => { Math.random(); seeds = 0; });
exports.handler = async (event) => { if (event.draw) Math.random(); return seeds; };"""
    events = [{}, {"draw": True}, {"draw": True}]
    outcome = run_firn(runtime, task({"index.js": source}), "index.handler", events, **SNAP)
    assert [call.json for call in outcome.answers] == [0, 1, 1]


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_an_error_while_priming_does_not_prevent_the_snapshot(runtime, task):
    root = task({"index.js": "exports.handler = async (event) => event.a.b;"})
    outcome = run_firn(runtime, root, "index.handler", [{"a": {"b": 1}}], priming=[{}], **SNAP)
    assert kinds(outcome) == ["invocation:error", "invocation:response"]


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_a_hook_that_fails_is_reported(runtime, task):
    hooks = "const h = require('@firn/snapshot'); exports.handler = async () => 1;\n"
    failing = {
        "init:error": ("h.beforeSnapshot(async () => { throw new TypeError('no'); });", "Runtime.BeforeSnapshotError", 64),
        "restore:error": ("h.afterRestore(() => { throw new TypeError('no'); });", "Runtime.AfterRestoreError", 65),
    }
    for kind, (source, error_type, exit_code) in failing.items():
        outcome = run_firn(runtime, task({"index.js": hooks + source}), "index.handler", [{}], **SNAP)
        last = outcome.calls[-1]
        assert (last.kind, outcome.exit_code) == (kind, exit_code)
        assert last.headers["lambda-runtime-function-error-type"] == error_type
        assert (last.json["errorType"], last.json["errorMessage"]) == ("TypeError", "no")
        assert "TypeError" in outcome.text
    outcome = run_firn(runtime, task({"index.js": hooks + "h.afterRestore(5);"}), "index.handler", [{}], **SNAP)
    assert outcome.calls[-1].json["errorMessage"] == "A snapshot hook must be a function"


@pytest.mark.parametrize("runtime", [OLD, NEW])
def test_hooks_belong_to_no_invocation(runtime, task):
    source = HOOKS + "beforeSnapshot(() => console.log('hook', process.env._X_AMZN_TRACE_ID));"
    outcome = run_firn(runtime, task({"index.js": source}), "index.handler", [{}], priming=[{}], **SNAP)
    request_id = "-" if runtime == NEW else "undefined"
    assert outcome.text.split("\t", 1)[1] == request_id + "\tINFO\thook undefined\n"


def test_math_random_is_a_good_generator_that_looks_like_the_built_in_one(task):
    source = """
const describe = (f) => [f.name, f.length, 'prototype' in f, typeof f(), Object.keys(Math),
  { ...Object.getOwnPropertyDescriptor(Math, 'random'), value: 0 }];
const { random } = Math;
const builtIn = require('vm').runInNewContext('Math').random;
exports.handler = async () => {
  const n = 1 << 17, buckets = Array(64).fill(0), bits = Array(53).fill(0), seen = new Set();
  let sum = 0, min = 1, max = 0, serial = 0, last = 0.5;
  for (let i = 0; i < n; i++) {
    const x = random();
    seen.add(x); sum += x; min = Math.min(min, x); max = Math.max(max, x);
    serial += (x - 0.5) * (last - 0.5); last = x;
    buckets[Math.floor(x * 64)]++;
    let whole = BigInt(x * 2 ** 53);
    for (let b = 0; b < 53; b++, whole >>= 1n) if (whole & 1n) bits[b]++;
  }
  const expected = n / 64;
  return { own: describe(random), builtIn: describe(builtIn), same: random === Math.random, distinct: seen.size / n,
    mean: sum / n, min, max, serial: serial / n, chi2: buckets.reduce((s, k) => s + (k - expected) ** 2 / expected, 0),
    bits: bits.map((k) => k / n) };
};"""
    answer = run_firn(OLD, task({"index.js": source}), "index.handler", [{}], **SNAP).answers[0].json
    assert answer["own"] == answer["builtIn"]
    assert answer["same"] and answer["distinct"] == 1
    assert abs(answer["mean"] - 0.5) < 0.01 and 0 <= answer["min"] < 0.001 and 0.999 < answer["max"] < 1
    # 63 degrees of freedom: beyond 130 once in a million runs.
    assert answer["chi2"] < 130 and abs(answer["serial"]) < 0.002
    assert all(0.49 < share < 0.51 for share in answer["bits"])


def test_math_random_is_left_alone_where_there_is_no_snapshot(task):
    root = task({"index.js": "exports.handler = async () => Math.random.toString()"})
    assert "native code" in run_firn(OLD, root, "index.handler", [{}]).answers[0].json


def test_the_caches_of_random_values_are_empty_in_the_snapshot(task):
    """A draw that fills a cache makes a request to OpenSSL, which async hooks see."""
    source = """
const crypto = require('crypto');
let fills = 0;
const hook = require('async_hooks').createHook({ init(id, type) { if (type === 'RANDOMBYTESREQUEST') fills++; } });
const fill = (draw) => { fills = 0; hook.enable(); draw(); hook.disable(); return fills; };
const uuid = () => crypto.randomUUID(), web = () => globalThis.crypto.randomUUID(), int = () => crypto.randomInt(2);
for (let i = 0; i < 300; i++) { uuid(); int(); }
exports.handler = async () => [fill(uuid), fill(web), fill(int), fill(int)];
"""
    root = task({"index.js": source})
    assert run_firn(NEW, root, "index.handler", [{}], **SNAP).answers[0].json == [1, 0, 1, 0]


def test_a_cache_that_was_filled_while_the_snapshot_was_taken_is_filled_again(task):
    source = """
const crypto = require('crypto');
const { beforeSnapshot, afterRestore } = require('@firn/snapshot');
let fills = 0;
const hook = require('async_hooks').createHook({ init(id, type) { if (type === 'RANDOMBYTESREQUEST') fills++; } });
beforeSnapshot(() => {
  hook.enable();
  if (%s) setTimeout(() => crypto.randomUUID(), 150);
});
afterRestore(() => hook.disable());
exports.handler = async () => fills;"""
    fills = {}
    for drawn in ("false", "true"):
        outcome = run_firn(OLD, task({"index.js": source % drawn}), "index.handler", [{}], restore_after=0.6, **SNAP)
        fills[drawn] = outcome.answers[0].json
    # The one by the timer, and one of each cache after the restore.
    assert fills["true"] == fills["false"] + 3


def test_a_connection_that_is_lost_while_waiting_for_the_restore_is_made_again_once(task):
    root = task({"index.js": "require('@firn/snapshot').afterRestore(() => {}); exports.handler = async () => 1"})
    outcome = run_firn(OLD, root, "index.handler", [{}], lost_restores=1, **SNAP)
    assert kinds(outcome) == ["restore:next", "restore:next", "invocation:response"]
    outcome = run_firn(OLD, root, "index.handler", [{}], lost_restores=2, **SNAP)
    assert kinds(outcome) == ["restore:next", "restore:next", "init:error"]
    assert outcome.exit_code == 64
