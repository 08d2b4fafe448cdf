"""The quick way to read answers itself what it can, and leaves the rest to boto3."""

import boto3
import pytest
import s3_servers

from service.storage.signed_reads import SignedReads


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
    reads = SignedReads(client, session.get_credentials(), server.endpoint, bucket, 2)
    for key in ("plain.json", "runs/a b ü+%&=?#:@,;'()*!~$.json", "empty"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode() if key != "empty" else b"")
        assert reads.read(key) == (key.encode() if key != "empty" else b"")
    assert reads.read("missing") is None
    elsewhere = SignedReads(client, session.get_credentials(), "http://127.0.0.1:9", bucket, 2)
    assert elsewhere.read("plain.json") is None
