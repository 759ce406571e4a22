from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from server import Server  # noqa: E402

_accounts = itertools.count(100_000_000_000)


def pytest_configure(config):
    # The tests must not pick up a person's own settings.
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The server that most tests share; each test works in an account of its own."""
    running = Server(tmp_path_factory.mktemp("firn") / "data").start()
    yield running
    assert running.alive(), f"the shared server died:\n{running.log()}"
    assert running.stop() == 0


@pytest.fixture
def own_server(tmp_path):
    """Makes servers for tests that stop, kill or configure one."""
    started: list[Server] = []

    def make(*args: str, data: Path | None = None, env: dict[str, str] | None = None) -> Server:
        running = Server(data or tmp_path / f"data{len(started)}", args, env)
        started.append(running)
        return running.start()

    yield make
    for running in started:
        if running.alive():
            running.stop()


@pytest.fixture
def account() -> str:
    return str(next(_accounts))


@pytest.fixture
def functions(server, account):
    """A Lambda client in a fresh account of the shared server."""
    return server.client("lambda", account=account)


@pytest.fixture
def logs(server, account):
    return server.client("logs", account=account)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the server's log under a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and (running := getattr(item, "funcargs", {}).get("server")):
        report.sections.append(("firn's log", running.log()[-3000:]))
