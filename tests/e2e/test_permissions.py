"""Resource-based policies: what boto3 puts there, and whom they let in."""

from __future__ import annotations

import itertools
import json
import subprocess

import pytest
from botocore.exceptions import ClientError
from functions import zipped
from server import binary

ROLE = "arn:aws:iam::123456789012:role/worker"
SOURCE = "def handler(event, context):\n    return event\n"
strangers = (str(n) for n in itertools.count(700_000_000_000))


def create(client) -> str:
    """Deploys the function `f`, which echoes, and returns its ARN."""
    answer = client.create_function(FunctionName="f", Runtime="python3.12", Handler="handler.handler", Role=ROLE,
                                    Code={"ZipFile": zipped({"handler.py": SOURCE})})
    client.get_waiter("function_active_v2").wait(FunctionName="f")
    return answer["FunctionArn"]


@pytest.fixture
def function(functions) -> str:
    return create(functions)


@pytest.fixture
def stranger(server):
    """A client of another account, and that account."""
    account = next(strangers)
    return server.client(account=account), account


def refusal(call, **parameters) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_another_account_invokes_what_it_was_let_into(functions, function, stranger):
    client, account = stranger
    code, message = refusal(client.invoke, FunctionName=function)
    assert code == "AccessDeniedException"
    assert message.endswith("because no resource-based policy allows the lambda:InvokeFunction action")
    functions.add_permission(FunctionName="f", StatementId="one", Action="lambda:InvokeFunction", Principal=account)
    assert json.load(client.invoke(FunctionName=function, Payload=b"7")["Payload"]) == 7
    # What was allowed is invoking, not reading.
    assert refusal(client.get_function, FunctionName=function)[0] == "AccessDeniedException"
    functions.remove_permission(FunctionName="f", StatementId="one")
    assert refusal(client.invoke, FunctionName=function)[0] == "AccessDeniedException"


def test_an_alias_has_a_policy_of_its_own(functions, function, stranger):
    client, account = stranger
    functions.publish_version(FunctionName="f")
    functions.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    functions.add_permission(FunctionName="f", Qualifier="live", StatementId="one", Action="lambda:*",
                             Principal=f"arn:aws:iam::{account}:root")
    assert client.invoke(FunctionName=f"{function}:live")["StatusCode"] == 200
    assert client.get_function_configuration(FunctionName=function, Qualifier="live")["Version"] == "1"
    for name in (function, f"{function}:1"):
        assert refusal(client.invoke, FunctionName=name)[0] == "AccessDeniedException"


def test_policies_survive_a_restart(own_server):
    server = own_server()
    client = server.client(account="111122223333")
    arn = create(client)
    client.add_permission(FunctionName="f", StatementId="one", Action="lambda:GetFunction", Principal="444455556666")
    before = client.get_policy(FunctionName="f")
    server.kill()
    server.start()
    after = server.client(account="111122223333").get_policy(FunctionName="f")
    assert (after["Policy"], after["RevisionId"]) == (before["Policy"], before["RevisionId"])
    other = server.client(account="444455556666")
    assert other.get_function(FunctionName=arn)["Configuration"]["FunctionName"] == "f"


def test_signatures_name_the_account_that_asks(own_server, tmp_path):
    data, accounts = tmp_path / "enforced", ("111122223333", "444455556666")
    made = [subprocess.run([binary(), "keys", "create", "--data", data, "--account", account, "--json"], check=True,
                           capture_output=True, text=True).stdout for account in accounts]
    keys = [{name.lower().replace("_", ""): value for name, value in json.loads(text).items()} for text in made]
    server = own_server("--auth", "enforce", data=data)
    owner, other = (server.client(key=key["accesskeyid"], secret=key["secretaccesskey"]) for key in keys)
    arn = create(owner)
    code, message = refusal(other.invoke, FunctionName=arn)
    assert code == "AccessDeniedException" and "444455556666" in message
    owner.add_permission(FunctionName="f", StatementId="one", Action="lambda:InvokeFunction", Principal="444455556666")
    assert json.load(other.invoke(FunctionName=arn, Payload=b'"hello"')["Payload"]) == "hello"


def test_a_denial_holds_for_the_owner(functions, function):
    statement = {"Sid": "nobody", "Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction",
                 "Resource": function}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    put = getattr(functions, "put_resource_policy", None)
    if put is None:
        pytest.skip("this boto3 does not know PutResourcePolicy")
    put(ResourceArn=function, Policy=policy)
    code, message = refusal(functions.invoke, FunctionName="f")
    assert code == "AccessDeniedException" and message.endswith("with an explicit deny in a resource-based policy")
    functions.delete_resource_policy(ResourceArn=function)
    assert functions.invoke(FunctionName="f")["StatusCode"] == 200
