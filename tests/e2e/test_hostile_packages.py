"""Packages built to break out, to swell up or to confuse: each is refused, and nothing is left behind."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from botocore.exceptions import ClientError
from functions import NOOP, create, invoke, python


def archive(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for entry, content in entries:
            out.writestr(entry, content)
    return buffer.getvalue()


def symlink(name: str, target: str) -> bytes:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    return archive([("app.py", b"def handler(e, c): return 1\n"), (entry, target.encode())])


def encrypted() -> bytes:
    data = bytearray(NOOP)
    for at in range(len(data) - 4):
        if data[at:at + 4] == b"PK\x03\x04":
            data[at + 6] |= 1
        elif data[at:at + 4] == b"PK\x01\x02":
            data[at + 8] |= 1
    return bytes(data)


def bomb() -> bytes:
    """260 MB of zeros in some 260 KB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for part in range(26):
            with out.open(f"zeros{part}", "w") as member:
                for _ in range(10):
                    member.write(bytes(1 << 20))
    return buffer.getvalue()


def liar() -> bytes:
    """Says in every header that its 100 MB member is one byte long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(bytes(100 << 20)) + packer.flush()
    name = b"app.py"
    head = struct.pack("<4sHHHHHLLLHH", b"PK\x03\x04", 20, 0, 8, 0, 0x21, 0, len(body), 1, len(name), 0)
    central = struct.pack("<4sHHHHHHLLLHHHHHLL", b"PK\x01\x02", 0x314, 20, 0, 8, 0, 0x21, 0, len(body), 1,
                          len(name), 0, 0, 0, 0, 0o100644 << 16, 0)
    start = len(head) + len(name) + len(body)
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + len(name), start, 0)
    return head + name + body + central + name + end


HOSTILE = {
    "not a zip": b"this is no zip at all",
    "empty file": b"\0",
    "truncated": NOOP[:-30],
    "parent traversal": archive([("../../escape.py", b"x")]),
    "deep traversal": archive([("a/../../escape.py", b"x")]),
    "absolute path": archive([("/etc/escape", b"x")]),
    "symlink out, absolute": symlink("out", "/etc/passwd"),
    "symlink out, relative": symlink("out", "../../../../etc/passwd"),
    "encrypted": encrypted(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_package_is_refused(functions, what):
    with pytest.raises(ClientError) as raised:
        create(functions, "hostile", HOSTILE[what], wait=False)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["Error"]["Code"] == "InvalidParameterValueException"
    assert functions.list_functions()["Functions"] == []


def test_what_is_no_zip_gets_awss_words(functions):
    with pytest.raises(ClientError) as raised:
        create(functions, "hostile", b"this is no zip at all", wait=False)
    assert raised.value.response["Error"]["Message"] == "Could not unzip uploaded file. Please check your file, then try to upload again."


def test_a_bomb_is_refused_with_awss_words(functions):
    with pytest.raises(ClientError) as raised:
        create(functions, "bomb", bomb(), wait=False)
    assert raised.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert raised.value.response["Error"]["Message"] == "Unzipped size must be smaller than 262144000 bytes"


def test_a_header_that_lies_about_sizes_is_refused(functions):
    with pytest.raises(ClientError) as raised:
        create(functions, "liar", liar(), wait=False)
    assert raised.value.response["Error"]["Code"] == "InvalidParameterValueException"


def test_an_update_with_a_hostile_package_leaves_the_old_one(functions):
    create(functions, "kept")
    with pytest.raises(ClientError):
        functions.update_function_code(FunctionName="kept", ZipFile=HOSTILE["parent traversal"])
    assert invoke(functions, "kept", 4).json == 4
    assert functions.get_function(FunctionName="kept")["Configuration"]["LastUpdateStatus"] == "Successful"


def test_a_symlink_inside_the_package_works(functions):
    entry = zipfile.ZipInfo("data/link.txt")
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    package = archive([
        ("app.py", b"def handler(e, c):\n    return open('/var/task/data/link.txt').read()\n"),
        ("data/real.txt", b"inside"),
        (entry, b"real.txt"),
    ])
    create(functions, "linked", package)
    assert invoke(functions, "linked").json == "inside"


def test_names_with_spaces_and_unicode_arrive_as_they_are(functions):
    create(functions, "unicode", python("""
        import os
        def handler(event, context):
            return sorted(os.listdir("/var/task/daten"))
    """, **{"daten/größe 1.txt": "a", "daten/雪.txt": "b"}))
    assert invoke(functions, "unicode").json == ["größe 1.txt", "雪.txt"]


def test_a_package_over_50_mb_zipped_is_refused(functions):
    import os
    package = archive([("app.py", os.urandom(52_428_800))])
    with pytest.raises(ClientError) as raised:
        create(functions, "huge", package, wait=False)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
