"""Requests to an S3 server without what boto3 does around each of them.

Many small reads take a third of boto3's time (measured), and a large write is not hashed by SHA-256 once more on both sides:
what is written this way has its checksum in a document that is written by boto3.
"""

import base64
import contextlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import urllib3.exceptions
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.session import Session
from botocore.utils import get_environ_proxies

from service.storage.base import copy_hashed
from service.storage.s3_answers import is_object


class Answer(NamedTuple):
    """A body, and headers by their names in small letters."""

    data: bytes
    headers: Mapping[str, str]


class SignedRequests:
    """For the objects of one bucket at an endpoint that takes the bucket's name in the path, signed as `client`, boto3's, would."""

    def __init__(self, client: Any, credentials: Any, endpoint: str, bucket: str, connections: int) -> None:
        self._bucket = f"{endpoint}/{bucket}/"
        self._config = client.meta.config
        self._auth = _Signer(credentials, "s3", client.meta.region_name)
        self._http = URLLib3Session(
            verify=Session().get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(endpoint),
            timeout=self._config.read_timeout,
            max_pool_connections=connections,
        )

    def read(self, key: str) -> Answer | None:
        """The whole object, or None for any answer but that: who wants to know why asks boto3."""
        sent = self._send("GET", key)
        return None if sent is None else Answer(bytes(sent[0].content), sent[1])

    def read_into(self, key: str, target: memoryview) -> str | None:
        """As the store's `read_into`; None for any answer but the object with that size."""
        sent = self._send("GET", key, stream_output=True)
        if sent is None:
            return None
        answer, headers = sent
        with contextlib.closing(answer.raw) as body:
            if headers.get("content-length") != str(len(target)):
                return None
            try:
                return copy_hashed(body, target)
            except (urllib3.exceptions.HTTPError, OSError):
                return None

    def write(self, key: str, data: memoryview) -> bool:
        """Whether the object was written; the server refuses it unless it came whole."""
        if self._config.request_checksum_calculation == "when_required":
            # For a server that does not know checksums in headers; boto3 signs the content instead.
            return False
        # As boto3 over TLS: not the content is signed but its CRC-32, which MinIO and SeaweedFS compare.
        checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        return self._send("PUT", key, data=data, headers={"x-amz-checksum-crc32": checksum}) is not None

    def _send(self, method: str, key: str, **parts: Any) -> tuple[Any, Mapping[str, str]] | None:
        """The answer and its headers; None for one that is not S3's success."""
        request = AWSRequest(method, self._bucket + quote(key, safe="/-_.~"), **parts)
        request.context = {"client_config": self._config, "signing": {}}
        try:
            self._auth.add_auth(request)
            answer = self._http.send(request.prepare())
            # Once: botocore's own headers are made anew for each look at them.
            headers = {name.lower(): value for name, value in answer.headers.items()}
            if answer.status_code == 200 and is_object(headers):
                return answer, headers
            answer.raw.close()
            return None
        except BotoCoreError:
            # No connection, or credentials that cannot be fetched now.
            return None


class _Signer(S3SigV4Auth):
    """Signature version 4 that signs a checksum in the place of the content."""

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD" if request.body else str(super().payload(request))
