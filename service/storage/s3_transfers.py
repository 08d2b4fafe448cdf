"""Objects of any size to a bucket and back: parts and ranges side by side, hashed on the way."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from botocore.exceptions import ClientError, ConnectionError

from service.errors import Conflict, NotFound
from service.storage.base import Progress, Readable
from service.storage.s3_bucket import THREADS, Bucket

MIB = 1024**2
PART = 16 * MIB
"""Bytes of a part of a parallel transfer: the published size to fill a link with is 8 to 16 MiB."""
MOST_PARTS = 10_000
"""What S3 takes for one object."""
SINGLE = 64 * MIB
"""A stream up to this size is one request (assumed: 5 GiB is S3's limit, and a failure costs no more than this)."""
_SPENT: Any = None


class Hash(Protocol):
    """As much of hashlib's objects as is used."""

    def update(self, data: Any, /) -> None: ...

    def hexdigest(self) -> str: ...


def part_size(size: int) -> int:
    """Bytes of each part of an object of `size` bytes: as many parts as a server takes are enough."""
    least = -(-size // MOST_PARTS)
    return max(PART, -(-least // MIB) * MIB)


def parts_of_file(file: Readable, size: int, digest: Hash) -> Iterator[bytes]:
    """The parts of an open file, each added to `digest` before it is given."""
    while data := file.read(part_size(size)):
        digest.update(data)
        yield data


def parts_of_stream(pieces: Iterable[memoryview], size: int, digest: Hash) -> Iterator[bytearray]:
    """The parts that pieces of memory make up, each added to `digest` before it is given; raise ValueError for another size."""
    wanted, part, given = part_size(size), bytearray(), 0
    for piece in pieces:
        rest = piece
        while len(rest):
            taken = rest[: wanted - len(part)]
            part += taken
            rest = rest[len(taken) :]
            if len(part) == wanted:
                digest.update(part)
                given += wanted
                yield part
                part = bytearray()
    if given + len(part) != size:
        raise ValueError(f"{given + len(part)} bytes came where {size} were announced")
    if part:
        digest.update(part)
        yield part


def send_parts(
    bucket: Bucket,
    key: str,
    parts: Iterable[bytes | bytearray],
    condition: dict[str, str],
    is_ours: Callable[[], bool],
    progress: Progress | None = None,
    ahead: int = THREADS,
) -> None:
    """Send an object in parts, of which `ahead` and one more are in memory at a time. What fails leaves none.

    The condition holds as the server puts the parts together. `is_ours` is asked whether the object is what was sent where an
    answer was lost. Raise Conflict where the condition does not hold, NotFound when the server forgot the upload.
    """
    upload = bucket.call(lambda: bucket.client.create_multipart_upload(**bucket.at(key)), key)["UploadId"]

    def send(number: int, data: bytes | bytearray) -> dict[str, Any]:
        arguments = {**bucket.at(key), "UploadId": upload, "PartNumber": number, "Body": data}
        answer = bucket.call(lambda: bucket.client.upload_part(**arguments), key)
        if progress is not None:
            progress(len(data))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    waiting: deque[Future[dict[str, Any]]] = deque()
    try:
        sent = []
        for number, data in enumerate(parts, 1):
            if len(waiting) >= ahead:
                sent.append(waiting.popleft().result())
            waiting.append(bucket.pool.submit(send, number, data))
        sent += [future.result() for future in waiting]
        _complete(bucket, key, upload, sent, condition, is_ours)
    except BaseException:
        for future in waiting:
            future.cancel()
        with contextlib.suppress(Exception):
            bucket.client.abort_multipart_upload(**bucket.at(key), UploadId=upload)
        raise


def _complete(
    bucket: Bucket,
    key: str,
    upload: str,
    sent: list[dict[str, Any]],
    condition: dict[str, str],
    is_ours: Callable[[], bool],
) -> None:
    tries = 0

    def complete() -> None:
        nonlocal tries
        tries += 1
        bucket.client.complete_multipart_upload(**bucket.at(key), UploadId=upload, MultipartUpload={"Parts": sent}, **condition)

    try:
        bucket.call(complete, key)
    except (Conflict, NotFound) as error:
        # The answer to an earlier try was lost, and this try conflicted with it.
        if tries > 1 and is_ours():
            return
        if isinstance(error, NotFound) and "IfMatch" in condition and _code(error) != "NoSuchUpload":
            raise Conflict(f"The object {key!r} in {bucket.location.url} was deleted.") from None
        raise


def _code(error: NotFound) -> str:
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


def download_ranges(
    bucket: Bucket, key: str, size: int, version: str, keep: Callable[[int, bytes], object], progress: Progress | None = None
) -> str:
    """Give `keep` each range of the object of that version with its start, in any order; return the object's sha256."""

    def fetch(start: int) -> bytes:
        wanted = min(PART, size - start)

        def get() -> bytes:
            # A range of another version would make an object that never was.
            answer = bucket.client.get_object(**bucket.at(key), Range=f"bytes={start}-{start + wanted - 1}", IfMatch=version)
            data = bytes(answer["Body"].read())
            if len(data) != wanted:
                raise ConnectionError(error=OSError("the answer was cut short"))
            return data

        data = bucket.call(get, key)
        keep(start, data)
        if progress is not None:
            progress(len(data))
        return data

    digest = hashlib.sha256()
    starts = list(range(0, size, PART))
    ahead = [bucket.pool.submit(fetch, start) for start in starts[:THREADS]]
    for index in range(len(starts)):
        digest.update(ahead[index].result())
        following = index + THREADS
        if following < len(starts):
            ahead.append(bucket.pool.submit(fetch, starts[following]))
        ahead[index] = _SPENT
    return digest.hexdigest()
