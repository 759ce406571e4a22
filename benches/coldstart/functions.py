"""The functions that are measured: how each is deployed and what it is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from packages import FUNCTIONS


@dataclass(frozen=True)
class Function:
    """`source` is a folder in `functions/`; several functions may share it."""

    name: str
    source: str
    runtime: str
    handler: str
    event: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    memory_mb: int = 512
    # What the restore of it has to reach, in milliseconds: median and 99th percentile; the same when parked.
    goal: tuple[float, float] | None = None
    parked_goal: tuple[float, float] = (1.5, 4)
    # Environments at once where many are measured.
    many: int = 100


def spring(name: str, goal: tuple[float, float], **variables: str) -> Function:
    return Function(
        name,
        "java-spring",
        "java17",
        "org.springframework.cloud.function.adapter.aws.FunctionInvoker::handleRequest",
        event={"id": 17},
        variables={"MAIN_CLASS": "bench.Application", "SPRING_CLOUD_FUNCTION_DEFINITION": "order", **variables},
        memory_mb=1024,
        goal=goal,
        parked_goal=(8, 16),
        many=40,
    )


ALL = (
    Function("python-boto3", "python-boto3", "python3.11", "app.handler", goal=(5, 10)),
    Function("python-awslambdaric", "python-awslambdaric", "provided.al2023", "app.handler", goal=(5, 10)),
    Function("python-pandas", "python-pandas", "python3.11", "app.handler", many=50),
    Function(
        "node-express",
        "node-express",
        "nodejs20.x",
        "index.handler",
        event=json.loads((FUNCTIONS / "node-express/event.json").read_text()),
    ),
    Function("node-aws-sdk", "node-aws-sdk", "nodejs20.x", "index.handler", goal=(6, 12)),
    Function("java-plain", "java-plain", "java17", "bench.Handler::handleRequest", parked_goal=(8, 16), many=40),
    spring("java-spring", (45, 90)),
    spring("java-spring-primed", (15, 30), FIRN_SNAPSTART_PRIMING=json.dumps([{"id": 1}, {"id": 2}, {"id": 3}])),
    Function("rust-provided", "rust-provided", "provided.al2023", "bootstrap", memory_mb=128, goal=(3, 6)),
)
