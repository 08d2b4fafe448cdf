"""The quick way to read and write answers itself what it can, and leaves the rest to boto3."""

import hashlib

import boto3
import pytest
from support import s3_servers

from service.storage.signed_requests import SignedRequests


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> s3_servers.S3Server:
    running: s3_servers.S3Server = request.getfixturevalue(request.param)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def test_it_reads_what_boto3_wrote_and_nothing_else(server: s3_servers.S3Server) -> None:
    session = boto3.session.Session()
    client = session.client("s3", endpoint_url=server.endpoint, region_name="us-east-1")
    bucket = server.bucket()
    requests = SignedRequests(client, session.get_credentials(), server.endpoint, bucket, 2)
    for key in ("plain.json", "runs/a b ü+%&=?#:@,;'()*!~$.json", "empty"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() if key != "empty" else b"")
        answer = requests.read(key)
        assert answer is not None and answer.data == (key.encode() if key != "empty" else b"")
        assert {"date", "last-modified", "etag"} <= answer.headers.keys()
    room = bytearray(10)
    assert requests.read_into("plain.json", memoryview(room)) == hashlib.sha256(b"plain.json").hexdigest()
    assert room == b"plain.json" and requests.read_into("plain.json", memoryview(bytearray(9))) is None
    assert requests.read("missing") is None and requests.read_into("missing", memoryview(room)) is None
    elsewhere = SignedRequests(client, session.get_credentials(), "http://127.0.0.1:9", bucket, 2)
    assert elsewhere.read("plain.json") is None and elsewhere.read_into("plain.json", memoryview(room)) is None


def test_it_writes_what_arrives_whole_and_nothing_else(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    session = boto3.session.Session()
    client = session.client("s3", endpoint_url=server.endpoint, region_name="us-east-1")
    bucket = server.bucket()
    requests = SignedRequests(client, session.get_credentials(), server.endpoint, bucket, 2)
    for data in (b"", b"content", bytes(3 * 1024**2)):
        assert requests.write("a b ü", memoryview(data))
        assert client.get_object(Bucket=bucket, Key="a b ü")["Body"].read() == data
    elsewhere = SignedRequests(client, session.get_credentials(), "http://127.0.0.1:9", bucket, 2)
    assert not elsewhere.write("a", memoryview(b"content"))
    monkeypatch.setattr("zlib.crc32", lambda data: 1)
    assert not requests.write("wrong", memoryview(b"content"))
    assert "wrong" not in {item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]}
