"""The aws CLI's own commands for S3."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture
def aws(server, account, tmp_path):
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1", "AWS_PAGER": "",
    }

    def run(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([AWS, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=120)
        assert (done.returncode == 0) == ok, done.stderr
        return done

    run.folder = tmp_path
    return run


@pytest.mark.timeout(300)
def test_files_go_there_and_back(aws, account):
    bucket = f"s3://cli-{account}"
    aws("s3", "mb", bucket)
    assert f"cli-{account}" in aws("s3", "ls").stdout
    here = aws.folder / "here"
    (here / "sub/deep").mkdir(parents=True)
    (here / "one.txt").write_text("one")
    (here / "sub/zwei ü.bin").write_bytes(os.urandom(10_000))
    (here / "sub/deep/large").write_bytes(os.urandom(17 << 20))
    # S3 counts whole seconds: a file that is written and copied within one is newer than its copy.
    earlier = time.time() - 60
    for path in (path for path in here.rglob("*") if path.is_file()):
        os.utime(path, (earlier, earlier))
    aws("s3", "sync", "here", f"{bucket}/copy")
    listed = aws("s3", "ls", f"{bucket}/copy/").stdout
    assert "PRE sub/" in listed and "one.txt" in listed
    assert "Total Objects: 3" in aws("s3", "ls", bucket, "--recursive", "--summarize").stdout
    # Nothing has changed, so nothing is copied.
    assert aws("s3", "sync", "here", f"{bucket}/copy").stdout == ""
    aws("s3", "sync", f"{bucket}/copy", "back")
    for path in here.rglob("*"):
        if path.is_file():
            assert (aws.folder / "back" / path.relative_to(here)).read_bytes() == path.read_bytes(), path
    (here / "one.txt").unlink()
    aws("s3", "sync", "here", f"{bucket}/copy", "--delete")
    aws("s3", "cp", f"{bucket}/copy/one.txt", "-", ok=False)
    aws("s3", "mv", f"{bucket}/copy/sub/deep/large", f"{bucket}/moved")
    aws("s3", "cp", f"{bucket}/moved", "moved")
    assert (aws.folder / "moved").read_bytes() == (here / "sub/deep/large").read_bytes()
    assert aws("s3", "presign", f"{bucket}/moved").stdout.startswith("http://")
    aws("s3", "rb", bucket, ok=False)
    aws("s3", "rm", bucket, "--recursive")
    aws("s3", "rb", bucket)
    assert f"cli-{account}" not in aws("s3", "ls").stdout
