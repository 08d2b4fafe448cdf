"""Stores on the tests' S3 servers, and what goes wrong between."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from service.errors import StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from support import s3_servers

MIB = 1024**2


def use(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in {**server.environment, **changes}.items():
        monkeypatch.setenv(name, value)


def opened(url: str, patience: float = 60.0) -> Store:
    """`patience` is for a server beside other work (assumed); one request of a large body took more than 5 s there."""
    return open_store(Settings.load(store=url), patience)


def one_sentence(error: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    text = str(error.value)
    assert error.value.exit_code == 5 and "\n" not in text and text.endswith(".") and len(text) < 400, text
    for word in words:
        assert word in text, text


class LosesAnswers:
    """A client of boto3 whose next answer to each request in `lost` is lost once the server has done what was asked."""

    def __init__(self, client: Any, lost: set[str]) -> None:
        self._client, self._lost = client, lost

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in self._lost:
            return method
        self._lost.remove(name)

        def call(**arguments: Any) -> None:
            method(**arguments)
            raise ReadTimeoutError(endpoint_url="http://server")

        return call


def begun(server: s3_servers.S3Server, bucket: str, key: str, count: int = 1) -> None:
    """What a killed writer leaves: an upload with parts that nobody will put together."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number in range(1, count + 1):
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 5 * MIB)
