"""Powertools for AWS Lambda, unmodified and at its current version, as a layer: what functions in
production log, count and trace with has to find here what it finds on AWS."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import urllib.parse
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from leftovers import eventually
from functions import create, invoke, settle, zipped

HERE = Path(__file__).parent / "powertools"
PYTHON = ["aws-lambda-powertools[tracer]==3.37.0"]
NODE = [f"@aws-lambda-powertools/{part}" for part in (
    "batch@2.35.0", "event-handler@2.35.0", "logger@2.36.0", "metrics@2.36.0", "tracer@2.36.0")]


def fetch(server, url: str) -> tuple[int, bytes]:
    """Asks a function URL for a page. Its host name need not resolve: the server is one of ours."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", parts.path, headers={"Host": parts.netloc})
    response = connection.getresponse()
    with contextlib.closing(connection):
        return response.status, response.read()


def tree(root: Path, prefix: str) -> bytes:
    """All files below a folder as a zip."""
    return zipped({f"{prefix}/{path.relative_to(root)}": path.read_bytes()
                   for path in sorted(root.rglob("*")) if path.is_file()
                   and "__pycache__" not in path.parts})


@pytest.fixture(scope="session")
def python_layer(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("powertools-python")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                    "--no-compile", "--target", folder, *PYTHON], check=True)
    return tree(folder, "python")


@pytest.fixture(scope="session")
def node_layer(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("powertools-node")
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *NODE],
                   check=True, stdin=subprocess.DEVNULL)
    return tree(folder / "node_modules", "nodejs/node_modules")


@pytest.fixture(params=["python", "node"])
def shop(request, server, functions) -> str:
    """The function in one of the two languages, with Powertools as a layer."""
    layer = request.getfixturevalue(f"{request.param}_layer")
    published = functions.publish_layer_version(
        LayerName="powertools", Content={"ZipFile": layer},
        CompatibleRuntimes=["python3.12", "nodejs20.x"])
    package, runtime = {
        "python": (zipped({"app.py": (HERE / "app.py").read_text()}), "python3.12"),
        "node": (zipped({"app.mjs": (HERE / "app.mjs").read_text()}), "nodejs20.x"),
    }[request.param]
    create(functions, "shop", package, runtime=runtime, MemorySize=512, Timeout=30,
           Layers=[published["LayerVersionArn"]], TracingConfig={"Mode": "Active"})
    return "shop"


def lines(answer) -> list[dict]:
    """The JSON lines among what an invocation logged."""
    found = []
    for line in answer.tail.splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def test_logger_writes_structured_lines_with_the_context_of_the_invocation(functions, shop):
    answer = invoke(functions, shop, {"sold": 3, "order": "o-1"}, LogType="Tail")
    assert answer.error is None, answer
    assert answer.json["doubled"] == 6
    [line] = [line for line in lines(answer) if line.get("message") == "sold"]
    request = line.get("function_request_id")
    assert (line["level"], line["service"], line["sold"], request) == (
        "INFO", "orders", 3, answer.request_id)
    assert line["function_name"] == shop
    assert str(line["function_memory_size"]) == "512"
    assert line["cold_start"] is True
    assert line["xray_trace_id"].startswith("1-")
    again = invoke(functions, shop, {"sold": 3}, LogType="Tail")
    [line] = [line for line in lines(again) if line.get("message") == "sold"]
    assert line["cold_start"] is False


def test_metrics_become_cloudwatch_metrics(server, account, functions, shop):
    for sold in (3, 4):
        invoke(functions, shop, {"sold": sold})
    cloudwatch = server.client("cloudwatch", account=account)
    now = datetime.now(UTC)

    def sold() -> float:
        points = cloudwatch.get_metric_statistics(
            Namespace="Shop", MetricName="Sold", StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=10), Period=3600, Statistics=["Sum"],
            Dimensions=[{"Name": "service", "Value": "orders"}, {"Name": "shop", "Value": "north"}])
        return sum(point["Sum"] for point in points["Datapoints"])

    assert not eventually(lambda: sold() != 7.0), sold()
    names = {metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace="Shop")["Metrics"]}
    assert names == {"Sold", "ColdStart"}


def test_tracer_finds_the_trace_and_does_not_disturb(functions, shop):
    root = f"1-{int(datetime.now().timestamp()):08x}-{uuid.uuid4().hex[:24]}"
    answer = functions.invoke(FunctionName=shop, Payload=b'{"sold": 1}')
    assert "FunctionError" not in answer
    body = json.loads(answer["Payload"].read())
    assert body["doubled"] == 2
    if "traced" in body:
        assert body["traced"] is True
        assert body["root"].startswith("1-") and len(body["root"]) == len(root)
    failed = invoke(functions, shop, {"sold": 1, "fail": True})
    assert failed.error == "Unhandled"
    assert failed.json["errorMessage"] == "sold out"


def test_batch_reports_the_records_that_failed(functions, shop):
    def record(number: int, body: str) -> dict:
        return {"messageId": f"m-{number}", "receiptHandle": "h", "body": body, "attributes": {},
                "messageAttributes": {}, "md5OfBody": "", "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:1:q", "awsRegion": "us-east-1"}

    answer = invoke(functions, shop, {"Records": [record(0, "good"), record(1, "bad")]})
    assert answer.error is None, answer
    assert answer.json == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_event_handler_routes_requests_of_a_function_url(server, functions, shop):
    url = functions.create_function_url_config(FunctionName=shop, AuthType="NONE")["FunctionUrl"]
    for action, more in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
                         ("InvokeFunction", {"InvokedViaFunctionUrl": True})):
        functions.add_permission(FunctionName=shop, StatementId=action, Principal="*",
                                 Action=f"lambda:{action}", **more)
    settle(functions, shop)
    status, body = fetch(server, url + "orders/7")
    assert (status, json.loads(body)["number"]) == (200, "7")
    status, _ = fetch(server, url + "nothing")
    assert status == 404
