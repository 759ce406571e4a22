"""What tasks call: functions, executions, services elsewhere, HTTP endpoints, models."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from functions import create, python

ROLE = "arn:aws:iam::000000000000:role/test"
ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))


class Elsewhere:
    """Services at an address: each is a function from a request to (status, headers, body)."""

    def __init__(self):
        self.answers = {"PutEvents": (200, {}, {"FailedEntryCount": 0, "Entries": []})}
        self.received: list[Request] = []
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                elsewhere.received.append(request)
                status, more, answer = elsewhere.answer(request)
                if not isinstance(answer, (str, bytes)):
                    answer = json.dumps(answer)
                answer = answer.encode() if isinstance(answer, str) else answer
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = take

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: Request):
        target = request.headers.get("x-amz-target", "").split(".")[-1]
        action = request.form.get("Action", "") if b"Action=" in request.body else ""
        key = target or action or f"{request.method} {request.path}"
        answer = self.answers.get(key, (404, {}, {"message": f"nothing at {key}"}))
        return answer(request) if callable(answer) else answer

    def last(self) -> Request:
        """The last request that is not one of the events that executions send of their own accord."""
        return next(request for request in reversed(self.received)
                    if not request.headers.get("x-amz-target", "").endswith("PutEvents"))

    def close(self):
        self._server.shutdown()


ID = {"x-amzn-RequestId": "3d6c0c5e-0000-4000-8000-000000000001"}


@pytest.fixture(scope="module")
def elsewhere():
    running = Elsewhere()
    yield running
    running.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, elsewhere):
    """A server with services elsewhere, shared by these tests."""
    from server import Server
    folder = tmp_path_factory.mktemp("integrations")
    settings = folder / "firn.toml"
    settings.write_text(f"""
[upstream]
sqs = "{elsewhere.endpoint}"
sns = "{elsewhere.endpoint}"
events = "{elsewhere.endpoint}"
dynamodb = "{elsewhere.endpoint}"
secretsmanager = "{elsewhere.endpoint}"
ecs = "{elsewhere.endpoint}"
glue = "http://127.0.0.1:1"

[integrations]
poll_ms = 50
openai = "{elsewhere.endpoint}/v1"
apigateway = "{elsewhere.endpoint}/restapis/{{api}}"

[integrations.connections.key]
api_key_name = "x-api-key"
api_key_value = "hunter2"

[integrations.connections.oauth]
token_endpoint = "{elsewhere.endpoint}/token"
client_id = "me"
client_secret = "secret"
""")
    running = Server(folder / "data", ("--config", str(settings))).start()
    yield running
    assert running.alive(), running.log()
    assert running.stop() == 0


@pytest.fixture
def states(server, account):
    return server.client("stepfunctions", account=account)


def task(resource: str, parameters: dict | None = None, **more) -> dict:
    arn = resource if resource.startswith("arn:") else f"arn:aws:states:::{resource}"
    state = {"Type": "Task", "Resource": arn, "End": True, **more}
    if parameters is not None:
        state["Parameters"] = parameters
    return {"StartAt": "T", "States": {"T": state}}


def run(states, definition: dict, data=None, name: str = "machine") -> dict:
    name = f"{name}-{time.monotonic_ns()}"
    machine = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
    return run_machine(states, machine["stateMachineArn"], data)


def run_machine(states, arn: str, data=None) -> dict:
    started = states.start_execution(stateMachineArn=arn, input=json.dumps({} if data is None else data))
    return wait(states, started["executionArn"])


def wait(states, arn: str, seconds: float = 30) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = states.describe_execution(executionArn=arn)
        if found["status"] in ENDED:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{arn} still runs: {states.get_execution_history(executionArn=arn)['events']}")


def output(execution: dict):
    assert execution["status"] == "SUCCEEDED", execution
    return json.loads(execution["output"])


def failure(execution: dict) -> tuple[str, str]:
    assert execution["status"] == "FAILED", execution
    return execution.get("error"), execution.get("cause")


FUNCTION = python("""
    def handler(event, context):
        if isinstance(event, dict) and "fail" in event:
            raise KeyError(event["fail"])
        return event
""")


@pytest.fixture
def function(functions):
    return create(functions, "echo", FUNCTION)["FunctionArn"]


def test_a_bare_function_gets_the_input_and_gives_the_output(states, function):
    assert output(run(states, task(function), {"a": [1, None]})) == {"a": [1, None]}


def test_lambda_invoke_tells_of_the_call(states, function):
    made = output(run(states, task("lambda:invoke", {"FunctionName": "echo", "Payload": {"a.$": "$.a"}}), {"a": 1}))
    assert (made["Payload"], made["StatusCode"], made["ExecutedVersion"]) == ({"a": 1}, 200, "$LATEST")
    http = made["SdkHttpMetadata"]
    assert http["HttpStatusCode"] == 200
    assert http["HttpHeaders"]["X-Amz-Executed-Version"] == "$LATEST"
    assert made["SdkResponseMetadata"]["RequestId"] == http["HttpHeaders"]["x-amzn-RequestId"]
    assert list(made) == ["ExecutedVersion", "Payload", "SdkHttpMetadata", "SdkResponseMetadata", "StatusCode"]


def test_a_function_fails_by_its_own_error(states, function):
    for definition in (task(function), task("lambda:invoke", {"FunctionName": "echo", "Payload.$": "$"})):
        error, cause = failure(run(states, definition, {"fail": "x"}))
        assert error == "KeyError"
        assert json.loads(cause)["errorMessage"] == "'x'"


def test_a_missing_function_is_told_as_on_aws(states, account):
    error, cause = failure(run(states, task("lambda:invoke", {"FunctionName": "nobody"})))
    assert error == "Lambda.ResourceNotFoundException"
    arn = f"arn:aws:lambda:us-east-1:{account}:function:nobody:$LATEST"
    start = (f"Function not found: {arn} (Service: AWSLambda; Status Code: 404; Error Code: "
             "ResourceNotFoundException; Request ID: ")
    assert cause.startswith(start) and cause.endswith("; Proxy: null)"), cause


def test_a_function_sends_its_token_back(server, states, functions, account):
    # Without an SDK, which not every interpreter here has.
    source = f"""
        import json, os, urllib.request
        def handler(event, context):
            body = json.dumps({{"taskToken": event["token"], "output": '{{"from": "function"}}'}}).encode()
            request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], body, {{
                "X-Amz-Target": "AWSStepFunctions.SendTaskSuccess", "Content-Type": "application/x-amz-json-1.0",
                "Authorization": "AWS4-HMAC-SHA256 Credential={account}/20240101/us-east-1/states/aws4_request, "
                                 "SignedHeaders=host, Signature=0"}})
            urllib.request.urlopen(request).read()
    """
    create(functions, "sender", python(source))
    parameters = {"FunctionName": "sender", "Payload": {"token.$": "$$.Task.Token"}}
    made = run(states, task("lambda:invoke.waitForTaskToken", parameters))
    assert output(made) == {"from": "function"}


CHILD = {"StartAt": "P", "States": {"P": {"Type": "Pass", "Result": {"made": 1}, "End": True}}}
FAILING = {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Oh", "Cause": "no"}}}
SLEEPING = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 3600, "End": True}}}


def machine(states, definition: dict, name: str) -> str:
    made = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
    return made["stateMachineArn"]


def test_executions_within_executions(states):
    child = machine(states, CHILD, "child")
    parameters = {"StateMachineArn": child, "Input": {"x": 1}}
    started = output(run(states, task("states:startExecution", parameters)))
    assert started["SdkHttpMetadata"]["HttpStatusCode"] == 200
    assert output(wait(states, started["ExecutionArn"])) == {"made": 1}
    done = output(run(states, task("states:startExecution.sync", parameters)))
    assert (done["Input"], done["Output"]) == ('{"x":1}', '{"made":1}')
    done = output(run(states, task("states:startExecution.sync:2", parameters)))
    assert (done["Input"], done["Output"], done["Status"]) == ({"x": 1}, {"made": 1}, "SUCCEEDED")
    assert done["InputDetails"] == {"Included": True}


def test_a_child_that_fails_fails_its_parent(states):
    child = machine(states, FAILING, "failing")
    error, cause = failure(run(states, task("states:startExecution.sync", {"StateMachineArn": child})))
    cause = json.loads(cause)
    assert error == "States.TaskFailed"
    assert (cause["Error"], cause["Cause"], cause["Status"], cause["Input"]) == ("Oh", "no", "FAILED", "{}")


def test_a_missing_machine_is_told_as_on_aws(states, account):
    arn = f"arn:aws:states:us-east-1:{account}:stateMachine:nobody"
    error, cause = failure(run(states, task("states:startExecution", {"StateMachineArn": arn})))
    assert error == "StepFunctions.StateMachineDoesNotExistException"
    start = (f"State Machine Does Not Exist: '{arn}' (Service: AWSStepFunctions; Status Code: 400; Error Code: "
             "StateMachineDoesNotExist; Request ID: ")
    assert cause.startswith(start), cause


@pytest.mark.parametrize("how", ["stopped", "timed out"])
def test_a_child_ends_with_the_task_that_waits_for_it(states, how):
    child = machine(states, SLEEPING, f"sleeping-{how[0]}")
    more = {} if how == "stopped" else {"TimeoutSeconds": 1}
    definition = task("states:startExecution.sync", {"StateMachineArn": child}, **more)
    parent = machine(states, definition, f"parent-{how[0]}")
    started = states.start_execution(stateMachineArn=parent)["executionArn"]
    deadline = time.monotonic() + 20
    while not (running := states.list_executions(stateMachineArn=child)["executions"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == "stopped":
        states.stop_execution(executionArn=started)
    assert wait(states, running[0]["executionArn"])["status"] == "ABORTED"
    assert wait(states, started)["status"] == ("ABORTED" if how == "stopped" else "FAILED")


def test_a_child_outlives_the_server_and_its_parent_hears_of_it(own_server):
    server = own_server()
    states = server.client("stepfunctions", account="111111111111")
    child = machine(states, {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 3, "End": True}}}, "child")
    parent = machine(states, task("states:startExecution.sync:2", {"StateMachineArn": child}), "parent")
    started = states.start_execution(stateMachineArn=parent)["executionArn"]
    deadline = time.monotonic() + 20
    while not states.list_executions(stateMachineArn=child)["executions"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.stop() == 0
    again = own_server(data=server.data)
    states = again.client("stepfunctions", account="111111111111")
    assert output(wait(states, started))["Status"] == "SUCCEEDED"
    assert len(states.list_executions(stateMachineArn=child)["executions"]) == 1


def test_a_queue_gets_any_json_as_text(states, elsewhere):
    elsewhere.answers["SendMessage"] = (200, ID, {"MessageId": "m", "MD5OfMessageBody": "d"})
    made = output(run(states, task("sqs:sendMessage", {"QueueUrl": "http://q/1/n", "MessageBody": {"a": 1}})))
    request = elsewhere.last()
    assert request.json == {"QueueUrl": "http://q/1/n", "MessageBody": '{"a":1}'}
    assert "/us-east-1/sqs/aws4_request" in request.headers["authorization"]
    assert (made["MessageId"], made["MD5OfMessageBody"]) == ("m", "d")
    assert made["SdkResponseMetadata"]["RequestId"] == ID["x-amzn-RequestId"]
    assert made["SdkHttpMetadata"]["HttpHeaders"]["x-amzn-RequestId"] == ID["x-amzn-RequestId"]


def test_a_queue_carries_the_token(states, elsewhere):
    taken = threading.Event()

    def take(request):
        elsewhere.token = json.loads(request.json["MessageBody"])["token"]
        taken.set()
        return 200, ID, {"MessageId": "m", "MD5OfMessageBody": "d"}

    elsewhere.answers["SendMessage"] = take
    parameters = {"QueueUrl": "http://q/1/n", "MessageBody": {"token.$": "$$.Task.Token"}}
    arn = machine(states, task("sqs:sendMessage.waitForTaskToken", parameters), "token")
    started = states.start_execution(stateMachineArn=arn)["executionArn"]
    assert taken.wait(20)

    def kinds() -> list[str]:
        return [event["type"] for event in states.get_execution_history(executionArn=started)["events"]]

    # The queue's answer may come later than that of a fast worker, and would then not be in the history.
    until = time.monotonic() + 20
    while "TaskSubmitted" not in kinds():
        assert time.monotonic() < until
    states.send_task_success(taskToken=elsewhere.token, output='"done"')
    assert output(wait(states, started)) == "done"
    assert kinds()[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]


def test_a_topic_is_spoken_to_in_forms(states, elsewhere):
    elsewhere.answers["Publish"] = (200, {**ID, "Content-Type": "text/xml"}, (
        "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>"))
    parameters = {"TopicArn": "arn:t", "Message": {"a": 1},
                  "MessageAttributes": {"k": {"DataType": "String", "StringValue": "v"}}}
    assert output(run(states, task("sns:publish", parameters)))["MessageId"] == "m"
    form = elsewhere.last().form
    assert (form["Message"], form["MessageAttributes.entry.1.Value.StringValue"]) == ('{"a":1}', "v")
    elsewhere.answers["Publish"] = (404, ID, (
        "<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>Topic does not exist</Message></Error>"
        "<RequestId>r</RequestId></ErrorResponse>"))
    assert failure(run(states, task("sns:publish", parameters))) == (
        "SNS.NotFoundException",
        "Topic does not exist (Service: AmazonSNS; Status Code: 404; Error Code: NotFound; Request ID: r; Proxy: null)")


def test_events_name_the_execution_and_fail_one_by_one(states, elsewhere):
    elsewhere.answers["PutEvents"] = (200, ID, {"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})
    parameters = {"Entries": [{"Source": "s", "DetailType": "d", "Detail": {"x": 1}}]}
    assert output(run(states, task("events:putEvents", parameters))) == {
        "FailedEntryCount": 0, "Entries": [{"EventId": "e"}]}
    own = next(request for request in reversed(elsewhere.received)
               if b'"s"' in request.body and "PutEvents" in request.headers.get("x-amz-target", ""))
    entry = own.json["Entries"][0]
    assert entry["Detail"] == '{"x":1}'
    assert [arn.split(":")[5] for arn in entry["Resources"]] == ["execution", "stateMachine"]
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "MalformedDetail", "ErrorMessage": "no"}]}
    elsewhere.answers["PutEvents"] = (200, ID, refused)
    error, cause = failure(run(states, task("events:putEvents", parameters)))
    assert (error, json.loads(cause)) == ("EventBridge.FailedEntry", refused)
    # Executions tell the bus of their own status, too.
    elsewhere.answers["PutEvents"] = (200, ID, {"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})


def test_both_ways_to_a_table(states, elsewhere):
    elsewhere.answers["GetItem"] = (200, ID, {"Item": {"id": {"S": "1"}}})
    parameters = {"TableName": "t", "Key": {"id": {"S": "1"}}}
    assert output(run(states, task("aws-sdk:dynamodb:getItem", parameters))) == {"Item": {"id": {"S": "1"}}}
    assert output(run(states, task("dynamodb:getItem", parameters)))["SdkHttpMetadata"]["HttpStatusCode"] == 200
    kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"
    elsewhere.answers["GetItem"] = (400, ID, {"__type": kind, "message": "no"})
    request_id = ID["x-amzn-RequestId"]
    assert failure(run(states, task("aws-sdk:dynamodb:getItem", parameters))) == (
        "DynamoDb.ResourceNotFoundException",
        f"no (Service: DynamoDb, Status Code: 400, Request ID: {request_id})")
    assert failure(run(states, task("dynamodb:getItem", parameters))) == (
        "DynamoDB.ResourceNotFoundException",
        "no (Service: AmazonDynamoDBv2; Status Code: 400; Error Code: ResourceNotFoundException; "
        f"Request ID: {request_id}; Proxy: null)")


def test_own_services_are_called_without_an_upstream(states, functions):
    create(functions, "listed", FUNCTION)
    listed = output(run(states, task("aws-sdk:lambda:listFunctions", {})))
    assert [function["FunctionName"] for function in listed["Functions"]] == ["listed"]
    arn = machine(states, CHILD, "own")
    started = output(run(states, task("aws-sdk:sfn:startExecution", {"StateMachineArn": arn, "Input": {"a": 1}})))
    assert started["StartDate"].endswith("Z")
    assert output(wait(states, started["ExecutionArn"])) == {"made": 1}
    groups = output(run(states, task("aws-sdk:cloudwatchlogs:createLogGroup", {"LogGroupName": "/made/by/task"})))
    assert groups == {}
    error, cause = failure(run(states, task("aws-sdk:cloudwatchlogs:createLogGroup", {"LogGroupName": "/made/by/task"})))
    assert error == "CloudWatchLogs.ResourceAlreadyExistsException", cause


def test_a_service_that_nobody_serves_names_the_setting(states):
    error, cause = failure(run(states, task("aws-sdk:kms:listKeys", {})))
    assert error == "Kms.SdkClientException"
    assert "set upstream.kms" in cause
    error, cause = failure(run(states, task("glue:startJobRun", {"JobName": "j"})))
    assert error == "Glue.SdkClientException"
    assert cause.startswith("Unable to execute HTTP request"), cause


def test_a_container_is_waited_for_and_stopped(states, elsewhere):
    running = {"tasks": [{"taskArn": "arn:task", "lastStatus": "RUNNING"}], "failures": []}
    looks = iter([running, running, {"tasks": [{
        "taskArn": "arn:task", "lastStatus": "STOPPED", "stoppedAt": 1700000000.5,
        "containers": [{"exitCode": 0}]}], "failures": []}])
    elsewhere.answers["RunTask"] = (200, ID, running)
    elsewhere.answers["DescribeTasks"] = lambda _: (200, ID, next(looks))
    parameters = {"Cluster": "c", "TaskDefinition": "d"}
    made = output(run(states, task("ecs:runTask.sync", parameters)))
    assert (made["LastStatus"], made["Containers"], made["StoppedAt"]) == ("STOPPED", [{"ExitCode": 0}], 1700000000500)
    sent = [request.json for request in elsewhere.received if request.headers.get("x-amz-target", "").endswith("RunTask")]
    assert len(sent[-1]["clientToken"]) == 36

    failed = {"tasks": [{"lastStatus": "STOPPED", "containers": [{"exitCode": 2}]}], "failures": []}
    elsewhere.answers["DescribeTasks"] = (200, ID, failed)
    error, cause = failure(run(states, task("ecs:runTask.sync", parameters)))
    assert (error, json.loads(cause)["Containers"]) == ("States.TaskFailed", [{"ExitCode": 2}])

    stopped = threading.Event()

    def stop(request):
        elsewhere.stopped = request.json
        stopped.set()
        return 200, ID, {}

    elsewhere.answers["DescribeTasks"] = (200, ID, running)
    elsewhere.answers["StopTask"] = stop
    assert wait_status(run(states, task("ecs:runTask.sync", parameters, TimeoutSeconds=1))) == "States.Timeout"
    assert stopped.wait(20)
    assert elsewhere.stopped == {"cluster": "c", "task": "arn:task"}


def wait_status(execution: dict) -> str:
    return execution.get("error")


CONNECTION = "arn:aws:events:us-east-1:000000000000:connection"


def http_task(endpoint: str, connection: str = "key", **more) -> dict:
    return task("http:invoke", {"ApiEndpoint": endpoint, "Method": "GET",
                                "Authentication": {"ConnectionArn": f"{CONNECTION}/{connection}/id"}, **more})


def test_http_endpoints_are_called_with_the_connections_key(states, elsewhere):
    elsewhere.answers["POST /form?q=1"] = (200, {"Content-Type": "application/json"}, {"ok": True})
    made = output(run(states, http_task(
        f"{elsewhere.endpoint}/form", Method="POST", QueryParameters={"q": 1}, RequestBody={"a": ["x", "y"]},
        Transform={"RequestBodyEncoding": "URL_ENCODED", "RequestEncodingOptions": {"ArrayFormat": "REPEAT"}})))
    assert (made["StatusCode"], made["StatusText"], made["ResponseBody"]) == (200, "OK", {"ok": True})
    assert made["Headers"]["content-type"] == ["application/json"]
    request = elsewhere.last()
    assert request.body == b"a=x&a=y"
    assert request.headers["x-api-key"] == "hunter2"
    assert request.headers["user-agent"] == "Amazon|StepFunctions|HttpInvoke|us-east-1"


def test_http_statuses_are_errors(states, elsewhere):
    elsewhere.answers["GET /gone"] = (410, {}, {"why": "gone"})
    assert failure(run(states, http_task(f"{elsewhere.endpoint}/gone"))) == (
        "States.Http.StatusCode.410", '{"why": "gone"}')
    error, _ = failure(run(states, http_task("http://127.0.0.1:1/")))
    assert error == "States.Http.Socket"
    error, cause = failure(run(states, http_task(f"{elsewhere.endpoint}/x", connection="none")))
    assert error == "Events.ConnectionResource.NotFound"
    assert "integrations.connections.none" in cause


def test_a_token_is_fetched_once(states, elsewhere):
    tokens = []

    def token(request):
        tokens.append(request.form)
        return 200, {"Content-Type": "application/json"}, {"access_token": "t0ken", "expires_in": 600}

    elsewhere.answers["POST /token"] = token
    elsewhere.answers["GET /secured"] = lambda request: (
        (200, {}, "in") if request.headers.get("authorization") == "Bearer t0ken" else (401, {}, "out"))
    for _ in range(2):
        made = output(run(states, http_task(f"{elsewhere.endpoint}/secured", connection="oauth")))
        assert made["ResponseBody"] == "in"
    assert tokens == [{"grant_type": "client_credentials", "client_id": "me", "client_secret": "secret"}]


def test_apis_are_invoked_where_the_setting_says(states, elsewhere):
    elsewhere.answers["POST /restapis/abc/live/pets?k=v"] = lambda request: (
        200, {"Content-Type": "application/json"}, request.body)
    made = output(run(states, task("apigateway:invoke", {
        "ApiEndpoint": "abc.execute-api.us-east-1.amazonaws.com", "Method": "POST", "Stage": "live", "Path": "pets",
        "QueryParameters": {"k": ["v"]}, "Headers": {"X-Kind": ["a"]}, "RequestBody": "HelloWorld",
        "AuthType": "IAM_ROLE"})))
    assert (made["StatusCode"], made["ResponseBody"]) == (200, "HelloWorld")
    request = elsewhere.last()
    assert request.headers["x-kind"] == "a"
    assert "/execute-api/aws4_request" in request.headers["authorization"]
    error, _ = failure(run(states, task("apigateway:invoke", {"ApiEndpoint": "abc", "Method": "GET"})))
    assert error == "ApiGateway.404"


def test_models_are_asked_in_openais_words(states, elsewhere):
    elsewhere.answers["POST /v1/chat/completions"] = (200, {}, {
        "id": "c", "choices": [{"message": {"content": "ho"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    made = output(run(states, task("bedrock:invokeModel", {
        "ModelId": "anthropic.claude-3-haiku-20240307-v1:0",
        "Body": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5,
                 "messages": [{"role": "user", "content": "hi"}]}})))
    assert made["ContentType"] == "application/json"
    assert made["Body"]["content"] == [{"type": "text", "text": "ho"}]
    assert elsewhere.last().json["messages"] == [{"role": "user", "content": "hi"}]


def test_parameters_that_do_not_fit_fail_the_state(states):
    error, cause = failure(run(states, task("apigateway:invoke", {
        "ApiEndpoint.$": "$.at", "Method": "GET", "Headers": {"X": "y"}}), {"at": "x"}))
    assert error == "States.Runtime"
    assert "could not be used to start the Task: [The value of the field 'Headers' has an invalid format]" in cause


def test_objects_are_put_and_read(server, states, account):
    s3 = server.client("s3", account=account)
    s3.create_bucket(Bucket="results")
    made = output(run(states, task("aws-sdk:s3:putObject", {"Bucket": "results", "Key": "a/b", "Body": {"x": 1}})))
    assert json.loads(s3.get_object(Bucket="results", Key="a/b")["Body"].read()) == {"x": 1}
    assert made["ETag"]
    read = output(run(states, task("aws-sdk:s3:getObject", {"Bucket": "results", "Key": "a/b"})))
    assert (read["Body"], read["ContentLength"], read["Metadata"]) == ('{"x":1}', 7, {})
    error, cause = failure(run(states, task("aws-sdk:s3:getObject", {"Bucket": "results", "Key": "none"})))
    assert error == "S3.NoSuchKeyException", cause


def test_the_tasks_role_signs(states, elsewhere):
    elsewhere.answers["ListSecrets"] = (200, ID, {"SecretList": []})
    definition = task("aws-sdk:secretsmanager:listSecrets", {},
                      Credentials={"RoleArn": "arn:aws:iam::222222222222:role/other"})
    assert output(run(states, definition)) == {"SecretList": []}
    assert "Credential=222222222222/" in elsewhere.last().headers["authorization"]
