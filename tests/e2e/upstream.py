"""A server that takes what firn sends to queues, topics and buses, and remembers it."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))


class Upstream:
    """Answers every request with success, or with the next of `failures` while there are any."""

    def __init__(self, failures: tuple[int, ...] = ()):
        self.received: list[Received] = []
        self.failures = list(failures)
        self._changed = threading.Condition()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = upstream._take(Received(self.command, self.path, headers, body))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_PUT = take

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, request: Received) -> int:
        with self._changed:
            self.received.append(request)
            self._changed.notify_all()
            return self.failures.pop(0) if self.failures else 200

    def wait(self, count: int, seconds: float = 30) -> list[Received]:
        """The first `count` requests, once they are there."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.received) >= count, seconds)
            assert arrived, f"{len(self.received)} of {count} requests came"
            return list(self.received[:count])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Busy:
    """Passes every second request on to `endpoint`, and answers those between that it is busy, as S3 does."""

    def __init__(self, endpoint: str):
        self.refused = 0
        turns = itertools.cycle((False, True))
        busy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if next(turns):
                    there = http.client.HTTPConnection(endpoint.removeprefix("http://"))
                    there.request(self.command, self.path, body, dict(self.headers))
                    answer = there.getresponse()
                    status, content = answer.status, answer.read()
                    there.close()
                else:
                    busy.refused += 1
                    status, content = 503, b"<Error><Code>SlowDown</Code><Message>Please reduce.</Message></Error>"
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = take

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
