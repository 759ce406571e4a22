"""Who may call: accounts and regions apart, signatures, credentials inside a function."""

from __future__ import annotations

import datetime
import json
import subprocess
import urllib.error
import urllib.request

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from functions import create, invoke, python
from server import binary


def test_accounts_do_not_see_each_other(server):
    one, two = (server.client(account=a) for a in ("210000000001", "210000000002"))
    create(one, "mine")
    assert [f["FunctionName"] for f in one.list_functions()["Functions"]] == ["mine"]
    assert two.list_functions()["Functions"] == []
    create(two, "mine")
    assert two.get_function(FunctionName="mine")["Configuration"]["FunctionArn"].split(":")[4] == "210000000002"


def test_another_accounts_function_is_denied_by_arn(server):
    one, two = (server.client(account=a) for a in ("210000000003", "210000000004"))
    create(one, "private")
    with pytest.raises(ClientError) as raised:
        two.get_function(FunctionName="arn:aws:lambda:us-east-1:210000000003:function:private")
    assert raised.value.response["Error"]["Code"] == "AccessDeniedException"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_regions_are_apart_and_in_the_arn(server, account):
    here, there = (server.client(account=account, region=r) for r in ("us-east-1", "eu-central-1"))
    create(there, "regional", python("import os\ndef handler(e, c): return [os.environ['AWS_REGION'], c.invoked_function_arn]\n"))
    assert here.list_functions()["Functions"] == []
    assert invoke(there, "regional").json == [
        "eu-central-1", f"arn:aws:lambda:eu-central-1:{account}:function:regional"]


def test_any_credentials_do_in_development(server):
    assert server.client(key="AKIAWHATEVER", secret="x").list_functions()["ResponseMetadata"]["HTTPStatusCode"] == 200
    unsigned = boto3.client("lambda", endpoint_url=server.endpoint, region_name="us-east-1",
                            config=boto3.session.Config(signature_version=botocore.UNSIGNED))
    assert unsigned.list_functions()["ResponseMetadata"]["HTTPStatusCode"] == 200


# Enforced


@pytest.fixture
def enforcing(own_server, tmp_path):
    """A server that verifies, and one key pair it knows."""
    data = tmp_path / "enforced"
    made = subprocess.run([binary(), "keys", "create", "--data", data, "--json"], check=True, capture_output=True,
                          text=True)
    key = {name.lower().replace("_", ""): value for name, value in json.loads(made.stdout).items()}
    running = own_server("--auth", "enforce", data=data)
    return running, key["accesskeyid"], key["secretaccesskey"]


def code(call, **parameters) -> tuple[str, int]:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    answer = raised.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_a_right_signature_passes(enforcing):
    server, key, secret = enforcing
    client = server.client(key=key, secret=secret)
    create(client, "signed")
    assert invoke(client, "signed", {"ü": "€ +/%"}).json == {"ü": "€ +/%"}
    assert invoke(client, f"arn:aws:lambda:us-east-1:{account_of(client)}:function:signed:$LATEST", 1).json == 1
    assert server.client("logs", key=key, secret=secret).describe_log_groups()


def account_of(client) -> str:
    return client.list_functions()["Functions"][0]["FunctionArn"].split(":")[4]


def test_a_wrong_secret_an_unknown_key_and_no_signature_do_not(enforcing):
    server, key, secret = enforcing
    assert code(server.client(key=key, secret=secret + "x").list_functions) == ("InvalidSignatureException", 403)
    assert code(server.client(key="AKIAUNKNOWNUNKNOWN00", secret=secret).list_functions) == (
        "UnrecognizedClientException", 403)
    unsigned = boto3.client("lambda", endpoint_url=server.endpoint, region_name="us-east-1",
                            config=boto3.session.Config(signature_version=botocore.UNSIGNED))
    assert code(unsigned.list_functions) == ("MissingAuthenticationTokenException", 403)


def test_an_account_number_is_no_key_when_enforced(enforcing):
    server, _, _ = enforcing
    assert code(server.client(account="123456789012").list_functions)[1] == 403


def signed(server, key, secret, body=b"{}", when: datetime.datetime | None = None, tamper=None, presign=False,
           method="POST", path="/2015-03-31/functions/x/invocations"):
    signer = (botocore.auth.SigV4QueryAuth if presign else botocore.auth.SigV4Auth)(
        Credentials(key, secret), "lambda", "us-east-1")
    request = AWSRequest(method=method, url=server.endpoint + path, data=body)
    real = botocore.auth.get_current_datetime
    if when:
        botocore.auth.get_current_datetime = lambda remove_tzinfo=True: when
    try:
        signer.add_auth(request)
    finally:
        botocore.auth.get_current_datetime = real
    prepared = request.prepare()
    if tamper:
        tamper(prepared)
    wire = urllib.request.Request(prepared.url, data=prepared.body, method=method, headers=dict(prepared.headers))
    try:
        with urllib.request.urlopen(wire) as response:
            return response.status, response.headers.get("x-amzn-ErrorType"), response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers.get("x-amzn-ErrorType"), refused.read()


def test_a_body_changed_after_signing_is_refused(enforcing):
    server, key, secret = enforcing
    create(server.client(key=key, secret=secret), "x")
    assert signed(server, key, secret)[0] == 200

    def change(prepared):
        prepared.body = b"[]"

    assert signed(server, key, secret, tamper=change)[0] == 403


def test_a_signature_from_another_time_is_refused(enforcing):
    server, key, secret = enforcing
    create(server.client(key=key, secret=secret), "x")
    old = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(hours=1)
    status, kind, body = signed(server, key, secret, when=old)
    assert status == 403
    assert kind.startswith("InvalidSignatureException")
    assert b"Signature expired" in body


def test_a_presigned_request_passes_until_it_expires(enforcing):
    server, key, secret = enforcing
    assert signed(server, key, secret, body=None, presign=True, method="GET", path="/2015-03-31/functions/")[0] == 200
    old = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(hours=2)
    assert signed(server, key, secret, body=None, presign=True, method="GET", path="/2015-03-31/functions/",
                  when=old)[0] == 403


# Inside a function


def test_a_function_calls_firn_with_its_own_credentials(enforcing):
    """The raw call, without an SDK: sign with what is in the environment, send to AWS_ENDPOINT_URL."""
    server, key, secret = enforcing
    client = server.client(key=key, secret=secret)
    create(client, "signs", python("""
        import datetime, hashlib, hmac, json, os, urllib.request
        def handler(event, context):
            url = os.environ["AWS_ENDPOINT_URL"]
            host = url.split("//")[1].strip("/")
            now = datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ")
            scope = f"{now[:8]}/us-east-1/lambda/aws4_request"
            token = os.environ["AWS_SESSION_TOKEN"]
            if event.get("forge"):
                token = token[:-6] + "AAAAAA"
            signed = "host;x-amz-date;x-amz-security-token"
            canonical = "\\n".join(["GET", "/2015-03-31/functions/", "", f"host:{host}", f"x-amz-date:{now}",
                                   f"x-amz-security-token:{token}", "", signed, hashlib.sha256(b"").hexdigest()])
            to_sign = "\\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
            key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
            for part in (now[:8], "us-east-1", "lambda", "aws4_request"):
                key = hmac.new(key, part.encode(), "sha256").digest()
            signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
            request = urllib.request.Request(url.rstrip("/") + "/2015-03-31/functions/", headers={
                "x-amz-date": now, "x-amz-security-token": token,
                "Authorization": f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
                                 f"SignedHeaders={signed}, Signature={signature}"})
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    return [f["FunctionName"] for f in json.load(response)["Functions"]]
            except urllib.error.HTTPError as refused:
                return refused.code
    """), Timeout=10)
    assert invoke(client, "signs").json == ["signs"]
    assert invoke(client, "signs", {"forge": True}).json == 403


@pytest.fixture(scope="module")
def with_sdk(tmp_path_factory):
    """A server whose runtime directory holds boto3, as `firn runtimes install python` leaves it."""
    from server import Server
    folder = tmp_path_factory.mktemp("sdk")
    running = Server(folder / "data")
    subprocess.run([binary(), "runtimes", "install", "python", "--data", folder / "data"], check=True,
                   timeout=600, capture_output=True)
    yield running.start()
    running.stop()


@pytest.mark.install
@pytest.mark.timeout(700)
def test_boto3_inside_a_function_just_works(with_sdk):
    client = with_sdk.client(account="210000000009")
    create(client, "sdk", python("""
        import boto3
        def handler(event, context):
            names = [f["FunctionName"] for f in boto3.client("lambda").list_functions()["Functions"]]
            inner = boto3.client("lambda").invoke(FunctionName="inner", Payload=b'{"deep": 1}')
            return [names, inner["Payload"].read().decode(), boto3.client("logs").describe_log_groups()["logGroups"] != []]
    """), Timeout=60, MemorySize=512)
    create(client, "inner")
    names, inner, grouped = invoke(client, "sdk").json
    assert sorted(names) == ["inner", "sdk"]
    assert json.loads(inner) == {"deep": 1}
    assert grouped
