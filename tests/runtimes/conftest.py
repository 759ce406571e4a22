import os
import pathlib
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

RUNTIMES = pathlib.Path(__file__).resolve().parents[2] / "runtimes"


@pytest.fixture
def task(tmp_path):
    """Writes a function package; returns its directory."""

    def write(files):
        root = tmp_path / "task"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return root

    return write
