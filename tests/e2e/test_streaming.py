"""Answers that arrive while the function writes them: by the SDK, by URL, and when things go wrong."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import time
import urllib.parse

import pytest
from functions import NOOP, create, node, python
from urls import ask, connect, open_to_all

LINES = node("""
    const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream.setContentType("text/plain");
        console.log("streams");
        for (let i = 0; i < 3; i += 1) {
            stream.write(`${Date.now()}\\n`);
            await sleep(300);
        }
        stream.end();
    });
""")

HTTP = node("""
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream = awslambda.HttpResponseStream.from(stream, {
            statusCode: 201, headers: { "X-Own": "yes", "Content-Type": "text/html" }, cookies: ["a=b", "c=d"],
        });
        stream.write("<p>");
        stream.end("</p>");
    });
""")

FAILS = node("""
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream.setContentType("text/plain");
        stream.write("half ");
        await new Promise((done) => setTimeout(done, 100));
        throw new TypeError("no more");
    });
""")

ENDLESS = node("""
    const fs = require("fs");
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream.setContentType("application/octet-stream");
        let written = 0;
        while (written < 64 << 20) {
            if (!stream.write(Buffer.alloc(65536))) await new Promise((done) => stream.once("drain", done));
            written += 65536;
            console.log("written " + written);
        }
        stream.end();
    });
""")


def deploy(functions, name: str, package: bytes, **config) -> None:
    create(functions, name, package, runtime="nodejs20.x", **config)


def url_of(functions, name: str, package: bytes, mode: str = "RESPONSE_STREAM", **config) -> str:
    deploy(functions, name, package, **config)
    return open_to_all(functions, name, InvokeMode=mode)


def events_of(functions, name: str, **parameters) -> tuple[dict, list[tuple[float, bytes]], dict]:
    """The answer, its chunks with the time of their arrival, and how it ended."""
    answer = functions.invoke_with_response_stream(FunctionName=name, **parameters)
    chunks, end = [], None
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            assert end is None
            chunks.append((time.time(), event["PayloadChunk"]["Payload"]))
        else:
            end = event["InvokeComplete"]
    return answer, chunks, end


def test_chunks_reach_the_sdk_one_by_one(functions):
    deploy(functions, "lines", LINES)
    answer, chunks, end = events_of(functions, "lines", Payload=b"{}", LogType="Tail")
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert len(chunks) == 3 and chunks[2][0] - chunks[0][0] > 0.4
    for arrived, text in chunks:
        assert arrived - int(text) / 1000 < 0.15, "a chunk waited"
    assert "ErrorCode" not in end
    log = base64.b64decode(end["LogResult"]).decode()
    assert "streams" in log and "REPORT RequestId" in log


def test_functions_that_do_not_stream_give_one_chunk(functions):
    create(functions, "echo", NOOP)
    _, chunks, end = events_of(functions, "echo", Payload=b'{"a": 1}')
    assert [json.loads(data) for _, data in chunks] == [{"a": 1}]
    assert end == {}


def test_errors_are_told_in_the_last_event(functions):
    deploy(functions, "fails", FAILS)
    answer, chunks, end = events_of(functions, "fails", LogType="Tail")
    assert answer["StatusCode"] == 200
    assert b"".join(data for _, data in chunks) == b"half "
    assert end["ErrorCode"] == "TypeError" and json.loads(end["ErrorDetails"])["errorMessage"] == "no more"
    assert "REPORT" in base64.b64decode(end["LogResult"]).decode()
    create(functions, "early", python("def handler(event, context):\n    raise ValueError('early')\n"))
    _, chunks, end = events_of(functions, "early")
    assert chunks == [] and end["ErrorCode"] == "ValueError"
    assert json.loads(end["ErrorDetails"])["errorMessage"] == "early"


def test_a_timeout_in_the_middle_ends_the_stream(functions):
    deploy(functions, "late", node("""
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
            stream.write("begun");
            await new Promise(() => setTimeout(() => {}, 60000));
        });
    """), Timeout=1)
    _, chunks, end = events_of(functions, "late")
    assert [data for _, data in chunks] == [b"begun"]
    assert end["ErrorCode"] == "Sandbox.Timedout" and "timed out after 1.00 seconds" in end["ErrorDetails"]
    url = open_to_all(functions, "late", InvokeMode="RESPONSE_STREAM")
    with pytest.raises(Exception, match="IncompleteRead|Connection"):
        ask(url)


def test_a_dry_run_and_bad_requests_run_nothing(functions):
    create(functions, "echo", NOOP)
    assert functions.invoke_with_response_stream(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.invoke_with_response_stream(FunctionName="nobody")
    with pytest.raises(functions.exceptions.InvalidRequestContentException):
        functions.invoke_with_response_stream(FunctionName="echo", Payload=b"{")


def test_a_url_streams_each_chunk_at_once(functions):
    url = url_of(functions, "lines", LINES)
    connection = connect(url)
    for _ in range(2):  # the second time warm, and on the same connection
        connection.request("GET", "/", headers={"Host": urllib.parse.urlsplit(url).netloc})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["Content-Type"] == "text/plain"
        arrivals = []
        while line := answer.readline():
            arrivals.append(time.time() - int(line) / 1000)
        assert len(arrivals) == 3 and max(arrivals) < 0.15, arrivals


def test_streams_decide_on_status_headers_and_cookies(functions):
    url = url_of(functions, "page", HTTP)
    for mode in ("RESPONSE_STREAM", "BUFFERED"):
        functions.update_function_url_config(FunctionName="page", InvokeMode=mode)
        answer = ask(url)
        assert (answer.status, answer.body) == (201, b"<p></p>"), mode
        assert answer.headers["x-own"] == "yes" and answer.headers["content-type"] == "text/html"
        assert answer.headers.get_all("set-cookie") == ["a=b", "c=d"]


def test_a_stream_in_http_2_arrives_chunk_by_chunk(functions):
    url = url_of(functions, "lines", LINES)
    ask(url)
    with subprocess.Popen(["curl", "-sSN", "--http2-prior-knowledge", url], stdout=subprocess.PIPE) as curl:
        arrivals = [time.time() - int(line) / 1000 for line in curl.stdout]
    assert curl.returncode == 0 and len(arrivals) == 3 and max(arrivals) < 0.15, arrivals


def test_a_buffered_url_collects_a_stream(functions):
    url = url_of(functions, "lines", LINES, "BUFFERED")
    answer = ask(url)
    # Not JSON, so no answer that a buffered URL could send.
    assert answer.status == 502


def test_an_error_in_the_middle_cuts_the_connection(functions):
    url = url_of(functions, "fails", FAILS)
    host = urllib.parse.urlsplit(url).netloc
    with socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port), timeout=20) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ") and b"half " in answer
    assert not answer.endswith(b"0\r\n\r\n"), "the end looks like a whole answer"


def test_a_slow_reader_holds_the_function_back(functions, logs):
    url = url_of(functions, "endless", ENDLESS, Timeout=30)
    host = urllib.parse.urlsplit(url).netloc

    def written() -> int:
        found = logs.filter_log_events(logGroupName="/aws/lambda/endless")["events"]
        return max([int(n) for event in found for n in re.findall(r"written (\d+)", event["message"])], default=0)

    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", urllib.parse.urlsplit(url).port))
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    connection.recv(1000)
    before = -1
    deadline = time.time() + 15
    while written() != before and time.time() < deadline:
        before = written()
        time.sleep(1.2)  # log lines are readable within about a second
    held = written()
    assert held < 32 << 20, f"{held} bytes were written that nobody read"
    received = 0
    while piece := connection.recv(1 << 20):
        received += len(piece)
    connection.close()
    assert received > 64 << 20


def test_a_client_that_goes_away_does_not_stop_the_function(functions, logs):
    url = url_of(functions, "lines", LINES)
    ask(url)
    connection = connect(url)
    connection.request("GET", "/", headers={"Host": urllib.parse.urlsplit(url).netloc})
    answer = connection.getresponse()
    answer.readline()
    request_id = answer.headers["x-amzn-RequestId"]
    connection.sock.close()
    connection.close()
    deadline = time.time() + 15
    while time.time() < deadline:
        events = logs.filter_log_events(logGroupName="/aws/lambda/lines", filterPattern=f'"{request_id}"')["events"]
        if report := next((e["message"] for e in events if e["message"].startswith("REPORT")), None):
            break
        time.sleep(0.2)
    duration = float(re.search(r"Duration: ([\d.]+) ms", report).group(1))
    assert duration > 850 and "Status" not in report


def test_more_than_the_limit_is_cut_off(own_server):
    server = own_server(env={"FIRN_INVOKER_MAX_STREAMED_RESPONSE_BYTES": "1000000"})
    functions = server.client("lambda")
    deploy(functions, "endless", ENDLESS)
    _, chunks, end = events_of(functions, "endless")
    assert sum(len(data) for _, data in chunks) <= 1_000_000
    assert end["ErrorCode"] == "Function.ResponseSizeTooLarge"


def test_a_stopping_server_ends_idle_http_2_connections(own_server):
    server = own_server()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(preface)
        assert connection.recv(9), "the server's settings"
        began = time.time()
        assert server.stop() == 0
        assert time.time() - began < 10
