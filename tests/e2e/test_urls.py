"""Function URLs: configuration, events, answers, access and CORS, as clients meet them."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import urllib.parse

import botocore.exceptions
import pytest
from functions import NOOP, create, node, python
from server import binary
from urls import ask, by_path, open_to_all, signed

FORBIDDEN = ("Forbidden. For troubleshooting Function URL authorization issues, see: "
             "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html")

ANSWER = python("""
    import json
    def handler(event, context):
        return json.loads(event["body"]) if event.get("body") else None
""")


@pytest.fixture
def echo(functions):
    """The URL of a function that answers its event."""
    create(functions, "echo", NOOP)
    return open_to_all(functions, "echo")


@pytest.fixture
def teller(functions):
    """The URL of a function that answers what it is told, as text."""
    create(functions, "teller", ANSWER)
    url = open_to_all(functions, "teller")
    return lambda answer: ask(url, method="POST", body=json.dumps(answer), headers={"Content-Type": "text/plain"})


def fails(code: str):
    return pytest.raises(botocore.exceptions.ClientError, match=code)


def test_a_configuration_is_kept_changed_listed_and_deleted(functions):
    create(functions, "f", NOOP)
    cors = {"AllowOrigins": ["*"], "AllowMethods": ["GET"], "MaxAge": 5, "AllowCredentials": True,
            "AllowHeaders": ["x-a"], "ExposeHeaders": ["x-b"]}
    made = functions.create_function_url_config(FunctionName="f", AuthType="NONE", Cors=cors, InvokeMode="BUFFERED")
    assert re.fullmatch(r"http://[a-z0-9]{32}\.lambda-url\.us-east-1\.localhost:\d+/", made["FunctionUrl"])
    assert made["Cors"] == cors and made["InvokeMode"] == "BUFFERED"
    functions.publish_version(FunctionName="f")
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    of_alias = functions.create_function_url_config(FunctionName="f:live", AuthType="AWS_IAM")
    assert of_alias["FunctionArn"].endswith(":f:live") and "InvokeMode" not in of_alias
    functions.update_function_url_config(FunctionName="f", AuthType="AWS_IAM", Cors={})
    read = functions.get_function_url_config(FunctionName="f")
    assert read["AuthType"] == "AWS_IAM" and read["Cors"] == {} and read["FunctionUrl"] == made["FunctionUrl"]
    pages = functions.get_paginator("list_function_url_configs").paginate(FunctionName="f", PaginationConfig={"PageSize": 1})
    listed = [url["FunctionArn"].rsplit(":", 1)[1] for page in pages for url in page["FunctionUrlConfigs"]]
    assert listed == ["f", "live"]
    functions.delete_alias(FunctionName="f", Name="live")
    with fails("ResourceNotFoundException"):
        functions.get_function_url_config(FunctionName="f", Qualifier="live")
    functions.delete_function_url_config(FunctionName="f")
    assert functions.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"] == []


@pytest.mark.parametrize("cors", [
    {"AllowMethods": ["OPTIONS"]}, {"AllowMethods": ["GET"] * 7}, {"AllowOrigins": [""]}, {"MaxAge": 86401},
    {"AllowHeaders": ["x"] * 101}, {"ExposeHeaders": ["x" * 1025]}, {"AllowOrigins": ["x" * 254]},
])
def test_cors_has_the_limits_of_aws(server, account, cors):
    functions = server.client("lambda", account=account, parameter_validation=False)
    create(functions, "f", NOOP)
    with fails("ValidationException"):
        functions.create_function_url_config(FunctionName="f", AuthType="NONE", Cors=cors)


def test_urls_outlive_the_server(own_server):
    server = own_server()
    functions = server.client("lambda")
    create(functions, "echo", NOOP)
    url = open_to_all(functions, "echo")
    server.stop()
    server.start()
    url = url.replace(f":{urllib.parse.urlsplit(url).port}", f":{server.port}")
    assert ask(url).status == 200


def test_the_event_has_payload_format_2_0(echo):
    answer = ask(echo, "/a%20b/c?x=1&y=%C3%A9+z&x=2", "PUT", b'{"k": 1}', {
        "Content-Type": "application/json", "Cookie": "a=b; c=d", "X-Mixed": "Case", "User-Agent": "tests",
        "X-Forwarded-Proto": "https",
    })
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    event = answer.json
    host = urllib.parse.urlsplit(echo)
    assert event["version"] == "2.0" and event["routeKey"] == "$default"
    assert event["rawPath"] == "/a%20b/c" and event["rawQueryString"] == "x=1&y=%C3%A9+z&x=2"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "é z"}
    assert event["cookies"] == ["a=b", "c=d"]
    assert event["body"] == '{"k": 1}' and event["isBase64Encoded"] is False
    headers = event["headers"]
    assert headers["x-mixed"] == "Case" and headers["host"] == host.netloc and "cookie" not in headers
    assert headers["x-forwarded-for"] == "127.0.0.1" and headers["x-forwarded-proto"] == "http"
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    context = event["requestContext"]
    url_id = host.netloc.split(".")[0]
    assert context["accountId"] == "anonymous" and context["apiId"] == context["domainPrefix"] == url_id
    assert context["domainName"] == host.hostname and context["stage"] == "$default"
    assert context["http"] == {"method": "PUT", "path": "/a%20b/c", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                               "userAgent": "tests"}
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert context["requestId"] == answer.headers["x-amzn-RequestId"]
    assert answer.headers["x-amzn-trace-id"].startswith("Root=1-")


def test_binary_bodies_come_and_go_in_base64(functions, echo, teller):
    data = bytes(range(256))
    event = ask(echo, method="POST", body=data, headers={"Content-Type": "image/png"}).json
    assert event["isBase64Encoded"] is True and base64.b64decode(event["body"]) == data
    answer = teller({"statusCode": 200, "headers": {"content-type": "image/png"}, "isBase64Encoded": True,
                     "body": base64.b64encode(data).decode()})
    assert answer.body == data and answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_reaches_the_function(echo, method):
    answer = ask(echo, method=method)
    assert answer.status == 200
    if method == "HEAD":
        assert answer.body == b"" and int(answer.headers["content-length"]) > 0
    else:
        assert answer.json["requestContext"]["http"]["method"] == method


def test_the_function_decides_on_status_headers_and_cookies(teller):
    answer = teller({"statusCode": 302, "headers": {"Location": "/x", "X-N": 1}, "cookies": ["a=b", "c=d"], "body": "to"})
    assert (answer.status, answer.body) == (302, b"to")
    assert answer.headers["location"] == "/x" and answer.headers["x-n"] == "1"
    assert answer.headers.get_all("set-cookie") == ["a=b", "c=d"]
    assert teller({"statusCode": 204}).body == b""


@pytest.mark.parametrize("answer, body", [
    ({"hello": "world"}, b'{"hello":"world"}'), (["hello", 3, True], b'["hello",3,true]'), ("hello", b"hello"),
    (3.1, b"3.1"), ({"statusCode": 200, "body": "body123"}, b"body123"),
])
def test_other_answers_are_sent_as_json(teller, answer, body):
    told = teller(answer)
    assert (told.status, told.headers["Content-Type"], told.body) == (200, "application/json", body)
    assert int(told.headers["Content-Length"]) == len(body)


@pytest.mark.parametrize("answer", [
    {"statusCode": 99}, {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: b=c"}},
    {"statusCode": 200, "headers": {"x\r\ny": "z"}}, {"statusCode": 200, "cookies": ["a=b\r\nx: y"]},
    {"statusCode": 200, "headers": {"x": "y" * 300_000}}, {"statusCode": 200, "headers": "x"},
    {"statusCode": 200, "body": "%", "isBase64Encoded": True},
], ids=["status", "value", "name", "cookie", "huge", "kind", "base64"])
def test_answers_that_are_no_http_become_502(teller, answer):
    told = teller(answer)
    assert (told.status, told.body) == (502, b"Internal Server Error")
    assert "set-cookie" not in told.headers


def test_a_failing_function_is_a_502(functions):
    create(functions, "broken", python("def handler(event, context):\n    raise ValueError('secret')\n"))
    answer = ask(open_to_all(functions, "broken"))
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_bodies_beyond_6_mb_are_refused(echo):
    answer = ask(echo, method="POST", body=b"x" * (6_291_456 + 1), headers={"Content-Type": "text/plain"})
    assert answer.status == 413
    # As an event it is larger than it was as a body.
    answer = ask(echo, method="POST", body=b"\xff" * 5_000_000)
    assert answer.status == 413


def test_without_permission_nobody_gets_in(functions):
    create(functions, "closed", NOOP)
    url = functions.create_function_url_config(FunctionName="closed", AuthType="NONE")["FunctionUrl"]
    answer = ask(url)
    assert answer.status == 403 and answer.json == {"Message": FORBIDDEN}
    assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
    functions.add_permission(FunctionName="closed", StatementId="iam", Action="lambda:InvokeFunctionUrl", Principal="*",
                             FunctionUrlAuthType="AWS_IAM")
    assert ask(url).status == 403
    functions.add_permission(FunctionName="closed", StatementId="all", Action="lambda:InvokeFunctionUrl", Principal="*",
                             FunctionUrlAuthType="NONE")
    assert ask(url).status == 200
    functions.remove_permission(FunctionName="closed", StatementId="all")
    assert ask(url).status == 403


def test_both_permissions_can_be_asked_for(own_server):
    server = own_server(env={"FIRN_LAMBDA_URL_NEEDS_INVOKE_FUNCTION": "true"})
    functions = server.client("lambda")
    create(functions, "f", NOOP)
    url = open_to_all(functions, "f")
    assert ask(url).status == 403
    functions.add_permission(FunctionName="f", StatementId="invoke", Action="lambda:InvokeFunction", Principal="*",
                             InvokedViaFunctionUrl=True)
    assert ask(url).status == 200


def test_deleted_urls_and_strangers_are_forbidden(functions, server, echo):
    functions.delete_function_url_config(FunctionName="echo")
    for url in (echo, re.sub(r"//\w+\.", "//" + "a" * 32 + ".", echo), echo.replace("us-east-1", "eu-west-1")):
        answer = ask(url)
        assert answer.status == 403 and answer.json == {"Message": FORBIDDEN}, url
    again = functions.create_function_url_config(FunctionName="echo", AuthType="NONE")["FunctionUrl"]
    assert again != echo and ask(again).status == 200


def test_an_alias_has_a_url_of_its_own(functions):
    create(functions, "f", python("def handler(event, context):\n    return context.invoked_function_arn\n"))
    functions.publish_version(FunctionName="f")
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    url = open_to_all(functions, "f", "live")
    assert ask(url).body.endswith(b":function:f:live")
    functions.delete_alias(FunctionName="f", Name="live")
    assert ask(url).status == 403


def test_iam_urls_want_a_signature(functions, account, server):
    create(functions, "f", NOOP)
    url = functions.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")["FunctionUrl"]
    assert ask(url).json == {"Message": FORBIDDEN}
    path, headers = signed(f"{url}x?a=b", key=account)
    event = ask(url, path, headers=headers).json
    assert event["requestContext"]["accountId"] == account
    assert event["requestContext"]["authorizer"]["iam"]["userArn"] == f"arn:aws:iam::{account}:root"
    assert "authorization" not in event["headers"]
    path, headers = signed(url, key="999999999999")
    assert ask(url, path, headers=headers).status == 403, "another account needs the function's permission"
    functions.add_permission(FunctionName="f", StatementId="other", Action="lambda:InvokeFunctionUrl",
                             Principal="999999999999", FunctionUrlAuthType="AWS_IAM")
    assert ask(url, path, headers=headers).status == 200


def test_signatures_are_verified_where_the_server_enforces_them(own_server, tmp_path):
    made = json.loads(subprocess.run([binary(), "keys", "create", "--data", tmp_path / "data", "--json"],
                                     check=True, capture_output=True, text=True).stdout)
    key, secret = made["AccessKeyId"], made["SecretAccessKey"]
    server = own_server("--auth", "enforce", data=tmp_path / "data")
    functions = server.client("lambda", key=key, secret=secret)
    create(functions, "f", NOOP)
    url = functions.create_function_url_config(FunctionName="f", AuthType="AWS_IAM")["FunctionUrl"]
    body = b'{"a": 1}'
    for base in (url, by_path(server, url) + "/"):
        target = f"{base}x?b=c&a=%20"
        path, headers = signed(target, key=key, secret=secret, method="POST", body=body)
        assert ask(base, path, "POST", body, headers).status == 200
        answer = ask(base, path, "POST", b'{"a": 2}', headers)
        assert answer.status == 403 and answer.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
        path, headers = signed(target, key=key, secret=secret, presigned=True)
        assert ask(base, path, headers=headers).status == 200
        for wrong in ({"secret": "wrong"}, {"secret": secret, "service": "s3"}, {"secret": secret, "key": "AKIAUNKNOWN"}):
            path, headers = signed(target, **{"key": key, **wrong})
            assert ask(base, path, headers=headers).status == 403, wrong
        assert ask(base).status == 403
    # A URL for everybody does not look at signatures.
    functions.update_function_url_config(FunctionName="f", AuthType="NONE")
    functions.add_permission(FunctionName="f", StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*",
                             FunctionUrlAuthType="NONE")
    path, headers = signed(url, key=key, secret="wrong")
    assert ask(url, path, headers=headers).status == 200


def test_preflights_are_answered_without_the_function(functions):
    create(functions, "f", python("def handler(event, context):\n    raise RuntimeError('never called')\n"))
    url = open_to_all(functions, "f", Cors={
        "AllowOrigins": ["https://example.com"], "AllowMethods": ["GET", "PUT"], "AllowHeaders": ["x-a"], "MaxAge": 60})
    ask_for = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a"}
    answer = ask(url, method="OPTIONS", headers={"Origin": "https://example.com", **ask_for})
    assert answer.status == 200 and answer.body == b""
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET,PUT"
    assert answer.headers["Access-Control-Allow-Headers"] == "x-a" and answer.headers["Access-Control-Max-Age"] == "60"
    answer = ask(url, method="OPTIONS", headers={"Origin": "https://evil.test", **ask_for})
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = ask(url, headers={"Origin": "https://example.com"})
    assert answer.status == 502 and answer.headers["Access-Control-Allow-Origin"] == "https://example.com"


def test_the_path_form_needs_no_name(server, echo):
    base = urllib.parse.urlsplit(by_path(server, echo)).path
    event = ask(echo, f"{base}/x/y?z=1", headers={"Host": "127.0.0.1"}).json
    assert event["rawPath"] == "/x/y" and event["rawQueryString"] == "z=1"
    assert event["requestContext"]["domainName"] == urllib.parse.urlsplit(echo).hostname
    assert ask(echo, base, headers={"Host": "x"}).json["rawPath"] == "/"
    assert ask(echo, "/_firn/url/nobody/", headers={"Host": "x"}).status == 403


def test_functions_call_urls_through_their_own_endpoint(functions, echo):
    create(functions, "caller", python("""
        import http.client, json
        def handler(event, context):
            connection = http.client.HTTPConnection("127.0.0.1", 4566)
            connection.request("GET", "/", headers={"Host": event["body"]})
            return json.loads(connection.getresponse().read())["rawPath"]
    """))
    url = open_to_all(functions, "caller")
    host = urllib.parse.urlsplit(echo).netloc
    answer = ask(url, method="POST", body=host, headers={"Content-Type": "text/plain"})
    assert answer.body == b"/"


def test_curl_reaches_a_url_by_its_name_in_http_1_and_2(echo):
    for option, protocol in (("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2.0")):
        out = subprocess.run(["curl", "-sS", "--max-time", "20", option, f"{echo}x", "-d", "a=b"],
                             check=True, capture_output=True, text=True).stdout
        event = json.loads(out)
        assert event["requestContext"]["http"]["protocol"] == protocol
        assert event["headers"]["host"] == urllib.parse.urlsplit(echo).netloc
        assert base64.b64decode(event["body"]) == b"a=b"


def test_the_aws_apis_answer_in_http_2(server):
    out = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}",
                          f"{server.endpoint}/2015-03-31/functions"], check=True, capture_output=True, text=True).stdout
    assert out.endswith("2 200"), out


def test_throttled_requests_are_429(functions, echo):
    functions.put_function_concurrency(FunctionName="echo", ReservedConcurrentExecutions=0)
    answer = ask(echo)
    assert answer.status == 429 and answer.json["message"] == "Rate Exceeded."
    assert answer.json["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert answer.headers["x-amzn-ErrorType"] == "TooManyRequestsException"


def raw(server, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(text)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_hosts_that_play_tricks_lead_nowhere(server, echo):
    host = urllib.parse.urlsplit(echo).netloc
    end = "Connection: close\r\n\r\n"
    for request in (
        f"GET / HTTP/1.1\r\nHost: x.{host}\r\n{end}",
        f"GET / HTTP/1.1\r\nHost: .lambda-url.us-east-1.localhost\r\n{end}",
        f"GET / HTTP/1.1\r\nHost: {'a' * 5000}.lambda-url.us-east-1.localhost\r\n{end}",
        f"GET / HTTP/1.1\r\nHost: ../{host}\r\n{end}",
        f"GET / HTTP/1.1\r\nHost: a\x00{host}\r\n{end}",
        f"GET http://127.0.0.1/ HTTP/1.1\r\nHost: {host}\r\n{end}",
    ):
        answer = raw(server, request.encode())
        assert re.match(rb"HTTP/1.1 (400|403) ", answer), (request, answer)
    assert raw(server, f"GET / HTTP/1.1\r\nHost: {host.upper()}\r\n{end}".encode()).startswith(b"HTTP/1.1 200 ")
    assert raw(server, f"OPTIONS * HTTP/1.1\r\nHost: {host}\r\n{end}".encode()).startswith(b"HTTP/1.1 200 ")


def test_requests_cannot_be_smuggled(server, echo):
    host = urllib.parse.urlsplit(echo).netloc
    smuggled = (f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                f"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    answer = raw(server, smuggled.encode())
    # Two lengths in one request: it is refused, or answered as the last one of its connection.
    assert answer.startswith(b"HTTP/1.1 400 ") or answer.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in answer


def test_huge_heads_are_refused(server, echo):
    host = urllib.parse.urlsplit(echo).netloc
    large = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Large: {'a' * 100_000}\r\nConnection: close\r\n\r\n"
    assert raw(server, large.encode()).startswith(b"HTTP/1.1 200 ")
    with pytest.raises((AssertionError, ConnectionError)):
        endless = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Large: {'a' * 2_000_000}\r\nConnection: close\r\n\r\n"
        assert raw(server, endless.encode()).startswith(b"HTTP/1.1 200 ")


def test_a_page_of_powertools_like_routes_works_in_node(functions):
    create(functions, "app", node("""
        exports.handler = async (event) => ({
            statusCode: 200, headers: { "content-type": "text/html" },
            body: `<h1>${event.requestContext.http.method} ${event.rawPath}</h1>`,
        });
    """), runtime="nodejs20.x")
    answer = ask(open_to_all(functions, "app"), "/users/7")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"<h1>GET /users/7</h1>", "text/html")
