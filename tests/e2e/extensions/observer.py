#!/usr/bin/env python3
"""A toy extension to the published contract of the Extensions and the Telemetry API.

It subscribes to telemetry over HTTP, waits after each invocation for its `platform.runtimeDone`
before it asks for the next event, as OpenTelemetry's and Datadog's do, and writes what it has seen
to /tmp/observer.jsonl, where the function finds it.
"""

import http.server
import json
import os
import sys
import threading
import urllib.error
import urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
NAME = os.path.basename(sys.argv[0])
SETTINGS = json.loads(os.environ.get("OBSERVER", "{}"))

seen = threading.Condition()
done: set[str] = set()


def call(method, path, headers, body=None):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(API + path, method=method, headers=headers, data=data)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def note(**entry):
    with seen, open("/tmp/observer.jsonl", "a") as file:
        file.write(json.dumps(entry) + "\n")


class Listener(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for event in events:
            note(telemetry=event)
        with seen:
            done.update(e["record"]["requestId"] for e in events if e["type"] == "platform.runtimeDone")
            seen.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    status, headers, body = call(
        "POST", "/2020-01-01/extension/register",
        {"Lambda-Extension-Name": NAME, "Lambda-Extension-Accept-Feature": "accountId"},
        {"events": ["INVOKE", "SHUTDOWN"]})
    note(registered=json.loads(body), status=status, variables=sorted(os.environ))
    me = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
    listener = http.server.ThreadingHTTPServer(("sandbox.localdomain", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    for request in SETTINGS.get("attempts", []):
        status, _, body = call("PUT", "/2022-07-01/telemetry", me, request)
        note(attempt=request, status=status, body=body)
    status, _, body = call("PUT", "/2022-07-01/telemetry", me, {
        "schemaVersion": SETTINGS.get("schemaVersion", "2022-12-13"),
        "types": SETTINGS.get("types", ["platform", "function", "extension"]),
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox:{listener.server_port}/telemetry"},
    })
    note(subscribed=body, status=status)
    print("the observer is there", flush=True)
    while True:
        _, _, body = call("GET", "/2020-01-01/extension/event/next", me)
        event = json.loads(body)
        note(event=event)
        if event["eventType"] == "SHUTDOWN":
            print("the observer was told of", event["shutdownReason"], flush=True)
            return
        with seen:
            waited = seen.wait_for(lambda: event["requestId"] in done, timeout=5)
        note(waited=waited)


main()
