"""A toy Lambda Runtime API: hands out prepared events, records what the runtime client sends, and runs a client."""

import http.client
import http.server
import json
import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass, field

# The cause that a client sends for X-Ray may be a megabyte, in one header.
http.client._MAXLINE = 2 * 1024 * 1024
PREFIX = "/2018-06-01/runtime"


@dataclass
class Call:
    """One request of the client, other than `next`."""

    path: str
    headers: dict
    body: bytes
    trailers: dict = field(default_factory=dict)
    chunks: list = field(default_factory=list)

    @property
    def kind(self):
        return self.path[len(PREFIX) :].split("/", 2)[1] + ":" + self.path.rsplit("/", 1)[1]

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Outcome:
    calls: list
    stdout: bytes
    stderr: bytes
    frames: list
    exit_code: object  # None if the client was still waiting for the next event

    @property
    def answers(self):
        return [call for call in self.calls if call.path.startswith(PREFIX + "/invocation/")]

    @property
    def text(self):
        return self.stdout.decode("utf-8", "replace")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write per answer
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        if self.path == PREFIX + "/invocation/next":
            event = self.server.api.next_event()
            if event is None:
                self.close_connection = True
                return
            self.answer(200, event["body"], event["headers"].items())
        elif self.path == PREFIX + "/restore/next":
            self.server.api.record(Call(self.path, dict(self.headers), b""))
            if self.server.api.restore():
                self.answer(200)
            else:
                self.close_connection = True
        elif self.path.startswith(PREFIX + "/firn/"):
            event = self.server.api.snapshot_event(self.path)
            if event is None:
                self.answer(404)
            else:
                self.answer(event["status"], event["body"], event["headers"].items())
        else:
            self.answer(404)

    def do_POST(self):
        call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, b"")
        if "content-length" in call.headers:
            call.body = self.rfile.read(int(call.headers["content-length"]))
        elif call.headers.get("transfer-encoding") == "chunked":
            if not self.read_chunks(call):
                call.path += "?aborted"
                self.server.api.record(call)
                self.close_connection = True
                return
        self.answer(self.server.api.status, b'{"status":"OK"}\n', [("Content-Type", "application/json")])
        self.server.api.record(call)

    def read_chunks(self, call):
        while True:
            line = self.rfile.readline()
            if not line:
                return False
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            chunk = self.rfile.read(size)
            call.chunks.append((time.monotonic(), chunk))
            call.body += chunk
            self.rfile.readline()
        for line in iter(self.rfile.readline, b"\r\n"):
            if not line:
                return False
            name, _, value = line.decode().partition(":")
            call.trailers[name.lower()] = value.strip()
        return True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


class ToyApi:
    """`priming`: the events that are run ahead of the snapshot; without them the server knows nothing of priming.
    `lost_restores`: how often the connection is lost instead of an answer to `restore/next`, which comes after
    `restore_after` seconds."""

    def __init__(self, events, status=202, priming=None, lost_restores=0, restore_after=0):
        self.status = status
        self.priming = None if priming is None else [make_event(900 + n, event) for n, event in enumerate(priming)]
        self.lost_restores, self.restore_after = lost_restores, restore_after
        self.warmed = 0
        self.calls = []
        self.changed = threading.Condition()
        self.events = queue.Queue()
        self.waiting = False
        for number, event in enumerate(events):
            self.events.put(make_event(number, event))
        self.first_next = None
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.api = self
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server.server_address[1]

    def next_event(self):
        with self.changed:
            if self.first_next is None:
                self.first_next = time.monotonic()
            if self.events.empty():
                self.waiting = True
                self.changed.notify_all()
        return self.events.get()

    def snapshot_event(self, path):
        """What a server that knows priming answers; None from one that does not."""
        if self.priming is None:
            return None
        if path == PREFIX + "/firn/warm":
            self.warmed += 1
            return {"status": 200, **make_event(800, {})}
        assert path == PREFIX + "/firn/priming/next"
        if not self.priming:
            return {"status": 204, "headers": {}, "body": b""}
        return {"status": 200, **self.priming.pop(0)}

    def restore(self):
        time.sleep(self.restore_after)
        self.lost_restores -= 1
        return self.lost_restores < 0

    def record(self, call):
        with self.changed:
            self.calls.append(call)
            self.changed.notify_all()

    def wait(self, process, timeout):
        """Until the client waits for an event that there is not, or ends."""
        ended = time.monotonic() + timeout
        while process.poll() is None and time.monotonic() < ended:
            with self.changed:
                if self.waiting:
                    return
                self.changed.wait(0.02)

    def close(self):
        self.events.put(None)
        self.server.shutdown()
        self.server.server_close()


def make_event(number, event):
    """An event is a JSON value, or a dict with "__body__" (bytes) and "__headers__"."""
    headers = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": "00000000-0000-4000-8000-%012d" % number,
        "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:toy",
        "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
    }
    body = None
    if isinstance(event, dict):
        event = dict(event)
        headers.update(event.pop("__headers__", {}))
        body = event.pop("__body__", None)
    if body is None:
        body = json.dumps(event).encode()
    return {"headers": {k: v for k, v in headers.items() if v is not None}, "body": body}


def environment(runtime, handler, task_root, address, **extra):
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": "toy",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/toy",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_" + runtime,
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": str(task_root),
        "_HANDLER": handler,
        **extra,
    }


def run(
    command, runtime, handler, task_root, events, status=202, framed=False, timeout=20,
    priming=None, lost_restores=0, restore_after=0, **extra_env,
):
    """Runs a client until it has answered all events or ended."""
    api = ToyApi(events, status, priming, lost_restores, restore_after)
    env = environment(runtime, handler, task_root, api.address, **extra_env)
    reader, writer = os.pipe()
    if framed:
        os.set_inheritable(writer, True)
        env["_LAMBDA_TELEMETRY_LOG_FD"] = str(writer)
    process = subprocess.Popen(
        command,
        env=env,
        cwd=task_root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[writer] if framed else [],
    )
    os.close(writer)
    collected = {}

    def collect(name, stream):
        collected[name] = stream.read()

    streams = {"stdout": process.stdout, "stderr": process.stderr, "frames": os.fdopen(reader, "rb")}
    threads = [threading.Thread(target=collect, args=item) for item in streams.items()]
    for thread in threads:
        thread.start()
    try:
        api.wait(process, timeout)
        if process.poll() is None and not api.waiting:
            collected["late"] = True
        exit_code = process.poll()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        api.close()
    assert "late" not in collected, "the client neither answered nor ended: %r" % collected
    return Outcome(api.calls, collected["stdout"], collected["stderr"], parse_frames(collected["frames"]), exit_code)


def parse_frames(data):
    frames = []
    while data:
        kind, length = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
        frames.append((kind, data[16 : 16 + length].decode()))
        data = data[16 + length :]
    return frames
