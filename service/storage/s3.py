"""A store in an S3 bucket: AWS, MinIO, SeaweedFS or any server with conditional writes."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from service.errors import Conflict, NotFound, StoreError
from service.storage.base import ObjectInfo, Progress, Seen, Store, Unfinished, copy_hashed
from service.storage.location import S3Location
from service.storage.s3_bucket import THREADS, Bucket
from service.storage.s3_clock import age_of, server_time
from service.storage.s3_deletes import delete_keys
from service.storage.s3_errors import RangeBeyondEnd, has_no_words
from service.storage.s3_listing import pages
from service.storage.s3_transfers import PART, SINGLE, download_ranges, parts_of_file, parts_of_stream, send_parts
from service.storage.s3_uploads import abort_upload, unfinished_uploads

STREAM_AHEAD = 4
"""Parts of a stream on their way at a time (assumed: 80 MiB of memory, half of a link's rate or more)."""
Result = TypeVar("Result")
MANY = 50
"""Reads at once from which a connection of their own pays (assumed)."""


class S3Store(Store):
    """One bucket and prefix. `patience`: seconds for which a request is tried again while the server does not answer."""

    def __init__(self, location: S3Location, patience: float = 20.0) -> None:
        self.url = location.url
        self._location = location
        self._bucket = Bucket(location, patience)

    def read(self, key: str) -> bytes:
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        return self._get(key, _whole)[:2]

    def read_aged(self, key: str) -> Seen:
        data, version, headers = self._get(key, _whole)
        return Seen(data, version, age_of(headers, self.url))

    def _get(self, key: str, take: Callable[[Any], Result], **options: str) -> Result:
        """What `take` makes of an object's answer; asked again from the start where the server's answer breaks off."""
        return self._bucket.call(lambda: take(self._bucket.client.get_object(**self._bucket.at(key), **options)), key)

    def now(self) -> float:
        told = self.server_time()
        if told is None:
            raise StoreError(f"The store {self.url} does not say its time: its answers lack the header Date.")
        return told

    def read_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""

        def part(answer: Any) -> bytes:
            data = bytes(answer["Body"].read())
            # A server that does not know ranges gives the whole object.
            return data if answer["ResponseMetadata"]["HTTPStatusCode"] == 206 else data[start : start + length]

        try:
            return self._get(key, part, Range=f"bytes={start}-{start + length - 1}")
        except RangeBeyondEnd:
            return b""

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_version: str | None = None) -> str:
        condition = _condition(if_absent, if_version)
        tries = 0

        def put() -> str:
            nonlocal tries
            tries += 1
            return str(self._bucket.client.put_object(**self._bucket.at(key), Body=data, **condition)["ETag"])

        try:
            return self._bucket.call(put, key)
        except NotFound:
            if if_version is None:
                raise
            raise Conflict(f"The object {key!r} in {self.url} was deleted.") from None
        except Conflict:
            if tries == 1:
                raise
            # The answer to an earlier try was lost, and this try conflicted with it.
            found, version = self.read_versioned(key)
            if found != data:
                raise
            return version

    def write_large(self, key: str, data: memoryview) -> None:
        signed = self._bucket.signed()
        # On any other answer than success fall back to boto3, which says what is wrong.
        if signed is None or not signed.write(self._bucket.at(key)["Key"], data):
            self.write(key, bytes(data))

    def read_into(self, key: str, target: memoryview) -> str:
        if len(target) > SINGLE:
            return self._ranges_into(key, target)

        def copy(answer: Any) -> str:
            with contextlib.closing(answer["Body"]) as body:
                self._check_size(key, int(answer["ContentLength"]), target)
                return copy_hashed(body, target)

        signed = self._bucket.signed()
        found = None if signed is None else signed.read_into(self._bucket.at(key)["Key"], target)
        return self._get(key, copy) if found is None else found

    def _ranges_into(self, key: str, target: memoryview) -> str:
        size, version = self._head(key)
        self._check_size(key, size, target)

        def keep(start: int, data: bytes) -> None:
            target[start : start + len(data)] = data

        return download_ranges(self._bucket, key, size, version, keep)

    def version_of(self, key: str) -> str | None:
        try:
            return self._head(key)[1]
        except NotFound:
            return None

    def write_stream(self, key: str, pieces: Iterable[memoryview], size: int) -> str:
        if size > SINGLE:
            return self._in_parts(key, lambda digest: parts_of_stream(pieces, size, digest), {}, None, STREAM_AHEAD)
        data = b"".join(pieces)
        if len(data) != size:
            raise ValueError(f"{key}: {len(data)} bytes instead of {size}")
        self.write_large(key, memoryview(data))
        return hashlib.sha256(data).hexdigest()

    def upload(
        self,
        source: Path,
        key: str,
        progress: Progress | None = None,
        *,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> str:
        try:
            size = source.stat().st_size
            if size <= PART:
                data = source.read_bytes()
                self.write(key, data, if_absent=if_absent, if_version=if_version)
                if progress is not None:
                    progress(size)
                return hashlib.sha256(data).hexdigest()
            with source.open("rb") as file:

                def parts(digest: Any) -> Iterator[bytes]:
                    file.seek(0)
                    return parts_of_file(file, size, digest)

                return self._in_parts(key, parts, _condition(if_absent, if_version), progress)
        except OSError as error:
            raise StoreError(f"The file {source} cannot be read for the store: {error.strerror}.") from error

    def _in_parts(
        self,
        key: str,
        parts: Callable[[Any], Iterable[bytes | bytearray]],
        condition: dict[str, str],
        progress: Progress | None,
        ahead: int = THREADS,
    ) -> str:
        """Send what `parts` gives for a new hash; return its hash."""

        def send(report: Progress | None) -> str:
            digest = hashlib.sha256()

            def is_ours() -> bool:
                # Who writes without condition sends it again, which is cheaper than to look.
                return bool(condition) and self._sha256(key) == digest.hexdigest()

            send_parts(self._bucket, key, parts(digest), condition, is_ours, report, ahead)
            return digest.hexdigest()

        try:
            return send(progress)
        except NotFound:
            # The upload is not there any more: it was completed, but the answer was lost, or the server forgot it.
            return send(None)

    def _sha256(self, key: str) -> str | None:
        """Of an object of any size; None where there is none."""
        try:
            size, version = self._head(key)
            return download_ranges(self._bucket, key, size, version, lambda start, data: None)
        except NotFound:
            return None

    def download(self, key: str, target: Path, progress: Progress | None = None) -> str:
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            size, version = self._head(key)
            with partial.open("wb") as file:

                def keep(start: int, data: bytes) -> None:
                    os.pwrite(file.fileno(), data, start)

                digest = download_ranges(self._bucket, key, size, version, keep, progress)
            partial.replace(target)
            return digest
        except OSError as error:
            raise StoreError(
                f"The object {key!r} cannot be kept in {target.parent}: {error.strerror}; make room there."
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for page in pages(self._bucket, prefix):
            for item in page.get("Contents", []):
                yield ObjectInfo(item["Key"][len(self._bucket.prefix) :], item["Size"], item["LastModified"].timestamp())

    def list_folders(self, prefix: str) -> list[str]:
        found = (item["Prefix"] for page in pages(self._bucket, prefix, Delimiter="/") for item in page.get("CommonPrefixes", []))
        return sorted({name[len(self._bucket.prefix) + len(prefix) :].rstrip("/") for name in found})

    def delete(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            self._bucket.call(lambda: self._bucket.client.delete_object(**self._bucket.at(key)), key)

    def delete_prefix(self, prefix: str) -> int:
        return delete_keys(self._bucket, [info.key for info in self.objects(prefix)])

    def server_time(self) -> float | None:
        return server_time(self._bucket)

    def unfinished(self, keys: Iterable[str] = ()) -> list[Unfinished]:
        return unfinished_uploads(self._bucket, keys)

    def forget(self, upload: Unfinished) -> None:
        abort_upload(self._bucket, upload)

    def exists(self, key: str) -> bool:
        try:
            self._head(key)
        except NotFound:
            return False
        return True

    def read_many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: data for key, (data, _, _) in self._get_many(keys).items()}

    def read_many_aged(self, keys: list[str]) -> dict[str, Seen]:
        answers = self._get_many(keys).items()
        return {key: Seen(data, version, age_of(headers, self.url)) for key, (data, version, headers) in answers}

    def _get_many(self, keys: list[str]) -> dict[str, tuple[bytes, str, Mapping[str, str]]]:
        fast = self._bucket.signed() if len(keys) > MANY else None

        def get(key: str) -> tuple[bytes, str, Mapping[str, str]] | None:
            answer = fast.read(self._bucket.at(key)["Key"]) if fast else None
            if answer is not None:
                return answer.data, answer.headers.get("etag", ""), answer.headers
            try:
                return self._get(key, _whole)
            except NotFound:
                return None

        return {key: found for key, found in zip(keys, self._bucket.pool.map(get, keys), strict=True) if found is not None}

    def _head(self, key: str) -> tuple[int, str]:
        try:
            answer = self._bucket.call(lambda: self._bucket.client.head_object(**self._bucket.at(key)), key)
        except StoreError as error:
            # The answer to HEAD has no body: a missing bucket looks like a missing object, and a refusal gives no reason.
            if not has_no_words(error):
                raise
            answer = self._get(key, _closed)
        return int(answer["ContentLength"]), str(answer["ETag"])


def _condition(if_absent: bool, if_version: str | None) -> dict[str, str]:
    """The arguments of a request that writes under a condition."""
    return {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_version} if if_version is not None else {}


def _whole(answer: Any) -> tuple[bytes, str, Mapping[str, str]]:
    """An object's bytes, its version, and the headers of the answer."""
    return answer["Body"].read(), str(answer["ETag"]), answer["ResponseMetadata"]["HTTPHeaders"]


def _closed(answer: Any) -> Any:
    """The answer, whose body nobody reads."""
    answer["Body"].close()
    return answer
