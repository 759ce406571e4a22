"""The workflow examples, as their own scripts run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from server import ROOT, binary

# Deploying functions and running them takes some cold starts.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def example(server, account, tmp_path):
    tools = Path(sys.executable).parent
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path), "FIRN": str(binary()), "OUT": str(tmp_path),
        "FIRN_ENDPOINT": server.endpoint, "AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true", "BUCKET": f"library-{account}",
    }

    def run(name: str) -> tuple[list, str]:
        done = subprocess.run([ROOT / "examples" / name / "run"], env=environment, capture_output=True, text=True,
                              timeout=200)
        assert done.returncode == 0, (done.stdout, done.stderr)
        outputs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return outputs, done.stdout + done.stderr

    def picture(name: str) -> str:
        xml.etree.ElementTree.parse(tmp_path / name)
        return (tmp_path / name).read_text()

    run.picture = picture
    return run


def test_order(example):
    outputs, told = example("workflow-order")
    assert outputs == [
        {"status": "shipped", "items": 2, "paid": 54, "attempts": 1, "label": "For Ada"},
        {"status": "shipped", "items": 1, "paid": 12, "attempts": 2, "label": "For Bob"},
        {"status": "waiting", "missing": ["samovar"]},
    ]
    assert "OrderCancelled: The card was refused: no 30 on this card" in told
    drawn = example.picture("order.svg")
    assert 'class="parallel cluster caught"' in drawn and 'class="fail failed"' in drawn


def test_order_without_a_server():
    told = subprocess.run([binary(), "states", "test", "--cases", ROOT / "examples/workflow-order/order.tests.yaml"],
                          capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, (told.stdout, told.stderr)
    assert "3 passed, 0 failed" in told.stdout


def test_callback(example):
    _, told = example("workflow-callback")
    assert "execution succeeded" in told
    assert '{"bought":"nothing","reason":"too expensive"}' in told.replace(" ", "").replace("tooexpensive", "too expensive")
    assert 'class="task caught"' in example.picture("approval.svg")


def test_power_tuning(example):
    outputs, told = example("workflow-power-tuning")
    assert (outputs[0]["rounds"], outputs[0]["measured"]) == (3, 9)
    assert set(outputs[0]["best_ms"]) == {"1000", "20000", "400000"}
    assert "sizes are positive" in told
    assert 'class="map cluster succeeded"' in example.picture("tuning.svg")
    assert 'class="map cluster caught"' in example.picture("tuning-failed.svg")


def test_distributed_map(example):
    outputs, told = example("workflow-distributed-map")
    assert outputs == [{"books": 1000, "average": 3}]
    assert "SUCCEEDED\t1000\t1000\t0" in told
    assert "1000 items" in example.picture("books.svg")
