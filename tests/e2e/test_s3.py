"""S3 with boto3: objects and buckets, listings, multipart uploads, events, permissions, crashes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
import time
import urllib.error
import urllib.request
import zlib

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError
from functions import NOOP, ROLE, create, invoke, python, settle, zipped

MIB = 1 << 20


def code(error) -> str:
    return error.value.response["Error"]["Code"]


def status(error) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
def s3(server, account):
    return server.client("s3", account=account)


@pytest.fixture
def bucket(s3, account):
    name = f"bucket-{account}"
    s3.create_bucket(Bucket=name)
    return name


def read(s3, bucket: str, key: str, **more) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def keys(s3, bucket: str, **more) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **more)
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


# --- buckets


def test_the_life_of_a_bucket(s3, account):
    name = f"life-{account}"
    assert s3.create_bucket(Bucket=name)["Location"] == f"/{name}"
    s3.create_bucket(Bucket=name)  # One's own, in us-east-1: no error, as on AWS.
    head = s3.head_bucket(Bucket=name)
    assert head["BucketRegion"] == "us-east-1"
    listed = s3.list_buckets()
    assert [found["Name"] for found in listed["Buckets"]] == [name]
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    with pytest.raises(ClientError) as refused:
        s3.delete_bucket(Bucket=name)
    assert (code(refused), status(refused)) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    with pytest.raises(ClientError) as gone:
        s3.head_bucket(Bucket=name)
    assert status(gone) == 404
    with pytest.raises(ClientError) as gone:
        s3.list_objects_v2(Bucket=name)
    error = gone.value.response["Error"]
    assert error == {"Code": "NoSuchBucket", "Message": "The specified bucket does not exist", "BucketName": name}
    # The name is free again, and the bucket empty.
    s3.create_bucket(Bucket=name)
    assert keys(s3, name) == []


def test_regions_of_buckets(server, account):
    west = server.client("s3", account=account, region="eu-west-1")
    name = f"west-{account}"
    west.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert west.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"
    with pytest.raises(ClientError) as refused:
        west.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert code(refused) == "BucketAlreadyOwnedByYou"


@pytest.mark.parametrize("name", ["Upper", "a_b", "10.0.0.1", "ab", "a..b", "x" * 64, "xn--a"])
def test_names_that_are_none(server, account, name):
    # boto3 would refuse some of them itself.
    request = urllib.request.Request(f"{server.endpoint}/{name}", method="PUT", headers={
        "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/s3/aws4_request, "
                         "SignedHeaders=host, Signature=x"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 400 and b"<Code>InvalidBucketName</Code>" in refused.value.read()


def test_fresh_buckets_answer_as_on_aws(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    acl = s3.get_bucket_acl(Bucket=bucket)
    assert [grant["Permission"] for grant in acl["Grants"]] == ["FULL_CONTROL"]
    assert acl["Grants"][0]["Grantee"] == {"Type": "CanonicalUser", "ID": acl["Owner"]["ID"]}
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    notification = s3.get_bucket_notification_configuration(Bucket=bucket)
    assert "LambdaFunctionConfigurations" not in notification
    for operation, expected in [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
    ]:
        with pytest.raises(ClientError) as absent:
            getattr(s3, operation)(Bucket=bucket)
        assert (code(absent), status(absent)) == (expected, 404)


def test_what_is_not_supported_says_so(s3, bucket):
    for call in [
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": [{"ID": "r", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]},
        ),
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="aws:kms"),
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", StorageClass="DEEP_ARCHIVE"),
    ]:
        with pytest.raises(ClientError) as refused:
            call()
        assert (code(refused), status(refused)) == ("NotImplemented", 501)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", ACL="public-read")
    assert code(refused) == "AccessControlListNotSupported"
    assert keys(s3, bucket) == []


def test_tags_of_buckets(s3, bucket):
    tags = [{"Key": "a", "Value": "1"}, {"Key": "ü", "Value": ""}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    with pytest.raises(ClientError) as absent:
        s3.get_bucket_tagging(Bucket=bucket)
    assert code(absent) == "NoSuchTagSet"


# --- objects


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (16 << 10) + 1, 3 * MIB + 7])
def test_an_object_comes_back_as_it_went(s3, bucket, size):
    body = os.urandom(size)
    put = s3.put_object(
        Bucket=bucket, Key="dir/k", Body=body, ContentType="text/x", CacheControl="no-cache", ContentEncoding="x",
        ContentDisposition="inline", ContentLanguage="de", Metadata={"one": "1", "two": "zwei"},
    )
    etag = f'"{hashlib.md5(body).hexdigest()}"'
    assert put["ETag"] == etag and put["ServerSideEncryption"] == "AES256"
    assert put["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    got = s3.get_object(Bucket=bucket, Key="dir/k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="dir/k")
    for answer in (got, head):
        assert answer["ETag"] == etag
        assert answer["ContentLength"] == size
        assert answer["ContentType"] == "text/x"
        assert answer["CacheControl"] == "no-cache"
        assert answer["ContentEncoding"] == "x"
        assert answer["ContentDisposition"] == "inline"
        assert answer["ContentLanguage"] == "de"
        assert answer["Metadata"] == {"one": "1", "two": "zwei"}
        assert answer["AcceptRanges"] == "bytes"
        assert answer["LastModified"].microsecond == 0
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"] and "ChecksumCRC32" not in head
    s3.delete_object(Bucket=bucket, Key="dir/k")
    s3.delete_object(Bucket=bucket, Key="dir/k")
    with pytest.raises(ClientError) as gone:
        s3.get_object(Bucket=bucket, Key="dir/k")
    error = gone.value.response["Error"]
    assert error == {"Code": "NoSuchKey", "Message": "The specified key does not exist.", "Key": "dir/k"}


@pytest.mark.parametrize("size", [10, 100_000])
def test_ranges(s3, bucket, size):
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for asked, expected in [
        ("bytes=0-0", body[:1]), ("bytes=3-5", body[3:6]), ("bytes=5-", body[5:]), ("bytes=-4", body[-4:]),
        (f"bytes=2-{size * 2}", body[2:]), ("bytes=-999999", body),
    ]:
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert got["Body"].read() == expected, asked
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=3-5")["ContentRange"] == f"bytes 3-5/{size}"
    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size}-")
    assert (code(refused), status(refused)) == ("InvalidRange", 416)
    # Nonsense and several ranges are no ranges.
    for asked in ("bytes=5-3", "lines=1-2", "bytes=0-1,4-5"):
        assert read(s3, bucket, "k", Range=asked) == body


def test_conditions_of_reads(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    etag, modified = put["ETag"], s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert read(s3, bucket, "k", IfMatch=etag) == b"data"
    assert read(s3, bucket, "k", IfNoneMatch='"other"') == b"data"
    for condition, expected in [
        ({"IfMatch": '"other"'}, 412), ({"IfNoneMatch": etag}, 304), ({"IfModifiedSince": modified}, 304),
        ({"IfUnmodifiedSince": modified.replace(year=2000)}, 412),
    ]:
        for operation in (s3.get_object, s3.head_object):
            with pytest.raises(ClientError) as refused:
                operation(Bucket=bucket, Key="k", **condition)
            assert status(refused) == expected, condition


def test_conditions_of_writes(s3, bucket):
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert (code(refused), status(refused)) == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first["ETag"])
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"4", IfMatch=first["ETag"])
    assert code(refused) == "PreconditionFailed"
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="absent", Body=b"", IfMatch=first["ETag"])
    assert code(refused) == "NoSuchKey"
    assert read(s3, bucket, "k") == b"3"


@pytest.mark.timeout(120)
def test_of_many_who_make_an_object_one_wins(server, account, bucket):
    won = []

    def make(number: int) -> None:
        client = server.client("s3", account=account)
        try:
            client.put_object(Bucket=bucket, Key="lock", Body=str(number), IfNoneMatch="*")
            won.append(number)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"

    threads = [threading.Thread(target=make, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read(server.client("s3", account=account), bucket, "lock") == str(won[0]).encode()


def test_what_was_sent_must_be_what_was_meant(s3, bucket):
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"data", ContentMD5=base64.b64encode(b"0" * 16).decode())
    assert code(refused) == "BadDigest"
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"data", ChecksumSHA256=base64.b64encode(b"0" * 32).decode())
    assert code(refused) == "BadDigest"
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"data", ContentMD5="nonsense")
    assert code(refused) == "InvalidDigest"
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"k": "x" * 3000})
    assert code(refused) == "MetadataTooLarge"
    assert keys(s3, bucket) == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_by_choice(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"data", ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    digest = {
        "CRC32": zlib.crc32(b"data").to_bytes(4, "big"),
        "SHA1": hashlib.sha1(b"data").digest(),
        "SHA256": hashlib.sha256(b"data").digest(),
    }[algorithm]
    assert put[name] == base64.b64encode(digest).decode()
    got = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[name] == put[name] and got["ChecksumType"] == "FULL_OBJECT"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectSize"])
    assert attributes["Checksum"][name] == put[name]
    assert (attributes["ObjectSize"], attributes["ETag"]) == (4, hashlib.md5(b"data").hexdigest())


def test_without_a_checksum_s3_takes_its_own(server, account, bucket):
    plain = server.client("s3", account=account, request_checksum_calculation="when_required")
    assert "ChecksumCRC64NVME" in plain.put_object(Bucket=bucket, Key="k", Body=b"123456789")
    got = plain.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert base64.b64decode(got["ChecksumCRC64NVME"]).hex() == "ae8b14860a799888"


def test_bodies_in_chunks_with_a_trailer(server, account, bucket):
    """As SDKs send streams whose checksum they do not know yet."""
    body = os.urandom(200_000)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()

    def send(key: str, checksum: str, cut: int = 0):
        framed = b""
        for at in range(0, len(body), 65_536):
            chunk = body[at:at + 65_536]
            framed += b"%x\r\n%s\r\n" % (len(chunk), chunk)
        framed += b"0\r\nx-amz-checksum-crc32:" + checksum.encode() + b"\r\n\r\n"
        framed = framed[:len(framed) - cut]
        request = urllib.request.Request(f"{server.endpoint}/{bucket}/{key}", data=framed, method="PUT", headers={
            "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/s3/aws4_request, "
                             "SignedHeaders=host, Signature=x",
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(len(body)), "x-amz-trailer": "x-amz-checksum-crc32",
            "Content-Encoding": "aws-chunked,gzip", "Content-Type": "x/y",
        })
        return urllib.request.urlopen(request, timeout=30)

    assert send("whole", crc).headers["x-amz-checksum-crc32"] == crc
    s3 = server.client("s3", account=account)
    got = s3.get_object(Bucket=bucket, Key="whole")
    assert got["Body"].read() == body and got["ContentEncoding"] == "gzip"
    for key, checksum, cut in [("wrong", "AAAAAA==", 0), ("cut", crc, 1000)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            send(key, checksum, cut)
        assert refused.value.code == 400
    assert keys(s3, bucket) == ["whole"]


HOSTILE = [
    "../x", "../../../../etc/passwd", "a", "a/b", "a/b/c", "a/", "/", "//", "/abs", ".", "..", "./.", "a//b", "a/../b",
    " ", "a b", "a+b", "a%2Fb", "%00", "a&b=c?d#e", "<k>&amp;\"'", "ü/日本/😀", "\\windows\\..", "x" * 1024,
    ("n" * 255 + "/") * 4, "trailing.", "CON", "~", "*?[", "\u200b", "\x01\x1f", "\n", "e\u0301", "é",
]


def test_keys_are_only_names(server, s3, bucket):
    for key in HOSTILE:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert keys(s3, bucket) == sorted(HOSTILE, key=lambda key: key.encode())
    for key in HOSTILE:
        assert read(s3, bucket, key) == key.encode(), key
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        assert read(s3, bucket, "copy") == key.encode(), key
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="x" * 1025, Body=b"")
    assert code(refused) == "KeyTooLongError"
    # Every file of the buckets has a number for a name.
    names = [name for _, folders, files in os.walk(server.data / "s3") for name in folders + files]
    assert all(set(name) <= set("0123456789abcdef") or name == "objects" for name in names), names
    # Quietly, because the XML of an answer cannot carry all of these names.
    objects = [{"Key": key} for key in [*HOSTILE, "copy"]]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    assert keys(s3, bucket) == []


def test_delete_many(s3, bucket):
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
    wanted = [{"Key": "k0"}, {"Key": "k1"}, {"Key": "absent"}, {"Key": "k0"}, {"Key": "k2", "VersionId": "nonsense"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [deleted["Key"] for deleted in answer["Deleted"]] == ["k0", "k1", "absent", "k0"]
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("k2", "InvalidArgument")]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k3"}], "Quiet": True})
    assert "Deleted" not in quiet and "Errors" not in quiet
    assert keys(s3, bucket) == ["k2", "k4"]
    with pytest.raises(ClientError) as refused:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(number)} for number in range(1001)]})
    assert code(refused) == "MalformedXML"


@pytest.mark.parametrize("size", [5, 100_000])
def test_copies(s3, bucket, size):
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="from", Body=body, ContentType="a/b", Metadata={"m": "1"}, Tagging="t=1")
    source = {"Bucket": bucket, "Key": "from"}
    made = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)
    assert made["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    copied = s3.get_object(Bucket=bucket, Key="to")
    assert (copied["Body"].read(), copied["ContentType"], copied["Metadata"]) == (body, "a/b", {"m": "1"})
    assert s3.get_object_tagging(Bucket=bucket, Key="to")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket=bucket, Key="to", CopySource=source, MetadataDirective="REPLACE", ContentType="c/d",
                   Metadata={"n": "2"}, TaggingDirective="REPLACE", Tagging="u=2")
    copied = s3.get_object(Bucket=bucket, Key="to")
    assert (copied["Body"].read(), copied["ContentType"], copied["Metadata"]) == (body, "c/d", {"n": "2"})
    # Onto itself: refused without a change, and otherwise only what is said about it is new.
    with pytest.raises(ClientError) as refused:
        s3.copy_object(Bucket=bucket, Key="from", CopySource=source)
    assert code(refused) == "InvalidRequest"
    s3.copy_object(Bucket=bucket, Key="from", CopySource=source, MetadataDirective="REPLACE", Metadata={"x": "y"})
    assert s3.head_object(Bucket=bucket, Key="from")["Metadata"] == {"x": "y"}
    assert read(s3, bucket, "from") == body
    with pytest.raises(ClientError) as absent:
        s3.copy_object(Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "absent"})
    assert code(absent) == "NoSuchKey"
    with pytest.raises(ClientError) as refused:
        s3.copy_object(Bucket=bucket, Key="x", CopySource=source, CopySourceIfMatch='"other"')
    assert code(refused) == "PreconditionFailed"


def test_tags_of_objects(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&b%20c=x+y")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [
        {"Key": "a", "Value": "1"}, {"Key": "b c", "Value": "x y"}]
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "z", "Value": ""}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "z", "Value": ""}]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with pytest.raises(ClientError) as refused:
        s3.put_object_tagging(
            Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": str(number), "Value": ""} for number in range(11)]})
    assert code(refused) == "InvalidTag"


# --- listings


def test_listings_roll_up_and_go_on(s3, bucket):
    names = ["a", "b/1", "b/2", "b/c/3", "d/4", "e", "f/", "f/5"]
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"")
    assert keys(s3, bucket) == names
    assert keys(s3, bucket, Prefix="b/") == ["b/1", "b/2", "b/c/3"]
    assert keys(s3, bucket, StartAfter="b/2") == names[3:]
    for size in (1, 2, 3, 1000):
        for listing in ("list_objects_v2", "list_objects"):
            found, rolled = [], []
            pages = s3.get_paginator(listing).paginate(
                Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size})
            for page in pages:
                entries = page.get("Contents", []) + page.get("CommonPrefixes", [])
                assert len(entries) <= size
                found += [entry["Key"] for entry in page.get("Contents", [])]
                rolled += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
            assert (found, rolled) == (["a", "e"], ["b/", "d/", "f/"]), (listing, size)
    below = s3.list_objects_v2(Bucket=bucket, Prefix="b/", Delimiter="/")
    assert [entry["Key"] for entry in below["Contents"]] == ["b/1", "b/2"]
    assert [entry["Prefix"] for entry in below["CommonPrefixes"]] == ["b/c/"]
    assert below["KeyCount"] == 3
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["IsTruncated"] is False
    versions = s3.list_object_versions(Bucket=bucket, Prefix="b/1")["Versions"]
    assert [(found["Key"], found["VersionId"], found["IsLatest"]) for found in versions] == [("b/1", "null", True)]
    with pytest.raises(ClientError) as refused:
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="!nonsense!")
    assert code(refused) == "InvalidArgument"


# --- multipart uploads


@pytest.mark.timeout(180)
def test_an_object_in_parts(s3, bucket):
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), b"the end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ContentType="x/y", Metadata={"m": "1"})
    there = {"Bucket": bucket, "Key": "big", "UploadId": upload["UploadId"]}
    assert [found["Key"] for found in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["big"]
    s3.upload_part(**there, PartNumber=3, Body=b"not this")
    etags = {
        number: s3.upload_part(**there, PartNumber=number, Body=part)["ETag"]
        for number, part in [(7, parts[2]), (3, parts[1]), (1, parts[0])]
    }
    listed = s3.list_parts(**there)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 5 * MIB), (3, 5 * MIB + 1), (7, 7)]
    chosen = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 3, 7)]
    for wrong, expected in [
        (list(reversed(chosen)), "InvalidPartOrder"),
        ([{"PartNumber": 2, "ETag": etags[1]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": '"00"'}], "InvalidPart"),
        ([chosen[2], {"PartNumber": 9, "ETag": '"x"'}], "EntityTooSmall"),
    ]:
        if expected == "EntityTooSmall":
            s3.upload_part(**there, PartNumber=9, Body=b"x")
            wrong[1]["ETag"] = hashlib.md5(b"x").hexdigest()
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(**there, MultipartUpload={"Parts": wrong})
        assert code(refused) == expected
    made = s3.complete_multipart_upload(**there, MultipartUpload={"Parts": chosen})
    md5 = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert made["ETag"] == f'"{md5}-3"'
    whole = b"".join(parts)
    got = s3.get_object(Bucket=bucket, Key="big")
    assert got["Body"].read() == whole and got["ContentType"] == "x/y" and got["Metadata"] == {"m": "1"}
    edge = 5 * MIB
    assert read(s3, bucket, "big", Range=f"bytes={edge - 2}-{edge + 1}") == whole[edge - 2:edge + 2]
    assert read(s3, bucket, "big", PartNumber=3) == b"the end"
    assert s3.head_object(Bucket=bucket, Key="big", PartNumber=1)["PartsCount"] == 3
    with pytest.raises(ClientError) as over:
        s3.upload_part(**there, PartNumber=1, Body=b"late")
    assert code(over) == "NoSuchUpload"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    # A part of another object.
    upload = s3.create_multipart_upload(Bucket=bucket, Key="copy")
    there = {"Bucket": bucket, "Key": "copy", "UploadId": upload["UploadId"]}
    copied = s3.upload_part_copy(
        **there, PartNumber=1, CopySource={"Bucket": bucket, "Key": "big"}, CopySourceRange="bytes=10-5242899")
    s3.complete_multipart_upload(
        **there, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]})
    assert read(s3, bucket, "copy") == whole[10:5242900]


def test_an_aborted_upload_leaves_nothing(own_server):
    server = own_server()
    s3 = server.client("s3")
    s3.create_bucket(Bucket="aborted")
    upload = s3.create_multipart_upload(Bucket="aborted", Key="k")
    there = {"Bucket": "aborted", "Key": "k", "UploadId": upload["UploadId"]}
    s3.upload_part(**there, PartNumber=1, Body=os.urandom(MIB))
    assert contents(server) == 1
    s3.abort_multipart_upload(**there)
    with pytest.raises(ClientError) as gone:
        s3.list_parts(**there)
    assert code(gone) == "NoSuchUpload"
    eventually(lambda: contents(server) == 0)
    # Objects that go take their content with them, whole ones and those in parts.
    s3.put_object(Bucket="aborted", Key="k", Body=os.urandom(MIB))
    s3.put_object(Bucket="aborted", Key="k", Body=os.urandom(MIB))
    eventually(lambda: contents(server) == 1)
    s3.delete_object(Bucket="aborted", Key="k")
    eventually(lambda: contents(server) == 0)


def contents(server) -> int:
    return sum(len(files) for _, _, files in os.walk(server.data / "s3"))


def eventually(what, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)


@pytest.mark.timeout(180)
def test_the_transfer_manager_of_boto3(s3, bucket):
    body = os.urandom(20 * MIB)
    s3.upload_fileobj(io.BytesIO(body), bucket, "managed")
    into = io.BytesIO()
    s3.download_fileobj(bucket, "managed", into)
    assert into.getvalue() == body
    assert "-" in s3.head_object(Bucket=bucket, Key="managed")["ETag"]


# --- who may what


def test_accounts_share_names_but_not_objects(server, account, bucket):
    mine, other = server.client("s3", account=account), server.client("s3", account="310000000001")
    mine.put_object(Bucket=bucket, Key="k", Body=b"mine")
    for call in [
        lambda: other.get_object(Bucket=bucket, Key="k"),
        lambda: other.get_object(Bucket=bucket, Key="absent"),
        lambda: other.put_object(Bucket=bucket, Key="k", Body=b"theirs"),
        lambda: other.delete_object(Bucket=bucket, Key="k"),
        lambda: other.list_objects_v2(Bucket=bucket),
        lambda: other.delete_bucket(Bucket=bucket),
        lambda: other.copy_object(Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "k"}),
        lambda: other.create_multipart_upload(Bucket=bucket, Key="x"),
        lambda: other.get_bucket_policy(Bucket=bucket),
    ]:
        with pytest.raises(ClientError) as refused:
            call()
        assert (code(refused), status(refused)) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as taken:
        other.create_bucket(Bucket=bucket)
    assert (code(taken), status(taken)) == ("BucketAlreadyExists", 409)
    assert bucket not in [found["Name"] for found in other.list_buckets()["Buckets"]]
    with pytest.raises(ClientError) as refused:
        mine.get_object(Bucket=bucket, Key="k", ExpectedBucketOwner="310000000001")
    assert code(refused) == "AccessDenied"
    assert read(mine, bucket, "k") == b"mine"


def test_a_policy_lets_others_in_and_keeps_the_own_out(server, s3, bucket):
    other = server.client("s3", account="310000000002")
    s3.put_object(Bucket=bucket, Key="open/k", Body=b"1")
    s3.put_object(Bucket=bucket, Key="shut/k", Body=b"2")
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": "310000000002"}, "Action": ["s3:GetObject"],
         "Resource": f"arn:aws:s3:::{bucket}/open/*"},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}/*"},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    assert read(other, bucket, "open/k") == b"1"
    for call in [
        lambda: other.get_object(Bucket=bucket, Key="shut/k"),
        lambda: other.put_object(Bucket=bucket, Key="open/k", Body=b""),
        lambda: s3.delete_object(Bucket=bucket, Key="open/k"),
    ]:
        with pytest.raises(ClientError) as refused:
            call()
        assert code(refused) == "AccessDenied"
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="open/k")
    elsewhere = json.dumps({"Version": "2012-10-17", "Statement": [{**statements[0], "Resource": "arn:aws:s3:::x/*"}]})
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_policy(Bucket=bucket, Policy=elsewhere)
    assert code(refused) == "MalformedPolicy"


def test_links_and_hosts(server, account, bucket):
    s3 = server.client("s3", account=account, signature_version="s3v4")
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b"}, ExpiresIn=60)
    request = urllib.request.Request(put, data=b"by link", method="PUT")
    assert urllib.request.urlopen(request, timeout=10).status == 200
    get = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "a b", "ResponseContentType": "x/y"}, ExpiresIn=60)
    answer = urllib.request.urlopen(get, timeout=10)
    assert (answer.read(), answer.headers["Content-Type"]) == (b"by link", "x/y")
    # The older kind of link, which boto3 makes without being asked.
    plain = server.client("s3", account=account)
    old = plain.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"}, ExpiresIn=60)
    assert urllib.request.urlopen(old, timeout=10).read() == b"by link"
    expired = get.replace("X-Amz-Date=2", "X-Amz-Date=1")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(expired, timeout=10)
    assert refused.value.code == 403 and b"Request has expired" in refused.value.read()
    # Virtual hosts: the bucket is in the name.
    for host in (f"{bucket}.s3.localhost", f"{bucket}.localhost", f"{bucket}.s3.eu-west-1.amazonaws.com"):
        request = urllib.request.Request(f"{server.endpoint}/a%20b", headers={
            "Host": host, "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/s3/aws4_request, "
                                           "SignedHeaders=host, Signature=x"})
        assert urllib.request.urlopen(request, timeout=10).read() == b"by link", host


def test_enforcing_signatures_are_checked(own_server, tmp_path):
    import subprocess

    from server import binary
    data = tmp_path / "enforced"
    made = subprocess.run(
        [binary(), "keys", "create", "--data", str(data), "--json"], capture_output=True, text=True, timeout=60)
    key = json.loads(made.stdout)
    names = {name.lower().replace("_", ""): value for name, value in key.items()}
    access, secret = names["accesskeyid"], names["secretaccesskey"]
    server = own_server("--auth", "enforce", data=data)
    s3 = server.client("s3", key=access, secret=secret, signature_version="s3v4")
    s3.create_bucket(Bucket="enforced")
    s3.put_object(Bucket="enforced", Key="k", Body=b"data")
    assert read(s3, "enforced", "k") == b"data"
    s3.upload_fileobj(io.BytesIO(os.urandom(9 * MIB)), "enforced", "big")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": "enforced", "Key": "k"}, ExpiresIn=60)
    assert urllib.request.urlopen(link, timeout=10).read() == b"data"
    wrong = server.client("s3", key=access, secret="wrong", signature_version="s3v4")
    nobody = server.client("s3", key="AKIANOBODY", signature_version="s3v4")
    unsigned = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1",
                            config=Config(signature_version=UNSIGNED))
    for client, expected in [
        (wrong, "SignatureDoesNotMatch"), (nobody, "InvalidAccessKeyId"), (unsigned, "AccessDenied"),
    ]:
        with pytest.raises(ClientError) as refused:
            client.get_object(Bucket="enforced", Key="k")
        assert (code(refused), status(refused)) == (expected, 403)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(link.replace("/k?", "/big?"), timeout=10)
    assert refused.value.code == 403
    # Who is let in without a signature, says the policy, once public policies are not blocked.
    public = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::enforced/k"}]})
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_policy(Bucket="enforced", Policy=public)
    assert code(refused) == "AccessDenied"
    s3.delete_public_access_block(Bucket="enforced")
    s3.put_bucket_policy(Bucket="enforced", Policy=public)
    assert read(unsigned, "enforced", "k") == b"data"
    with pytest.raises(ClientError):
        unsigned.get_object(Bucket="enforced", Key="big")


# --- functions


@pytest.mark.timeout(180)
def test_code_comes_from_buckets(server, s3, bucket, functions):
    s3.put_object(Bucket=bucket, Key="code/one.zip", Body=python("def handler(e, c): return 1"))
    s3.put_object(Bucket=bucket, Key="code/two.zip", Body=python("import layered\ndef handler(e, c): return layered.two"))
    s3.put_object(Bucket=bucket, Key="layer.zip", Body=zipped({"python/layered.py": "two = 2"}))
    functions.create_function(
        FunctionName="coded", Runtime="python3.12", Handler="app.handler", Role=ROLE,
        Code={"S3Bucket": bucket, "S3Key": "code/one.zip"})
    settle(functions, "coded")
    assert invoke(functions, "coded").json == 1
    layer = functions.publish_layer_version(LayerName="layered", Content={"S3Bucket": bucket, "S3Key": "layer.zip"})
    functions.update_function_code(FunctionName="coded", S3Bucket=bucket, S3Key="code/two.zip")
    settle(functions, "coded")
    functions.update_function_configuration(FunctionName="coded", Layers=[layer["LayerVersionArn"]])
    settle(functions, "coded")
    assert invoke(functions, "coded").json == 2
    for more, expected in [
        ({"S3Bucket": bucket, "S3Key": "absent"}, "NoSuchKey"),
        ({"S3Bucket": "no-such-bucket-there", "S3Key": "k"}, "NoSuchBucket"),
        ({"S3Bucket": bucket, "S3Key": "code/one.zip", "S3ObjectVersion": "nonsense"}, "NoSuchVersion"),
    ]:
        with pytest.raises(ClientError) as refused:
            functions.update_function_code(FunctionName="coded", **more)
        assert code(refused) == "InvalidParameterValueException"
        assert refused.value.response["Error"]["Message"].startswith(
            f"Error occurred while GetObject. S3 Error Code: {expected}.")


@pytest.mark.timeout(180)
def test_a_function_uses_s3(s3, bucket, functions):
    create(functions, "writer", python(f"""
        import os, urllib.request
        def handler(event, context):
            url = os.environ["AWS_ENDPOINT_URL"] + "/{bucket}/from-a-function"
            key = os.environ["AWS_ACCESS_KEY_ID"]
            scope = f"Credential={{key}}/20260101/us-east-1/s3/aws4_request"
            request = urllib.request.Request(url, data=b"hello", method="PUT", headers={{
                "Authorization": f"AWS4-HMAC-SHA256 {{scope}}, SignedHeaders=host, Signature=x",
                "X-Amz-Security-Token": os.environ["AWS_SESSION_TOKEN"]}})
            return urllib.request.urlopen(request).status
    """))
    assert invoke(functions, "writer").json == 200
    assert read(s3, bucket, "from-a-function") == b"hello"


@pytest.mark.timeout(180)
def test_events_run_functions(server, account, s3, bucket, functions):
    """The function keeps what it is told as objects of another bucket."""
    kept = f"kept-{account}"
    s3.create_bucket(Bucket=kept)
    made = create(functions, "told", python(f"""
        import json, os, urllib.request
        def handler(event, context):
            name = event["Records"][0]["eventName"] + "/" + event["Records"][0]["s3"]["object"]["key"]
            url = os.environ["AWS_ENDPOINT_URL"] + "/{kept}/" + name
            scope = "Credential=" + os.environ["AWS_ACCESS_KEY_ID"] + "/20260101/us-east-1/s3/aws4_request"
            urllib.request.urlopen(urllib.request.Request(url, data=json.dumps(event).encode(), method="PUT", headers={{
                "Authorization": f"AWS4-HMAC-SHA256 {{scope}}, SignedHeaders=host, Signature=x",
                "X-Amz-Security-Token": os.environ["AWS_SESSION_TOKEN"]}}))
    """))
    arn = made["FunctionArn"]
    wanted = {"LambdaFunctionConfigurations": [{
        "Id": "mine", "LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".txt"}]}},
    }]}
    with pytest.raises(ClientError) as refused:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    assert refused.value.response["Error"]["Message"] == "Unable to validate the following destination configurations"
    functions.add_permission(
        FunctionName="told", StatementId="s3", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{bucket}", SourceAccount=account)
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    shown = s3.get_bucket_notification_configuration(Bucket=bucket)["LambdaFunctionConfigurations"]
    assert shown[0]["Id"] == "mine" and shown[0]["LambdaFunctionArn"] == arn
    assert shown[0]["Filter"]["Key"]["FilterRules"] == [
        {"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".txt"}]

    put = s3.put_object(Bucket=bucket, Key="in/a b+ü.txt", Body=b"12345")
    s3.put_object(Bucket=bucket, Key="in/not.jpg", Body=b"")
    s3.put_object(Bucket=bucket, Key="out/not.txt", Body=b"")
    s3.copy_object(Bucket=bucket, Key="in/copy.txt", CopySource={"Bucket": bucket, "Key": "in/a b+ü.txt"})
    s3.delete_object(Bucket=bucket, Key="in/a b+ü.txt")
    eventually(lambda: len(keys(s3, kept)) == 3, 60)
    assert {key.split("/")[0] for key in keys(s3, kept)} == {
        "ObjectCreated:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete"}
    [created] = keys(s3, kept, Prefix="ObjectCreated:Put/")
    record = json.loads(read(s3, kept, created))["Records"][0]
    assert record["eventVersion"] == "2.1" and record["eventSource"] == "aws:s3"
    assert record["awsRegion"] == "us-east-1" and record["eventTime"].endswith("Z")
    assert record["s3"]["bucket"]["name"] == bucket and record["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    assert record["s3"]["configurationId"] == "mine" and record["s3"]["s3SchemaVersion"] == "1.0"
    told = record["s3"]["object"]
    assert told["key"] == "in/a+b%2B%C3%BC.txt"
    assert (told["size"], told["eTag"]) == (5, put["ETag"].strip('"'))
    [removed] = keys(s3, kept, Prefix="ObjectRemoved:Delete/")
    record = json.loads(read(s3, kept, removed))["Records"][0]
    assert set(record["s3"]["object"]) == {"key", "sequencer"}
    assert record["s3"]["object"]["sequencer"] > told["sequencer"]


def test_destinations_that_are_not_there_yet(s3, bucket):
    for wanted in [
        {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:us-east-1:000000000000:q", "Events": ["s3:ObjectCreated:*"]}]},
        {"TopicConfigurations": [{"TopicArn": "arn:aws:sns:us-east-1:000000000000:t", "Events": ["s3:ObjectCreated:*"]}]},
        {"EventBridgeConfiguration": {}},
    ]:
        with pytest.raises(ClientError) as refused:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
        assert code(refused) == "NotImplemented"


# --- what survives


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(own_server):
    server = own_server()
    s3 = server.client("s3")
    s3.create_bucket(Bucket="crashes")
    whole: dict[str, str] = {}
    for round_ in range(4):
        stop = threading.Event()

        def write(number: int) -> None:
            client = server.client("s3", retries={"total_max_attempts": 1}, max_pool_connections=4)
            count = 0
            while not stop.is_set():
                key = f"{round_}/{number}/{count}"
                body = os.urandom([10, 20_000, 3 * MIB][count % 3])
                try:
                    client.put_object(Bucket="crashes", Key=key, Body=body)
                except (ClientError, HTTPClientError, EndpointConnectionError):
                    return
                whole[key] = hashlib.md5(body).hexdigest()
                count += 1

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        before = len(whole)
        eventually(lambda: len(whole) > before + 12, 60)
        server.kill()
        stop.set()
        for writer in writers:
            writer.join()
        server.start()
        s3 = server.client("s3")
        for key, digest in whole.items():
            assert hashlib.md5(read(s3, "crashes", key)).hexdigest() == digest, key
    # What is listed beside that was written, but not acknowledged any more; it is whole, too.
    for key in keys(s3, "crashes"):
        got = s3.get_object(Bucket="crashes", Key=key)
        assert hashlib.md5(got["Body"].read()).hexdigest() == got["ETag"].strip('"'), key
    large = sum(1 for key in keys(s3, "crashes") if int(key.rsplit("/", 1)[1]) % 3)
    # Files that no object refers to are swept when the server starts.
    eventually(lambda: contents(server) == large)


@pytest.mark.timeout(120)
def test_an_upload_goes_on_after_a_restart(own_server):
    server = own_server()
    s3 = server.client("s3")
    s3.create_bucket(Bucket="resumed")
    upload = s3.create_multipart_upload(Bucket="resumed", Key="k")
    there = {"Bucket": "resumed", "Key": "k", "UploadId": upload["UploadId"]}
    first = os.urandom(5 * MIB)
    etag = s3.upload_part(**there, PartNumber=1, Body=first)["ETag"]
    server.kill()
    server.start()
    s3 = server.client("s3")
    last = s3.upload_part(**there, PartNumber=2, Body=b"end")["ETag"]
    s3.complete_multipart_upload(**there, MultipartUpload={"Parts": [
        {"PartNumber": 1, "ETag": etag}, {"PartNumber": 2, "ETag": last}]})
    server.kill()
    server.start()
    assert read(server.client("s3"), "resumed", "k") == first + b"end"
