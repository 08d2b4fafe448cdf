"""One bucket and prefix as boto3 reaches it: the client, its threads, and requests that are tried again."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from service.errors import InvalidInput, StoreError
from service.storage.base import check_key
from service.storage.location import S3Location
from service.storage.s3_answers import NotS3, check_answers, one_line
from service.storage.s3_errors import is_expired, is_silent, refuses_credentials, translate, worth_another_try
from service.storage.s3_reached import RETRIEVAL, TRANSPORT, see_other, tls_remedy, unanswered, without_secrets
from service.storage.signed_requests import SignedRequests

THREADS = 8
"""Parallel requests (assumed: fills a loopback or a 10 Gbit/s link with parts of 85 to 90 MB/s each)."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
LONGEST_PAUSE = 5.0
FIRST_SECONDS = 10.0
"""For credentials that cannot be fetched, or have expired, at a process's first request (assumed: a person waits that long)."""
Result = TypeVar("Result")


_LOADER = create_loader()
"""Of botocore's descriptions of S3: read once a process, they are most of the time that a client takes (measured: 45 of 55 ms)."""


def _session() -> boto3.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _LOADER)
    return boto3.session.Session(botocore_session=session)


class Bucket:
    """`patience`: seconds for which a request is tried again while the server does not answer."""

    def __init__(self, location: S3Location, patience: float) -> None:
        self.location = location
        self.prefix = f"{location.prefix}/" if location.prefix else ""
        self._patience = patience
        self._lock = threading.Lock()
        self._client: Any = None
        self._pool_made: ThreadPoolExecutor | None = None
        self._signed: SignedRequests | None = None
        self._worked = False
        """Whether the server has accepted the credentials before."""

    @property
    def client(self) -> Any:
        """boto3's client, made when it is first needed."""
        with self._lock:
            if self._client is None:
                self._client = self.make_client()
            return self._client

    def make_client(self, **changes: Any) -> Any:
        """A client of boto3; `changes` are those of its configuration."""
        style: Literal["path", "auto"] = "path" if self.location.endpoint else "auto"
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            # Retries are this class's own: botocore's end within seconds.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=2 * THREADS,
        ).merge(Config(**changes))
        try:
            session = _session()
            region = session.region_name or "us-east-1"
            client = session.client("s3", endpoint_url=self.location.endpoint, region_name=region, config=config)
            check_answers(client)
            return client
        except (PartialCredentialsError, *RETRIEVAL):
            raise
        except (BotoCoreError, ValueError) as error:
            raise InvalidInput(
                f"The S3 settings are not valid ({error}): correct the AWS configuration or the endpoint."
            ) from error

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for parallel requests."""
        with self._lock:
            if self._pool_made is None:
                self._pool_made = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
            return self._pool_made

    def signed(self) -> SignedRequests | None:
        """Requests without boto3, for an endpoint that the settings name; AWS itself has the bucket's name in the host.

        None also where there are no credentials, which boto3 says when it is asked.
        """
        if self.location.endpoint is None:
            return None
        try:
            client = self.client
        except (PartialCredentialsError, *RETRIEVAL):
            return None
        with self._lock, contextlib.suppress(BotoCoreError):
            credentials = None if self._signed else _session().get_credentials()
            if credentials is not None:
                endpoint, bucket = self.location.endpoint, self.location.bucket
                self._signed = SignedRequests(client, credentials, endpoint, bucket, 2 * THREADS)
        return self._signed

    def at(self, key: str) -> dict[str, str]:
        """The arguments of a request that name an object."""
        return {"Bucket": self.location.bucket, "Key": self.prefix + check_key(key)}

    def call(self, request: Callable[[], Result], key: str) -> Result:
        """Do a request; again with growing, random pauses while the server does not answer, until patience ends.

        Credentials that were good before, or come from what refreshes them, may be there again in a moment.
        """
        began = time.monotonic()
        pause = 0.1
        while True:
            try:
                result = request()
                self._worked = True
                return result
            except (ClientError, BotoCoreError, ResponseParserError, OSError, KeyError, ValueError) as met:
                error = see_other(met)
                if time.monotonic() + pause > began + self._patience_for(error):
                    raise self._error_of(error, key) from error
                if _is_about_credentials(error):
                    self._forget_credentials()
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # no secret: a pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _patience_for(self, error: Exception) -> float:
        """For how many seconds a request that failed like this is tried again; negative where that is of no use."""
        if _is_about_credentials(error):
            refreshed = isinstance(error, RETRIEVAL) or (isinstance(error, ClientError) and is_expired(error))
            return self._patience if self._worked else min(self._patience, FIRST_SECONDS) if refreshed else -1.0
        if isinstance(error, ClientError):
            # With words it is an S3 server's, which has accepted the credentials.
            self._worked = self._worked or not is_silent(error)
            return self._patience if worth_another_try(error) else -1.0
        if isinstance(error, SSLError) and tls_remedy(error):
            return -1.0
        if isinstance(error, NotS3):
            # Where a server answered before, the proxy in front of it may be without it for a while.
            return self._patience if error.passing or self._worked else -1.0
        return self._patience if isinstance(error, TRANSPORT) else -1.0

    def _error_of(self, error: Exception, key: str) -> StoreError:
        made = unanswered(error, self.location, self._patience)
        if made is None:
            made = translate(error, key, self.location, self._patience) if isinstance(error, ClientError) else None
        if made is None:
            made = StoreError(f"The store {self.location.url} cannot be used: {one_line(str(error), 200)}.")
        text = str(made)
        clean = without_secrets(text, self._client)
        return made if clean == text else type(made)(clean)

    def _forget_credentials(self) -> None:
        """The next request looks for them anew: a client that found none, or old ones, keeps to that."""
        with self._lock:
            self._client = self._signed = None


def _is_about_credentials(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return refuses_credentials(error)
    return isinstance(error, (NoCredentialsError, PartialCredentialsError, *RETRIEVAL))
