"""Asking function URLs, over plain sockets so that nothing is hidden."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from typing import Any

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass
class Response:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def open_to_all(client, name: str, qualifier: str | None = None, **config) -> str:
    """Gives a function a URL that everybody may call; returns it."""
    more = {"Qualifier": qualifier} if qualifier else {}
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE", **more, **config)["FunctionUrl"]
    client.add_permission(FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*",
                          FunctionUrlAuthType="NONE", **more)
    return url


def connect(url: str, timeout: float = 30) -> http.client.HTTPConnection:
    """A connection to the server of a URL. Not every resolver knows names below localhost, curl and browsers do."""
    return http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(url).port, timeout=timeout)


def ask(url: str, path: str = "/", method: str = "GET", body: bytes | str | None = None,
        headers: dict[str, str] | None = None) -> Response:
    connection = connect(url)
    try:
        connection.request(method, path, body, {"Host": urllib.parse.urlsplit(url).netloc, **(headers or {})})
        answer = connection.getresponse()
        return Response(answer.status, answer.read(), answer.headers)
    finally:
        connection.close()


def by_path(server, url: str) -> str:
    """The same URL in the form that needs no name."""
    return f"{server.endpoint}/_firn/url/{urllib.parse.urlsplit(url).netloc.split('.')[0]}"


def signed(url: str, *, key: str, secret: str = "test", token: str | None = None, method: str = "GET",
           body: bytes = b"", presigned: bool = False, service: str = "lambda", region: str = "us-east-1"):
    """Path and headers of a signed request."""
    request = AWSRequest(method, url, data=body)
    credentials = Credentials(key, secret, token)
    signer = SigV4QueryAuth(credentials, service, region) if presigned else SigV4Auth(credentials, service, region)
    signer.add_auth(request)
    parts = urllib.parse.urlsplit(request.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return path, dict(request.headers.items())
