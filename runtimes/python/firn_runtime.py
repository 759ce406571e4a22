"""firn's client of the Lambda Runtime API for Python 3.8 and newer.

Behaves as awslambdaric does, but starts faster: it imports as little as it can, and what awslambdaric imports ahead of
the function (`logging` above all) is set up when the function imports it. What is only needed when something goes
wrong is in `firn_errors`, logging in `firn_logging`, unusual JSON in `firn_json`, snapshots in `firn_snapshot`.
"""

import builtins
import sys
import time
from _frozen_importlib_external import PathFinder

import _json
import _socket
import os

TASK_ROOT = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
RUNTIME_DIR = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
API_VERSION = "/2018-06-01/runtime"

# What belongs to the invocation in progress; read by the log formatters.
request_id = None
tenant_id = None
log_sink = None


# ---- JSON: awslambdaric uses simplejson, the C accelerator of the standard library gives the same text but for the
# cases that _plain() and firn_json know.

# awslambdaric writes non-ASCII characters as they are from Python 3.12 on.
ENSURE_ASCII = os.environ.get("AWS_EXECUTION_ENV") not in (
    "AWS_Lambda_python3.12",
    "AWS_Lambda_python3.13",
    "AWS_Lambda_python3.14",
    "AWS_Lambda_python3.15",
)
_LEAVES = frozenset((str, int, float, bool, type(None)))


class _Unusual(Exception):
    """A value that only firn_json can write."""


class _ScannerContext:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo = {}

    @staticmethod
    def parse_constant(name):
        raise ValueError("Out of range float values are not JSON compliant: " + name)


_scan = _json.make_scanner(_ScannerContext)


def from_json(data):
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except Exception:
        pass
    # Surrounding whitespace is rare, and errors deserve the library's message, which the accelerator alone lacks.
    import json

    return json.loads(text, parse_constant=_ScannerContext.parse_constant)


def _default(value):
    if isinstance(value, bytes):
        return value.decode("utf-8")
    asdict = getattr(value, "_asdict", None)
    if asdict is not None and callable(asdict):
        return asdict()
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        if value.is_nan():
            return float("nan")
        text = str(value)
        # As a float or an int if that is written the same way.
        for number in (int, float):
            try:
                plain = number(text)
            except ValueError:
                continue
            if repr(plain) == text:
                return plain
        raise _Unusual
    raise TypeError("Object of type %s is not JSON serializable" % value.__class__.__name__)


def _make_encoder():
    quote = _json.encode_basestring_ascii if ENSURE_ASCII else _json.encode_basestring
    return _json.make_encoder({}, _default, quote, None, ": ", ", ", False, False, True)


_encode = _make_encoder()


def _has_named_tuple(value):
    """simplejson writes them as objects, the accelerator as arrays. `value` is free of cycles."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            members = value.values()
        elif isinstance(value, (list, tuple)):
            if isinstance(value, tuple) and hasattr(value, "_asdict"):
                return True
            members = value
        else:
            continue
        pending.extend([member for member in members if type(member) not in _LEAVES])
    return False


def to_json(value):
    global _encode
    try:
        text = "".join(_encode(value, 0))
    except Exception:
        # The encoder remembers the containers it was in.
        _encode = _make_encoder()
        text = None
    if text is None or ("[" in text and _has_named_tuple(value)):
        import firn_json

        text = firn_json.encode(value, ENSURE_ASCII)
    return text


# ---- HTTP over one kept-alive connection; every request leaves in one segment.


class RuntimeApi:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self._family = _socket.AF_INET
        if host.startswith("["):
            self._family = _socket.AF_INET6
            host = host[1:-1]
        self._address = (host, int(port))
        self._socket = None
        version = sys.version_info
        self._common = "Host: %s\r\nUser-Agent: aws-lambda-python/%d.%d.%d-firn\r\n" % (address, *version[:3])
        self._next = self._head("GET", "/invocation/next") + b"\r\n"

    def next(self):
        """The body of the next event and the headers that came with it, names in lower case."""
        status, headers, body = self._exchange(self._next, waits=True)
        if status != 200:
            raise RuntimeError("Failed to get next: " + str(status))
        return body, headers

    def post_response(self, invoke_id, body, content_type, invocation_id):
        path = "/invocation/%s/response" % invoke_id
        headers = "Content-Type: %s\r\n" % content_type
        self._post_for_invocation(path, headers, body, invocation_id)

    def post_error(self, invoke_id, body, xray_cause, invocation_id):
        path = "/invocation/%s/error" % invoke_id
        headers = "Content-Type: application/json\r\n"
        if xray_cause:
            headers += "lambda-runtime-function-xray-error-cause: %s\r\n" % xray_cause
        self._post_for_invocation(path, headers, body, invocation_id)

    def _post_for_invocation(self, path, headers, body, invocation_id):
        if invocation_id:
            headers += "Lambda-Runtime-Invocation-Id: %s\r\n" % invocation_id
        status = self._post(path, headers, body)
        if not 200 <= status < 300:
            raise RuntimeError("Failed to post invocation response")

    def post_init_error(self, body, error_type):
        self._report("/init/error", body, error_type)

    def post_restore_error(self, body, error_type):
        self._report("/restore/error", body, error_type)

    def _report(self, path, body, error_type):
        headers = "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s\r\n" % error_type
        self._expect(202, path, self._post(path, headers, body))

    def restore_next(self):
        """Is answered in each environment that is made from the snapshot."""
        status, _, _ = self._exchange(self._head("GET", "/restore/next") + b"\r\n", waits=True)
        self._expect(200, "/restore/next", status)

    def priming_next(self):
        """Body and headers of an event that may be run ahead of the snapshot; None if there is none left."""
        return self._event_or_none("/firn/priming/next")

    def warm_next(self):
        """Body and headers of an event that is like those of invocations, for no function to see."""
        return self._event_or_none("/firn/warm")

    def post_warm(self, body):
        self._post("/firn/warm", "Content-Type: application/json\r\n", body)

    def _event_or_none(self, path):
        # Servers that do not have these paths refuse them.
        status, headers, body = self._exchange(self._head("GET", path) + b"\r\n")
        return (body, headers) if status == 200 else None

    def _expect(self, wanted, path, status):
        if status != wanted:
            raise RuntimeError(
                "Request to Lambda Runtime '%s' endpoint failed. Reason: '%s'" % (API_VERSION + path, status)
            )

    def _head(self, method, path):
        return ("%s %s%s HTTP/1.1\r\n%s" % (method, API_VERSION, path, self._common)).encode()

    def _post(self, path, headers, body):
        head = "POST %s%s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n" % (
            API_VERSION,
            path,
            self._common,
            headers,
            len(body),
        )
        return self._exchange(head.encode("utf-8") + body)[0]

    def _exchange(self, request, waits=False):
        """`waits` says that the answer may be long in coming. The connection is then lost for reasons outside (the
        environment was frozen and thawed meanwhile), and the request, which changes nothing, is sent again."""
        retry = waits or self._socket is not None
        try:
            return self._try(request)
        except (OSError if waits else ConnectionError, _NothingRead):
            self._drop()
            if not retry:
                raise
        # The server may have closed an idle connection; it has seen nothing of this request then.
        return self._try(request)

    def _try(self, request):
        sock = self._socket
        if sock is None:
            sock = _socket.socket(self._family, _socket.SOCK_STREAM)
            # The function may have set a default timeout.
            sock.settimeout(None)
            sock.connect(self._address)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._socket = sock
        sock.sendall(request)
        return self._read(sock)

    def _drop(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, sock):
        data = sock.recv(65536)
        if not data:
            raise _NothingRead("the Runtime API closed the connection")
        while True:
            end = data.find(b"\r\n\r\n")
            while end < 0:
                data += self._more(sock)
                end = data.find(b"\r\n\r\n")
            status = int(data[9:12])
            if status >= 200:
                break
            data = data[end + 4 :] or self._more(sock)
        headers = {}
        for line in data[:end].decode("utf-8", "replace").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = data[end + 4 :]
        length = headers.get("content-length")
        if length is not None:
            body = self._read_rest(sock, body, int(length))
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._read_chunks(sock, body)
        elif headers.get("connection", "").lower() == "close":
            while data:
                data = sock.recv(65536)
                body += data
        if headers.get("connection", "").lower() == "close":
            self._drop()
        return status, headers, body

    def _read_rest(self, sock, body, length):
        have = len(body)
        if have >= length:
            return body
        whole = bytearray(length)
        whole[:have] = body
        view = memoryview(whole)
        while have < length:
            read = sock.recv_into(view[have:])
            if not read:
                raise ConnectionResetError("the Runtime API closed the connection within an answer")
            have += read
        return bytes(whole)

    def _read_chunks(self, sock, data):
        body = b""
        while True:
            while b"\r\n" not in data:
                data += self._more(sock)
            size, _, data = data.partition(b"\r\n")
            size = int(size.partition(b";")[0], 16)
            while len(data) < size + 2:
                data += self._more(sock)
            if size == 0:
                # Trailers are of no use here, but they must be read.
                while not data.startswith(b"\r\n") and b"\r\n\r\n" not in data:
                    data += self._more(sock)
                return body
            body += data[:size]
            data = data[size + 2 :]

    def _more(self, sock):
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError("the Runtime API closed the connection within an answer")
        return data


class _NothingRead(Exception):
    pass


# ---- Output.


class Unbuffered(object):
    """Output must not wait in a buffer: the sandbox is frozen between invocations, and may be killed."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, exc_tb):
        pass

    def __getattr__(self, attr):
        return getattr(self.stream, attr)

    def write(self, msg):
        self.stream.write(msg)
        self.stream.flush()

    def writelines(self, msgs):
        self.stream.writelines(msgs)
        self.stream.flush()


class StandardLogSink(object):
    def log(self, msg, frame_type=None):
        sys.stdout.write(msg)

    def log_error(self, message_lines):
        sys.stdout.write("\r".join(message_lines) + "\n")


# Frame types end in the level: 2 is JSON, 3 is text, plus 4 times the level's number.
TEXT_FRAME = 0xA55A0003
JSON_FRAME = 0xA55A0002
LOG_JSON = (os.environ.get("AWS_LAMBDA_LOG_FORMAT") or "").upper() == "JSON"


def frame_type(base, level):
    """`level` is one of the logging module's, as 40 for ERROR."""
    return (base + (4 * (level // 10 + 1) if level else 0)).to_bytes(4, "big")


class FramedTelemetryLogSink(object):
    """Frames keep multi-line messages whole: type, length and time in microseconds, big-endian, then the text."""

    def __init__(self, fd):
        self.fd = int(fd)

    def log(self, msg, frame_type=None):
        data = msg.encode("utf8")
        frame = (
            (frame_type or _DEFAULT_FRAME)
            + len(data).to_bytes(4, "big")
            + (time.time_ns() // 1000).to_bytes(8, "big")
            + data
        )
        while frame:
            frame = frame[os.write(self.fd, frame) :]

    def log_error(self, message_lines):
        self.log("\n".join(message_lines), frame_type=frame_type(JSON_FRAME if LOG_JSON else TEXT_FRAME, 40))


_DEFAULT_FRAME = frame_type(TEXT_FRAME, 0)


def _create_log_sink():
    fd = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
    return StandardLogSink() if fd is None else FramedTelemetryLogSink(fd)


# ---- Imports.


class _AsIfImported:
    """awslambdaric has imported these before the function's code runs, so that modules of the same name in the
    package do not hide them, and `logging` is configured. Here they are found when they are asked for."""

    NAMES = frozenset(
        """
        __future__ _weakrefset collections concurrent contextlib copyreg decimal enum functools importlib json keyword
        linecache logging math numbers operator re reprlib string textwrap threading token tokenize traceback types
        warnings weakref
        """.split()
    )

    def __init__(self, search_path):
        self.search_path = search_path

    def find_spec(self, name, path=None, target=None):
        if path is not None or name not in self.NAMES:
            return None
        spec = PathFinder.find_spec(name, self.search_path, target)
        if name == "logging" and spec is not None:
            loader = spec.loader
            load = loader.exec_module

            def exec_module(module):
                load(module)
                import firn_logging

                firn_logging.configure(module, log_sink)

            loader.exec_module = exec_module
        return spec


def _prepare_imports():
    # The interpreter runs with -S; this is what functions use of `site`.
    from _sitebuiltins import Quitter, _Helper

    builtins.exit = Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = Quitter("quit", "Ctrl-D (i.e. EOF)")
    builtins.help = _Helper()

    library = os.path.dirname(os.__file__)
    sys.meta_path.insert(0, _AsIfImported([library, library + "/lib-dynload"]))

    # The order of AWS's bootstrap: the package, layers, the runtime; the SDK comes last.
    own_path = "PYTHONPATH" in os.environ
    site_dirs = [TASK_ROOT]
    if own_path:
        try:
            import sitecustomize  # noqa: F401
        except ImportError as err:
            if err.name != "sitecustomize":
                raise
    else:
        packages = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
        sys.path[0:0] = [packages, "/opt/python"]
        site_dirs += [packages, "/opt/python"]
        os.environ["PYTHONPATH"] = RUNTIME_DIR
    sys.path.insert(0, TASK_ROOT)
    sys.path.append(RUNTIME_DIR + "/sdk")
    for folder in site_dirs:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        if any(name.endswith(".pth") for name in names):
            import site

            site.addsitedir(folder)


def _listen_for_debugger():
    port = os.environ.pop("FIRN_DEBUG_PORT", None)
    if port is None:
        return
    try:
        import debugpy
    except ImportError as err:
        raise ImportError(
            "firn dev --debug needs debugpy where the function can import it: "
            "pip install debugpy --target FOLDER, with the function's folder or a layer's python/ as FOLDER"
        ) from err
    debugpy.listen(("127.0.0.1", int(port)))


# ---- The context object.


class LambdaContext(object):
    def __init__(
        self,
        invoke_id,
        client_context,
        cognito_identity,
        epoch_deadline_time_in_ms,
        invoked_function_arn=None,
        tenant_id=None,
    ):
        environ = os.environ
        self.aws_request_id = invoke_id
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self._w3c_fields = _take_w3c(client_context)

        self.client_context = _make_object(ClientContext, client_context)
        if self.client_context is not None:
            self.client_context.client = _make_object(Client, self.client_context.client)

        self.identity = _make_object(CognitoIdentity, {})
        if cognito_identity is not None:
            self.identity.cognito_identity_id = cognito_identity.get("cognitoIdentityId")
            self.identity.cognito_identity_pool_id = cognito_identity.get("cognitoIdentityPoolId")

        self._epoch_deadline_time_in_ms = epoch_deadline_time_in_ms

    def get_remaining_time_in_millis(self):
        remaining = self._epoch_deadline_time_in_ms - int(time.time() * 1000)
        return remaining if remaining > 0 else 0

    def w3c(self):
        return dict(self._w3c_fields)

    def log(self, msg):
        logging = sys.modules.get("logging")
        if logging is None:
            log_sink.log(str(msg))
            return
        for handler in logging.getLogger().handlers:
            if hasattr(handler, "log_sink"):
                handler.log_sink.log(str(msg))
                return
        sys.stdout.write(str(msg))

    def __repr__(self):
        return _describe(
            self,
            (
                "aws_request_id",
                "log_group_name",
                "log_stream_name",
                "function_name",
                "memory_limit_in_mb",
                "function_version",
                "invoked_function_arn",
                "client_context",
                "identity",
                "tenant_id",
            ),
        )


class CognitoIdentity(object):
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __repr__(self):
        return _describe(self, self.__slots__)


class Client(object):
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __repr__(self):
        return _describe(self, self.__slots__)


class ClientContext(object):
    __slots__ = ["custom", "env", "client"]

    def __repr__(self):
        return _describe(self, self.__slots__)


def _describe(value, names):
    fields = ",".join("%s=%s" % (name, getattr(value, name)) for name in names)
    return "%s([%s])" % (value.__class__.__name__, fields)


def _make_object(kind, fields):
    if fields is None:
        return None
    value = kind()
    for name in kind.__slots__:
        setattr(value, name, fields.get(name))
    return value


def _take_w3c(client_context):
    if not isinstance(client_context, dict):
        return {}
    given = client_context.pop("w3c", None)
    if not isinstance(given, dict):
        return {}
    names = ("traceparent", "tracestate", "baggage")
    return {name: given[name] for name in names if isinstance(given.get(name), str)}


# ---- The life of the process.


class FaultException(Exception):
    """An error with a type that only the platform uses."""

    def __init__(self, exception_type, msg, trace=None):
        self.msg = msg
        self.exception_type = exception_type
        self.trace = trace


def _load_handler(name):
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise FaultException(
            "Runtime.MalformedHandlerName",
            "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % name,
        )
    try:
        if module_name.split(".")[0] in sys.builtin_module_names:
            raise FaultException(
                "Runtime.BuiltInModuleConflict",
                "Cannot use built-in module %s as a handler module" % module_name,
            )
        import importlib

        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as err:
        raise FaultException(
            "Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, err)
        )
    except SyntaxError as err:
        raise FaultException(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module_name, err),
            ['  File "%s" Line %s\n    %s' % (err.filename, err.lineno, err.text)],
        )
    try:
        return getattr(module, function_name)
    except AttributeError:
        raise FaultException(
            "Runtime.HandlerNotFound",
            "Handler '%s' missing on module '%s'" % (function_name, module_name),
        )


def _parse_json_header(value, name):
    if not value:
        return None
    try:
        return from_json(value)
    except Exception as err:
        raise FaultException(
            "Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, err)
        )


def _handle(handler, body, headers):
    """What the function answers: bytes and their content type."""
    deadline = headers.get("lambda-runtime-deadline-ms")
    context = LambdaContext(
        request_id,
        _parse_json_header(headers.get("lambda-runtime-client-context"), "Client Context"),
        _parse_json_header(headers.get("lambda-runtime-cognito-identity"), "Cognito Identity"),
        int(deadline) if deadline else 0,
        headers.get("lambda-runtime-invoked-function-arn"),
        tenant_id,
    )
    event = body
    if headers.get("content-type") == "application/json":
        try:
            event = from_json(body)
        except Exception as err:
            raise FaultException("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % err)
    response = handler(event, context)
    if isinstance(response, bytes):
        return response, "application/unknown"
    try:
        return to_json(response).encode("utf-8"), "application/json"
    except Exception as err:
        raise FaultException("Runtime.MarshalError", "Unable to marshal response: %s" % err)


def invoke(api, handler, body, headers):
    """Runs the function for one event and posts its answer."""
    global request_id, tenant_id
    request_id = headers.get("lambda-runtime-aws-request-id")
    tenant_id = headers.get("lambda-runtime-aws-tenant-id")
    invocation_id = headers.get("lambda-runtime-invocation-id")
    trace = headers.get("lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    try:
        result, content_type = _handle(handler, body, headers)
    except Exception as err:
        import firn_errors

        firn_errors.report(api, err, invocation_id)
    else:
        api.post_response(request_id, result, content_type, invocation_id)


def forget_invocation():
    """Leaves no trace of the last invocation, as if none had been."""
    global request_id, tenant_id
    request_id = tenant_id = None
    os.environ.pop("_X_AMZN_TRACE_ID", None)


def _serve(api, handler, event):
    while True:
        invoke(api, handler, *(event or api.next()))
        event = None


def main():
    global log_sink
    sys.stdout = Unbuffered(sys.stdout)
    sys.stderr = Unbuffered(sys.stderr)
    log_sink = _create_log_sink()
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    _prepare_imports()
    try:
        _listen_for_debugger()
        handler = _load_handler(os.environ["_HANDLER"])
    except Exception as err:
        import firn_errors

        firn_errors.report_init(api, err)
        sys.exit(1)
    event = None
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        import firn_snapshot

        event = firn_snapshot.take(api, handler)
    _serve(api, handler, event)
