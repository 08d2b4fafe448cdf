"""A store in an S3 bucket: AWS, MinIO, SeaweedFS or any server with conditional writes."""

import builtins
import contextlib
import hashlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)

from service.errors import Conflict, InvalidInput, NotFound, StoreError, StoreUnreachable
from service.storage.base import ObjectInfo, Progress, Store, check_key
from service.storage.location import S3Location
from service.storage.signed_reads import SignedReads

PART = 16 * 1024**2
"""Bytes of a part of a parallel transfer: the published size to fill a link with is 8 to 16 MiB."""
THREADS = 8
"""Parallel requests (assumed: fills a loopback or a 10 Gbit/s link with parts of 85 to 90 MB/s each)."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
LONGEST_PAUSE = 5.0
DELETE_BATCH = 1000
MANY = 50
"""Reads at once from which a connection of their own pays (assumed)."""

_RETRIED_CODES = {
    "InternalError",
    "ServiceUnavailable",
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "XMinioServerNotInitialized",
}
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed"}
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507", "EntityTooLarge"}

Result = TypeVar("Result")


class S3Store(Store):
    """One bucket and prefix. `patience`: seconds for which a request is tried again while the server does not answer."""

    def __init__(self, location: S3Location, patience: float = 20.0) -> None:
        self.url = location.url
        self._location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._patience = patience
        self._lock = threading.Lock()
        self._made: Any = None
        self._pool_made: ThreadPoolExecutor | None = None

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make_client()
            return self._made

    def _make_client(self, **changes: Any) -> Any:
        style: Literal["path", "auto"] = "path" if self._location.endpoint else "auto"
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
            session = boto3.session.Session()
            region = session.region_name or "us-east-1"
            return session.client("s3", endpoint_url=self._location.endpoint, region_name=region, config=config)
        except PartialCredentialsError:
            raise
        except (BotoCoreError, ValueError) as error:
            raise InvalidInput(
                f"The S3 settings are not valid ({error}): correct the AWS configuration or the endpoint."
            ) from error

    @property
    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool_made is None:
                self._pool_made = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
            return self._pool_made

    def read(self, key: str) -> bytes:
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        def get() -> tuple[bytes, str]:
            answer = self._client.get_object(**self._at(key))
            return answer["Body"].read(), answer["ETag"]

        return self._call(get, key)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""

        def get() -> bytes:
            answer = self._client.get_object(**self._at(key), Range=f"bytes={start}-{start + length - 1}")
            return bytes(answer["Body"].read())

        try:
            return self._call(get, key)
        except _RangeBeyondEnd:
            return b""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_version: str | None = None) -> str:
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_version} if if_version is not None else {}
        tries = 0

        def put() -> str:
            nonlocal tries
            tries += 1
            return str(self._client.put_object(**self._at(key), Body=data, **condition)["ETag"])

        try:
            return self._call(put, key)
        except NotFound:
            if if_version is None:
                raise
            raise Conflict(f"The object {key!r} in {self.url} is gone.") from None
        except Conflict:
            if tries == 1:
                raise
            # The answer to an earlier try was lost, and this one met its own write.
            found, version = self.read_versioned(key)
            if found != data:
                raise
            return version

    def upload(self, source: Path, key: str, progress: Progress | None = None) -> str:
        try:
            size = source.stat().st_size
            if size <= PART:
                data = source.read_bytes()
                self.write(key, data)
                if progress is not None:
                    progress(size)
                return hashlib.sha256(data).hexdigest()
            try:
                return self._upload_parts(source, size, key, progress)
            except NotFound:
                # The upload is not there any more: it was completed, but the answer was lost, or the server forgot it.
                return self._upload_parts(source, size, key, None)
        except OSError as error:
            raise StoreError(f"The file {source} cannot be read for the store: {error.strerror}.") from error

    def download(self, key: str, target: Path, progress: Progress | None = None) -> str:
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            size, version = self._head(key)
            with partial.open("wb") as file:
                digest = self._download_ranges(key, size, version, file.fileno(), progress)
            partial.replace(target)
            return digest
        except OSError as error:
            raise StoreError(
                f"The object {key!r} cannot be kept in {target.parent}: {error.strerror}; make room there."
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in self._pages(prefix):
            for item in page.get("Contents", []):
                yield ObjectInfo(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"].timestamp())

    def list_folders(self, prefix: str) -> builtins.list[str]:
        found = (item["Prefix"] for page in self._pages(prefix, Delimiter="/") for item in page.get("CommonPrefixes", []))
        return sorted({name[len(self._prefix) + len(prefix) :].rstrip("/") for name in found})

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            self._call(lambda: self._client.delete_object(**self._at(key)), key)

    def delete_prefix(self, prefix: str) -> int:
        keys = [self._prefix + info.key for info in self.list(prefix)]
        for first in range(0, len(keys), DELETE_BATCH):
            batch = {"Objects": [{"Key": key} for key in keys[first : first + DELETE_BATCH]], "Quiet": True}

            def remove(batch: dict[str, Any] = batch) -> Any:
                return self._client.delete_objects(Bucket=self._location.bucket, Delete=batch)

            errors = self._call(remove, prefix).get("Errors", [])
            if errors:
                raise StoreError(f"The store {self.url} did not delete {errors[0].get('Key')!r}: {errors[0].get('Message')}.")
        return len(keys)

    def server_time(self) -> float | None:
        client = self._make_client(signature_version=UNSIGNED)

        def look() -> dict[str, Any]:
            try:
                answer = client.list_objects_v2(Bucket=self._location.bucket, MaxKeys=1)
            except ClientError as error:
                answer = error.response
            return dict(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}))

        try:
            return parsedate_to_datetime(self._call(look, "")["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return None

    def exists(self, key: str) -> bool:
        try:
            self._head(key)
        except NotFound:
            return False
        return True

    def read_many(self, keys: builtins.list[str]) -> dict[str, bytes]:
        fast = self._signed_reads() if len(keys) > MANY else None

        def read(key: str) -> bytes | None:
            data = fast.read(self._at(key)["Key"]) if fast else None
            if data is not None:
                return data
            try:
                return self.read(key)
            except NotFound:
                return None

        return {key: data for key, data in zip(keys, self._pool.map(read, keys), strict=True) if data is not None}

    def _signed_reads(self) -> SignedReads | None:
        """For an endpoint that the settings name; AWS itself has the bucket's name in the host."""
        credentials = boto3.session.Session().get_credentials() if self._location.endpoint else None
        if self._location.endpoint is None or credentials is None:
            return None
        return SignedReads(self._client, credentials, self._location.endpoint, self._location.bucket, 2 * THREADS)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._location.bucket, "Key": self._prefix + check_key(key)}

    def _head(self, key: str) -> tuple[int, str]:
        try:
            answer = self._call(lambda: self._client.head_object(**self._at(key)), key)
        except NotFound:
            # The answer to HEAD has no body, so it does not tell a missing bucket from a missing object.
            answer = self._call(lambda: self._client.get_object(**self._at(key)), key)
            answer["Body"].close()
        return int(answer["ContentLength"]), str(answer["ETag"])

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:

            def page(token: dict[str, str] = token) -> Any:
                return self._client.list_objects_v2(
                    Bucket=self._location.bucket, Prefix=self._prefix + prefix, **options, **token
                )

            answer = self._call(page, prefix)
            yield answer
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def _upload_parts(self, source: Path, size: int, key: str, progress: Progress | None) -> str:
        upload = self._call(lambda: self._client.create_multipart_upload(**self._at(key)), key)["UploadId"]
        try:
            with source.open("rb") as file:

                def send(number: int) -> dict[str, Any]:
                    data = os.pread(file.fileno(), PART, number * PART)
                    arguments = {**self._at(key), "UploadId": upload, "PartNumber": number + 1, "Body": data}
                    answer = self._call(lambda: self._client.upload_part(**arguments), key)
                    if progress is not None:
                        progress(len(data))
                    return {"PartNumber": number + 1, "ETag": answer["ETag"]}

                sent = [self._pool.submit(send, number) for number in range(-(-size // PART))]
                # Hashed while the parts are on their way: the same pages are in memory anyway.
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                parts = {"Parts": [future.result() for future in sent]}
            self._call(
                lambda: self._client.complete_multipart_upload(**self._at(key), UploadId=upload, MultipartUpload=parts), key
            )
            return digest
        except BaseException:
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**self._at(key), UploadId=upload)
            raise

    def _download_ranges(self, key: str, size: int, version: str, descriptor: int, progress: Progress | None) -> str:
        def fetch(start: int) -> bytes:
            wanted = min(PART, size - start)

            def get() -> bytes:
                # A range of another version would make a file that never was.
                answer = self._client.get_object(**self._at(key), Range=f"bytes={start}-{start + wanted - 1}", IfMatch=version)
                data = bytes(answer["Body"].read())
                if len(data) != wanted:
                    raise ConnectionError(error=OSError("the answer was cut short"))
                return data

            data = self._call(get, key)
            os.pwrite(descriptor, data, start)
            if progress is not None:
                progress(len(data))
            return data

        digest = hashlib.sha256()
        starts = list(range(0, size, PART))
        ahead = [self._pool.submit(fetch, start) for start in starts[: 2 * THREADS]]
        for index in range(len(starts)):
            digest.update(ahead[index].result())
            following = index + 2 * THREADS
            if following < len(starts):
                ahead.append(self._pool.submit(fetch, starts[following]))
            ahead[index] = _SPENT
        return digest.hexdigest()

    def _call(self, request: Callable[[], Result], key: str) -> Result:
        """Do a request; again with growing, random pauses while the server does not answer, until patience ends."""
        deadline = time.monotonic() + self._patience
        pause = 0.1
        while True:
            try:
                return request()
            except ClientError as error:
                if not _worth_another_try(error) or time.monotonic() + pause > deadline:
                    raise self._translate(error, key) from error
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise StoreError(
                    f"There are no credentials for {self.url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile."
                ) from error
            except (HTTPClientError, ConnectionError, OSError) as error:
                if isinstance(error, SSLError) and (remedy := _tls_remedy(error)):
                    raise StoreError(f"The store {self.url} cannot be reached over TLS: {remedy}.") from error
                if time.monotonic() + pause > deadline:
                    raise StoreUnreachable(
                        f"The store {self.url} did not answer for {self._patience:g} s ({type(error).__name__}): "
                        "see whether the server runs and the endpoint is right."
                    ) from error
            except BotoCoreError as error:
                raise StoreError(f"The store {self.url} cannot be used: {error}.") from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # no secret: a pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _translate(self, error: ClientError, key: str) -> Exception:
        answer = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        bucket = self._location.bucket
        if code in _CONFLICTS or status == 412:
            return Conflict(f"The object {key!r} in {self.url} exists or was changed by another process.")
        if code == "NoSuchBucket":
            return StoreError(
                f"There is no bucket {bucket!r} at {self._location.endpoint or 'AWS'}: create it, or correct the store's URL."
            )
        if code == "InvalidRange" or status == 416:
            return _RangeBeyondEnd()
        if code in _MISSING or status == 404:
            return NotFound(f"There is no object {key!r} in {self.url}.")
        if code in ("PermanentRedirect", "IllegalLocationConstraintException") or status == 301:
            return StoreError(f"The bucket {bucket!r} is in another region: set AWS_REGION to it (the server said {code}).")
        if code == "RequestTimeTooSkewed":
            return StoreError(f"The store {self.url} refuses requests of another time: set this machine's clock right, by NTP.")
        if code in _WRONG_KEYS:
            return StoreError(
                f"The store {self.url} does not accept these credentials ({code}): correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        if code in _FULL or status == 507:
            return StoreError(f"The store {self.url} is full ({code}): make room there, or choose another one with --store.")
        if status in (401, 403):
            return StoreError(
                f"The store {self.url} refuses access to {key!r} ({code or status}): give these credentials the right to read, write, list and delete there."
            )
        if status in (405, 501):
            return StoreError(
                f"What answers for {self.url} does not do what a store needs ({code or status}): see whether the endpoint is that of an S3 server."
            )
        if status >= 500 or code in _RETRIED_CODES:
            return StoreUnreachable(
                f"The store {self.url} failed for {self._patience:g} s ({code or status}): see the server's log."
            )
        return StoreError(f"The store {self.url} refused a request for {key!r} ({code or status}).")


class _RangeBeyondEnd(NotFound):
    """The range begins behind the object's end."""


_SPENT: Any = None


def _tls_remedy(error: SSLError) -> str:
    """What to do about a failure of TLS that will not pass by itself; empty for one that may."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted here; set AWS_CA_BUNDLE to the file of the authority that signed it"
    if any(words in text for words in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "HTTP_REQUEST")):
        return "the server speaks plain HTTP; write http:// instead of https:// in the endpoint"
    return ""


def _worth_another_try(error: ClientError) -> bool:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return code in _RETRIED_CODES or status in (429, 500, 502, 503, 504) or code == "ConditionalRequestConflict"
