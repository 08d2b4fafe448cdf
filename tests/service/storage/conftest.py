"""Stores on real S3 servers, and keys for servers that are none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import s3_servers
from support.s3_stores import LosesAnswers, use

from service.storage.s3_bucket import Bucket


@pytest.fixture
def any_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that no server knows, and no proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret-topsecret")


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> s3_servers.S3Server:
    running: s3_servers.S3Server = request.getfixturevalue(request.param)
    use(running, monkeypatch)
    return running


@pytest.fixture
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of boto3's requests, which a test fills: the next answer to each is lost once the server has done what was asked."""
    lost: set[str] = set()
    make_client = Bucket.make_client
    monkeypatch.setattr(Bucket, "make_client", lambda self, **changes: LosesAnswers(make_client(self, **changes), lost))
    return lost


@pytest.fixture
def own_seaweedfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_servers.S3Server]:
    """A server that a test may stop."""
    with s3_servers.running(s3_servers.seaweedfs(tmp_path / "server")) as running:
        use(running, monkeypatch)
        yield running
