"""The life of a function, its versions, aliases and tags, as boto3 sees it."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.request

import pytest
from botocore.exceptions import ClientError
from functions import NOOP, create, invoke, python, settle

SECOND = python("def handler(event, context): return 'second'")


def error(call, **parameters) -> ClientError:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return raised.value


def code(err: ClientError) -> tuple[str, int]:
    return err.response["Error"]["Code"], err.response["ResponseMetadata"]["HTTPStatusCode"]


def test_create_answers_pending_and_the_waiter_ends_in_active(functions, account):
    answer = create(functions, "life", wait=False, Description="d", Timeout=5, MemorySize=256,
                    Environment={"Variables": {"KEY": "1"}}, Tags={"k": "v"})
    assert answer["State"] == "Pending"
    assert answer["StateReasonCode"] == "Creating"
    assert answer["FunctionArn"] == f"arn:aws:lambda:us-east-1:{account}:function:life"
    assert answer["CodeSha256"] == base64.b64encode(hashlib.sha256(NOOP).digest()).decode()
    assert answer["CodeSize"] == len(NOOP)
    assert answer["Version"] == "$LATEST"
    assert answer["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/life"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer["LastModified"])
    settle(functions, "life")
    found = functions.get_function(FunctionName="life")
    assert found["Configuration"]["State"] == "Active"
    assert found["Configuration"]["LastUpdateStatus"] == "Successful"
    assert found["Configuration"]["RevisionId"] != answer["RevisionId"]
    assert found["Tags"] == {"k": "v"}
    assert found["Code"]["RepositoryType"] == "S3"


def test_the_code_location_gives_the_package_back(functions):
    create(functions, "download")
    location = functions.get_function(FunctionName="download")["Code"]["Location"]
    with urllib.request.urlopen(location) as response:
        assert response.read() == NOOP


def test_an_update_of_the_code_is_what_runs_next(functions):
    before = create(functions, "update")
    assert invoke(functions, "update", {"n": 1}).json == {"n": 1}
    after = functions.update_function_code(FunctionName="update", ZipFile=SECOND)
    assert after["LastUpdateStatus"] == "InProgress"
    settle(functions, "update")
    assert after["CodeSha256"] != before["CodeSha256"]
    assert after["RevisionId"] != before["RevisionId"]
    assert invoke(functions, "update").json == "second"


def test_an_update_of_the_configuration_is_what_runs_next(functions):
    create(functions, "configure", python("""
        import os
        def handler(event, context):
            return [os.environ.get("COLOUR"), context.memory_limit_in_mb]
    """), Environment={"Variables": {"COLOUR": "red"}})
    assert invoke(functions, "configure").json == ["red", "128"]
    functions.update_function_configuration(
        FunctionName="configure", MemorySize=192, Environment={"Variables": {"COLOUR": "blue"}})
    settle(functions, "configure")
    assert invoke(functions, "configure").json == ["blue", "192"]


def test_a_dry_run_of_an_update_changes_nothing(functions):
    create(functions, "dry")
    functions.update_function_code(FunctionName="dry", ZipFile=SECOND, DryRun=True)
    assert invoke(functions, "dry", 5).json == 5


def test_an_outdated_revision_is_refused(functions):
    created = create(functions, "revision")
    refused = error(functions.update_function_configuration, FunctionName="revision",
                    Description="x", RevisionId=created["RevisionId"])
    assert code(refused) == ("PreconditionFailedException", 412)


def test_delete_removes_the_function_and_its_versions(functions):
    create(functions, "gone", Publish=True)
    functions.create_alias(FunctionName="gone", Name="live", FunctionVersion="1")
    functions.delete_function(FunctionName="gone")
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        refused = error(functions.get_function, FunctionName="gone", **qualifier)
        assert code(refused) == ("ResourceNotFoundException", 404)
    create(functions, "gone")
    assert invoke(functions, "gone", 1).json == 1


def test_a_name_is_taken_once(functions, account):
    create(functions, "twice")
    refused = error(create, client=functions, name="twice")
    assert code(refused) == ("ResourceConflictException", 409)
    assert refused.response["Error"]["Message"] == "Function already exist: twice"


# Versions and aliases


def test_a_version_keeps_its_code_and_configuration(functions):
    create(functions, "versions", Description="first")
    first = functions.publish_version(FunctionName="versions", Description="v1")
    assert (first["Version"], first["Description"]) == ("1", "v1")
    again = functions.publish_version(FunctionName="versions")
    assert again["Version"] == "1", "nothing changed, so nothing new is published"
    functions.update_function_code(FunctionName="versions", ZipFile=SECOND)
    settle(functions, "versions")
    assert functions.publish_version(FunctionName="versions")["Version"] == "2"
    assert invoke(functions, "versions", 7, Qualifier="1").json == 7
    newest = invoke(functions, "versions", 7, Qualifier="2")
    assert (newest.json, newest.version) == ("second", "2")
    listed = functions.list_versions_by_function(FunctionName="versions")["Versions"]
    assert [v["Version"] for v in listed] == ["$LATEST", "1", "2"]


def test_publish_checks_the_hash_it_is_given(functions):
    create(functions, "hash")
    refused = error(functions.publish_version, FunctionName="hash", CodeSha256="nope")
    assert code(refused) == ("InvalidParameterValueException", 400)
    assert "is different from current CodeSHA256 in $LATEST" in str(refused)


def test_version_numbers_are_never_reused(functions):
    create(functions, "numbers", Publish=True)
    functions.delete_function(FunctionName="numbers", Qualifier="1")
    functions.update_function_code(FunctionName="numbers", ZipFile=SECOND)
    settle(functions, "numbers")
    assert functions.publish_version(FunctionName="numbers")["Version"] == "2"


def test_an_alias_moves_and_is_invoked(functions, account):
    create(functions, "aliased", Publish=True)
    functions.update_function_code(FunctionName="aliased", ZipFile=SECOND)
    settle(functions, "aliased")
    functions.publish_version(FunctionName="aliased")
    alias = functions.create_alias(FunctionName="aliased", Name="live", FunctionVersion="1")
    assert alias["AliasArn"] == f"arn:aws:lambda:us-east-1:{account}:function:aliased:live"
    assert invoke(functions, "aliased", 1, Qualifier="live").version == "1"
    functions.update_alias(FunctionName="aliased", Name="live", FunctionVersion="2")
    moved = invoke(functions, "aliased:live", 1)
    assert (moved.version, moved.json) == ("2", "second")
    listed = functions.list_aliases(FunctionName="aliased", FunctionVersion="2")["Aliases"]
    assert [a["Name"] for a in listed] == ["live"]
    refused = error(functions.delete_function, FunctionName="aliased", Qualifier="2")
    assert code(refused) == ("ResourceConflictException", 409)
    functions.delete_alias(FunctionName="aliased", Name="live")
    refused = error(functions.get_alias, FunctionName="aliased", Name="live")
    assert code(refused) == ("ResourceNotFoundException", 404)


def test_a_weighted_alias_sends_the_share_it_says(functions):
    create(functions, "weighted", Publish=True)
    functions.update_function_code(FunctionName="weighted", ZipFile=SECOND)
    settle(functions, "weighted")
    functions.publish_version(FunctionName="weighted")
    functions.create_alias(FunctionName="weighted", Name="canary", FunctionVersion="1",
                           RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}})
    seen = [invoke(functions, "weighted", 1, Qualifier="canary").version for _ in range(200)]
    # With a fair coin of 0.3 the count leaves 30..95 less than once in a million runs.
    assert 30 <= seen.count("2") <= 95
    assert set(seen) == {"1", "2"}


@pytest.mark.parametrize("weights, message", [
    ({"1": 0.5}, "Invalid function version 1. Function version 1 is already included in routing configuration."),
    ({"$LATEST": 0.5}, None),
    ({"9": 0.5}, None),
    ({"1": 1.5}, None),
])
def test_a_senseless_routing_is_refused(functions, weights, message):
    create(functions, "routing", Publish=True)
    refused = error(functions.create_alias, FunctionName="routing", Name="a", FunctionVersion="1",
                    RoutingConfig={"AdditionalVersionWeights": weights})
    assert refused.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)
    if message:
        assert refused.response["Error"]["Message"] == message


# Names


@pytest.mark.parametrize("form", [
    "{name}",
    "{account}:function:{name}",
    "{account}:{name}",
    "function:{name}",
    "arn:aws:lambda:us-east-1:{account}:function:{name}",
    "{name}:$LATEST",
    "arn:aws:lambda:us-east-1:{account}:function:{name}:$LATEST",
])
def test_every_form_of_a_name_finds_the_function(functions, account, form):
    create(functions, "named")
    name = form.format(name="named", account=account)
    assert invoke(functions, name, 3).json == 3
    found = functions.get_function_configuration(FunctionName=name)
    assert found["FunctionName"] == "named"


def test_a_qualifier_said_twice_must_agree(functions):
    create(functions, "qualified", Publish=True)
    assert invoke(functions, "qualified:1", 1, Qualifier="1").version == "1"
    refused = error(functions.get_function, FunctionName="qualified:1", Qualifier="2")
    assert code(refused) == ("InvalidParameterValueException", 400)


def test_another_region_in_the_arn_is_refused(functions, account):
    refused = error(functions.get_function,
                    FunctionName=f"arn:aws:lambda:eu-west-1:{account}:function:x")
    assert code(refused) == ("ResourceNotFoundException", 404)
    assert refused.response["Error"]["Message"] == (
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')")


def test_a_missing_function_names_its_arn(functions, account):
    refused = error(functions.get_function, FunctionName="missing")
    assert code(refused) == ("ResourceNotFoundException", 404)
    assert refused.response["Error"]["Message"] == (
        f"Function not found: arn:aws:lambda:us-east-1:{account}:function:missing")
    assert refused.response["Type"] == "User"


# Paging, tags, account


def test_lists_are_paged_without_gaps_or_repeats(functions):
    names = [f"page-{n:02}" for n in range(23)]
    for name in names:
        create(functions, name, wait=False)
    pages = functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 5})
    sizes, listed = [], []
    for page in pages:
        sizes.append(len(page["Functions"]))
        listed += [f["FunctionName"] for f in page["Functions"]]
    assert max(sizes) <= 5
    assert sorted(listed) == names


def test_versions_and_all_functions_are_paged(functions):
    create(functions, "many", Publish=True)
    for n in range(5):
        functions.update_function_configuration(FunctionName="many", Description=str(n))
        settle(functions, "many")
        functions.publish_version(FunctionName="many")
    pages = functions.get_paginator("list_versions_by_function").paginate(
        FunctionName="many", PaginationConfig={"PageSize": 2})
    versions = [v["Version"] for page in pages for v in page["Versions"]]
    assert versions == ["$LATEST", "1", "2", "3", "4", "5", "6"]
    everything = functions.get_paginator("list_functions").paginate(FunctionVersion="ALL")
    assert sorted(f["Version"] for page in everything for f in page["Functions"]) == sorted(versions)


def test_tags_are_added_listed_and_removed(functions, account):
    create(functions, "tagged", Tags={"a": "1"})
    arn = f"arn:aws:lambda:us-east-1:{account}:function:tagged"
    functions.tag_resource(Resource=arn, Tags={"b": "2", "ü/=": "x y"})
    assert functions.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "2", "ü/=": "x y"}
    functions.untag_resource(Resource=arn, TagKeys=["a", "ü/="])
    assert functions.list_tags(Resource=arn)["Tags"] == {"b": "2"}


def test_account_settings_count_what_is_stored(functions):
    create(functions, "counted", Publish=True)
    settings = functions.get_account_settings()
    assert settings["AccountUsage"]["FunctionCount"] == 1
    # $LATEST and version 1 share the package, and AWS counts it for both.
    assert settings["AccountUsage"]["TotalCodeSize"] == 2 * len(NOOP)
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000


# Refusals


@pytest.mark.parametrize("change, expected", [
    ({"MemorySize": 64}, "Member must have value greater than or equal to 128"),
    ({"Timeout": 901}, "Member must have value less than or equal to 900"),
    ({"Runtime": "cobol1"}, "at 'runtime' failed to satisfy constraint: Member must satisfy enum value set"),
    ({"Role": "nobody"}, "at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern"),
    ({"EphemeralStorage": {"Size": 100}}, "Member must have value greater than or equal to 512"),
])
def test_values_out_of_range_get_awss_message(server, account, change, expected):
    parameters = {"FunctionName": "refused", "Runtime": "python3.12", "Handler": "app.handler",
                  "Role": "arn:aws:iam::000000000000:role/test", "Code": {"ZipFile": NOOP}, **change}
    # boto3 checks ranges by itself before it sends anything, unless told not to.
    unchecked = server.client("lambda", account=account, parameter_validation=False)
    refused = error(unchecked.create_function, **parameters)
    assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert expected in refused.response["Error"]["Message"]


def test_a_reserved_environment_variable_is_refused(functions):
    refused = error(create, client=functions, name="env",
                    Environment={"Variables": {"AWS_REGION": "x"}})
    assert code(refused) == ("InvalidParameterValueException", 400)
    assert refused.response["Error"]["Message"].startswith(
        "Lambda was unable to configure your environment variables because the environment variables you have "
        "provided contains reserved keys that are currently not supported for modification. "
        "Reserved keys used in this request: AWS_REGION")


def test_an_environment_over_4_kb_is_refused(functions):
    refused = error(create, client=functions, name="env",
                    Environment={"Variables": {"LARGE": "x" * 5000}})
    assert code(refused) == ("InvalidParameterValueException", 400)
    assert "exceeded the 4KB limit" in refused.response["Error"]["Message"]


def test_code_in_s3_is_a_clear_error_while_there_is_no_s3(functions):
    refused = error(functions.create_function, FunctionName="s3", Runtime="python3.12", Handler="a.b",
                    Role="arn:aws:iam::000000000000:role/test", Code={"S3Bucket": "b" * 5, "S3Key": "k"})
    assert code(refused)[1] in (400, 501)
    assert "S3" in refused.response["Error"]["Message"]


def test_an_operation_not_served_says_so_by_name(functions):
    refused = error(functions.list_capacity_providers)
    assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert "ListCapacityProviders" in refused.response["Error"]["Message"]
