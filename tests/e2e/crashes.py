"""A server that is killed again and again, and clients that go on all the same."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time

from server import Server

PATIENCE_SECONDS = 240


class Calls:
    """Calls of Step Functions that are repeated until the server answers: one connection, for one thread.

    A call that is repeated may have had its effect before. Callers are to allow for that, as clients of AWS are.
    """

    def __init__(self, server: Server, account: str = "000000000000"):
        self.server = server
        self.connection: http.client.HTTPConnection | None = None
        self.headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/states/aws4_request, "
                             "SignedHeaders=host, Signature=0",
            "X-Amz-Date": "20260101T000000Z",
            "Content-Type": "application/x-amz-json-1.0",
        }

    def __call__(self, operation: str, **parameters) -> tuple[int, dict]:
        """Status and answer. An answer that is a server's fault is an answer, too."""
        headers = {**self.headers, "X-Amz-Target": f"AWSStepFunctions.{operation}"}
        body = json.dumps(parameters)
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=90)
                self.connection.request("POST", "/", body, headers)
                answer = self.connection.getresponse()
                return answer.status, json.loads(answer.read() or b"{}")
            except (OSError, ValueError, http.client.HTTPException):
                # Killed before or while it answered. The next one listens on another port.
                self.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def must(self, operation: str, **parameters) -> dict:
        status, answer = self(operation, **parameters)
        assert status == 200, (operation, status, answer)
        return answer

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


@contextlib.contextmanager
def killed_every(server: Server, *seconds: float, at_most: int = 100):
    """Kills and restarts the server all the while, each time after the next of `seconds` of service; gives a list with
    one entry for each kill. When the block is over, the server runs. After `at_most` kills it lives on, or a slow build
    on a busy machine would be at it for ever."""
    over = threading.Event()
    kills: list[float] = []
    failed: list[BaseException] = []

    def kill() -> None:
        try:
            while len(kills) < at_most and not over.wait(seconds[len(kills) % len(seconds)]):
                server.kill()
                kills.append(time.monotonic())
                server.start()
        except BaseException as error:
            failed.append(error)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield kills
    finally:
        over.set()
        killer.join()
    if failed:
        raise failed[0]


def in_background(*functions) -> tuple[list[threading.Thread], list[BaseException]]:
    """Starts functions, each in a thread that dies with the tests; gives the threads, and what fails in them."""
    failures: list[BaseException] = []

    def guarded(function) -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads, failures


def in_threads(*functions) -> None:
    """Runs functions, each in a thread, until all are done; the first failure is raised."""
    threads, failures = in_background(*functions)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def history(calls: Calls, arn: str) -> list[dict]:
    """All events of an execution."""
    events, token = [], {}
    while True:
        page = calls.must("GetExecutionHistory", executionArn=arn, maxResults=1000, **token)
        events += page["events"]
        if "nextToken" not in page:
            return events
        token = {"nextToken": page["nextToken"]}


def wait_for_ends(calls: Calls, arns: list[str]) -> dict[str, dict]:
    """The executions' descriptions, once they have ended."""
    ended = {}
    until = time.monotonic() + PATIENCE_SECONDS
    for arn in arns:
        while (told := calls.must("DescribeExecution", executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < until, f"{arn} does not end: {history(calls, arn)[-3:]}"
            time.sleep(0.05)
        ended[arn] = told
    return ended
