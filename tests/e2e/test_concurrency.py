"""Reserved and provisioned concurrency: throttles, limits, environments that are there before anybody asks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from functions import create, invoke, python, settle
from leftovers import eventually
from server import binary

# Each environment has a token of its own, made at init.
WHO = """
    import os, time, uuid
    TOKEN = str(uuid.uuid4())
    VERSION = "{version}"
    def handler(event, context):
        time.sleep((event or {{}}).get("sleep", 0))
        return {{"token": TOKEN, "version": VERSION, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
                "arn": context.invoked_function_arn}}
"""

BROKEN = python("""
    raise RuntimeError("this init fails")
    def handler(event, context):
        return 1
""")


def who(version: str = "one") -> bytes:
    return python(WHO.format(version=version))


def publish(client, name: str) -> str:
    return client.publish_version(FunctionName=name)["Version"]


def published(client, name: str, package: bytes | None = None, **config) -> str:
    create(client, name, package or who(), Timeout=30, **config)
    return publish(client, name)


def provision(client, name: str, qualifier: str, count: int, wait: bool = True) -> dict:
    answer = client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["Status"] == "IN_PROGRESS"
    assert answer["RequestedProvisionedConcurrentExecutions"] == count
    return ready(client, name, qualifier, count) if wait else answer


def progress(client, name: str, qualifier: str) -> dict:
    return client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)


def ready(client, name: str, qualifier: str, count: int, seconds: float = 60) -> dict:
    until = time.monotonic() + seconds
    while True:
        found = progress(client, name, qualifier)
        if found["Status"] == "READY" and found["RequestedProvisionedConcurrentExecutions"] == count:
            assert found["AllocatedProvisionedConcurrentExecutions"] == count
            assert found["AvailableProvisionedConcurrentExecutions"] == count
            return found
        assert found["Status"] == "IN_PROGRESS" and time.monotonic() < until, found
        time.sleep(0.02)


def together(client, name: str, count: int, *, sleep: float = 1.5, **parameters) -> list[dict]:
    """So many invokes at once; each holds its environment until all are under way."""
    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(invoke, client, name, {"sleep": sleep}, LogType="Tail", **parameters)
                 for _ in range(count)]
        return [call.result() for call in calls]


def lines(logs, name: str) -> list[str]:
    try:
        found = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    except ClientError:
        return []
    return [event["message"] for event in found]


def refused(call, code: str) -> dict:
    with pytest.raises(ClientError) as error:
        call()
    assert error.value.response["Error"]["Code"] == code, error.value.response
    return error.value.response


def throttle(client, name: str, **parameters) -> dict:
    response = refused(lambda: client.invoke(FunctionName=name, **parameters), "TooManyRequestsException")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["Error"]["Message"] == response["message"] == "Rate Exceeded."
    assert response["Type"] == "User"
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    return response


def held(client, name: str, count: int, seconds: float, **parameters):
    """Invokes that run by the time this returns; their answers as futures."""
    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(invoke, client, name, {"sleep": seconds}, **parameters) for _ in range(count)]
    pool.shutdown(wait=False)
    arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]

    def missing() -> int:
        with urllib.request.urlopen(f"{client.meta.endpoint_url}/_firn/environments", timeout=60) as page:
            environments = json.load(page)["environments"]
        busy = [one for one in environments if one["function_arn"] == arn and one["state"] == "busy"]
        return count - len(busy)

    assert not eventually(missing, seconds), "they do not run all at once"
    return futures


def test_reserved_concurrency_limits_one_function_and_changes_while_it_runs(functions):
    name = "reserved"
    create(functions, name, who(), Timeout=30)
    assert functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)[
        "ReservedConcurrentExecutions"] == 2
    assert functions.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 2
    assert functions.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 2}
    together(functions, name, 2, sleep=0.2)  # warm
    running = held(functions, name, 2, 3)
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert not eventually(lambda: throttled_for(functions, name, reason), 2)
    # One more, then fewer than run already, then none at all.
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    assert invoke(functions, name, {}).json["version"] == "one"
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert throttle(functions, name)["Reason"] == reason
    assert all(not future.done() for future in running), "the test was too slow to mean anything"
    assert all(future.result().error is None for future in running), "lowering stops nobody"
    assert invoke(functions, name, {}).json["version"] == "one"
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert throttle(functions, name)["Reason"] == reason
    functions.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in functions.get_function_concurrency(FunctionName=name)
    assert "Concurrency" not in functions.get_function(FunctionName=name)
    assert invoke(functions, name, {}).json["version"] == "one"


def throttled_for(client, name: str, reason: str) -> str | None:
    """What is wrong, if anything."""
    try:
        client.invoke(FunctionName=name)
    except ClientError as error:
        found = error.response.get("Reason")
        return None if found == reason else f"throttled for {found}"
    return "not throttled"


def test_account_keeps_a_hundred_unreserved(functions):
    limits = lambda: functions.get_account_settings()["AccountLimit"]  # noqa: E731
    assert (limits()["ConcurrentExecutions"], limits()["UnreservedConcurrentExecutions"]) == (1000, 1000)
    for name in ("a", "b"):
        create(functions, name)
    functions.put_function_concurrency(FunctionName="a", ReservedConcurrentExecutions=600)
    assert limits()["UnreservedConcurrentExecutions"] == 400
    message = ("Specified ReservedConcurrentExecutions for function decreases account's "
               "UnreservedConcurrentExecution below its minimum value of [100].")
    response = refused(
        lambda: functions.put_function_concurrency(FunctionName="b", ReservedConcurrentExecutions=301),
        "InvalidParameterValueException")
    assert response["Error"]["Message"] == message and "Type" not in response
    functions.put_function_concurrency(FunctionName="b", ReservedConcurrentExecutions=300)
    # What the function has already does not count twice.
    functions.put_function_concurrency(FunctionName="a", ReservedConcurrentExecutions=599)
    assert limits()["UnreservedConcurrentExecutions"] == 101
    functions.delete_function(FunctionName="a")
    assert limits()["UnreservedConcurrentExecutions"] == 700


def test_account_limit_throttles_everybody_without_a_reservation(own_server, tmp_path):
    settings = tmp_path / "firn.toml"
    settings.write_text("[invoker]\naccount_concurrency = 3\n[lambda]\nminimum_unreserved_concurrency = 1\n")
    client = own_server("--config", str(settings)).client()
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 3
    for name in ("own", "shared"):
        create(client, name, who(), Timeout=30)
    client.put_function_concurrency(FunctionName="own", ReservedConcurrentExecutions=1)
    together(client, "shared", 2, sleep=0.2)
    running = held(client, "shared", 2, 3)
    assert not eventually(lambda: throttled_for(client, "shared", "ConcurrentInvocationLimitExceeded"), 2)
    assert invoke(client, "own", {}).json["version"] == "one", "its place is its own"
    assert not any(future.done() for future in running)
    assert all(future.result().error is None for future in running)


def test_scaling_rate_refuses_more_environments_than_a_function_may_be_given(own_server, tmp_path):
    settings = tmp_path / "firn.toml"
    settings.write_text("[invoker]\nenvironments_per_10_s = 2\n")
    client = own_server("--config", str(settings)).client()
    create(client, "burst", who(), Timeout=30)
    with ThreadPoolExecutor(5) as pool:
        def call(_):
            try:
                return invoke(client, "burst", {"sleep": 1}).json["token"]
            except ClientError as error:
                return error.response
        answers = list(pool.map(call, range(5)))
    served = {answer for answer in answers if isinstance(answer, str)}
    refusals = [answer for answer in answers if not isinstance(answer, str)]
    assert len(served) == 2 and len(refusals) == 3
    for response in refusals:
        assert response["Reason"] == "FunctionInvocationRateLimitExceeded", response
        assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


def test_requests_per_second_can_be_limited_by_concurrency(own_server, tmp_path):
    settings = tmp_path / "firn.toml"
    settings.write_text("[invoker]\nrequests_per_second_per_concurrency = 10\n")
    client = own_server("--config", str(settings)).client()
    create(client, "fast")
    client.put_function_concurrency(FunctionName="fast", ReservedConcurrentExecutions=1)
    reasons = set()
    for _ in range(200):
        try:
            client.invoke(FunctionName="fast")
        except ClientError as error:
            reasons.add(error.response["Reason"])
    assert reasons == {"ReservedFunctionInvocationRateLimitExceeded"}


def test_provisioned_environments_serve_a_step_load_without_a_cold_start(functions, logs):
    name, count = "step", 8
    version = published(functions, name)
    provision(functions, name, version, count)
    starts = lambda: sum(line.startswith("INIT_START") for line in lines(logs, name))  # noqa: E731
    assert starts() == count, "all of them were initialised before anybody asked"
    seen = set()
    for _ in range(3):
        answers = together(functions, name, count, Qualifier=version)
        assert {answer.json["type"] for answer in answers} == {"provisioned-concurrency"}
        tokens = {answer.json["token"] for answer in answers}
        assert len(tokens) == count
        seen |= tokens
        for answer in answers:
            assert "Init Duration" not in answer.tail
    assert len(seen) == count, "the same ones all the time"
    assert starts() == count


def test_load_beyond_the_count_spills_over(functions):
    name = "spill"
    version = published(functions, name)
    provision(functions, name, version, 2)
    answers = together(functions, name, 4, Qualifier=version, sleep=1)
    types = sorted(answer.json["type"] for answer in answers)
    assert types == ["on-demand", "on-demand", "provisioned-concurrency", "provisioned-concurrency"]
    for answer in answers:
        assert ("Init Duration" in answer.tail) == (answer.json["type"] == "on-demand")
    # $LATEST has none of them.
    assert invoke(functions, name, {}).json["type"] == "on-demand"


def test_reserved_and_provisioned_overlap_as_recorded(functions):
    """The recorded case `test_reserved_provisioned_overlap`, whose trace has no calls."""
    name = "overlap"
    version = published(functions, name)
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    before = provision(functions, name, version, 2, wait=False)
    assert (before["AllocatedProvisionedConcurrentExecutions"], before["AvailableProvisionedConcurrentExecutions"]) == (0, 0)
    ready(functions, name, version, 2)
    response = refused(lambda: functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1),
                       "InvalidParameterValueException")
    assert response["message"] == (" ReservedConcurrentExecutions  1 should not be lower than function's total "
                                   "provisioned concurrency [2].")
    assert "Type" not in response
    assert functions.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 2
    # All that is reserved is provisioned for the version, so that nothing is left for $LATEST.
    assert throttle(functions, name)["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert invoke(functions, name, {}, Qualifier=version).json["type"] == "provisioned-concurrency"
    functions.update_function_configuration(FunctionName=name, Timeout=15)
    settle(functions, name)
    second = publish(functions, name)
    message = ("Requested Provisioned Concurrency should not be greater than the "
               "reservedConcurrentExecution for function")
    for qualifier, count in ((second, 1), (version, 3)):
        response = refused(lambda: functions.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count),
            "InvalidParameterValueException")
        assert response["message"] == message and response["Type"] == "User"


def test_failing_init_is_told_as_recorded(functions):
    """The recorded case `test_provisioned_concurrency_init_failure`, whose trace has no calls."""
    version = published(functions, "broken", BROKEN)
    provision(functions, "broken", version, 1, wait=False)

    def pending():
        found = progress(functions, "broken", version)
        if found["Status"] == "IN_PROGRESS":
            return found
        found.pop("ResponseMetadata")
        found.pop("LastModified")
        assert found == {
            "AllocatedProvisionedConcurrentExecutions": 0,
            "AvailableProvisionedConcurrentExecutions": 0,
            "RequestedProvisionedConcurrentExecutions": 1,
            "Status": "FAILED",
            "StatusReason": "FUNCTION_ERROR_INIT_FAILURE",
        }
        return None

    assert not eventually(pending, 30)


def test_configurations_are_refused_as_on_aws(functions):
    name = "rules"
    version = published(functions, name)
    put = functions.put_provisioned_concurrency_config
    get = functions.get_provisioned_concurrency_config
    delete = functions.delete_provisioned_concurrency_config

    def message(call, code, **parameters):
        return refused(lambda: call(FunctionName=name, **parameters), code)["Error"]["Message"]

    invalid = "InvalidParameterValueException"
    assert message(put, invalid, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1) == (
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    neither = "The function resource provided must be an alias or a published version."
    assert message(get, invalid, Qualifier="$LATEST") == neither
    assert message(delete, invalid, Qualifier="$LATEST") == neither
    assert message(get, "ProvisionedConcurrencyConfigNotFoundException", Qualifier=version) == (
        "No Provisioned Concurrency Config found for this function")
    assert message(get, "ResourceNotFoundException", Qualifier="nope").startswith("Cannot find alias arn: ")
    assert message(get, "ResourceNotFoundException", Qualifier="77").startswith("Function not found: ")
    delete(FunctionName=name, Qualifier=version)  # nothing to delete is no error
    assert message(put, invalid, Qualifier=version, ProvisionedConcurrentExecutions=901) == (
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
        "minimum value of [100].")
    assert message(put, invalid, Qualifier=version, ProvisionedConcurrentExecutions=1001) == (
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].")
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    provision(functions, name, version, 1)
    assert message(put, "ResourceConflictException", Qualifier="live", ProvisionedConcurrentExecutions=1) == (
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
    delete(FunctionName=name, Qualifier=version)
    provision(functions, name, "live", 1)
    assert message(put, "ResourceConflictException", Qualifier=version, ProvisionedConcurrentExecutions=1) == (
        "Version is pointed by a Provisioned Concurrency alias")
    listed = functions.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert [(one["FunctionArn"].rsplit(":", 1)[1], one["Status"]) for one in listed] == [("live", "READY")]
    assert functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 999
    functions.delete_alias(FunctionName=name, Name="live")
    assert functions.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []
    assert functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000


def test_environments_follow_the_number_and_stay_when_idle(own_server, tmp_path):
    settings = tmp_path / "firn.toml"
    settings.write_text("[invoker]\nidle_timeout_s = 1\n")
    server = own_server("--config", str(settings))
    client = server.client()
    version = published(client, "sized")

    def environments():
        return [one for one in server.admin("GET", "/_firn/environments")["environments"]
                if one["version"] == version and one["state"] != "ending"]

    provision(client, "sized", version, 3)
    assert not eventually(lambda: None if {one["state"] for one in environments()} == {"frozen"} else environments(), 5)
    time.sleep(2.5)  # longer than idle environments live here
    assert len(environments()) == 3
    provision(client, "sized", version, 1)
    assert not eventually(lambda: None if len(environments()) == 1 else environments(), 10)
    client.delete_provisioned_concurrency_config(FunctionName="sized", Qualifier=version)
    assert not eventually(lambda: environments() or None, 10)


class Load:
    """So many clients in a closed loop; what each answer was."""

    def __init__(self, server, account: str, name: str, qualifier: str, clients: int):
        self.answers: list[tuple[float, dict, str]] = []
        self.errors: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(server, account, name, qualifier))
                        for _ in range(clients)]

    def _run(self, server, account, name, qualifier):
        client = server.client(account=account)
        while not self.over.is_set():
            try:
                answer = invoke(client, name, {"sleep": 0.02}, Qualifier=qualifier, LogType="Tail")
                self.answers.append((time.monotonic(), answer.json, answer.tail))
            except Exception as error:  # noqa: BLE001
                self.errors.append(repr(error))
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_alias_moves_to_a_new_version_without_a_cold_start(server, functions, account, logs):
    name, count = "bluegreen", 4
    first = published(functions, name, who("blue"))
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion=first)
    provision(functions, name, "live", count)
    functions.update_function_code(FunctionName=name, ZipFile=who("green"))
    settle(functions, name)
    second = publish(functions, name)
    with Load(server, account, name, "live", count) as load:
        assert not eventually(lambda: None if len(load.answers) > 40 else "no load yet", 30)
        functions.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
        moving = functions.get_alias(FunctionName=name, Name="live")
        assert moving["FunctionVersion"] == second
        ready(functions, name, "live", count)
        assert not eventually(lambda: functions.get_alias(FunctionName=name, Name="live").get("RoutingConfig"), 10)
        at = len(load.answers)
        assert not eventually(lambda: None if len(load.answers) > at + 100 else "no load any more", 30)
    assert load.errors == []
    versions = [answer["version"] for _, answer, _ in load.answers]
    assert versions[0] == "blue" and versions[-1] == "green"
    assert {answer["type"] for _, answer, _ in load.answers} == {"provisioned-concurrency"}
    cold = [tail for _, _, tail in load.answers if "Init Duration" in tail]
    assert cold == []
    starts = [line for line in lines(logs, name) if line.startswith("INIT_START")]
    assert len(starts) == 2 * count
    # If clients saw it move, they saw AWS's way of it.
    if "RoutingConfig" in moving:
        assert moving["RoutingConfig"] == {"AdditionalVersionWeights": {first: 1.0}}
    # The old version's environments end a moment later.
    gone = lambda: [one for one in server.admin("GET", "/_firn/environments")["environments"]  # noqa: E731
                    if one["function_arn"].endswith(f":{account}:function:{name}")
                    and one["version"] == first and one["state"] != "ending"]
    assert not eventually(lambda: gone() or None, 15)


def test_alias_stays_where_it_is_when_the_new_version_cannot_start(functions):
    name = "stuck"
    first = published(functions, name, who("blue"))
    functions.create_alias(FunctionName=name, Name="live", FunctionVersion=first)
    provision(functions, name, "live", 1)
    functions.update_function_code(FunctionName=name, ZipFile=BROKEN)
    settle(functions, name)
    second = publish(functions, name)
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
    assert not eventually(lambda: None if progress(functions, name, "live")["Status"] == "FAILED" else "not failed", 30)
    weights = functions.get_alias(FunctionName=name, Name="live")["RoutingConfig"]
    assert weights == {"AdditionalVersionWeights": {first: 1.0}}
    answer = invoke(functions, name, {}, Qualifier="live")
    assert (answer.json["version"], answer.json["type"]) == ("blue", "provisioned-concurrency")
    response = refused(lambda: functions.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=2), "InvalidParameterValueException")
    assert response["message"] == "Alias with weights can not be used with Provisioned Concurrency"
    # The way back is one update.
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=first)
    assert "RoutingConfig" not in functions.get_alias(FunctionName=name, Name="live")
    ready(functions, name, "live", 1)


def test_environment_that_dies_is_replaced(functions):
    name = "mortal"
    version = published(functions, name, python("""
        import os
        def handler(event, context):
            if event == "die":
                os._exit(1)
            return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
    """))
    provision(functions, name, version, 2)
    assert invoke(functions, name, "die", Qualifier=version).error == "Unhandled"
    ready(functions, name, version, 2)
    assert invoke(functions, name, 1, Qualifier=version).json == "provisioned-concurrency"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_provisioned_environments_are_there_again_after_a_restart(own_server, how):
    server = own_server()
    client = server.client()
    version = published(client, "kept")
    client.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=3)
    provision(client, "kept", version, 3)
    getattr(server, how)()
    server.start()
    client = server.client()
    ready(client, "kept", version, 3)
    answers = together(client, "kept", 3, Qualifier=version)
    assert {answer.json["type"] for answer in answers} == {"provisioned-concurrency"}
    assert not any("Init Duration" in answer.tail for answer in answers)
    assert throttle(client, "kept")["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_alias_that_was_moving_when_the_server_died_arrives_after_its_restart(own_server):
    slow = python("""
        import time
        time.sleep(3)
        def handler(event, context):
            return "green"
    """)
    server = own_server()
    client = server.client()
    first = published(client, "moved", who("blue"))
    client.create_alias(FunctionName="moved", Name="live", FunctionVersion=first)
    provision(client, "moved", "live", 1)
    client.update_function_code(FunctionName="moved", ZipFile=slow)
    settle(client, "moved")
    second = publish(client, "moved")
    client.update_alias(FunctionName="moved", Name="live", FunctionVersion=second)
    server.kill()
    server.start()
    client = server.client()
    weights = client.get_alias(FunctionName="moved", Name="live")["RoutingConfig"]
    assert weights == {"AdditionalVersionWeights": {first: 1.0}}
    assert invoke(client, "moved", {}, Qualifier="live").json["version"] == "blue"
    ready(client, "moved", "live", 1)
    assert not eventually(lambda: client.get_alias(FunctionName="moved", Name="live").get("RoutingConfig"), 10)
    assert invoke(client, "moved", {}, Qualifier="live").json == "green"


def test_json_log_tells_the_initialization_type(functions, logs):
    name = "typed"
    version = published(functions, name, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    provision(functions, name, version, 1)

    def missing():
        records = [json.loads(line) for line in lines(logs, name)]
        found = [one["record"] for one in records if one["type"] == "platform.initStart"]
        if not found:
            return records
        assert found[0]["initializationType"] == "provisioned-concurrency"
        assert found[0]["phase"] == "init"
        return None

    assert not eventually(missing, 10)


def test_provisioned_environments_come_from_snapshots_where_there_are_some(own_server):
    client = own_server("--snapstart", "eager").client()
    version = published(client, "thawed", SnapStart={"ApplyOn": "PublishedVersions"})
    pace = {"Delay": 0.05, "MaxAttempts": 400}
    client.get_waiter("published_version_active").wait(FunctionName="thawed", Qualifier=version, WaiterConfig=pace)
    provision(client, "thawed", version, 4)
    answers = together(client, "thawed", 4, Qualifier=version)
    assert {answer.json["type"] for answer in answers} == {"snap-start"}
    assert len({answer.json["token"] for answer in answers}) == 1, "all from one image"
    for answer in answers:
        assert not re.search("Init Duration|Restore Duration", answer.tail)
    assert len(together(client, "thawed", 5, Qualifier=version)) == 5


def test_snap_start_and_provisioned_concurrency_exclude_each_other_as_on_aws(functions):
    create(functions, "both", SnapStart={"ApplyOn": "PublishedVersions"})
    version = publish(functions, "both")
    response = refused(lambda: functions.put_provisioned_concurrency_config(
        FunctionName="both", Qualifier=version, ProvisionedConcurrentExecutions=1), "InvalidParameterValueException")
    assert response["message"] == "Provisioned Concurrency is not supported for SnapStart enabled functions."


def test_deploy_reserves_and_provisions(server, functions, account, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()

    def firn(*arguments: str) -> str:
        done = subprocess.run([binary(), *arguments, "--account", account], cwd=tmp_path, capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIRN_ENDPOINT": server.endpoint},
                              timeout=120)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def deploy(version: str, count: str) -> dict:
        (folder / "app.py").write_text(textwrap.dedent(WHO.format(version=version)))
        firn("deploy", "shop", "--runtime", "python3.12", "--alias", "live", "--reserved", "5", "--provisioned", count)
        # The command has waited for all of them.
        answer = invoke(functions, "shop", {}, Qualifier="live", LogType="Tail")
        assert "Init Duration" not in answer.tail
        return answer.json

    assert functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000
    first = deploy("one", "1")
    assert (first["version"], first["type"]) == ("one", "provisioned-concurrency")
    assert functions.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    second = deploy("two", "2")
    assert (second["version"], second["type"]) == ("two", "provisioned-concurrency")
    shown = firn("functions", "show", "shop")
    assert re.search(r"ReservedConcurrentExecutions\s.*5", shown)
    assert re.search(r"live\s.*2 of 2 READY", shown), shown
    firn("deploy", "shop", "--runtime", "python3.12", "--alias", "live", "--provisioned", "0")
    assert functions.list_provisioned_concurrency_configs(FunctionName="shop")["ProvisionedConcurrencyConfigs"] == []
