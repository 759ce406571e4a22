"""Metrics: CloudWatch in its three protocols, Lambda's own numbers, metrics in logs, and Prometheus."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from functions import create, invoke, python

AWS = Path(sys.executable).with_name("aws")
UTC = datetime.timezone.utc


@pytest.fixture
def cloudwatch(server, account):
    return server.client("cloudwatch", account=account)


def minutes_ago(minutes: int) -> datetime.datetime:
    return datetime.datetime.now(UTC) - datetime.timedelta(minutes=minutes)


def statistics(cloudwatch, name: str, statistic: str = "Sum", namespace: str = "AWS/Lambda", **dimensions: str):
    answer = cloudwatch.get_metric_statistics(
        Namespace=namespace, MetricName=name, StartTime=minutes_ago(10), EndTime=minutes_ago(-5), Period=300,
        Statistics=[statistic], Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()])
    return sum(point[statistic] for point in answer["Datapoints"])


def eventually(check, seconds: float = 10):
    """Lambda's metrics are there about a second after what they count."""
    until = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def forced(server, account: str, protocol: str):
    """A client of another of the service's protocols, as older SDKs are."""
    session = botocore.session.get_session()
    model = session.get_component("data_loader").load_service_model("cloudwatch", "service-2")
    model["metadata"]["protocol"] = protocol
    model["metadata"]["protocols"] = [protocol]
    # A loader that gives this description instead of the packaged one.
    loader = session.get_component("data_loader")
    original = loader.load_service_model

    def load(service, kind, api_version=None):
        if (service, kind) == ("cloudwatch", "service-2"):
            return model
        return original(service, kind, api_version)

    loader.load_service_model = load
    seen = []
    client = session.create_client(
        "cloudwatch", region_name="us-east-1", endpoint_url=server.endpoint, aws_access_key_id=account,
        aws_secret_access_key="x", config=Config(retries={"max_attempts": 0}))
    client.meta.events.register("before-send.*", lambda request, **_: seen.append(dict(request.headers)) and None)
    return client, seen


def header(headers: dict, name: str) -> str:
    found = {key.lower(): value for key, value in headers.items()}.get(name, "")
    return found.decode() if isinstance(found, bytes) else found


@pytest.mark.parametrize("protocol", ["smithy-rpc-v2-cbor", "json", "query"])
def test_every_protocol_puts_and_gets(server, account, protocol):
    client, seen = forced(server, account, protocol)
    moment = minutes_ago(3).replace(second=0, microsecond=0)
    client.put_metric_data(Namespace="shop", MetricData=[
        {"MetricName": "took", "Dimensions": [{"Name": "page", "Value": "cart & <checkout>"}], "Timestamp": moment,
         "Values": [1.5, 2.5], "Counts": [3.0, 1.0], "Unit": "Milliseconds"},
        {"MetricName": "orders", "Timestamp": moment, "Value": 7, "Unit": "Count", "StorageResolution": 1},
        {"MetricName": "size", "Timestamp": moment,
         "StatisticValues": {"SampleCount": 2, "Sum": 30, "Minimum": 10, "Maximum": 20}},
    ])
    listed = client.list_metrics(Namespace="shop")["Metrics"]
    assert [m["MetricName"] for m in listed] == ["orders", "size", "took"]
    assert listed[2]["Dimensions"] == [{"Name": "page", "Value": "cart & <checkout>"}]
    answer = client.get_metric_statistics(
        Namespace="shop", MetricName="took", Dimensions=listed[2]["Dimensions"], StartTime=moment,
        EndTime=moment + datetime.timedelta(minutes=1), Period=60,
        Statistics=["Sum", "Average", "SampleCount", "Minimum", "Maximum"])
    assert answer["Datapoints"] == [{"Timestamp": moment, "Sum": 7.0, "Average": 1.75, "SampleCount": 4.0,
                                     "Minimum": 1.5, "Maximum": 2.5, "Unit": "Milliseconds"}]
    results = client.get_metric_data(
        StartTime=moment, EndTime=moment + datetime.timedelta(minutes=1),
        MetricDataQueries=[
            {"Id": "m1", "MetricStat": {"Metric": {"Namespace": "shop", "MetricName": "orders"}, "Period": 60,
                                        "Stat": "Sum"}, "ReturnData": False},
            {"Id": "m2", "MetricStat": {"Metric": {"Namespace": "shop", "MetricName": "size"}, "Period": 60,
                                        "Stat": "Average"}},
            {"Id": "e1", "Expression": "m2 / m1 * 7", "Label": "each"},
        ])["MetricDataResults"]
    assert [(r["Id"], r["Label"], r["Timestamps"], r["Values"], r["StatusCode"]) for r in results] == [
        ("m2", "size", [moment], [15.0], "Complete"), ("e1", "each", [moment], [15.0], "Complete")]
    with pytest.raises(ClientError) as refused:
        client.put_metric_data(Namespace="AWS/mine", MetricData=[{"MetricName": "m", "Value": 1}])
    error = refused.value.response
    assert error["Error"]["Code"] in ("InvalidParameterValue", "InvalidParameterValueException")
    assert error["Error"]["Message"] == "The value AWS/mine for parameter Namespace is invalid."
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert re.fullmatch(r"[0-9a-f-]{36}", error["ResponseMetadata"]["RequestId"])
    expected = {"smithy-rpc-v2-cbor": "application/cbor", "json": "application/x-amz-json-1.0",
                "query": "application/x-www-form-urlencoded"}[protocol]
    assert header(seen[0], "content-type").startswith(expected)


def test_a_large_request_is_compressed_and_understood(cloudwatch):
    seen = []
    cloudwatch.meta.events.register("before-send.*",
                                    lambda request, **_: seen.append(dict(request.headers)) and None)
    data = [{"MetricName": f"metric-{n}", "Value": n, "Dimensions": [{"Name": "n", "Value": str(n)}]}
            for n in range(900)]
    cloudwatch.put_metric_data(Namespace="large", MetricData=data)
    assert header(seen[0], "content-encoding") == "gzip"
    pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace="large")
    assert sum(len(page["Metrics"]) for page in pages) == 900


def test_acknowledged_metrics_survive_a_kill(own_server, tmp_path):
    running = own_server()
    client = running.client("cloudwatch")
    for n in range(5):
        client.put_metric_data(Namespace="kept", MetricData=[{"MetricName": "n", "Value": 1}])
    running.kill()
    again = own_server(data=running.data)
    assert statistics(again.client("cloudwatch"), "n", namespace="kept") == 5


def test_an_invoke_is_counted_in_awss_dimensions(functions, cloudwatch):
    create(functions, "counted", python("""
        def handler(event, context):
            if event.get("fail"):
                raise ValueError("as asked")
            return 1
    """))
    functions.publish_version(FunctionName="counted")
    functions.create_alias(FunctionName="counted", Name="live", FunctionVersion="1")
    for _ in range(3):
        invoke(functions, "counted", {})
    invoke(functions, "counted", {"fail": True})
    functions.invoke(FunctionName="counted", Qualifier="live", Payload=b"{}")

    def check():
        assert statistics(cloudwatch, "Invocations") == 5
        assert statistics(cloudwatch, "Invocations", FunctionName="counted") == 5
        assert statistics(cloudwatch, "Invocations", FunctionName="counted", Resource="counted") == 4
        assert statistics(cloudwatch, "Invocations", FunctionName="counted", Resource="counted:live") == 1
        assert statistics(cloudwatch, "Invocations", FunctionName="counted", Resource="counted:live",
                          ExecutedVersion="1") == 1
        assert statistics(cloudwatch, "Errors", FunctionName="counted") == 1
        assert statistics(cloudwatch, "Throttles", FunctionName="counted") == 0
        assert statistics(cloudwatch, "Duration", "SampleCount", FunctionName="counted") == 5
        assert statistics(cloudwatch, "ConcurrentExecutions", "Maximum", FunctionName="counted") == 1

    eventually(check)
    assert statistics(cloudwatch, "Duration", FunctionName="counted") > 0
    rate = cloudwatch.get_metric_data(
        StartTime=minutes_ago(10), EndTime=minutes_ago(-5),
        MetricDataQueries=[
            {"Id": "errors", "ReturnData": False, "MetricStat": {"Metric": {
                "Namespace": "AWS/Lambda", "MetricName": "Errors",
                "Dimensions": [{"Name": "FunctionName", "Value": "counted"}]}, "Period": 900, "Stat": "Sum"}},
            {"Id": "calls", "ReturnData": False, "MetricStat": {"Metric": {
                "Namespace": "AWS/Lambda", "MetricName": "Invocations",
                "Dimensions": [{"Name": "FunctionName", "Value": "counted"}]}, "Period": 900, "Stat": "Sum"}},
            {"Id": "rate", "Expression": "100 * errors / calls"},
        ])["MetricDataResults"]
    assert rate[0]["Values"] == [20.0]


def test_throttles_are_counted(functions, cloudwatch):
    create(functions, "throttled")
    functions.put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as refused:
        functions.invoke(FunctionName="throttled", Payload=b"{}")
    assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"

    def check():
        # boto3 may have tried more than once.
        assert statistics(cloudwatch, "Throttles", FunctionName="throttled") >= 1
        assert statistics(cloudwatch, "Invocations", FunctionName="throttled") == 0

    eventually(check)


def embedded(name: str, value: float) -> str:
    return json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
            {"Namespace": "embedded", "Dimensions": [["service"], []],
             "Metrics": [{"Name": name, "Unit": "Count"}]}]},
        "service": "cart", name: value,
    })


def test_metrics_in_what_a_function_prints(functions, cloudwatch):
    create(functions, "prints-metrics", python("""
        import json, time
        def handler(event, context):
            print(json.dumps({
                "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
                    {"Namespace": "embedded", "Dimensions": [["service"], ["service", "function"]],
                     "Metrics": [{"Name": "orders", "Unit": "Count"}, {"Name": "took", "Unit": "Milliseconds"}]}]},
                "service": "cart", "function": context.function_name, "orders": 3, "took": [1, 2, 4.5],
            }))
    """))
    invoke(functions, "prints-metrics", {})

    def check():
        assert statistics(cloudwatch, "orders", namespace="embedded", service="cart") == 3
        assert statistics(cloudwatch, "took", namespace="embedded", service="cart",
                          function="prints-metrics") == 7.5

    eventually(check)


def test_metrics_in_what_a_client_logs(logs, cloudwatch):
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName="one")
    now = int(time.time() * 1000)
    lines = [embedded("seen", 2), "plain text", embedded("seen", 5), '{"_aws": {"CloudWatchMetrics": 5}}']
    logs.put_log_events(logGroupName="/app", logStreamName="one",
                        logEvents=[{"timestamp": now, "message": line} for line in lines])
    assert statistics(cloudwatch, "seen", namespace="embedded", service="cart") == 7
    assert statistics(cloudwatch, "seen", namespace="embedded") == 7


# The grammar of the text format, version 0.0.4.
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,(?:{LABEL}))*)\}})? (-?[0-9.e+-]+|NaN|[+-]Inf)")


def parse_prometheus(text: str) -> dict[tuple[str, str], float]:
    """Every sample by name and labels. Fails on what Prometheus would refuse."""
    samples, types, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in types, f"{current} is described twice"
            types[current] = None
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == current and kind in ("counter", "gauge", "histogram", "summary", "untyped"), line
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line}"
            name, labels, value = match.groups()
            family = current if types[current] in ("histogram", "summary") else name
            assert family == current and name.removeprefix(current) in ("", "_sum", "_count", "_bucket"), line
            assert (name, labels or "") not in samples, f"twice: {line}"
            samples[name, labels or ""] = float(value)
    assert None not in types.values()
    return samples


def test_prometheus_reads_the_numbers_of_functions(server, functions, account):
    create(functions, "scraped", python("""
        def handler(event, context):
            assert not event.get("fail")
    """))
    for event in ({}, {}, {"fail": True}):
        invoke(functions, "scraped", event)
    with urllib.request.urlopen(f"{server.endpoint}/_firn/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = parse_prometheus(answer.read().decode())
    labels = f'account="{account}",region="us-east-1",function="scraped"'
    assert samples["firn_lambda_invocations_total", labels] == 3
    assert samples["firn_lambda_errors_total", labels] == 1
    assert samples["firn_lambda_throttles_total", labels] == 0
    assert samples["firn_lambda_cold_starts_total", labels] >= 1
    assert samples["firn_lambda_duration_seconds_count", labels] == 3
    buckets = [value for (name, found), value in samples.items()
               if name == "firn_lambda_duration_seconds_bucket" and found.startswith(labels)]
    assert buckets == sorted(buckets) and buckets[-1] == 3
    assert samples["firn_lambda_duration_seconds_sum", labels] > 0


def test_a_raw_query_request_is_answered_in_xml(server, account):
    form = urllib.parse.urlencode({"Action": "ListMetrics", "Version": "2010-08-01"}).encode()
    scope = f"Credential={account}/20260101/us-east-1/monitoring/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
               "Content-Type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(server.endpoint, data=form, headers=headers)
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    assert text.startswith('<ListMetricsResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/">')
    assert "<RequestId>" in text


def test_the_aws_cli_puts_and_reads(server, account):
    environment = {**os.environ, "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": account,
                   "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1", "AWS_PAGER": ""}

    def aws(*arguments: str) -> str:
        done = subprocess.run([AWS, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    aws("cloudwatch", "put-metric-data", "--namespace", "cli", "--metric-name", "n", "--value", "4", "--unit", "Count")
    listed = json.loads(aws("cloudwatch", "list-metrics", "--namespace", "cli"))
    assert listed["Metrics"] == [{"Namespace": "cli", "MetricName": "n", "Dimensions": []}]
    answer = json.loads(aws("cloudwatch", "get-metric-statistics", "--namespace", "cli", "--metric-name", "n",
                            "--start-time", minutes_ago(5).isoformat(), "--end-time", minutes_ago(-1).isoformat(),
                            "--period", "3600", "--statistics", "Sum", "--extended-statistics", "p50"))
    assert [point["Sum"] for point in answer["Datapoints"]] == [4.0]
    assert answer["Datapoints"][0]["ExtendedStatistics"] == {"p50": 4.0}
